"""An actor coming to be: its class, its methods' numbers, its host, its constructor."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from zactor.runtime.calls.methods import is_coroutine_function
from zactor.runtime.hosting.arguments import filled
from zactor.runtime.hosting.hosts import MainHost
from zactor.serde.values import loads_args

if TYPE_CHECKING:
    from zactor.runtime.hosting.calling import Execution
    from zactor.runtime.hosting.pools import Groups
    from zactor.runtime.process import Process


def make_host(process: Process, execution: Execution, life: int, spec: dict[str, Any]) -> Any:
    """Return the host for an actor of this spec."""
    concurrency = spec.get("max_concurrency") or 1
    if not spec.get("is_async") and concurrency == 1 and not spec.get("concurrency_groups"):
        return MainHost(process, execution, life)
    # Asyncio comes with them, which most actors do without.
    from zactor.runtime.hosting.group_loops import GroupedHost
    from zactor.runtime.hosting.pools import AsyncHost, ThreadHost

    kind: Any = AsyncHost if spec.get("is_async") else ThreadHost
    if kind is AsyncHost and spec.get("concurrency_groups"):
        kind = GroupedHost
    return kind(process, execution, life, groups_of(spec))


def groups_of(spec: dict[str, Any]) -> Groups:
    """Return the concurrency groups of an actor that runs several calls at a time."""
    from zactor.runtime.hosting.pools import Groups

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
    is_async = bool(spec.get("is_async"))
    if is_async:
        import asyncio

        asyncio.set_event_loop(asyncio.new_event_loop())
    execution.instance = instance = make_instance(process, spec, spec["id"], spec.get("args"))
    spec.pop("definition", None)
    for number, row in enumerate(spec.get("methods") or ()):
        name = row[0]
        execution.bind(number, name, getattr(instance, name))
    if is_async:
        import asyncio

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
    import asyncio

    instance = cls.__new__(cls, *args, **kwargs)
    asyncio.get_event_loop().run_until_complete(instance.__init__(*args, **kwargs))
    return instance


def _make_with_references(
    process: Process, cls: Any, owner: bytes, actor: bytes, arguments: dict[str, Any]
) -> Any:
    objects = process.objects
    args: Any = ()
    kwargs: dict[str, Any] = {}
    rows: list[Any] = []
    if arguments.get("refs"):
        rows = objects.learn(arguments["refs"])
        objects.call_arrives(actor + b"init", owner, rows)
    if arguments.get("payload") is not None:
        args, kwargs = loads_args(arguments["payload"], arguments.get("frames") or ())
    if arguments.get("slots"):
        process.lends_all = True  # making an argument again may need what the actor holds
        try:
            args, kwargs = filled(process, arguments["slots"], (args, kwargs), rows, waits=True)
        finally:
            process.lends_all = False
    instance = _made(cls, *args, **kwargs)
    args = kwargs = None  # type: ignore[assignment]
    if arguments.get("refs"):
        objects.call_finishes(actor + b"init", owner, ())
    return instance


def run_shutdown_hook(instance: Any) -> None:
    """Run the actor's own clean-up: `__zactor_shutdown__` or `__ray_shutdown__`."""
    for name in ("__zactor_shutdown__", "__ray_shutdown__"):
        hook = getattr(instance, name, None)
        if hook is not None and not is_coroutine_function(hook):
            hook()
            return
