"""The post office of a process: its inbox, and a link to each process it talks to.

Every process has one `Post`. Any thread may send. One thread at a time receives (the leader, see
`reception`, or the loop of a broker or node): it waits on `arrivals` and calls their handlers, which
read, keep order and drop duplicates by the link's numbers, and hand each message to the
handler of its kind. Those run on that thread, must not block, and must not run user code.

How a connection is made again is `peer`'s, what is said on it first `greetings`', and which
kind it is `connections`'.

Owned by:
    inbox, arrivals   the receiving thread (registering: any thread)
    tcp_inbox         the receiving thread
    peers             added to under `_peers_lock`, read anywhere
    Peer.wire, .link  under `Peer.lock`
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from zactor.core.link import ACK_BYTES, ACK_EVERY, DUPLICATE, NEXT
from zactor.exceptions import ProtocolError, ZactorSystemError, from_wire
from zactor.runtime.links.bugs import guarded, report_bug
from zactor.runtime.links.connections import Connections
from zactor.runtime.links.greetings import Greetings
from zactor.runtime.links.interrupts import protect_module
from zactor.runtime.links.peer import UP, Peer
from zactor.runtime.links.tcp_inbox import TcpInbox
from zactor.runtime.links.timers import Timers
from zactor.transport.arrivals import Arrivals
from zactor.transport.context import close_context
from zactor.transport.local import LocalListener
from zactor.wire.codec import (
    ACK,
    HELLO,
    VERSION,
    WELCOME,
    control_code,
    pack,
    pack_control,
    unpack_control,
    unpack_envelope,
    unpackb,
)
from zactor.wire.messages import Address, Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.transport.curve import Keys

Handler = "Callable[[Peer, Any, Sequence[bytes]], None]"

ACK_DELAY = 0.03  # how long an acknowledgement may wait for a message to travel on
GAP_AGAIN = 0.05  # seconds until what is missing is asked for again
DRAIN_ROUNDS = 64  # looks at what has arrived until it is given up to have seen all of it


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
        self.now = time.monotonic
        self.arrivals = Arrivals()
        self._timers = Timers()
        self._deadline: float | None = None
        self._deadline_lock = threading.RLock()
        self.counters = {"refused": 0, "duplicates": 0, "gaps": 0, "wrong_destination": 0}
        path = f"{directory}/{name or process_id.hex()}"
        self.inbox = LocalListener(
            path,
            self.arrivals,
            self.deliver,
            on_refused=self._refused_stranger,
            call_later=self.call_later,
        )
        self.tcp_inbox = TcpInbox(self)  # bound when another machine is first met
        self.address = Address(process_id, node, machine, f"ipc://{path}", "")
        self.peers: dict[bytes, Peer] = {}
        self.unreachable: deque[Peer] = deque()
        self.is_closed = False
        self.on_wake: Callable[[], None] | None = None  # a deadline came nearer; see wake_at
        self.on_broken: Callable[[Peer], None] | None = None  # told under the peer's lock
        # It had been cut off; told under its lock.
        self.on_back: Callable[[Peer], None] | None = None
        self.on_moved: Callable[[Peer, Address], bool] | None = None  # see `succession`
        # Tcp was bound for an outgoing link.
        self.on_bound: Callable[[Address], None] | None = None
        # Decides how to reach one; see `routing`.
        self.route: Callable[[Peer], None] | None = None
        self.relay_of: Callable[[Peer], Address] | None = None
        self.host = "127.0.0.1"  # where tcp is bound when another machine is to be reached
        self.needs_network = False
        self.cannot_bind = False
        self.relay: Any = None  # takes what is for others; see `relay`
        self._peers_lock = threading.Lock()
        self._handlers: dict[int, Any] = {ACK: _nothing}
        self._checks: dict[int, Callable[[Any], bool]] = {}
        self._lost_handlers: list[Callable[[Peer], None]] = []
        self.requests: dict[int, tuple[Future[Any], bytes, Any]] = {}  # unanswered
        self._request_numbers = count(1)
        self._loopback: deque[tuple[int, list[Any]]] = deque()
        self._owing: dict[bytes, Peer] = {}  # peers that wait for an ack of ours
        self._ack_at: float | None = None
        self._when_drained: deque[Callable[[], None]] = deque()
        self.connections = Connections(self)
        self.greetings = Greetings(self)
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
        kind = control_code(message_type)

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
        """Take what has arrived, once round; return on how many connections there was something.

        What is left shows at `arrivals.fd`.
        """
        ready = self.arrivals.wait(0)
        self.arrivals.handle(ready)
        return len(ready)

    def _drain_all(self) -> bool:
        """Take what has arrived by now; False if so much comes that it cannot be said."""
        arrivals = self.arrivals
        for _ in range(DRAIN_ROUNDS):
            arrivals.has_more = False
            self.drain()
            if not arrivals.has_more:
                return True
        return False

    def _refused_stranger(self, why: str) -> None:  # noqa: ARG002 - counted, as all of them
        self.counters["refused"] += 1

    def deliver(self, route: Any, data: bytes, frames: Sequence[bytes]) -> None:
        """Take one message; it came over `route`, a connection or the network's name for one."""
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
        if seq - link.told >= ACK_EVERY or link.bytes_since_told >= ACK_BYTES:
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

    def _deliver_any(self, route: Any, data: bytes, frames: Sequence[bytes]) -> None:
        try:
            self._deliver_checked(route, data, frames)
        except ProtocolError:
            self.counters["refused"] += 1

    def _not_for_us(
        self, route: Any, envelope: list[Any], data: bytes, frames: Sequence[bytes]
    ) -> None:
        if self.relay is not None and self.relay.forward(envelope, data, frames):
            return
        self.counters["wrong_destination"] += 1
        if envelope[1] == HELLO:
            text = "another process listens at this address now"
            # A port that was another's may be our own now: then we have greeted ourselves.
            is_other = envelope[2] != self.process_id
            successor = self.address if is_other else None
            self.greetings.refuse(route, envelope, text, successor=successor)

    def _deliver_checked(self, route: Any, data: bytes, frames: Sequence[bytes]) -> None:
        try:
            envelope = unpack_envelope(data)
        except ProtocolError:
            self.counters["refused"] += 1
            self.greetings.answer_other_version(route, data)
            return
        _, kind, source, destination, seq, ack, body = envelope[:7]
        if destination != self.process_id:
            self._not_for_us(route, envelope, data, frames)
            return
        if kind == HELLO:
            self.greetings.hello_received(source, envelope, route)
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
            self.send_raw(peer, WELCOME, {**self.greetings.greeting(peer), "again": True})

    def acknowledge(self, peer: Peer) -> None:
        """Tell a peer what has arrived, without waiting for a message to carry it."""
        with peer.lock:
            if peer.link.owes_ack and peer.state == UP:
                peer.link.ack_sent()
                self.send_raw(peer, ACK, None)

    def received_from(self, peer: Peer) -> int:
        """Return the number of the last message that has arrived from a peer, to be told it."""
        return peer.link.received

    def send_raw(self, peer: Peer, kind: int, body: Any) -> None:
        """Send outside the sequence: not kept, and not repeated. Under the peer's lock."""
        if peer.wire is None:
            return
        received = self.received_from(peer)
        data = pack((VERSION, kind, self.process_id, peer.id, 0, received, body))
        self.connections.look_later(peer)
        if not peer.wire.send(data, ()):
            peer.broken()

    # -- time and deadlines --------------------------------------------------------------------

    def bind_first(self, peer: Peer) -> bool:
        """Whether a link must wait until this process can be reached; the next `tick` sees to it."""
        is_other_way = peer.is_relayed or peer.is_returning or bool(peer.route)
        if self.address.tcp or self.keys is None or is_other_way or self.cannot_bind:
            return False
        self.needs_network = True
        return True

    def wake_at(self, when: float) -> None:
        """Make sure that `tick` is called at `when`. Any thread."""
        if self._bring_forward(when):
            self.wake()

    def _bring_forward(self, when: float) -> bool:
        with self._deadline_lock:
            is_nearer = self._deadline is None or when < self._deadline
            if is_nearer:
                self._deadline = when
        return is_nearer

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Run `callback` once on the receiving thread, `seconds` from now. Any thread."""
        when = self.now() + seconds
        self._timers.add(when, callback)
        self.wake_at(when)

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the receiving thread once what has arrived by now is handled."""
        self._when_drained.append(callback)

    def wake(self) -> None:
        """Have the receiving thread see what is due."""
        if self.on_wake is not None:
            self.on_wake()

    def is_due(self) -> bool:
        """Whether `tick` has something to do now."""
        deadline = self._deadline
        return (deadline is not None and self.now() >= deadline) or bool(
            self._loopback or self.unreachable or self._when_drained or self.tcp_inbox.has_more
        )

    def next_deadline(self) -> float | None:
        """When `tick` is due for a time that comes; None while nothing is outstanding."""
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
        """Do all that is due. On the receiving thread."""
        for _ in range(len(self._loopback)):
            kind, body = self._loopback.popleft()
            self._handle(self._self_peer, kind, body, ())
        if self.tcp_inbox.has_more:
            self.tcp_inbox.drain()
        self._bind_for_links()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._meet_deadlines(now)
            self._set_deadline()
        asked = len(self._when_drained)  # before we look
        if asked and self._drain_all():
            for _ in range(asked):
                guarded(self._when_drained.popleft())
        while self.unreachable:
            peer = self.unreachable.popleft()
            for handler in self._lost_handlers:
                guarded(partial(handler, peer))

    def _meet_deadlines(self, now: float) -> None:
        """Send late acknowledgements, time out hellos, make new attempts, run timers."""
        if self._ack_at is not None and now >= self._ack_at:
            self._ack_at = None
            owing = list(self._owing.values())
            self._owing.clear()
            for peer in owing:
                self.acknowledge(peer)
        for peer in list(self.peers.values()):
            if peer.deadline is not None:
                peer.due(now)
        self._timers.run_due(now)

    def _set_deadline(self) -> None:
        deadlines = [p.deadline for p in list(self.peers.values()) if p.deadline is not None]
        timer = self._timers.nearest()
        if timer is not None:
            deadlines.append(timer)
        if self._ack_at is not None:
            deadlines.append(self._ack_at)
        if deadlines:
            self._bring_forward(min(deadlines))  # what ran just now may have set a nearer one

    # -- life ----------------------------------------------------------------------------------

    def bind_tcp(self, host: str, port: int = 0, advertise: str = "") -> Address:
        """Bind tcp too, behind CURVE and an allow-list. On the receiving thread only."""
        if self.keys is None:
            raise ValueError("a process without the cluster's keys binds no tcp port")
        if not self.address.tcp:
            endpoint = self.tcp_inbox.bind(host, self.keys, port)
            if advertise:
                endpoint = f"tcp://{advertise}:{endpoint.rsplit(':', 1)[1]}"
            self.address = self.address._replace(tcp=endpoint)
        return self.address

    def counted(self) -> dict[str, int]:
        """Return what was refused, dropped and repaired since the start; for `zactor status`.

        `strangers` are attempts to connect over tcp without the cluster's keys.
        """
        return {**self.counters, "strangers": self.tcp_inbox.strangers}

    def probe(self, peer: Peer) -> None:
        """Send a peer something, if it counts as connected, so that it shows if it is not."""
        with peer.lock:
            if peer.state == UP:
                self.send_raw(peer, ACK, None)

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
        deadline = self.now() + linger  # for all of them together
        for peer in list(self.peers.values()):
            peer.close(max(0.0, deadline - self.now()))
        self.connections.close()
        self.inbox.close()
        self.tcp_inbox.close()
        self.arrivals.close()
        close_context()
        if self.address.ipc:
            try:
                os.unlink(self.address.ipc.removeprefix("ipc://"))
            except OSError:
                pass


def _nothing(peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
    """An ack says all it has to say in its envelope."""


protect_module(__name__)
