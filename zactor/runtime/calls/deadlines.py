"""Deadlines of calls: `timeout=` on the call, and what is left of its parent's.

A deadline travels with the call as a point of the wall clock (machines agree on that to some
milliseconds; their monotonic clocks have nothing in common). The callee does not run what is
overdue. The caller settles the reference when the time is up, whatever the callee does; the late
reply then meets a stand-in.

Owned by: `Deadlines` is fed by any thread, under the caller's lock; the leader expires.
"""

from __future__ import annotations

import heapq
import time
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING, Result
from zactor.exceptions import DeadlineExceededError, Executed
from zactor.runtime.calls.several import Several
from zactor.runtime.calls.streaming import Streaming
from zactor.runtime.links.interrupts import protected

if TYPE_CHECKING:
    from zactor.runtime.offered import Offered

ACTIVE: dict[int, None] = {}
"""Not empty while a call with a deadline runs in this process: then its calls inherit it."""

_inherited: ContextVar[float | None] = ContextVar("zactor_deadline", default=None)
_numbers = count()


class Inherited:
    """While entered, the calls that are made here have this deadline at the latest."""

    __slots__ = ("_number", "_token", "_when")

    def __init__(self, when: float) -> None:
        self._when = when

    def __enter__(self) -> None:
        self._number = next(_numbers)
        ACTIVE[self._number] = None
        self._token = _inherited.set(self._when)

    def __exit__(self, *exc: object) -> None:
        ACTIVE.pop(self._number, None)
        _inherited.reset(self._token)


def deadline_of(timeout: float | None) -> float | None:
    """Return the deadline of a call made now, or None if it has none."""
    inherited = _inherited.get() if ACTIVE else None
    if timeout is None:
        return inherited
    own = time.time() + timeout
    return own if inherited is None else min(own, inherited)


class Deadlines:
    """The calls of this process that have a deadline and are not settled."""

    def __init__(self, process: Offered) -> None:
        self._process = process
        self._heap: list[tuple[float, int, Result, str]] = []
        self._looked = 0  # length of the heap when it was last cleared of what is settled

    def expect(self, result: Result, deadline: float, name: str) -> None:
        """Settle the result when its deadline comes. Any thread."""
        entry = (deadline, next(_numbers), result, name)
        with self._process.caller.lock:
            heap = self._heap
            if len(heap) > 2 * self._looked + 64:
                heap[:] = [each for each in heap if each[2].state == PENDING]
                heapq.heapify(heap)
                self._looked = len(heap)
            heapq.heappush(heap, entry)
            is_first = heap[0] is entry
        if is_first:
            self._process.post.call_later(max(0.0, deadline - time.time()), self._look)

    def _look(self) -> None:
        heap = self._heap
        with self._process.caller.lock:
            while heap and (heap[0][0] <= time.time() or heap[0][2].state != PENDING):
                _, _, result, name = heapq.heappop(heap)
                if result.state == PENDING:
                    self._expire(result, name)
            next_due = heap[0][0] if heap else None
        if next_due is not None:
            self._process.post.call_later(max(0.0, next_due - time.time()), self._look)

    def _expire(self, result: Result, name: str) -> None:
        stream = result.stream
        seq = getattr(result, "seq", 0)
        pending = getattr(stream, "pending", {})
        executed: Executed = "no"
        if seq and pending.get(seq) is result:
            pending[seq] = _stand_in(result, seq)
            executed = "unknown"
        else:
            for queue in (getattr(stream, "held", None), _gathered(stream)):
                try:
                    queue.remove(result)  # type: ignore[union-attr]
                except (AttributeError, ValueError):
                    continue
        result.settle(
            ERROR,
            DeadlineExceededError(
                f"{name}() had no result in time", method=name, executed=executed
            ),
        )
        if hasattr(stream, "held"):
            self._process.caller.release(stream)


def _gathered(stream: Any) -> Any:
    outgoing = getattr(stream, "outgoing", None)
    return outgoing.gathered if outgoing is not None else None


def _stand_in(result: Result, seq: int) -> Result:
    """Return what the late reply is to settle in the place of a result that has expired."""
    fields = (result.stream, result.number, result.method, None, result.pin, 0)
    if isinstance(result, Streaming):
        stream = Streaming(*fields)
        stream.is_dropped = True
        found: Result = stream
    elif isinstance(result, Several):
        several = Several(*fields)
        several.expect(len(result.parts))
        found = several
    else:
        found = Result(*fields)
    found.seq = seq
    return found


protected(Deadlines.expect, Deadlines._look)  # noqa: SLF001
