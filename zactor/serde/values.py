"""What users pass, return and put, as bytes.

    payload, buffers, refs = dumps(value)
    value = loads(payload, buffers)

Failures are `SerializationError`s that name the part at fault. How values are pickled, and the
protocol between the pickler and reference types, stands in `pickling`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from zactor.exceptions import Executed, SerializationError, ZactorError
from zactor.serde.inspection import explain
from zactor.serde.pickling import (
    OUT_OF_BAND,
    Buffer,
    Pickled,
    collect,
    loaded,
    pickle_bytes,
    pickle_value,
    unpickle_value,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "OUT_OF_BAND",
    "Buffer",
    "Pickled",
    "collect",
    "dumps",
    "dumps_args",
    "loaded",
    "loads",
    "loads_args",
]


def dumps(value: Any, what: str = "the value", executed: Executed | None = None) -> Pickled:
    """Pickle a value that is put or returned.

    `what` names it in errors; `executed` is said in them ("yes" for what a call has returned).

    Raises:
        SerializationError: It cannot be pickled.
    """
    if type(value) is bytes:
        return pickle_bytes(value)
    try:
        return pickle_value(value)
    except Exception as error:
        raise explain(value, error, what, executed=executed) from error


def dumps_args(
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    function: str = "",
    names: Sequence[str] = (),
) -> Pickled:
    """Pickle the arguments of a call. `function` and `names`, of its parameters, are for errors.

    Raises:
        SerializationError: An argument cannot be pickled; says which, and where in it.
    """
    try:
        # A list, since a tuple would be positional arguments alone.
        return pickle_value([args, kwargs] if kwargs else args)
    except Exception as error:
        raise _explain_args(args, kwargs or {}, function, names, error) from error


def _explain_args(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    function: str,
    names: Sequence[str],
    error: Exception,
) -> SerializationError:
    call = f"{function}()" if function else "the call"
    named = [(names[i] if i < len(names) else i, arg) for i, arg in enumerate(args)]
    for name, arg in [*named, *kwargs.items()]:
        try:
            pickle_value(arg)
        except Exception as reason:  # noqa: BLE001 - runs user code
            which = f"argument {name!r}"
            return explain(arg, reason, f"the {which} of {call}", which, executed="no")
    return explain((args, kwargs), error, f"the arguments of {call}", executed="no")


def loads(
    payload: Buffer, buffers: Sequence[Buffer] = (), found: list[Any] | None = None
) -> Any:
    """Return the value. Its arrays alias `buffers`, and are read-only.

    Args:
        payload: As `dumps` made it.
        buffers: The buffers of the dump, in order, or copies of them.
        found: A list to which the references made on the way are appended.

    Raises:
        SerializationError: It cannot be unpickled here.
    """
    try:
        return unpickle_value(payload, buffers, found)
    except ZactorError:
        raise  # what the reference types raise says more
    except Exception as error:
        raise _unloadable(error) from error


def loads_args(
    payload: Buffer, buffers: Sequence[Buffer] = (), found: list[Any] | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return `(args, kwargs)` of `dumps_args`; otherwise as `loads`."""
    value = loads(payload, buffers, found)
    if type(value) is tuple:
        return value, {}
    args, kwargs = value
    return args, kwargs


def _unloadable(error: Exception) -> SerializationError:
    text = f"Could not deserialize a value: {type(error).__name__}: {error}."
    if isinstance(error, ImportError):
        text += " " + missing_module_hint(error)
    return SerializationError(text)


def missing_module_hint(error: ImportError) -> str:
    """Say what to do about a module that this process cannot import."""
    return (
        f"The process that reads it (Python {sys.version_info.major}.{sys.version_info.minor}, "
        f"{sys.executable}) cannot import {error.name or 'the module'!r}. Install it there, or "
        "ship it: runtime_env={'py_modules': [...]} or {'working_dir': ...}."
    )
