"""zactor: distributed actors for Python, over ZeroMQ.

    import zactor

    @zactor.remote
    class Counter:
        def __init__(self): self.value = 0
        def increment(self): self.value += 1; return self.value

    counter = Counter.remote()
    assert zactor.get([counter.increment.remote() for _ in range(3)]) == [1, 2, 3]

The public names are those of Ray Core; `import zactor as ray` runs a Ray Core program. What is
guaranteed stands in docs/guarantees.md.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zactor import exceptions, ids
from zactor.api.actors import ActorClass, ActorHandle, ActorMethod
from zactor.api.control import cancel, exit_actor, get_actor, kill
from zactor.api.functions import RemoteFunction
from zactor.api.remote import method, remote
from zactor.api.session import ClusterContext, init, is_initialized, shutdown
from zactor.api.typed import Actor
from zactor.api.values import get, put, wait
from zactor.ids import (
    ActorID,
    JobID,
    NodeID,
    PlacementGroupID,
    TaskID,
    WorkerID,
)
from zactor.runtime.calls.refs import ObjectRef

ObjectID = ObjectRef  # its name of old, which Ray still has

if TYPE_CHECKING:
    from zactor import actor as actor
    from zactor import cluster_utils as cluster_utils
    from zactor import remote_function as remote_function
    from zactor import runtime_context as runtime_context
    from zactor import runtime_env as runtime_env
    from zactor import testing as testing
    from zactor import util as util
    from zactor.api.cluster import available_resources, cluster_resources, nodes, timeline
    from zactor.api.context import call_id, get_gpu_ids, get_runtime_context
    from zactor.api.generators import DynamicObjectRefGenerator, ObjectRefGenerator
    from zactor.api.log_config import LoggingConfig
    from zactor.api.why import why

__version__ = "0.1.0"

ids.draw_from(os.urandom)

# Imported on first use: what a program does not use does not slow its start.
_LAZY = {
    "DynamicObjectRefGenerator": "zactor.api.generators",
    "LoggingConfig": "zactor.api.log_config",
    "ObjectRefGenerator": "zactor.api.generators",
    "actor": "zactor.actor",
    "available_resources": "zactor.api.cluster",
    "call_id": "zactor.api.context",
    "cluster_resources": "zactor.api.cluster",
    "get_gpu_ids": "zactor.api.context",
    "get_runtime_context": "zactor.api.context",
    "nodes": "zactor.api.cluster",
    "runtime_context": "zactor.runtime_context",
    "runtime_env": "zactor.runtime_env",
    "cloudpickle": "zactor.cloudpickle",
    "cluster_utils": "zactor.cluster_utils",
    "remote_function": "zactor.remote_function",
    "testing": "zactor.testing",
    "timeline": "zactor.api.cluster",
    "util": "zactor.util",
    "why": "zactor.api.why",
}

__all__ = [
    "Actor",
    "ActorClass",
    "ActorHandle",
    "ActorID",
    "ActorMethod",
    "ClusterContext",
    "DynamicObjectRefGenerator",
    "JobID",
    "LoggingConfig",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "RemoteFunction",
    "TaskID",
    "WorkerID",
    "available_resources",
    "call_id",
    "cancel",
    "cluster_resources",
    "exceptions",
    "exit_actor",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "timeline",
    "wait",
    "why",
]


def __getattr__(name: str) -> Any:
    where = _LAZY.get(name)
    if where is None:
        raise AttributeError(f"module 'zactor' has no attribute {name!r}")
    module = import_module(where)
    found = module if where == f"zactor.{name}" else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
