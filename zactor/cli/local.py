"""The daemons that run on this machine: a note of each in its session, by which they are stopped.

A note is a file `daemon-<role>-<pid>` that holds when the process started, so that a later process
with the same pid is not taken for it. It goes with the session's directory.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from zactor.config import Config
from zactor.named import NamedTuple
from zactor.wire.messages import Address

PATIENCE = 15.0  # seconds that a daemon may take to end in order


class Daemon(NamedTuple):
    """A broker or node daemon of this user."""

    role: str  # "broker" | "node"
    pid: int
    cluster: str  # 8 hex digits

    def __str__(self) -> str:
        return f"{self.role} of cluster {self.cluster}, pid {self.pid}"


def directory_of(address: Address) -> Path:
    """Return the session directory that a process's inbox is in."""
    return Path(address.ipc.removeprefix("ipc://")).parent


def leave_note(role: str, address: Address) -> None:
    """Note that this process is a daemon."""
    note = directory_of(address) / f"daemon-{role}-{os.getpid()}"
    note.write_text(_started(os.getpid()))


def daemons(config: Config, cluster: str | None = None) -> Iterator[Daemon]:
    """Return the daemons that run, of one cluster or of all; nodes before brokers."""
    notes = sorted(Path(config.base).glob(f"{cluster or '*'}/daemon-*"), reverse=True)
    for note in notes:
        _, role, pid = note.name.split("-")
        with suppress(OSError):  # it has ended, and its session is going
            if _started(int(pid)) == note.read_text():
                yield Daemon(role, int(pid), note.parent.name)


def stop(daemon: Daemon, *, force: bool) -> None:
    """End a daemon: in order, or at once; in the end by force either way."""
    try:
        pidfd = os.pidfd_open(daemon.pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGKILL,) if force else (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
            end = select.poll()
            end.register(pidfd, select.POLLIN)
            if end.poll(PATIENCE * 1000):
                return
    finally:
        os.close(pidfd)


def _started(pid: int) -> str:
    """Return when a process started, in ticks since the machine did."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
