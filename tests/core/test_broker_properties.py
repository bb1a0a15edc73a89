"""Random worlds: whatever is sent, killed and lost in whatever order, every invariant holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.core.broker_world import Client, FakeNode, Worker, World
from zactor.core.directory import DEAD
from zactor.wire import messages as m

AMOUNTS = st.sampled_from(
    [{}, {"CPU": 1}, {"CPU": 0.5}, {"CPU": 2}, {"GPU": 1}, {"GPU": 0.5}, {"CPU": 99}]
)
PICK = st.integers(0, 10_000)


class BrokerWorld(RuleBasedStateMachine):
    """Nodes, drivers and workers at random; `World` runs `check()` after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(max_dead_actors=5, max_dead_groups=2, max_dead_processes=20)
        self.count = 0
        self.actors: list[bytes] = []
        self.groups: list[bytes] = []
        self.add_node()
        self.add_driver()

    # -- who is there

    @property
    def nodes(self) -> list[FakeNode]:
        return [node for node in self.world.nodes.values() if not node.stopped]

    @property
    def drivers(self) -> list[Client]:
        clients = list(self.world.clients.values())
        for client in clients:
            if any(isinstance(message, m.SessionLost) for message in client.inbox):
                del self.world.clients[client.process]
        return [c for c in self.world.clients.values() if c.job and c.node == b""]

    @property
    def workers(self) -> list[Worker]:
        return [worker for node in self.nodes for worker in node.workers.values()]

    def asker(self, pick: int) -> Client | None:
        """A driver, or a client in a worker."""
        found: list[Client] = list(self.drivers)
        if self.drivers:
            found += [self.world.in_worker(w, self.drivers[0].job) for w in self.workers[:3]]
        return found[pick % len(found)] if found else None

    @rule(
        cpus=st.integers(0, 4), gpus=st.integers(0, 2), machine=st.sampled_from([b"m1", b"m2"])
    )
    def add_node(self, cpus: int = 2, gpus: int = 1, machine: bytes = b"m1") -> None:
        if len(self.nodes) < 4:
            self.count += 1
            self.world.node(self.count, machine, CPU=cpus, GPU=gpus)

    @rule()
    def add_driver(self) -> None:
        if len(self.drivers) < 3:
            self.world.driver(pid=self.count)

    # -- what they ask

    @rule(
        pick=PICK, running=AMOUNTS, restarts=st.sampled_from([0, 1, -1]), name=st.sampled_from(["", "", "a", "b"]),
        detached=st.booleans(), strategy=st.sampled_from([None, "SPREAD", "node"]), group=st.booleans(),
    )  # fmt: skip
    def create(
        self,
        pick: int,
        running: Any,
        restarts: int,
        name: str,
        detached: bool,
        strategy: Any,
        group: bool,
    ) -> None:
        client = self.asker(pick)
        if client is None:
            return
        if strategy == "node":
            node = list(self.world.nodes.values())[pick % len(self.world.nodes)]
            strategy = {"kind": "node", "node": node.id, "soft": pick % 2 == 0}
        spec = client.spec(
            running=running, max_restarts=restarts, name=name, strategy=strategy, namespace="n",
            lifetime="detached" if detached else "", get_if_exists=pick % 3 == 0,
            group={"id": self.groups[pick % len(self.groups)], "bundle": pick % 3 - 1}
            if group and self.groups
            else None,
        )  # fmt: skip
        self.actors.append(spec["id"])
        client.ask(m.CreateActor, spec)

    @rule(
        pick=PICK,
        count=st.integers(0, 4),
        resources=AMOUNTS,
        key=st.sampled_from([b"x", b"y"]),
        group=st.booleans(),
    )
    def demand(self, pick: int, count: int, resources: Any, key: bytes, group: bool) -> None:
        client = self.asker(pick)
        if client is not None:
            placed = (
                {"id": self.groups[pick % len(self.groups)], "bundle": -1}
                if group and self.groups
                else None
            )
            client.demand(count, key, resources=resources, group=placed)

    @rule(pick=PICK)
    def give_back(self, pick: int) -> None:
        client = self.asker(pick)
        granted = (
            [g for g in client.inbox if isinstance(g, (m.LeaseGranted, m.LeaseRecalled))]
            if client
            else []
        )
        if client is not None and granted:
            lease = granted[pick % len(granted)]
            client.inbox.remove(lease)
            client.say(m.ReturnLease(lease.lease, pick % 3 > 0))

    @rule(pick=PICK, is_blocked=st.booleans())
    def block(self, pick: int, is_blocked: bool) -> None:
        if self.workers and self.drivers:
            worker = self.workers[pick % len(self.workers)]
            self.world.in_worker(worker, self.drivers[0].job).say(m.Blocked(is_blocked))

    @rule(
        pick=PICK, bundles=st.lists(AMOUNTS.filter(bool), min_size=1, max_size=3),
        strategy=st.sampled_from(["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]), detached=st.booleans(),
    )  # fmt: skip
    def create_group(self, pick: int, bundles: Any, strategy: str, detached: bool) -> None:
        client = self.asker(pick)
        if client is not None:
            group = self.world.ids.new_id()
            self.groups.append(group)
            spec = {"id": group, "job": client.job, "owner": client.process, "bundles": bundles,
                    "strategy": strategy, "lifetime": "detached" if detached else ""}  # fmt: skip
            client.ask(m.CreateGroup, spec)

    @precondition(lambda self: self.groups)
    @rule(pick=PICK)
    def remove_group(self, pick: int) -> None:
        client = self.asker(pick)
        if client is not None:
            client.ask(m.RemoveGroup, self.groups[pick % len(self.groups)])

    @precondition(lambda self: self.actors)
    @rule(
        pick=PICK,
        how=st.sampled_from(["kill", "crash", "release", "watch", "unwatch", "process"]),
    )
    def to_actor(self, pick: int, how: str) -> None:
        client, actor = self.asker(pick), self.actors[pick % len(self.actors)]
        if client is None:
            return
        if how in {"kill", "crash"}:
            client.ask(m.KillActor, actor, how == "kill")
        elif how == "release":
            client.say(m.ReleaseActor(actor))
        elif how == "watch":
            client.say(m.WatchActor(self.world.number(), actor, pick % 2 == 0))
        elif how == "unwatch":
            client.say(m.UnwatchActor(actor))
        elif self.workers:
            client.say(
                m.WatchProcess(
                    self.world.number(), self.workers[pick % len(self.workers)].process
                )
            )

    # -- what nodes do

    @rule(pick=PICK, count=st.integers(1, 5))
    def work(self, pick: int, count: int) -> None:
        if self.nodes:
            self.nodes[pick % len(self.nodes)].work(count)

    @rule(pick=PICK, kind=st.sampled_from(["spawn", "constructor", "environment"]))
    def fail_to_start(self, pick: int, kind: str) -> None:
        busy = [node for node in self.nodes if node.todo]
        if busy:
            node = busy[pick % len(busy)]
            task = node.todo.popleft()
            if isinstance(task, m.StartActor):
                node.say(m.ActorFailed(task.actor, task.life, [kind, "no", {}]))
            elif isinstance(task, m.StartLease):
                node.say(m.LeaseFailed(task.lease, [kind, "no", {}]))
            else:
                node.todo.appendleft(task)

    @rule(pick=PICK, told_twice=st.booleans())
    def worker_dies(self, pick: int, told_twice: bool) -> None:
        if self.workers:
            worker = self.workers[pick % len(self.workers)]
            worker.node.kill(worker, progress=[[b"c" * 16, 0, 1, 1]])
            if told_twice:
                worker.node.say(
                    m.WorkerDied(worker.process, [], worker.lease, {"kind": "exit"}, [])
                )

    @rule(pick=PICK)
    def actor_exits(self, pick: int) -> None:
        hosting = [worker for worker in self.workers if worker.actors]
        if hosting:
            worker = hosting[pick % len(hosting)]
            actor, life = next(iter(worker.actors.items()))
            worker.node.say(m.ActorExited(actor, life, {"kind": "exited"}, []))
            worker.node.kill(worker, "exit")

    # -- what fails

    @rule(pick=PICK, how=st.sampled_from(["silent", "told", "link", "drain"]))
    def node_fails(self, pick: int, how: str) -> None:
        if not self.nodes:
            return
        node = self.nodes[pick % len(self.nodes)]
        if how == "link":
            self.world.lose(node.process)
            node.attach()
        elif how == "drain":
            if self.drivers:
                self.drivers[0].ask(m.DrainNode, node.id)
        elif how == "told":
            node.stopped = "dead"
            node.say(m.ProcessDied(node.process, {"kind": "exit"}))
        else:
            node.stopped = "dead"
            self.world.lose(node.process)

    @rule(pick=PICK, how=st.sampled_from(["detach", "link", "told"]))
    def driver_goes(self, pick: int, how: str) -> None:
        if not self.drivers:
            return
        driver = self.drivers[pick % len(self.drivers)]
        if how == "detach":
            driver.ask(m.Detach)
        elif how == "link":
            self.world.lose(driver.process)
        elif self.nodes:
            self.nodes[0].say(m.ProcessDied(driver.process, {"kind": "signal", "code": 9}))
        else:
            return
        if how != "link":
            del self.world.clients[driver.process]

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.5, 3.0, 12.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def broker_restarts(self) -> None:
        self.world.restart()
        for node in self.nodes:
            node.attach()
        for driver in self.drivers:
            driver.attach()

    @invariant()
    def queries_answer(self) -> None:
        if self.drivers:
            for what in (
                "actors",
                "nodes",
                "workers",
                "jobs",
                "groups",
                "leases",
                "names",
                "status",
                "resources",
            ):
                self.drivers[0].get(m.Query, what, {})

    def teardown(self) -> None:
        """In the end all drivers leave; when the dust has settled nothing undetached is left."""
        for driver in list(self.drivers):
            self.world.lose(driver.process)
        self.world.advance(60.0)
        for _ in range(5):
            self.world.work()
            self.world.advance(60.0)
        cluster = self.world.machine._cluster
        for actor in cluster.directory.actors.values():
            owner_is_gone = actor.owner in cluster.processes.dead
            assert actor.state == DEAD or actor.is_detached or not owner_is_gone, actor.entry()
        for node in cluster.membership.nodes.values():
            if not cluster.directory.by_job and not cluster.leases.leases and not node.bundles:
                assert node.pool.available == node.pool.total


BrokerWorld.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestBrokerWorld = pytest.mark.slow(BrokerWorld.TestCase)
