"""The post office of a process: its inbox, and a link to each process it talks to.

Every process has one `Post`. Any thread may send. One thread at a time receives (the leader, see
`reception`, or the loop of a broker or node): it calls `drain`, which takes what has arrived,
keeps order and drops duplicates by the link's numbers, and hands each message to the handler of
its kind. Handlers run on that thread, must not block, and must not run user code.

zactor reconnects by itself: when a peer's connection is gone, a fresh socket is made, the first
message on it is a hello, and what the peer's welcome does not claim to have is sent again.
Whether a peer is *dead* is not decided here; `lost` handlers are told that it cannot be reached.

Owned by:
    inbox             the receiving thread (binding: under `_inbox_lock`)
    peers             added to under `_peers_lock`, read anywhere
    Peer.wire, .link  under `Peer.lock`
"""

from __future__ import annotations

import heapq
import os
import select
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from zactor.core.link import DUPLICATE, NEXT, Link
from zactor.exceptions import ProtocolError, ZactorSystemError, from_wire
from zactor.runtime.interrupts import protect_module
from zactor.transport.sockets import (
    ReceivingSocket,
    ReturnRoute,
    SendingSocket,
    close_context,
    context,
    most_connections,
)
from zactor.wire.codec import (
    ACK,
    FIRST_CONTROL,
    HELLO,
    HOP_LOST,
    REFUSED,
    VERSION,
    WELCOME,
    hello_of_other_version,
    pack,
    pack_control,
    unpack_control,
    unpack_envelope,
    unpackb,
)
from zactor.wire.messages import Address, Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.transport.curve import AllowList, Keys

Handler = "Callable[[Peer, Any, Sequence[bytes]], None]"

HELLO_TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.0  # for the tcp connection alone
ACK_DELAY = 0.03  # how long an acknowledgement may wait for a message to travel on
# Between attempts to reconnect. The fourth goes on for about ten seconds, so that it flows again
# within 0.2 s of healing; then comes the last, for ever.
RETRY_DELAYS = (0.0, 0.01, 0.03, 0.05, 1.0)
RETRIES = 200
LOST_AFTER = 2  # failed attempts until the `lost` handlers are told (and told again at each)
GAP_AGAIN = 0.05  # seconds until what is missing is asked for again
LOOK_AFTER = 0.1  # seconds after a connection was used
REST_AFTER = 0.05  # seconds; while there are too many connections, how often idle ones are closed
MESSAGES_A_TURN = 256

FRESH, GREETING, UP, BROKEN, CLOSED = range(5)


class Peer:
    """Another process, as seen from this one: its address, its link, the connection to it."""

    __slots__ = (
        "address",
        "attempts",
        "calls",
        "channels",
        "deadline",
        "fd",
        "gap",
        "greeted",
        "heard",
        "id",
        "is_looked_at",
        "is_refused",
        "is_relayed",
        "is_remote",
        "is_returning",
        "link",
        "lock",
        "needs_room",
        "post",
        "reason",
        "replies",
        "route",
        "seen",
        "serving",
        "state",
        "successor",
        "was_welcome",
        "wire",
    )

    def __init__(self, post: Post, address: Address) -> None:
        self.post = post
        self.id = address.process
        self.address = address
        self.lock = threading.RLock()
        self.link = Link()
        self.wire: Any = None  # a SendingSocket, or one of `wires`
        self.fd = -1  # of the wire, while it is in the post's poll set
        self.state = FRESH
        self.attempts = 0  # failed ones since the link was last up
        self.deadline: float | None = None  # of the hello, or of the next attempt
        self.reason = ""  # why it was refused
        self.is_remote = False
        self.needs_room = False  # `calls.room()` is to be called once the link is not full
        self.gap: tuple[int, float] = (-1, 0.0)  # where one was last seen, and when
        self.seen = 0  # messages sent when it was last looked for idle connections
        self.greeted = 0  # hellos sent, ever; each has its number
        self.heard = 0  # the number of the last hello that came
        self.is_looked_at = False  # its connection will be, see Post.look_later
        self.is_refused = False  # it said no, for `reason`, and will say so again
        self.was_welcome = False  # it has answered a hello
        self.is_relayed = False  # reached through the cluster's relay, as is this process by it
        self.is_returning = (
            False  # answers come back over `wire` (the peer cannot connect to us)
        )
        self.route = b""  # in the inbox: how to answer a peer that cannot be connected to
        self.successor: Peer | None = None  # took over from it
        self.calls: Any = None  # what runtime.caller keeps per peer
        self.channels: list[Any] = []  # callee's streams by the peer's channel numbers
        self.replies: list[Any] = []  # groups of replies gathered for the peer
        self.serving: Any = None

    def transmit(self, kind: int, body: Any, frames: Sequence[bytes] = ()) -> None:
        """Number the message, keep it, and send it if the connection is there. Under `lock`."""
        link = self.link
        # Packed before it is counted: what cannot be packed leaves no gap.
        data = pack(
            (VERSION, kind, self.post.process_id, self.id, link.sent + 1, link.received, body)
        )
        size = len(data)
        if frames:
            size += sum(map(len, frames))
        if self.state == CLOSED:
            return  # the process is dead
        link.stamp((data, frames), size)
        if self.state == UP:
            if not self.is_looked_at:
                self.post.look_later(self)
            if not self.wire.send(data, frames):
                self.broken()
        elif self.state == FRESH:
            self.connect()

    def connect(self) -> None:
        """Make a connection and greet; the rest follows with the welcome. Under `lock`."""
        post = self.post
        if post.route is not None:
            post.route(self)
        if self.is_remote and post.bind_first(self):
            self.state = BROKEN
            self.deadline = post.now()
            post.wake_at(self.deadline)
            return
        self.deadline = post.now() + HELLO_TIMEOUT
        try:
            self.wire = post.wire_to(self)
        except OSError as error:
            self._failed(str(error))
            return
        first = self.state == FRESH
        self.state = GREETING
        self.greeted += 1
        post.watch(self)
        if self.wire.probe is not None:
            self.deadline = post.now() + CONNECT_TIMEOUT  # and more once it is connected
        post.look_later(self)
        if not self.wire.send(post.hello(self), ()):
            self._failed("the connection closed at once")
            return
        if first and not self.attempts:
            # Nothing can have been lost on a first connection, so what there is follows the
            # hello at once, and a first call costs one way and not three.
            self.state = UP
            self._send_unacked()
        post.wake_at(self.deadline)

    def _send_unacked(self) -> None:
        for _, (data, frames), _ in list(self.link.unacked):
            if not self.wire.send(data, frames):
                self.broken()
                return

    def broken(self) -> None:
        """The connection is gone: try again at once, then with delays. Under `lock`."""
        self._close_wire()
        if self.state != CLOSED:
            self.state = BROKEN
            delay = RETRY_DELAYS[-1 if self.attempts > RETRIES else min(self.attempts, 3)]
            self.deadline = self.post.now() + delay
            self.post.wake_at(self.deadline)
            if self.post.on_broken is not None:
                self.post.on_broken(self)

    def _failed(self, reason: str) -> None:
        self.attempts += 1
        self.reason = reason
        self.broken()
        if self.attempts >= LOST_AFTER:
            self.post.unreachable.append(self)

    def _close_wire(self, linger: float = 0.0) -> None:
        if self.wire is not None:
            self.post.unwatch(self)
            self.wire.close(linger=linger)
            self.wire = None

    def relay_failed(self) -> None:
        """The relay could not pass something on, or may have lost it. Under `lock`."""
        self._failed("the relay cannot reach it")

    def use_route(self, route: bytes) -> None:
        """Answer over the inbox's connection `route` from now on. Under `lock`."""
        self.route = route
        if self.wire is not None:
            self._close_wire()
            self.state = BROKEN

    def welcomed(self) -> None:
        """The peer has answered the hello on the present connection. Under `lock`."""
        if self.state not in (GREETING, UP):
            return
        was_greeting = self.state == GREETING
        self.attempts = 0
        self.is_refused = False
        self.was_welcome = True
        self.deadline = None
        self.state = UP
        if was_greeting:
            self._send_unacked()
            if self.post.on_back is not None:
                self.post.on_back(self)

    def begin_again(self) -> None:
        """The peer took this process for lost, and knows nothing of the link: it begins anew.

        Control messages that it may not have had are sent again, and it says what has become of
        the session. Calls and replies are not: they were part of what is lost.
        """
        with self.lock:
            if self.state == CLOSED:
                return
            unacked = [data for _, (data, _), _ in self.link.unacked]
            self._close_wire()
            self.link = Link()
            self.heard = self.attempts = 0
            self.state = BROKEN
            for data in unacked:
                envelope = unpack_envelope(data)
                if envelope[1] >= FIRST_CONTROL:
                    self.transmit(envelope[1], envelope[6])
            self.connect()

    def rest(self) -> bool:
        """Close a connection that nothing was sent over since it was last asked; the next use makes
        another. False if it is in use."""
        with self.lock:
            link = self.link
            is_idle = self.seen == link.sent and not link.unacked and not link.owes_ack
            self.seen = link.sent
            is_plain = not (self.route or self.is_returning or self.is_relayed)
            if not (is_idle and is_plain and self.state == UP and self.deadline is None):
                return False
            self._close_wire(linger=1.0)
            self.state = FRESH
            return True

    def check_connection(self) -> None:
        """Notice that the connection is gone, if it is. Called when its descriptor says so."""
        if self.is_returning:
            self._take_returned()
        with self.lock:
            if self.wire is not None and not self.wire.is_connected():
                if self.deadline is not None:  # of a hello that was not answered
                    self._failed("the connection was closed")
                else:
                    self.broken()

    def probe_ready(self) -> None:
        """The bare connection beside a tcp wire has been made or refused."""
        with self.lock:
            if self.wire is None or self.wire.probe is None:
                return
            endpoint = self.wire.probe.endpoint
            failure = self.post._end_probe(self)  # noqa: SLF001
            if not failure and self.deadline is not None:
                self.deadline = self.post.now() + HELLO_TIMEOUT
            if failure:
                self._failed(f"{endpoint}: {failure}")

    def _take_returned(self) -> None:
        while True:
            with self.lock:  # not held while messages are handled
                arrived = self.wire.receive() if self.wire is not None else None
            if arrived is None:
                return
            self.post._deliver(b"", *arrived)  # noqa: SLF001

    def due(self, now: float) -> None:
        """The deadline of a hello or of the next attempt has come."""
        with self.lock:
            if self.deadline is None or now < self.deadline:
                return
            self.deadline = None
            if self.state == BROKEN:
                self.connect()
            elif self.state in (GREETING, UP):
                self._failed(self._silence())

    def _silence(self) -> str:
        if self.wire is not None and self.wire.probe is not None:
            return f"{self.wire.probe.endpoint}: no connection within {CONNECT_TIMEOUT:g} s"
        return f"no answer to a hello within {HELLO_TIMEOUT:g} s"

    def close(self, linger: float = 0.0) -> None:
        """Forget the peer: nothing more is sent to it."""
        with self.lock:
            self.state = CLOSED
            self.deadline = None
            self._close_wire(linger)
            self.link.unacked.clear()
            self.link.unacked_bytes = 0


class Post:
    """See the module. `directory` is where the ipc inbox is made."""

    def __init__(
        self,
        process_id: bytes,
        directory: str,
        *,
        node: bytes = b"",
        machine: bytes = b"",
        keys: Keys | None = None,
        features: dict[str, Any] | None = None,
        name: str = "",
    ) -> None:
        self.process_id = process_id
        self.keys = keys
        self.features = features or {}
        self.inbox = ReceivingSocket()
        endpoint = f"ipc://{directory}/{name or process_id.hex()}"
        self.inbox.bind_ipc(endpoint)
        self.address = Address(process_id, node, machine, endpoint, "")
        self.peers: dict[bytes, Peer] = {}
        self.now = time.monotonic
        self.counters = {"refused": 0, "duplicates": 0, "gaps": 0, "wrong_destination": 0}
        self.wires = select.epoll()  # the descriptors of all wires: one entry in any poll set
        self.unreachable: deque[Peer] = deque()
        self.is_closed = False
        self.on_wake: Callable[[], None] | None = None  # a deadline came nearer; see wake_at
        self.on_broken: Callable[[Peer], None] | None = None  # told under the peer's lock
        self.on_back: Callable[[Peer], None] | None = (
            None  # it had been cut off; under its lock
        )
        self.on_moved: Callable[[Peer, Address], bool] | None = None  # see `succession`
        self.on_bound: Callable[[Address], None] | None = (
            None  # tcp was bound for an outgoing link
        )
        self.route: Callable[[Peer], None] | None = (
            None  # decides how to reach one; see `routing`
        )
        self.relay_of: Callable[[Peer], Address] | None = None
        self.host = "127.0.0.1"  # where tcp is bound when another machine is to be reached
        self.needs_network = False
        self.cannot_bind = False
        self.relay: Any = None  # takes what is for others; see `relay`
        self.max_wires = most_connections()  # from which on idle ones are closed
        self._is_resting = False
        self._by_fd: dict[int, Peer] = {}
        self._to_look_at: deque[Peer] = deque()
        self._is_looking = False
        self._probed: dict[int, Peer] = {}  # by the descriptor of their wire's probe
        self._peers_lock = threading.Lock()
        self._inbox_lock = threading.Lock()
        self._handlers: dict[int, Any] = {
            HELLO: self._hello_received,
            WELCOME: self._welcome_received,
            REFUSED: self._refused_received,
            ACK: _nothing,
            HOP_LOST: self._hop_lost,
        }
        self._checks: dict[int, Callable[[Any], bool]] = {
            WELCOME: lambda body: type(body) is dict and type(body.get("received")) is int,
            REFUSED: lambda body: type(body) is dict,
            HOP_LOST: lambda body: type(body) is list and len(body) == 2,
        }
        self._lost_handlers: list[Callable[[Peer], None]] = []
        self.requests: dict[int, tuple[Future[Any], bytes, Any]] = {}  # unanswered
        self._request_numbers = count(1)
        self._loopback: deque[tuple[int, list[Any]]] = deque()
        self._owing: dict[bytes, Peer] = {}  # peers that wait for an ack of ours
        self._ack_at: float | None = None
        self._deadline: float | None = None
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_order = count()
        self._when_drained: deque[Callable[[], None]] = deque()
        self._allow_list: AllowList | None = None
        self._self_peer = Peer(self, self.address)
        self._typed_answer()

    # -- sending -------------------------------------------------------------------------------

    def peer(self, address: Address) -> Peer:
        """Return the peer at `address`, made on first use; it is connected on first send."""
        found = self.peers.get(address.process)
        if found is not None:
            if address.tcp and not found.address.tcp:
                found.address = address
            return found
        with self._peers_lock:
            found = self.peers.get(address.process)
            if found is None:
                found = self.peers[address.process] = Peer(self, address)
                found.is_remote = address.machine != self.address.machine
        return found

    def send(self, to: Address, message: Any) -> None:
        """Send a control message: once, in order. To this process itself: in the next turn."""
        kind, body = pack_control(message)
        if to.process == self.process_id:
            self._loopback.append((kind, body))
            self.wake()
            return
        peer = self.peer(to)
        with peer.lock:
            if peer.successor is None:
                peer.transmit(kind, body)
                return
        with peer.successor.lock:
            peer.successor.transmit(kind, body)

    def request(self, to: Address, message: Any) -> Future[Any]:
        """Send a request; the future gets the answer's value, or its error.

        The message's `request` field is filled in here. The future fails with the error that
        the peer answered; it is for the caller to bound the wait.
        """
        number = next(self._request_numbers)
        future: Future[Any] = Future()
        self.requests[number] = (future, to.process, message)
        self.send(to, message._replace(request=number))
        return future

    def answer(self, to: Address, request: int, value: Any) -> None:
        """Answer a request."""
        self.send(to, Answer(request, True, value))

    def _typed_answer(self) -> None:
        def answered(peer: bytes, address: Address, message: Answer) -> None:
            entry = self.requests.pop(message.request, None)
            if entry is None:
                return
            if message.ok:
                entry[0].set_result(message.value)
            else:
                entry[0].set_exception(from_wire(message.value))

        self.on(Answer, answered)

    def fail_requests(self, process: bytes, reason: str) -> None:
        """Fail the unanswered requests to a process that will not answer any more."""
        for number, (future, to, _) in list(self.requests.items()):
            if to == process and self.requests.pop(number, None) is not None:
                future.set_exception(ZactorSystemError(reason))

    # -- receiving -----------------------------------------------------------------------------

    def on(self, message_type: type, handler: Callable[[bytes, Address, Any], None]) -> None:
        """Have `handler(peer's process id, its address, message)` called for a control message."""
        kind = pack_control.__globals__["_codes"][message_type]

        def handle(peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
            handler(peer.id, peer.address, unpack_control(kind, body))

        self._handlers[kind] = handle

    def on_kind(
        self, kind: int, handler: Any, check: Callable[[Any], bool] | None = None
    ) -> None:
        """Have `handler(peer, body, frames)` called for a data-plane kind.

        `check(body)` is asked after the handler has raised: whether that is the peer's fault or ours.
        """
        self._handlers[kind] = handler
        if check is not None:
            self._checks[kind] = check

    def on_lost(self, handler: Callable[[Peer], None]) -> None:
        """Have `handler(peer)` called, on the receiving thread, when a peer cannot be reached."""
        self._lost_handlers.append(handler)

    def drain(self) -> int:
        """Take what has arrived, up to a bound a turn; return how many messages that was.

        Zero means that the inbox is empty and its descriptor will tell of the next message.
        """
        taken = 0
        while self._loopback:
            kind, body = self._loopback.popleft()
            self._handle(self._self_peer, kind, body, ())
            taken += 1
        receive = self.inbox.receive
        while taken < MESSAGES_A_TURN:
            arrived = receive()
            if arrived is None:
                break
            taken += 1
            self._deliver(*arrived)
        return taken

    def _deliver(self, route: bytes, data: bytes, frames: Sequence[bytes]) -> None:
        # What nearly every message is, in one function: 2 to 3 us of 50, one call at a time.
        # Whatever is not so is looked at again, with all its checks.
        try:
            version, kind, source, destination, seq, ack, body = unpackb(
                data, strict_map_key=False
            )
            peer = self.peers[source]
            link = peer.link
            if (
                version != VERSION
                or destination != self.process_id
                or kind == HELLO
                or not type(seq) is type(ack) is int
                or seq != link.received + 1
            ):
                raise ValueError
        except Exception:  # noqa: BLE001 - anything can be in a message
            self._deliver_any(route, data, frames)
            return
        unacked = link.unacked
        if unacked and unacked[0][0] <= ack:
            self._acknowledged(peer, ack)
        link.received = seq
        link.bytes_since_told += len(data)
        if seq - link.told >= 64 or link.bytes_since_told >= 4 << 20:
            self.acknowledge(peer)
        elif source not in self._owing:
            self._owe(peer)
        self._handle(peer, kind, body, frames)

    def _acknowledged(self, peer: Peer, ack: int) -> None:
        link = peer.link
        with peer.lock:
            try:
                link.acknowledged(ack)
            except ProtocolError:
                self.counters["refused"] += 1
                return
            has_room = peer.needs_room and not link.is_full
            if has_room:
                peer.needs_room = False
        if has_room:
            peer.calls.room()

    def _owe(self, peer: Peer) -> None:
        self._owing[peer.id] = peer
        if self._ack_at is None:
            self._ack_at = self.now() + ACK_DELAY
            self.wake_at(self._ack_at)

    def _deliver_any(self, route: bytes, data: bytes, frames: Sequence[bytes]) -> None:
        try:
            self._deliver_checked(route, data, frames)
        except ProtocolError:
            self.counters["refused"] += 1

    def _not_for_us(
        self, route: bytes, envelope: list[Any], data: bytes, frames: Sequence[bytes]
    ) -> None:
        if self.relay is not None and self.relay.forward(envelope, data, frames):
            return
        self.counters["wrong_destination"] += 1
        if envelope[1] == HELLO:
            text = "another process listens at this address now"
            self._refuse(route, envelope, text, successor=self.address)

    def _deliver_checked(self, route: bytes, data: bytes, frames: Sequence[bytes]) -> None:
        try:
            envelope = unpack_envelope(data)
        except ProtocolError:
            self.counters["refused"] += 1
            self._answer_other_version(route, data)
            return
        _, kind, source, destination, seq, ack, body = envelope[:7]
        if destination != self.process_id:
            self._not_for_us(route, envelope, data, frames)
            return
        if kind == HELLO:
            self._hello_received_from(source, envelope, route)
            return
        peer = self.peers.get(source)
        if peer is None:
            self.counters["refused"] += 1  # nobody speaks before a hello
            return
        link = peer.link
        if link.unacked:
            self._acknowledged(peer, ack)
        if seq:
            verdict = link.arrived(seq, len(data))
            if verdict != NEXT:
                self._out_of_sequence(peer, verdict)
                return
            if link.wants_ack:
                self.acknowledge(peer)
            elif source not in self._owing:
                self._owe(peer)
        self._handle(peer, kind, body, frames)

    def _handle(self, peer: Peer, kind: int, body: Any, frames: Sequence[bytes]) -> None:
        handler = self._handlers.get(kind)
        if handler is None:
            self.counters["refused"] += 1
            return
        try:
            handler(peer, body, frames)
        except ProtocolError:
            self.counters["refused"] += 1
        except Exception:  # noqa: BLE001 - a peer's message must never end the receiving thread
            self.counters["refused"] += 1
            check = self._checks.get(kind)
            if check is None or check(body):
                report_bug(f"handling a message of kind {kind}")

    def _out_of_sequence(self, peer: Peer, verdict: int) -> None:
        if verdict == DUPLICATE:
            self.counters["duplicates"] += 1
            return
        self.counters["gaps"] += 1
        now = self.now()
        where, when = peer.gap
        if where == peer.link.received and now - when < GAP_AGAIN:
            return  # asked for; each answer is all that is unacknowledged
        peer.gap = peer.link.received, now
        with peer.lock:  # what is missing is still unacknowledged there: ask for it
            self._send_raw(peer, WELCOME, {**self._greeting(peer), "again": True})

    def acknowledge(self, peer: Peer) -> None:
        """Tell a peer what has arrived, without waiting for a message to carry it."""
        with peer.lock:
            if peer.link.owes_ack and peer.state == UP:
                peer.link.ack_sent()
                self._send_raw(peer, ACK, None)

    def _send_raw(self, peer: Peer, kind: int, body: Any) -> None:
        if peer.wire is None:
            return
        data = pack((VERSION, kind, self.process_id, peer.id, 0, peer.link.received, body))
        self.look_later(peer)
        if not peer.wire.send(data, ()):
            peer.broken()

    # -- greeting ------------------------------------------------------------------------------

    def _greeting(self, peer: Peer) -> dict[str, Any]:
        greeting = {
            "address": list(self.address),
            "versions": [VERSION, VERSION],
            "python": list(sys.version_info[:3]),
            "received": peer.link.received,
            "number": peer.greeted,
            "heard": peer.heard,
            "features": self.features,
        }
        if peer.is_returning:
            greeting["return"] = "link"
        if peer.is_relayed:
            greeting["relayed"] = True
        return greeting

    def hello(self, peer: Peer) -> bytes:
        """The first message on every connection."""
        received = peer.link.received
        envelope: tuple[Any, ...] = (
            VERSION, HELLO, self.process_id, peer.id, 0, received, self._greeting(peer),
        )  # fmt: skip
        if peer.is_relayed:
            envelope += ({"to": list(peer.address)},)
        return pack(envelope)

    def _hello_received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        raise AssertionError("hellos are taken before the link is known")

    def _hello_received_from(self, source: bytes, envelope: list[Any], route: bytes) -> None:
        body = envelope[6]
        try:
            address = Address._make(body["address"])
            received = int(body["received"])
            python = list(body["python"])
        except (TypeError, KeyError, ValueError):
            self.counters["refused"] += 1
            return
        if address.process != source:
            self.counters["refused"] += 1
            return
        if python[:2] != list(sys.version_info[:2]):
            mine = ".".join(map(str, sys.version_info[:2]))
            self._refuse(
                route,
                envelope,
                f"this cluster runs Python {mine} and the caller Python "
                f"{'.'.join(map(str, python[:2]))}: pickles would not be understood",
            )
            return
        peer = self.peer(address)
        with peer.lock:
            if peer.state == CLOSED:
                return
            if received > peer.link.sent:
                text = (
                    "this process was told that the other is lost, and has forgotten the link"
                )
                self._refuse(route, envelope, text, is_forgotten=True)
                return
            peer.link.acknowledged(received)
            peer.heard = body.get("number", 0)
            if body.get("relayed") and peer.state != UP:
                peer.is_relayed = True
            elif body.get("return") == "link" and peer.route != route:
                peer.use_route(route)
            if peer.state in (FRESH, BROKEN):
                peer.connect()  # with a hello that says what was heard: it is the answer, too
            else:
                self._send_raw(peer, WELCOME, self._greeting(peer))
            if body.get("heard") == peer.greeted:
                peer.welcomed()

    def _welcome_received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        with peer.lock:
            peer.link.acknowledged(int(body["received"]))
            if body.get("again") and peer.state == UP:
                peer._send_unacked()  # noqa: SLF001
            # An answer to the hello on a connection that is gone says nothing about this one.
            if body.get("heard") == peer.greeted:
                peer.welcomed()

    def _refuse(
        self,
        route: bytes,
        hello: list[Any],
        reason: str,
        *,
        successor: Address | None = None,
        version: int = VERSION,
        is_forgotten: bool = False,
    ) -> None:
        """Say no to a hello, as the process it was meant for and in the version it speaks."""
        try:
            body = hello[6]
            address = Address._make(body["address"])
            refusal = {
                "reason": reason,
                "address": list(successor) if successor else None,
                "forgotten": is_forgotten,
            }
            data = pack((version, REFUSED, hello[3], address.process, 0, 0, refusal))
            if body.get("return") == "link":
                self.inbox.send(route, (data,))
                return
            wire = SendingSocket(self.endpoint_of(address), self.keys)
        except (TypeError, KeyError, AttributeError, OSError):
            return
        wire.send(data, ())
        wire.close(linger=1.0)

    def _answer_other_version(self, route: bytes, data: bytes) -> None:
        # What a hello and a refusal begin with is the same in every version.
        version, hello = hello_of_other_version(data)
        if hello is not None:
            text = (
                f"it speaks wire version {version}, and this process {VERSION}: use one zactor"
            )
            self._refuse(route, hello, text, version=version)

    def _refused_received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        successor = body.get("address")
        if successor and self.on_moved is not None and self.on_moved(peer, Address(*successor)):
            return
        if body.get("forgotten"):
            peer.begin_again()
            return
        with peer.lock:
            peer.attempts = max(peer.attempts, LOST_AFTER)
            peer.reason = str(body.get("reason"))
            peer.is_refused = True
            peer.broken()
        self.unreachable.append(peer)

    def _hop_lost(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        destination, source = body
        if source != self.process_id:
            if self.relay is not None:
                self.relay.pass_loss(source, destination)
            return
        lost = self.peers.get(destination)
        if lost is not None:
            with lost.lock:
                if lost.is_relayed and lost.state in (GREETING, UP):
                    lost.relay_failed()

    # -- time and descriptors ------------------------------------------------------------------

    def endpoint_of(self, address: Address) -> str:
        """Return the endpoint by which this process reaches `address`."""
        if address.ipc and address.machine == self.address.machine:
            return address.ipc
        if address.tcp:
            return address.tcp
        raise ConnectionRefusedError("the process has no network endpoint")

    def wire_to(self, peer: Peer) -> Any:
        """Make a connection to a peer, or to who passes things on to it."""
        if peer.route:
            return ReturnRoute(self.inbox, peer.route)
        address = peer.address
        if peer.is_relayed and self.relay_of is not None:
            address = self.relay_of(peer)
        wire = SendingSocket(self.endpoint_of(address), self.keys)
        if peer.is_returning:
            wire.on_arrival = lambda: self.call_later(0, peer.check_connection)
        return wire

    def bind_first(self, peer: Peer) -> bool:
        """Whether a link must wait until this process can be reached; the next `tick` sees to it."""
        is_other_way = peer.is_relayed or peer.is_returning or bool(peer.route)
        if self.address.tcp or self.keys is None or is_other_way or self.cannot_bind:
            return False
        self.needs_network = True
        return True

    def watch(self, peer: Peer) -> None:
        """Put a peer's new wire into the poll set."""
        assert peer.wire is not None
        peer.fd = peer.wire.fd
        if peer.fd < 0:
            return
        self._by_fd[peer.fd] = peer
        if peer.wire.probe is not None:
            self._probed[peer.wire.probe.fd] = peer
            self.wires.register(peer.wire.probe.fd, select.EPOLLOUT)
        # Edge-triggered like ZMQ_FD itself: a level would fire until the socket is next used.
        self.wires.register(peer.fd, select.EPOLLIN | select.EPOLLET)
        if len(self._by_fd) > self.max_wires and not self._is_resting:
            self._is_resting = True
            self.call_later(REST_AFTER, self._rest_idle)

    def _rest_idle(self) -> None:
        # A clock: what was not used since the last round goes, the longest known first. What that
        # costs is paid only by a process with thousands of connections.
        self._is_resting = False
        surplus = len(self._by_fd) - self.max_wires * 9 // 10
        for peer in list(self.peers.values()):
            if surplus <= 0:
                return
            surplus -= peer.rest()
        if len(self._by_fd) > self.max_wires:
            self._is_resting = True
            self.call_later(REST_AFTER, self._rest_idle)

    def unwatch(self, peer: Peer) -> None:
        """Take a peer's wire out of the poll set, before it is closed."""
        if peer.fd >= 0 and self._by_fd.pop(peer.fd, None) is not None:
            self.wires.unregister(peer.fd)
            self._end_probe(peer)
        peer.fd = -1

    def _end_probe(self, peer: Peer) -> str:
        """Take the probe of a wire out of the poll set; return why it failed, if it did."""
        probe = peer.wire.probe
        if probe is None:
            return ""
        peer.wire.probe = None
        self._probed.pop(probe.fd, None)
        self.wires.unregister(probe.fd)
        failure: str = probe.failure()
        probe.close()
        return failure

    def look_later(self, peer: Peer) -> None:
        """Have a connection that is about to be used looked at a moment later.

        Sending may take libzmq's word that the connection is gone off the descriptor's edge without
        telling: then nothing would tell any more, and what is sent would go nowhere, for ever.
        """
        if not peer.is_looked_at:
            peer.is_looked_at = True
            self._to_look_at.append(peer)
            if not self._is_looking:
                self._is_looking = True
                self.call_later(LOOK_AFTER, self._look)

    def _look(self) -> None:
        self._is_looking = False
        for _ in range(len(self._to_look_at)):
            peer = self._to_look_at.popleft()
            peer.is_looked_at = False
            peer.check_connection()

    def check_wires(self) -> None:
        """Look at the wires whose descriptors have something to say."""
        for fd, _ in self.wires.poll(0):
            probed = self._probed.get(fd)
            if probed is not None:
                probed.probe_ready()
                continue
            peer = self._by_fd.get(fd)
            if peer is not None:
                peer.check_connection()

    def wake_at(self, when: float) -> None:
        """Make sure that `tick` is called at `when`."""
        if self._deadline is None or when < self._deadline:
            self._deadline = when
            self.wake()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Run `callback` once on the receiving thread, `seconds` from now. Any thread."""
        when = self.now() + seconds
        heapq.heappush(self._timers, (when, next(self._timer_order), callback))
        self.wake_at(when)

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the receiving thread once what has arrived by now is handled."""
        self._when_drained.append(callback)

    def wake(self) -> None:
        """Have the receiving thread look at its deadlines and loopback."""
        if self.on_wake is not None:
            self.on_wake()

    def is_due(self) -> bool:
        """Whether `tick` has something to do now."""
        return bool(self.unreachable or self._when_drained or self._loopback) or (
            self._deadline is not None and self.now() >= self._deadline
        )

    def next_deadline(self) -> float | None:
        """When `tick` is due; None while nothing is outstanding."""
        return self._deadline

    def _bind_for_links(self) -> None:
        if not self.needs_network:
            return
        self.needs_network = False
        try:
            address = self.bind_tcp(self.host)
        except OSError:
            self.cannot_bind = True  # then what is on other machines is reached by the relay
            return
        if self.on_bound is not None:
            self.on_bound(address)

    def tick(self, now: float) -> None:
        """Send late acknowledgements, time out hellos, make new attempts. On the receiving thread."""
        self._bind_for_links()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            if self._ack_at is not None and now >= self._ack_at:
                self._ack_at = None
                owing = list(self._owing.values())
                self._owing.clear()
                for peer in owing:
                    self.acknowledge(peer)
            for peer in list(self.peers.values()):
                if peer.deadline is not None:
                    peer.due(now)
            while self._timers and self._timers[0][0] <= now:
                guarded(heapq.heappop(self._timers)[2])
            deadlines = [p.deadline for p in self.peers.values() if p.deadline is not None]
            if self._timers:
                deadlines.append(self._timers[0][0])
            if self._ack_at is not None:
                deadlines.append(self._ack_at)
            if deadlines:
                nearest = min(deadlines)
                before = self.next_deadline()  # what ran just now may have set one
                self._deadline = nearest if before is None else min(before, nearest)
        for _ in range(len(self._when_drained)):
            guarded(self._when_drained.popleft())
        while self.unreachable:
            peer = self.unreachable.popleft()
            for handler in self._lost_handlers:
                guarded(partial(handler, peer))

    # -- life ----------------------------------------------------------------------------------

    def bind_tcp(self, host: str, port: int = 0, advertise: str = "") -> Address:
        """Bind tcp too, behind CURVE and an allow-list. On the receiving thread only."""
        from zactor.transport.curve import AllowList

        if self.keys is None:
            raise ValueError("a process without the cluster's keys binds no tcp port")
        with self._inbox_lock:
            if not self.address.tcp:
                self._allow_list = AllowList(context(), {self.keys.client_public})
                endpoint = self.inbox.bind_tcp(host, self.keys, port)
                if advertise:
                    endpoint = f"tcp://{advertise}:{endpoint.rsplit(':', 1)[1]}"
                self.address = self.address._replace(tcp=endpoint)
        return self.address

    def probe(self, peer: Peer) -> None:
        """Send a peer something, if it counts as connected, so that it shows if it is not."""
        with peer.lock:
            if peer.state == UP:
                self._send_raw(peer, ACK, None)

    def forget(self, process: bytes) -> None:
        """The process is dead: drop its link and fail what was asked of it."""
        peer = self.peers.pop(process, None)
        self._owing.pop(process, None)
        if peer is not None:
            peer.close()
        self.fail_requests(process, "the process that was asked is dead")

    def settle_links(self, timeout: float) -> None:
        """Wait until the peers have acknowledged what was sent to them, at most `timeout`."""
        deadline = self.now() + timeout
        while any(p.link.unacked and p.state == UP for p in list(self.peers.values())):
            if self.now() >= deadline:
                return
            time.sleep(0.001)  # noqa: TID251 - acks come on another thread; bounded by the deadline

    def close(self, linger: float = 1.0) -> None:
        """Close every socket; what is queued to live peers has `linger` seconds to leave."""
        if self.is_closed:
            return
        self.is_closed = True
        for peer in list(self.peers.values()):
            peer.close(linger)
        self.inbox.close()
        if self._allow_list is not None:
            self._allow_list.close()
        self.wires.close()
        close_context()
        if self.address.ipc:
            try:
                os.unlink(self.address.ipc.removeprefix("ipc://"))
            except OSError:
                pass


def _nothing(peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
    """An ack says all it has to say in its envelope."""


protect_module(__name__)


def guarded(callback: Callable[[], None]) -> None:
    """Run a callback of the receiving thread; what it raises is reported, and the thread goes on."""
    try:
        callback()
    except Exception:  # noqa: BLE001 - one callback must never end the receiving thread
        report_bug("running a callback")


def report_bug(doing: str) -> None:
    """Show an exception that is ours, and go on."""
    import traceback

    sys.stderr.write(f"zactor: internal error while {doing}; please report it\n")
    traceback.print_exc()
