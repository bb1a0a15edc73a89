"""Calls with several return values: one pending call, one result for each value."""

from __future__ import annotations

import inspect
from itertools import islice
from typing import TYPE_CHECKING, Any

from zactor.core.calls import NATIVE, Result
from zactor.runtime.calls.values import settle_wire
from zactor.wire import batches

if TYPE_CHECKING:
    from zactor.core.calls import Stream
    from zactor.runtime.links.peer import Peer
    from zactor.runtime.process import Process


class Several(Result):
    """A call with `num_returns` other than 1. What settles it settles each of its `parts`."""

    __slots__ = ("parts",)

    def expect(self, count: int) -> list[Part]:
        """Make the parts."""
        self.parts: list[Part] = []
        for index in range(count):
            part = Part(self)
            part.index = index
            self.parts.append(part)
        return self.parts

    def settle(self, state: int, value: Any) -> None:
        """The call has no values: every part gets the error."""
        for part in self.parts:
            part.settle(state, value)
        self.over(state, value)

    def over(self, state: int, value: Any) -> None:
        """Every part has its outcome."""
        super().settle(state, value)
        # The parts must not keep each other, through the call: each goes with its last reference.
        done = _Over(self.object_id())
        for part in self.parts:
            part.call = done


class _Over(Result):
    """What is left of a call whose values are here: its name."""

    __slots__ = ("id",)

    def __init__(self, object_id: bytes) -> None:
        super().__init__(None, 0, 0, None, None, 0)
        self.id = object_id
        self.state = NATIVE

    def object_id(self) -> bytes:
        """Return the object id."""
        return self.id


class Part(Result):
    """One of a call's several values."""

    __slots__ = ("call",)

    def __init__(self, call: Result) -> None:
        super().__init__(None, 0, 0, None, None, 0)
        self.call = call

    def object_id(self) -> bytes:
        """Return the object id: the call's, with the part's index."""
        return self.call.object_id()[:-4] + self.index.to_bytes(4, "big")


def take_values(value: Any, returns: int, label: str, parts: list[Any]) -> None:
    """Append the `returns` values of what a call has returned to `parts`, also those before an error.

    Raises:
        ValueError: It has another number of values.
        Exception: What iterating it raised.
    """
    # What a generator would yield beyond them is not asked for, as in Ray.
    for part in islice(value, returns) if inspect.isgenerator(value) else value:
        parts.append(part)  # noqa: PERF402 - what came before an error is kept
    if len(parts) != returns:
        raise ValueError(
            f"Task returned {len(parts)} objects, but num_returns={returns}: {label}() must return "
            f"an iterable of {returns} values"
        )


def install(process: Process) -> None:
    """Have replies with several values settle their parts."""

    def settle(
        peer: Peer,
        stream: Stream,
        seq: int,
        value: Any,
        extras: Any,
        frames: Any,  # noqa: ARG001
    ) -> int:
        result = stream.pending.pop(seq, None)
        if result is None:
            return 0
        assert isinstance(result, Several)
        call = result.object_id()
        rows = [row for each in value if len(each) > 2 and each[2] for row in each[2]]
        if rows:
            process.objects.value_arrives(call, peer.id, None, rows)
        for part, each in zip(result.parts, value, strict=False):
            if len(each) > 2 and each[2]:
                process.objects.hold_value(part, process.objects.learn(each[2]))
            if each[0] == batches.STORED:
                part.value = each[1]
                process.objects.watch_end(part)
                process.objects.note_origin(result, part.object_id())
            settle_wire(part, each[0], each[1])
        if extras.get(batches.Y_UNCONFIRMED):
            result.pin[-1].is_told = True
            process.objects.call_settled(call, peer.id, unconfirmed=True)
        result.over(NATIVE, None)
        return 1

    process.caller.special[batches.SEVERAL] = settle
