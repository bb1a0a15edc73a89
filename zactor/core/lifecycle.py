"""The lives of actors: placed, started, up, over, started again or dead.

    PENDING --placed--> STARTING --ready--> ALIVE
       ^                   |                  |
       |  no worker there  |   the life ends  |
       |  or it crashed    |                  |
       +-------------------+------------------+--> RESTARTING --placed, ready--> ALIVE
                                              |
                                              +--> DEAD (for ever)

What ends a life, and whether another follows, is the table in `core.restarts`. An actor that is
to end for good is first `ending`: its name is free, its node is told, and it is DEAD when the
node has confirmed it, so that callers learn with the same message which calls had run.

Does not choose nodes (`core.placement`) and keeps no index (`core.directory`).

Invariants
    A1  An actor has a node exactly while a life of it runs or is being started there.
    A2  What its life holds is taken from one pool when it is placed and given back when it ends.
    A3  A message of a node about a life that is over changes nothing.
    A4  An actor that is ending never gets another life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.actor_queue import ActorQueue
from zactor.core.directory import ALIVE, DEAD, NOWHERE, PENDING, RESTARTING, STARTING, Actor
from zactor.core.events import ERROR, INFO, ORDINARY, WARNING
from zactor.core.placement import shape_of_actor
from zactor.core.resources import GPU, NOTHING, show_amounts
from zactor.core.restarts import CRASHES, NO_FAULT_KINDS, CrashRecord, is_restarted, spawn_pause
from zactor.ids import row_tag
from zactor.wire.messages import Address, BindNetwork, StartActor, StartActors, StopActor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zactor.core.broker_config import BrokerConfig
    from zactor.core.deadlines import Deadlines
    from zactor.core.directory import Directory
    from zactor.core.groups import Groups
    from zactor.core.journal import Journal
    from zactor.core.membership import Membership, Node
    from zactor.core.placement import Obstacle, Shape, Spot
    from zactor.core.processes import Processes
    from zactor.core.resources import Pool
    from zactor.core.waiting import Waiting

Cause = dict[str, Any]


START_MANY = 1_000  # actors in one message to a node


class Lifecycle:
    """Drives every actor through its lives."""

    def __init__(
        self,
        journal: Journal,
        deadlines: Deadlines,
        config: BrokerConfig,
        directory: Directory,
        membership: Membership,
        waiting: Waiting,
        groups: Groups,
        processes: Processes,
        home_of: Callable[[bytes], bytes],
    ) -> None:
        self._journal = journal
        self._deadlines = deadlines
        self._config = config
        self._directory = directory
        self._membership = membership
        self._waiting = waiting
        self._groups = groups
        self._processes = processes
        self._queue = ActorQueue(self, waiting, home_of)
        self.on_buried: Callable[[Actor], None] = lambda actor: None
        self._starts: dict[tuple[Any, ...], StartActors] = {}  # gathered in this step

    # -- towards a life

    def create(
        self, spec: Mapping[str, Any], namespace: str, now: float, *, shape: Shape | None = None,
        common: dict[str, Any] | None = None,
    ) -> Actor:  # fmt: skip
        """Enter a new actor and have it wait for its place.

        Of those that are created together, `shape` and `common` are the same objects.

        Raises:
            ValueError: What it asks for makes no sense.
        """
        actor = Actor(spec, namespace, shape or shape_of_actor(spec))
        actor.common = common
        self._directory.enter(actor)
        self._queue.enter(actor, now)
        return actor

    def start(self, actor: Actor, spot: Spot, now: float) -> None:
        """Start a life at `spot`."""
        assert actor.shape is not None
        assert actor.ending is None, "A4"
        was_shown = actor.state == PENDING and actor.revision > 0
        node = spot.node
        actor.holding = spot.pool.take(actor.shape.need)
        actor.pool, actor.bundle, actor.node = spot.pool, spot.bundle, node.id
        actor.life += 1
        actor.epoch += 1
        actor.pending_reason = ""
        self._occupy(actor, node)
        if actor.state == PENDING:
            self._directory.set_state(actor, STARTING)
        if actor.common is not None and not actor.network and not actor.holding.gpu_ids:
            self._start_with_others(actor, node)
            return
        spec = {
            **actor.spec,
            "namespace": actor.namespace,
            "epoch": actor.epoch,
            "restarts": actor.restarts,
            "gpu_ids": actor.holding.gpu_ids,
            "assigned": show_amounts(actor.holding.amounts),
            "network": actor.network,
        }
        self._journal.send(node.address.process, StartActor(actor.id, actor.life, spec))
        if was_shown:
            self._directory.changed(actor)
        else:
            self._directory.save(actor)

    def _start_with_others(self, actor: Actor, node: Node) -> None:
        """Start it with those that were created together with it."""
        key = (node.address.process, id(actor.common))
        batch = self._starts.get(key)
        if batch is None:
            assert actor.common is not None
            common = {
                **actor.common,
                "namespace": actor.namespace,
                "gpu_ids": [],
                "assigned": show_amounts(actor.holding.amounts),
                "network": False,
            }
            batch = self._starts[key] = StartActors(common, [])
        row = [actor.id, actor.life, actor.epoch, actor.restarts, actor.spec.get("args")]
        batch.rows.append(row)
        self._directory.moved(actor)
        if len(batch.rows) >= START_MANY:
            self.send_starts()

    def send_starts(self) -> None:
        """Send the starts that were gathered; before anything is said of their actors."""
        starts, self._starts = self._starts, {}
        for (process, _), batch in starts.items():
            self._journal.send(process, batch)

    def _occupy(self, actor: Actor, node: Node) -> None:
        node.actors[actor.id] = None
        if not actor.holding.amounts:
            node.crowd += 1
        group = self._groups.find(actor.shape.group) if actor.shape else None
        if group is not None:
            group.actors[actor.id] = None

    def up(self, node: Node, actor_id: bytes, life: int, address: Address, pid: int) -> None:
        """The life's worker takes calls."""
        self._processes.enter(address.process, "worker", node.id, pid)
        actor = self._present(node, actor_id, life)
        if actor is None:
            self._disown(node, actor_id, life)
            return
        actor.attempts, actor.avoid = 0, NOWHERE
        actor.pid = pid
        self._directory.set_address(actor, address)
        self._directory.moved(actor)
        if actor.network and not address.tcp:
            self._journal.send(node.address.process, BindNetwork(actor_id, life))

    def ready(self, node: Node, actor_id: bytes, life: int, repr_name: str) -> None:
        """The constructor of this life has returned."""
        actor = self._present(node, actor_id, life)
        if actor is not None and actor.state != ALIVE:
            self._directory.set_state(actor, ALIVE)
            actor.repr_name = repr_name
            self._directory.moved(actor)

    def want_network(self, actor: Actor) -> None:
        """Somebody on another machine wants to call it: its worker is to bind tcp."""
        if actor.network:
            return
        actor.network = True
        node = self._membership.nodes.get(actor.node)
        if node is not None and actor.address is not None and not actor.address.tcp:
            self._journal.send(node.address.process, BindNetwork(actor.id, actor.life))

    def _present(self, node: Node, actor_id: bytes, life: int) -> Actor | None:
        """Return the actor if `life` is its present one and runs on `node` (A3)."""
        actor = self._directory.actors.get(actor_id)
        if actor is None or actor.life != life or actor.node != node.id:
            return None
        return actor

    def _disown(self, node: Node, actor_id: bytes, life: int) -> None:
        """Have a node end a life that is over for everybody else."""
        self.send_starts()
        self._journal.send(node.address.process, StopActor(actor_id, life, False))

    # -- the end of a life

    def failed(
        self, node: Node, actor_id: bytes, life: int, error: list[Any], now: float
    ) -> None:
        """The life never came to be."""
        actor = self._present(node, actor_id, life)
        if actor is None:
            return
        kind = error[0] if error and isinstance(error[0], str) else "spawn"
        text = str(error[1]) if len(error) > 1 else ""
        cause: Cause = {"kind": kind, "text": text, "error": error}
        if kind in {"constructor", "environment"}:
            self.life_over(actor, cause, [], now)
        else:
            self._not_spawned(actor, {**cause, "kind": "spawn"}, now)

    def _not_spawned(self, actor: Actor, cause: Cause, now: float) -> None:
        """No worker could be started on its node: elsewhere, then; not counted as a restart."""
        node_id = actor.node
        self._vacate(actor)
        actor.attempts += 1
        if actor.ending is not None or actor.attempts >= self._config.spawn_attempts:
            self._bury(actor, actor.ending or cause, [])
            return
        if actor.state == STARTING:
            self._directory.set_state(actor, PENDING)
        actor.avoid |= {node_id}
        self._directory.save(actor)
        self._later(actor, spawn_pause(actor.attempts, self._config), now)

    def exited(
        self, node: Node, actor_id: bytes, life: int, cause: Cause, progress: list[Any],
        now: float,
    ) -> None:  # fmt: skip
        """The actor ended of itself, or with its node; or it was killed, and its worker, which others
        share, was not."""
        actor = self._present(node, actor_id, life)
        if actor is not None:
            kind = cause.get("kind") if cause.get("kind") in NO_FAULT_KINDS else "exited"
            self.life_over(actor, {"text": "", **cause, "kind": kind}, progress, now)

    def life_over(self, actor: Actor, cause: Cause, progress: list[Any], now: float) -> None:
        """The present life of `actor` has ended by `cause`: decide what follows."""
        life = actor.life
        self._vacate(actor)
        for child in self._directory.children_of(actor.id, life):
            if not child.is_detached:
                text = f"{actor.label}, which created it, is gone"
                self.end(child, {"kind": "owner", "text": text, "owner": actor.id}, now)
        if actor.ending is not None:
            merged = {**cause, **actor.ending}
            self._bury(actor, merged, progress)
        elif is_restarted(
            cause, max_restarts=actor.spec.get("max_restarts") or 0, restarts=actor.restarts
        ):
            actor.restarts += 1
            actor.cause = cause
            pause = 0.0
            if cause.get("kind") not in NO_FAULT_KINDS:
                if actor.crashes is None:
                    actor.crashes = CrashRecord()
                pause = actor.crashes.crashed(now, self._config)
            text = (
                f"{actor.label} is started again (restart {actor.restarts}): it {cause['text']}"
            )
            self._note(WARNING, "ACTOR_RESTARTED", text, actor)
            # One whose constructor never returned still waits for its first life, as its calls do.
            is_first = actor.state == STARTING
            self._directory.set_state(actor, PENDING if is_first else RESTARTING)
            self._directory.changed(actor, progress)
            self._later(actor, pause, now)
        else:
            self._bury(actor, cause, progress)

    def _later(self, actor: Actor, pause: float, now: float) -> None:
        if pause:
            self._deadlines.set(("restart", actor.id), now + pause)
        else:
            self._queue.enter(actor, now)

    def restart_due(self, actor_id: bytes, now: float) -> None:
        """The pause before a restart is over."""
        self._queue.enter(self._directory.actors[actor_id], now)

    def _vacate(self, actor: Actor) -> None:
        """Give back what the life held and forget where it was (A2)."""
        node = self._membership.nodes.get(actor.node)
        if actor.pool is not None:
            self._take_back(actor)
            actor.pool.give(actor.holding)
        if node is not None:
            node.actors.pop(actor.id, None)
            if not actor.holding.amounts:
                node.crowd -= 1
            if actor.holding.amounts:
                self._waiting.freed(node)
        group = self._groups.find(actor.shape.group) if actor.shape else None
        if group is not None:
            group.actors.pop(actor.id, None)
        if actor.address is not None:
            actor.last = (actor.node, actor.address.process, actor.pid)
        actor.holding, actor.pool = NOTHING, None
        actor.node, actor.bundle, actor.pid = b"", -1, 0
        self._directory.set_address(actor, None)
        self._deadlines.cancel(("stop", actor.id))

    def _bury(self, actor: Actor, cause: Cause, progress: list[Any]) -> None:
        self._deadlines.cancel(("restart", actor.id))
        self._queue.leave(actor)
        actor.cause, actor.pending_reason = cause, ""
        if cause.get("kind") not in ORDINARY:
            severity = INFO if cause.get("kind") == "killed" else ERROR
            self._note(severity, "ACTOR_DIED", _end_of(actor, cause), actor)
        self._directory.buried(actor, progress)
        self.on_buried(actor)

    def _note(self, severity: str, kind: str, text: str, actor: Actor) -> None:
        self._journal.events.add(
            severity, kind, text, actor=actor.id, node=actor.node, job=actor.job
        )

    # -- from outside

    def end(self, actor: Actor, cause: Cause, now: float, *, graceful: bool = False) -> None:
        """End the actor for good: by its node if it has a life, else at once."""
        if actor.state == DEAD:
            return
        self._directory.free_name(actor)
        is_news = actor.ending is None
        if not is_news and not graceful and ("stop", actor.id) not in self._deadlines:
            is_news = True  # it was to end gracefully; now it is to be killed
        if is_news:
            actor.ending = cause
        node = self._membership.nodes.get(actor.node)
        if node is None:
            self._bury(actor, cause, [])
        elif is_news:
            self.send_starts()
            stop = StopActor(actor.id, actor.life, graceful)
            self._journal.send(node.address.process, stop)
            if not graceful:
                self._deadlines.set(("stop", actor.id), now + self._config.stop_grace)
            self._directory.changed(actor)

    def crash(self, actor: Actor) -> None:
        """End the present life, if there is one; the restart policy decides what follows."""
        node = self._membership.nodes.get(actor.node)
        if node is not None:
            self._disown(node, actor.id, actor.life)

    def stop_overdue(self, actor_id: bytes, now: float) -> None:
        """A node was told to kill and has said nothing: go by what it was told."""
        actor = self._directory.actors[actor_id]
        self._journal.report("warning", f"{actor.label} did not end; given up on")
        self.life_over(actor, actor.ending or {"kind": "killed", "text": ""}, [], now)

    def worker_died(
        self, process: bytes, hosted: list[Any], cause: Cause, progress: list[Any], now: float
    ) -> None:
        """End the lives that a dead worker hosted: those its node names, and those known here."""
        lives = {bytes(actor_id): int(life) for actor_id, life, *_ in hosted}
        for actor_id in self._directory.by_process.get(process, {}):
            lives.setdefault(actor_id, self._directory.actors[actor_id].life)
        rows = rows_by_tag(progress)
        for actor_id, life in lives.items():
            actor = self._directory.actors.get(actor_id)
            if actor is not None and actor.has_life and actor.life == life:
                own = rows.get(row_tag(actor_id)) or []
                if len(lives) == 1:
                    own = own + rows.get(0, [])
                self.life_over(actor, cause, own, now)

    def node_lost(self, node: Node, cause: Cause, now: float) -> None:
        """End all lives on the node, which is still among the members."""
        for actor_id in list(node.actors):
            actor = self._directory.actors[actor_id]
            if actor.node == node.id:
                self.life_over(actor, cause, [], now)

    def owner_died(self, owner: bytes, cause: Cause, now: float) -> None:
        """End what the process `owner` has created."""
        for actor_id in list(self._directory.by_owner.get(owner, {})):
            actor = self._directory.actors[actor_id]
            if not actor.is_detached:
                self.end(actor, cause, now)

    def job_ended(self, job: bytes, now: float) -> None:
        """End the job's actors, except detached ones."""
        for actor_id in list(self._directory.by_job.get(job, {})):
            actor = self._directory.actors[actor_id]
            if not actor.is_detached:
                self.end(actor, {"kind": "job", "text": "its job has ended"}, now)

    def blocked(self, process: bytes, *, is_blocked: bool, is_all: bool = False) -> None:
        """A worker waits, or goes on: its actor lends its CPUs (or all but GPUs), or takes them back."""
        hosted = self._directory.by_process.get(process, {})
        if len(hosted) != 1:
            return  # of a shared worker nobody can say which actor waits
        actor = self._directory.actors[next(iter(hosted))]
        node = self._membership.nodes.get(actor.node)
        if actor.pool is None or node is None:
            return
        self._take_back(actor)
        if is_blocked:
            for name, units in actor.holding.amounts.items():
                if name == "CPU" or (is_all and name != GPU):
                    actor.lent[name] = units
                    actor.pool.lend(name, units)
            self._waiting.freed(node)

    @staticmethod
    def _take_back(actor: Actor) -> None:
        if actor.pool is not None:
            for name, units in actor.lent.items():
                actor.pool.force(name, units)
        actor.lent = {}

    def warned(self, actor: Actor, obstacle: Obstacle) -> None:
        """Let its watchers know why it is not placed yet."""
        if actor.pending_reason != obstacle.text:
            actor.pending_reason = obstacle.text
            self._directory.changed(actor)
            self._journal.report("warning", f"{actor.label} waits: {obstacle.text}")

    def refused(self, actor: Actor, obstacle: Obstacle) -> None:
        """It can never be placed."""
        kind = "group" if obstacle.kind == "PlacementGroupRemoved" else "unschedulable"
        error = ["Actor" + obstacle.kind, obstacle.text, {"actor_id": actor.id.hex()}]
        self._bury(actor, {"kind": kind, "text": obstacle.text, "error": error}, [])

    # -- after a broker restart, or when a node re-attaches

    def load(self, now: float) -> None:
        """Enter the actors that a broker before this one knew; nodes and groups are loaded."""
        loaded = []
        specs = {key[5:]: item.value for key, item in self._journal.state.range(b"spec/")}
        for key, item in self._journal.state.range(b"actor/"):
            namespace, spec = specs.pop(key[6:])
            is_dead = item.value[0] == DEAD
            actor = Actor(spec, namespace, None if is_dead else shape_of_actor(spec))
            actor.restore(item.value, item.revision)
            loaded.append(actor)
        for actor in sorted(loaded, key=lambda actor: actor.revision):
            self._directory.enter(actor)
        for actor in loaded:
            if actor.state != DEAD:
                self._resume(actor, now)

    def _resume(self, actor: Actor, now: float) -> None:
        node = self._membership.nodes.get(actor.node)
        if node is not None and actor.shape is not None:
            pool: Pool | None = node.pool
            if actor.shape.group:
                group = self._groups.find(actor.shape.group)
                bundles = group.select(actor.bundle) if group and actor.bundle >= 0 else []
                pool = bundles[0].pool if bundles else None
            actor.pool = pool
            if pool is not None:
                pool.take_again(actor.holding)
            self._occupy(actor, node)
        elif actor.has_life:
            self.life_over(actor, {"kind": "node", "text": "its node is gone"}, [], now)
        elif actor.ending is not None:
            self._bury(actor, actor.ending, [])
        else:
            self._queue.enter(actor, now)

    def reattached(self, node: Node, rows: list[dict[str, Any]], now: float) -> None:
        """Compare what a node says it runs with what the directory says it should."""
        seen: dict[bytes, None] = {}
        for row in rows:
            for actor_id, life, is_ready, repr_name in row.get("actors") or []:
                actor = self._present(node, actor_id, life)
                if actor is None:
                    self._disown(node, actor_id, life)
                    continue
                seen[actor_id] = None
                self._seen(node, actor, row, is_ready=is_ready, repr_name=repr_name, now=now)
        for actor_id in list(node.actors):
            actor = self._directory.actors[actor_id]
            if actor_id in seen or actor.node != node.id:
                continue
            if actor.address is None:
                self._not_spawned(actor, {"kind": "spawn", "text": "its start was lost"}, now)
            else:
                text = "it had ended when its node re-attached"
                self.life_over(actor, {"kind": "node", "text": text}, [], now)

    def _seen(
        self, node: Node, actor: Actor, row: dict[str, Any], *, is_ready: bool, repr_name: str,
        now: float,
    ) -> None:  # fmt: skip
        if row.get("process"):
            address = Address(*row["address"])
            if actor.address != address:
                self.up(node, actor.id, actor.life, address, row.get("pid", 0))
            self._processes.enter(address.process, "worker", node.id, row.get("pid", 0))
            if is_ready:
                self.ready(node, actor.id, actor.life, repr_name)
        if actor.ending is not None:
            ending, actor.ending = actor.ending, None
            self.end(actor, ending, now, graceful=ending.get("kind") == "released")

    def check(self) -> None:
        """Assert A1, A2 and A4."""
        self._queue.check()
        for actor in self._directory.actors.values():
            if actor.state in {STARTING, ALIVE}:
                assert actor.node, "A1"
            if actor.state in {PENDING, DEAD}:
                assert not actor.node, "A1"
            if actor.node:
                node = self._membership.nodes[actor.node]
                assert actor.id in node.actors, "A1"
            else:
                assert not actor.holding.amounts, "A2"
                assert actor.ending is None or actor.state == DEAD, "A4"
        for node in self._membership.nodes.values():
            for actor_id in node.actors:
                assert self._directory.actors[actor_id].node == node.id, "A1"


def rows_by_tag(progress: list[Any]) -> dict[int, list[Any]]:
    """Sort a dead worker's rows by the actor they are of (0: its only one)."""
    found: dict[int, list[Any]] = {}
    for caller, stream, started, finished in progress:
        row = [caller, stream & 0xFFFF, started, finished]
        found.setdefault(stream & ~0xFFFF, []).append(row)
    return found


def _end_of(actor: Actor, cause: Cause) -> str:
    text = str(cause.get("text") or cause.get("kind"))
    if cause.get("kind") == "constructor":
        text = f"its constructor raised: {text}"
    elif cause.get("kind") in CRASHES:
        text = f"it {text}"
    return f"{actor.label} is dead: {text}"
