"""Tasks that came back because stored arguments of theirs were lost.

A worker does not wait for a lost argument: while it did, it would keep the resources that making the
argument again may need. It hands the task back, naming what it did not find and where; here the owners are asked
to make these values again, and the task waits like any whose arguments are not ready.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING, Result
from zactor.exceptions import ZactorError
from zactor.runtime.calls.arguments import wait_for_arguments
from zactor.runtime.calls.dependents import settle_dependent
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.objects.recovery import filled_slot
from zactor.wire import batches

if TYPE_CHECKING:
    from zactor.runtime.calls.task_queues import TaskResult
    from zactor.runtime.process import Process


def find_again(process: Process, result: TaskResult, missing: list[Any]) -> None:
    """Have lost arguments of a task made again, then submit it. On the leader.

    Args:
        process: This process.
        result: The task, which no worker has now.
        missing: `[object id, place where it was not]` of each.
    """
    if result.state != PENDING:
        return
    found: dict[bytes, Result | None] = {}
    try:
        for object_id, place in missing:
            found[object_id] = _ask(process, result, object_id, place)
    except ZactorError as error:
        lost = Result(None, 0, 0, None, None, 0)
        lost.settle(ERROR, error)
        settle_dependent(process, result, lost)
        return
    awaited = [each for each in found.values() if each is not None]
    wait_for_arguments(process, result, awaited, partial(_submit, process, found))


def _ask(process: Process, result: Any, object_id: bytes, place: Any) -> Result | None:
    """Return what will have the value of an argument; None if it is at another place already."""
    for pin in result.pin:
        if type(pin) is ObjectRef and pin.binary() == object_id:
            return process.objects.find_again(pin._result, place)  # noqa: SLF001
    again: Result | None = process.objects.recovery.make_again(object_id, place)
    return again


def _submit(process: Process, found: dict[bytes, Result | None], result: Result) -> None:
    """The arguments are there: say in the call where, and send it."""
    if result.state != PENDING:
        return
    extras = result.payload[1]
    extras[batches.X_SLOTS] = [
        _slot(process, row, found[row[3]]) if len(row) > 3 and row[3] in found else row
        for row in extras[batches.X_SLOTS]
    ]
    result.waiting = 0
    process.tasks.submit(result)  # type: ignore[arg-type]


def _slot(process: Process, row: list[Any], again: Result | None) -> list[Any]:
    if again is not None:
        return filled_slot(row, again)
    return [row[0], batches.STORED, process.objects.place_of(row[3]) or row[2], row[3]]
