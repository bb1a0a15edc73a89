"""Shared-memory segments of one process: large values are written to them and read from them.

A segment is a file in /dev/shm that every process of the machine can map. A process writes its
values to segments of its own; its node knows them all, and makes room (`core.storage`). Freed
segments stay mapped and warm for the next value, since fresh pages cost ten times a copy: measured
here, memcpy 13 GB/s, fresh pages 1.2 through a mapping and 2.1 through `pwrite`, warm pages in
the same mapping 13, in a new mapping 3, in a new mapping with MADV_POPULATE_WRITE 5.7. Huge pages are
off for shared memory by default, and two threads are not faster than one on two cores.

Who uses a segment is said by locks (flock) on its file, which the kernel lets go of when a process
dies, however it dies:

- a process that has views of a segment, or may have, holds it shared;
- who writes it, gives it to another value, moves it to disk or deletes it holds it exclusively,
  and never waits for that: a segment in use is left alone.

So a value that somebody looks at never changes and is never taken away, whatever the reference
messages say; and the node can take back warm segments without asking their process. Who gets a
lock looks again whether the file still has a name and holds the object it should.

Does not talk to the node: `drain` returns what it should hear, and `reserve` is given.

Invariants
    S1  A segment that any process has a view of keeps its bytes (a get, then the last reference
        dropped, then a put: what was got stays).
    S2  Nothing is written to memory that is not allocated: a full file system is an error of a system
        call, never SIGBUS.
    S3  What a process keeps warm is bounded, and goes when it is idle.
"""

from __future__ import annotations

import bisect
import errno
import fcntl
import os
import threading
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import ref

from zactor.exceptions import ObjectStoreFullError
from zactor.named import NamedTuple
from zactor.store import layout
from zactor.store.memory import Mapping, export, flat
from zactor.store.segment import Segment, Value, remove_file, size_class, value_in
from zactor.wire.messages import FreeSegment, SegmentFilled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SHM = "/dev/shm"  # noqa: S108 - where POSIX shared memory lives on Linux
# A warm segment may be this much larger than a value: more would waste memory while it lives.
_LARGEST_MISFIT = 2
# Freed segments that others look at are tried again, but of many such only some are kept.
_MOST_BUSY = 64
# With more segments than this, only warm ones and those being looked at keep a descriptor.
_MOST_OPEN_FILES = 512


class Stored(NamedTuple):
    """Where a value was written."""

    name: str
    size: int


class SegmentMissingError(LookupError):
    """The segment is not there, or holds something else now: ask the node (`LocateSegment`)."""


class PoolStats(NamedTuple):
    """What one process has in shared memory."""

    filled: int
    warm: int
    warm_bytes: int
    attached: int
    attached_bytes: int


class SegmentPool:
    """The segments that one process has made or attached to. Any thread may use it."""

    def __init__(
        self,
        owner: bytes,
        reserve: Callable[[int], str],
        *,
        directory: str = SHM,
        warm_limit: int = 2 << 30,
        attached_limit: int = 1 << 30,
        idle_seconds: float = 10.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Start empty.

        Args:
            owner: Process id of this process, which owns what it puts unless told otherwise.
            reserve: Asks the node for room; returns the name of a new segment, or raises. Called in
                the thread that puts, without locks held.
            directory: Where segments are files.
            warm_limit: Bytes of freed segments that are kept for re-use.
            attached_limit: Bytes of other processes' segments kept mapped without being looked at.
            idle_seconds: After how long `trim` lets go of either.
            clock: Says what time it is.
        """
        self._owner = owner
        self._reserve = reserve
        self._directory = directory
        self._warm_limit = warm_limit
        self._attached_limit = attached_limit
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._segments: dict[str, Segment] = {}
        self._warm: list[
            tuple[int, str]
        ] = []  # (capacity, name), sorted: best fit by bisection
        self._warm_bytes = 0
        self._busy = 0  # of the warm ones, those that somebody looked at when they were freed
        self._attached_bytes = 0  # mapped, of others, without views
        self.unviewed: deque[tuple[Segment, bytes]] = deque()  # appended to by finalizers only
        self._unmapped: list[bytes] = []
        self._messages: dict[str, SegmentFilled | FreeSegment] = {}

    # -- writing ----------------------------------------------------------------------------------

    def put(
        self, object_id: bytes, payload: Any, buffers: Iterable[Any] = (), *, owner: bytes = b""
    ) -> Stored:
        """Copy a value into shared memory. `owner` is the owner's process id; by default, ours.

        Raises:
            ObjectStoreFullError: There is no room, on the node's word or the kernel's.
        """
        parts = [flat(payload), *map(flat, buffers)]
        owner = owner or self._owner
        plan = layout.plan(object_id, owner, parts[0].nbytes, [p.nbytes for p in parts[1:]])
        offsets = [plan.payload_at, *plan.buffers_at]
        segment = self._claim_warm(plan.size) or self._create(plan.size)
        try:
            segment.fill(plan, offsets, parts)
        except OSError as error:
            self._abandon(segment)
            if error.errno != errno.ENOSPC:
                raise
            raise ObjectStoreFullError(size=plan.size) from error
        except BaseException:  # a signal in the middle of the copy
            self._abandon(segment)
            raise
        with self._lock:
            segment.object_id = object_id
            self._messages[segment.name] = SegmentFilled(
                segment.name, object_id, plan.size, owner
            )
            if len(self._segments) <= _MOST_OPEN_FILES:
                segment.open(os.O_RDWR).unlock()
            else:
                segment.file = None
        return Stored(segment.name, plan.size)

    def free(self, name: str, object_id: bytes = b"") -> bool:
        """Nobody holds the value any more: keep its segment for the next one, if that is possible.

        With `object_id`, only if that is what is in it: the word may be late.

        Returns:
            False if this process did not make the segment; then its maker should hear of it
            (`FreeSegment`), or the node if its maker is dead.
        """
        with self._lock:
            self._reap()
            segment = self._segments.get(name)
            if segment is None or not segment.is_own:
                return False
            if segment.is_filled and object_id in (b"", segment.object_id):
                segment.is_filled = False
                if not segment.views:
                    self._make_warm(segment)
                # else: once the last view has gone, see `_reap`
            return True

    # -- reading ----------------------------------------------------------------------------------

    def is_here(self, name: str) -> bool:
        """Whether a segment of this name is on this machine, as far as can be told at once."""
        return name in self._segments or os.path.exists(self._path(name))

    def get(self, name: str, object_id: bytes) -> Value:
        """Map a value and return views of it. The name may be the path of a file on disk.

        Raises:
            SegmentMissingError: Ask the node where it is now.
        """
        with self._lock:
            self._reap()
            segment = self._segments.get(name)
            if segment is None:
                now = self._clock()
                segment = Segment(name, self._path(name), 0, now, is_own=False)
                self._segments[name] = segment
            exported = segment.export() if segment.export is not None else None
            is_new = exported is None
            if exported is None:
                exported = self._open_views(segment, object_id)
                if exported is None:
                    if not segment.is_own and not segment.views:
                        self._detach(segment)
                    raise SegmentMissingError(name)
            elif segment.object_id != object_id:
                raise SegmentMissingError(name)
        return value_in(exported, is_new=is_new)

    def _open_views(self, segment: Segment, object_id: bytes) -> Any | None:
        """Lock the segment, see that it is what it should be, and export its memory."""
        if segment.is_own and not segment.is_filled:
            return None
        try:
            file = segment.open(os.O_RDWR if segment.is_own else os.O_RDONLY)
        except OSError:
            return None  # moved to disk, or on another machine
        if not file.try_lock(fcntl.LOCK_SH):
            return None  # on its way to the disk
        status = os.fstat(file.fd)
        if not status.st_nlink or status.st_size < layout.HEADER_SIZE:
            return None
        if segment.mapping is None or segment.mapping.length < status.st_size:
            segment.mapping = Mapping(file.fd, status.st_size, is_writable=segment.is_own)
            segment.allocated = status.st_size
        header = layout.read_header(segment.mapping.read(0, layout.HEADER_SIZE))
        if header is None or header.object_id != object_id or header.size > status.st_size:
            return None
        if not segment.is_own:
            if not segment.views:
                self._attached_bytes -= segment.capacity
            segment.capacity = status.st_size
        segment.object_id = object_id
        gone = partial(self.unviewed.append, (segment, object_id))
        exported = export(segment.mapping, file, gone)
        segment.export = ref(exported)
        segment.views += 1
        return exported

    # -- from time to time ------------------------------------------------------------------------

    def drain(self) -> list[SegmentFilled | FreeSegment]:
        """What the node should hear. A value that came and went since the last time says nothing."""
        with self._lock:
            self._reap()
            messages, self._messages = self._messages, {}
            result = []
            for name, message in messages.items():
                segment = self._segments.get(name)
                if segment is not None:
                    if type(message) is FreeSegment and segment.reported is FreeSegment:
                        continue
                    segment.reported = type(message)
                result.append(message)
            return result

    def drain_unmapped(self) -> list[bytes]:
        """Objects whose last view has gone, once for each `is_new_view`."""
        with self._lock:
            self._reap()
            unmapped, self._unmapped = self._unmapped, []
            return unmapped

    def trim(self, now: float) -> None:
        """Let go of warm and attached segments that have been idle for long."""
        with self._lock:
            self._reap()
            before = now - self._idle_seconds
            for segment in list(self._segments.values()):
                if segment.since <= before and not segment.is_filled and not segment.views:
                    self._let_go(segment)

    def next_deadline(self) -> float | None:
        """When `trim` is due, if nothing happens until then; None if nothing is idle."""
        with self._lock:
            idle = [
                segment.since for segment in self._segments.values()
                if not segment.is_filled and not segment.views
            ]  # fmt: skip
        return min(idle) + self._idle_seconds if idle else None

    def close(self) -> None:
        """Delete our segments, filled or not; views that still exist keep their memory."""
        with self._lock:
            for segment in list(self._segments.values()):
                if segment.is_own:
                    remove_file(segment.path)
                self._drop(segment)
            self._messages.clear()

    def stats(self) -> PoolStats:
        """Count, for humans."""
        with self._lock:
            own = [segment for segment in self._segments.values() if segment.is_own]
            return PoolStats(
                filled=sum(segment.is_filled for segment in own),
                warm=len(self._warm),
                warm_bytes=self._warm_bytes,
                attached=len(self._segments) - len(own),
                attached_bytes=self._attached_bytes,
            )

    # -- inside: making and filling ---------------------------------------------------------------

    def _path(self, name: str) -> str:
        directory, _, last = name.rpartition("/")
        if not last.startswith("zactor-") or not (directory.startswith("/") or last == name):
            raise SegmentMissingError(name)
        return f"{directory or self._directory}/{last}"

    def _claim_warm(self, size: int) -> Segment | None:
        """The smallest warm segment that fits and that nobody looks at, locked."""
        with self._lock:
            self._reap()
            at = bisect.bisect_left(self._warm, (size, ""))
            while at < len(self._warm) and self._warm[at][0] <= _LARGEST_MISFIT * size_class(
                size
            ):
                segment = self._segments[self._warm[at][1]]
                try:
                    file = segment.open(os.O_RDWR)
                except FileNotFoundError:  # somebody has deleted it
                    self._unwarm(segment)
                    self._drop(segment)
                    continue
                if not file.try_lock(fcntl.LOCK_EX):
                    at += 1  # somebody still looks at it, or the node is taking it
                    continue
                self._unwarm(segment)
                if os.fstat(file.fd).st_nlink:
                    if segment.object_id != layout.NO_OBJECT:
                        segment.clear(file)
                    segment.is_filled = True
                    return segment
                self._drop(segment)  # the node took it back
        return None

    def _create(self, size: int) -> Segment:
        capacity = size_class(size)
        name = self._reserve(capacity)
        segment = Segment(name, self._path(name), capacity, self._clock(), is_own=True)
        segment.is_filled = True  # not to be trimmed while it is being written
        try:
            segment.open(os.O_RDWR | os.O_CREAT | os.O_EXCL).try_lock(fcntl.LOCK_EX)
        except OSError:
            with self._lock:
                self._messages[name] = FreeSegment(name, keep=False)
            raise
        with self._lock:
            self._segments[name] = segment
        return segment

    # -- inside: letting go -----------------------------------------------------------------------

    def _reap(self) -> None:
        """Act on the finalizers of views that ran since the last time."""
        while self.unviewed:
            segment, object_id = self.unviewed.popleft()
            self._unmapped.append(object_id)
            segment.views -= 1
            if segment.views or segment.file is None or segment.name not in self._segments:
                continue
            segment.since = self._clock()
            segment.file.unlock()
            if not segment.is_own:
                self._attached_bytes += segment.capacity
                self._limit_attached()
            elif not segment.is_filled:
                self._make_warm(segment)

    def _make_warm(self, segment: Segment) -> None:
        """Keep a freed segment for the next value, unless somebody else uses it or took it."""
        try:
            file = segment.open(os.O_RDWR)
        except FileNotFoundError:
            file = None
        # Without a name it was spilled before: the node has its value on disk.
        if file is None or not os.fstat(file.fd).st_nlink:
            self._forget_own(segment)
            return
        # Without the lock somebody still looks at it, most often a callee that has just replied, or
        # the node spills it. Then it stays as it is until it is claimed.
        if file.try_lock(fcntl.LOCK_EX):
            segment.clear(file)
            file.unlock()
        elif self._busy >= _MOST_BUSY:
            self._forget_own(segment)
            return
        else:
            self._busy += 1
        segment.since = self._clock()
        bisect.insort(self._warm, (segment.capacity, segment.name))
        self._warm_bytes += segment.capacity
        self._messages[segment.name] = FreeSegment(segment.name, keep=True)
        while self._warm_bytes > self._warm_limit:
            self._let_go(min(map(self._warm_segment, self._warm), key=lambda s: s.since))

    def _forget_own(self, segment: Segment) -> None:
        """Leave a segment to the node."""
        self._messages[segment.name] = FreeSegment(segment.name, keep=False)
        self._drop(segment)

    def _warm_segment(self, entry: tuple[int, str]) -> Segment:
        return self._segments[entry[1]]

    def _unwarm(self, segment: Segment) -> None:
        self._warm.remove((segment.capacity, segment.name))
        self._warm_bytes -= segment.capacity
        self._busy -= segment.object_id != layout.NO_OBJECT

    def _let_go(self, segment: Segment) -> None:
        """A segment without views: delete it if it is ours, else only detach."""
        if not segment.is_own:
            self._detach(segment)
        elif (segment.capacity, segment.name) in self._warm:
            self._unwarm(segment)
            self._discard(segment)

    def _discard(self, segment: Segment) -> None:
        remove_file(segment.path)
        self._messages[segment.name] = FreeSegment(segment.name, keep=False)
        self._drop(segment)

    def _abandon(self, segment: Segment) -> None:
        with self._lock:
            self._discard(segment)

    def _limit_attached(self) -> None:
        while self._attached_bytes > self._attached_limit:
            idle = [s for s in self._segments.values() if not s.is_own and not s.views]
            self._detach(min(idle, key=lambda segment: segment.since))

    def _detach(self, segment: Segment) -> None:
        self._attached_bytes -= segment.capacity
        self._drop(segment)

    def _drop(self, segment: Segment) -> None:
        """Forget the segment. Views that still exist keep their mapping, and the lock with it."""
        self._segments.pop(segment.name, None)
        segment.mapping = segment.file = None


def remove_segments(prefix: str, directory: str = SHM) -> list[str]:
    """Delete the files whose name begins with `prefix` (`zactor-<cluster>-[<process>-]`), whoever
    looks at them; return their names. For what the dead leave behind."""
    removed = []
    if not prefix.startswith("zactor-"):
        raise ValueError(prefix)
    for entry in os.scandir(directory):
        if entry.name.startswith(prefix):
            remove_file(entry.path)
            removed.append(entry.name)
    return removed
