"""The control lane: framed messages over the socketpair between a worker and its node.

Each message is a msgpack list behind a 4-byte big-endian length, on a Unix stream socket (a
sequenced-packet socket would refuse a message larger than its buffer, and an actor's spec can
be). Both ends use this class; it knows nothing of what the messages mean.

Invariants
    L1  Messages arrive whole, once and in order, or the lane is closed.
    L2  `send` never blocks unless asked to; what the socket does not take waits here.
"""

from __future__ import annotations

import socket
from select import POLLOUT, poll
from struct import Struct
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGE_LIMIT = 64 * 1024 * 1024
"""A longer message is refused: the other end is not what it should be."""

_READ = 256 * 1024
_length = Struct(">I")


class LaneClosedError(Exception):
    """The other end of the lane is closed, or sent what is no message."""


class Lane:
    """One end of a control lane. Any thread may send; one thread receives."""

    __slots__ = ("_incoming", "_lock", "_outgoing", "socket")

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._lock = Lock()
        self._incoming = bytearray()
        self._outgoing = bytearray()

    @classmethod
    def pair(cls) -> tuple[Lane, socket.socket]:
        """Make a lane; return this end, and the other end's bare socket to hand on."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(here), there

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self.socket.fileno()

    @property
    def is_pending(self) -> bool:
        """Whether `flush` has something left to do."""
        return bool(self._outgoing)

    def send(self, message: Sequence[Any], *, wait: bool = False) -> None:
        """Send one message after those before it.

        With `wait` the call returns when the socket has taken it (a worker's way); without, what
        the socket does not take now is kept for `flush` (the node's way).

        Raises:
            LaneClosedError: The other end is gone.
        """
        body = msgpack.packb(message, use_bin_type=True)
        with self._lock:
            self._outgoing += _length.pack(len(body))
            self._outgoing += body
            self._write()
            while wait and self._outgoing:
                waiter = poll()
                waiter.register(self.socket, POLLOUT)
                waiter.poll()
                self._write()

    def flush(self) -> None:
        """Send what is pending, as far as the socket takes it."""
        with self._lock:
            self._write()

    def receive(self) -> list[list[Any]]:
        """Return the whole messages that have arrived; [] if none. Never blocks.

        Raises:
            LaneClosedError: The other end is closed, and all it sent was returned before; or it
                sent garbage.
        """
        closed = False
        while True:
            try:
                chunk = self.socket.recv(_READ)
            except BlockingIOError:
                break
            except OSError:
                closed = True
                break
            if not chunk:
                closed = True
                break
            self._incoming += chunk
            if len(chunk) < _READ:
                break
        messages = self._take_whole()
        if closed and not messages:
            raise LaneClosedError("closed by the other end")
        return messages

    def close(self) -> None:
        """Close this end."""
        self.socket.close()

    def _write(self) -> None:
        while self._outgoing:
            try:
                sent = self.socket.send(self._outgoing)
            except BlockingIOError:
                return
            except OSError as error:
                self._outgoing.clear()
                raise LaneClosedError(str(error)) from None
            del self._outgoing[:sent]

    def _take_whole(self) -> list[list[Any]]:
        buffer, start, messages = self._incoming, 0, []
        while len(buffer) - start >= _length.size:
            (length,) = _length.unpack_from(buffer, start)
            if length > MESSAGE_LIMIT:
                raise LaneClosedError(f"a message of {length} bytes")
            end = start + _length.size + length
            if len(buffer) < end:
                break
            messages.append(_unpack(buffer[start + _length.size : end]))
            start = end
        del buffer[:start]
        return messages


def _unpack(body: bytearray) -> list[Any]:
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise LaneClosedError(f"garbage: {error}") from None
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise LaneClosedError("garbage: not a message")
    return message
