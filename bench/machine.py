"""What the machine is: the header without which no figure means anything."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import platform
from pathlib import Path


def cpus() -> list[int]:
    """Return the CPUs this process may run on."""
    return sorted(os.sched_getaffinity(0))


def describe() -> dict[str, str | int | float]:
    """Return the facts about this machine that change figures."""
    return {
        "cpu": _cpu_model(),
        "cpus": len(cpus()),
        "memory GiB": round(_memory("MemTotal") / 2**20, 1),
        "kernel": platform.release(),
        "virtual": _hypervisor(),
        "load before": os.getloadavg()[0],
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory(name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0


def _hypervisor() -> str:
    with contextlib.suppress(OSError):
        if " hypervisor" in Path("/proc/cpuinfo").read_text():
            return "yes"
    return "no"
