"""How a call travels out, and its reply back in: the caller's half of the data plane.

`.remote()` appends to what is gathered for the callee's process; `Outgoing.flush` numbers, packs
and sends a batch; `Caller.replies_received` settles what comes back. The first call to a peer that
owes no reply leaves at once; later ones gather until the peer answers, 64 are gathered, the thread
is about to block, or the pump gets to them.

Owned by: `Caller.lock` guards numbering, what is gathered and held. Settling is the leader's.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING, PICKLED, STORED, USER_ERROR, Result, Stream, tell
from zactor.exceptions import PendingCallsLimitExceeded, from_wire
from zactor.runtime.interrupts import protected
from zactor.wire import batches
from zactor.wire.codec import CALLS, CANCEL, REPLIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.runtime.post import Peer, Post
    from zactor.wire.messages import Address

BATCH_CALLS = 64  # gathered calls that leave without waiting for more
BATCH_BYTES = 64 << 10
MESSAGE_CALLS = 1_024  # calls in one message at the most
MAX_UNSETTLED = 4_000_000  # calls of this process that may be held; more raise at `.remote()`
MAX_HELD_BYTES = 2 << 30

_result_state = {
    batches.PICKLED: PICKLED,
    batches.USER_ERROR: USER_ERROR,
    batches.STORED: STORED,
}


class Outgoing:
    """Calls on their way to one peer.

    Attributes:
        gathered: Calls that were submitted and have not left, in order.
        streams: The streams by the channel numbers they were defined under.
        sent: Calls that have left, ever. Written under the caller's lock.
        settled: Calls that were settled, ever. Written by the leader.
        is_gathering: The pump knows that something is gathered.
    """

    __slots__ = (
        "bytes",
        "caller",
        "gathered",
        "is_busy",
        "is_gathering",
        "lease",
        "peer",
        "sent",
        "settled",
        "streams",
    )

    def __init__(self, caller: Caller, peer: Peer) -> None:
        self.caller = caller
        self.peer = peer
        self.gathered: deque[Result] = deque()
        self.streams: list[Stream] = []
        self.sent = 0
        self.settled = 0
        self.bytes = 0
        self.is_gathering = False
        self.is_busy = False
        self.lease: Any = None

    def start_gathering(self) -> None:
        """Tell the pump that something waits for company."""
        self.is_gathering = True
        self.caller.gathering.append(self)
        self.caller.on_gathered()

    def flush(self) -> None:
        """Send what is gathered."""
        with self.caller.lock:
            if self.is_busy:
                return  # re-entered by a finalizer of user code: the outer flush goes on
            self.is_busy = True
            try:
                self.bytes = 0
                self.is_gathering = False
                while self.gathered:
                    with self.peer.lock:
                        if self.peer.link.is_full:
                            self.start_gathering()
                            return
                        returned = self._send_batch()
                    for stream in returned:
                        self.caller.release(stream)
            finally:
                self.is_busy = False

    def _send_batch(self) -> list[Stream]:
        """Send one message; return the streams whose calls could not leave here any more."""
        returned: list[Stream] = []
        gathered = self.gathered
        popleft = gathered.popleft
        groups: list[Any] = []
        frames: Sequence[bytes] = ()
        stream: Stream | None = None
        calls: list[Any] = []
        pending: dict[int, Result] = {}
        number = seq = taken = size = 0
        for _ in range(min(len(gathered), MESSAGE_CALLS)):
            result = popleft()
            if result.stream is not stream or result.number != number:
                if stream is not None:
                    stream.next_seq = seq
                stream = result.stream
                if stream.held or len(stream.pending) >= stream.credit or stream.outgoing is not self:
                    stream.is_open = False
                    stream.held.append(result)
                    if stream not in returned:
                        returned.append(stream)
                    stream = None
                    continue
                calls = []
                pending = stream.pending
                seq = stream.next_seq
                number = result.number
                groups.append([self._channel(stream), seq, number, stream.floor(), calls])
            pending[seq] = result
            result.seq = seq
            payload = result.payload
            calls.append(result.method)
            calls.append(payload)
            seq += 1
            number += 1
            taken += 1
            if payload is not None:
                if type(payload) is bytes:
                    size += len(payload)
                else:
                    size += len(payload[0]) if payload[0] else 0
                    if result.frames:
                        frames = result.frames
                        break
                if size > BATCH_BYTES:
                    break
        if stream is not None:
            stream.next_seq = seq
        if taken:
            self.sent += taken
            self.peer.transmit(CALLS, groups, frames)
        return returned

    def _channel(self, stream: Stream) -> Any:
        if stream.channel >= 0:
            return stream.channel
        stream.channel = len(self.streams)
        self.streams.append(stream)
        return [stream.caller, stream.actor, stream.life, stream.number, stream.version]


class Caller:
    """All calls this process makes, whoever in it makes them."""

    def __init__(self, post: Post, on_gathered: Callable[[], None]) -> None:
        self.post = post
        self.lock = threading.RLock()
        self.gathering: list[Outgoing] = []
        self.on_gathered = on_gathered
        self.special: dict[int, Callable[[Peer, Stream, int, int, Any, Any], None]] = {}
        # Told of replies that bring references or stored values, before they are settled.
        self.on_special: Callable[[Peer, Result, int, Any, dict[int, Any]], None] = _nothing
        post.on_kind(REPLIES, self.replies_received)

    def outgoing(self, address: Address) -> Outgoing:
        """Return where calls to the process at `address` are gathered."""
        peer = self.post.peer(address)
        if peer.calls is None:
            with self.lock:
                if peer.calls is None:
                    peer.calls = Outgoing(self, peer)
        found: Outgoing = peer.calls
        return found

    def flush(self) -> None:
        """Send all that is gathered; the thread is about to block, or the pump found it late."""
        gathering = self.gathering
        while gathering:
            try:
                outgoing = gathering.pop()
            except IndexError:
                return
            outgoing.flush()
            if outgoing.is_gathering:
                return  # its link is full: the pump comes back to it

    # -- what cannot leave at once -------------------------------------------------------------

    def hold(self, result: Result) -> None:
        """Queue a call behind what is held on its stream, or send it if nothing is any more."""
        stream: Stream = result.stream
        if len(stream.held) >= MAX_UNSETTLED:
            raise PendingCallsLimitExceeded(
                f"{len(stream.held):,} calls wait to leave this process; get some results first"
            )
        with self.lock:
            outgoing = stream.outgoing
            if outgoing is not None and outgoing.gathered:
                outgoing.flush()  # earlier calls of this thread are in there
            stream.held.append(result)
            self.release(stream)

    def release(self, stream: Stream) -> None:
        """Let held calls go, in order, as far as their place, credit and arguments allow."""
        with self.lock:
            outgoing = stream.outgoing
            held = stream.held
            if outgoing is None:
                stream.is_open = False
                if stream.failure is not None:
                    while held:
                        held.popleft().settle(ERROR, stream.failure)
                return
            room = stream.credit - len(stream.pending) - len(outgoing.gathered)
            moved = []
            while held and room > 0 and not held[0].waiting:
                result = held.popleft()
                if result.state == PENDING:  # not cancelled, nor failed by its arguments
                    moved.append(result)
                    room -= 1
            stream.is_open = not held
            if moved:
                outgoing.gathered.extend(moved)
                outgoing.flush()

    def make_way(self, stream: Stream, outgoing: Outgoing | None, life: int) -> None:
        """Send the stream's calls somewhere else from now on (None: nowhere, for now)."""
        with self.lock:
            old = stream.outgoing
            if old is not None and old is not outgoing:
                strays = [result for result in old.gathered if result.stream is stream]
                if strays:
                    kept = [result for result in old.gathered if result.stream is not stream]
                    old.gathered.clear()
                    old.gathered.extend(kept)
                    stream.held.extendleft(reversed(strays))
            stream.outgoing = outgoing
            stream.life = life
            stream.channel = -1
            stream.is_open = False
            self.release(stream)

    def send_again(self, stream: Stream, results: list[Result]) -> None:
        """Put calls that had left back before all others of their stream, in order."""
        with self.lock:
            stream.held.extendleft(reversed(results))
            stream.is_open = False
            self.release(stream)

    def cancel_sent(self, stream: Stream, seq: int, flags: int) -> None:
        """Ask the callee to cancel a call that has left."""
        with self.lock:
            outgoing = stream.outgoing
            if outgoing is None or stream.channel < 0:
                return
            with outgoing.peer.lock:
                outgoing.peer.transmit(CANCEL, [stream.channel, seq, flags])

    # -- replies -------------------------------------------------------------------------------

    def replies_received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        """Settle the calls of a REPLIES message. On the leader."""
        outgoing: Outgoing = peer.calls
        streams = outgoing.streams
        settled = 0
        for group in body:
            stream = streams[group[0]]
            pop = stream.pending.pop
            flat = iter(group[1])
            for seq, status, value in zip(flat, flat, flat, strict=True):
                if status > 1:
                    settled += self._settle_special(peer, stream, seq, status, value, frames)
                    continue
                result = pop(seq, None)
                if result is None:
                    continue  # settled before: a reply that was sent twice
                result.value = value
                result.state = status + 1
                result.payload = result.pin = None
                if result.waiters is not None:
                    tell(result)
                settled += 1
            if stream.held:
                outgoing.settled += settled
                settled = 0
                self.release(stream)
            if len(group) > 2 and outgoing.lease is not None:
                outgoing.lease.ran(group)
        outgoing.settled += settled
        if outgoing.lease is not None:
            outgoing.lease.replied()
        if outgoing.gathered:
            outgoing.flush()

    def _settle_special(
        self, peer: Peer, stream: Stream, seq: int, status: int, value: Any, frames: Any
    ) -> int:
        extras: dict[int, Any] = {}
        if status & batches.EXTRA:
            status &= ~batches.EXTRA
            value, extras = value
        handler = self.special.get(status)
        if handler is not None:
            return int(handler(peer, stream, seq, value, extras, frames))  # type: ignore[call-arg]
        result = stream.pending.pop(seq, None)
        if result is None:
            return 0
        self.on_special(peer, result, status, value, extras)
        if status == batches.NATIVE:
            result.settle(1, value)
        elif status == batches.ERROR:
            result.settle(ERROR, from_wire(value))
        elif status == batches.BUSY:
            result.settle(
                ERROR,
                PendingCallsLimitExceeded("the actor's mailbox is full; the call was not taken"),
            )
        else:
            if batches.Y_FRAMES in extras:
                value = (value, frames)
            result.settle(_result_state[status], value)
        return 1


def _nothing(peer: Peer, result: Result, status: int, value: Any, extras: Any) -> None:
    """A process without objects has nothing to note."""


class Identity:
    """Who calls: a caller id, its call counter, and its streams by actor."""

    __slots__ = ("caller", "is_current", "numbers", "streams")

    def __init__(self, caller: bytes) -> None:
        self.caller = caller
        self.is_current = True  # what runs in this process now calls under this identity
        self.numbers = count(1)
        self.streams: dict[Any, Stream] = {}


protected(
    Outgoing.flush,
    Outgoing._send_batch,  # noqa: SLF001
    Outgoing.start_gathering,
    Caller.flush,
    Caller.hold,
    Caller.release,
    Caller.make_way,
    Caller.send_again,
    Caller.cancel_sent,
    Caller.replies_received,
)
