"""The fork server: a process that has imported what workers need, and forks them.

It holds no thread and no ZeroMQ context, since neither survives a fork, and freezes its heap, so
that what its children share with it stays shared (measured on Python 3.11: 2.1-2.7 MiB
proportional memory a worker, 6.5 without). Its node drives it over a plain sequenced-packet
socketpair; each request and each answer is one msgpack list, with descriptors beside it:

    node to server                                      descriptors
        ["setup", {...}]       first, once              pidfd of the node, log file
        ["fork", number, boot]                          control, stdout, stderr, progress
        ["retire"]             no more forks; end when the last child has ended
    server to node
        ["ready", mode, warning]                        mode is "fork" or "exec"
        ["broken", text]       the environment cannot be made; the server ends
        ["started", number, pid]                        pidfd of the worker
        ["failed", number, text]
        ["died", pid, kind, code]                       kind is "exit" or "signal"

A worker's program is an entry point `module:function`, called as
`function(control: socket, progress_fd: int, boot: dict)` in the worker's main thread; what it
returns is the exit code (None: 0). `boot["node_pidfd"]` is a descriptor to poll: readable when
the node is dead.

One server serves one runtime environment: `setup` brings variables and paths, which are in place
before anything else is imported.

Invariants
    F1  The server ends when its node is dead, and takes its workers with it. What it finds broken
        before it hears of the death (the lane) makes it go on without a lane, not end.
    F2  A worker has none of the server's descriptors but those meant for it.
    F3  Each worker leads a process session of its own; what it leaves running there is killed
        before its death is reported.
    F4  If anything imported has started threads that a fork would not survive, the server says so
        and starts workers by exec instead.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import msgpack

from zactor.runtime.commands import complete_package, python_command
from zactor.runtime.nodes.heap import fill_holes

if TYPE_CHECKING:
    from collections.abc import Callable

WORKER_ENTRY = "zactor.runtime.worker:main"
PROGRESS_SIZE = 64 * 1024
"""Bytes of the progress page; in the same memfd, stack dumps are written behind it."""

_MESSAGE = 256 * 1024  # longer than what a sequenced-packet socket takes by default
# Without these no worker can begin.
_FIRST = (
    "cloudpickle",
    "faulthandler",
    "zactor.runtime.hosting.construction",
    "zactor.runtime.objects.sharing",
)
# What workers import sooner or later: after the fork it would cost each of them time (asyncio and
# what comes with it 30 ms) and memory of its own (8 MiB). The first workers do not wait for it.
_LATER = (
    "atexit",
    "subprocess",  # asyncio in pieces: a death is to be told at once
    "ssl",
    "asyncio.base_events",
    "asyncio",
    "zactor.api.remote",
    "zactor.api.creation",
    "zactor.api.control",
    "zactor.api.values",
    "zactor.runtime.calls.futures",
    "zactor.runtime.hosting.group_loops",
    "zactor.runtime.hosting.pools",
)
_YIELDS = 100_000
_NETWORK = "zactor.transport.network"  # of clusters on several machines; libzmq comes with it
_EXEC = "from zactor.runtime.nodes.forkserver import exec_worker; exec_worker()"
_EXEC_FDS = ("control", "progress", "node_pidfd", "payload")
_EXEC_BASE = 3  # the first descriptor number of an exec'd worker's own


class _BrokenEnvironment(Exception):  # noqa: N818 - never leaves this module
    """What the environment asks for cannot be done."""


def serve(lane: socket.socket, *, warm: bool) -> NoReturn:
    """Be a fork server until the node is gone, then end the process.

    `warm` imports the usual modules before the environment is known: for a server forked with the
    default environment, which can use the time in which its node starts up.
    """
    code = 1
    try:
        if warm:
            complete_package()
            _import_all((*_FIRST, WORKER_ENTRY.partition(":")[0]), optional=True)
        code = _Server(lane).run()
    except _BrokenEnvironment as error:
        _tell(lane, ["broken", str(error)])
    except (BrokenPipeError, ConnectionResetError):
        code = 0  # the node is gone, and no worker was started yet
    except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
        sys.excepthook(*sys.exc_info())
    os._exit(code)


def main() -> NoReturn:
    """Be the fork server of an environment of its own: the lane is descriptor 3."""
    # What the node's own environment left open for children is not for ours (one system call).
    os.closerange(_EXEC_BASE + 1, 0x7FFFFFFF)
    os.set_inheritable(_EXEC_BASE, False)
    serve(socket.socket(fileno=_EXEC_BASE), warm=False)


def exec_worker() -> NoReturn:
    """Be a worker that was started by exec: descriptors from 3 on, see `_EXEC_FDS`."""
    at = {name: _EXEC_BASE + index for index, name in enumerate(_EXEC_FDS)}
    os.closerange(_EXEC_BASE + len(_EXEC_FDS), 0x7FFFFFFF)
    with open(at["payload"], "rb") as file:
        setup, boot = msgpack.unpackb(file.read(), strict_map_key=False)
    for name in ("control", "progress", "node_pidfd"):
        os.set_inheritable(at[name], False)
    try:
        prepare(setup)
    except _BrokenEnvironment as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(1)
    control = socket.socket(fileno=at["control"])
    _run_worker(setup, boot, control, at["progress"], at["node_pidfd"])


def prepare(setup: dict[str, Any]) -> None:
    """Make this process what the runtime environment says, then import what workers need.

    Raises:
        _BrokenEnvironment: A directory is missing, or an import fails.
    """
    os.environ.update(setup.get("env_vars") or {})
    try:
        if setup.get("working_dir"):
            os.chdir(setup["working_dir"])
    except OSError as error:
        raise _BrokenEnvironment(
            f"working_dir {setup['working_dir']!r}: {error.strerror}"
        ) from None
    # The driver's own search path, in its order; the environment's modules before it.
    here = [setup["working_dir"]] if setup.get("working_dir") else []
    modules = setup.get("search_path") or setup.get("py_modules") or ()
    front = [*here, *modules, *(setup.get("sys_path") or ())]
    sys.path[:] = dict.fromkeys([*front, *sys.path])
    complete_package()
    _import_all(_FIRST, optional=True)
    if setup.get("boot", {}).get("keys"):
        _import_all((_NETWORK,))
    _import_all(
        (setup.get("entry", WORKER_ENTRY).partition(":")[0], *(setup.get("preload") or ()))
    )


def _import_all(names: tuple[str, ...], *, optional: bool = False) -> None:
    for name in names:
        try:
            __import__(name)
        except ImportError as error:
            if not optional:
                raise _BrokenEnvironment(f"cannot import {name}: {error}") from error
        except Exception as error:
            text = f"importing {name} raised {type(error).__name__}: {error}"
            raise _BrokenEnvironment(text) from error


class _Server:
    """The serving process's state: its lane, and the workers that live."""

    def __init__(self, lane: socket.socket) -> None:
        self._lane = lane
        self._children: set[int] = set()  # workers that are not reaped
        self._retired = False
        self._setup, (self._node_pidfd, log) = self._receive_setup()
        _take_over_output(log)
        prepare(self._setup)
        warning = _threads_that_block_forking()
        self._mode = "exec" if warning or self._setup.get("force_exec") else "fork"
        # Children announce their end by SIGCHLD through this pair: descriptors of children would
        # have to be closed one by one in each later child.
        self._wake, wake = socket.socketpair()
        for end in (self._wake, wake):
            end.setblocking(False)
        self._wakeup = wake
        signal.signal(signal.SIGCHLD, _ignore)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        sys.stdout.flush()
        sys.stderr.flush()
        gc.disable()
        gc.freeze()
        self._later = list(_LATER) if self._mode == "fork" else []
        _tell(lane, ["ready", self._mode, warning])

    def run(self) -> int:
        poller = select.poll()
        for fd in (self._lane.fileno(), self._node_pidfd, self._wake.fileno()):
            poller.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll(0 if self._later else None)}
            if not ready:
                self._import_next()
            if self._node_pidfd in ready:
                self._kill_all()  # F1
                return 0
            if self._wake.fileno() in ready:
                self._reap()
            if self._lane.fileno() in ready and not self._serve_one():
                poller.unregister(self._lane)
                self._retired = True
            if self._retired:
                if not self._children:
                    return 0
                self._later.clear()  # there are none to come

    def _import_next(self) -> None:
        """Nobody waits for a worker: import one more thing for those to come."""
        _import_all((self._later.pop(0),), optional=True)
        if not self._later:
            gc.unfreeze()
            self._rehearse()
            gc.collect()
            fill_holes()
            gc.freeze()

    def _rehearse(self) -> None:
        """Be a worker for a moment: what each would fill and write for the first time, each would
        have a copy of (measured on Python 3.11: 0.4 MiB and 160 page faults a worker)."""
        module = sys.modules[self._setup.get("entry", WORKER_ENTRY).partition(":")[0]]
        rehearse = getattr(module, "rehearse", None)
        if rehearse is not None:
            with suppress(OSError, RuntimeError):  # short of descriptors, disk or threads
                rehearse(self._setup.get("boot", {}))
            for _ in range(_YIELDS):
                if _thread_count() == 1:
                    return
                os.sched_yield()  # the thread that it had is about to be gone
            self._mode = "exec"  # F4

    def _receive_setup(self) -> tuple[dict[str, Any], list[int]]:
        message, fds = _hear(self._lane)
        if not message:
            raise BrokenPipeError
        assert message[0] == "setup", message
        return message[1], fds

    def _serve_one(self) -> bool:
        try:
            message, fds = _hear(self._lane)
        except ConnectionResetError:  # closed, with words of ours in it that nobody has read
            return False
        if not message:
            return False
        if message[0] == "retire":
            self._retired = True
            return True
        _, number, boot = message
        try:
            pid = self._fork(boot, fds) if self._mode == "fork" else self._exec(boot, fds)
            self._children.add(pid)
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            self._say(["failed", number, str(error)])
        else:
            self._say(["started", number, pid], [pidfd])
            os.close(pidfd)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, boot: dict[str, Any], fds: list[int]) -> int:
        pid = os.fork()
        if not pid:
            self._become_worker(boot, fds)
        return pid

    def _become_worker(self, boot: dict[str, Any], fds: list[int]) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            for own in (self._lane, self._wake, self._wakeup):
                own.close()  # F2
            control, stdout, stderr, progress = fds
            os.setsid()  # F3
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            os.close(stdout)
            os.close(stderr)
            end = socket.socket(fileno=control)
        except BaseException:  # noqa: BLE001 - nothing may return into the server's loop
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        _run_worker(self._setup, boot, end, progress, self._node_pidfd)

    def _exec(self, boot: dict[str, Any], fds: list[int]) -> int:
        payload = os.memfd_create("zactor-boot")
        os.write(payload, msgpack.packb([self._setup, boot]))
        os.lseek(payload, 0, os.SEEK_SET)
        control, stdout, stderr, progress = fds
        # Clear of the numbers they are copied to, or one copy would overwrite another's source.
        sources = [_dup_above(fd, 16) for fd in (control, progress, self._node_pidfd, payload)]
        actions = [(os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)]
        actions += [
            (os.POSIX_SPAWN_DUP2, fd, _EXEC_BASE + index) for index, fd in enumerate(sources)
        ]
        command = python_command(_EXEC)
        try:
            return os.posix_spawn(
                sys.executable, command, os.environ, file_actions=actions, setsid=True
            )
        finally:
            for fd in (payload, *sources):
                os.close(fd)

    def _reap(self) -> None:
        try:
            while self._wake.recv(512):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_pid in self._children:
                # While it is not reaped its number, and so its group, is nobody else's (F3).
                _kill_group(found.si_pid)
            os.waitid(os.P_PID, found.si_pid, os.WEXITED)
            if found.si_pid in self._children:
                self._children.discard(found.si_pid)
                kind = "exit" if found.si_code == os.CLD_EXITED else "signal"
                self._say(["died", found.si_pid, kind, found.si_status])

    def _say(self, message: list[Any], fds: list[int] | None = None) -> None:
        try:
            _tell(self._lane, message, fds)
        except (BrokenPipeError, ConnectionResetError):
            return  # `run` sees the end of the lane, and of the node

    def _kill_all(self) -> None:
        for pid in self._children:
            _kill_group(pid)


def _run_worker(
    setup: dict[str, Any],
    boot: dict[str, Any],
    control: socket.socket,
    progress: int,
    pidfd: int,
) -> NoReturn:
    """Run the worker's program in this process, then end it as a Python program ends."""
    code: Any = 1
    try:
        _refresh(progress)
        entry = _find_entry(setup.get("entry", WORKER_ENTRY))
        code = entry(control, progress, {**setup.get("boot", {}), **boot, "node_pidfd": pidfd})
    except SystemExit as error:
        code = error.code
        if code is not None and not isinstance(code, int):
            sys.stderr.write(f"{code}\n")
            code = 1
    except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
        sys.excepthook(*sys.exc_info())
    _finish(code or 0)


def _finish(code: int) -> NoReturn:
    # What Py_FinalizeEx does that anybody can see. Not the rest: tearing down modules would touch,
    # and so copy, every page that is shared with the server.
    import atexit
    import threading

    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code & 0xFF)


def _refresh(progress: int) -> None:
    """Undo in a new process what it must not share with its siblings."""
    import faulthandler

    # The names of signals, which the functions of `signal` come with, are 0.15 MiB in each worker.
    for number in (_signal.SIGTERM, _signal.SIGCHLD, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    if sys.stdout is not None and not sys.stdout.line_buffering:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Stacks are written behind the progress page by the C handler, so also while C code holds the
    # interpreter lock. The node sets the file offset, which all descriptors share, and signals.
    faulthandler.register(_signal.SIGUSR1, file=progress, all_threads=True)
    faulthandler.enable()
    if "numpy.random" in sys.modules:  # `random` re-seeds itself
        sys.modules["numpy.random"].seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()
    gc.enable()


def _find_entry(name: str) -> Callable[[socket.socket, int, dict[str, Any]], Any]:
    module, _, function = name.partition(":")
    __import__(module)
    found: Callable[[socket.socket, int, dict[str, Any]], Any] = getattr(
        sys.modules[module], function
    )
    return found


def _threads_that_block_forking() -> str:
    """Return what is wrong with forking this process, or "" if nothing is (F4).

    Some libraries (OpenBLAS below numpy) stop their threads before a fork and start them again when
    they are needed, so a fork that ends at once tells the one kind from the other.
    """
    if _thread_count() > 1 and "threading" in sys.modules:
        threads = [thread.name for thread in sys.modules["threading"].enumerate()[1:]]
        if threads:
            return f"a preloaded module has started threads: {', '.join(threads)}"
    if _thread_count() > 1:
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        count = _thread_count()
        if count > 1:
            return f"a preloaded module has started {count - 1} native threads"
    return ""


def _thread_count() -> int:
    return len(os.listdir("/proc/self/task"))


def _take_over_output(log: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    for fd in (null, log):
        if fd > 2:
            os.close(fd)


def _dup_above(fd: int, lowest: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # the group is not there until the child has made it
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _ignore(number: int, frame: object) -> None:
    """Let the signal interrupt the poll, and no more."""


def _tell(lane: socket.socket, message: list[Any], fds: list[int] | None = None) -> None:
    socket.send_fds(lane, [msgpack.packb(message)], fds or [])


def _hear(lane: socket.socket) -> tuple[list[Any], list[int]]:
    body, fds, _, _ = socket.recv_fds(lane, _MESSAGE, 8, socket.MSG_CMSG_CLOEXEC)
    return (msgpack.unpackb(body, strict_map_key=False) if body else []), fds
