"""Lost values made again: the owner makes the call that made a value once more.

The owner of a stored value keeps how the call was made (`core.lineage`) for as long as the value lives or
anything that was made from it does. Whoever finds that a value is not where it should be asks
the owner, naming the place where it was, and waits for a new one. What tasks have made, and a node took with
it when it died, is made again at once.

Made again are tasks with `max_retries` left, and actors' calls with `max_task_retries` left; what was put
is not. What a call returned beside the lost value (`num_returns`, the items of a stream) is made anew
with it. A call gets the values that it had: those that are freed by then are made again by their own calls,
with all of their ancestors, if these can be. References inside other arguments count like arguments if
their values were stored; a small value that was freed meanwhile is gone.

Owned by: the lock of the reference table. Nothing is submitted or waited for under it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, NATIVE, PENDING, STORED, USER_ERROR, Result
from zactor.core.lineage import Lineage, Record
from zactor.exceptions import (
    ObjectReconstructionFailedError,
    PendingCallsLimitExceeded,
    ZactorError,
)
from zactor.ids import split_object_id
from zactor.runtime.calls.arguments import SettledCall, wait_for_arguments
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.objects.again import Again, Spec
from zactor.runtime.objects.objects import Borrowed
from zactor.store import layout
from zactor.wire import batches
from zactor.wire.messages import Address, ReadSegment

if TYPE_CHECKING:
    from zactor.runtime.process import Process

MOST_BYTES = 256 << 20
"""Arguments that records keep, in this process or in the store."""

RECORD_BYTES = 1_000  # what a record takes besides


class Recovery:
    """What this process owns and can make again, and what is being made again."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lock = process.objects.lock
        self.lineage = Lineage(MOST_BYTES)
        self._again: dict[bytes, Again] = {}  # under way, by call id
        process.objects.recovery = self

    # -- records -------------------------------------------------------------------------------

    def note(self, result: Result, object_id: bytes) -> None:
        """A value of a call was stored: keep how the call was made. Before `result` is settled."""
        if result.retries or isinstance(result, Again):
            with self._lock:
                self.lineage.note(object_id, lambda: self._record(result, object_id))
            place = self._process.objects.place_of(object_id)
            if place is not None:
                self._process.objects.watch(place[3][0])

    def _record(self, result: Result, object_id: bytes) -> Record | None:
        if isinstance(result, Again):
            return None  # nobody held its values any more when they came
        spec = Spec(result)
        pins = result.pin if type(result.pin) is list else ()
        by_id = {pin.binary(): pin for pin in pins if type(pin) is ObjectRef}
        parents: dict[bytes, Any] = {}
        for row in spec.extras.get(batches.X_REFS, ()):
            if row[1][0] == self._process.id:
                known = self.lineage.find(row[0])
                if known is not None:
                    parents[row[0]] = known
        for row in spec.extras.get(batches.X_SLOTS, ()):
            if row[1] == batches.STORED:
                # What cannot be made again, as what was put, is kept for those that can.
                parents[row[3]] = self.lineage.find(row[3]) or by_id.get(row[3])
        size = RECORD_BYTES + spec.size
        stored = spec.extras.get(batches.X_STORED)
        if stored is not None:
            size += stored[0][1]
            spec.kept = by_id.get(stored[1])
        return Record(object_id[:24], spec, size, parents, result.retries)

    def forget(self, object_id: bytes) -> None:
        """The object is freed; what was made from it may still need its record."""
        with self._lock:
            self.lineage.forget(object_id)

    # -- making again --------------------------------------------------------------------------

    def make_again(self, object_id: bytes, lost: Any) -> Result | None:
        """An object of ours is not at its place: have it made again.

        Returns:
            What will have its value; None if it was made again already, at another place.

        Raises:
            ObjectReconstructionFailedError: It cannot be.
        """
        with self._lock:
            place = self._process.objects.place_of(object_id)
            if place is not None and list(place) != list(lost):
                return None
            record = self.lineage.find(object_id)
            if record is None or record.is_evicted:
                raise _failed(object_id, object_id, self.lineage.reason(object_id))
            again = self._again.get(record.call)
            begun = [] if again is not None else self._begin(record, object_id)
            again = self._again[record.call]
            part = again.part(split_object_id(object_id)[2])
            if part is None:  # this run has passed it already
                part = Result(None, 0, 0, None, None, 0)
                again.add_waiter(_Later(self, object_id, lost, part))
        for each in begun:
            awaited = [
                self._presence(object_id) if parent is None else parent
                for object_id, parent in each.parents.items()
                if type(parent) is not ObjectRef
            ]
            wait_for_arguments(self._process, each, awaited, self._submit)
        return part

    def node_died(self, process: bytes) -> None:
        """If the process was a node, have tasks make again at once what lay there. On the leader.

        Waiting until somebody wants the values, one after another, would make what several of them
        were made from anew for each of them. Calls of actors change these: they wait.
        """
        with self._lock:
            lost = [
                (object_id, place)
                for object_id, place in self._process.objects.places()
                if place[3][0] == process and self._is_tasks(object_id)
            ]
        for object_id, place in lost:
            self.make_later(object_id, place, Result(None, 0, 0, None, None, 0))

    def _is_tasks(self, object_id: bytes) -> bool:
        record = self.lineage.find(object_id)
        return (
            record is not None
            and not record.is_evicted
            and record.spec.queue is not None
            and record.retries != 0
        )

    def under_way(self, object_id: bytes) -> Again | None:
        """Return the call that is made again for an object, if one is."""
        return self._again.get(object_id[:24])

    def make_later(self, object_id: bytes, lost: Any, part: Result) -> None:
        """`make_again`, with its outcome told to `part`. On the leader."""
        try:
            again = self.make_again(object_id, lost)
        except ZactorError as error:
            part.settle(ERROR, error)
            return
        if again is None:
            part.settle(STORED, self._process.objects.place_of(object_id))
        else:
            again.add_waiter(_Copy(part))

    def _presence(self, object_id: bytes) -> Result:
        """Return what is settled once an argument is known to be at its place, or was made again.

        A call that found it missing could not wait for it: it may have to be made by the same actor.
        """
        place = self._process.objects.place_of(object_id)
        found = Result(None, 0, 0, None, None, 0)
        if place is None:
            found.settle(NATIVE, None)
            return found
        ask = ReadSegment(0, place[0], 0, layout.HEADER_SIZE)
        future = self._process.post.request(Address._make(place[3]), ask)

        def answered(done: Any) -> None:
            header = layout.read_header(done.result()[1]) if done.exception() is None else None
            if header is not None and header.object_id == object_id:
                found.settle(NATIVE, None)
            else:
                self.make_later(object_id, place, found)

        future.add_done_callback(answered)
        return found

    def later(self, object_id: bytes, lost: Any, part: Result) -> None:
        """`make_later`, once what is being settled now is."""
        post = self._process.post
        post.call_later(0, lambda: self.make_later(object_id, lost, part))

    def _begin(self, record: Record, wanted: bytes) -> list[Again]:
        """Enter what has to be made again: a record's call, and before it those of lost ancestors."""
        order: dict[bytes, Record] = {}
        stack = [(record, False)]
        while stack:
            each, is_ready = stack.pop()
            if each.call in self._again or each.call in order:
                continue
            if is_ready:
                order[each.call] = each
                continue
            stack.append((each, True))
            stack += [(parent, False) for parent in self._gone(each, wanted)]
        return [self._make(each) for each in order.values()]

    def _gone(self, record: Record, wanted: bytes) -> list[Record]:
        """Return the records of those arguments of a call that are freed.

        Raises:
            ObjectReconstructionFailedError: The call, or such an argument, cannot be made again.
        """
        if not record.retries:
            raise _failed(wanted, record.call + bytes(4), "MAX_ATTEMPTS")
        gone = []
        for object_id, parent in record.parents.items():
            if isinstance(parent, ObjectRef) or self._process.objects.place_of(object_id):
                continue
            if parent is None or parent.is_evicted:
                reason = self.lineage.reason(object_id) if parent is None else "LINEAGE_EVICTED"
                raise _failed(wanted, object_id, reason)
            gone.append(parent)
        return gone

    def _make(self, record: Record) -> Again:
        objects = self._process.objects
        call = record.call + bytes(4)
        record.retries -= record.retries > 0
        again: Again = record.spec.again(self._process, record)
        self._again[record.call] = again
        again.add_waiter(_Made(self, again))
        for object_id, parent in record.parents.items():
            if isinstance(parent, ObjectRef) and isinstance(parent._result, Borrowed):  # noqa: SLF001
                again.parents[object_id] = parent
            elif objects.call_holds(call, object_id):
                again.parents[object_id] = None
            else:
                index = split_object_id(object_id)[2]
                again.parents[object_id] = self._again[parent.call].part(index)
        # The last one stands for the call itself.
        kept = [again.spec.kept, *again.parents.values()]
        again.pin = [None, *kept, SettledCall(objects.settled_calls, call)]
        return again

    def _submit(self, result: Result) -> None:
        """Its arguments are there: name them in the call, and send it."""
        if result.state != PENDING:
            return
        assert isinstance(result, Again)
        process, extras = self._process, result.payload[1]
        made = {}
        for object_id, parent in result.parents.items():
            if isinstance(parent, Result):
                made[object_id] = parent
                ref: ObjectRef[Any] = ObjectRef(parent)
                ref.reference(process)  # whoever gets it asks for its value
                result.pin.insert(1, ref)
        held = [
            (object_id, owner[0])
            for object_id, owner in extras.get(batches.X_REFS, ())
            if object_id not in result.parents or object_id in made
        ]
        slots = [self._slot(row, made) for row in extras.get(batches.X_SLOTS, ())]
        if slots:
            extras[batches.X_SLOTS] = slots
        process.objects.call_leaves_again(result.object_id(), held)
        result.waiting = 0
        if hasattr(result, "queue"):
            process.tasks.submit(result)  # type: ignore[arg-type]
        else:
            self._call(result)

    def _slot(self, row: list[Any], made: dict[bytes, Result]) -> list[Any]:
        """Return the slot of an argument with the place where it is now."""
        if row[1] != batches.STORED:
            return row
        parent = made.get(row[3])
        if parent is not None:
            return filled_slot(row, parent)
        place = self._process.objects.place_of(row[3])
        return row if place is None else [row[0], batches.STORED, place, row[3]]

    def _call(self, again: Again) -> None:
        """Call the actor again."""
        process, spec = self._process, again.spec
        again.stream = process.actors.stream(spec.view, spec.identity, spec.stream_number)
        if not process.actors.refuse(again):
            try:
                process.caller.hold(again)
            except PendingCallsLimitExceeded:
                pass  # it is its outcome

    def made(self, again: Again) -> None:
        """It was made again, or could not be. On the leader."""
        record = again.record
        with self._lock:
            self._again.pop(record.call, None)
            if not getattr(again, "is_dropped", False):
                record.retries = min(record.retries, again.retries)
            live = sorted(record.live)
        for index in live:
            part = again.arrived_part(index)
            if part is not None and part.state != PENDING:
                object_id = record.call + index.to_bytes(4, "big")
                self._process.objects.made_again(object_id, part)


def _failed(wanted: bytes, because_of: bytes, reason: str) -> ObjectReconstructionFailedError:
    """Return the error of a value that cannot be had, because of itself or of an ancestor."""
    error = ObjectReconstructionFailedError(object_ref_hex=wanted.hex(), reason=reason)
    if because_of[:24] != wanted[:24]:
        why = error.reason_message
        error.message = (
            f"It was made from object {because_of.hex()}, which is gone, and which cannot be "
            f"reconstructed because {why.partition(' because ')[2]}"
        )
    return error


def filled_slot(row: list[Any], made: Result) -> list[Any]:
    """Return the slot of an argument with the value that it has now."""
    if made.state == STORED:
        return [row[0], batches.STORED, made.value, row[3]]
    status = batches.USER_ERROR if made.state == USER_ERROR else made.state - 1
    value = made.value
    if type(value) is tuple:
        value = [value[0], list(value[1])]
    return [row[0], status, value]


class _Later:
    """Makes a value again once the run that has passed it is over."""

    __slots__ = ("_lost", "_object_id", "_part", "_recovery")

    def __init__(self, recovery: Recovery, object_id: bytes, lost: Any, part: Result) -> None:
        self._recovery = recovery
        self._object_id = object_id
        self._lost = lost
        self._part = part

    def settled(self, result: Result) -> None:  # noqa: ARG002
        """On the leader."""
        self._recovery.later(self._object_id, self._lost, self._part)


class _Copy:
    """Gives a result the outcome of another."""

    __slots__ = ("_part",)

    def __init__(self, part: Result) -> None:
        self._part = part

    def settled(self, result: Result) -> None:
        """On the leader."""
        self._part.inner = result.inner
        self._part.settle(result.state, result.value)


class _Made:
    """Waits for the end of a call that is made again."""

    __slots__ = ("_again", "_recovery")

    def __init__(self, recovery: Recovery, again: Again) -> None:
        self._recovery = recovery
        self._again = again

    def settled(self, result: Result) -> None:  # noqa: ARG002
        """On the leader."""
        self._recovery.made(self._again)
