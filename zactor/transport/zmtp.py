"""ZMTP 3.0 with the NULL mechanism, as bytes: the greeting, commands, and the framing of messages.

What libzmq's DEALER and ROUTER speak over `ipc://` (https://rfc.zeromq.org/spec/23/). A message is
one or more frames; a frame is a byte of flags, its size in 1 or 8 bytes (big endian), and its body.

Knows no sockets.

Invariants
    Z1  What `encode` gives is read back by a `Decoder` as the same frames, however it is cut up.
    Z2  A decoder keeps no more than one message of at most `limit` bytes.
    Z3  No input makes a decoder raise anything but ZmtpError.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence

_MORE, _LONG, _COMMAND = 1, 2, 4
_SIGNATURE = b"\xff\0\0\0\0\0\0\0\0\x7f"
GREETING = _SIGNATURE + b"\3\0" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
"""Signature, version 3.0, mechanism, not as-server, filler: 64 bytes."""

_SHORT_HEADERS = [bytes((0, size)) for size in range(256)]
_SHORT_HEADERS_MORE = [bytes((_MORE, size)) for size in range(256)]
READ = 65_536  # bytes that a connection reads at once
MAPPED = 256 << 10  # from here on what is to come gets pages only as it comes


class ZmtpError(Exception):
    """The other side does not speak what this module does, or more of it than is allowed."""


def _command(name: bytes, body: bytes) -> bytes:
    named = bytes((len(name),)) + name + body
    return bytes((_COMMAND, len(named))) + named


def opening(socket_type: bytes) -> bytes:
    """Return what a side sends before its first message: greeting and READY."""
    ready = b""
    for name, value in ((b"Socket-Type", socket_type), (b"Identity", b"")):
        ready += bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value
    return GREETING + _command(b"READY", ready)


def header(size: int) -> bytes:
    """Return what stands before the last frame of a message."""
    return _SHORT_HEADERS[size] if size < 256 else b"\2" + size.to_bytes(8, "big")


def encode(first: bytes, frames: Sequence[bytes]) -> list[bytes]:
    """Return a message of several frames as pieces to be sent one after the other."""
    pieces: list[bytes] = []
    for frame in (first, *frames[:-1]):
        size = len(frame)
        if size < 256:
            pieces.append(_SHORT_HEADERS_MORE[size])
        else:
            pieces.append(b"\3" + size.to_bytes(8, "big"))
        pieces.append(frame)
    pieces.append(header(len(frames[-1])))
    pieces.append(frames[-1])
    return pieces


def _room(size: int) -> bytearray | mmap.mmap:
    # Python clears a bytearray, and so has all of it at once: who only said that much would come, on a
    # few connections, would have used up the memory.
    if size < MAPPED:
        return bytearray(size)
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise ZmtpError(f"a message of {size} bytes, for which there is no memory") from error


class Decoder:
    """What has come over one connection, taken apart.

    `deliver(first frame, further frames)` is called for each message, in order.
    """

    __slots__ = ("_deliver", "_filled", "_filling", "_flags", "_greeted", "_limit", "_parts",
                 "_parts_size", "_ready", "_rest")  # fmt: skip

    def __init__(self, deliver: Callable[[bytes, Sequence[bytes]], None], limit: int) -> None:
        self._deliver = deliver
        self._limit = limit
        self._rest = b""  # the beginning of what has not come whole
        self._greeted = False
        self._ready = False
        self._parts: list[bytes] = []  # frames of a message whose last has not come
        self._parts_size = 0
        self._filling: bytearray | mmap.mmap | None = None  # a large frame that is on its way
        self._filled = 0
        self._flags = 0

    @property
    def target(self) -> memoryview | None:
        """Where the next bytes may be read to at once, past `feed`; then call `filled`."""
        if self._filling is None:
            return None
        return memoryview(self._filling)[self._filled :]

    def filled(self, size: int) -> None:
        """`size` bytes were read to `target`."""
        assert self._filling is not None
        self._filled += size
        if self._filled == len(self._filling):
            frame = bytes(self._filling)
            self._filling = None
            self._frame(self._flags, frame)

    def feed(self, data: bytes) -> None:
        """Take bytes that came while there is no `target`.

        Raises:
            ZmtpError: See the class.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at = 0
        if not self._greeted:
            at = self._greeting(data)
            if not at:
                return
        end = len(data)
        while end - at >= 2:
            flags = data[at]
            if flags & _LONG:
                if end - at < 9:
                    break
                begin = at + 9
                size = int.from_bytes(data[at + 1 : begin], "big")
            else:
                begin = at + 2
                size = data[at + 1]
            stop = begin + size
            if stop > end:
                if size > READ:
                    self._fill(flags, size, data[begin:])
                    return
                break
            at = stop
            if not flags & ~_LONG and not self._parts and self._ready:
                self._deliver(data[begin:stop], ())
            else:
                self._frame(flags, data[begin:stop])
        if at < end:
            self._rest = data[at:]

    def _greeting(self, data: bytes) -> int:
        known = data[:10]
        if (
            known[:1] != _SIGNATURE[: min(1, len(known))]
            or (len(known) == 10 and known[9] & 1 == 0)
            or (len(data) > 10 and data[10] < 3)
        ):
            raise ZmtpError("it does not greet in ZMTP 3")
        if len(data) < len(GREETING):
            self._rest = data
            return 0
        if data[12:32] != GREETING[12:32]:
            raise ZmtpError("it asks for another security mechanism than NULL")
        self._greeted = True
        return len(GREETING)

    def _fill(self, flags: int, size: int, begun: bytes) -> None:
        if not self._ready:
            raise ZmtpError("a message before READY")
        self._admit(size)
        self._flags = flags
        self._filling = _room(size)
        self._filling[: len(begun)] = begun
        self._filled = len(begun)

    def _admit(self, size: int) -> None:
        if self._parts_size + size > self._limit:
            raise ZmtpError(f"a message of more than {self._limit} bytes")

    def _frame(self, flags: int, frame: bytes) -> None:
        if flags & ~(_MORE | _LONG | _COMMAND):
            raise ZmtpError("a frame with flags that mean nothing")
        if flags & _COMMAND:
            # The first is READY. What else there may be (PING) is of later versions than we greet in.
            if not self._ready and not frame.startswith(b"\5READY"):
                raise ZmtpError("it does not say READY")
            self._ready = True
            return
        if not self._ready:
            raise ZmtpError("a message before READY")
        self._admit(len(frame))
        if flags & _MORE:
            self._parts.append(frame)
            self._parts_size += len(frame) + 64  # what a frame costs however short it is
            return
        if self._parts:
            first, *frames = self._parts
            frames.append(frame)
            self._parts = []
            self._parts_size = 0
            self._deliver(first, frames)
        else:
            self._deliver(frame, ())
