"""Calls that yield: items travel one by one, before the call has its outcome.

What the callee does with a generator stands in `outflow`.

At the caller a `Streaming` result keeps what has arrived and was not taken. Items become results of
their own, with the call's id and an index from 1, when they are taken. A stream that was passed on is
pulled from its owner, an item at a time, by a `RemoteStream`.

A generator that is run again yields from the start; what was received before is passed over.

Owned by: `arrived` is appended to by the leader and taken from by the consumer.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, NATIVE, PENDING, PICKLED, USER_ERROR, Result
from zactor.exceptions import (
    OwnerDiedError,
    StreamingGeneratorReplayInconsistentError,
    TaskCancelledError,
    ZactorError,
    from_wire,
    to_wire,
)
from zactor.ids import pack_object_id
from zactor.runtime import current as processes
from zactor.runtime.calls.arguments import references_of
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.several import Part
from zactor.runtime.calls.values import settle_wire
from zactor.runtime.links.interrupts import protected
from zactor.serde.values import dumps, loads
from zactor.wire import batches
from zactor.wire.codec import STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zactor.core.calls import Stream
    from zactor.runtime.hosting.outflow import Outflow
    from zactor.runtime.links.peer import Peer
    from zactor.runtime.offered import Offered
    from zactor.runtime.process import Process
    from zactor.wire.messages import Address

# What STREAM messages say, their first field.
CREDIT, DROP, PULL, PULLED = 1, 2, 3, 4

_ready = Result(None, 0, 0, None, None, 0)
_ready.state = NATIVE


# -- the caller ---------------------------------------------------------------------------------


class Streaming(Result):
    """A call that yields. Its own outcome tells that it is over.

    Attributes:
        arrived: What came and was not taken: `(status, value)`, or an `Item`.
        received: How many items came, ever.
        taken: How many were taken.
        is_over: No more will come.
        is_dropped: Nobody wants more.
        backpressure: How many may be untaken before the generator waits; 0: any number.
        signal: A result that is settled when something comes; None if nobody waits.
        pullers: Peers that asked for an item, `(peer, ticket)`.
    """

    __slots__ = (
        "arrived", "backpressure", "is_dropped", "is_dynamic", "is_over", "pullers", "received",
        "signal", "taken", "told",
    )  # fmt: skip

    def __init__(self, *fields: Any) -> None:
        super().__init__(*fields)
        self.arrived: deque[Any] = deque()
        self.received = self.taken = self.told = self.backpressure = 0
        self.is_over = self.is_dropped = self.is_dynamic = False
        self.signal: Result | None = None
        self.pullers: deque[tuple[Peer, int]] = deque()

    def expect(self, returns: Any, extras: dict[int, Any]) -> None:
        """Note what the call asks for."""
        self.is_dynamic = returns == "dynamic"
        self.backpressure = extras.get(batches.X_BACKPRESSURE, 0)

    def settle(self, state: int, value: Any) -> None:
        """The call ends with an error: the last item raises it."""
        if not self.is_over:
            item = Item(self, self.received + 1)
            item.state, item.value = state, value
            self.arrived.append(item)
            process = processes.current()
            if (
                self.is_dynamic
                and self.received
                and state == USER_ERROR
                and process is not None
            ):
                self._end_dynamic(process)
            else:
                self._end(state, value)

    def _end(self, state: int, value: Any) -> None:
        self.is_over = True
        super().settle(state, value)
        self.changed()

    def ended(self, process: Offered, length: int) -> None:
        """The generator has returned, after `length` items. On the leader."""
        if length < self.received and not self.is_dropped:
            self.settle(
                ERROR,
                StreamingGeneratorReplayInconsistentError(
                    f"the generator was run again and yielded {length} values; the run before had "
                    f"yielded {self.received} already"
                ),
            )
            return
        if self.is_dynamic:
            self._end_dynamic(process)
        else:
            self._end(NATIVE, None)

    def _end_dynamic(self, process: Offered) -> None:
        """The value is the references of all that came; the last may be that of an error."""
        refs: list[ObjectRef[Any]] = [ObjectRef(item) for item in iter(self.take_nowait, None)]
        payload, _, inner = dumps(DynamicObjectRefGenerator(refs))
        process.objects.hold_value(self, references_of(process, inner))
        self._end(PICKLED, payload)

    def changed(self) -> None:
        """Something has arrived, or nothing more will: tell who waits."""
        signal = self.signal
        if signal is not None:
            self.signal = None
            signal.settle(NATIVE, None)

    # -- the consumer

    def waitable(self) -> Result:
        """Return a result that is settled once `take_nowait` has something to say."""
        if self.arrived or self.is_over:
            return _ready
        signal = self.signal
        if signal is None:
            signal = self.signal = Result(None, 0, 0, None, None, 0)
            if self.arrived or self.is_over:
                return _ready
        return signal

    def take_nowait(self) -> Result | None:
        """Return the next item, or None if none is there."""
        try:
            entry = self.arrived.popleft()
        except IndexError:
            return None
        self.taken = taken = self.taken + 1
        if type(entry) is not tuple:
            item: Result = entry
            return item
        item = Item(self, taken)
        item.state = entry[0] + 1
        item.value = entry[1]
        return item


class StreamingTask(Streaming):
    """A task that yields."""

    __slots__ = ("function", "has_run", "max_calls", "queue")


class Item(Part):
    """One value that was yielded."""

    __slots__ = ()

    def __init__(self, call: Any, index: int) -> None:
        self.state = PENDING
        self.stream = self.payload = self.pin = self.frames = None
        self.waiters = self.inner = self.guard = None
        self.number = self.method = self.retries = self.waiting = 0
        self.index = index
        self.call = call


class DynamicObjectRefGenerator:
    """The value of a task with `num_returns="dynamic"`: the references of all it has yielded."""

    def __init__(self, refs: list[ObjectRef[Any]]) -> None:
        self._refs = refs

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        yield from self._refs

    def __len__(self) -> int:
        return len(self._refs)


class RemoteStream:
    """A stream that another process owns, as it is seen here."""

    def __init__(self, process: Offered, ref: ObjectRef[Any], owner: Address) -> None:
        self._process = process
        self._ref = ref  # keeps the stream at its owner
        self._peer = process.post.peer(owner)
        self._ticket: Result | None = None

    def object_id(self) -> bytes:
        """Return the id of the call."""
        return self._ref.binary()

    def waitable(self) -> Result:
        """Return a result that is settled once `take_nowait` has something to say."""
        if self._ticket is None:
            self._ticket = self._process.streams.pull(self._peer, self._ref.binary())
        return self._ticket

    def take_nowait(self) -> Result | None:
        """Return the next item, or None if none is there."""
        ticket = self._ticket
        if ticket is None or not ticket.state or ticket.value is None:
            return None
        self._ticket = None
        item: Result = ticket.value
        return item

    @property
    def is_over(self) -> bool:
        """Whether no more will come."""
        ticket = self._ticket
        return ticket is not None and bool(ticket.state) and ticket.value is None


class Streams:
    """All streams of this process: those it consumes, and those it produces."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._outflows: dict[tuple[int, int], Outflow] = {}  # by intake and seq
        self._tickets: dict[int, tuple[Peer, bytes, Result]] = {}
        self._numbers = count(1)
        self._dropped: deque[Streaming] = deque()
        process.caller.special[batches.ITEM] = self._items
        process.caller.special[batches.END] = self._end
        process.post.on_kind(STREAM, self._received)
        process.reception.housekeeping.append((self._dropped, self._drop_those))

    # -- consuming

    def _items(
        self,
        peer: Peer,
        stream: Stream,
        seq: int,
        value: Any,
        extras: Any,
        frames: Any,  # noqa: ARG002
    ) -> int:
        result: Any = stream.pending.get(seq)
        if batches.Y_REFS in extras:
            self._special_item(peer, stream, result, value, extras[batches.Y_REFS])
            return 0
        if result is None or result.is_dropped:
            return 0
        new = value[0] + (len(value) >> 1) - result.received
        if new <= 0:
            self._came_again(result)
            return 0
        result.received += new
        if len(value) == 3:
            result.arrived.append((value[1], value[2]))
        else:
            entries = list(zip(value[1::2], value[2::2], strict=True))
            result.arrived.extend(entries if len(entries) == new else entries[-new:])
        result.changed()
        if result.pullers:
            self._serve(result)
        return 0

    def _special_item(
        self, peer: Peer, stream: Stream, result: Any, value: Any, rows: Any
    ) -> None:
        """An item that contains references, or is stored, or has buffers."""
        index, status, data, number = value
        objects = self._process.objects
        object_id = pack_object_id(stream.caller, number, index + 1)
        is_new = result is not None and not result.is_dropped and index >= result.received
        if not is_new:
            self._came_again(result)
        with objects.lock:
            if rows:
                objects.value_arrives(object_id, peer.id, None, rows)
            if not is_new and status != batches.STORED:
                return
            item: Result = Item(result, index + 1)
            if result is None or not is_new:
                item = _Unwanted(object_id)  # its end frees what is stored
            if rows:
                objects.hold_value(item, objects.learn(rows))
            if status == batches.STORED:
                item.value = data
                objects.watch_end(item)
                if is_new:
                    objects.note_origin(result, object_id)
            settle_wire(item, status, data)
        if is_new:
            result.received += 1
            result.arrived.append(item)
            result.changed()
            if result.pullers:
                self._serve(result)

    def _end(
        self,
        peer: Peer,
        stream: Stream,
        seq: int,
        value: Any,
        extras: Any,
        frames: Any,  # noqa: ARG002
    ) -> int:
        result: Any = stream.pending.pop(seq, None)
        if result is None:
            return 0
        if extras.get(batches.Y_UNCONFIRMED):
            result.pin[-1].is_told = True
            self._process.objects.call_settled(result.object_id(), peer.id, unconfirmed=True)
        result.ended(self._process, value)
        if result.pullers:
            self._serve(result)
        return 1

    def _came_again(self, result: Streaming | None) -> None:
        """A generator that runs again has yielded what its first run had: it may not wait for that."""
        if result is not None and result.backpressure and not result.is_dropped:
            self._tell_producer(result, CREDIT, result.taken)

    def took(self, result: Streaming) -> None:
        """Tell a generator under back-pressure what was consumed."""
        if (
            result.taken - result.told >= max(1, result.backpressure // 2)
            and not result.is_over
        ):
            result.told = result.taken
            self._tell_producer(result, CREDIT, result.taken)

    def _tell_producer(self, result: Streaming, what: int, *more: Any) -> bool:
        caller = self._process.caller
        stream = result.stream
        with caller.lock:
            outgoing = getattr(stream, "outgoing", None)
            if outgoing is None:
                return False
            if outgoing.gathered:
                outgoing.flush()
            if (
                stream.channel < 0
                or stream.pending.get(getattr(result, "seq", 0)) is not result
            ):
                return False
            with outgoing.peer.lock:
                outgoing.peer.transmit(STREAM, [what, stream.channel, result.seq, *more])
        return True

    def drop_soon(self, result: Streaming) -> None:
        """Nobody wants more of it. For finalizers: takes no lock."""
        self._dropped.append(result)
        self._process.reception.call_soon(self._drop_those)

    def _drop_those(self) -> None:
        while self._dropped:
            self.drop(self._dropped.popleft())

    def drop(self, result: Streaming) -> None:
        """Nobody wants more of it: end its generator."""
        result.arrived.clear()
        if result.is_over or result.is_dropped:
            return
        result.is_dropped = True
        result.retries = 0
        if not self._tell_producer(result, DROP) and result.state == PENDING:
            if (
                getattr(result.stream, "pending", {}).get(getattr(result, "seq", 0))
                is not result
            ):
                result.settle(ERROR, TaskCancelledError(executed="no"))
            result.arrived.clear()

    # -- streams that were passed on

    def pull(self, peer: Peer, call: bytes) -> Result:
        """Ask a stream's owner for its next item; return what is settled with it, or with None."""
        number = next(self._numbers)
        ticket = Result(None, 0, 0, None, None, 0)
        self._tickets[number] = (peer, call, ticket)
        with peer.lock:
            peer.transmit(STREAM, [PULL, call, number])
        self._process.objects.watch(peer.id)
        return ticket

    def tickets(self) -> list[Result]:
        """Return what waits for items of streams that others own."""
        return [ticket for _, _, ticket in list(self._tickets.values())]

    def asked_of(self, ticket: Result) -> tuple[Address, bytes] | None:
        """Return who was asked for an item, and which call it is of."""
        for peer, call, each in list(self._tickets.values()):
            if each is ticket:
                return peer.address, call
        return None

    def _pull(self, peer: Peer, call: bytes, number: int) -> None:
        result = self._process.objects.shared(call)
        if not isinstance(result, Streaming):
            error = to_wire(OwnerDiedError("the generator is not there any more"))
            with peer.lock:
                peer.transmit(STREAM, [PULLED, number, None, [], error])
            return
        result.pullers.append((peer, number))
        self._serve(result)

    def _serve(self, result: Streaming) -> None:
        """Answer those that have asked. On the leader."""
        objects = self._process.objects
        while result.pullers:
            item = result.take_nowait()
            if item is None and not result.is_over:
                return
            peer, number = result.pullers.popleft()
            if item is None:
                with peer.lock:
                    peer.transmit(STREAM, [PULLED, number, None, [], None])
                continue
            if result.backpressure:
                self.took(result)
            payload, _, refs = dumps(ObjectRef(item))
            named = references_of(self._process, refs)
            objects.value_leaves(item.object_id(), peer.id, named)
            with peer.lock:
                rows = objects.rows(named)
                peer.transmit(STREAM, [PULLED, number, payload, rows, None, item.object_id()])

    def _pulled(self, peer: Peer, body: Any) -> None:
        _, number, payload, rows, error = body[:5]
        _, _, ticket = self._tickets.pop(number, (None, None, None))
        objects = self._process.objects
        if error is not None:
            if ticket is not None:
                ticket.settle(NATIVE, _failed_item(from_wire(error)))
            return
        if payload is None:
            if ticket is not None:
                ticket.settle(NATIVE, None)
            return
        with objects.lock:
            objects.value_arrives(body[5], peer.id, None, rows)
            ref = loads(payload)
        objects.want(ref._result)  # noqa: SLF001
        if ticket is not None:
            ticket.settle(NATIVE, ref)

    # -- producing

    def opened(self, outflow: Outflow) -> None:
        """A generator begins to run here."""
        self._outflows[id(outflow.intake), outflow.seq] = outflow
        self._process.objects.watch(outflow.intake.peer.id)

    def closed(self, outflow: Outflow) -> None:
        """It has ended."""
        self._outflows.pop((id(outflow.intake), outflow.seq), None)

    def process_died(self, process: bytes) -> None:
        """A process is dead: what it consumed ends, what it owned will not come."""
        for outflow in list(self._outflows.values()):
            if outflow.intake.peer.id == process:
                outflow.drop()
        for number, (peer, _, ticket) in list(self._tickets.items()):
            if peer.id == process and self._tickets.pop(number, None) is not None:
                ticket.settle(
                    NATIVE, _failed_item(OwnerDiedError("the generator's owner is dead"))
                )

    def _received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:  # noqa: ARG002
        what = body[0]
        if what == PULL:
            self._pull(peer, body[1], body[2])
        elif what == PULLED:
            self._pulled(peer, body)
        else:
            intake = peer.channels[body[1]]
            outflow = self._outflows.get((id(intake), body[2]))
            if outflow is None:
                if what == DROP and body[2] not in intake.kept[::3]:
                    intake.cancel(body[2])
            elif what == CREDIT:
                outflow.consumed_now(body[3])
            else:
                outflow.drop()


class _Unwanted(Result):
    """A stored value that came too late for whoever asked."""

    __slots__ = ("id",)

    def __init__(self, object_id: bytes) -> None:
        super().__init__(None, 0, 0, None, None, 0)
        self.id = object_id

    def object_id(self) -> bytes:
        return self.id


def _failed_item(error: ZactorError) -> ObjectRef[Any]:
    item = Result(None, 0, 0, None, None, 0)
    item.settle(ERROR, error)
    return ObjectRef(item)


protected(
    Streaming.ended,
    Streams._items,  # noqa: SLF001
    Streams._end,  # noqa: SLF001
    Streams._received,  # noqa: SLF001
    Streams.drop,
)
