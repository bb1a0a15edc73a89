"""Calls that are made again, for the sake of stored values that were lost.

A `Spec` is what is kept of a call; `again` makes a result of it that can be sent like the first one, under
the same call id: a plain one, several values, or a stream. `part(index)` is what will have the
value with that index: of a stream whatever else is yielded is let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, NATIVE, PENDING, Result
from zactor.exceptions import (
    ActorError,
    ObjectReconstructionFailedError,
    StreamingGeneratorReplayInconsistentError,
)
from zactor.runtime.calls.several import Several
from zactor.runtime.calls.streaming import Item, Streaming
from zactor.wire import batches

if TYPE_CHECKING:
    from zactor.core.lineage import Record
    from zactor.runtime.offered import Offered
    from zactor.runtime.process import Process

_OF_ONE_RUN = (batches.X_FUNCTION, batches.X_DEADLINE, batches.X_BACKPRESSURE)
"""Extras that mean nothing to a later run: numbers of a link, the time that was left then, and a
consumer's pace."""


class Spec:
    """How a call was made.

    Attributes:
        returns: 1, how many, or -1 for a stream.
        kept: What keeps large arguments in the store.
        size: Bytes of the arguments that it holds itself.
    """

    __slots__ = (
        "extras", "frames", "function", "identity", "kept", "max_calls", "method", "number", "payload",
        "queue", "returns", "size", "stream_number", "view",
    )  # fmt: skip

    def __init__(self, result: Any) -> None:
        payload, extras = (
            result.payload if type(result.payload) is list else (result.payload, {})
        )
        self.payload = payload
        self.extras = {k: v for k, v in extras.items() if k not in _OF_ONE_RUN}
        self.frames = result.frames
        self.number = result.number
        self.kept: Any = None
        self.size = len(payload or b"") + sum(map(len, self.frames or ()))
        self.returns = 1
        if isinstance(result, Several):
            self.returns = len(result.parts)
        elif isinstance(result, Streaming):
            self.returns = -1
        self.queue = getattr(result, "queue", None)
        if self.queue is not None:
            self.function = result.function
            self.max_calls = result.max_calls
            self.identity = self.queue.identity
        else:
            stream = result.stream
            self.method = result.method
            self.view = stream.target
            self.identity = stream.identity
            self.stream_number = stream.number

    def again(self, process: Process, record: Record) -> Again:
        """Return the call's result to be, not sent yet."""
        kind = {1: AgainOne, -1: AgainStream}.get(self.returns, AgainSeveral)
        is_task = self.queue is not None
        method = 0 if is_task else self.method
        again: Any = kind(self.identity, self.number, method, None, None, record.retries)
        again.payload = [self.payload, dict(self.extras)]
        again.frames = self.frames
        again.record = record
        again.spec = self
        again.parents = {}
        if is_task:
            again.queue = self.queue
            again.function = self.function
            again.max_calls = self.max_calls
        if isinstance(again, AgainSeveral):
            again.expect(self.returns)
        elif isinstance(again, AgainStream):
            again.begin(process)
        made: Again = again
        return made


class Again(Result):
    """A call that is made again.

    Attributes:
        record: Its record.
        spec: The record's spec; the record may be evicted meanwhile.
        parents: For each stored argument, what has it: a reference, what will have it, or None if it
            is at its place.
        queue: Of a task, as `function` and `max_calls`.
    """

    __slots__ = ()

    record: Record
    spec: Spec
    parents: dict[bytes, Any]
    queue: Any
    function: Any
    max_calls: int

    def part(self, index: int) -> Result | None:
        """Return what will have one of the values; None if it has come and was not asked for."""
        raise NotImplementedError

    def arrived_part(self, index: int) -> Result | None:
        """Return what has one of the values, if nobody was told of it yet."""
        return self.part(index)


_SLOTS = ("function", "has_run", "max_calls", "parents", "queue", "record", "spec")


class AgainOne(Again):
    """A call with one value."""

    __slots__ = _SLOTS

    def part(self, index: int) -> Result:  # noqa: ARG002 - there is one
        """Return what will have the value."""
        return self

    def settle(self, state: int, value: Any) -> None:
        """Give the outcome."""
        super().settle(state, _told(self, state, value))


class AgainSeveral(Several, Again):
    """A call with several values."""

    __slots__ = _SLOTS

    def part(self, index: int) -> Result:
        """Return what will have one of the values."""
        return self.parts[index]

    def settle(self, state: int, value: Any) -> None:
        """There are no values."""
        super().settle(state, _told(self, state, value))


class AgainStream(Streaming, Again):
    """A generator that runs again. It is ended once all that is wanted of it has come."""

    __slots__ = (*_SLOTS, "process", "wanted")

    def begin(self, process: Process) -> None:
        """Note where it is made."""
        self.process = process
        self.wanted: dict[int, Result] = {}

    def part(self, index: int) -> Result | None:
        """Return what will have one of the items."""
        found = self.wanted.get(index)
        if found is None and index > self.taken and not self.is_over and not self.is_dropped:
            found = self.wanted[index] = Item(self, index)
        return found

    def arrived_part(self, index: int) -> Result | None:  # noqa: ARG002
        """Return None: of items it was told as they came."""
        return None

    def changed(self) -> None:
        """Items have come, or nothing more will. On the leader."""
        objects = self.process.objects
        while (item := self.take_nowait()) is not None:
            if item.index in self.record.live:
                objects.made_again(item.object_id(), item)
            wanted = self.wanted.get(item.index)
            if wanted is not None and wanted.state == PENDING:
                wanted.inner = item.inner
                wanted.guard = item.guard
                wanted.settle(item.state, item.value)
        if self.is_over:
            for index, wanted in self.wanted.items():
                if wanted.state == PENDING:
                    if self.state == NATIVE:
                        wanted.settle(ERROR, self._missing(index))
                    else:
                        wanted.settle(self.state, self.value)
            self.wanted = {}
        elif self._is_enough():
            self.process.streams.drop_soon(self)

    def _is_enough(self) -> bool:
        live = self.record.live
        return not self.is_dropped and self.taken >= max(
            max(live, default=0), max(self.wanted, default=0)
        )

    def _missing(self, index: int) -> Exception:
        return StreamingGeneratorReplayInconsistentError(
            f"the generator was run again for its item {index}, and did not yield that as before"
        )

    def ended(self, process: Offered, length: int) -> None:  # noqa: ARG002 - as the base says
        """The generator has returned. On the leader."""
        self._end(NATIVE, None)

    def settle(self, state: int, value: Any) -> None:
        """It ended with an error, or could not be run."""
        if not self.is_over:
            self._end(state, _told(self, state, value))


def _told(again: Any, state: int, value: Any) -> Any:
    """Return the error as it is to be told: the first run was no failure."""
    if state != ERROR or not isinstance(value, ActorError):
        return value
    return ObjectReconstructionFailedError(
        f"The object cannot be reconstructed because the actor that made it is gone: {value}",
        object_ref_hex=(again.record.call + bytes(4)).hex(),
        reason="ACTOR_DIED",
    )
