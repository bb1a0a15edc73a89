"""What stands on the public API: pools, queues, iteration over results, metrics, joblib.

The modules have Ray's names: `zactor.util.queue`, `zactor.util.multiprocessing`,
`zactor.util.joblib`, `zactor.util.scheduling_strategies` and so on. Names are imported when
first used, so that a program pays for what it takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# A module and a function of one name: imported here, the function is what the package shows.
from zactor.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

if TYPE_CHECKING:
    from zactor.util.actor_group import ActorGroup
    from zactor.util.actor_pool import ActorPool
    from zactor.util.check_serialize import inspect_serializability
    from zactor.util.iteration import as_completed, map_unordered
    from zactor.util.named_actors import list_named_actors
    from zactor.util.network import get_node_ip_address
    from zactor.util.serialization import deregister_serializer, register_serializer

__all__ = [
    "ActorGroup",
    "ActorPool",
    "as_completed",
    "deregister_serializer",
    "get_current_placement_group",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "list_named_actors",
    "map_unordered",
    "placement_group",
    "placement_group_table",
    "register_serializer",
    "remove_placement_group",
]

_HOME = {
    "ActorGroup": "actor_group",
    "ActorPool": "actor_pool",
    "as_completed": "iteration",
    "deregister_serializer": "serialization",
    "inspect_serializability": "check_serialize",
    "map_unordered": "iteration",
    "get_node_ip_address": "network",
    "list_named_actors": "named_actors",
    "register_serializer": "serialization",
}

_MODULES = {
    "accelerators", "actor_group", "actor_pool", "check_serialize", "helpers", "joblib", "metrics",
    "multiprocessing", "queue", "scheduling_strategies", "serialization", "state",
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
