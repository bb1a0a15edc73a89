"""Processes seen through /proc: who belongs to an engine, what they cost, where they run.

An engine's processes are known by a token in their environment, which children inherit across
fork and exec even when they start a session of their own or lose their parent. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKEN = "BENCH_TOKEN"

_TICKS = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def find(token: str) -> list[int]:
    """Return the ids of all living processes that carry `token`."""
    wanted = f"{TOKEN}={token}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(*_GONE):
                if wanted in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    found.append(int(name))
    return sorted(found)


def command(pid: int) -> str:
    """Return the command line of a process, or nothing if it is gone."""
    with contextlib.suppress(*_GONE):
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode(errors="replace")
        )
    return ""


def pss(pids: Iterable[int]) -> int:
    """Return the memory of the processes in bytes; shared pages are counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(*_GONE):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time the processes have used, user and system.

    From schedstat, in nanoseconds and per thread, where the kernel has it: clock ticks are 10 ms.
    """
    total = 0.0
    for pid in pids:
        with contextlib.suppress(*_GONE):
            total += _cpu_seconds(pid)
    return total


def _cpu_seconds(pid: int) -> float:
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    if total:
        return total / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def pin(pids: Iterable[int], cpus: Iterable[int]) -> None:
    """Let every thread of the processes run on `cpus` only; what they start later inherits it."""
    allowed = set(cpus)
    for pid in pids:
        with contextlib.suppress(*_GONE):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(*_GONE):
                    os.sched_setaffinity(int(thread), allowed)


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process that still lives."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def sweep(token: str, patience: float = 3.0) -> int:
    """End every process that carries `token`; return how many were still there."""
    left = find(token)
    deadline = time.monotonic() + patience
    remaining = left
    while remaining and time.monotonic() < deadline:
        send(remaining, signal.SIGKILL)
        time.sleep(0.02)
        remaining = [pid for pid in find(token) if not _is_zombie(pid)]
    return len(left)


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(*_GONE):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def parent(pid: int) -> int:
    """Return the id of a process's parent, or 0 if the process is gone."""
    with contextlib.suppress(*_GONE):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
