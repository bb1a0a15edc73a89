"""The runtime context: what a program can ask about where it runs."""

from __future__ import annotations

import json
import os
import warnings
from typing import TYPE_CHECKING, Any

from zactor.api.session import process
from zactor.ids import ActorID, JobID, NodeID, PlacementGroupID, TaskID, WorkerID
from zactor.wire.messages import Query

if TYPE_CHECKING:
    from zactor.api.actors import ActorHandle
    from zactor.runtime.hosting.calling import Execution
    from zactor.runtime.hosting.running_call import Call

__all__ = ["RuntimeContext", "call_id", "get_gpu_ids", "get_runtime_context"]


class RuntimeContext:
    """Where this code runs: job, node, worker, actor, call. Ids are hexadecimal text."""

    # -- what runs here

    @staticmethod
    def _running() -> Execution | None:
        running: Execution | None = process().running
        return running

    def _spec(self) -> dict[str, Any]:
        running = self._running()
        return getattr(running, "spec", None) or {}

    def _call(self) -> Call | None:
        running = self._running()
        return running.current() if running is not None else None

    def get(self) -> dict[str, Any]:
        """Return the context as a dict: ids as objects, those of what runs where something does."""
        found = {
            "job_id": JobID.from_hex(self.get_job_id()),
            "node_id": NodeID.from_hex(self.get_node_id()),
            "namespace": self.namespace,
            "task_id": _id(TaskID, self.get_task_id()),
            "actor_id": _id(ActorID, self.get_actor_id()),
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def worker_type(self) -> str:
        """WORKER or DRIVER."""
        return "WORKER" if process().is_worker else "DRIVER"

    def get_job_id(self) -> str:
        """Return the id of the job."""
        return process().job.hex()

    def get_node_id(self) -> str:
        """Return the id of the node."""
        runtime = process()
        node = runtime.node.node if runtime.node is not None else runtime.post.address.node
        return node.hex()

    def get_worker_id(self) -> str:
        """Return the id of this process."""
        return process().id.hex()

    def get_task_id(self) -> str | None:
        """Return the id of the task or call that runs; None if none does (in a driver)."""
        call = self._call()
        return call.object_id()[:24].hex() if call is not None else None

    def get_task_name(self) -> str | None:
        """Return the name of the task or call: of its function, unless `.options(name=)` gave one."""
        call = self._call()
        if call is None:
            return None
        running = self._running()
        assert running is not None
        name = running.name_of(call)
        return running.name_given(call) or (
            f"{running.label}.{name}" if running.label else name
        )

    def get_task_function_name(self) -> str | None:
        """Return the name of the function or method that runs, with its module and class."""
        call = self._call()
        running = self._running()
        if call is None or running is None:
            return None
        name = running.name_of(call)
        place = running.module_of(call)
        return ".".join(part for part in (place, running.label, name) if part)

    def get_dashboard_url(self) -> str:
        """Return "": there is no dashboard."""
        return ""

    def get_actor_id(self) -> str | None:
        """Return the id of the actor that runs, or None."""
        running = self._running()
        return running.actor_id or None if running is not None else None

    def get_actor_name(self) -> str | None:
        """Return the name of the actor that runs: "" if it has none; None outside of actors."""
        if self.get_actor_id() is None:
            return None
        return str(self._spec().get("name") or "")

    @property
    def namespace(self) -> str:
        """The namespace of this job's actor names."""
        return process().namespace

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the actor that runs was restarted."""
        if self.get_actor_id() is None:
            raise RuntimeError("was_current_actor_reconstructed is for actors")
        return bool(self._spec().get("restarts"))

    @property
    def current_actor(self) -> ActorHandle[Any]:
        """A handle of the actor that runs; it does not keep the actor alive.

        Raises:
            RuntimeError: Not in an actor.
        """
        from zactor.api.actors import own_handle

        if self.get_actor_id() is None:
            raise RuntimeError("This method is only available in an actor.")
        return own_handle(self._spec())

    def is_canceled(self) -> bool:
        """Whether the call that runs was cancelled.

        Raises:
            RuntimeError: In an async actor: there, asyncio cancels. Or in a driver.
        """
        if self.worker_type == "DRIVER":
            raise RuntimeError(
                "is_canceled() is for calls and tasks: nothing of the kind runs here"
            )
        call = self._call()
        if call is not None and hasattr(call.task, "cancelling"):
            raise RuntimeError(
                "is_canceled() is not supported in async actors: await raises asyncio.CancelledError"
            )
        running = self._running()
        if call is None or running is None:
            return False
        if running.actor_id and call.task is None:
            # From now on it is told by this flag, and not interrupted.
            running.polled = (call.intake, call.seq)
        return (
            call.is_cancelled
            or running.is_cancelled
            or running.flagged == (call.intake, call.seq)
        )

    # -- resources

    def get_placement_group_id(self) -> str | None:
        """Return the id of the placement group this runs in, or None."""
        group = process().session.get("group")
        return group["id"].hex() if group else None

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether what is started from here runs in the same placement group."""
        group = process().session.get("group")
        return bool(group and group.get("capture"))

    def get_assigned_resources(self) -> dict[str, float]:
        """Return the resources held by the task or actor that runs."""
        if self.worker_type == "DRIVER":
            raise RuntimeError("get_assigned_resources is for workers, not for the driver")
        assigned = self._spec().get("assigned") or {}
        return {name: float(amount) for name, amount in assigned.items()}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the ids of the accelerators given to the task or actor that runs, by kind."""
        return {"GPU": [str(gpu) for gpu in self._spec().get("gpu_ids") or ()]}

    # -- environment and cluster

    @property
    def runtime_env(self) -> dict[str, Any]:
        """The runtime environment of what runs."""
        runtime = process()
        if runtime.is_worker:
            return dict(self._spec().get("env") or {})
        return dict(runtime.session.get("runtime_env") or {})

    def get_runtime_env_string(self) -> str:
        """Return the runtime environment as JSON."""
        return json.dumps(self.runtime_env, default=str)

    @property
    def gcs_address(self) -> str:
        """The address of the broker."""
        broker = process().broker
        return (broker.tcp or broker.ipc).removeprefix("tcp://")

    def get_node_labels(self) -> dict[str, str]:
        """Return the labels of the node."""
        rows = process().ask(Query(0, "nodes", {"id": bytes.fromhex(self.get_node_id())}))
        return dict(rows[0]["labels"]) if rows else {}

    def get_session_name(self) -> str:
        """Return the name of the cluster's session on this machine."""
        return os.path.basename(self.get_temp_dir())

    def get_temp_dir(self) -> str:
        """Return the session's directory."""
        return os.path.dirname(process().post.address.ipc.removeprefix("ipc://"))

    # -- old spellings

    @property
    def job_id(self) -> JobID:
        """The id of the job, as an object. Deprecated."""
        _deprecated("get_job_id")
        return JobID(bytes.fromhex(self.get_job_id()))

    @property
    def node_id(self) -> NodeID:
        """The id of the node, as an object. Deprecated."""
        _deprecated("get_node_id")
        return NodeID(bytes.fromhex(self.get_node_id()))

    @property
    def worker_id(self) -> WorkerID:
        """The id of this process, as an object. Deprecated."""
        _deprecated("get_worker_id")
        return WorkerID(bytes.fromhex(self.get_worker_id()))

    @property
    def task_id(self) -> Any:
        """The id of the call that runs, as an object, or None. Deprecated."""
        _deprecated("get_task_id")
        return _id(TaskID, self.get_task_id())

    @property
    def actor_id(self) -> Any:
        """The id of the actor that runs, as an object, or None. Deprecated."""
        _deprecated("get_actor_id")
        return _id(ActorID, self.get_actor_id())

    @property
    def current_placement_group_id(self) -> Any:
        """The id of the placement group this runs in, as an object, or None. Deprecated."""
        _deprecated("get_placement_group_id")
        return _id(PlacementGroupID, self.get_placement_group_id())

    def get_resource_ids(self) -> dict[str, list[str]]:
        """Return what `get_accelerator_ids` does. Deprecated."""
        _deprecated("get_accelerator_ids")
        return self.get_accelerator_ids()


def _deprecated(instead: str) -> None:
    warnings.warn(
        f"This is deprecated, as it is in Ray. Use {instead}() instead",
        DeprecationWarning,
        stacklevel=3,
    )


def _id(kind: Any, text: str | None) -> Any:
    return None if text is None else kind.from_hex(text)


_context = RuntimeContext()


def get_runtime_context() -> RuntimeContext:
    """Return what is known about where this code runs."""
    process()
    return _context


def get_gpu_ids() -> list[int | str]:
    """Return the ids of the GPUs given to this worker."""
    running = process().running
    spec = getattr(running, "spec", None) or {}
    return [int(gpu) if str(gpu).isdigit() else gpu for gpu in spec.get("gpu_ids") or ()]


def call_id() -> str:
    """Return the id of the call that runs; the same if it is run again after a failure.

    Raises:
        RuntimeError: No call runs here.
    """
    found = get_runtime_context().get_task_id()
    if found is None:
        raise RuntimeError("call_id() is for code that an actor or a task runs")
    return found
