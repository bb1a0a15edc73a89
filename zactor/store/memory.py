"""Mapped memory: mappings whose views can be watched, and copies into them.

Python's own `mmap` would do but for three things: it holds the GIL while the kernel fills page
tables (100 ms for a gigabyte), keeps a descriptor of its own, and cannot tell when the last view
of it is gone. So mappings are made through libc here (Linux only).

Knows nothing of segments or objects.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = mmap.PAGESIZE
_MADV_POPULATE_WRITE = 23  # Linux 5.14; errors instead of SIGBUS, and off the GIL
# Below this, a copy more is cheaper than asking for the buffer's address.
_ADDRESS_WORTH_ASKING = 4 * 1024
# pwrite in pieces: 2.1 GB/s against 1.7 in one call (the source stays in the cache).
_WRITE_CHUNK = 2 * 1024 * 1024
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
]  # fmt: skip
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_madvise = _libc.madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT_FREED = 16 << 20


def keep_freed_memory() -> None:
    """Have malloc keep some megabytes of what was freed; for processes that pass large chunks on.

    By default it gives them back to the kernel at once, which clears the pages for the next chunk:
    half a second of CPU a gigabyte.
    """
    if hasattr(_libc, "mallopt"):  # not every libc has it
        _libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_FREED)
        _libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_FREED)


class _Buffer(ctypes.Structure):
    """CPython's `Py_buffer`."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.POINTER(_Buffer)]


class Mapping:
    """Shared memory of a file, unmapped when nothing refers to it any more.

    Of no file (-1): memory of this process alone.
    """

    __slots__ = ("__weakref__", "address", "length", "populated")

    def __init__(self, fd: int, length: int, *, is_writable: bool) -> None:
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if is_writable else 0)
        kind = mmap.MAP_SHARED if fd >= 0 else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        address = _mmap(None, length, prot, kind, fd, 0)
        if address is None or address == _FAILED:
            code = ctypes.get_errno()
            self.length = 0
            raise OSError(code, os.strerror(code))
        self.address: int = address
        self.length = length
        self.populated = 0  # bytes from the start whose pages are in the page table already

    def __del__(self, _munmap: Any = _munmap) -> None:
        if self.length:
            _munmap(self.address, self.length)

    def write(self, offset: int, source: memoryview) -> None:
        """Copy flat bytes to `offset`: a memcpy, off the GIL."""
        length = source.nbytes
        if length < _ADDRESS_WORTH_ASKING:
            ctypes.memmove(self.address + offset, source.tobytes(), length)
            return
        buffer = _Buffer()
        _get_buffer(source, buffer, 0)
        try:
            ctypes.memmove(self.address + offset, buffer.buf, length)
        finally:
            _release_buffer(buffer)

    def read(self, offset: int, length: int) -> bytes:
        """A copy of some bytes."""
        return ctypes.string_at(self.address + offset, length)

    def populate(self, length: int) -> None:
        """Enter the first `length` bytes into the page table at once, at a quarter of what faulting
        them in one by one costs. Where the kernel cannot, nothing happens."""
        if length > self.populated:
            start = self.populated // PAGE * PAGE
            _madvise(self.address + start, length - start, _MADV_POPULATE_WRITE)
            self.populated = length


class PrivateMapping(Mapping):
    """Memory of this process alone, in huge pages if the kernel has some to give."""

    __slots__ = ()

    def __init__(self, length: int) -> None:
        super().__init__(-1, length, is_writable=True)
        _madvise(self.address, length, mmap.MADV_HUGEPAGE)


class _Exported:
    """Mixed into the ctypes array that a mapping's views are views of."""

    kept: tuple[Any, ...] = ()
    gone: Callable[[], None] | None = None

    def copy_on_write(self, view: memoryview) -> tuple[Any, int]:
        """Return writable memory with the contents of a view, and where in it they begin.

        It shares pages with the mapping until they are written to, and is a view of it like others.
        """
        mapping, file = self.kept
        buffer = _Buffer()
        _get_buffer(view, buffer, 0)
        at = buffer.buf - mapping.address
        _release_buffer(buffer)
        start = at // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        made = _Private(
            file.fd,
            at - start + view.nbytes,
            flags=mmap.MAP_PRIVATE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
            offset=start,
        )
        made.kept = self
        return made, at - start

    def __del__(self) -> None:
        if self.gone is not None:
            self.gone()


class _Private(mmap.mmap):
    kept: Any  # what it shares pages with must not be used again


_export_types: dict[int, type[Any]] = {}
_MOST_EXPORT_TYPES = 256


def export(mapping: Mapping, keep: object, gone: Callable[[], None]) -> Any:
    """Return an object whose memoryviews are the mapping's memory.

    It lives as long as it or any view of it does (slices, numpy arrays, pickled buffers), keeps
    the mapping and `keep` alive meanwhile, and calls `gone` at its end: in whatever thread that
    happens, so `gone` may only append to a deque.
    """
    kind = _export_types.get(mapping.length)
    if kind is None:
        if len(_export_types) >= _MOST_EXPORT_TYPES:
            _export_types.clear()
        kind = type("Export", (_Exported, ctypes.c_ubyte * mapping.length), {})
        _export_types[mapping.length] = kind
    exported = kind.from_address(mapping.address)
    exported.kept = (mapping, keep)
    exported.gone = gone
    return exported


def flat(buffer: Any) -> memoryview:
    """The bytes of any contiguous buffer, in memory order.

    Raises:
        BufferError: The buffer is not contiguous.
    """
    view = memoryview(buffer)
    if view.ndim == 1 and view.itemsize == 1 and view.contiguous:
        return view if view.format == "B" else view.cast("B")
    return PickleBuffer(view).raw()


def write_file(fd: int, offset: int, source: memoryview) -> None:
    """Write flat bytes at `offset`; allocates what it touches, so a full file system is ENOSPC."""
    end = source.nbytes
    at = 0
    while at < end:
        at += os.pwrite(fd, source[at : at + _WRITE_CHUNK], offset + at)
