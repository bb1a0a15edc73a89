"""Lost values made again: the owner runs the task that made a value once more.

The owner of a stored value keeps how the task was called, for as long as the value lives or anything
that was made from it does; bounded by bytes, the oldest go first. Whoever finds that a value is
not where it should be asks the owner, naming the place where it was, and waits for a new one.

Only tasks with retries left are run again; what was put, and results of actors' calls, are not. A
task runs again with the values it was called with: those that are freed by then are made again by
their own tasks, if these can be. References inside other arguments are not: if their objects are freed
meanwhile, the task finds them gone. What a task returned beside others (`num_returns`) is not made
again.

Owned by: `_lock`. Never held while something is sent or submitted.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from zactor.core.calls import PENDING, STORED, USER_ERROR, Result
from zactor.exceptions import ObjectReconstructionFailedError
from zactor.ids import PUT_INDEX
from zactor.runtime.arguments import SettledCall, wait_for_arguments
from zactor.runtime.objects import Borrowed
from zactor.runtime.refs import ObjectRef
from zactor.runtime.tasks import TaskResult
from zactor.wire import batches

if TYPE_CHECKING:
    from zactor.runtime.process import Process

MOST_BYTES = 256 << 20
"""Arguments that records hold, in this process or in the store."""

RECORD_BYTES = 1_000  # what a record takes besides


class Record:
    """How a task was called.

    Attributes:
        parents: For each stored argument, how to have it again: a record, a reference that keeps it
            (it is somebody else's), or None.
        kept: What keeps large arguments in the store.
    """

    __slots__ = (
        "extras", "frames", "function", "kept", "max_calls", "number", "object_id", "parents", "payload",
        "queue", "retries", "size",
    )  # fmt: skip

    object_id: bytes

    def __init__(self, result: TaskResult) -> None:
        self.function = result.function
        self.queue = result.queue
        self.max_calls = result.max_calls
        self.number = result.number
        self.object_id = result.object_id()
        self.retries = result.retries
        payload, extras = (
            result.payload if type(result.payload) is list else (result.payload, {})
        )
        self.payload = payload
        self.extras = {k: v for k, v in extras.items() if k != batches.X_FUNCTION}
        self.frames = result.frames
        self.parents: dict[bytes, Any] = {}
        self.kept: Any = None
        size = RECORD_BYTES + len(payload or b"") + sum(map(len, self.frames or ()))
        stored = extras.get(batches.X_STORED)
        if stored is not None:
            size += stored[0][1]
        self.size = size


class Again(TaskResult):
    """A task that is run again. Its object is in the reference table already."""

    __slots__ = ("parents",)

    parents: dict[bytes, Any]


class Recovery:
    """The records of what this process owns, and what is being made again."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._records: OrderedDict[bytes, Record] = OrderedDict()
        self._bytes = 0
        self._has_evicted = False
        self._again: dict[bytes, Again] = {}  # under way
        process.objects.recovery = self

    # -- records -------------------------------------------------------------------------------

    def note(self, result: TaskResult) -> None:
        """A task's value was stored: keep how it was called. Before `result` is settled."""
        if not result.retries:
            return
        record = Record(result)
        pins = [pin for pin in result.pin or () if type(pin) is ObjectRef]
        by_id = {pin.binary(): pin for pin in pins}
        for row in record.extras.get(batches.X_SLOTS, ()):
            if row[1] == batches.STORED:
                pin = by_id.get(row[3])
                known = self._records.get(row[3])
                is_others = pin is not None and isinstance(pin._result, Borrowed)  # noqa: SLF001
                record.parents[row[3]] = pin if is_others else known
        stored = record.extras.get(batches.X_STORED)
        if stored is not None:
            record.kept = by_id.get(stored[1])
        with self._lock:
            earlier = self._records.pop(record.object_id, None)
            self._records[record.object_id] = record
            self._bytes += record.size - (earlier.size if earlier is not None else 0)
            while self._bytes > MOST_BYTES:
                _, oldest = self._records.popitem(last=False)
                self._bytes -= oldest.size
                oldest.kept = None
                self._has_evicted = True

    def forget(self, object_id: bytes) -> None:
        """The object is freed; what was made from it may still need its record."""
        if object_id in self._records:
            with self._lock:
                record = self._records.pop(object_id, None)
                if record is not None:
                    self._bytes -= record.size

    def under_way(self, object_id: bytes) -> Result | None:
        """Return the run that makes an object again, if there is one."""
        return self._again.get(object_id)

    # -- making again --------------------------------------------------------------------------

    def make_again(self, object_id: bytes, lost: Any) -> Result | None:
        """An object of ours is not at its place: have it made again.

        Returns:
            What will have its value; None if it was made again already, at another place.

        Raises:
            ObjectReconstructionFailedError: It cannot be.
        """
        place = self._process.objects.place_of(object_id)
        if place is not None and list(place) != list(lost):
            return None
        record = self._records.get(object_id)
        if record is None:
            raise ObjectReconstructionFailedError(
                object_ref_hex=object_id.hex(), reason=self._reason(object_id)
            )
        return self._run(record)

    def _reason(self, object_id: bytes) -> str:
        if object_id[-4:] == PUT_INDEX.to_bytes(4, "big"):
            return "PUT"
        return "LINEAGE_EVICTED" if self._has_evicted else "RETRIES_DISABLED"

    def _run(self, record: Record) -> Again:
        object_id = record.object_id
        with self._lock:
            under_way = self._again.get(object_id)
            if under_way is not None:
                return under_way
            if not record.retries:
                raise ObjectReconstructionFailedError(
                    object_ref_hex=object_id.hex(), reason="MAX_ATTEMPTS"
                )
            record.retries -= record.retries > 0
            again = Again(record.queue.identity, record.number, 0, None, None, record.retries)
            again.function = record.function
            again.queue = record.queue
            again.max_calls = record.max_calls
            self._again[object_id] = again
        settled_calls = self._process.objects.settled_calls
        again.pin = [None, record.kept, SettledCall(settled_calls, object_id)]
        try:
            again.parents = self._parents(record)
        except ObjectReconstructionFailedError:
            with self._lock:
                self._again.pop(object_id, None)
            raise
        again.frames = record.frames
        again.payload = [record.payload, dict(record.extras)]
        again.pin[2:2] = again.parents.values()  # the last one stands for the call itself
        again.add_waiter(_Made(self, object_id))
        awaited = [each for each in again.parents.values() if isinstance(each, Again)]
        wait_for_arguments(self._process, again, list(awaited), lambda _: self._submit(again))
        return again

    def _parents(self, record: Record) -> dict[bytes, Any]:
        """Return what gives a place for each stored argument: None for what is at its own."""
        objects = self._process.objects
        found: dict[bytes, Any] = {}
        for object_id, parent in record.parents.items():
            if isinstance(parent, ObjectRef):
                found[object_id] = parent
            elif objects.call_holds(record.object_id, object_id):
                found[object_id] = None
            elif parent is not None:
                found[object_id] = self._run(parent)
            else:
                raise ObjectReconstructionFailedError(
                    object_ref_hex=record.object_id.hex(), reason=self._reason(object_id)
                )
        return found

    def _submit(self, again: Again) -> None:
        """Its arguments are there: name them in the call, and queue it."""
        if again.state != PENDING:
            return
        objects = self._process.objects
        extras = again.payload[1]
        held = [
            (object_id, owner[0])
            for object_id, owner in extras.get(batches.X_REFS, ())
            if object_id not in again.parents
        ]
        slots = []
        for row in extras.get(batches.X_SLOTS, ()):
            if row[1] == batches.STORED:
                made = again.parents[row[3]]
                if isinstance(made, Again):
                    row = _row(row, made)
                elif made is None:
                    row = [row[0], batches.STORED, objects.place_of(row[3]), row[3]]
            slots.append(row)
        if slots:
            extras[batches.X_SLOTS] = slots
        objects.call_leaves_again(again.object_id(), held)
        self._process.tasks.submit(again)

    def made(self, object_id: bytes, again: Result) -> None:
        """It was run again."""
        with self._lock:
            self._again.pop(object_id, None)
        self._process.objects.made_again(object_id, again)


def _row(row: list[Any], made: Again) -> list[Any]:
    """The slot of an argument that was made again."""
    if made.state == STORED:
        return [row[0], batches.STORED, made.value, row[3]]
    status = batches.USER_ERROR if made.state == USER_ERROR else made.state - 1
    value = made.value
    if type(value) is tuple:
        value = [value[0], list(value[1])]
    return [row[0], status, value]


class _Made:
    """Waits for the end of a task that is run again."""

    __slots__ = ("_object_id", "_recovery")

    def __init__(self, recovery: Recovery, object_id: bytes) -> None:
        self._recovery = recovery
        self._object_id = object_id

    def settled(self, result: Result) -> None:
        """On the leader."""
        self._recovery.made(self._object_id, result)
