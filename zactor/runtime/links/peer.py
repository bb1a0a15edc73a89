"""Another process, as seen from this one: the state of the connection to it, made again when it breaks.

zactor reconnects by itself: when a peer's connection is gone, a fresh one is made, the first
message on it is a hello, and what the peer's welcome does not claim to have is sent again.

    FRESH --first use--> GREETING --welcome--> UP --broken--> BROKEN --deadline--> GREETING ...
                                                                        any --dead--> CLOSED

Whether a peer is *dead* is not decided here.

Owned by: everything in a `Peer` under its `lock`, unless the line says otherwise.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from zactor.core.link import Link
from zactor.runtime.links.interrupts import protect_module
from zactor.wire.codec import FIRST_CONTROL, VERSION, pack, unpack_envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zactor.runtime.links.post import Post
    from zactor.wire.messages import Address

HELLO_TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.0  # for the tcp connection alone
# Between attempts to reconnect. The fourth goes on for about ten seconds, so that it flows again
# within 0.2 s of healing; then comes the last, for ever.
RETRY_DELAYS = (0.0, 0.01, 0.03, 0.05, 1.0)
RETRIES = 200
LOST_AFTER = 2  # failed attempts until the `lost` handlers are told (and told again at each)

FRESH, GREETING, UP, BROKEN, CLOSED = range(5)


class Peer:
    """Another process, as seen from this one: its address, its link, the connection to it."""

    __slots__ = (
        "address",
        "attempts",
        "calls",
        "channels",
        "deadline",
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
        "takes_singles",
        "was_welcome",
        "wire",
    )

    def __init__(self, post: Post, address: Address) -> None:
        self.post = post
        self.id = address.process
        self.address = address
        self.lock = threading.RLock()
        self.link = Link()
        self.wire: Any = None  # the connection, see `connections`
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
        self.is_looked_at = False  # its connection need not be: it will, or tells by itself
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
        self.takes_singles = False  # it has said so, see `wire.batches`

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
                self.post.connections.look_later(self)
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
            self.wire = post.connections.wire_to(self)
        except OSError as error:
            self._failed(str(error))
            return
        first = self.state == FRESH
        self.state = GREETING
        self.greeted += 1
        post.connections.watch(self)
        if self.wire.probe is not None:
            self.deadline = post.now() + CONNECT_TIMEOUT  # and more once it is connected
        post.connections.look_later(self)
        if not self.wire.send(post.greetings.hello(self), ()):
            self._failed("the connection closed at once")
            return
        if first and not self.attempts:
            # Nothing can have been lost on a first connection, so what there is follows the
            # hello at once, and a first call costs one way and not three.
            self.state = UP
            self.send_unacked()
        post.wake_at(self.deadline)

    def send_unacked(self) -> None:
        """Send again what the peer is not known to have. Under `lock`."""
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
            self.post.connections.unwatch(self)
            self.wire.close(linger=linger)
            self.wire = None

    def relay_failed(self) -> None:
        """The relay could not pass something on, or may have lost it. Under `lock`."""
        self._failed("the relay cannot reach it")

    def use_route(self, route: Any) -> None:
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
            self.send_unacked()
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

    def wire_ended(self, wire: Any, why: str) -> None:
        """A connection within the machine has ended; `why`, if it was this process that ended it."""
        with self.lock:
            if self.wire is not wire:
                return
            if self.deadline is not None:  # of a hello that was not answered
                self._failed(why or "the connection was closed")
            else:
                self.broken()

    def probe_ready(self) -> None:
        """The bare connection beside a tcp wire has been made or refused."""
        with self.lock:
            if self.wire is None or self.wire.probe is None:
                return
            endpoint = self.wire.probe.endpoint
            failure = self.post.connections.end_probe(self)
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
            self.post.deliver(b"", *arrived)

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


protect_module(__name__)
