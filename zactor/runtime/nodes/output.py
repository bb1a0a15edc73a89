"""What workers print: captured at the descriptor, logged, and shown by their job's driver.

Each worker's standard output and error are pipes that end here. What comes out of them goes to a
log file per pipe, which is rotated, and in whole lines to the job's driver, which folds and prints
them (`runtime.insight.terminal`).

It does not know where drivers are: `send(job, lines)` is given.

Invariants
    O1  Each line of a pipe is logged once and sent once, in order. Between the pipes of one worker
        there is no order.
    O2  Nothing here grows without bound: a worker that prints faster than `output_rate` waits in its
        `print`; logs rotate; logs of the dead are deleted, oldest first, above `log_files`.
    O3  No timer runs while nothing is printed.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.runtime.insight.origins import Marks

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.config import Config
    from zactor.runtime.links.loop import Loop
    from zactor.runtime.nodes.spawn import WorkerProcess

FLUSH_AFTER = 0.02
"""Seconds for which lines are gathered before they are sent."""

PARTIAL_AFTER = 0.5
"""Seconds after which the beginning of a line is shown without its end."""

LINE_LIMIT = 64 * 1024
"""Bytes after which a line is broken in two."""

_READ = 64 * 1024
_DROPPED_JOBS = 10_000
_LAST_READS = 17  # of a dead worker's pipe: as much as a pipe can hold, and no more
_STREAMS = {1: "out", 2: "err"}

Line = list[Any]  # [process id, label, pid, node, stream, text]


class LogFile:
    """A file that is moved aside when it is full; one earlier file is kept."""

    __slots__ = ("_base", "_fd", "_limit", "_size", "path", "pid")

    def __init__(self, path: str, limit: int, pid: int = 0) -> None:
        self.path = path
        self.pid = pid  # of who writes
        self._limit = limit
        self._fd = -1  # opened by the first write: most workers print nothing
        self._size = 0
        self._base = 0  # offset of the file's first byte among all that was ever written

    def write(self, data: bytes) -> None:
        """Append; what the disk does not take is lost, and the worker is none the wiser."""
        try:
            if self._fd < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._fd = os.open(self.path, flags, 0o600)
            self._size += os.write(self._fd, data)
            if self._size >= self._limit:
                os.replace(self.path, self.path + ".1")
                os.close(self._fd)
                self._base += self._size
                self._fd, self._size = -1, 0
        except OSError:
            return

    @property
    def size(self) -> int:
        """How many bytes were ever written."""
        return self._base + self._size

    def read(self, offset: int, limit: int) -> dict[str, Any]:
        """Return up to `limit` bytes from `offset`, the offset after them, and the size.

        Offsets count all that was ever written; what has been rotated away is skipped. A negative
        offset counts from the end.
        """
        size = self._base + self._size
        offset = max(0, size + offset) if offset < 0 else min(offset, size)
        earlier = _size_of(self.path + ".1") if self._base else 0
        offset = max(offset, self._base - earlier)
        if offset < self._base:
            data = _read_at(self.path + ".1", offset - (self._base - earlier), limit)
        else:
            data = _read_at(self.path, offset - self._base, limit)
        text = data.decode("utf-8", "replace")
        return {"text": text, "offset": offset + len(data), "size": size}

    def close(self) -> None:
        """Close the file; it can still be read."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def delete(self) -> None:
        """Remove the file and the earlier one."""
        for path in (self.path, self.path + ".1"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue


class _Pipe:
    """One of a worker's two output pipes."""

    __slots__ = ("fd", "log", "marks", "name", "number", "partial", "worker")

    def __init__(self, worker: _Worker, number: int, fd: int, log: LogFile) -> None:
        self.worker = worker
        self.number = number
        self.fd = fd  # -1 when nothing more can come
        self.log = log
        self.partial = b""  # the beginning of a line whose end has not come
        self.marks = Marks()
        self.name = ""  # of who prints, as the output itself has said last

    def take(self, data: bytes) -> list[Line]:
        """Take what was read: log it, and return the lines that it completes."""
        lines: list[Line] = []
        for name, text in self.marks.take(data):
            if name is not None:
                lines += self.take_partial()  # another began it
                self.name = name
            lines += self._take_text(text)
        return lines

    def _take_text(self, text: bytes) -> list[Line]:
        if text:
            self.log.write(text)
        *whole, self.partial = (self.partial + text).split(b"\n")
        if len(self.partial) >= LINE_LIMIT:
            whole.append(self.partial)
            self.partial = b""
        return [self._line(text) for text in whole]

    def take_partial(self) -> list[Line]:
        """Return the beginning of a line, if there is one, as if it were whole."""
        text, self.partial = self.partial, b""
        return [self._line(text)] if text else []

    def take_rest(self) -> list[Line]:
        """Return what is left, whatever it looks like: nothing more will come."""
        return [*self._take_text(self.marks.rest()), *self.take_partial()]

    def _line(self, text: bytes) -> Line:
        worker = self.worker
        shown = text.removesuffix(b"\r").decode("utf-8", "replace")
        label = self.name or worker.label
        return [worker.process, label, worker.pid, worker.node, self.number, shown]


class _Worker:
    __slots__ = ("job", "label", "node", "pid", "pipes", "process")

    def __init__(self, process: bytes, node: bytes) -> None:
        self.process = process
        self.node = node
        self.pid = 0
        self.label = ""
        self.job = b""  # b"" until it has work
        self.pipes: dict[int, _Pipe] = {}


class _Job:
    """What is on its way to one driver."""

    __slots__ = ("allowance", "filled_at", "has_timer", "lines")

    def __init__(self, now: float, allowance: float) -> None:
        self.lines: list[Line] = []
        self.has_timer = False  # a flush is coming
        self.allowance = allowance  # bytes that may be read now; below zero its workers wait
        self.filled_at = now


class Output:
    """The output of a node's workers. Everything runs on the loop's thread."""

    def __init__(
        self,
        loop: Loop,
        config: Config,
        directory: str,
        node: bytes,
        send: Callable[[bytes, list[Line]], None],
    ) -> None:
        """Prepare. `directory` is for logs; `send(job, lines)` shows lines to a job's driver."""
        self._loop = loop
        self._config = config
        self._directory = directory
        self._node = node
        self._send = send
        self._workers: dict[bytes, _Worker] = {}
        self._jobs: dict[bytes, _Job] = {}
        self._finished: deque[tuple[bytes, list[LogFile]]] = deque()
        self._logs: dict[tuple[bytes, int], LogFile] = {}
        self._dropped: dict[bytes, None] = {}  # jobs whose detached actors may go on printing
        self._partials: dict[_Pipe, float] = {}  # pipes with a partial line, and since when
        self._partials_timed = False

    def open(self, process: WorkerProcess) -> None:
        """A worker has started: read its pipes from now on."""
        worker = self._workers.setdefault(process.process, _Worker(process.process, self._node))
        worker.pid = process.pid
        for number, fd in ((1, process.stdout), (2, process.stderr)):
            name = f"worker-{process.pid}-{process.process.hex()[:8]}.{_STREAMS[number]}"
            log = LogFile(
                os.path.join(self._directory, name), self._config.log_bytes, process.pid
            )
            self._logs[process.process, number] = log
            pipe = worker.pipes[number] = _Pipe(worker, number, fd, log)
            self._loop.add_reader(fd, partial(self._readable, pipe))

    def label(self, process: bytes, label: str, job: bytes) -> None:
        """From now on the worker's lines are `job`'s and shown under `label`."""
        worker = self._workers.setdefault(process, _Worker(process, self._node))
        worker.label, worker.job = label, job

    def close(self, process: bytes) -> None:
        """The worker is dead: take what is left in its pipes. The caller closes them."""
        worker = self._workers.pop(process, None)
        if worker is None:
            return
        for pipe in worker.pipes.values():
            # A helper it left behind may hold the pipe open: what is there now is all there is.
            self._drain(pipe)
            self._show(worker.job, pipe.take_rest())
            self._stop_reading(pipe)
            self._partials.pop(pipe, None)
            pipe.log.close()
        if worker.job in self._jobs:
            self._flush(worker.job)
        if worker.pipes:
            self._finished.append((process, [pipe.log for pipe in worker.pipes.values()]))
        while len(self._finished) > self._config.log_files:
            gone, logs = self._finished.popleft()
            for number, log in enumerate(logs, start=1):
                log.delete()
                self._logs.pop((gone, number), None)

    def drop_job(self, job: bytes) -> None:
        """The job's driver is gone: its lines are logged and not shown any more."""
        self._jobs.pop(job, None)
        self._dropped[job] = None
        if len(self._dropped) > _DROPPED_JOBS:
            del self._dropped[next(iter(self._dropped))]

    def flush_job(self, job: bytes) -> None:
        """Send all that the job's workers have printed by now: its driver is about to leave."""
        for worker in self._workers.values():
            if worker.job == job:
                for pipe in worker.pipes.values():
                    self._drain(pipe)
                    self._partials.pop(pipe, None)
        self._flush(job)

    def _drain(self, pipe: _Pipe) -> None:
        """Take what is in a pipe now, and no more: who writes to it may go on."""
        for _ in range(_LAST_READS):
            if pipe.fd < 0 or not self._read(pipe):
                break
        self._show(pipe.worker.job, pipe.take_partial())

    def list_logs(self) -> list[dict[str, Any]]:
        """Return a row for each log that something was written to."""
        rows = []
        for (process, number), log in self._logs.items():
            if log.size:
                worker = self._workers.get(process)
                rows.append(
                    {
                        "filename": os.path.basename(log.path),
                        "worker_id": process.hex(),
                        "pid": log.pid,
                        "stream": _STREAMS[number],
                        "size": log.size,
                        "is_alive": worker is not None,
                    }
                )
        return rows

    def read_log(self, process: bytes, stream: int, offset: int, limit: int) -> dict[str, Any]:
        """Answer a `ReadLog`.

        Raises:
            LookupError: There is no such log, or none any more.
        """
        log = self._logs.get((process, stream))
        if log is None:
            raise LookupError(f"no log of process {process.hex()} here")
        return log.read(offset, max(0, min(limit, 1 << 20)))

    def finish(self) -> None:
        """The node ends: send what is left."""
        for process in list(self._workers):
            self.close(process)
        for job in list(self._jobs):
            self._flush(job)

    def _readable(self, pipe: _Pipe) -> None:
        job = self._jobs.get(pipe.worker.job)
        if job is not None and job.allowance < 0 and self._refill(job) < 0:
            # The pipe fills up, and the worker waits in its `print` (O2).
            self._loop.remove_reader(pipe.fd)
            pause = -job.allowance / self._config.output_rate
            self._loop.call_later(pause, partial(self._resume, pipe))
            return
        self._read(pipe)

    def _resume(self, pipe: _Pipe) -> None:
        if pipe.fd >= 0:
            self._loop.add_reader(pipe.fd, partial(self._readable, pipe))

    def _read(self, pipe: _Pipe) -> bool:
        """Read once; return False if there is nothing more, now or ever."""
        try:
            data = os.read(pipe.fd, _READ)
        except BlockingIOError:
            return False
        if not data:
            self._stop_reading(pipe)
            return False
        lines = pipe.take(data)
        self._show(pipe.worker.job, lines, len(data))
        if not pipe.partial:
            self._partials.pop(pipe, None)
        elif lines or pipe not in self._partials:
            self._partials[pipe] = self._loop.now()
            self._time_partials()
        return True

    def _stop_reading(self, pipe: _Pipe) -> None:
        if pipe.fd >= 0:
            self._loop.remove_reader(pipe.fd)
            pipe.fd = -1

    def _show(self, name: bytes, lines: list[Line], size: int = 0) -> None:
        if not name or name in self._dropped or not self._config.log_to_driver:
            return
        job = self._jobs.get(name)
        if job is None:
            job = self._jobs[name] = _Job(self._loop.now(), self._config.output_rate)
        job.allowance -= size
        job.lines += lines
        if lines and not job.has_timer:
            job.has_timer = True
            self._loop.call_later(FLUSH_AFTER, partial(self._flush, name))

    def _refill(self, job: _Job) -> float:
        now, rate = self._loop.now(), self._config.output_rate
        job.allowance = min(rate, job.allowance + (now - job.filled_at) * rate)
        job.filled_at = now
        return job.allowance

    def _flush(self, name: bytes) -> None:
        job = self._jobs.get(name)
        if job is None:
            return
        job.has_timer = False
        lines, job.lines = job.lines, []
        if lines:
            self._send(name, lines)

    def _time_partials(self) -> None:
        if self._partials and not self._partials_timed:
            self._partials_timed = True
            wait = next(iter(self._partials.values())) + PARTIAL_AFTER - self._loop.now()
            self._loop.call_later(max(wait, 0.01), self._show_partials)

    def _show_partials(self) -> None:
        self._partials_timed = False
        now = self._loop.now()
        for pipe, since in list(self._partials.items()):
            if now >= since + PARTIAL_AFTER:
                del self._partials[pipe]
                self._show(pipe.worker.job, pipe.take_partial())
        self._time_partials()


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _read_at(path: str, offset: int, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return os.pread(file.fileno(), limit, offset)
    except OSError:
        return b""
