"""An actor coming to be: its class, its methods' numbers, its host, its constructor."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from zactor.runtime.calls import signatures
from zactor.runtime.calls.values import decode_wire
from zactor.runtime.hosting.calling import Execution
from zactor.runtime.hosting.group_loops import GroupedHost
from zactor.runtime.hosting.hosts import MainHost
from zactor.runtime.hosting.pools import AsyncHost, Groups, ThreadHost
from zactor.serde.values import dumps, loads_args

if TYPE_CHECKING:
    from zactor.runtime.process import Process


def make_host(process: Process, execution: Execution, life: int, spec: dict[str, Any]) -> Any:
    """Return the host for an actor of this spec."""
    concurrency = spec.get("max_concurrency") or 1
    if not spec.get("is_async") and concurrency == 1 and not spec.get("concurrency_groups"):
        return MainHost(process, execution, life)
    kind: Any = AsyncHost if spec.get("is_async") else ThreadHost
    if kind is AsyncHost and spec.get("concurrency_groups"):
        kind = GroupedHost
    return kind(process, execution, life, groups_of(spec))


def groups_of(spec: dict[str, Any]) -> Groups:
    """Return the concurrency groups of an actor that runs several calls at a time."""
    of_method = {
        number: row[1].get("group")
        for number, row in enumerate(spec.get("methods") or ())
        if row[1].get("group")
    }
    return Groups(
        dict(spec.get("concurrency_groups") or {}), spec.get("max_concurrency") or 1, of_method
    )


def construct(process: Process, execution: Execution, host: Any, spec: dict[str, Any]) -> None:
    """Load the class and run the constructor. What that raises passes on."""
    if isinstance(host, AsyncHost):
        asyncio.set_event_loop(asyncio.new_event_loop())
    execution.instance = instance = make_instance(process, spec, spec["id"], spec.get("args"))
    spec.pop("definition", None)
    spec.pop("definition", None)
    for number, row in enumerate(spec.get("methods") or ()):
        name = row[0]
        execution.bind(number, name, getattr(instance, name))
    if isinstance(host, AsyncHost):
        host.loop = asyncio.get_event_loop()  # not before: calls begin once it is known


def make_instance(process: Process, spec: dict[str, Any], actor: bytes, arguments: Any) -> Any:
    """Load the class and the arguments, and return what the constructor makes of them."""
    # The node hands on what it has, so that not every worker has to ask the broker.
    blob = spec.get("definition")
    definitions = process.definitions
    key = spec["class_key"]
    cls = definitions.known(key)
    if cls is None:
        cls = definitions.add(key, blob) if blob else definitions.load(key)
    if not arguments:
        return _made(cls)
    if type(arguments) is bytes:
        args, kwargs = loads_args(arguments, ())
        return _made(cls, *args, **kwargs)
    if not (arguments.get("refs") or arguments.get("slots")):
        if arguments.get("payload") is None:
            return _made(cls)
        args, kwargs = loads_args(arguments["payload"], arguments.get("frames") or ())
        return _made(cls, *args, **kwargs)
    return _make_with_references(process, cls, spec["owner"], actor, arguments)


def _made(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """Return an instance. An `async def __init__` runs to its end on the actor's loop."""
    if not inspect.iscoroutinefunction(cls.__init__):
        return cls(*args, **kwargs)
    instance = cls.__new__(cls, *args, **kwargs)
    asyncio.get_event_loop().run_until_complete(instance.__init__(*args, **kwargs))
    return instance


def _make_with_references(
    process: Process, cls: Any, owner: bytes, actor: bytes, arguments: dict[str, Any]
) -> Any:
    objects = process.objects
    args: Any = ()
    kwargs: dict[str, Any] = {}
    if arguments.get("refs"):
        rows = objects.learn(arguments["refs"])
        objects.call_arrives(actor + b"init", owner, rows)
    if arguments.get("payload") is not None:
        args, kwargs = loads_args(arguments["payload"], arguments.get("frames") or ())
    if arguments.get("slots"):
        args = list(args)
        for slot, status, value, *name in arguments["slots"]:
            decoded = decode_wire(process, status, value, *name)
            if type(slot) is int:
                args[slot] = decoded
            else:
                kwargs[slot] = decoded
    instance = _made(cls, *args, **kwargs)
    args = kwargs = None  # type: ignore[assignment]
    if arguments.get("refs"):
        objects.call_finishes(actor + b"init", owner, ())
    return instance


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


def run_shutdown_hook(instance: Any) -> None:
    """Run the actor's own clean-up: `__zactor_shutdown__` or `__ray_shutdown__`."""
    for name in ("__zactor_shutdown__", "__ray_shutdown__"):
        hook = getattr(instance, name, None)
        if hook is not None and not is_coroutine_function(hook):
            hook()
            return


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it makes a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
