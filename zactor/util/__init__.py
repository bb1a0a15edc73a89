"""What stands on the public API: pools, queues, iteration over results, metrics, joblib.

The modules have Ray's names: `zactor.util.queue`, `zactor.util.multiprocessing`,
`zactor.util.joblib`, `zactor.util.scheduling_strategies` and so on. Names are imported when
first used, so that a program pays for what it takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zactor.util.actor_group import ActorGroup
    from zactor.util.actor_pool import ActorPool
    from zactor.util.check_serialize import inspect_serializability
    from zactor.util.iteration import as_completed, map_unordered
    from zactor.util.serialization import deregister_serializer, register_serializer

__all__ = [
    "ActorGroup",
    "ActorPool",
    "as_completed",
    "deregister_serializer",
    "inspect_serializability",
    "map_unordered",
    "register_serializer",
]

_HOME = {
    "ActorGroup": "actor_group",
    "ActorPool": "actor_pool",
    "as_completed": "iteration",
    "deregister_serializer": "serialization",
    "inspect_serializability": "check_serialize",
    "map_unordered": "iteration",
    "register_serializer": "serialization",
}

_MODULES = {
    "actor_group", "actor_pool", "check_serialize", "helpers", "joblib", "metrics",
    "multiprocessing", "queue", "scheduling_strategies", "serialization",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"zactor.util.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'zactor.util' has no attribute {name!r}")
    found = getattr(import_module(f"zactor.util.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
