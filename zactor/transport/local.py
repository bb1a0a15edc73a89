"""Connections between processes of one machine: ZMTP over Unix sockets, without libzmq in between.

The same bytes as libzmq's `ipc://`, read and written by the thread that has to do with them: libzmq
hands every message to a thread of its own and back, which costs 3 to 4 times the round trip (see
the decision on local connections). A process that talks only to its own machine has no
ZeroMQ context, and none of its threads.

Does not know messages, links or peers.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from zactor.transport.arrivals import READABLE, WRITABLE
from zactor.transport.limits import BACKLOG, MAX_MESSAGE
from zactor.transport.zmtp import READ, Decoder, ZmtpError, encode, header, opening

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.transport.arrivals import Arrivals

SEND_BUFFER = 1 << 20  # bytes; the system may allow less
PIECES = 512  # buffers given to the kernel at once, of the 1,024 it takes
JOINED = 4_096  # bytes up to which a message is copied behind its header: dearer apart
ACCEPTS_A_TURN = 256
NO_DESCRIPTORS_PAUSE = 0.1  # seconds without accepting after there were no descriptors left

_TRANSIENT = errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM

_opening_dealer = opening(b"DEALER")
_opening_router = opening(b"ROUTER")


class LocalConnection:
    """One connected Unix socket: messages out, without blocking, and in, as they come.

    Sending is guarded by `lock`. `ready` and what it calls run on the receiving thread.

    Attributes:
        fd: Its descriptor; -1 once it is closed.
        probe: Always None; see `network.SendingSocket`.
    """

    __slots__ = ("_arrivals", "_decoder", "_is_blocked", "_is_ended", "_lock", "_on_end", "_receive",
                 "_send", "_socket", "_unsent", "fd", "probe")  # fmt: skip
    tells_its_end = True

    def __init__(
        self,
        made: socket.socket,
        arrivals: Arrivals,
        deliver: Callable[[LocalConnection, bytes, Sequence[bytes]], None],
        on_end: Callable[[LocalConnection, str], None],
        *,
        lock: Any,
        opens_with: bytes,
    ) -> None:
        """Take a connected socket over; it greets with the first message, or `flush`.

        Args:
            made: The socket, not blocking.
            arrivals: Where it is watched.
            deliver: `deliver(self, first frame, further frames)` is called for what comes.
            on_end: `on_end(self, why)` is called once when the other side is gone (`why` is "") or
                says what is not understood. It is not watched any more then, and not yet closed.
            lock: Held by whoever calls `send`, `flush` or `close`.
            opens_with: What goes out before all else.
        """
        self._socket = made
        self._arrivals = arrivals
        self._on_end = on_end
        self._lock = lock
        self._decoder: Decoder | None = Decoder(partial(deliver, self), MAX_MESSAGE)
        self._receive = made.recv
        self._send = made.send
        self._unsent: deque[memoryview] = deque([memoryview(opens_with)])
        self._is_blocked = False  # the kernel took no more when last asked
        self._is_ended = False
        self.fd = made.fileno()
        self.probe = None
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        except OSError:
            pass  # it is as large as it is
        arrivals.register(self.fd, self.ready)

    # -- out -----------------------------------------------------------------------------------

    def send(self, first: bytes, frames: Sequence[bytes]) -> bool:
        """Send without blocking; False means that the connection is gone."""
        size = len(first)
        if frames or self._unsent or size > JOINED:
            pieces = encode(first, frames) if frames else (header(size), first)
            self._unsent.extend(map(memoryview, filter(None, pieces)))
            return self.flush()
        data = header(size) + first
        try:
            sent = self._send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        if sent < len(data):
            self._unsent.append(memoryview(data)[sent:])
            self._wait_for_room(is_needed=True)
        return True

    def flush(self) -> bool:
        """Send what the kernel had no room for; False means that the connection is gone."""
        unsent = self._unsent
        while unsent:
            try:
                sent = self._socket.sendmsg(
                    list(islice(unsent, PIECES)), (), socket.MSG_NOSIGNAL
                )
            except BlockingIOError:
                self._wait_for_room(is_needed=True)
                return True
            except OSError:
                return False
            while sent:
                piece = unsent[0]
                if len(piece) > sent:
                    unsent[0] = piece[sent:]
                    break
                sent -= len(piece)
                unsent.popleft()
        self._wait_for_room(is_needed=False)
        return True

    def _wait_for_room(self, *, is_needed: bool) -> None:
        if is_needed != self._is_blocked and not self._is_ended:
            self._is_blocked = is_needed
            try:
                self._arrivals.modify(self.fd, READABLE | WRITABLE if is_needed else READABLE)
            except (OSError, ValueError):
                pass  # the receiving thread has just found that the other side is gone

    def is_connected(self) -> bool:
        """Whether it is not known to be gone."""
        return not self._is_ended

    # -- in ------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Read once, and write what had to wait."""
        decoder = self._decoder
        if decoder is None or self._is_ended:
            return
        if self._is_blocked:
            with self._lock:
                if self.fd < 0:
                    return
                is_gone = not self.flush()
            if is_gone:
                self._end("")
                return
        target = decoder.target
        try:
            if target is None:
                data = self._receive(READ)
                size = len(data)
                if size:
                    if size == READ:
                        self._arrivals.has_more = True
                    decoder.feed(data)
                    return
            else:
                size = self._socket.recv_into(target)
                if size:
                    self._arrivals.has_more = True
                    decoder.filled(size)
                    return
        except BlockingIOError:
            return
        except ZmtpError as error:
            self._end(str(error))
            return
        except MemoryError:
            self._end("a message for which there is no memory")
            return
        except OSError:
            pass  # the other side was killed
        self._end("")

    def _end(self, why: str) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._arrivals.unregister(self.fd)
            self._on_end(self, why)

    def close(self, *, linger: float = 0.0) -> None:
        """Close, giving what the kernel has no room for `linger` seconds to leave."""
        if self.fd < 0:
            return
        if not self._is_ended:
            self._is_ended = True
            self._arrivals.unregister(self.fd)
            if linger:
                self._send_all(time.monotonic() + linger)
        self.fd = -1
        self._decoder = None  # it refers back
        self._unsent.clear()
        self._socket.close()

    def _send_all(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while self.flush() and self._unsent:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return


class LocalListener:
    """Where processes of this machine connect to. Used on the receiving thread.

    Attributes:
        connections: Those that were made and have not ended.
    """

    def __init__(
        self,
        path: str,
        arrivals: Arrivals,
        deliver: Callable[[LocalConnection, bytes, Sequence[bytes]], None],
        *,
        on_refused: Callable[[str], None],
        call_later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        """Listen at `path`; the directory's mode keeps strangers out.

        Args:
            path: A socket file that is there already is taken for a dead process's.
            arrivals: Where it and its connections are watched.
            deliver: See `LocalConnection`.
            on_refused: `on_refused(why)` is called when a stranger is cut off.
            call_later: `call_later(seconds, callback)`, on the receiving thread.

        Raises:
            OSError: It is not possible, and why.
        """
        self._arrivals = arrivals
        self._deliver = deliver
        self._on_refused = on_refused
        self._call_later = call_later
        self.connections: set[LocalConnection] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            self._socket.bind(path)
            # A thousand actors answer their creator at once.
            self._socket.listen(BACKLOG)
        except OSError as error:
            self._socket.close()
            raise OSError(
                error.errno, f"cannot listen at {path}: {error.strerror or error}"
            ) from None
        self._arrivals.register(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                made, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _TRANSIENT:
                    self._pause()
                return
            self._arrivals.has_more = True  # its messages
            made.setblocking(False)
            connection = LocalConnection(
                made,
                self._arrivals,
                self._deliver,
                self._ended,
                lock=threading.Lock(),
                opens_with=_opening_router,
            )
            self.connections.add(connection)
            connection.flush()
            connection.ready()

    def _pause(self) -> None:
        fd = self._socket.fileno()
        self._arrivals.unregister(fd)

        def go_on() -> None:
            if self._socket.fileno() >= 0:
                self._arrivals.register(fd, self._accept)

        self._call_later(NO_DESCRIPTORS_PAUSE, go_on)

    def _ended(self, connection: LocalConnection, why: str) -> None:
        self.connections.discard(connection)
        if why:
            self._on_refused(why)
        connection.close()

    def close(self) -> None:
        """Close it and all its connections; its file stays."""
        fd = self._socket.fileno()
        if fd >= 0:
            self._arrivals.unregister(fd)
            self._socket.close()
        while self.connections:
            self.connections.pop().close()


def connect(
    path: str,
    arrivals: Arrivals,
    deliver: Callable[[LocalConnection, bytes, Sequence[bytes]], None],
    on_end: Callable[[LocalConnection, str], None],
    lock: Any,
) -> LocalConnection:
    """Connect to the process that listens at `path`.

    Raises:
        OSError: Nobody listens there, or too many connect at once.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.connect(path)
    except OSError as error:
        made.close()
        if isinstance(error, BlockingIOError):
            raise ConnectionRefusedError(f"too many connect to {path} at once") from None
        raise ConnectionRefusedError(f"nobody listens at {path}") from None
    return LocalConnection(
        made, arrivals, deliver, on_end, lock=lock, opens_with=_opening_dealer
    )
