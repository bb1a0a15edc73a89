"""Starting an embedded cluster, and ending it: the driver's side of `runtime.cluster`.

A program waits for its cluster, so what has to be imported to start one is little; the program
imports the rest while the cluster does the same.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any

import msgpack

from zactor.named import NamedTuple
from zactor.runtime.commands import python_command
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LAUNCH_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
RESULT_FD, DRIVER_FD = 3, 4  # descriptors of a launched cluster
_PROGRAM = "from zactor.runtime.cluster import main; main()"


class LaunchError(RuntimeError):
    """The cluster process did not come up; the text says why."""


class Launched(NamedTuple):
    """A cluster that this process has started."""

    pid: int
    pidfd: int
    broker: Address
    node: Address
    session: str  # directory
    cluster: bytes
    machine: bytes  # token

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End the cluster in order, and by force if that takes too long."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                break
            if await_end([self.pidfd], timeout):
                break
        with suppress(ChildProcessError):  # the program's own handling of children was faster
            os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        if os.path.exists(self.session):  # it was killed, and could not clean up
            from zactor.config import Config
            from zactor.runtime.session import sweep

            sweep(Config.from_environment())


def launch(
    *,
    resources: Mapping[str, float | None] | None = None,
    labels: Mapping[str, str] | None = None,
    preload: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    meanwhile: Callable[[], object] | None = None,
    **extra: Any,
) -> Launched:
    """Start an embedded cluster that lives as long as this process, at most.

    Args:
        resources: "CPU", "GPU", "memory" and custom ones; what is missing or None is detected.
        labels: Of the node.
        preload: Modules that workers find imported.
        settings: Fields of `Config` that go before the environment.
        meanwhile: What to do while it starts.
        extra: "entry_point" and "broker", for tests.

    Raises:
        LaunchError: It did not come up.
    """
    options = {
        "resources": dict(resources or {}),
        "labels": dict(labels or {}),
        "preload": list(preload),
        "sys_path": [os.path.abspath(path) for path in sys.path],
        "settings": dict(settings or {}),
        **extra,
    }
    driver = os.pidfd_open(os.getpid())
    reading, writing = os.pipe2(os.O_CLOEXEC)
    # Copied out of the way first, or one copy could overwrite the other's source.
    sources = [_dup_above(writing), _dup_above(driver)]
    try:
        environ = {**os.environ, "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2")}
        pid = os.posix_spawn(
            sys.executable,
            python_command(_PROGRAM, msgpack.packb(options).hex()),
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, sources[0], RESULT_FD),
                (os.POSIX_SPAWN_DUP2, sources[1], DRIVER_FD),
            ],
            setsid=True,
        )
    finally:
        for fd in (writing, driver, *sources):
            os.close(fd)
    pidfd = os.pidfd_open(pid)
    try:
        if meanwhile is not None:
            meanwhile()
        result = _read_result(reading)
    except BaseException:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)
        raise
    finally:
        os.close(reading)
    return Launched(
        pid, pidfd, Address(*result["broker"]), Address(*result["node"]), result["session"],
        result["cluster"], result["machine"],
    )  # fmt: skip


def _read_result(fd: int) -> dict[str, Any]:
    waiter = poll()
    waiter.register(fd, POLLIN)
    received = b""
    while True:
        if not waiter.poll(LAUNCH_TIMEOUT * 1000):
            raise LaunchError(
                f"the cluster process did not come up within {LAUNCH_TIMEOUT:g} s"
            )
        chunk = os.read(fd, 65536)
        received += chunk
        if not chunk:
            break
    if not received:
        raise LaunchError(
            "the cluster process ended while it started; see what it printed above"
        )
    result: dict[str, Any] = msgpack.unpackb(received)
    if "error" in result:
        raise LaunchError(result["error"])
    return result


def _dup_above(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16)


def await_end(pidfds: list[int], timeout: float) -> bool:
    """Wait until all the processes are dead; return whether they are."""
    from time import monotonic

    deadline = monotonic() + timeout
    for pidfd in pidfds:
        waiter = poll()
        waiter.register(pidfd, POLLIN)
        if not waiter.poll(max(0.0, deadline - monotonic()) * 1000):
            return False
    return True
