"""The workers of one node: what each is used for, and which can be taken for new work.

    use       means                                                       leaves it
    SPARE     started ahead of need, belongs to no job                    taken for an actor, a lease
    LEASE     runs tasks for one lease                                    the lease ends; it dies
    IDLE      its lease ended; kept for tasks of the same job             taken, trimmed; it dies
    ACTOR     hosts one actor                                             the actor ends; it dies
    SHARED    hosts any number of actors of one job, environment, group   trimmed when empty; it dies
    ENDING    was asked to exit, or hosts an actor that has ended         it dies

Does not start or end workers; `core.node` does.

Invariants
    P1  A worker is in the index of its use and in no other.
    P2  A worker that has belonged to a job never belongs to another.
"""

from __future__ import annotations

from typing import Any

SPARE = "SPARE"
LEASE = "LEASE"
IDLE = "IDLE"
ACTOR = "ACTOR"
SHARED = "SHARED"
ENDING = "ENDING"

ActorLife = tuple[bytes, int]


class Worker:
    """One worker process."""

    __slots__ = (
        "actors", "address", "attempt", "env", "environment", "exit_by", "home", "idle_since", "is_kept",
        "is_used_up", "job", "killed", "label", "lease", "pid", "process", "shape", "unready", "use", "work",
    )  # fmt: skip

    def __init__(
        self, process: bytes, env: str, environment: dict[str, Any], attempt: int
    ) -> None:
        self.process = process
        self.env = env  # key of its runtime environment
        self.environment = environment
        self.attempt = attempt  # the how-manieth worker tried for its work
        self.use = SPARE
        self.job = b""  # set by its first work, then for ever
        self.pid = 0  # 0 until forked
        self.address: list[Any] | None = None  # None until it is up
        self.label = ""  # what its output is shown under
        self.actors: dict[
            ActorLife, str
        ] = {}  # hosted, until each ends; and its repr once ready
        self.unready: dict[ActorLife, None] = {}  # those whose constructor runs, or will
        self.lease = 0  # 0: none
        self.shape: dict[str, Any] = {}  # of its StartLease, while it has a lease
        self.work: list[Any] = []  # StartActor, StartLease it was taken for, until it is up
        self.home: tuple[Any, ...] | None = None  # key of the shared actors it is for
        self.killed = ""  # why we killed it; "" if we did not
        self.idle_since = 0.0  # when it became IDLE, or SHARED and empty
        self.is_used_up = False  # it is to run no further task
        self.is_kept = False  # used up, and others need what it owns: asked to exit again later
        self.exit_by = 0.0  # when it is killed if it is still there; 0: never

    def describe(self) -> dict[str, Any]:
        """Return what `NodeUp` says of it."""
        is_up = self.address is not None
        return {
            "process": self.process if is_up else b"",
            "address": self.address,
            "pid": self.pid,
            "job": self.job,
            "actors": [
                [actor, life, (actor, life) not in self.unready, repr_name]
                for (actor, life), repr_name in self.actors.items()
            ],
            "lease": self.lease,
            "shape": self.shape,
        }


class WorkerPool:
    """All workers of a node, and the indexes by which new work finds one."""

    def __init__(self) -> None:
        self.workers: dict[bytes, Worker] = {}
        self.by_actor: dict[ActorLife, Worker] = {}
        self.by_lease: dict[int, Worker] = {}
        self._spare: dict[str, dict[bytes, Worker]] = {}  # by environment, oldest first
        self._idle: dict[tuple[bytes, str], dict[bytes, Worker]] = {}  # by job and environment
        self._idle_order: dict[bytes, Worker] = {}  # all idle ones, longest idle first
        self._shared: dict[tuple[Any, ...], Worker] = {}

    def add_spare(self, worker: Worker) -> None:
        """Enter a new worker."""
        self.workers[worker.process] = worker
        self._spare.setdefault(worker.env, {})[worker.process] = worker

    def spare_count(self, env: str) -> int:
        """Return how many spare workers an environment has, started or starting."""
        return len(self._spare.get(env, ()))

    def take_spare(self, env: str) -> Worker | None:
        """Take the oldest spare worker out of its index; the caller uses it at once."""
        spare = self._spare.get(env)
        if not spare:
            return None
        process = next(iter(spare))
        worker = spare.pop(process)
        if not spare:
            del self._spare[env]
        return worker

    def take_idle(self, job: bytes, env: str) -> Worker | None:
        """Take the worker that went idle last, whose memory is warmest."""
        idle = self._idle.get((job, env))
        if not idle:
            return None
        worker = next(reversed(idle.values()))
        self.detach(worker)
        return worker

    def shared(self, home: tuple[Any, ...]) -> Worker | None:
        """Return the worker for shared actors of one kind."""
        return self._shared.get(home)

    def idle_beyond(self, limit: int) -> list[Worker]:
        """Return the longest idle workers, as many as there are above `limit`."""
        excess = len(self._idle_order) - limit
        return list(self._idle_order.values())[:excess] if excess > 0 else []

    def give_lease(self, worker: Worker, lease: int, job: bytes, shape: dict[str, Any]) -> None:
        """Use a worker that was taken for a lease."""
        worker.use, worker.lease, worker.job, worker.shape = LEASE, lease, job, shape
        self.by_lease[lease] = worker

    def give_actor(
        self, worker: Worker, key: ActorLife, job: bytes, home: tuple[Any, ...] | None
    ) -> None:
        """Use a worker that was taken, or is shared, for an actor."""
        worker.use, worker.job, worker.home = (SHARED if home else ACTOR), job, home
        if home:
            self._shared[home] = worker
        worker.actors[key], worker.unready[key] = "", None
        self.by_actor[key] = worker

    def take_actor(self, key: ActorLife) -> Worker | None:
        """The actor's life is over: forget it; return the worker that hosted it."""
        worker = self.by_actor.pop(key, None)
        if worker is not None:
            worker.actors.pop(key)
            worker.unready.pop(key, None)
        return worker

    def take_lease(self, lease: int) -> Worker | None:
        """The lease is over: forget it; return its worker."""
        worker = self.by_lease.pop(lease, None)
        if worker is not None:
            worker.lease, worker.shape = 0, {}
        return worker

    def rest(self, worker: Worker, now: float) -> None:
        """The worker has no lease any more: keep it for its job's next one."""
        worker.use, worker.idle_since = IDLE, now
        self._idle.setdefault((worker.job, worker.env), {})[worker.process] = worker
        self._idle_order[worker.process] = worker

    def detach(self, worker: Worker) -> None:
        """Take a worker out of the index in which new work would find it."""
        if worker.use == SPARE:
            spare = self._spare.get(worker.env, {})
            spare.pop(worker.process, None)
            if not spare:
                self._spare.pop(worker.env, None)
        elif worker.use == IDLE:
            key = (worker.job, worker.env)
            del self._idle[key][worker.process]
            if not self._idle[key]:
                del self._idle[key]
            del self._idle_order[worker.process]
        elif worker.use == SHARED and worker.home and self._shared.get(worker.home) is worker:
            del self._shared[worker.home]

    def remove(self, worker: Worker) -> None:
        """The worker is dead: forget it and all it had."""
        self.detach(worker)
        del self.workers[worker.process]
        for key in worker.actors:
            del self.by_actor[key]
        if worker.lease:
            del self.by_lease[worker.lease]

    def check(self) -> None:
        """Assert P1 and the agreement of the indexes."""
        for process, worker in self.workers.items():
            assert worker.process == process
            assert (process in self._spare.get(worker.env, ())) == (worker.use == SPARE)
            assert (process in self._idle_order) == (worker.use == IDLE)
            idle = self._idle.get((worker.job, worker.env), {})
            assert (process in idle) == (worker.use == IDLE)
            is_shared = worker.home is not None and self._shared.get(worker.home) is worker
            assert is_shared == (worker.use == SHARED)
            assert (worker.use == LEASE) <= bool(worker.lease)
            assert bool(worker.job) or worker.use in (SPARE, ENDING)
            assert not (worker.use == ACTOR and len(worker.actors) != 1)
            assert set(worker.unready) <= set(worker.actors)
            for key in worker.actors:
                assert self.by_actor[key] is worker
        assert sum(len(worker.actors) for worker in self.workers.values()) == len(self.by_actor)
        for lease, worker in self.by_lease.items():
            assert worker.lease == lease
            assert self.workers[worker.process] is worker
        for group in (*self._spare.values(), *self._idle.values()):
            assert group
            assert all(process in self.workers for process in group)
