"""Every option by name: its type, its range, and where it may be given.

The tables are the whole truth about single options; rules about combinations stand with the
records. An unknown option or a value out of range is a ValueError, a wrong type a TypeError.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from zactor.named import NamedTuple
from zactor.options import scheduling

Check = Callable[[Any], str | None]
"""Returns what is wrong with a value of the right type, or None."""

NONE = type(None)
SMALLEST_QUANTITY = 0.0001
RESERVED_RESOURCES = ("memory", "object_store_memory", "bundle")


class Option(NamedTuple):
    """One option."""

    types: type | tuple[type, ...]
    check: Check | None = None

    def validate(self, name: str, value: Any) -> None:
        """Raise TypeError or ValueError if `value` will not do."""
        if not isinstance(value, self.types):
            raise TypeError(
                f"The type of keyword '{name}' must be {self.types}, but received type "
                f"{type(value)}"
            )
        wrong = self.check(value) if self.check is not None else None
        if wrong:
            raise ValueError(wrong)


def _count(name: str, *, least: int, infinite: bool = False) -> Option:
    others = ["0"] * (least == 0) + ["-1"] * infinite
    accepted = ", ".join(["None", *others]) + " or a positive integer"
    accepted += ", where -1 represents infinity" * infinite

    def check(value: int | None) -> str | None:
        if value is None or value >= least or (infinite and value == -1):
            return None
        return f"The keyword '{name}' only accepts {accepted}."

    return Option((int, NONE), check)


def _choice(name: str, *values: str) -> Option:
    accepted = ", ".join(f"'{value}'" for value in values)

    def check(value: str | None) -> str | None:
        if value is None or value in values:
            return None
        return f"The keyword '{name}' only accepts None, {accepted}, but received '{value}'."

    return Option((str, NONE), check)


def check_quantity(name: str, quantity: float) -> str | None:
    """Return what is wrong with an amount of a resource, if anything."""
    if not math.isfinite(quantity):
        return f"The quantity of resource {name} must be a finite number"
    if quantity < 0:
        return f"The quantity of resource {name} cannot be negative"
    if 0 < quantity < SMALLEST_QUANTITY:
        return (
            f"The precision of the fractional quantity of resource {name} cannot go beyond "
            f"{SMALLEST_QUANTITY}"
        )
    if name == "num_gpus" and quantity > 1 and quantity != int(quantity):
        return f"num_gpus resource quantities >1 must be whole numbers, but received {quantity}"
    return None


def _resource(name: str) -> Option:
    def check(value: float | None) -> str | None:
        return None if value is None else check_quantity(name, value)

    return Option((float, int, NONE), check)


def _check_resources(resources: dict[Any, Any] | None) -> str | None:
    for name, quantity in (resources or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"Names in 'resources' must be strings, but received {name!r}")
        if name in ("CPU", "GPU"):
            return (
                "Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU' in "
                "'resources' keyword"
            )
        if name in RESERVED_RESOURCES:
            return f"'resources' must not contain {name!r}, which is no custom resource"
        if not isinstance(quantity, int | float):
            raise TypeError(
                f"The quantity of resource {name} must be a number, but received {quantity!r}"
            )
        wrong = check_quantity(name, quantity)
        if wrong:
            return wrong
    return None


def check_num_returns(value: int | str | None) -> str | None:
    """Return what is wrong with `num_returns`, if anything."""
    if value is None or value in ("dynamic", "streaming"):
        return None
    if isinstance(value, str):
        raise TypeError(
            f"num_returns must be an integer, 'streaming' or 'dynamic', but received {value!r}"
        )
    if value >= 0:
        return None
    return (
        "The keyword 'num_returns' only accepts None, a non-negative integer, 'streaming' or "
        f"'dynamic', not {value}."
    )


def _is_exception_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _check_retry_exceptions(value: bool | list[Any] | tuple[Any, ...] | None) -> str | None:
    if isinstance(value, list | tuple) and not all(map(_is_exception_class, value)):
        return "retry_exceptions must be either a boolean or a list of exceptions"
    return None


def _check_backpressure(value: int | None) -> str | None:
    if value is None or value > 0 or value == -1:
        return None
    return (
        f"_generator_backpressure_num_objects={value} is not allowed. Use a value > 0, or -1 to "
        "disable it; 1 produces one object whenever `next` is called."
    )


def _check_actor_backpressure(value: int | None) -> str | None:
    if value is None or value > 0 or value == -1:
        return None
    return (
        f"_actor_generator_backpressure_num_objects must be > 0, or -1 to disable. Got {value}."
    )


def _check_per_yield(value: int | None) -> str | None:
    return None if value is None or value > 0 else "_num_objects_per_yield must be positive."


def _check_lifetime(value: str | None) -> str | None:
    if value in (None, "detached", "non_detached"):
        return None
    return "actor `lifetime` argument must be one of 'detached', 'non_detached' and 'None'."


def _check_groups(groups: dict[Any, Any] | None) -> str | None:
    for name, limit in (groups or {}).items():
        if not isinstance(name, str) or not isinstance(limit, int):
            raise TypeError(
                f"concurrency_groups maps names to integers, but received {name!r}: {limit!r}"
            )
        if limit < 1:
            return f"The limit of concurrency group {name!r} must be at least 1, not {limit}."
    return None


def _check_runtime_env(env: dict[Any, Any] | None) -> str | None:
    variables = (env or {}).get("env_vars") or {}
    if not isinstance(variables, dict):
        raise TypeError(f"runtime_env['env_vars'] must be a dict, but received {variables!r}")
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(
                "runtime_env['env_vars'] maps strings to strings, but received "
                f"{name!r}: {value!r}"
            )
    return None


def _check_name(value: str | None) -> str | None:
    return "Actor name cannot be an empty string." if value == "" else None


def _check_namespace(value: str | None) -> str | None:
    if value == "":
        return '"" is not a valid namespace. Pass None to not specify a namespace.'
    return None


def _refuse_store_memory(value: int | None) -> str | None:
    if value is None:
        return None
    return "Setting 'object_store_memory' is not implemented for tasks"


def _check_timeout(value: float | None) -> str | None:
    if value is None or (value > 0 and math.isfinite(value)):
        return None
    return (
        f"The keyword 'timeout' only accepts None or a positive number of seconds, not {value}."
    )


def _check_group_handle(value: Any) -> str | None:
    if value is None or value == "default" or hasattr(value, "bundle_specs"):
        return None
    raise TypeError(
        "The type of keyword 'placement_group' must be PlacementGroup or None, but received "
        f"type {type(value)}"
    )


_optional_bool = Option((bool, NONE))
_optional_dict = Option((dict, NONE))
_optional_str = Option((str, NONE))
_retry = (bool, list, tuple)

_COMMON: dict[str, Option] = {
    "accelerator_type": _optional_str,
    "enable_task_events": Option(bool),
    "fallback_strategy": Option((list, NONE), scheduling.check_fallback),
    "label_selector": Option((dict, NONE), scheduling.check_label_selector),
    "memory": _resource("memory"),
    "name": _optional_str,
    "num_cpus": _resource("num_cpus"),
    "num_gpus": _resource("num_gpus"),
    "object_store_memory": _count("object_store_memory", least=0),
    "placement_group": Option(object, _check_group_handle),
    "placement_group_bundle_index": Option(int),
    "placement_group_capture_child_tasks": _optional_bool,
    "resources": Option((dict, NONE), _check_resources),
    "runtime_env": Option((dict, NONE), _check_runtime_env),
    "scheduling_strategy": Option(
        (
            NONE,
            str,
            scheduling.PlacementGroupSchedulingStrategy,
            scheduling.NodeAffinitySchedulingStrategy,
            scheduling.NodeLabelSchedulingStrategy,
        ),
        scheduling.check_strategy,
    ),
    "_labels": _optional_dict,
}

_GENERATOR: dict[str, Option] = {
    "_generator_backpressure_num_objects": Option((int, NONE), _check_backpressure),
    "_num_objects_per_yield": Option((int, NONE), _check_per_yield),
}

TASK_OPTIONS: dict[str, Option] = _COMMON | {
    "max_calls": _count("max_calls", least=0),
    "max_retries": _count("max_retries", least=0, infinite=True),
    "num_returns": Option((int, str, NONE), check_num_returns),
    "object_store_memory": Option((int, NONE), _refuse_store_memory),
    "retry_exceptions": Option(_retry, _check_retry_exceptions),
    "timeout": Option((float, int, NONE), _check_timeout),
    **_GENERATOR,
}

ACTOR_OPTIONS: dict[str, Option] = _COMMON | {
    "allow_out_of_order_execution": _optional_bool,
    "concurrency_groups": Option((dict, NONE), _check_groups),
    "enable_tensor_transport": _optional_bool,
    "get_if_exists": Option(bool),
    "isolation": _choice("isolation", "process", "shared"),
    "lifetime": Option((str, NONE), _check_lifetime),
    "max_concurrency": _count("max_concurrency", least=1),
    "max_pending_calls": _count("max_pending_calls", least=1, infinite=True),
    "max_restarts": _count("max_restarts", least=0, infinite=True),
    "max_task_retries": _count("max_task_retries", least=0, infinite=True),
    "name": Option((str, NONE), _check_name),
    "namespace": Option((str, NONE), _check_namespace),
    "on_full": _choice("on_full", "raise", "wait"),
    "_actor_generator_backpressure_num_objects": Option((int, NONE), _check_actor_backpressure),
}

METHOD_OPTIONS: dict[str, Option] = {
    "concurrency_group": _optional_str,
    "enable_task_events": _optional_bool,
    "max_task_retries": _count("max_task_retries", least=0, infinite=True),
    "num_returns": Option((int, str, NONE), check_num_returns),
    "on_full": _choice("on_full", "raise", "wait"),
    "retry_exceptions": Option((*_retry, NONE), _check_retry_exceptions),
    "tensor_transport": _optional_str,
    "timeout": Option((float, int, NONE), _check_timeout),
    **_GENERATOR,
}

CALL_OPTIONS: dict[str, Option] = METHOD_OPTIONS | {"name": _optional_str}
"""What `handle.method.options()` takes."""


def validate(table: Mapping[str, Option], what: str, options: Mapping[str, Any]) -> None:
    """Check each of `options` by itself; `what` names the kind of thing they are for."""
    for name, value in options.items():
        option = table.get(name)
        if option is None:
            raise ValueError(
                f"Invalid option keyword {name} for {what}. Valid ones are {sorted(table)}."
            )
        option.validate(name, value)


def check_for_generator(num_returns: Any, *, is_generator: bool) -> None:
    """Raise ValueError if only a generator could return that way, and this is none."""
    if num_returns == "dynamic":
        warnings.warn(
            "num_returns='dynamic' is deprecated; use num_returns='streaming'.",
            DeprecationWarning,
            stacklevel=4,
        )
    if num_returns in ("streaming", "dynamic") and not is_generator:
        raise ValueError(
            f"num_returns='{num_returns}' can only be used with generator functions (those that "
            "use 'yield'). The decorated function is not a generator function."
        )
