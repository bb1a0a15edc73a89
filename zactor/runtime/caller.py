"""How a call travels out, and its reply back in: the caller's half of the data plane.

`.remote()` appends to what is gathered for the callee's process; `Outgoing.flush` numbers, packs
and sends a batch; `Caller.replies_received` settles what comes back. The first call to a peer that
owes no reply leaves at once; later ones gather until the peer answers, 64 are gathered, the thread
is about to block, or the pump gets to them.

What cannot leave waits on its stream (`held`): for a place to go to, for credit, for room on the link,
for the first one's arguments. Memory is bounded by the process's unsettled arguments: beyond the bound
`.remote()` raises, until enough is settled.

Owned by: `Caller.lock` guards numbering, what is gathered and held. Settling is the leader's.

Invariants
    O1  Calls of one thread on one stream leave in the order submitted.
    O2  What is held leaves when what it waits for comes: nobody has to ask again.
    O3  A call that cannot be packed takes no other with it; a seq that was taken for it goes as void.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from zactor.core.calls import (
    ERROR,
    PENDING,
    PICKLED,
    STORED,
    USER_ERROR,
    Result,
    Stream,
    payload_size,
    tell,
)
from zactor.exceptions import (
    PendingCallsLimitExceeded,
    RemoteProtocolError,
    SerializationError,
    from_wire,
)
from zactor.runtime.interrupts import protect_module
from zactor.runtime.post import report_bug
from zactor.transport.sockets import MAX_MESSAGE
from zactor.wire import batches
from zactor.wire.codec import CALLS, CANCEL, REPLIES, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.runtime.post import Peer, Post
    from zactor.wire.messages import Address

BATCH_CALLS = 64  # gathered calls that leave without waiting for more
BATCH_BYTES = 64 << 10
MESSAGE_CALLS = 1_024  # calls in one message at the most
MAX_HELD = 4_000_000  # calls of one stream that may wait; more raise at `.remote()`
MAX_PAYLOAD = 2 << 30  # bytes of unsettled arguments in this process; more raise at `.remote()`
WEIGH_EVERY = 0.02  # seconds; while at that bound, how often it is looked whether it still is
MAX_FRAME = MAX_MESSAGE - (1 << 20)  # of arguments; the peer's socket refuses larger messages

_UNPACKABLE = (TypeError, ValueError, OverflowError, RecursionError)
BATCHES_KEPT = 500  # that left last, remembered for listings
FAILURES_KEPT = 1_000

_errors = frozenset((batches.USER_ERROR, batches.ERROR))
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
        blocked: Streams that are released once the link has room.
    """

    __slots__ = (
        "blocked",
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
        self.blocked: dict[Stream, None] = {}
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
                self.is_gathering = False
                while self.gathered:
                    with self.peer.lock:
                        is_full = self.peer.link.is_full
                        if not is_full:
                            self._send_batch()
                    if is_full:
                        self._take_back()
            finally:
                self.is_busy = False

    def waits_for_room(self, stream: Stream) -> bool:
        """Whether the link is full; if so, the stream is released once it is not. Under the lock."""
        with self.peer.lock:
            if not self.peer.link.is_full:
                return False
            self.blocked[stream] = None
            self.peer.needs_room = True
        stream.is_open = False
        return True

    def room(self) -> None:
        """The link is not full any more. On the leader."""
        with self.caller.lock:
            blocked, self.blocked = self.blocked, {}
            for stream in blocked:
                self.caller.release(stream)

    def _take_back(self) -> None:
        """Have what is gathered wait on its streams: the link is full."""
        for stream, results in _by_stream(self.take_gathered()).items():
            stream.put_back(results)
            if not self.waits_for_room(stream):
                self.caller.release(stream)  # acknowledged meanwhile

    def take_gathered(self) -> list[Result]:
        """Remove and return what is gathered now; other threads may be appending to it."""
        popleft = self.gathered.popleft
        return [popleft() for _ in range(len(self.gathered))]

    def _send_batch(self) -> None:
        popleft = self.gathered.popleft
        groups: list[Any] = []
        frames: Sequence[bytes] = ()
        stream: Stream | None = None
        strays: dict[Stream, list[Result]] = {}  # calls that cannot go (on) this way
        calls: list[Any] = []
        pending: dict[int, Result] = {}
        number = seq = taken = size = 0
        for _ in range(min(len(self.gathered), MESSAGE_CALLS)):
            result = popleft()
            if result.stream is not stream or result.number != number:
                if stream is not None:
                    stream.next_seq = seq
                stream = result.stream
                if (
                    (stream.held and stream.held[0].number < result.number)
                    or len(stream.pending) >= stream.credit
                    or stream.outgoing is not self
                    or stream in strays
                ):
                    strays.setdefault(stream, []).append(result)
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
                    size += payload_size(result)
                    if result.frames:
                        frames = result.frames
                        break
                if size > BATCH_BYTES:
                    break
        if stream is not None:
            stream.next_seq = seq
        if taken:
            self.sent += taken
            self._transmit(groups, frames, size)
            note = self.caller.history.append
            for channel, first, begin, _, flat in groups:
                sent_on = self.streams[channel if type(channel) is int else -1]
                note((sent_on, first, begin, flat[::2]))
        for stray, results in strays.items():
            stray.is_open = False
            stray.put_back(results)
            if stray.outgoing is not self:
                self.caller.release(stray)  # otherwise the next reply does so

    def _transmit(self, groups: list[Any], frames: Sequence[bytes], size: int) -> None:
        if size:
            self.caller.sent_payload(self, size)
        try:
            if size <= MAX_FRAME:
                self.peer.transmit(CALLS, groups, frames)
                return
        except _UNPACKABLE:
            pass
        for group in groups:
            if self._void_unsendable(group):
                frames = ()
        self.peer.transmit(CALLS, groups, frames)

    def _void_unsendable(self, group: list[Any]) -> bool:
        """Make the calls of a group that cannot be sent void, and say why (O3).

        Returns:
            Whether the one that the frames belong to is among them.
        """
        channel, seq, calls = group[0], group[1], group[4]
        stream = self.streams[channel if type(channel) is int else -1]
        had_frames = False
        for at in range(0, len(calls), 2):
            result = stream.pending[seq + at // 2]
            try:
                size = max(map(len, (pack(calls[at : at + 2]), *(result.frames or ()))))
                if size <= MAX_FRAME:
                    continue
                text = (
                    f"arguments of {size:,} bytes are too large to be sent along with a call "
                    f"({MAX_FRAME:,} at the most): put() them and pass the reference"
                )
            except _UNPACKABLE as error:
                text = f"the options or references of a call cannot be sent: {error!r}"
            had_frames = had_frames or bool(result.frames)
            calls[at : at + 2] = [batches.VOID, None]
            del stream.pending[result.seq]
            self.settled += 1
            result.settle(ERROR, SerializationError(text, executed="no"))
        return had_frames

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
        self.history: deque[tuple[Stream, int, int, list[int]]] = deque(maxlen=BATCHES_KEPT)
        self.failures: dict[bytes, tuple[str, str]] = {}
        self.special: dict[int, Callable[..., int]] = {}
        # Told of replies that bring references or stored values, before they are settled.
        self.on_special: Callable[[Peer, Result, int, Any, dict[int, Any]], None] = _nothing
        self.max_payload = MAX_PAYLOAD
        self.payload = (
            0  # bytes of arguments submitted since they were last weighed, and before
        )
        self.is_over = False  # too many of them are unsettled
        self._weighed = 0.0  # when
        self._loaded: dict[Outgoing, None] = {}  # where calls with arguments were sent
        self._holding: dict[Stream, None] = {}  # where calls with arguments wait
        post.on_kind(REPLIES, self.replies_received, batches.is_replies)

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

    # -- what cannot leave at once -------------------------------------------------------------

    def hold(self, result: Result) -> None:
        """Queue a call behind what is held on its stream, or send it if nothing is any more.

        Raises:
            PendingCallsLimitExceeded: Too much waits in this process. The result has that error.
        """
        stream: Stream = result.stream
        with self.lock:
            self._check_bounds(stream, result)
            outgoing = stream.outgoing
            if outgoing is not None and outgoing.gathered:
                outgoing.flush()  # earlier calls of this thread are in there
            stream.hold(result)
            self.release(stream)

    def release(self, stream: Stream) -> None:
        """Let held calls go, in order, as far as their place, credit and arguments allow."""
        with self.lock:
            outgoing = stream.outgoing
            held = stream.held
            if outgoing is None or outgoing.waits_for_room(stream):
                stream.is_open = False
                if stream.failure is not None:
                    for result in stream.take_held():
                        result.settle(ERROR, stream.failure)
                return
            room = stream.credit - len(stream.pending)
            moved = []
            while held and room > 0 and not held[0].waiting:
                result = held.popleft()
                if result.state == PENDING:  # not cancelled, nor failed by its arguments
                    moved.append(result)
                    room -= 1
            if not held:
                stream.held = ()
            stream.is_open = not held and not self.is_over
            if moved:
                outgoing.gathered.extend(moved)
                outgoing.flush()

    def make_way(self, stream: Stream, outgoing: Outgoing | None, life: int) -> None:
        """Send the stream's calls somewhere else from now on (None: nowhere, for now)."""
        with self.lock:
            old = stream.outgoing
            if old is not None and old is not outgoing:
                if old.gathered:
                    taken = old.take_gathered()
                    strays = [result for result in taken if result.stream is stream]
                    # At once, and in front: other threads may be appending.
                    old.gathered.extendleft(
                        reversed([result for result in taken if result.stream is not stream])
                    )
                    if strays:
                        stream.put_back(strays)
                old.blocked.pop(stream, None)
                old.settled += len(stream.pending)  # as far as the old place is concerned
            stream.outgoing = outgoing
            stream.life = life
            stream.channel = -1
            stream.is_open = False
            self.release(stream)

    # -- bounds --------------------------------------------------------------------------------

    def sent_payload(self, outgoing: Outgoing, size: int) -> None:
        """Count arguments that leave; their calls are unsettled now. Under `lock`."""
        self._loaded[outgoing] = None
        self.payload += size
        if self.payload > self.max_payload and not self.is_over:
            self._weigh()

    def _check_bounds(self, stream: Stream, result: Result) -> None:
        size = payload_size(result)
        if size:
            self._holding[stream] = None
            self.payload += size
            if self.is_over or self.payload > self.max_payload:
                self._weigh()
        if self.is_over and size:
            text = (
                f"calls with {self.payload:,} bytes of arguments wait for their results in this "
                f"process, and {self.max_payload:,} is the limit"
            )
        elif len(stream.held) >= MAX_HELD:
            text = f"{len(stream.held):,} calls wait to leave this process"
        else:
            return
        error = PendingCallsLimitExceeded(f"{text}; get some results first", executed="no")
        result.settle(ERROR, error)
        raise error

    def _weigh(self) -> None:
        """Find out how many bytes of arguments are unsettled.

        Adding up what is submitted costs one addition a batch; subtracting what is settled would
        cost 40 ns a call. So they are counted anew only when the sum has reached the bound.
        """
        now = self.post.now()
        if self.is_over and now - self._weighed < WEIGH_EVERY:
            return
        self._weighed = now
        total = 0
        for outgoing in list(self._loaded):
            sent = sum(
                payload_size(result)
                for stream in outgoing.streams
                if stream.outgoing is outgoing
                for result in list(stream.pending.values())
            )
            total += sent + sum(map(payload_size, list(outgoing.gathered)))
            if not sent:
                del self._loaded[outgoing]
        for stream in list(self._holding):
            total += sum(map(payload_size, list(stream.held)))
            if not stream.held:
                del self._holding[stream]
        self.payload = total
        self.is_over = total > self.max_payload
        if self.is_over:
            # Calls go the way where they are counted, until it is known that there is room.
            for outgoing in self._loaded:
                for stream in outgoing.streams:
                    stream.is_open = False

    # -- again, and never ----------------------------------------------------------------------

    def send_again(self, stream: Stream, results: list[Result]) -> None:
        """Put calls that had left back before all others of their stream, in order."""
        with self.lock:
            stream.put_back(results)
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

    def note_failure(self, result: Result, status: int) -> None:
        """Remember, for listings, that a call has failed."""
        failures = self.failures
        kind = "TASK_EXECUTION_EXCEPTION" if status == batches.USER_ERROR else "SYSTEM_ERROR"
        failures[result.object_id()] = (kind, "")
        while len(failures) > FAILURES_KEPT:
            del failures[next(iter(failures))]

    # -- replies -------------------------------------------------------------------------------

    def replies_received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        """Settle the calls of a REPLIES message. On the leader."""
        outgoing: Outgoing | None = peer.calls
        if outgoing is None:
            raise RemoteProtocolError("replies of a process that was never called")
        streams = outgoing.streams
        settled = 0
        for group in body:
            try:
                stream = streams[group[0]]
            except IndexError:
                raise RemoteProtocolError(f"channel {group[0]} was not defined") from None
            pop = stream.pending.pop
            flat = iter(group[1])
            for seq, status, value in zip(flat, flat, flat, strict=True):
                if status > 1:
                    result = stream.pending.get(seq)
                    try:
                        settled += self._settle_special(
                            peer, stream, seq, status, value, frames
                        )
                    except Exception:  # noqa: BLE001 - the rest of the batch must be settled
                        self._settle_broken(stream, seq, result)
                    continue
                result = pop(seq, None)
                if result is None:
                    continue  # settled before: a reply that was sent twice
                result.value = value
                result.state = status + 1
                result.payload = result.pin = None
                settled += 1
                if result.waiters is not None:
                    try:
                        tell(result)
                    except Exception:  # noqa: BLE001 - the same
                        report_bug("telling of a result")
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

    def _settle_broken(self, stream: Stream, seq: int, result: Result | None) -> None:
        """A reply could not be read: its call has at least that outcome."""
        report_bug("reading a reply")
        stream.pending.pop(seq, None)
        if result is not None and result.state == PENDING:
            result.settle(ERROR, RemoteProtocolError("the reply to the call could not be read"))

    def _settle_special(
        self, peer: Peer, stream: Stream, seq: int, status: int, value: Any, frames: Any
    ) -> int:
        extras: dict[int, Any] = {}
        if status & batches.EXTRA:
            status &= ~batches.EXTRA
            value, extras = value
        handler = self.special.get(status)
        if handler is not None:
            return handler(peer, stream, seq, value, extras, frames)
        result = stream.pending.pop(seq, None)
        if result is None:
            return 0
        if status in _errors:
            self.note_failure(result, status)
        self.on_special(peer, result, status, value, extras)
        if status == batches.NATIVE:
            result.settle(1, value)
        elif status == batches.ERROR:
            result.settle(ERROR, from_wire(value))
        elif status == batches.BUSY:
            result.settle(
                ERROR,
                PendingCallsLimitExceeded(
                    "the actor's mailbox is full; the call was not taken"
                ),
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


def _by_stream(results: list[Result]) -> dict[Stream, list[Result]]:
    streams: dict[Stream, list[Result]] = {}
    for result in results:
        streams.setdefault(result.stream, []).append(result)
    return streams


protect_module(__name__)
