"""The files behind a machine's store, as its node handles them: taken, spilled, restored, pulled.

A segment is only touched under its lock, and never waited for (see `store.segments`): what somebody
uses is left alone, which is an answer. What is taken is truncated before it is deleted, so that its
memory is free at once, whoever keeps an idle mapping of it.

Spilled values are files named for the segment they were in, one each: the space goes when the object
goes. They are written under another name first, so that a file is whole or not there. Nothing is
synced: they are worth nothing after the machine has stopped.

Blocks, for as long as the disk takes; decides nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from zactor.named import NamedTuple
from zactor.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable

_COPY_CHUNK = 8 << 20
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class Outcome(NamedTuple):
    """What came of it; not `ok` without `is_disk_full` means that somebody uses the segment."""

    ok: bool
    is_disk_full: bool = False


class StoreFiles:
    """The segments in `shm` and the spilled values in `disk`. Any thread, one at a time each name."""

    def __init__(self, shm: str, disk: str) -> None:
        self._shm = shm
        self._disk = disk  # made when first needed; "" for no spilling

    def take(self, name: str, object_id: bytes, freed: bytes = b"") -> Outcome:
        """Delete a segment if nobody uses it and it holds this object (b"": none), or `freed`."""
        fd = self._lock(name, object_id, freed)
        if fd is None:
            return Outcome(ok=False)
        if fd >= 0:
            self._delete(fd, name)
        return Outcome(ok=True)

    def spill(self, name: str, object_id: bytes, home: str) -> Outcome:
        """Move a segment's object to disk, under the same conditions."""
        fd = self._lock(name, object_id)
        if fd is None or fd < 0:
            return Outcome(ok=False)
        try:
            header = layout.read_header(os.pread(fd, layout.HEADER_SIZE, 0))
            assert header is not None
            self._write_spilled(home, fd, header.size)
        except OSError as error:
            os.close(fd)
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            if not is_full:
                raise
            return Outcome(ok=False, is_disk_full=True)
        self._delete(fd, name)
        return Outcome(ok=True)

    def restore(self, name: str, home: str) -> Outcome:
        """Make a segment from a spilled object; the file on disk stays."""
        try:
            source = os.open(self.spilled(home), os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            return Outcome(ok=False)
        try:
            target = self._create(name)
            try:
                _copy(target, source, os.fstat(source).st_size)
            except OSError:
                self.remove(name)
                return Outcome(ok=False)
            finally:
                os.close(target)
        finally:
            os.close(source)
        return Outcome(ok=True)

    def write_chunk(self, name: str, object_id: bytes, offset: int, payload: bytes) -> Outcome:
        """Write a piece of an object that comes from elsewhere; the first piece makes the segment."""
        if offset == 0:
            header = layout.read_header(payload[: layout.HEADER_SIZE])
            if header is None or header.object_id != object_id:
                return Outcome(ok=False)
            fd = self._create(name)
        else:
            try:
                fd = os.open(self._segment(name), os.O_RDWR | _FLAGS)
            except FileNotFoundError:
                return Outcome(ok=False)  # its pull has failed
        try:
            view = memoryview(payload)
            while view:
                written = os.pwrite(fd, view, offset)
                view, offset = view[written:], offset + written
        except OSError:
            return Outcome(ok=False)
        finally:
            os.close(fd)
        return Outcome(ok=True)

    def read_chunk(
        self, name: str, home: str, offset: int, length: int
    ) -> tuple[int, bytes] | None:
        """(size of the whole, a piece of it), from the segment or else from disk."""
        # It may be moved to disk between the first look and the second, and back before the third.
        return (
            self._read(self._segment(name), offset, length)
            or self._read(self.spilled(home), offset, length)
            or self._read(self._segment(name), offset, length)
        )

    def inspect(self, name: str) -> layout.Header | None:
        """The header of the whole value in a segment whose writer is dead."""
        try:
            fd = os.open(self._segment(name), os.O_RDONLY | _FLAGS)
        except OSError:
            return None
        try:
            header = layout.read_header(os.pread(fd, layout.HEADER_SIZE, 0))
            is_whole = header is not None and header.size <= os.fstat(fd).st_size
            return (
                header if is_whole and header and header.object_id != layout.NO_OBJECT else None
            )
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """Delete a segment, whoever looks at it; its memory goes with the last who does."""
        try:
            fd = os.open(self._segment(name), os.O_RDWR | _FLAGS)
        except OSError:
            return
        if _try_lock(fd, fcntl.LOCK_EX):
            self._delete(fd, name)
        else:
            os.close(fd)
            with suppress(FileNotFoundError):
                os.unlink(self._segment(name))

    def forget(self, home: str) -> None:
        """Delete a spilled object's file."""
        with suppress(FileNotFoundError):
            os.unlink(self.spilled(home))

    def spilled(self, home: str) -> str:
        """Where a spilled object is: a file that is mapped as a segment is."""
        if "/" in home or not home.startswith("zactor-"):
            raise ValueError(home)
        return f"{self._disk}/{home}"

    def room(self) -> int:
        """Bytes that the file system of the segments has left."""
        status = os.statvfs(self._shm)
        return status.f_bavail * status.f_frsize

    def taken(self, names: Iterable[str]) -> int:
        """Bytes of memory that these segments really take."""
        taken = 0
        for name in names:
            with suppress(FileNotFoundError):
                taken += os.stat(self._segment(name)).st_blocks * 512
        return taken

    def clear(self, names: Iterable[str]) -> None:
        """Delete these segments and everything spilled."""
        for name in names:
            self.remove(name)
        if not self._disk:
            return
        with suppress(FileNotFoundError):
            for entry in os.scandir(self._disk):
                os.unlink(entry.path)
            os.rmdir(self._disk)

    # -- inside -----------------------------------------------------------------------------------

    def _segment(self, name: str) -> str:
        if "/" in name or not name.startswith("zactor-"):
            raise ValueError(name)
        return f"{self._shm}/{name}"

    def _create(self, name: str) -> int:
        return os.open(self._segment(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)

    def _lock(self, name: str, object_id: bytes, freed: bytes = b"") -> int | None:
        """Open and lock a segment; None if it is in use or holds something else, -1 if it is gone."""
        try:
            fd = os.open(self._segment(name), os.O_RDWR | _FLAGS)
        except FileNotFoundError:
            return -1
        if _try_lock(fd, fcntl.LOCK_EX):
            header = layout.read_header(os.pread(fd, layout.HEADER_SIZE, 0))
            held = layout.NO_OBJECT if header is None else header.object_id
            if held in (object_id or layout.NO_OBJECT, freed):
                return fd
        os.close(fd)
        return None

    def _delete(self, fd: int, name: str) -> None:
        """Delete a locked segment. Who has it mapped looks for its name before using it again."""
        os.unlink(self._segment(name))
        os.ftruncate(fd, 0)
        os.close(fd)

    def _write_spilled(self, home: str, source: int, size: int) -> None:
        os.makedirs(self._disk, mode=0o700, exist_ok=True)
        path = self.spilled(home)
        target = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600)
        try:
            _copy(target, source, size)
            os.rename(f"{path}.part", path)
        except OSError:
            os.unlink(f"{path}.part")
            raise
        finally:
            os.close(target)

    @staticmethod
    def _read(path: str, offset: int, length: int) -> tuple[int, bytes] | None:
        try:
            fd = os.open(path, os.O_RDONLY | _FLAGS)
        except OSError:
            return None
        try:
            if not _try_lock(fd, fcntl.LOCK_SH):
                return None
            header = layout.read_header(os.pread(fd, layout.HEADER_SIZE, 0))
            if header is None or header.object_id == layout.NO_OBJECT or offset >= header.size:
                return None
            wanted = min(length, header.size - offset)
            payload = os.pread(fd, wanted, offset)
            return (header.size, payload) if len(payload) == wanted else None
        finally:
            os.close(fd)


def default_capacity(shm: str) -> int:
    """30% of the machine's memory, within what the file system of the segments has left."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    status = os.statvfs(shm)
    return min(memory * 3 // 10, status.f_bavail * status.f_frsize * 9 // 10)


def _try_lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _copy(target: int, source: int, size: int) -> None:
    """Copy the first `size` bytes within the kernel."""
    at = 0
    while at < size:
        copied = os.sendfile(target, source, at, min(_COPY_CHUNK, size - at))
        if not copied:
            raise OSError(errno.EIO, "a file of the store is shorter than it says")
        at += copied
