"""The node: which worker does what, from the broker's wish to the worker's end.

It takes what the broker asks (start and stop actors and leases), what workers say on their control
lanes, and what is seen of their processes; it answers with effects for its shell, and reports
every end to the broker.

    a worker says                            then
    ["up", address]                          it takes calls; repeated when its address changed
    ["ready", actor, life, repr]             the constructor has returned
    ["readies", [[actor, life, repr]]]       the same of many
    ["failed", actor, life, error]           the constructor raised, or the class cannot be had
    ["stopping", actor, life]                the queue is empty, the shutdown hook begins
    ["exited", actor, life, cause]           the actor has ended of itself, or was stopped in order
    ["keep"]                                 asked to exit for being idle, it declines: others hold
                                             references to what it owns
    ["label", text]                          what its output is to be shown under

    the node says to a worker                which then
    ["actor", actor, life, spec]             constructs the actor
    ["actors", common spec, [[actor, life, epoch, restarts, args]]]    constructs them
    ["lease", lease, job, shape]             takes tasks of the lease
    ["unlease", lease]                       takes no more of them
    ["stop", actor, life]                    ends the actor when its queue is empty
    ["kill", actor, life]                    drops the actor now (only said of shared ones)
    ["bind_tcp"]                             binds, and says "up" again
    ["exit", why]                            exits; with "idle" it may say "keep"
    ["broker", address]                      has another broker from now on (said by the shell)

Work is sent to a worker before it is up, even before it is forked: the lane keeps it. So the shell
must put `Spawn` into effect before the `ToWorker` that follows it.

It accounts for no resources, which the broker does, and does not know the store.

Invariants
    N1  Each StartActor is answered by ActorFailed, or by ActorUp and then exactly one of
        ActorFailed, ActorExited, WorkerDied; or by WorkerDied alone if it was killed on the way.
    N2  Each StartLease is answered by LeaseFailed, or WorkerLeased; or by WorkerDied alone.
    N3  WorkerDied of a worker is the last the broker hears of it.
    N4  Whatever has a deadline is gone soon after it, or its worker is killed.
    N5  After StopNode nothing starts, and `End` follows when the last worker is dead.
    N6  What ends because its node stops is reported as gone with its node, which another life
        may follow; not as ended by its own or its users' will.
"""

# ruff: noqa: ARG002 - the handlers of one table have one signature

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from zactor.core.node_effects import (
    DropJob,
    Effect,
    End,
    Kill,
    NodeLimits,
    NodeStats,
    Report,
    SetLabel,
    Spawn,
    ToBroker,
    ToWorker,
    cause_of_death,
    env_key,
)
from zactor.core.worker_pool import ACTOR, ENDING, IDLE, SHARED, SPARE, Worker, WorkerPool
from zactor.wire.messages import (
    WHOLE,
    ActorExited,
    ActorFailed,
    ActorReady,
    ActorsReady,
    ActorsUp,
    ActorUp,
    BindNetwork,
    EndLease,
    JobEnded,
    LeaseFailed,
    StartActor,
    StartActors,
    StartLease,
    StopActor,
    StopNode,
    WorkerDied,
    WorkerLeased,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.worker_pool import ActorLife
    from zactor.ids import IdSource

SIGKILL = 9
ATTEMPTS = 2
"""Workers tried for one piece of work before the broker is told to look elsewhere."""

FAILED_SPARES = 4
"""Spare workers that fail to start, one after the other, until no more are tried."""

IDLE_EXIT, USED_UP = "idle", "used up"
"""Why a worker is asked to exit that may answer "keep", since others need what it owns."""

ASK_AGAIN = 0.5
"""Seconds after which a worker that is used up, and needed, is asked to exit again."""

NO_EXIT = "it did not exit when asked to"

FEW = 8
"""Actors of one worker whose coming up is told one by one."""

REFILL_PAUSE = 0.1
"""Seconds without a new start after which spare workers are made."""


class NodeMachine:
    """The state of one node."""

    def __init__(self, ids: IdSource, limits: NodeLimits) -> None:
        self._ids = ids
        self._limits = limits
        self._pool = WorkerPool()
        self._effects: list[Effect] = []
        self._timers: list[tuple[float, int, Callable[[Any, float], None], Any]] = []
        self._order = count()
        self._refill_at: float | None = (
            None  # when spares are made; a timer is set iff not None
        )
        self._failed_spares = 0  # in a row; a fresh start or a worker that comes up clears it
        self._end_reason: str | None = None  # set by StopNode
        self._has_ended = False
        self.story: deque[tuple[float, str, Any]] = deque(maxlen=200)
        self._requests: dict[type, Callable[[Any, float], None]] = {
            StartActor: self._start_actor,
            StartActors: self._start_actors,
            StopActor: self._stop_actor,
            BindNetwork: self._bind_network,
            StartLease: self._start_lease,
            EndLease: self._end_lease,
            JobEnded: self._job_ended,
            StopNode: self._stop_node,
        }
        self._words: dict[str, Callable[..., None]] = {
            "up": self._up,
            "ready": self._ready,
            "readies": self._readies,
            "failed": self._failed,
            "stopping": self._stopping,
            "exited": self._exited,
            "keep": self._keep,
            "label": self._label,
        }

    # Events.

    def open(self, now: float) -> None:
        """The node has joined its cluster: start the first spare workers."""
        self._refill(now)

    def receive(self, peer: bytes, message: Any, now: float) -> None:
        """Take a message of the broker."""
        self.story.append((now, "broker", message[:2]))
        handle = self._requests.get(type(message))
        if handle is None:
            self._effects.append(
                Report(f"unexpected {type(message).__name__} from {peer.hex()}")
            )
        else:
            handle(message, now)

    def worker_started(self, process: bytes, pid: int, now: float) -> None:
        """The worker's process is there."""
        worker = self._pool.workers[process]
        worker.pid = pid
        if worker.address is None:
            self._at(now + self._limits.start_timeout, self._start_overdue, process)

    def worker_said(
        self, process: bytes, message: list[Any], now: float, progress: list[Any]
    ) -> None:
        """Take a message of a worker; `progress` is its page as of now, for "exited"."""
        worker = self._pool.workers.get(process)
        if worker is None:
            return
        self.story.append((now, "worker", (process, message[0], *message[1:3])))
        handle = self._words.get(message[0])
        try:
            if handle is None:
                raise ValueError("not a word of the control lane")
            handle(worker, message[1:], progress, now)
        except (TypeError, ValueError, LookupError) as error:
            # User code runs in workers, so nothing a worker says may end its node.
            self._effects.append(Report(f"worker {worker.pid} said {message[0]!r}: {error!r}"))

    def worker_failed(self, process: bytes, error: list[Any], now: float) -> None:
        """The worker never came to be; `error` is `[kind, text, fields]`."""
        worker = self._pool.workers[process]
        self._pool.remove(worker)
        if worker.job and not worker.work:  # it was asked to end meanwhile
            self._report_death(worker, {"kind": "exit", "code": -1, "text": error[1]}, [])
        else:
            self._try_again(worker, error, now)
        self._maybe_end()

    def worker_died(
        self,
        process: bytes,
        kind: str,
        code: int,
        *,
        oom: bool,
        progress: list[Any],
        now: float,
        is_whole: bool = False,
    ) -> None:
        """The worker's pidfd says that it is dead; all it had said before was taken.

        `progress` is its page, with a row for each stream that anything had come on if `is_whole`.
        """
        worker = self._pool.workers[process]
        self.story.append((now, "died", (process, kind, code)))
        self._pool.remove(worker)
        cause = self._gone_with_node(worker) or cause_of_death(worker, kind, code, oom=oom)
        if is_whole:
            progress = [*progress, list(WHOLE)]
        if worker.address is None and not worker.killed and (worker.work or not worker.job):
            self._try_again(
                worker, ["spawn", f"the worker {cause['text']} while starting", {}], now
            )
        elif worker.job:
            self._report_death(worker, cause, progress)
        self._refill_soon(now)
        self._maybe_end()

    def lost(self, peer: bytes, now: float) -> None:
        """The link to the broker is gone. Workers go on: only deaths are deaths."""
        self.story.append((now, "lost", peer))

    def tick(self, now: float) -> None:
        """Do what is due."""
        while self._timers and self._timers[0][0] <= now:
            _, _, action, subject = heapq.heappop(self._timers)
            action(subject, now)

    def next_deadline(self) -> float | None:
        """Return when `tick` is due."""
        return self._timers[0][0] if self._timers else None

    def drain(self) -> list[Effect]:
        """Take what is to be done, in order."""
        effects, self._effects = self._effects, []
        return effects

    def describe_workers(self) -> list[dict[str, Any]]:
        """Return every worker that has work, for `NodeUp`."""
        return [worker.describe() for worker in self._pool.workers.values() if worker.job]

    def stats(self) -> NodeStats:
        """Count."""
        workers = self._pool.workers.values()
        uses = [worker.use for worker in workers]
        return NodeStats(
            workers=len(uses),
            starting=sum(worker.address is None for worker in workers),
            spare=uses.count(SPARE),
            leased=len(self._pool.by_lease),
            idle=uses.count(IDLE),
            hosting=uses.count(ACTOR) + uses.count(SHARED),
            actors=len(self._pool.by_actor),
            ending=uses.count(ENDING),
        )

    def check(self) -> None:
        """Assert every invariant."""
        self._pool.check()
        assert (self._refill_at is None) or self._timers
        if self._end_reason is not None:  # N5
            assert self._has_ended == (not self._pool.workers)
            assert all(worker.use == ENDING for worker in self._pool.workers.values())
        for worker in self._pool.workers.values():
            assert not worker.work or worker.address is None
            assert worker.exit_by or worker.use != ENDING or worker.killed  # N4

    # What the broker asks.

    def _start_actor(self, message: StartActor, now: float) -> None:
        key = (message.actor, message.life)
        known = self._pool.by_actor.get(key)
        if known is not None:
            if known.address is not None:
                self._tell(ActorUp(*key, known.address, known.pid))
            return
        if self._end_reason is not None:
            self._tell(ActorFailed(*key, ["spawn", "the node is stopping", {}]))
            return
        self._place_actor(message, now, attempt=1)

    def _place_actor(self, message: StartActor, now: float, *, attempt: int) -> None:
        spec = message.spec
        environment, job = spec.get("env") or {}, spec["job"]
        env, key = env_key(environment), (message.actor, message.life)
        home = None
        worker = None
        if spec.get("isolation") == "shared":
            home = (job, env, (spec.get("group") or {}).get("id"))
            worker = self._pool.shared(home)
        if worker is None:
            worker = self._fresh(env, environment, attempt)
        self._pool.give_actor(worker, key, job, home)
        self._relabel(worker, spec.get("class_name") or "Actor")
        self._assign(worker, message, ["actor", message.actor, message.life, spec], now)
        if worker.address is not None:
            self._tell(ActorUp(*key, worker.address, worker.pid))

    def _start_actors(self, message: StartActors, now: float) -> None:
        known = self._pool.by_actor
        rows = []
        for row in message.rows:
            worker = known.get((row[0], row[1]))
            if worker is None:
                rows.append(row)
            elif worker.address is not None:
                self._tell(ActorUp(row[0], row[1], worker.address, worker.pid))
        if not rows:
            return
        if self._end_reason is not None:
            self._fail_all(rows, ["spawn", "the node is stopping", {}])
            return
        self._place_actors(message._replace(rows=rows), now, attempt=1)

    def _place_actors(self, message: StartActors, now: float, *, attempt: int) -> None:
        common, rows = message
        environment, job = common.get("env") or {}, common["job"]
        env = env_key(environment)
        home = (job, env, (common.get("group") or {}).get("id"))
        worker = self._pool.shared(home) or self._fresh(env, environment, attempt)
        for row in rows:
            self._pool.give_actor(worker, (row[0], row[1]), job, home)
        self._relabel(worker, common.get("class_name") or "Actor")
        self._assign(worker, message, ["actors", common, rows], now)
        if worker.address is not None:
            lives = [[row[0], row[1]] for row in rows]
            self._tell(ActorsUp(lives, worker.address, worker.pid))

    def _fail_all(self, rows: list[Any], error: list[Any]) -> None:
        for row in rows:
            self._tell(ActorFailed(row[0], row[1], error))

    def _start_lease(self, message: StartLease, now: float) -> None:
        if message.lease in self._pool.by_lease:
            return
        if self._end_reason is not None:
            self._tell(LeaseFailed(message.lease, ["spawn", "the node is stopping", {}]))
            return
        self._place_lease(message, now, attempt=1)

    def _place_lease(self, message: StartLease, now: float, *, attempt: int) -> None:
        shape = message.shape
        environment = shape.get("env") or {}
        env = env_key(environment)
        # What has looked for GPUs once will not look again: a process sees one set of them.
        idle = None if shape.get("gpu_ids") else self._pool.take_idle(message.job, env)
        worker = idle or self._fresh(env, environment, attempt)
        self._pool.give_lease(worker, message.lease, message.job, shape)
        self._relabel(worker, shape.get("name") or "task")
        self._assign(worker, message, ["lease", message.lease, message.job, shape], now)
        if worker.address is not None:
            self._tell(WorkerLeased(message.lease, worker.address, worker.pid))

    def _fresh(self, env: str, environment: dict[str, Any], attempt: int) -> Worker:
        worker = self._pool.take_spare(env) if attempt == 1 else None
        if worker is None:
            worker = self._spawn(env, environment)
            self._pool.detach(worker)
        worker.attempt = attempt
        return worker

    def _spawn(self, env: str, environment: dict[str, Any]) -> Worker:
        worker = Worker(self._ids.new_id(), env, environment, 1)
        self._pool.add_spare(worker)
        self._effects.append(Spawn(worker.process, env, environment))
        return worker

    def _assign(self, worker: Worker, work: Any, message: list[Any], now: float) -> None:
        self._failed_spares = 0
        if worker.address is None:
            worker.work.append(work)  # to be done again if the worker does not come to be
        self._effects.append(ToWorker(worker.process, message))
        self._refill_soon(now)

    def _relabel(self, worker: Worker, label: str) -> None:
        if worker.use == SHARED and worker.label and worker.label != label:
            label = "shared"
        if worker.label != label:
            worker.label = label
            self._effects.append(SetLabel(worker.process, label, worker.job))

    def _end_lease(self, message: EndLease, now: float) -> None:
        known = self._pool.by_lease.get(message.lease)
        reusable = message.reusable and not (known and known.shape.get("gpu_ids"))
        worker = self._pool.take_lease(message.lease)
        if worker is None or worker.use == ENDING:
            return
        worker.work.clear()
        if not reusable:
            worker.is_used_up = True
            self._end_worker(worker, now, USED_UP)
            return
        self._effects.append(ToWorker(worker.process, ["unlease", message.lease]))
        self._pool.rest(worker, now)
        self._at(now + self._limits.idle_worker, self._idle_overdue, worker.process)
        for excess in self._pool.idle_beyond(self._limits.idle_workers):
            self._end_worker(excess, now)

    def _stop_actor(self, message: StopActor, now: float) -> None:
        key = (message.actor, message.life)
        worker = self._pool.by_actor.get(key)
        if worker is None:
            cause = {
                "kind": "killed",
                "code": 0,
                "text": "this life is not on its node any more",
            }
            self._tell(ActorExited(*key, cause, []))
        elif message.graceful and (worker.address is not None or worker.home is not None):
            self._effects.append(ToWorker(worker.process, ["stop", *key]))
        elif worker.home is not None:
            self._effects.append(ToWorker(worker.process, ["kill", *key]))
        elif message.graceful:  # nothing can have been sent to it yet
            self._kill(worker, "released before it was up", now)
        else:
            self._kill(worker, "killed by zactor.kill", now)

    def _bind_network(self, message: BindNetwork, now: float) -> None:
        worker = self._pool.by_actor.get((message.actor, message.life))
        if worker is not None:
            self._effects.append(ToWorker(worker.process, ["bind_tcp"]))

    def _job_ended(self, message: JobEnded, now: float) -> None:
        for worker in list(self._pool.workers.values()):
            if worker.job == message.job and (worker.use == IDLE or _is_empty(worker)):
                self._end_worker(worker, now)
        self._effects.append(DropJob(message.job))

    def _stop_node(self, message: StopNode, now: float) -> None:
        if self._end_reason is not None:
            return
        self._end_reason = message.reason
        for worker in list(self._pool.workers.values()):
            self._end_worker(worker, now)
        self._maybe_end()

    def kill_actors(self, text: str, now: float) -> None:
        """Kill every worker that hosts actors."""
        for worker in list(self._pool.workers.values()):
            if worker.actors:
                self._kill(worker, text, now)

    # What workers say.

    def _up(self, worker: Worker, fields: list[Any], progress: list[Any], now: float) -> None:
        (address,) = fields
        is_first, worker.address = worker.address is None, list(address)
        worker.work.clear()
        self._failed_spares = 0
        if len(worker.actors) > FEW:
            lives = [[actor, life] for actor, life in worker.actors]
            self._tell(ActorsUp(lives, worker.address, worker.pid))
        else:
            for actor, life in worker.actors:
                self._tell(ActorUp(actor, life, worker.address, worker.pid))
        if worker.lease and is_first:
            self._tell(WorkerLeased(worker.lease, worker.address, worker.pid))

    def _ready(
        self, worker: Worker, fields: list[Any], progress: list[Any], now: float
    ) -> None:
        actor, life, repr_name = fields
        if (actor, life) in worker.unready:
            del worker.unready[actor, life]
            worker.actors[actor, life] = repr_name
            self._tell(ActorReady(actor, life, repr_name))
            if repr_name and worker.use == ACTOR and " object at 0x" not in repr_name:
                self._relabel(worker, repr_name)

    def _readies(
        self, worker: Worker, fields: list[Any], progress: list[Any], now: float
    ) -> None:
        (rows,) = fields
        ready = []
        for actor, life, repr_name in rows:
            if worker.unready.pop((actor, life), 0) is None:
                worker.actors[actor, life] = repr_name
                ready.append([actor, life, repr_name])
        if ready:
            self._tell(ActorsReady(ready))

    def _failed(
        self, worker: Worker, fields: list[Any], progress: list[Any], now: float
    ) -> None:
        actor, life, error = fields
        if (actor, life) in worker.actors:
            self._pool.take_actor((actor, life))
            self._tell(ActorFailed(actor, life, error))
            self._without_actor(worker, now)

    def _exited(
        self, worker: Worker, fields: list[Any], progress: list[Any], now: float
    ) -> None:
        actor, life, cause, *rows = fields
        if rows:  # a worker that hosts others too, and lives, says itself what had run
            progress = rows[0]
        if (actor, life) in worker.actors:
            if cause.get("kind") == "stopped":
                cause = self._gone_with_node(worker) or cause
            self._pool.take_actor((actor, life))
            self._tell(ActorExited(actor, life, cause, progress))
            self._without_actor(worker, now)

    def _stopping(
        self, worker: Worker, fields: list[Any], progress: list[Any], now: float
    ) -> None:
        actor, life = fields
        if worker.home is None:  # a shared one that hangs must not take its neighbours with it
            self._at(now + self._limits.shutdown_hook, self._hook_overdue, (actor, life))

    def _keep(self, worker: Worker, fields: list[Any], progress: list[Any], now: float) -> None:
        if (
            worker.use == ENDING
            and not worker.actors
            and not worker.killed
            and self._end_reason is None
        ):
            if worker.is_used_up:
                # It gets no further task, and goes when nobody needs what it owns.
                worker.is_kept = True
                worker.exit_by = now + ASK_AGAIN
                self._at(worker.exit_by, self._exit_overdue, worker.process)
                return
            worker.exit_by = 0.0
            self._pool.rest(worker, now)
            self._at(now + self._limits.idle_worker, self._idle_overdue, worker.process)

    def _label(
        self, worker: Worker, fields: list[Any], progress: list[Any], now: float
    ) -> None:
        (text,) = fields
        self._relabel(worker, str(text)[:200])

    # How workers end.

    def _without_actor(self, worker: Worker, now: float) -> None:
        if worker.use == SHARED:
            if not worker.actors:
                worker.idle_since = now
                self._at(now + self._limits.idle_worker, self._idle_overdue, worker.process)
        elif worker.use != ENDING:
            self._end_worker(worker, now)

    def _end_worker(self, worker: Worker, now: float, why: str = "") -> None:
        """Ask a worker to exit, and see to it that it does."""
        if worker.use == ENDING:
            return
        self._pool.detach(worker)
        worker.use = ENDING
        worker.work.clear()
        self._ask_to_exit(worker, now, why)

    def _ask_to_exit(self, worker: Worker, now: float, why: str) -> None:
        worker.exit_by = now + self._limits.exit_grace
        self._effects.append(ToWorker(worker.process, ["exit", why]))
        self._at(worker.exit_by, self._exit_overdue, worker.process)

    def _kill(self, worker: Worker, text: str, now: float) -> None:
        worker.killed = worker.killed or text
        if worker.use != ENDING:
            self._pool.detach(worker)
            worker.use, worker.exit_by = ENDING, now
        worker.work.clear()
        self._effects.append(Kill(worker.process, SIGKILL))

    def _gone_with_node(self, worker: Worker) -> dict[str, Any] | None:
        """Say that the worker ended because its node stops, if so (N6)."""
        if self._end_reason is None or worker.killed not in ("", NO_EXIT):
            return None
        return {"kind": "node", "code": 0, "text": f"its node has stopped: {self._end_reason}"}

    def _report_death(self, worker: Worker, cause: dict[str, Any], progress: list[Any]) -> None:
        actors = [[actor, life] for actor, life in worker.actors]
        self._tell(WorkerDied(worker.process, actors, worker.lease, cause, progress))

    def _try_again(self, worker: Worker, error: list[Any], now: float) -> None:
        """Do the work of a worker that did not come to be with another one, or report it."""
        is_final = error[0] == "environment" or worker.attempt >= ATTEMPTS
        if self._end_reason is not None:
            is_final, error = True, ["spawn", "the node is stopping", {}]
        for work in worker.work:
            if isinstance(work, StartActors):
                if is_final:
                    self._fail_all(work.rows, error)
                else:
                    self._place_actors(work, now, attempt=worker.attempt + 1)
            elif not is_final and isinstance(work, StartActor):
                self._place_actor(work, now, attempt=worker.attempt + 1)
            elif not is_final:
                self._place_lease(work, now, attempt=worker.attempt + 1)
            elif isinstance(work, StartActor):
                self._tell(ActorFailed(work.actor, work.life, error))
            else:
                self._tell(LeaseFailed(work.lease, error))
        if not worker.work:
            self._failed_spares += 1
            self._effects.append(Report(f"a spare worker did not start: {error[1]}"))

    def _maybe_end(self) -> None:
        if self._end_reason is not None and not self._pool.workers and not self._has_ended:
            self._has_ended = True
            self._effects.append(End(self._end_reason))

    # Deadlines. Each looks whether it still applies.

    def _at(self, when: float, action: Callable[[Any, float], None], subject: Any) -> None:
        heapq.heappush(self._timers, (when, next(self._order), action, subject))

    def _start_overdue(self, process: bytes, now: float) -> None:
        worker = self._pool.workers.get(process)
        if worker is not None and worker.address is None:
            self._effects.append(Kill(process, SIGKILL))

    def _exit_overdue(self, process: bytes, now: float) -> None:
        worker = self._pool.workers.get(process)
        if worker is None or not 0 < worker.exit_by <= now:
            return
        if worker.is_kept and self._end_reason is None:
            worker.is_kept = False
            self._ask_to_exit(worker, now, USED_UP)
        else:
            self._kill(worker, NO_EXIT, now)

    def _hook_overdue(self, key: ActorLife, now: float) -> None:
        worker = self._pool.by_actor.get(key)
        if worker is not None:
            limit = self._limits.shutdown_hook
            self._kill(worker, f"its shutdown hook ran for more than {limit:g} s", now)

    def _idle_overdue(self, process: bytes, now: float) -> None:
        worker = self._pool.workers.get(process)
        if worker is None or not (worker.use == IDLE or _is_empty(worker)):
            return
        if now - worker.idle_since >= self._limits.idle_worker:
            self._end_worker(worker, now, IDLE_EXIT)

    def _refill_soon(self, now: float) -> None:
        timer_is_set = self._refill_at is not None
        self._refill_at = now + REFILL_PAUSE
        if not timer_is_set:
            self._at(self._refill_at, self._refill_due, None)

    def _refill_due(self, subject: None, now: float) -> None:
        assert self._refill_at is not None
        if now < self._refill_at:  # there was another start meanwhile
            self._at(self._refill_at, self._refill_due, None)
            return
        self._refill_at = None
        self._refill(now)

    def _refill(self, now: float) -> None:
        # What cannot start is not tried for ever: the next real start tries again.
        if self._end_reason is None and self._failed_spares < FAILED_SPARES:
            for _ in range(self._limits.spare_workers - self._pool.spare_count("")):
                self._spawn("", {})

    def _tell(self, message: Any) -> None:
        self._effects.append(ToBroker(message))


def _is_empty(worker: Worker) -> bool:
    return worker.use == SHARED and not worker.actors
