"""Calls one of whose arguments failed: they never run, and their error says which call did not get what.

What `get` raises for such a call is a `TaskError` of that call, and an instance of the first error's class:
`except ValueError` works behind any number of calls, and so does `except TaskError` where the argument was
lost with its actor. The text names each call between the two.

Does not decide when an argument has failed: `arguments` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import USER_ERROR, Result
from zactor.exceptions import ActorDiedError
from zactor.runtime.calls.actors import naming
from zactor.runtime.calls.task_queues import Lease, is_task
from zactor.serde.exceptions import (
    failed_argument,
    pack_task_error,
    repack_failed_argument,
    unpack_task_error,
)
from zactor.wire import batches

if TYPE_CHECKING:
    from zactor.runtime.calls.actors import ActorView
    from zactor.runtime.offered import Offered

OWN_METHODS = {
    batches.READY: "__zactor_ready__",
    batches.APPLY: "__zactor_call__",
    batches.TERMINATE: "__zactor_terminate__",
}


class Constructor(Result):
    """Stands for the call of a constructor while its arguments are on their way."""

    __slots__ = ("function_name",)

    def __init__(self, function_name: str) -> None:
        super().__init__(None, 0, 0, None, None, 0)
        self.function_name = function_name


def settle_dependent(process: Offered, result: Result, argument: Result) -> None:
    """Settle a call with the error of one of its arguments. On the leader, or who submits.

    An exception of the user's is not loaded for it: it is passed on as it was pickled.
    """
    name = function_name(process, result)
    if argument.state == USER_ERROR:
        payload = repack_failed_argument(argument.value, name)
    else:
        payload = pack_task_error(failed_argument(argument.value), name)
    if result.stream is not None:
        process.caller.note_failure(result, USER_ERROR, payload)
    result.settle(USER_ERROR, payload)


def fail_unconstructed(process: Offered, view: ActorView, call: Constructor) -> None:
    """An actor cannot be made, because of an argument of its constructor."""
    died = ActorDiedError(
        **naming(view),
        cause=unpack_task_error(call.value),
        actor_init_failed=True,
        executed="no",
    )
    process.actors.fail(view, died)


def function_name(process: Offered, result: Result) -> str:
    """Return the name of the function that a call of this process is of, as errors have it."""
    if isinstance(result, Constructor):
        return result.function_name
    if is_task(result):
        name: str = result.function[1]  # type: ignore[attr-defined]
        return name
    target = getattr(result.stream, "target", None)
    if isinstance(target, Lease):
        return target.queue.tasks.name_of(target, result.method)
    entry = getattr(target, "entry", None)
    if entry is None:
        return ""
    return f"{entry.get('class_name') or 'Actor'}.{method_name(entry, result.method)}"


def method_name(entry: Any, number: int) -> str:
    """Return the name of a method by its number; "" if it is not known."""
    rows = entry.get("methods") or ()
    return rows[number][0] if 0 <= number < len(rows) else OWN_METHODS.get(number, "")
