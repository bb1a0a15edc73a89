"""One shared-memory segment, as a process has it: its file, the lock on it, its memory, the value in it.

What the locks mean, and who may do what when, is said in `store.segments`, which keeps the account of
all segments of a process.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from zactor.store import layout
from zactor.store.memory import PAGE, Mapping, write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import ref

_SMALL_PIECE = 64 * 1024
_SMALLEST_CLASS = 64 * 1024


class Value(NamedTuple):
    """A value in shared memory: read-only views of it."""

    payload: memoryview
    buffers: list[memoryview]
    is_new_view: (
        bool  # counts as a new local reference, until `drain_unmapped` names the object
    )


class File:
    """An open file; its lock lasts as long as somebody keeps this object."""

    __slots__ = ("fd",)

    def __init__(self, path: str, flags: int) -> None:
        self.fd = -1
        self.fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        if self.fd >= 0:
            _close(self.fd)

    def try_lock(self, how: int) -> bool:
        """Lock it, shared or exclusively; False if others keep that from us."""
        try:
            fcntl.flock(self.fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Let go of the lock."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)


class Segment:
    """A segment that this process has made or looks at."""

    __slots__ = (
        "allocated", "capacity", "export", "file", "is_filled", "is_own", "mapping", "name", "object_id",
        "path", "reported", "since", "views",
    )  # fmt: skip

    def __init__(
        self, name: str, path: str, capacity: int, since: float, *, is_own: bool
    ) -> None:
        self.name = name
        self.path = path
        self.file: File | None = None  # carries our lock; views keep it too
        self.capacity = capacity  # own: what the node reserved; others': size of the file
        self.is_own = is_own  # made by this process: writable, and ours to re-use
        self.allocated = 0  # size of the file: all of it has pages
        self.object_id = layout.NO_OBJECT
        self.is_filled = False  # own: holds a value that was not freed yet, or is being written
        self.mapping: Mapping | None = None
        self.export: ref[Any] | None = None  # what views are views of, while there are any
        self.views = 0  # exports made and not yet seen to be gone (`_reap`)
        self.reported: type | None = None  # last message to the node about it
        self.since = since  # last used; warm and attached ones go after a while

    def open(self, flags: int) -> File:
        """Return its file, opened if it is not."""
        if self.file is None:
            self.file = File(self.path, flags)
        return self.file

    def fill(self, plan: layout.Plan, offsets: list[int], parts: list[memoryview]) -> None:
        """Write a value, its header last. Under an exclusive lock."""
        fd = self.open(os.O_RDWR).fd
        if not self.allocated:
            _write_fresh(fd, plan, offsets, parts)
            self.allocated = _pages(plan.size)
            os.ftruncate(fd, self.allocated)  # the last page is there already
            return
        if self.allocated < plan.size:
            missing = _pages(plan.size) - self.allocated
            os.posix_fallocate(fd, self.allocated, missing)
            self.allocated += missing
            self.mapping = None
        mapping = self.mapping
        if mapping is None:
            mapping = self.mapping = Mapping(fd, self.allocated, is_writable=True)
        mapping.populate(plan.size)
        for offset, part in zip(offsets, parts, strict=True):
            mapping.write(offset, part)
        mapping.write(0, memoryview(plan.head))

    def clear(self, file: File) -> None:
        """What was in the segment is not to be found any more. Under an exclusive lock."""
        offset, zeros = layout.clear_object()
        os.pwrite(file.fd, zeros, offset)
        self.object_id = layout.NO_OBJECT


def size_class(size: int) -> int:
    """Round up so that at most an eighth is wasted, and freed segments fit later values."""
    step = max(_SMALLEST_CLASS, 1 << max(size.bit_length() - 4, 0))
    return -(-size // step) * step


def value_in(exported: Any, *, is_new: bool) -> Value:
    """Return the views of a value, of memory that holds a whole one."""
    view = memoryview(exported).cast("B").toreadonly()
    header = layout.read_header(bytes(view[: layout.HEADER_SIZE]))
    assert header is not None
    table_end = layout.HEADER_SIZE + 16 * header.buffers
    payload, spans = layout.pieces(header, bytes(view[layout.HEADER_SIZE : table_end]))
    start, length = payload
    return Value(
        view[start : start + length],
        [view[offset : offset + length] for offset, length in spans],
        is_new,
    )


def remove_file(path: str) -> None:
    """Delete a file that may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _write_fresh(
    fd: int, plan: layout.Plan, offsets: list[int], parts: list[memoryview]
) -> None:
    """Write a value to an empty file by system calls, small pieces gathered.

    Through a mapping each fresh page would be allocated, zeroed, mapped and then copied to; `pwrite`
    only allocates and copies (2.1 against 1.2 GB/s). Nothing is left a hole (S2). The header comes
    last: where there is one, the value is whole, whenever its writer died.
    """
    pending = bytearray(len(plan.head))
    start = 0
    for offset, part in zip(offsets, parts, strict=True):
        pending.extend(bytes(offset - start - len(pending)))
        if part.nbytes <= _SMALL_PIECE:
            pending += part
            if len(pending) < 16 * _SMALL_PIECE:
                continue
        write_file(fd, start, memoryview(pending))
        start += len(pending)
        pending = bytearray()
        if part.nbytes > _SMALL_PIECE:
            write_file(fd, start, part)
            start += part.nbytes
    if pending:
        write_file(fd, start, memoryview(pending))
    write_file(fd, 0, memoryview(plan.head))
