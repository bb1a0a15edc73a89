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

from zactor import ids

if TYPE_CHECKING:
    from zactor import actor as actor
    from zactor import cluster_utils as cluster_utils
    from zactor import exceptions as exceptions
    from zactor import remote_function as remote_function
    from zactor import runtime_context as runtime_context
    from zactor import runtime_env as runtime_env
    from zactor import testing as testing
    from zactor import util as util
    from zactor.api.actors import ActorClass, ActorHandle, ActorMethod
    from zactor.api.cluster import available_resources, cluster_resources, nodes, timeline
    from zactor.api.context import call_id, get_gpu_ids, get_runtime_context
    from zactor.api.control import cancel, exit_actor, get_actor, kill
    from zactor.api.functions import RemoteFunction
    from zactor.api.generators import DynamicObjectRefGenerator, ObjectRefGenerator
    from zactor.api.log_config import LoggingConfig
    from zactor.api.remote import method, remote
    from zactor.api.session import ClusterContext, init, is_initialized, shutdown
    from zactor.api.typed import Actor
    from zactor.api.values import get, put, wait
    from zactor.api.why import why
    from zactor.ids import ActorID, JobID, NodeID, PlacementGroupID, TaskID, WorkerID
    from zactor.runtime.calls.refs import ObjectID, ObjectRef

__version__ = "0.1.0"

ids.draw_from(os.urandom)

# Imported on first use: what a program does not use does not slow its start.
_LAZY = {
    "Actor": "zactor.api.typed",
    "ActorClass": "zactor.api.actors",
    "ActorHandle": "zactor.api.actors",
    "ActorID": "zactor.ids",
    "ActorMethod": "zactor.api.actors",
    "ClusterContext": "zactor.api.session",
    "DynamicObjectRefGenerator": "zactor.api.generators",
    "JobID": "zactor.ids",
    "LoggingConfig": "zactor.api.log_config",
    "NodeID": "zactor.ids",
    "ObjectID": "zactor.runtime.calls.refs",
    "ObjectRef": "zactor.runtime.calls.refs",
    "ObjectRefGenerator": "zactor.api.generators",
    "PlacementGroupID": "zactor.ids",
    "RemoteFunction": "zactor.api.functions",
    "TaskID": "zactor.ids",
    "WorkerID": "zactor.ids",
    "actor": "zactor.actor",
    "available_resources": "zactor.api.cluster",
    "call_id": "zactor.api.context",
    "cancel": "zactor.api.control",
    "cloudpickle": "zactor.cloudpickle",
    "cluster_resources": "zactor.api.cluster",
    "cluster_utils": "zactor.cluster_utils",
    "exceptions": "zactor.exceptions",
    "exit_actor": "zactor.api.control",
    "get": "zactor.api.values",
    "get_actor": "zactor.api.control",
    "get_gpu_ids": "zactor.api.context",
    "get_runtime_context": "zactor.api.context",
    "init": "zactor.api.session",
    "is_initialized": "zactor.api.session",
    "kill": "zactor.api.control",
    "method": "zactor.api.remote",
    "nodes": "zactor.api.cluster",
    "put": "zactor.api.values",
    "remote": "zactor.api.remote",
    "remote_function": "zactor.remote_function",
    "runtime_context": "zactor.runtime_context",
    "runtime_env": "zactor.runtime_env",
    "shutdown": "zactor.api.session",
    "testing": "zactor.testing",
    "timeline": "zactor.api.cluster",
    "util": "zactor.util",
    "wait": "zactor.api.values",
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
