"""What this machine has to give: CPUs, memory, GPUs, and what it is called.

Reads a few small files; starts no process and imports no driver library, since a cluster's start
waits for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from zactor.config import Config

_CGROUP = "/sys/fs/cgroup"
_STORE_SHARE = 0.3  # of memory that is for the object store; actors and tasks get the rest
_STORE_LEAST = 64 << 20
CUDA = "CUDA_VISIBLE_DEVICES"


def detect_resources(
    config: Config, *, overrides: Mapping[str, float | None] | None = None
) -> dict[str, float]:
    """Return what the node offers: "CPU", "GPU" (if any), "memory", and custom resources.

    `overrides` are the user's; one that is None is detected.
    """
    given = {name: amount for name, amount in (overrides or {}).items() if amount is not None}
    found = {"CPU": cpu_count(), "GPU": gpu_count(os.environ)}
    if "memory" not in given:
        found["memory"] = max(0, memory_size() - store_capacity(config))
    return {name: float(amount) for name, amount in {**found, **given}.items() if amount}


def cpu_count() -> float:
    """Return the CPUs this process may use: by affinity, and by its control group's quota."""
    count = float(len(os.sched_getaffinity(0)))
    quota = _read(f"{_CGROUP}/cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        allowed = int(quota[0]) / int(quota[1])
        count = min(count, max(1.0, float(int(allowed + 0.5))))
    return count


def memory_size() -> int:
    """Return the bytes of memory there are for this process's control group."""
    fields = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines())
    size = int(fields.get("MemTotal", "0 kB").split()[0]) * 1024
    limit = _read(f"{_CGROUP}/memory.max").strip()
    return min(size, int(limit)) if limit.isdigit() else size


def store_capacity(config: Config) -> int:
    """Return the bytes of the object store: as configured, else within memory and /dev/shm."""
    if config.store_bytes:
        return config.store_bytes
    try:
        found = os.statvfs(config.shm_dir)
    except OSError:
        return _STORE_LEAST
    share = int(memory_size() * _STORE_SHARE)
    return max(_STORE_LEAST, min(share, int(found.f_bavail * found.f_frsize * 0.95)))


def gpu_count(environ: Mapping[str, str]) -> int:
    """Return how many GPUs may be used: as CUDA_VISIBLE_DEVICES says, else as the driver does."""
    visible = environ.get(CUDA)
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        # CUDA itself stops at the first that makes no sense.
        count = 0
        for name in names:
            if not name or name in ("-1", "NoDevFiles"):
                break
            count += 1
        return count
    try:
        return len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        return 0


def use_gpus(
    environ: MutableMapping[str, str], node_sees: str | None, numbers: Sequence[int]
) -> list[str]:
    """Have CUDA see these GPUs of the node and no others; return what CUDA calls them.

    The node counts from 0 what its own CUDA_VISIBLE_DEVICES, `node_sees`, shows it. Without a GPU the
    variable stays as the node has it.
    """
    names = [name.strip() for name in node_sees.split(",")] if node_sees else []
    chosen = [names[n] if n < len(names) else str(n) for n in numbers]
    if chosen:
        environ[CUDA] = ",".join(chosen)
    elif node_sees is not None:
        environ[CUDA] = node_sees
    else:
        environ.pop(CUDA, None)
    return chosen


class MemoryPressure:
    """Whether the kernel has killed for want of memory since it was last asked."""

    def __init__(self) -> None:
        self._count = _oom_kills()

    def has_killed(self) -> bool:
        """Return whether there was such a kill since the last call."""
        count = _oom_kills()
        before, self._count = self._count, count
        return count > before


def describe_machine() -> dict[str, Any]:
    """Return what a node says of its machine."""
    return {"hostname": os.uname().nodename, "pid": os.getpid()}


def ip_address(towards: str = "8.8.8.8") -> str:
    """Return the address from which this machine reaches another. Nothing is sent."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 53))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def raise_descriptor_limit() -> None:
    """Let this process and its children open as many files as the system allows."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _oom_kills() -> int:
    total = 0
    for path, name in ((f"{_CGROUP}/memory.events", "oom_kill"), ("/proc/vmstat", "oom_kill")):
        for line in _read(path).splitlines():
            words = line.split()
            if words[:1] == [name]:
                total += int(words[1])
    return total


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
