"""How a node starts workers: its fork servers, and each worker's descriptors.

A `Spawner` keeps one fork server per runtime environment, restarts one that died, and tells by
three callbacks what became of each worker: it started, it exited, or it never came to be. It does
not know what workers are for, and reads neither their lanes nor their output.

Invariants
    W1  For each `start`, exactly one of: `failed`; or `started` and later `exited`.
    W2  `exited` comes only when the worker's pidfd says that it is dead.
    W3  A dead fork server takes no worker that has started with it.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
from collections import deque
from contextlib import suppress
from fcntl import ioctl
from functools import partial
from select import select
from typing import TYPE_CHECKING, Any

import msgpack

from zactor.named import NamedTuple
from zactor.runtime.commands import python_command
from zactor.runtime.hosting.progress import MAX_ROWS, read_progress
from zactor.runtime.nodes.forkserver import PROGRESS_SIZE
from zactor.runtime.nodes.lane import Lane, LaneClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.config import Config
    from zactor.runtime.links.loop import Loop

STATUS_PATIENCE = 0.25
"""Seconds to wait, after a worker's end, for its fork server to say how it ended."""

CLOSE_PATIENCE = 1.0
"""Seconds that a fork server may take to end when the node closes."""

_SERVER = "from zactor.runtime.nodes.forkserver import main; main()"
_MESSAGE = 64 * 1024
_BROKEN_STARTS = 3  # a server that dies this often before it is ready is not tried again
_GET_INFO = (3 << 30) | (64 << 16) | (0xFF << 8) | 11  # PIDFD_GET_INFO, Linux 6.15
_INFO_EXIT = 8


class Status(NamedTuple):
    """How a process ended: `kind` is "exit", "signal" or "unknown"."""

    kind: str
    code: int


class WorkerProcess:
    """A worker as its node holds it: its process, lane, output pipes and progress page."""

    __slots__ = (
        "_unsent", "boot", "is_dead", "key", "lane", "page", "pid", "pidfd", "process", "status",
        "stderr", "stdout", "wanted_signal",
    )  # fmt: skip

    def __init__(self, process: bytes, key: str, boot: dict[str, Any]) -> None:
        self.process = process
        self.key = key
        self.boot = boot
        self.lane: Lane | None = None  # made when its fork server gets to it
        self.stdout = self.stderr = self.page = -1
        self.pid = 0
        self.pidfd = -1
        self.status: Status | None = None  # what its fork server said of its end
        self.is_dead = False  # what its pidfd said
        self.wanted_signal = 0  # sent as soon as it has a pid
        self._unsent: list[list[Any]] = []

    def send(self, message: list[Any]) -> None:
        """Send a control message; one to a dead worker vanishes."""
        if self.lane is None:
            self._unsent.append(message)
            return
        try:
            self.lane.send(message)
        except LaneClosedError:
            return  # its pidfd will say what happened

    def kill(self, number: int) -> None:
        """Send a signal, now or as soon as there is a process to send it to."""
        if self.pidfd < 0:
            self.wanted_signal = number
            return
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def progress(self) -> list[list[Any]]:
        """Return the rows of the progress page: `[caller, stream, started, finished]` each."""
        if self.page < 0:
            return []
        return read_progress(os.pread(self.page, PROGRESS_SIZE, 0))

    def is_progress_whole(self) -> bool:
        """Whether every stream that calls have come on has a row."""
        return self.page >= 0 and len(self.progress()) < MAX_ROWS - 1

    def request_stack(self) -> None:
        """Have the worker write its Python stacks behind the progress page."""
        os.ftruncate(self.page, PROGRESS_SIZE)
        os.lseek(self.page, PROGRESS_SIZE, os.SEEK_SET)
        self.kill(signal.SIGUSR1)

    def is_dumping(self) -> bool:
        """Whether the signal of `request_stack` is still to be handled, or is being handled."""
        try:
            with open(f"/proc/{self.pid}/status") as status:
                fields = dict(line.split(":", 1) for line in status)
        except OSError:
            return False  # it is dead
        # A signal is blocked while its handler runs; signals of the process go to the main thread.
        masks = (int(fields[name], 16) for name in ("SigPnd", "ShdPnd", "SigBlk"))
        return any(mask >> (signal.SIGUSR1 - 1) & 1 for mask in masks)

    def read_stack(self) -> str:
        """Return what has been written since `request_stack`."""
        size = max(0, os.fstat(self.page).st_size - PROGRESS_SIZE)
        return os.pread(self.page, size, PROGRESS_SIZE).decode("utf-8", "replace")

    def close(self) -> None:
        """Close every descriptor that is left."""
        if self.lane is not None:
            self.lane.close()
        for name in ("stdout", "stderr", "page", "pidfd"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)

    def open_ends(self) -> list[int]:
        """Make the descriptors; return the worker's ends, to be sent and closed.

        Raises:
            OSError: There are none left, or no more than the workers that start need to connect.
        """
        if not _has_descriptors():
            raise OSError(errno.EMFILE, "too many open files; raise the limit (ulimit -n)")
        self.lane, control = Lane.pair()
        self.stdout, stdout = os.pipe2(os.O_CLOEXEC)
        self.stderr, stderr = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.stdout, False)
        os.set_blocking(self.stderr, False)
        self.page = os.memfd_create("zactor-progress", os.MFD_CLOEXEC)
        os.ftruncate(self.page, PROGRESS_SIZE)
        unsent, self._unsent = self._unsent, []
        for message in unsent:
            self.lane.send(message)
        return [control.detach(), stdout, stderr, os.dup(self.page)]


def _has_descriptors() -> bool:
    """Whether some are left beside a quarter, by which workers and programs connect."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        probe = os.dup(2)
    except OSError:
        return False
    os.close(probe)
    return probe < limit - limit // 4  # the lowest free number


class _ForkServer:
    """One fork server, as its node sees it."""

    __slots__ = (
        "environment", "is_ready", "key", "lane", "pid", "pidfd", "queue", "requested", "retired",
        "starts", "unready_deaths", "workers",
    )  # fmt: skip

    def __init__(self, key: str, environment: dict[str, Any]) -> None:
        self.key = key
        self.environment = environment
        self.lane: socket.socket | None = None
        self.pid = 0
        self.pidfd = -1
        self.is_ready = False
        self.retired = False
        self.starts = 0  # requests so far, which numbers them
        self.unready_deaths = 0
        self.queue: deque[WorkerProcess] = deque()  # not yet asked for
        self.requested: dict[int, WorkerProcess] = {}  # asked for, not yet started
        self.workers: dict[
            int, WorkerProcess
        ] = {}  # started, by pid, until their status is known


class Spawner:
    """Starts workers. All methods and callbacks run on the loop's thread."""

    def __init__(
        self,
        loop: Loop,
        config: Config,
        setup: dict[str, Any],
        *,
        started: Callable[[WorkerProcess], None],
        exited: Callable[[WorkerProcess, Status], None],
        failed: Callable[[WorkerProcess, list[Any]], None],
        log_fd: int = 2,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare; no process is started yet.

        Args:
            loop: Where descriptors are watched.
            config: Limits.
            setup: What every fork server is told: "entry" and "boot" (parts of each worker's boot
                that are the same for all), "sys_path", "preload".
            started: A worker has a pid.
            exited: It is dead, and how it ended.
            failed: It never came to be; `[kind, text, fields]`, kind "environment" or "spawn".
            log_fd: Where fork servers print.
            warn: Takes what a human should know.
        """
        self._loop = loop
        self._config = config
        self._setup = setup
        self._started = started
        self._exited = exited
        self._failed = failed
        self._log_fd = log_fd
        self._warn = warn
        # By environment key, least recently used first.
        self._servers: dict[str, _ForkServer] = {}
        self._retired: list[_ForkServer] = []
        self._own_pidfd = os.pidfd_open(os.getpid())
        self._closed = False

    def adopt(
        self, key: str, environment: dict[str, Any], lane: socket.socket, pid: int
    ) -> None:
        """Use a fork server that was forked before this process had threads."""
        server = self._servers[key] = _ForkServer(key, environment)
        self._connect(server, lane, pid)

    def prepare(self, key: str, environment: dict[str, Any]) -> None:
        """Have the environment's fork server running."""
        self._server(key, environment)

    def start(
        self, process: bytes, key: str, environment: dict[str, Any], boot: dict[str, Any]
    ) -> WorkerProcess:
        """Start a worker in an environment. Its lane can be sent to at once.

        `boot` is what this one is told beside what all are.
        """
        worker = WorkerProcess(process, key, {**boot, "process": process, "env": key})
        server = self._server(key, environment)
        server.queue.append(worker)
        self._pump(server)
        return worker

    def pids(self) -> list[int]:
        """Return the pids of the fork servers."""
        return [s.pid for s in (*self._servers.values(), *self._retired) if s.pid]

    def close(self) -> None:
        """Have the fork servers end, whose deaths then take no effect. Workers are the caller's."""
        if self._closed:
            return
        self._closed = True
        servers = [s for s in (*self._servers.values(), *self._retired) if s.lane is not None]
        for server in servers:
            assert server.lane is not None
            self._loop.remove_reader(server.lane.fileno())
            server.lane.close()  # which ends it, as soon as it has no worker left
        for server in servers:
            if not select([server.pidfd], [], [], CLOSE_PATIENCE)[0]:
                signal.pidfd_send_signal(server.pidfd, signal.SIGKILL)
            self._disconnect(server)
        self._servers.clear()
        self._retired.clear()
        os.close(self._own_pidfd)

    # What follows is about fork servers.

    def _server(self, key: str, environment: dict[str, Any]) -> _ForkServer:
        server = self._servers.pop(key, None)
        if server is None:
            server = _ForkServer(key, environment)
            self._make_room()
        self._servers[key] = server
        if server.lane is None:
            self._launch(server)
        return server

    def _make_room(self) -> None:
        for key, server in list(self._servers.items()):
            if len(self._servers) < self._config.fork_servers:
                return
            if key and not server.queue and not server.requested:
                del self._servers[key]
                self._retired.append(server)
                server.retired = True
                self._tell(server, ["retire"], [])

    def _launch(self, server: _ForkServer) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = {
            **os.environ,
            # Workers have few threads that allocate, and an arena each would be memory for nothing.
            "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2"),
            **(server.environment.get("env_vars") or {}),
        }
        with theirs:
            above = os.dup(theirs.fileno())  # never 3 itself, which the copy goes to
            try:
                pid = os.posix_spawn(
                    sys.executable,
                    python_command(_SERVER),
                    environ,
                    file_actions=[(os.POSIX_SPAWN_DUP2, above, 3)],
                    setsid=True,
                )
            finally:
                os.close(above)
        self._connect(server, ours, pid)

    def _connect(self, server: _ForkServer, lane: socket.socket, pid: int) -> None:
        lane.setblocking(False)
        server.lane, server.pid, server.is_ready = lane, pid, False
        server.pidfd = os.pidfd_open(pid)
        self._loop.add_reader(lane.fileno(), partial(self._hear, server))
        self._loop.add_reader(server.pidfd, partial(self._server_died, server))
        setup = {**self._setup, **server.environment}
        for name in ("preload", "sys_path"):
            setup[name] = [
                *(self._setup.get(name) or ()),
                *(server.environment.get(name) or ()),
            ]
        self._tell(server, ["setup", setup], [self._own_pidfd, self._log_fd])

    def _disconnect(self, server: _ForkServer) -> None:
        assert server.lane is not None
        if server.lane.fileno() >= 0:
            self._loop.remove_reader(server.lane.fileno())
            server.lane.close()
        self._loop.remove_reader(server.pidfd)
        os.close(server.pidfd)
        with suppress(ChildProcessError):  # the program's own handling of children was faster
            os.waitpid(server.pid, 0)
        server.lane, server.pid, server.pidfd = None, 0, -1

    def _server_died(self, server: _ForkServer) -> None:
        self._hear(server)  # what it said before it died
        if server.lane is None:
            return
        self._disconnect(server)
        if not server.is_ready:
            server.unready_deaths += 1
        lost, server.requested = list(server.requested.values()), {}
        orphans, server.workers = list(server.workers.values()), {}
        if server.retired:
            self._retired.remove(server)
        elif self._servers.get(server.key) is server:
            self._warn(f"a fork server ended ({len(orphans)} workers go on); starting another")
            if server.unready_deaths >= _BROKEN_STARTS:
                self._break(server, "its fork server ends before it is ready")
            elif server.queue or not server.key:
                self._launch(server)
            else:
                self._servers.pop(server.key, None)
        for worker in lost:
            self._fail(worker, ["spawn", "the fork server ended", {}])
        for worker in orphans:
            if worker.is_dead:
                self._finish(worker)
        self._pump(server)

    def _break(self, server: _ForkServer, text: str) -> None:
        self._servers.pop(server.key, None)
        if server.lane is not None:  # it is still to end, and to be reaped
            server.retired = True
            self._retired.append(server)
        failed = [*server.requested.values(), *server.queue]
        server.requested.clear()
        server.queue.clear()
        for worker in failed:
            self._fail(worker, ["environment", text, {}])

    def _hear(self, server: _ForkServer) -> None:
        while server.lane is not None:
            try:
                body, fds, _, _ = socket.recv_fds(
                    server.lane, _MESSAGE, 1, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                body, fds = b"", []
            if not body:  # closed; its pidfd says whether it is dead
                self._loop.remove_reader(server.lane.fileno())
                return
            self._understand(server, msgpack.unpackb(body), fds)

    def _understand(self, server: _ForkServer, message: list[Any], fds: list[int]) -> None:
        match message:
            case ["ready", mode, warning]:
                server.is_ready, server.unready_deaths = True, 0
                if warning:
                    self._warn(f"{warning}; workers are started by {mode} instead of fork")
            case ["broken", text]:
                server.is_ready = True
                self._break(server, text)
            case ["started", number, pid]:
                self._worker_started(server, server.requested.pop(number), pid, fds[0])
            case ["failed", number, text]:
                self._fail(server.requested.pop(number), ["spawn", text, {}])
            case ["died", pid, kind, code]:
                worker = server.workers.pop(pid, None)
                if worker is not None:
                    worker.status = Status(kind, code)
                    if worker.is_dead:
                        self._finish(worker)
        self._pump(server)

    def _pump(self, server: _ForkServer) -> None:
        while server.lane is not None and server.queue:
            if len(server.requested) >= self._config.starts_at_once:
                return
            worker = server.queue.popleft()
            try:
                ends = worker.open_ends()
            except OSError as error:
                self._fail(worker, ["spawn", f"no descriptors: {error.strerror}", {}])
                continue
            server.starts += 1
            server.requested[server.starts] = worker
            self._tell(server, ["fork", server.starts, worker.boot], ends)
            for end in ends:
                os.close(end)

    def _tell(self, server: _ForkServer, message: list[Any], fds: list[int]) -> None:
        assert server.lane is not None
        # Never blocks: what a server has not answered is bounded by `starts_at_once`.
        try:
            socket.send_fds(server.lane, [msgpack.packb(message)], fds)
        except OSError:
            return  # it is dead or dying: its pidfd follows

    # What follows is about workers.

    def _worker_started(
        self, server: _ForkServer, worker: WorkerProcess, pid: int, pidfd: int
    ) -> None:
        worker.pid, worker.pidfd = pid, pidfd
        server.workers[pid] = worker
        self._loop.add_reader(pidfd, partial(self._pidfd_readable, worker))
        if worker.wanted_signal:
            worker.kill(worker.wanted_signal)
        self._started(worker)

    def _fail(self, worker: WorkerProcess, error: list[Any]) -> None:
        worker.close()
        if not self._closed:
            # Never from within `start`, whose caller does not hold the worker yet.
            self._loop.call_soon(partial(self._failed, worker, error))

    def _pidfd_readable(self, worker: WorkerProcess) -> None:
        self._loop.remove_reader(worker.pidfd)
        worker.is_dead = True
        if worker.status is not None:
            self._finish(worker)
        else:
            self._loop.call_later(STATUS_PATIENCE, partial(self._finish, worker))

    def _finish(self, worker: WorkerProcess) -> None:
        if worker.pidfd < 0 or self._closed:
            return
        status = worker.status or _ask_kernel(worker.pidfd) or Status("unknown", -1)
        os.close(worker.pidfd)
        worker.pidfd = -1
        self._exited(worker, status)


def _ask_kernel(pidfd: int) -> Status | None:
    """Return how a process ended that somebody else has reaped, if the kernel can tell."""
    info = bytearray(64)
    info[0] = _INFO_EXIT
    try:
        ioctl(pidfd, _GET_INFO, info)
    except OSError:
        return None
    if not info[0] & _INFO_EXIT:
        return None
    code = int.from_bytes(info[60:64], sys.byteorder)
    return Status("signal", code & 0x7F) if code & 0x7F else Status("exit", code >> 8 & 0xFF)
