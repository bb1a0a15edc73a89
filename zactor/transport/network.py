"""ZeroMQ sockets for tcp as zactor uses them: a bound ROUTER to receive, a DEALER a peer to send.

This is the only package that imports zmq. Connections within a machine are `local`'s. A
`SendingSocket` never reconnects by itself (RECONNECT_IVL=-1): libzmq would silently lose what was in
the pipe, and a ROUTER reads an old and a new pipe in turns. When its connection is gone, its pipe is
gone, and every send says so.

Does not know messages, links or peers.
"""

from __future__ import annotations

import os
import socket as sockets
from typing import TYPE_CHECKING

import zmq

from zactor.transport.context import context, inboxes
from zactor.transport.curve import client_options, server_options
from zactor.transport.limits import BACKLOG, MAX_MESSAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.transport.curve import Keys

HEARTBEAT_MS = 2_000
HEARTBEAT_TIMEOUT_MS = 6_000

# From here on a frame is not copied between Python's memory and libzmq's: a quarter of a second a
# gigabyte at either end. Below it, what libzmq needs to give it back is dearer.
LARGE = 512 << 10

_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.RCVMORE)
_SNDMORE = int(zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_POLLOUT = int(zmq.POLLOUT)


class ReceivingSocket:
    """The ROUTER of a process, bound to tcp. Used by one thread at a time: the one that leads.

    Attributes:
        fd: Readable when something arrives while nothing was left; see `receive`.
        on_arrival: Told when something has arrived that the descriptor will not tell of, since
            sending has used up its edge. Whoever sends sets it.
    """

    def __init__(self) -> None:
        self._socket = context().socket(zmq.ROUTER)
        inboxes.add(id(self))
        self._socket.set_hwm(0)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        # 100 is libzmq's default: a connect beyond it fails in silence.
        self._socket.setsockopt(zmq.BACKLOG, BACKLOG)
        self._receive = super(zmq.Socket, self._socket).recv
        self._get = self._socket.get
        self.on_arrival: Callable[[], None] = _nobody
        self.fd: int = self._socket.getsockopt(zmq.FD)  # type: ignore[assignment]

    def bind_tcp(self, host: str, keys: Keys, port: int = 0) -> str:
        """Bind tcp with CURVE; return the endpoint. The allow-list must be in force already.

        Raises:
            OSError: The host is none of this machine's, or the port is taken.
        """
        server_options(self._socket, keys)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        try:
            self._socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise OSError(error.errno, f"cannot listen at {host}:{port}: {reason}") from None
        endpoint = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return endpoint.rstrip(b"\0").decode()

    def receive(self) -> tuple[bytes, bytes, Sequence[bytes]] | None:
        """Return `(sender's routing id, first frame, further frames)`, or None if there is none.

        The file descriptor `fd` becomes readable again only after None was returned: callers
        must drain (ZeroMQ's ZMQ_FD is edge-triggered).
        """
        # Plain ints, not pyzmq's enums: 1.2 us a message instead of 1.9. Asking for EVENTS first
        # costs 0.3 us; finding out by zmq.Again costs 6.
        if not self._get(_EVENTS) & _POLLIN:  # type: ignore[operator]
            return None
        receive = self._receive
        source = receive(_NOBLOCK)
        first = receive(_NOBLOCK)  # a ROUTER's message always has a frame after the routing id
        if not self._get(_MORE):
            return source, first, ()
        frames: list[bytes] = []
        while True:
            frame = self._socket.recv(_NOBLOCK, copy=False)
            frames.append(_content(frame))
            if not frame.more:
                return source, first, frames

    def send(self, route: bytes, frames: Sequence[bytes]) -> bool:
        """Answer over the connection a message came on (NAT); say whether it still exists."""
        try:
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self._socket.send_multipart((route, *frames), zmq.NOBLOCK)
        except zmq.ZMQError:
            is_sent = False
        else:
            is_sent = True
        # Sending takes libzmq's word of what has arrived off the descriptor. A connection that is
        # known to hold something is not spoken of again, however much more comes.
        if not self._socket.closed and self._get(_EVENTS) & _POLLIN:  # type: ignore[operator]
            self.on_arrival()
        return is_sent

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)
        inboxes.discard(id(self))


def _content(frame: zmq.Frame) -> bytes:
    # A memoryview is as good as bytes to whoever gets one: it is only looked at.
    return frame.bytes if len(frame) < LARGE else frame.buffer.toreadonly()  # type: ignore[return-value]


class SendingSocket:
    """One connection to one peer's inbox. Guarded by the lock of whoever owns it."""

    __slots__ = ("_send", "_socket", "fd", "on_arrival", "probe")
    tells_its_end = False

    def __init__(self, endpoint: str, keys: Keys | None) -> None:
        """Connect to a tcp endpoint.

        Raises:
            OSError: Not even an attempt is possible.
        """
        # A bare connection beside a tcp one: it says at once if nobody listens, which libzmq does
        # not when reconnection is off. For the owner to watch (`TcpProbe.failure`) and close.
        self.probe: TcpProbe | None = TcpProbe(endpoint)
        try:
            made = _connected(endpoint, keys)
        except zmq.ZMQError as error:  # there are no descriptors left, or the process ends
            self.probe.close()
            raise OSError(error.errno, f"{endpoint}: {error.strerror}") from None
        self._socket = made
        # Past pyzmq's Python layer, which looks for options that we do not use: 0.5 us.
        self._send = super(zmq.Socket, made).send
        # For a connection that is answered over: told when something arrived that the
        # descriptor will not tell of, since this process's own use of it has used up its edge.
        self.on_arrival: Callable[[], None] | None = None
        self.fd: int = made.getsockopt(zmq.FD)  # type: ignore[assignment]

    def send(self, first: bytes, frames: Sequence[bytes]) -> bool:
        """Send without blocking; False means that the connection is gone."""
        try:
            if not frames:
                self._send(first, _NOBLOCK)
            else:
                for frame in (first, *frames[:-1]):
                    self._send_part(frame, _NOBLOCK | _SNDMORE)
                self._send_part(frames[-1], _NOBLOCK)
        except zmq.ZMQError:
            return False
        if self.on_arrival is not None and self._socket.get(_EVENTS) & _POLLIN:  # type: ignore[operator]
            self.on_arrival()
        return True

    def _send_part(self, frame: bytes, flags: int) -> None:
        # Only what nobody can change may be left where it is until libzmq has sent it.
        stays = len(frame) >= LARGE and type(frame) is bytes
        self._socket.send(frame, flags, copy=not stays)

    def receive(self) -> tuple[bytes, Sequence[bytes]] | None:
        """Return what came back over the connection, or None: `(first frame, further frames)`."""
        try:
            if not self._socket.get(_EVENTS) & _POLLIN:  # type: ignore[operator]
                return None
            first, *frames = self._socket.recv_multipart(_NOBLOCK)
        except zmq.ZMQError:
            return None
        return first, frames

    def is_connected(self) -> bool:
        """Whether the pipe still exists (also true while the connection is being made)."""
        try:
            events: int = self._socket.get(_EVENTS)  # type: ignore[assignment]
        except zmq.ZMQError:
            return False
        if events & _POLLIN and self.on_arrival is not None:  # asking uses up the edge, too
            self.on_arrival()
        return bool(events & _POLLOUT)

    def close(self, *, linger: float) -> None:
        """Close, giving what is queued `linger` seconds to leave."""
        if self.probe is not None:
            self.probe.close()
        self._socket.close(int(linger * 1000))


def _connected(endpoint: str, keys: Keys | None) -> zmq.Socket[bytes]:
    made = context().socket(zmq.DEALER)
    try:
        made.set_hwm(0)
        made.setsockopt(zmq.RECONNECT_IVL, -1)
        made.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            client_options(made, keys)
        made.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        made.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        made.connect(endpoint)
    except zmq.ZMQError:
        made.close(0)
        raise
    return made


class ReturnRoute:
    """Answers over the connection that a peer made to our inbox, like a `SendingSocket`.

    For loops of one thread only: the inbox is theirs. That the connection is gone shows when
    something is sent.
    """

    __slots__ = ("_inbox", "_route", "fd", "probe")
    tells_its_end = True

    def __init__(self, inbox: ReceivingSocket, route: bytes) -> None:
        self._inbox = inbox
        self._route = route
        self.fd = -1
        self.probe = None

    def send(self, first: bytes, frames: Sequence[bytes]) -> bool:
        """Send without blocking; False means that the connection is gone."""
        return self._inbox.send(self._route, (first, *frames))

    def is_connected(self) -> bool:
        """Whether it is not known to be gone."""
        return True

    def close(self, *, linger: float) -> None:
        """Forget the route; the connection is the peer's."""


def _nobody() -> None:
    """Who never sends over its inbox misses nothing."""


class TcpProbe:
    """A bare tcp connection that is being made, to find out why it cannot be."""

    __slots__ = ("_socket", "endpoint", "fd")

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        host = host.strip("[]")
        family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
        self._socket = sockets.socket(family, sockets.SOCK_STREAM | sockets.SOCK_NONBLOCK)
        self.fd = self._socket.fileno()
        try:
            self._socket.connect((host, int(port)))
        except BlockingIOError:
            pass
        except OSError as error:
            self._socket.close()
            raise ConnectionRefusedError(f"{endpoint}: {error.strerror or error}") from error

    def failure(self) -> str:
        """Why the connection could not be made; "" if it could. Once `fd` is writable."""
        number = self._socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_ERROR)
        return os.strerror(number).lower() if number else ""

    def close(self) -> None:
        """Close it."""
        self._socket.close()
