"""A proxy between two processes that cuts, delays, doubles and truncates what passes, on a seed.

It listens at an endpoint of its own and passes bytes on to the endpoint of an inbox. A link is led
through it by giving the other side an address with the proxy's endpoint in it. On the way to the
inbox it knows ZeroMQ's framing, so that it can double a whole message or cut one in its middle.
Messages of one connection never overtake each other: no transport that zactor uses does that.

Does not look inside messages, and cannot double what CURVE has encrypted.
"""

from __future__ import annotations

import os
import random
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

GREETING = 64  # bytes of ZMTP's greeting
MORE, LONG, COMMAND = 1, 2, 4  # flags of a ZMTP frame
CHUNK = 1 << 18


@dataclass(frozen=True)
class Faults:
    """What a proxy does to what passes, and how often. Nothing, by default.

    Attributes:
        cut: Chance, for each message, that the connection is closed after it.
        truncate: Chance that the connection is closed within it.
        double: Chance that it is passed on twice.
        delay: Seconds that a message may be late, at most.
    """

    cut: float = 0.0
    truncate: float = 0.0
    double: float = 0.0
    delay: float = 0.0


class Proxy:
    """A proxy in front of one inbox. A context manager; its thread is a daemon.

    Attributes:
        endpoint: Where it listens; what goes into the other side's address.
        passed: Messages passed on.
        faults_done: How often each fault was done, by name.
    """

    def __init__(
        self,
        target: str,
        listen: str,
        *,
        faults: Faults | None = None,
        seed: int = 0,
        knows_messages: bool = True,
    ) -> None:
        """Begin to listen.

        Args:
            target: Endpoint of the inbox, `ipc://...` or `tcp://...`.
            listen: Path of the proxy's own socket, or "tcp" for a port of the loopback.
            faults: What it does; can be changed at any time by `faults`.
            seed: Of its choices.
            knows_messages: Whether what passes is plain ZMTP; without CURVE it is.
        """
        self.target = target
        self.faults = faults or Faults()
        self.random = random.Random(seed)
        self.passed = 0
        self.faults_done = {"cut": 0, "truncate": 0, "double": 0}
        self.connected = 0  # connections made, ever
        self.knows_messages = knows_messages
        self._is_open = True
        self._is_stalled = False
        self._todo: deque[Any] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._pairs: set[_Pair] = set()
        self._listen(listen)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._stopped = False
        self._thread.start()

    def _listen(self, listen: str) -> None:
        if listen == "tcp":
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=1_000)
            self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(listen)
            self._listener.listen(1_000)
            self.endpoint = f"ipc://{listen}"
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self)

    # -- what a test does ----------------------------------------------------------------------

    def cut(self) -> None:
        """Close all connections; new ones are accepted. Returns once that is done."""
        self._do(self._cut)

    def _cut(self) -> None:
        for pair in list(self._pairs):
            pair.close()

    def part(self) -> None:
        """Close all connections, and each new one at once, until `heal`."""

        def do() -> None:
            self._is_open = False
            for pair in list(self._pairs):
                pair.close()

        self._do(do)

    def stall(self) -> None:
        """Pass nothing on, and close nothing, until `heal`."""
        self._do(lambda: setattr(self, "_is_stalled", True))

    def heal(self) -> None:
        """Undo `part` and `stall`, and do no more faults."""

        def do() -> None:
            self._is_open = True
            self._is_stalled = False
            self.faults = Faults()

        self._do(do)

    def close(self) -> None:
        """End it, with all its connections."""
        self._stopped = True
        self._wake()
        self._thread.join(5)
        for pair in list(self._pairs):
            pair.close()
        self._selector.close()
        self._listener.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _do(self, what: Any) -> None:
        done = threading.Event()
        self._todo.append((what, done))
        self._wake()
        done.wait(5)

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    # -- its thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            timeout = self._timeout()
            for key, events in self._selector.select(timeout):
                if key.data is None:
                    with suppress(BlockingIOError):
                        os.read(self._wake_read, 4_096)
                elif key.data is self:
                    self._accept()
                else:
                    key.data.ready(key.fileobj, events)
            while self._todo:
                what, done = self._todo.popleft()
                what()
                done.set()
            if not self._is_stalled:
                for pair in list(self._pairs):
                    pair.pass_on()

    def _timeout(self) -> float | None:
        if self._is_stalled:
            return None
        due = [pair.due for pair in self._pairs if pair.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            client, _ = self._listener.accept()
            if not self._is_open:
                client.close()
                return
            try:
                inbox = _connect(self.target)
            except OSError:
                client.close()
                return
            self.connected += 1
            self._pairs.add(_Pair(self, client, inbox))


class _Pair:
    """One connection through the proxy: to the inbox with faults, back without."""

    def __init__(self, proxy: Proxy, client: socket.socket, inbox: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.inbox = inbox
        self._arrived = bytearray()  # from the client, not yet a message
        self._late: deque[tuple[float, bytes, bool]] = (
            deque()
        )  # when due, what, and whether to close
        self._out: dict[socket.socket, bytearray] = {client: bytearray(), inbox: bytearray()}
        self._ungreeted = GREETING  # bytes of the greeting that have not come yet
        self._ends = False  # nothing more is taken from the client
        self._closes = False  # once what goes to the inbox has left
        self._last = 0.0
        self.is_closed = False
        for sock in (client, inbox):
            sock.setblocking(False)
            proxy._selector.register(sock, selectors.EVENT_READ, self)

    @property
    def due(self) -> float | None:
        return self._late[0][0] if self._late else None

    def ready(self, sock: Any, events: int) -> None:
        if self.is_closed:
            return
        if events & selectors.EVENT_WRITE:
            self._write(sock)
        if not events & selectors.EVENT_READ:
            return
        try:
            data = sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if sock is self.inbox:
                self.close()
            else:  # what it sent before still arrives
                self._late.append((self._last, b"", True))
                self.proxy._selector.unregister(sock)
        elif sock is self.inbox:
            self._send(self.client, data)
        else:
            self._arrived += data
            self._take_messages()

    def _take_messages(self) -> None:
        if not self.proxy.knows_messages:
            self._plan(bytes(self._arrived), is_message=True)
            self._arrived.clear()
            return
        if self._ungreeted:  # passed on as it comes: each side waits for the other's first half
            greeting = bytes(self._arrived[: self._ungreeted])
            self._plan(greeting, is_message=False)
            del self._arrived[: len(greeting)]
            self._ungreeted -= len(greeting)
        while not self._ends and (found := _message_size(self._arrived)) is not None:
            size, is_command = found
            self._plan(bytes(self._arrived[:size]), is_message=not is_command)
            del self._arrived[:size]

    def _plan(self, data: bytes, *, is_message: bool) -> None:
        proxy = self.proxy
        choose, faults = proxy.random.random, proxy.faults
        now = time.monotonic()
        self._last = max(self._last, now + (choose() * faults.delay if faults.delay else 0.0))
        if is_message:
            proxy.passed += 1
            if choose() < faults.truncate:
                proxy.faults_done["truncate"] += 1
                self._ends = True
                cut = data[: proxy.random.randrange(len(data))]
                self._late.append((self._last, cut, True))
                return
            if choose() < faults.double and proxy.knows_messages:
                proxy.faults_done["double"] += 1
                data += data
            if choose() < faults.cut:
                proxy.faults_done["cut"] += 1
                self._ends = True
                self._late.append((self._last, data, True))
                return
        self._late.append((self._last, data, False))

    def pass_on(self) -> None:
        """Send what is due."""
        now = time.monotonic()
        while not self.is_closed and self._late and self._late[0][0] <= now:
            _, data, ends = self._late.popleft()
            self._closes = ends
            self._send(self.inbox, data)

    def _send(self, sock: socket.socket, data: bytes) -> None:
        out = self._out[sock]
        out += data
        if len(out) == len(data):
            self._write(sock)

    def _write(self, sock: socket.socket) -> None:
        out = self._out[sock]
        try:
            while out:
                del out[: sock.send(out[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if not out and self._closes and sock is self.inbox:
            self.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if out else 0)
        with suppress(KeyError):
            self.proxy._selector.modify(sock, events, self)

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self.proxy._pairs.discard(self)
        for sock in (self.client, self.inbox):
            with suppress(KeyError, ValueError):
                self.proxy._selector.unregister(sock)
            sock.close()


def _message_size(data: bytearray) -> tuple[int, bool] | None:
    """Return the size of the message or command that `data` begins with, or None if it is cut off."""
    at = 0
    while True:
        if len(data) < at + 2:
            return None
        flags = data[at]
        if flags & LONG:
            if len(data) < at + 9:
                return None
            size = 9 + int.from_bytes(data[at + 1 : at + 9], "big")
        else:
            size = 2 + data[at + 1]
        at += size
        if len(data) < at:
            return None
        if not flags & MORE:
            return at, bool(flags & COMMAND)


def _connect(endpoint: str) -> socket.socket:
    kind, _, place = endpoint.partition("://")
    if kind == "ipc":
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(place)
        except OSError:
            made.close()
            raise
        return made
    host, _, port = place.rpartition(":")
    return socket.create_connection((host, int(port)))
