"""Tells the libraries that user code calls which of the machine's resources they may use.

    OMP_NUM_THREADS       the CPUs assigned, rounded down, 1 at least: as many processes as there
                          are CPUs, each with as many threads, would keep each other waiting
    CUDA_VISIBLE_DEVICES  the GPUs assigned, if there are any

Enforces nothing, and sets nothing that the machine, the runtime environment or user code has set.

Invariants
    S1  A variable whose value is not the one set here last is not touched again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

THREADS = "OMP_NUM_THREADS"
DEVICES = "CUDA_VISIBLE_DEVICES"


class Assigned:
    """The variables of one process."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._devices = environ.get(DEVICES)  # those that the node may use
        self._said: dict[str, str | None] = {DEVICES: self._devices, THREADS: None}

    def tell(self, spec: Mapping[str, Any]) -> None:
        """Set the variables as `spec`, of a lease or an actor's life, says."""
        cpus = (spec.get("assigned") or {}).get("CPU", 1)
        self._set(THREADS, str(max(1, int(cpus))))
        gpus = spec.get("gpu_ids")
        if gpus:
            names = self._devices.split(",") if self._devices else []
            # A node numbers the GPUs that it was shown; CUDA numbers all there are.
            shown = [names[gpu].strip() if gpu < len(names) else str(gpu) for gpu in gpus]
            self._set(DEVICES, ",".join(shown))

    def _set(self, name: str, value: str) -> None:
        if self._environ.get(name) == self._said[name]:  # S1
            self._environ[name] = self._said[name] = value
