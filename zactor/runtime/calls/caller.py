"""How a call travels out, and its reply back in: the caller's half of the data plane.

`.remote()` appends to what is gathered for the callee's process; `Outgoing.flush` numbers, packs
and sends a batch; `Caller.replies_received` settles what comes back.

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
from contextlib import contextmanager
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
    spend_retry,
    tell,
)
from zactor.exceptions import (
    PendingCallsLimitExceeded,
    RemoteProtocolError,
    from_wire,
)
from zactor.runtime.calls.failures import Failure, failure_of
from zactor.runtime.calls.outgoing import Outgoing
from zactor.runtime.links.bugs import report_bug
from zactor.runtime.links.interrupts import protect_module
from zactor.wire import batches
from zactor.wire.codec import CANCEL, REPLIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from zactor.runtime.links.peer import Peer
    from zactor.runtime.links.post import Post
    from zactor.wire.messages import Address

MAX_HELD = 4_000_000  # calls of one stream that may wait; more raise at `.remote()`
MAX_PAYLOAD = 2 << 30  # bytes of unsettled arguments in this process; more raise at `.remote()`
WEIGH_EVERY = 0.02  # seconds; while at that bound, how often it is looked whether it still is
BATCHES_KEPT = 500  # that left last, remembered for listings
FAILURES_KEPT = 1_000
NAMES_KEPT = 10_000

_errors = frozenset((batches.USER_ERROR, batches.ERROR))
_result_state = {
    batches.PICKLED: PICKLED,
    batches.USER_ERROR: USER_ERROR,
    batches.STORED: STORED,
}


class Caller:
    """All calls this process makes, whoever in it makes them."""

    def __init__(self, post: Post, on_gathered: Callable[[], None]) -> None:
        self.post = post
        self.lock = threading.RLock()
        self.gathering: list[Outgoing] = []
        self.on_gathered = on_gathered
        # Stream (or, of single calls, their streams), first number, methods, when; see `sent_lately`.
        self.history: deque[tuple[Any, int, list[int], float]] = deque(maxlen=BATCHES_KEPT)
        self.failures: dict[bytes, Failure] = {}
        self.given_names: dict[tuple[bytes, int], str] = {}  # by caller and number
        self.special: dict[int, Callable[..., int]] = {batches.RETRYING: _retrying}
        # Told of replies that bring references or stored values, before they are settled.
        self.on_special: Callable[[Peer, Result, int, Any, dict[int, Any]], None] = _nothing
        # Asked what a call is to keep that is about to fail with a user's error.
        self.on_user_error: Callable[[Result, Any], Any] = _keeps_nothing
        self.max_payload = MAX_PAYLOAD
        self.payload = (
            0  # bytes of arguments submitted since they were last weighed, and before
        )
        self.is_over = False  # too many of them are unsettled
        self._weighed = 0.0  # when
        self._released: dict[Outgoing, None] | None = None  # see `released_together`
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

    def sent_lately(self) -> list[tuple[Stream, int, list[int], float]]:
        """Return the runs that left last, oldest first: stream, first number, methods, when."""
        runs: list[tuple[Stream, int, list[int], float]] = []
        with self.lock:
            history = list(self.history)
        for sent_on, number, methods, when in history:
            if type(sent_on) is not list:
                runs.append((sent_on, number, methods, when))
                continue
            for at, stream in enumerate(sent_on):
                runs.append((stream, number + at, [methods[at]], when))
        return runs

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
                        self.fail(result, stream.failure)
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
                if self._released is not None:
                    self._released[outgoing] = None
                else:
                    outgoing.flush()

    @contextmanager
    def released_together(self) -> Iterator[None]:
        """What is released meanwhile leaves at the end, many calls to a message. On the leader."""
        with self.lock:
            self._released = {}
        try:
            yield
        finally:
            with self.lock:
                released, self._released = self._released, None
            for outgoing in released:
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

    def note_name(self, result: Result, name: str) -> None:
        """Remember, for listings, the name that a call was given."""
        names = self.given_names
        names[result.stream.caller, result.number] = name
        while len(names) > NAMES_KEPT:
            del names[next(iter(names))]

    def fail(self, result: Result, error: BaseException) -> None:
        """Settle a call with an error that was made here."""
        self.note_failure(result, ERROR, error)
        result.settle(ERROR, error)

    def note_failure(self, result: Result, state: int, value: Any) -> None:
        """Remember, for listings, that a call has failed; it is about to be settled so."""
        failure = failure_of(result, state, value)
        failures = self.failures
        with self.lock:
            failures[result.object_id()] = failure
            while len(failures) > FAILURES_KEPT:
                del failures[next(iter(failures))]

    # -- replies -------------------------------------------------------------------------------

    def replies_received(  # noqa: C901 - the hot path
        self, peer: Peer, body: Any, frames: Sequence[bytes]
    ) -> None:
        """Settle the calls of a REPLIES message. On the leader."""
        outgoing: Outgoing | None = peer.calls
        if outgoing is None:
            raise RemoteProtocolError("replies of a process that was never called")
        streams = outgoing.streams
        settled = 0
        for group in body:
            if group[0] is None:
                settled += self._settle_singles(peer, group[1], frames)
                continue
            try:
                stream = streams[group[0]]
            except IndexError:
                raise RemoteProtocolError(f"channel {group[0]} was not defined") from None
            if stream.single is not None:
                with self.lock:
                    stream.expand()
            pop = stream.several.pop
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

    def _settle_singles(self, peer: Peer, replies: list[Any], frames: Any) -> int:
        """Settle calls that were the only one of their stream, most of them."""
        streams = peer.calls.streams
        settled = 0
        others: list[Any] = []
        told: list[Result] = []  # results that somebody waits for
        held: list[Stream] = []
        flat = iter(replies)
        with self.lock:  # somebody may be sending on the same streams
            for channel, seq, status, value in zip(flat, flat, flat, flat, strict=True):
                try:
                    stream = streams[channel]
                except IndexError:
                    raise RemoteProtocolError(f"channel {channel} was not defined") from None
                result = stream.single
                if result is None or result.seq != seq or status > 1:
                    others.append([channel, [seq, status, value]])
                    continue
                stream.single = None
                result.value = value
                result.state = status + 1
                result.payload = result.pin = None
                settled += 1
                if result.waiters is not None:
                    told.append(result)
                if stream.held:
                    held.append(stream)
        for result in told:
            try:
                tell(result)
            except Exception:  # noqa: BLE001 - the rest of the batch must be settled
                report_bug("telling of a result")
        for stream in held:
            self.release(stream)
        if others:
            self.replies_received(peer, others, frames)
        return settled

    def _settle_broken(self, stream: Stream, seq: int, result: Result | None) -> None:
        """A reply could not be read: its call has at least that outcome."""
        report_bug("reading a reply")
        stream.pending.pop(seq, None)
        if result is not None and result.state == PENDING:
            self.fail(result, RemoteProtocolError("the reply to the call could not be read"))

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
            self.note_failure(
                result, USER_ERROR if status == batches.USER_ERROR else ERROR, value
            )
        self.on_special(peer, result, status, value, extras)
        if status == batches.NATIVE:
            result.settle(1, value)
        elif status == batches.ERROR:
            result.settle(ERROR, from_wire(value))
        elif status == batches.BUSY:
            text = "the actor's mailbox is full; the call was not taken"
            self.fail(result, PendingCallsLimitExceeded(text))
        else:
            if batches.Y_FRAMES in extras:
                value = (value, frames)
            state = _result_state[status]
            if state == USER_ERROR and type(result).settle is Result.settle:
                result.settle_keeping(state, value, self.on_user_error(result, value))
            else:
                result.settle(state, value)
        return 1


def _retrying(
    peer: Peer,
    stream: Stream,
    seq: int,
    value: Any,
    extras: Any,
    frames: Any,  # noqa: ARG001
) -> int:
    """The callee runs a call again for what it raised."""
    result = stream.pending.get(seq)
    if result is not None:
        spend_retry(result)
    return 0


def _nothing(peer: Peer, result: Result, status: int, value: Any, extras: Any) -> None:
    """A process without objects has nothing to note."""


def _keeps_nothing(result: Result, value: Any) -> None:
    """A process that does not say what nobody has asked for."""


class Identity:
    """Who calls: a caller id, its call counter, and its streams by actor."""

    __slots__ = ("caller", "is_current", "numbers", "streams")

    def __init__(self, caller: bytes) -> None:
        self.caller = caller
        self.is_current = True  # what runs in this process now calls under this identity
        self.numbers = count(1)
        self.streams: dict[Any, Stream] = {}


protect_module(__name__)
