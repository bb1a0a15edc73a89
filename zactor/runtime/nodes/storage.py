"""The shell of a machine's store: does what `core.storage` says, off the node's loop.

What may take long (deleting, spilling, restoring, writing pulled chunks) runs in one helper thread, in
order; reading chunks for other nodes in another. Both start with the first work for them. Their
outcomes are collected by the node's loop, which `fileno` wakes.

Owned by: the node's loop; every method is called there.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from zactor.core.storage import Storage
from zactor.core.storage_effects import (
    Ask,
    Effect,
    Forget,
    Inspect,
    ReadChunk,
    Remove,
    Reply,
    ReplyFile,
    Restore,
    Spill,
    StorageStats,
    Take,
    Tell,
    Watch,
    WriteChunk,
)
from zactor.store.segments import SHM
from zactor.store.spill import Outcome, StoreFiles, default_capacity
from zactor.wire.messages import LocateSegment, ReserveSegment

if TYPE_CHECKING:
    from collections.abc import Callable

NodeEffect: TypeAlias = Reply | Tell | Ask | Watch
"""What is left for the node to do: answer a request, tell a process something, ask another node (and
call `answered`), see to it that `process_lost` is called."""

_NO_LIMIT = 1 << 50


class StorageShell:
    """The store of this machine, driven by its node."""

    def __init__(
        self,
        node: bytes,
        process: bytes,
        prefix: str,
        *,
        spill_dir: str = "",
        capacity: int = 0,
        spill_limit: int = 0,
        shm: str = SHM,
        patience: float = 1.0,
        copy_seconds: float = 60.0,
    ) -> None:
        """Start empty; creates nothing yet.

        Args:
            node: Id of this node.
            process: Process id of this node.
            prefix: What the names of this cluster's segments begin with (`zactor-<cluster>-`).
            spill_dir: Directory for spilled values, removed by `close`; "" for no spilling.
            capacity: Bytes of shared memory; 0 for 30% of memory, within what there is.
            spill_limit: Bytes of disk; 0 for nine tenths of what is free there now.
            shm: Directory of segments.
            patience: How long a request for room waits for what is in use.
            copy_seconds: How long a pulled copy that nobody asks for is kept.
        """
        self._configured = capacity or default_capacity(shm)
        if spill_dir and not spill_limit:
            status = os.statvfs(_existing(spill_dir))
            spill_limit = min(status.f_bavail * status.f_frsize * 9 // 10, _NO_LIMIT)
        self._machine = Storage(
            node,
            process,
            prefix,
            self._configured,
            spill_limit=spill_limit if spill_dir else 0,
            patience=patience,
            copy_seconds=copy_seconds,
        )
        self._files = StoreFiles(shm, spill_dir)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._done: deque[Callable[[float], NodeEffect | None]] = deque()
        self._mover = _Helper("zactor-store", self._finished)
        self._reader = _Helper("zactor-store-reader", self._finished)

    # -- for the node's loop ----------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when `collect` has something to do."""
        return self._wake

    def receive(self, peer: bytes, address: Any, message: Any, now: float) -> list[NodeEffect]:
        """Handle a store message of a process or of another node."""
        if isinstance(message, ReserveSegment | LocateSegment):
            self._machine.limit(self._capacity(), now)
        self._machine.receive(peer, address, message, now)
        return self._apply()

    def collect(self, now: float) -> list[NodeEffect]:
        """Take in what the helper threads have finished."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        effects: list[NodeEffect] = []
        while self._done:
            effect = self._done.popleft()(now)
            if effect is not None:
                effects.append(effect)
        return effects + self._apply()

    def answered(self, token: int, ok: bool, value: Any, now: float) -> list[NodeEffect]:
        """Another node's answer to an `Ask`, or the error that came of asking."""
        self._machine.answered(token, ok, value, now)
        return self._apply()

    def process_lost(self, process: bytes, now: float) -> list[NodeEffect]:
        """A process is dead: a worker or driver of this machine, or one that was to be watched."""
        self._machine.process_lost(process, now)
        return self._apply()

    def tick(self, now: float) -> list[NodeEffect]:
        """The deadline has come."""
        self._machine.tick(now)
        return self._apply()

    def next_deadline(self) -> float | None:
        """When `tick` is due."""
        return self._machine.next_deadline()

    def stats(self) -> StorageStats:
        """What is where."""
        return self._machine.stats()

    def close(self) -> None:
        """Stop; delete what is spilled and every segment that is known."""
        self._mover.stop()
        self._reader.stop()
        self._files.clear(self._machine.segments())
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    # -- inside -----------------------------------------------------------------------------------

    def _capacity(self) -> int:
        """What was configured, or less if others have filled the file system of the segments."""
        free = self._files.room()
        if self._machine.used() + free >= self._configured + self._machine.used() // 8:
            return self._configured  # size classes claim an eighth more than they take, at most
        return min(self._configured, self._files.taken(self._machine.segments()) + free)

    def _apply(self) -> list[NodeEffect]:
        """Give to the helpers what is theirs; return the rest."""
        effects: list[NodeEffect] = []
        for effect in self._machine.drain():
            if isinstance(effect, ReplyFile):
                path = self._files.spilled(effect.home)
                effects.append(Reply(*effect[:3], ok=True, value=path))
            elif isinstance(effect, Reply | Tell | Ask | Watch):
                effects.append(effect)
            elif isinstance(effect, ReadChunk):
                self._reader.do(self._job(effect))
            else:
                self._mover.do(self._job(effect))
        return effects

    def _finished(self, outcome: Callable[[float], NodeEffect | None]) -> None:
        """Called by the helpers."""
        self._done.append(outcome)
        os.eventfd_write(self._wake, 1)

    def _job(self, effect: Effect) -> Callable[[], Callable[[float], NodeEffect | None] | None]:
        """The work that an effect asks for; its result is called on the loop, with the time."""
        files, machine = self._files, self._machine

        def work() -> Callable[[float], NodeEffect | None] | None:
            match effect:
                case Take(name, object_id, freed):
                    taken = _try(files.take, name, object_id, freed)
                    return lambda now: machine.took(name, taken.ok, now)
                case Spill(name, object_id, home):
                    spilled = _try(files.spill, name, object_id, home)
                    return lambda now: machine.spilled(
                        name, spilled.ok, now, is_disk_full=spilled.is_disk_full
                    )
                case Restore(name, home):
                    restored = _try(files.restore, name, home)
                    return lambda now: machine.placed(name, restored.ok, now)
                case WriteChunk(name, object_id, offset, _, payload):
                    written = _try(files.write_chunk, name, object_id, offset, payload)
                    return lambda now: machine.chunk_written(name, written.ok, now)
                case Inspect(name):
                    found = files.inspect(name)
                    parts = (
                        (found.object_id, found.owner, found.size) if found else (b"", b"", 0)
                    )
                    return lambda now: machine.inspected(name, *parts, now)
                case Remove(name):
                    files.remove(name)
                case Forget(home):
                    files.forget(home)
                case ReadChunk():
                    chunk = self._read(effect)
                    return lambda now: chunk  # noqa: ARG005
            return None

        return work

    def _read(self, read: ReadChunk) -> Reply:
        try:
            chunk = self._files.read_chunk(read.name, read.home, read.offset, read.length)
        except (OSError, ValueError):
            chunk = None
        ok = chunk is not None
        lost = ["ObjectLostError", "the value is not on this node", {}]
        value = list(chunk) if chunk is not None else lost
        return Reply(read.peer, read.address, read.request, ok=ok, value=value)


class _Helper:
    """A thread that does jobs in order; started by the first one."""

    def __init__(self, name: str, finished: Callable[[Any], None]) -> None:
        self._name = name
        self._finished = finished
        self._jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, job: Callable[[], Any]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def stop(self) -> None:
        """Finish what is queued and end."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = job()
            if outcome is not None:
                self._finished(outcome)


def _try(what: Callable[..., Outcome], *args: Any) -> Outcome:
    """An error of the file system is an outcome like others: nothing was moved."""
    try:
        return what(*args)
    except OSError:
        return Outcome(ok=False)


def _existing(path: str) -> str:
    while path and not os.path.isdir(path):
        path = os.path.dirname(path)
    return path or "/"
