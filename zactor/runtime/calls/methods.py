"""What a class's methods are called and how: what its callers and its workers agree on."""

from __future__ import annotations

import inspect
from typing import Any

from zactor.runtime.calls import signatures
from zactor.serde.values import dumps


def describe_methods(cls: type, default_backpressure: int | None = None) -> list[list[Any]]:
    """Return `[name, {what @method said and what calling needs}]` of each method, in the order of
    their numbers: by name, so that it is the same in every process."""
    from zactor.options import MethodOptions

    rows: list[list[Any]] = []
    for name, function in sorted(inspect.getmembers(cls, inspect.isroutine)):
        if name.startswith("__") and name not in ("__call__", "__len__", "__getitem__"):
            continue
        options = getattr(function, "__zactor_method__", None) or MethodOptions()
        about: dict[str, Any] = {}
        if options.num_returns is not None:
            about["returns"] = options.num_returns
        elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            about["returns"] = "streaming"
        if options.concurrency_group:
            about["group"] = options.concurrency_group
        if options.max_task_retries is not None:
            about["retries"] = options.max_task_retries
        if options.retry_exceptions is True:
            about["retry"] = True
        elif options.retry_exceptions:
            about["retry"] = dumps(tuple(options.retry_exceptions), "retry_exceptions")[0]
        if options.timeout is not None:
            about["timeout"] = options.timeout
        if options.on_full:
            about["on_full"] = options.on_full
        backpressure = options.generator_backpressure or default_backpressure
        if backpressure and about.get("returns") in ("streaming", "dynamic"):
            about["backpressure"] = backpressure
        static = inspect.getattr_static(cls, name)
        about["takes"] = signatures.describe(
            function, skip_first=not isinstance(static, staticmethod | classmethod)
        )
        rows.append([name, about])
    return rows


def is_async_class(cls: type) -> bool:
    """Whether a class has `async def` methods: then it becomes an async actor."""
    return any(
        is_coroutine_function(function)
        for _, function in inspect.getmembers(cls, inspect.isroutine)
    )


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it makes a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
