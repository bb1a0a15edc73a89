"""Names for `accelerator_type`: what `@remote(accelerator_type=NVIDIA_TESLA_V100)` is given.

Any other string does: a node has what its resources say, as `{"accelerator_type:V100": 1}`.
"""

NVIDIA_TESLA_V100 = "V100"
NVIDIA_TESLA_P100 = "P100"
NVIDIA_TESLA_T4 = "T4"
NVIDIA_TESLA_P4 = "P4"
NVIDIA_TESLA_K80 = "K80"
NVIDIA_TESLA_A10G = "A10G"
NVIDIA_L4 = "L4"
NVIDIA_L40S = "L40S"
NVIDIA_A100 = "A100"
NVIDIA_H100 = "H100"
NVIDIA_H200 = "H200"
NVIDIA_H20 = "H20"
NVIDIA_B200 = "B200"
NVIDIA_GB200 = "GB200"

__all__ = [name for name in globals() if name.startswith("NVIDIA_")]
