"""The arguments of a call that has arrived: unpickled, with values in the place of references.

A stored value that is not where it should be was lost with its node, or with the memory of one. An actor, which
keeps what it holds whatever it does, has it made again and waits. A task must not wait: making the value
again may need what the task holds. It goes back to who sent it (`ArgumentsMissingError`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.exceptions import ObjectLostError, ZactorError
from zactor.runtime.calls.values import decode, decode_wire
from zactor.serde.exceptions import failed_argument
from zactor.serde.values import loads_args
from zactor.wire import batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zactor.runtime.hosting.calling import Execution
    from zactor.runtime.hosting.running_call import Arrived
    from zactor.runtime.process import Process


class ArgumentsMissingError(Exception):
    """Stored arguments of a task are not where they should be: `[object id, place]` each."""

    def __init__(self, missing: list[list[Any]]) -> None:
        super().__init__(missing)
        self.missing = missing


def arguments_of(execution: Execution, arrived: Arrived, refs: list[Any]) -> tuple[Any, Any]:
    """Return `(args, kwargs)` of a call that is about to run; `refs` are those in it, with owners.

    Raises:
        ArgumentsMissingError: The task has to wait elsewhere for some of them.
        TaskError: One of them is lost, or is an error.
    """
    payload, extras, frames = arrived.payload, arrived.extras, arrived.frames
    args: Sequence[Any] = ()
    kwargs: dict[str, Any] = {}
    if payload is not None:
        buffers = frames if extras.get(batches.X_FRAMES) else ()
        args, kwargs = loads_args(payload, buffers)
    stored = extras.get(batches.X_STORED)
    if stored is not None:
        try:
            value = execution.process.objects.store.read_place(*stored)
        except ObjectLostError as error:
            raise failed_argument(error) from None
        args, kwargs = (value, {}) if type(value) is tuple else value
    slots = extras.get(batches.X_SLOTS)
    if not slots:
        return args, kwargs
    waits = bool(execution.label)
    return filled(execution.process, slots, (args, kwargs), refs, waits=waits)


def filled(
    process: Process, slots: Any, arguments: tuple[Any, Any], refs: list[Any], *, waits: bool
) -> tuple[Any, Any]:
    """Return `(args, kwargs)` with the values of references in their places.

    `waits` says whether what is lost is waited for here.

    Raises:
        ArgumentsMissingError, TaskError: As `arguments_of`.
    """
    args, kwargs = list(arguments[0]), arguments[1]
    missing: list[list[Any]] | None = None if waits else []
    for slot, status, value, *name in slots:
        value = _value(process, status, value, name, refs, missing)
        if type(slot) is int:
            while len(args) <= slot:
                args.append(None)
            args[slot] = value
        else:
            kwargs[slot] = value
    if missing:
        raise ArgumentsMissingError(missing)
    return args, kwargs


def _value(
    process: Process,
    status: int,
    value: Any,
    name: list[bytes],
    refs: list[Any],
    missing: list[list[Any]] | None,
) -> Any:
    """Return the value of a reference that was an argument of its own; note it if it is `missing`."""
    try:
        return decode_wire(process, status, value, *name)
    except ObjectLostError as error:
        owner = dict(refs).get(name[0]) if name else None
        if owner is None:
            raise failed_argument(error) from None
    except ZactorError as error:
        raise failed_argument(error) from None
    if missing is not None:
        missing.append([name[0], value])
        return None
    try:
        found, guard = process.objects.recover_argument(name[0], owner, value)
        value = decode(found)
    except ZactorError as error:
        raise failed_argument(error) from None
    del guard  # what is mapped is held by its views
    return value
