"""Calls in flight at the caller: which outcome belongs to which call.

A `Result` is the one outcome of a call: pending, then settled for ever. A `Stream` is the ordered
run of calls from one caller to one actor: it numbers calls as they leave, keeps them until they
are settled, and holds back those that cannot leave yet.

Does not send, pickle, lock or time anything: `runtime.calls.caller` does.

Invariants
    C1  A result settles once; a later outcome for the same seq finds nothing pending.
    C2  Seqs of a stream are taken in the order of submission, without gaps.
    C3  `floor()` is the lowest seq not settled: nothing below it is ever sent again.
    C4  What is held is in the order of submission, whatever is put back when.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Any

from zactor.ids import pack_object_id
from zactor.wire.batches import X_RETRY

# States of a result. The settled ones say how `value` is to be read.
PENDING = 0
NATIVE = 1  # the value itself: immutable, msgpack carried it
PICKLED = 2  # pickle bytes, or (bytes, buffers)
USER_ERROR = 3  # a pickled exception of the user's code
ERROR = 4  # an exception of zactor's, made here
STORED = 5  # a place in shared memory
LOCAL = 6  # an object that never left this process (in-process mode)

error_watchers: list[Any] = []
"""Who wants to hear, by `error_settled()`, that some result became an error: a `get` of a list must
raise the first one that is known, and cannot afford to watch each of 10,000 results."""

DEFAULT_CREDIT = 16_384  # calls of one stream that may be sent and unsettled


class Result:
    """The outcome of one call, or a value that was put.

    Attributes:
        state: PENDING, or how to read `value`.
        value: The outcome; see `state`.
        stream: The stream the call belongs to, or None for a value that was put.
        number: n of the call id; with `index` and the stream's caller, the object id.
        index: Which of the call's return values this is.
        seq: Its place in the stream, once it has left.
        method: Method number within the actor's class.
        payload: Pickled arguments, None, or `[pickled, extras]`; dropped once settled.
        frames: Payload frames that travel with the call, or None.
        pin: What must stay alive until the call is settled: a handle's or references' guards; and after
            that, of one that failed, what tells if nobody asks for it (runtime.calls.unhandled).
        waiters: Who wants to hear of the outcome: None, or a list with `settled(result)`.
        guard: What tells, by its end, that nobody here wants the value any more (runtime.objects).
        inner: References contained in the value, `(object id, owner)` each; None if there are none.
        refs: The references its value was last read with: while it lives, reading it again finds them.
        waiting: How many references among its arguments have no value yet: it is held until none.
        retries: How often the call may be sent to another life; -1: always.
    """

    __slots__ = (
        "frames",
        "guard",
        "index",
        "inner",
        "method",
        "number",
        "payload",
        "pin",
        "refs",
        "retries",
        "seq",
        "state",
        "stream",
        "value",
        "waiters",
        "waiting",
    )

    seq: int  # unset until it has left
    refs: list[Any]  # unset until a value with references in it is read

    def __init__(
        self, stream: Any, number: int, method: int, payload: Any, pin: Any, retries: int
    ) -> None:
        self.state = PENDING
        self.stream = stream
        self.number = number
        self.method = method
        self.payload = payload
        self.pin = pin
        self.retries = retries
        self.waiters: Any = None
        self.frames: Any = None
        self.waiting = 0
        self.inner: Any = None
        self.index = 0
        self.guard: Any = None

    def object_id(self) -> bytes:
        """Return the 28 bytes that name this outcome everywhere."""
        return pack_object_id(self.stream.caller, self.number, self.index)

    def settle(self, state: int, value: Any) -> None:
        """Give the outcome, and tell who waits."""
        self.settle_keeping(state, value, None)

    def settle_keeping(self, state: int, value: Any, kept: Any) -> None:
        """`settle`, and keep something for as long as somebody has the result."""
        self.value = value
        self.pin = kept
        self.state = state
        self.payload = self.frames = None
        if self.waiters is not None:
            tell(self)
        if error_watchers and (state == USER_ERROR or state == ERROR):  # noqa: PLR1714, SIM109, SIM109 - the hot path
            for watcher in list(error_watchers):  # noqa: PERF101 - they take themselves off
                watcher.error_settled()

    def add_waiter(self, waiter: Any) -> None:
        """Have `waiter.settled(result)` called once; now, if the result is settled already."""
        waiters = self.waiters
        if waiters is None:
            waiters = self.waiters = []
        waiters.append(waiter)
        # Each waiter is told by whoever takes it out of the list, so that none is told twice, nor
        # forgotten when it came while the result was being settled.
        if self.state != PENDING:
            try:
                waiters.remove(waiter)
            except ValueError:
                return
            waiter.settled(self)

    def remove_waiter(self, waiter: Any) -> None:
        """Take a waiter back that has not been told."""
        if self.waiters is not None:
            try:
                self.waiters.remove(waiter)
            except ValueError:
                pass


def tell(result: Result) -> None:
    """Tell who waits for a result that it is settled.

    Raises:
        Exception: What one of them raised, after all were told.
    """
    waiters = result.waiters
    result.waiters = None
    while waiters:
        try:
            waiter = waiters.pop()
        except IndexError:
            return
        try:
            waiter.settled(result)
        except BaseException:
            result.waiters = waiters
            tell(result)  # the others
            raise


def _number(result: Result) -> int:
    return result.number


def payload_size(result: Result) -> int:
    """Return how many bytes of arguments a call keeps until it is settled, about."""
    payload = result.payload
    if payload is None:
        return 0
    if type(payload) is bytes:
        return len(payload)
    size = len(payload[0]) if payload[0] else 0
    if result.frames:
        size += sum(map(len, result.frames))
    return size


class _NoCalls(dict[int, Result]):
    """What a stream without calls has for `pending`."""

    def __setitem__(self, seq: int, result: Result) -> None:
        raise TypeError("it is every stream's")


NO_CALLS: dict[int, Result] = _NoCalls()


class Stream:
    """The calls of one caller to one actor, in order.

    Attributes:
        numbers: The caller's call counter, shared by all its streams.
        next_seq: The seq the next call to leave will take.
        single: The only call that has left and is not settled, if it left as such. A dict for it would
            take 230 bytes, and be one more object for the garbage collector to go through.
        several: Calls that have left and are not settled otherwise, by seq, in order.
        held: Calls that wait: for a place to go to, for the first one's arguments, for credit. A deque
            while there are some; an empty one takes 760 bytes, and there may be a hundred thousand.
        outgoing: Where calls go now (see runtime.caller); None while there is no such place.
        is_open: Nothing is held and there is a place: a call may go straight to `outgoing`.
        channel: The number that stands for this stream on the present link, or -1.
    """

    __slots__ = (
        "actor",
        "caller",
        "channel",
        "credit",
        "failure",
        "held",
        "identity",
        "is_open",
        "life",
        "next_seq",
        "number",
        "numbers",
        "outgoing",
        "several",
        "single",
        "target",
        "version",
    )

    def __init__(self, caller: bytes, actor: bytes, number: int, numbers: count[int]) -> None:
        self.caller = caller
        self.actor = actor
        self.number = number
        self.numbers = numbers
        self.life = 0
        self.version = 0
        self.next_seq = 1
        self.single: Result | None = None
        self.several: dict[int, Result] = NO_CALLS  # until it is needed
        self.held: Any = ()
        self.outgoing: Any = None
        self.is_open = False
        self.channel = -1
        self.credit = DEFAULT_CREDIT
        self.failure: Any = None  # the error of every call, once there is no place for ever
        self.identity: Any = None  # whose stream it is (runtime.caller)
        self.target: Any = None  # the actor as its callers see it (runtime.actors)

    def sent(self, seq: int, result: Result) -> None:
        """Enter a call that leaves as `seq`."""
        self.expand()[seq] = result
        result.seq = seq

    @property
    def pending(self) -> dict[int, Result]:
        """Calls that have left and are not settled, by seq, in order; to be changed by `expand` alone."""
        single = self.single
        return self.several if single is None else {single.seq: single}

    def expand(self) -> dict[int, Result]:
        """Return the calls that have left and are not settled, to be changed. With the caller's lock."""
        if self.several is NO_CALLS:
            self.several = {}
        single = self.single
        if single is not None:
            self.single = None
            self.several[single.seq] = single
        return self.several

    def floor(self) -> int:
        """Return the lowest seq that is not settled."""
        single = self.single
        if single is not None:
            return single.seq
        for seq in self.several:
            return seq
        return self.next_seq

    def unsettled(self) -> int:
        """Return how many calls were submitted and are not settled."""
        return len(self.pending) + len(self.held)

    def hold(self, result: Result) -> None:
        """Have a call wait behind those that wait already (C4)."""
        held = self.held
        if not held:
            self.held = deque((result,))
        elif result.number < held[-1].number:  # another thread was faster
            self.put_back([result])
        else:
            held.append(result)

    def put_back(self, results: list[Result]) -> None:
        """Have calls that were on their way wait again, each in its place (C4).

        Args:
            results: In the order of submission.
        """
        held = self.held
        if not held:
            self.held = deque(results)
        elif results[-1].number < held[0].number:
            held.extendleft(reversed(results))
        else:
            self.held = deque(sorted([*held, *results], key=_number))

    def take_held(self) -> list[Result]:
        """Remove and return, in order, the calls that wait."""
        held, self.held = list(self.held), ()
        return held

    def take_pending(self) -> list[Result]:
        """Remove and return, in order, the calls that had left: their callee's life is over."""
        pending = list(self.pending.values())
        self.single, self.several = None, NO_CALLS
        return pending

    def check(self) -> None:
        """Assert the invariants."""
        assert self.single is None or not self.several
        seqs = list(self.pending)
        assert seqs == sorted(seqs)  # C2
        assert not seqs or seqs[-1] < self.next_seq
        assert all(result.state == PENDING for result in self.pending.values())  # C1
        numbers = [result.number for result in self.held]
        assert numbers == sorted(numbers)  # C4
        assert not (self.is_open and (self.held or self.outgoing is None))


def spend_retry(result: Result) -> None:
    """Count that a call which ran is sent again, or that its callee runs it again for what it raised.

    Both are of one number.
    """
    if result.retries <= 0:
        return
    result.retries -= 1
    payload = result.payload
    if type(payload) is list and X_RETRY in payload[1]:
        _, kinds = payload[1][X_RETRY]
        result.payload = [payload[0], {**payload[1], X_RETRY: [result.retries, kinds]}]
