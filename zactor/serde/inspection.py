"""Which part of a value prevents it from being pickled.

Probes the parts of the value, those that its pickle would contain, down to one that fails though
none of its own parts do. Slow, and meant to be: it runs only for values that failed already, or
when a user asks. Changes nothing and collects no references.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from zactor.exceptions import Executed, SerializationError
from zactor.named import NamedTuple
from zactor.serde.pickling import failure

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_DEPTH = 8
_MAX_PROBES = 1000

Part = tuple[str, Any]
"""What to write behind the whole's path, as `.name` or `[0]`, and the part."""


class Culprit(NamedTuple):
    """The innermost part that fails."""

    path: str
    value: Any
    error: BaseException


def find_culprit(value: Any, error: BaseException, path: str = "") -> Culprit:
    """Return what within `value`, which failed with `error`, cannot be pickled itself."""
    culprit, seen, probes = Culprit(path, value, error), {id(value)}, 0
    for _ in range(_MAX_DEPTH):
        for label, part in parts(culprit.value):
            probes += 1
            if id(part) in seen or probes > _MAX_PROBES:
                continue
            seen.add(id(part))
            reason = failure(part)
            if reason is not None:
                culprit = Culprit(culprit.path + label, part, reason)
                break
        else:
            break
    return culprit


def explain(
    value: Any,
    error: BaseException,
    what: str,
    path: str = "value",
    executed: Executed | None = None,
) -> SerializationError:
    """Return the error that says what part of `value` cannot be pickled; `what` names the whole."""
    culprit = find_culprit(value, error, path)
    kind = type(culprit.value)
    reason = f"{type(culprit.error).__name__}: {culprit.error}"
    return SerializationError(
        f"Could not serialize {what}: {culprit.path} is of type {kind.__module__}."
        f"{kind.__qualname__} and cannot be pickled ({reason}). Make it where it is used, leave "
        "it out by __getstate__, or teach zactor its type by register_serializer().",
        path=culprit.path,
        executed=executed,
    )


def parts(whole: Any) -> Iterator[Part]:
    """Yield what the pickle of `whole` would contain."""
    if isinstance(whole, dict):
        yield from ((f"[{key!r}]", value) for key, value in whole.items())
        yield from ((f" key {key!r}", key) for key in whole)
    elif isinstance(whole, list | tuple | set | frozenset | deque):
        yield from ((f"[{index}]", item) for index, item in enumerate(whole))
    elif isinstance(whole, types.FunctionType):
        yield from _function_parts(whole)
    elif isinstance(whole, type):
        yield from _class_parts(whole)
    elif isinstance(whole, types.MethodType):
        yield ".__self__", whole.__self__
        yield ".__func__", whole.__func__
    elif isinstance(whole, staticmethod | classmethod):
        yield "", whole.__func__
    elif isinstance(whole, property):
        yield from (("", part) for part in (whole.fget, whole.fset, whole.fdel) if part)
    elif isinstance(whole, functools.partial):
        yield ".func", whole.func
        yield ".args", whole.args
        yield ".keywords", whole.keywords
    elif not isinstance(whole, types.ModuleType):
        yield from _instance_parts(whole)


def _function_parts(function: types.FunctionType) -> Iterator[Part]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    for name, cell in cells:
        with suppress(ValueError):  # an empty cell
            yield f" -> closure variable {name!r}", cell.cell_contents
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield f" -> global {name!r}", function.__globals__[name]
    defaults = function.__defaults__ or ()
    yield from ((f" -> default {index}", value) for index, value in enumerate(defaults))
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f" -> default of {name!r}", value
    yield from ((f".{name}", value) for name, value in vars(function).items())


def _global_names(code: types.CodeType) -> list[str]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _global_names(constant)
    return names


def _class_parts(cls: type) -> Iterator[Part]:
    for name, value in list(vars(cls).items()):
        if name not in ("__dict__", "__weakref__", "__doc__", "__module__"):
            yield f".{name}", value
    yield from ((f" -> base {base.__name__}", base) for base in cls.__bases__)


def _instance_parts(whole: Any) -> Iterator[Part]:
    try:
        reduced = whole.__reduce_ex__(5)
    except Exception:  # noqa: BLE001 - user code; and its refusal is the answer
        return
    if not isinstance(reduced, tuple) or len(reduced) < 2:
        return
    state = reduced[2] if len(reduced) > 2 else None
    for attributes in state if isinstance(state, tuple) else (state,):
        if isinstance(attributes, dict):
            yield from ((f".{name}", value) for name, value in attributes.items())
        elif attributes is not None:
            yield ".__getstate__()", attributes
    arguments = reduced[1] if isinstance(reduced[1], tuple) else ()
    for argument in arguments:
        label = " -> its class" if argument is type(whole) else " -> argument of its __reduce__"
        yield label, argument
    for items in reduced[3:5]:
        if items is not None:
            yield " -> its items", list(items)
    yield " -> its class", type(whole)


class FailureTuple:
    """A part that cannot be pickled, as `inspect_serializability` found it."""

    def __init__(self, obj: Any, path: tuple[str, ...], parent: Any) -> None:
        self.obj = obj
        self.path = path  # names from the outermost value to this one
        self.parent = parent

    @property
    def name(self) -> str:
        """The part's own name."""
        return self.path[-1] if self.path else ""

    def __repr__(self) -> str:
        path = " -> ".join(self.path)
        return f"FailTuple({self.name} [path={path}, obj={self.obj}, parent={self.parent}])"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Print which parts of a value cannot be pickled, as a tree, and return them.

    Args:
        base_obj: The value.
        name: What to call it.
        depth: How many levels of parts to look into.
        print_file: Where to print; standard output by default.

    Returns:
        Whether the value can be pickled, and the innermost parts that cannot.
    """
    out = print_file or sys.stdout
    failures: set[FailureTuple] = set()
    label = name or _short(base_obj)
    print(f"Can {label} be pickled?", file=out)
    _inspect(base_obj, (label,), None, depth, failures, out)
    if failures:
        culprits = ", ".join(sorted(" -> ".join(f.path) for f in failures))
        print(f"No, because of: {culprits}", file=out)
    else:
        print("Yes.", file=out)
    return not failures, failures


def _inspect(
    value: Any,
    path: tuple[str, ...],
    parent: Any,
    depth: int,
    failures: set[FailureTuple],
    out: TextIO,
) -> bool:
    """Print one level. Returns whether anything at or below it failed."""
    error = failure(value)
    if error is None:
        return False
    print(f"{'  ' * len(path)}{path[-1]}: {type(error).__name__}: {error}", file=out)
    below = False
    if depth > 0:
        seen = {id(value)}
        for label, part in parts(value):
            if id(part) not in seen:
                seen.add(id(part))
                step = label.removeprefix(" -> ").removeprefix(".")
                below |= _inspect(part, (*path, step), value, depth - 1, failures, out)
    if not below:
        failures.add(FailureTuple(value, path, parent))
    return True


def _short(value: Any) -> str:
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__qualname__
    return f"a {type(value).__qualname__}"
