"""Tables of an in-process world that clusters put together from their processes: calls, workers, jobs.

A call is entered when it starts, and its row is kept for a while after it has ended. What waits is
looked up when somebody asks. Rows have the fields that a cluster's have.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from zactor.core.calls import NATIVE, PICKLED
from zactor.core.task_rows import task_row
from zactor.ids import pack_object_id
from zactor.runtime.calls.failures import Failure, failure_of, outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zactor.core.calls import Result
    from zactor.runtime.inprocess.process import LocalProcess
    from zactor.runtime.inprocess.running import Run
    from zactor.runtime.inprocess.world import World

Row = dict[str, Any]

ENDED_KEPT = 10_000  # calls that have ended; older ones are forgotten


class LocalListing:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running: dict[bytes, tuple[Run, float]] = {}  # by object id, and since when
        self._ended: OrderedDict[bytes, tuple[Row, Failure | None]] = (
            OrderedDict()
        )  # oldest first

    def began(self, run: Run) -> None:
        """A call starts."""
        self._running[run.call.object_id()] = (run, self._world.scheduler.now)

    def settled(self, run: Run, result: Result, state: int, value: Any) -> None:
        """A call gets its outcome."""
        is_value = state in (NATIVE, PICKLED)
        self._enter(run, None if is_value else failure_of(result, state, value))

    def over(self, run: Run) -> None:
        """A call does not run any more: a stream's items were its outcome."""
        if self._running.get(run.call.object_id(), (None,))[0] is not run:
            return
        if run.process.is_dead:  # what becomes of it is decided elsewhere: it may run again
            del self._running[run.call.object_id()]
        else:
            self._enter(run, None)

    def _enter(self, run: Run, failure: Failure | None) -> None:
        key = run.call.object_id()
        self._running.pop(key, None)
        self._ended.pop(key, None)
        self._ended[key] = (self._row(run), failure)
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)

    def calls(self) -> Iterator[Row]:
        """Yield the calls that wait, that run, and that ended lately."""
        for run, since in list(self._running.values()):
            yield self._row(run) | {"state": "RUNNING", "start_time_ms": int(since * 1000)}
        for task in self._world.waiting_tasks():
            yield self._waiting(task.result, task, "NORMAL_TASK", "PENDING_NODE_ASSIGNMENT")
        for actor in list(self._world.actors.values()):
            for queue in actor.mailbox.values():
                for result in queue:
                    row = self._waiting(
                        result,
                        actor,
                        "ACTOR_TASK",
                        "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY",
                    )
                    yield row | {"actor_id": actor.id.hex()}
        for row, failure in reversed(self._ended.values()):
            yield row | outcome(failure)

    def workers(self) -> Iterator[Row]:
        """Yield the driver and the processes that actors and tasks believe to be in."""
        world = self._world
        for process in [world.driver, *world.processes.values()]:
            actor = getattr(process.host, "id", None)
            yield {
                "worker_id": process.id.hex(),
                "worker_type": "WORKER" if process.is_worker else "DRIVER",
                "is_alive": not process.is_dead,
                "node_id": world.node_id.hex(),
                "ip": "",
                "pid": process.pid,
                "exit_type": None,
                "exit_detail": None,
                "actors": [actor.hex()] if actor is not None else [],
                "lease": 0,
                "is_idle": False,
            }

    def jobs(self) -> Iterator[Row]:
        """Yield the one job."""
        world = self._world
        yield {
            "job_id": world.job.hex(),
            "type": "DRIVER",
            "status": "RUNNING",
            "driver_id": world.driver.id.hex(),
            "driver_info": {"id": world.driver.id.hex(), "pid": str(world.driver.pid)},
            "submission_id": None,
            "start_time": 0,
            "address": list(world.address(world.driver.id)),
            "namespace": world.namespace,
            "entrypoint": "",
            "pid": world.driver.pid,
            "log_to_driver": True,
            "started": 0.0,
            "end_cause": None,
            "actors": len(world.actors),
        }

    # -- rows of calls -------------------------------------------------------------------------

    def _row(self, run: Run) -> Row:
        call, process = run.call, run.process
        row = self._common(call.object_id(), run.text, call.given, process)
        actor = process.running.actor_id if process.running is not None else ""
        row["type"] = "ACTOR_TASK" if actor else "NORMAL_TASK"
        row["actor_id"] = actor or None
        row |= {"worker_id": process.id.hex(), "worker_pid": process.pid}
        row["node_id"] = self._world.node_id.hex()
        row["creation_time_ms"] = _submitted(run.host)
        return row

    def _waiting(self, result: Result, host: Any, kind: str, state: str) -> Row:
        name = host.name_of(result)
        if kind == "ACTOR_TASK":
            name = f"{host.spec.get('class_name') or 'Actor'}.{name}"
        identity = pack_object_id(result.stream.caller, result.number, 0)
        row = self._common(identity, name, "", None)
        return row | {"type": kind, "state": state, "creation_time_ms": _submitted(host)}

    def _common(
        self, identity: bytes, function: str, given: str, process: LocalProcess | None
    ) -> Row:
        world = self._world
        return task_row(
            identity[:24].hex(),
            name=given or function,
            job_id=world.job.hex(),
            type="",
            func_or_class_name=function,
            worker_id=process.id.hex() if process is not None else None,
            owner_id=world.driver.id.hex(),
            owner_pid=world.driver.pid,
        )


def _submitted(host: Any) -> int | None:
    """Return when a task was submitted (ms, virtual). Of actors' calls it is not noted."""
    when = getattr(host, "submitted", None)
    return None if when is None else int(when * 1000)
