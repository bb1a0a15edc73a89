"""What user code raised, as bytes, and back as what `get` raises.

The traceback travels as text, formatted where it happened, without zactor's own frames. The
exception itself travels beside it: rebuilt without running its constructor, so odd ones do no
harm. Parts of it that cannot be pickled arrive as their repr; an exception that cannot be sent
or read at all arrives as a `TaskError` with the text.

Does not decide what counts as an error of the user's.

Invariants
    E1  Packing never fails, whatever the exception.
    E2  Unpacking what was packed never fails, whatever the reader lacks.
    E3  An error that passes through several calls has one cause: the first.
"""

from __future__ import annotations

import os
import pickle
import traceback
from typing import Any

from zactor.exceptions import ActorError, TaskError, UnserializableException, ZactorError
from zactor.exceptions.task import allocator, read_members, write_members
from zactor.serde.pickling import Buffer, Pickled, failure, pickle_value, unpickle_value

_MAX_TEXT = 200_000  # characters of a traceback; the middle of longer ones is left out
_MAX_REPR = 1_000
_OWN_FRAMES = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PICKLES_ITSELF = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


def pack_exception(
    error: BaseException,
    function_name: str = "",
    *,
    pid: int = 0,
    ip: str = "",
    actor_repr: str = "",
    actor_id: str = "",
) -> Pickled:
    """Return `error`, raised by user code, as `(payload, (), refs)`. Never raises.

    Args:
        error: The exception, with its traceback.
        function_name: What ran, as `train` or `Counter.increment`.
        pid: Of the process it ran in; like the rest, for the text.
        ip: Of its machine.
        actor_repr: The repr of the actor, if it was one.
        actor_id: Its id in hex.
    """
    text = format_traceback(error)
    cause = error.cause if isinstance(error, TaskError) else error  # E3
    packed, refs, losses = _pack_cause(cause)
    if losses:
        text += f"\n({', '.join(losses)} isn't serializable and arrives as text)"
    where = (pid, ip, actor_repr, actor_id)
    return pickle.dumps((function_name, text, where, packed, "yes"), 5), (), refs


ARGUMENT_FAILED = "  At least one of the input arguments for this task could not be computed:"


def failed_argument(error: BaseException, function_name: str = "") -> TaskError:
    """Return the error of a call that was not run because an argument of it is an error."""
    cause = error.cause if isinstance(error, TaskError) else error  # E3
    kind = TaskError if isinstance(error, TaskError) else type(error)
    text = f"{ARGUMENT_FAILED}\n{kind.__module__}.{kind.__qualname__}: {_printed(str, error)}"
    failed = TaskError(function_name, _shortened(text), cause)
    failed.executed = "no"
    return failed


def pack_task_error(error: TaskError, function_name: str) -> bytes:
    """Return a `TaskError` of a function, with what it says of where and whether it ran."""
    where = (error.pid, error.ip, error.actor_repr, error.actor_id)
    packed = _pack_cause(error.cause)[0]
    content = (function_name, error.traceback_str, where, packed, error.executed)
    return pickle.dumps(content, 5)


def repack_failed_argument(payload: Buffer, function_name: str) -> bytes:
    """Return what `failed_argument` makes of a packed exception, without loading that."""
    error, packed = _without_cause(payload)
    failed = failed_argument(error, function_name)
    where = (0, "", "", "")
    return pickle.dumps((function_name, failed.traceback_str, where, packed, "no"), 5)


def unpack_exception(payload: Buffer, found: list[Any] | None = None) -> TaskError:
    """Return what `get` raises: a `TaskError` that is also of the cause's class, where possible.

    Every call makes a new one, as every `raise` adds to its traceback. References in the
    exception are appended to `found`.
    """
    return unpack_task_error(payload, found).as_instanceof_cause()


def unpack_task_error(payload: Buffer, found: list[Any] | None = None) -> TaskError:
    """Return the plain `TaskError`."""
    whole, packed = _without_cause(payload)
    text = whole.traceback_str
    cause: BaseException | None = None
    if packed is not None:
        try:
            frames, buffers = packed
            cause = unpickle_value(frames, buffers, found)
        except Exception as error:  # noqa: BLE001 - E2
            reason = f"{type(error).__name__}: {_printed(str, error)}"
            cause = UnserializableException(
                f"{text}\n(unpickling it here failed with {reason})"
            )
        if not isinstance(cause, BaseException):
            cause = UnserializableException(text)
    whole.cause = cause
    whole.args = (whole.function_name, text, cause)
    return whole


def _without_cause(payload: Buffer) -> tuple[TaskError, _Packed | None]:
    """Return what `pack_exception` and `pack_task_error` made, and the cause as it was packed."""
    function_name, text, where, packed, executed = pickle.loads(payload)
    pid, ip, actor_repr, actor_id = where
    error = TaskError(
        function_name, text, None, "", pid, ip, actor_repr=actor_repr, actor_id=actor_id
    )
    error.executed = executed
    return error, packed


def describe(payload: Buffer) -> tuple[str, str]:
    """Return what ran, and the text of the error, without loading the exception."""
    error, _ = _without_cause(payload)
    return error.function_name, str(error)


def text_of(payload: Buffer) -> str:
    """Return the traceback in what `pack_exception` made, without loading the exception."""
    text: str = pickle.loads(payload)[1]
    return text


def revive(error: ZactorError) -> ZactorError:
    """Unpack the constructor's exception in an actor's error that came over the wire.

    There `cause` is `[kind, text, {"exception": payload}]`; here it becomes the TaskError.
    """
    cause: Any = error.cause if isinstance(error, ActorError) else None
    if isinstance(cause, list | tuple):
        _, text, fields = cause
        payload = (fields or {}).get("exception")
        task_error = unpack_task_error(payload) if payload else TaskError("__init__", text)
        error.__dict__["cause"] = task_error
    return error


def format_traceback(error: BaseException) -> str:
    """Return the traceback, with causes and contexts, without zactor's frames. Never raises."""
    try:
        trace = traceback.TracebackException.from_exception(error)
        _drop_own_frames(trace, set())
        text = "".join(trace.format())
    except Exception as reason:  # noqa: BLE001 - E1: repr and str are the user's
        text = f"{type(error).__qualname__} (formatting it failed with {type(reason).__name__})"
    return _shortened(text.rstrip("\n"))


def _shortened(text: str) -> str:
    if len(text) <= _MAX_TEXT:
        return text
    half = _MAX_TEXT // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _drop_own_frames(trace: traceback.TracebackException, seen: set[int]) -> None:
    if id(trace) in seen:
        return
    seen.add(id(trace))
    kept = [frame for frame in trace.stack if not frame.filename.startswith(_OWN_FRAMES)]
    if kept:  # otherwise it is an error of zactor's, and these frames say where
        trace.stack[:] = kept
    for other in (trace.__cause__, trace.__context__, *(trace.exceptions or ())):
        if other is not None:
            _drop_own_frames(other, seen)


_Packed = tuple[bytes, list[bytes]]


def _pack_cause(cause: BaseException | None) -> tuple[_Packed | None, list[Any], list[str]]:
    """Return the pickled cause, the references in it, and which parts of it were lost."""
    if cause is None:
        return None, [], []
    for attempt in (_as_it_is, _rebuilt, _whole, _salvaged):
        try:
            form, losses = attempt(cause)
            payload, buffers, refs = pickle_value(form)
            if form is cause and not refs and not _is_trusted(cause):
                unpickle_value(payload, buffers)
        except Exception:  # noqa: BLE001, S112 - E1: the next attempt asks for less
            continue
        return (payload, [bytes(buffer) for buffer in buffers]), list(refs), losses
    name = f"{type(cause).__module__}.{type(cause).__qualname__}"
    note = UnserializableException(f"{name}: {_printed(str, cause)}")
    return (pickle_value(note)[0], []), [], [f"Exception {name}"]


def _is_trusted(cause: BaseException) -> bool:
    """Tell whether the exception's own pickling is known to be good."""
    if isinstance(cause, ZactorError):
        return getattr(cause, "cause", None) is None
    return type(cause).__module__ == "builtins" and not isinstance(cause, BaseExceptionGroup)


def _as_it_is(cause: BaseException) -> tuple[Any, list[str]]:
    """Leave it to the exception's own pickling, if it is built in or brings its own."""
    own = any(
        name in vars(base)
        for base in type(cause).__mro__
        for name in _PICKLES_ITSELF
        if base.__module__ != "builtins"
    )
    if _is_trusted(cause) or (own and not isinstance(cause, ZactorError)):
        return cause, []
    raise TypeError("its constructor may want other arguments than its args")


def _rebuilt(cause: BaseException) -> tuple[Any, list[str]]:
    return _Form(cause), []


def _whole(cause: BaseException) -> tuple[Any, list[str]]:
    return cause, []  # exceptions that refer to each other in circles


class _Form:
    """Stands for an exception: pickles as what rebuilds it without its constructor."""

    def __init__(self, error: BaseException, *parts: Any) -> None:
        self.cls = TaskError if isinstance(error, TaskError) else type(error)
        self.parts = parts or _state(getattr(error, "_zactor_task_error", error))

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self.cls, *self.parts)


_State = tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]


def _state(error: BaseException) -> _State:
    """Return its args, its attributes, and what it keeps in slots and C-level fields."""
    slots = read_members(error)
    args = _raw(error, "args")
    if isinstance(error, BaseExceptionGroup):
        args = ()
        slots["exceptions"] = [_Form(nested) for nested in error.exceptions]
    attributes = {name: _nested(value) for name, value in _attributes(error).items()}
    return tuple(map(_nested, args)), attributes, slots


def _nested(value: Any) -> Any:
    return (
        _Form(value) if isinstance(value, BaseException) and not _is_trusted(value) else value
    )


def _attributes(error: BaseException) -> dict[str, Any]:
    return dict(BaseException.__getattribute__(error, "__dict__"))


def _raw(cause: BaseException, name: str) -> Any:
    """Read an attribute past the user's properties."""
    return BaseException.__dict__[name].__get__(cause)


def _salvaged(cause: BaseException) -> tuple[Any, list[str]]:
    """Replace what cannot be pickled by its repr."""
    args, attributes, slots = _state(cause)
    losses: list[str] = []

    def plain(label: str, value: Any) -> Any:
        if failure(value) is None:
            return value
        if isinstance(value, list) and value and isinstance(value[0], _Form):
            return [_salvaged(nested)[0] for nested in cause.exceptions]  # type: ignore[attr-defined]
        losses.append(f"{label} of {type(cause).__qualname__}")
        return _printed(repr, value)

    args = tuple(plain(f"argument {index}", value) for index, value in enumerate(args))
    attributes = {name: plain(f"attribute {name!r}", v) for name, v in attributes.items()}
    slots = {name: plain(f"attribute {name!r}", value) for name, value in slots.items()}
    return _Form(cause, args, attributes, slots), losses


def rebuild(
    cls: type[BaseException],
    args: tuple[Any, ...],
    attributes: dict[str, Any],
    slots: dict[str, Any],
) -> BaseException:
    """Make an exception again; its pickle names this function."""
    error: BaseException
    if issubclass(cls, BaseExceptionGroup):
        error = allocator(cls)(cls, slots["message"], slots["exceptions"])
    else:
        error = allocator(cls)(cls)
        BaseException.__dict__["args"].__set__(error, args)
    write_members(error, slots)
    BaseException.__getattribute__(error, "__dict__").update(attributes)
    return error


def _printed(how: Any, value: Any) -> str:
    """Return `str` or `repr` of what may not be able to."""
    try:
        text = how(value)
    except Exception as error:  # noqa: BLE001 - user code
        return f"<a {type(value).__qualname__}; printing it failed with {type(error).__name__}>"
    return text if len(text) <= _MAX_REPR else f"{text[:_MAX_REPR]}..."
