"""Settled results as Python values, and values of the wire as results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, LOCAL, NATIVE, PENDING, PICKLED, STORED, USER_ERROR, Result
from zactor.exceptions import TaskError, from_wire
from zactor.runtime import current as processes
from zactor.runtime.calls.unhandled import handled
from zactor.serde.exceptions import unpack_exception
from zactor.serde.values import loads
from zactor.wire import batches

if TYPE_CHECKING:
    from zactor.runtime.offered import Offered

LARGE = 100 << 10
"""Bytes from which a value goes to shared memory; smaller ones travel in the reply."""


def decode(result: Result, deadline: float | None = None) -> Any:
    """Return the value of a settled result, or raise what it holds.

    `deadline` bounds the wait for a stored value that is elsewhere, or has to be made again.

    Raises:
        TaskError: The user's code raised; the exception is of the user's class too.
        GetTimeoutError: The deadline came first.
        ZactorError: There is no value, and never will be.
    """
    state, value = result.state, result.value
    if state == NATIVE or state == LOCAL:  # noqa: PLR1714, SIM109 - the hot comparison first
        return value
    if state == PICKLED:
        payload, buffers = (value, ()) if type(value) is bytes else value
        if not result.inner:
            return loads(payload, buffers)
        found: list[Any] = []
        loaded = loads(payload, buffers, found)
        result.refs = found
        return loaded
    if state == STORED:
        process = processes.current()
        if process is None:
            raise RuntimeError(
                "the value is in a store that this process has no part in: zactor was shut down, or "
                "this is a fork of the process that has the reference (get the value before forking)"
            )
        return process.objects.store.read(result, deadline)
    raise error_of(result)


def error_of(result: Result) -> BaseException:
    """Return the exception that a settled result holds, fresh for each raise."""
    handled(result)
    if result.state == USER_ERROR:
        return unpack_exception(result.value)
    if result.state == ERROR:
        found: BaseException = result.value
        if isinstance(found, TaskError):
            return found.as_instanceof_cause()
        return found.with_traceback(None)
    raise AssertionError(f"state {result.state} is no error")


def has_error(result: Result) -> bool:
    """Whether a settled result holds an error."""
    return result.state in (USER_ERROR, ERROR)


def decode_wire(process: Offered, status: int, value: Any, object_id: bytes = b"") -> Any:
    """Return the value of `[status, value]` as it travels inside a call, or raise its error."""
    if status == batches.NATIVE:
        return value
    if status == batches.PICKLED:
        if type(value) is list:
            return loads(value[0], value[1])
        return loads(value)
    if status == batches.STORED:
        return process.objects.store.read_place(value, object_id)
    if status == batches.USER_ERROR:
        raise unpack_exception(value)
    raise from_wire(value)


def settle_wire(result: Result, status: int, value: Any) -> None:
    """Settle a result with `[status, value]` as it travels inside a reply."""
    if status == batches.NATIVE:
        result.settle(NATIVE, value)
    elif status == batches.PICKLED:
        result.settle(PICKLED, (value[0], value[1]) if type(value) is list else value)
    elif status == batches.STORED:
        result.settle(STORED, value)
    elif status == batches.USER_ERROR:
        result.settle(USER_ERROR, value)
    else:
        result.settle(ERROR, from_wire(value))


assert PENDING == 0
