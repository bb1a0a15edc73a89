"""An in-process world: everything there is of one, and how it begins and ends.

Invariants
    W1  One world at a time in a process, and no other session beside it.
    W2  When it is closed, nothing of it is left: no thread, no patch, no session.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from zactor.exceptions import SessionLostError
from zactor.named import NamedTuple
from zactor.runtime import current as processes
from zactor.runtime.inprocess import stuck
from zactor.runtime.inprocess.actors import LocalActor
from zactor.runtime.inprocess.directory import LocalDirectory, address_of
from zactor.runtime.inprocess.faults import Faults
from zactor.runtime.inprocess.listing import LocalListing
from zactor.runtime.inprocess.patches import PIDS, Patches
from zactor.runtime.inprocess.placing import LocalGroupViews, LocalPlacing
from zactor.runtime.inprocess.process import LocalProcess
from zactor.runtime.inprocess.references import LocalObjects
from zactor.runtime.inprocess.scheduler import PATIENCE, Scheduler
from zactor.runtime.inprocess.tasks import LocalTask
from zactor.runtime.inprocess.views import LocalViews
from zactor.runtime.machine import ip_address
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zactor.core.calls import Result
    from zactor.runtime.calls.actors import ActorView
    from zactor.runtime.inprocess.scheduler import Strand

MEMORY = 1 << 40  # bytes that the node claims to have: an in-process world is for logic
TRACE_KEPT = 100_000  # steps; what is older is forgotten
DEAD_KEPT = 10_000  # actors that have died, for listings


class Step(NamedTuple):
    """Something that happened in a world."""

    at: float  # virtual seconds since the world began
    what: str  # starts, ends, raises, yields, retries, is up, dies, crashes, restarts, is lost
    who: str  # the actor, as `Counter#1`, or the task's function
    call: str  # the method; of an end, why

    def __str__(self) -> str:
        return f"{self.at:12.6f}  {self.who} {self.what} {self.call}".rstrip()


class World:
    """See the module.

    Attributes:
        trace: What happened, in order.
        placing: What its one node has, and who holds it.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        num_cpus: float = 8,
        num_gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        namespace: str = "",
        eagerness: float = 0.25,
        patience: float = PATIENCE,
    ) -> None:
        self.seed = seed
        self.scheduler = scheduler = Scheduler(seed, eagerness=eagerness)
        scheduler.patience = patience
        self._ids = 0
        self.cluster_id, self.node_id, self.job = b"inproc-clust", b"inproc-node\0", b"test"
        self.namespace = namespace or f"local-{seed}"
        amounts: dict[str, float] = {
            "CPU": num_cpus,
            "memory": MEMORY,
            "object_store_memory": MEMORY,
        }
        amounts[f"node:{ip_address()}"] = 1.0
        if num_gpus:
            amounts["GPU"] = num_gpus
        amounts.update(resources or {})
        self.placing = LocalPlacing(self, amounts, dict(labels or {}))
        self.trace: deque[Step] = deque(maxlen=TRACE_KEPT)
        self.listing = LocalListing(self)
        self.faults = Faults()
        self.blobs: dict[bytes, bytes] = {}
        self.actors: dict[bytes, LocalActor] = {}
        self.processes: dict[int, LocalProcess] = {}
        self.released: deque[bytes] = deque()  # actors whose last handle is gone
        self.dropped_streams: deque[Any] = deque()
        self.full_streams: dict[
            Any, Callable[[], None]
        ] = {}  # by what waits for their consumers
        self.callbacks: deque[Callable[[], None]] = (
            deque()
        )  # users', to run in strands of their own
        self.objects = LocalObjects(self)
        self.views = LocalViews(self)
        self.directory = LocalDirectory(self)
        self._labels: Counter[str] = Counter()
        self._tasks: dict[int, LocalTask] = {}
        self._dead: deque[bytes] = deque()
        scheduler.housekeeping = self._sweep
        scheduler.on_switch = self._switched
        self._variables: dict[str, str | None] = {}  # what was there before a process's own
        scheduler.stuck = lambda: stuck.explain(self)
        scheduler.sources[self] = None
        self.driver = LocalProcess(self, self.fresh_id())
        self.group_views = LocalGroupViews(self.driver)  # type: ignore[arg-type]
        scheduler.main.process = self.driver
        self._patches: Patches | None = None

    def open(self) -> None:
        """Make this the process's session, and its time the process's."""
        processes.set_current(self.driver)
        self._patches = Patches(self, self.seed)

    def is_elsewhere(self) -> bool:
        """Whether it is not the asking thread that opened it: an actor cannot end the session."""
        return self.scheduler.main.ident != threading.get_ident()

    def close(self) -> None:
        """Take everything down (W2)."""
        if self._patches is None:
            return
        try:
            self.driver.end(SessionLostError("the in-process world was closed"))
            self.scheduler.close()
        finally:
            self._patches.undo()
            self._patches = None
            processes.set_current(None)

    # -- facts ---------------------------------------------------------------------------------

    def fresh_id(self) -> bytes:
        """Return the id of a new process."""
        self._ids += 1
        return b"inproc%06d" % self._ids

    def fresh_pid(self) -> int:
        """Return the process id that a new process believes to have."""
        return PIDS + self._ids

    def address(self, process: bytes) -> Address:
        """Return the address of a process. Nothing can be sent there."""
        return Address(*address_of(process, self.node_id))

    def process_of(self, pid: int) -> LocalProcess | None:
        """Return the process with this made-up process id, if it lives."""
        found = self.processes.get(pid)
        return found if found is not None and not found.is_dead else None

    def note(self, what: str, who: str, call: str) -> None:
        """Enter a step in the trace."""
        self.trace.append(Step(self.scheduler.now, what, who, call))

    # -- actors and tasks ----------------------------------------------------------------------

    def create(self, spec: dict[str, Any]) -> LocalActor:
        """Enter an actor; it is constructed when the scheduler says so."""
        name = spec.get("class_name") or "Actor"
        self._labels[name] += 1
        view = self.views.view(spec["id"])
        if spec["id"] not in self.views.killed:
            actor = LocalActor(self, dict(spec), f"{name}#{self._labels[name]}")
            self.actors[actor.id] = actor
            for stream in list(view.streams):
                self.driver.caller.release(stream)
            return actor
        actor = LocalActor(self, dict(spec), f"{name}#{self._labels[name]}")
        self.actors[actor.id] = actor
        actor.kill(no_restart=self.views.killed.pop(actor.id))
        return actor

    def killed_early(self, view: ActorView, *, no_restart: bool) -> None:
        """An actor was killed whose arguments are not here yet."""
        self.views.killed[view.id] = no_restart

    def names_freed(self, actor: LocalActor) -> None:
        """An actor is dead."""
        self.directory.free(actor.spec)
        self._dead.append(actor.id)
        if len(self._dead) > DEAD_KEPT:
            self.actors.pop(self._dead.popleft(), None)

    def submit(self, result: Any) -> None:
        """Enter a task."""
        task = self._tasks[id(result)] = LocalTask(self, result)
        result.add_waiter(_Forget(self, task))

    def task_of(self, result: Result) -> LocalTask | None:
        """Return the task that a pending result is of."""
        return self._tasks.get(id(result))

    def forget_task(self, task: LocalTask) -> None:
        """A task has its outcome."""
        self._tasks.pop(id(task.result), None)

    def waiting_tasks(self) -> list[LocalTask]:
        """Return the tasks that do not run."""
        return [task for task in self._tasks.values() if task.run is None]

    def tasks_of(self, identity: Any) -> list[Any]:
        """Return the results of the tasks that a caller waits for."""
        return [task.result for task in self._tasks.values() if task.identity is identity]

    def living(self) -> list[Any]:
        """Return the actors that are not dead, and the tasks."""
        actors = [actor for actor in self.actors.values() if actor.state != "DEAD"]
        return [*actors, *self._tasks.values()]

    # -- ends ----------------------------------------------------------------------------------

    def crash_process(self, process: LocalProcess, cause: dict[str, Any]) -> None:
        """A process dies."""
        process.host.life_over(cause)

    def end_process(self, process: LocalProcess, cause: dict[str, Any], label: str) -> None:
        """A process is dead: take down its strands, and what it owned."""
        self.processes.pop(process.pid, None)
        self.scheduler.end_strands(process)
        self.objects.owner_died(process.id)
        text = f"its owner, {label}, is dead"
        for actor in list(self.actors.values()):
            if actor.spec["owner"] == process.id and actor.spec.get("lifetime") != "detached":
                actor.life_over(
                    {"kind": "owner", "text": text, "owner": process.id}, is_final=True
                )

    def explain(self, result: Result) -> list[dict[str, Any]]:
        """Return why a result is not there, cause by cause."""
        if result.state:
            return [{"kind": "ready", "text": "it is ready"}]
        return [{"kind": "waits", "text": text} for text in stuck.reasons(self, result)]

    def check_circle(self, me: Strand, needed: Sequence[Result]) -> None:
        """Refuse a wait that closes a circle.

        Raises:
            DeadlockError: It does.
        """
        error = stuck.circle(self, me, needed)
        if error is not None:
            raise error

    # -- the scheduler's -----------------------------------------------------------------------

    def options(self) -> list[Callable[[], Any]]:
        """Return what could start: callbacks of users."""
        return [self._call_back] if self.callbacks else []

    def _call_back(self) -> Strand:
        return self.scheduler.start("callback", self.driver, self.callbacks.popleft())

    def _switched(self, process: Any) -> None:
        """Another process runs now: its variables are the environment's."""
        if process is processes.current():
            return
        processes.set_current(process)
        for name, value in self._variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._variables.clear()
        variables = (process.session.get("runtime_env") or {}).get("env_vars") or {}
        for name, value in variables.items():
            self._variables[name] = os.environ.get(name)
            os.environ[name] = value

    def _sweep(self) -> None:
        while self.released:
            actor = self.actors.get(self.released.popleft())
            if actor is not None:
                actor.is_released = True
                self.scheduler.sources[actor] = None
        self.placing.fill()
        self.objects.tidy()
        while self.dropped_streams:
            self.driver.streams.drop(self.dropped_streams.popleft())


class _Forget:
    """Has a task forgotten that is settled."""

    def __init__(self, world: World, task: LocalTask) -> None:
        self._world = world
        self._task = task

    def settled(self, result: Any) -> None:  # noqa: ARG002
        self._world.forget_task(self._task)
