"""Errors as the `[kind, text, fields]` of the wire, and back."""

from __future__ import annotations

from typing import Any, cast

from zactor.exceptions import task, tree
from zactor.exceptions.root import ZactorError
from zactor.exceptions.task import TaskError
from zactor.exceptions.tree import ZactorSystemError

CLASSES: dict[str, type[ZactorError]] = {
    name: value
    for module in (task, tree)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, ZactorError) and not name.startswith("_")
}
"""Every public error by its name, which is its kind on the wire."""

# Kinds that control messages use beside the class names.
_KINDS = {
    "constructor": ("ActorDiedError", {"actor_init_failed": True, "executed": "no"}),
    "environment": ("RuntimeEnvSetupError", {}),
    "spawn": ("WorkerCrashedError", {"executed": "no"}),
    "NameTaken": ("ActorAlreadyExistsError", {}),
}
_WIRE_TYPES = (str, int, float, bytes, bool, type(None), list, tuple, dict)


def to_wire(error: BaseException) -> list[Any]:
    """Return `[kind, text, fields]`. Fields that are not plain values stay behind."""
    if not isinstance(error, ZactorError):
        return ["ZactorSystemError", f"{type(error).__name__}: {error}", {}]
    if isinstance(error, TaskError):
        error = cast("TaskError", getattr(error, "_zactor_task_error", error))
    fields = {
        name: value
        for name, default in error._fields.items()
        if (value := getattr(error, name)) != default and isinstance(value, _WIRE_TYPES)
    }
    kind = next(base.__name__ for base in type(error).__mro__ if base.__name__ in CLASSES)
    return [kind, error.message, fields]


def from_wire(wire: list[Any]) -> ZactorError:
    """Return the error that `[kind, text, fields]` describes; unknown fields are ignored."""
    kind, text, fields = wire
    name, preset = _KINDS.get(kind, (kind, {}))
    cls = CLASSES.get(name) or CLASSES.get(f"{name}Error")
    if cls is None:
        return ZactorSystemError(f"{kind}: {text}")
    known = {
        key: value for key, value in (preset | (fields or {})).items() if key in cls._fields
    }
    if isinstance(known.get("chain"), list):
        known["chain"] = tuple(known["chain"])
    error = cls.__new__(cls)
    ZactorError.__init__(error, text, **known)
    return error
