"""Several nodes: what they share, and what becomes of it all when one of them is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

import zactor
from tests.system.daemons import PATIENCE, Machines, cpus, query, wait_until
from zactor.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectLostError,
    WorkerCrashedError,
    ZactorError,
)
from zactor.options.scheduling import NodeAffinitySchedulingStrategy

pytestmark = [pytest.mark.system, pytest.mark.slow]


@zactor.remote
class Actor:
    def __init__(self) -> None:
        self.calls = 0

    def add(self) -> int:
        self.calls += 1
        return self.calls

    def place(self) -> str:
        return os.environ["ZACTOR_TMPDIR"]

    def pid(self) -> int:
        return os.getpid()

    def sum(self, array: Any) -> float:
        return float(array.sum())

    def ones(self, count: int) -> Any:
        return np.ones(count)

    def ask(self, other: Any) -> Any:
        return zactor.get(other.add.remote(), timeout=PATIENCE)

    def hold(self, refs: list[Any]) -> None:
        self.held = refs

    def held_sum(self) -> float:
        return float(zactor.get(self.held[0], timeout=PATIENCE).sum())

    def stall(self) -> None:
        threading.Event().wait(60)


@zactor.remote(max_retries=2)
def slow(seconds: float) -> int:
    threading.Event().wait(seconds)
    return os.getppid()


def on(resource: str) -> Any:
    return Actor.options(resources={resource: 1})


@pytest.fixture(params=["", "relay"])
def two_machines(world: Machines, request: pytest.FixtureRequest) -> Machines:
    """A broker and a node "a" here, a node "b" on another machine; direct, and by the relay."""
    if request.param:
        world.settings["ZACTOR_TRANSPORT"] = request.param
        os.environ["ZACTOR_TRANSPORT"] = request.param
    world.broker()
    world.node("--resources", "a=10")
    world.node("--resources", "b=10", machine="far")
    try:
        world.init()
    finally:
        os.environ.pop("ZACTOR_TRANSPORT", None)
    return world


def test_actors_tasks_and_values_reach_across_machines(two_machines: Machines) -> None:
    a, b = on("a").remote(), on("b").remote()
    here, there = zactor.get([a.place.remote(), b.place.remote()], timeout=PATIENCE)
    assert here != there
    assert zactor.get([a.add.remote(), b.add.remote()], timeout=PATIENCE) == [1, 1]
    assert zactor.get(a.ask.remote(b), timeout=PATIENCE) == 2
    assert zactor.get(b.ask.remote(a), timeout=PATIENCE) == 2
    replies = zactor.get([b.add.remote() for _ in range(500)], timeout=PATIENCE)
    assert replies == list(range(3, 503))
    tasks = [slow.options(resources={name: 1}).remote(0) for name in ("a", "b")]
    assert len(set(zactor.get(tasks, timeout=PATIENCE))) == 2
    made_there = b.ones.remote(400_000)
    assert zactor.get(a.sum.remote(made_there), timeout=PATIENCE) == 400_000
    assert zactor.get(made_there, timeout=PATIENCE).sum() == 400_000
    put_here = zactor.put(np.ones(300_000))
    assert zactor.get(b.sum.remote(put_here), timeout=PATIENCE) == 300_000
    zactor.get(b.hold.remote([put_here]), timeout=PATIENCE)
    del put_here  # the other machine holds it now
    assert zactor.get(b.held_sum.remote(), timeout=PATIENCE) == 300_000


def test_a_large_value_is_pulled_once_a_node(world: Machines) -> None:
    world.broker()
    world.node("--resources", "a=10")
    world.node("--resources", "b=10", cpus=4, machine="far")
    world.init()
    value = zactor.put(np.ones(1_000_000))
    readers = [on("b").remote() for _ in range(4)]
    sums = zactor.get([reader.sum.remote(value) for reader in readers], timeout=PATIENCE)
    assert sums == [1_000_000] * 4
    copies = [name for name in os.listdir(world.shm["far"]) if "zactor" in name]
    sizes = [os.stat(world.shm["far"] / name).st_size for name in copies]
    assert len([size for size in sizes if size >= 8_000_000]) == 1


def test_a_program_on_a_machine_without_a_node_gets_and_puts_large_values(
    world: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.broker(machine="far")
    world.node(machine="far")
    world.init()
    actor = Actor.remote()
    assert zactor.get(actor.ones.remote(3_000_000), timeout=PATIENCE).sum() == 3_000_000
    assert zactor.get(actor.sum.remote(np.ones(300_000)), timeout=PATIENCE) == 300_000
    value = zactor.put(np.ones(300_000))
    assert zactor.get(actor.sum.remote(value), timeout=PATIENCE) == 300_000


def outcome(ref: Any) -> Any:
    """Return the value, or the error; but never hang."""
    try:
        return zactor.get(ref, timeout=PATIENCE)
    except zactor.exceptions.GetTimeoutError:
        raise AssertionError("a call hangs") from None
    except ZactorError as error:
        return error


def test_a_killed_worker_settles_its_calls_at_once_and_says_what_ran(world: Machines) -> None:
    world.broker()
    world.node()
    world.init()
    actor = Actor.remote()
    pid = zactor.get(actor.pid.remote(), timeout=PATIENCE)
    running = actor.stall.remote()
    queued = [actor.add.remote() for _ in range(50)]
    with pytest.raises(zactor.exceptions.GetTimeoutError):
        zactor.get(running, timeout=0.2)
    since = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    errors = [outcome(ref) for ref in [running, *queued]]
    assert time.monotonic() - since < 1.0
    assert all(isinstance(error, ActorDiedError) for error in errors)
    assert [error.executed for error in errors] == ["unknown", *["no"] * 50]
    assert outcome(actor.add.remote()).executed == "no"

    task = slow.options(max_retries=0).remote(30)
    pids = wait_until(lambda: [row["pid"] for row in query("leases") if row["pid"]])
    with pytest.raises(zactor.exceptions.GetTimeoutError):
        zactor.get(task, timeout=0.3)
    os.kill(pids[0], signal.SIGKILL)
    error = outcome(task)
    assert isinstance(error, WorkerCrashedError)
    assert error.executed == "unknown"
    wait_until(lambda: cpus() == cpus("total"))


@pytest.mark.parametrize("where", ["same machine", "another machine"])
def test_a_killed_node_fails_what_ran_there_and_the_rest_goes_on(
    world: Machines, where: str
) -> None:
    world.broker()
    world.node("--resources", "a=10", cpus=3)
    far = "" if where == "same machine" else "far"
    node = world.node("--resources", "b=10", cpus=3, machine=far)
    world.init()
    stays, goes = on("a").remote(), on("b").remote()
    moves = Actor.options(
        max_restarts=1,
        max_task_retries=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=True),
    ).remote()
    lost = goes.ones.remote(200_000)
    zactor.wait([lost], timeout=PATIENCE, fetch_local=False)
    first_home = zactor.get(moves.pid.remote(), timeout=PATIENCE)
    stalled = goes.stall.remote()
    behind = [goes.add.remote() for _ in range(20)]
    tasks = [slow.remote(0.5) for _ in range(3)]
    zactor.get(stays.add.remote(), timeout=PATIENCE)
    since = time.monotonic()
    node.kill()
    replies = [stays.add.remote() for _ in range(200)]
    assert zactor.get(replies, timeout=PATIENCE) == list(range(2, 202))
    errors = [outcome(ref) for ref in [stalled, *behind]]
    took = time.monotonic() - since
    # Its death is seen by a neighbour; from another machine, only its lease tells.
    assert took < (1.0 if not far else 4.0)
    assert {type(error) for error in errors} == {ActorDiedError}
    if far:
        assert isinstance(outcome(lost), ObjectLostError)
    else:  # its segment stays for a moment
        wait_until(lambda: isinstance(outcome(lost), ObjectLostError))
    assert all(isinstance(home, int) for home in map(outcome, tasks))

    def moved() -> bool:
        found = outcome(moves.pid.remote())
        assert isinstance(found, (int, ActorUnavailableError))
        return isinstance(found, int) and found != first_home

    wait_until(moved, what="the actor is restarted elsewhere")
    wait_until(lambda: len(query("nodes", filters=[["state", "=", "ALIVE"]])) == 1)
    del tasks, replies
    world.sweep_machine(far)


def test_a_driver_goes_on_when_the_node_of_its_machine_is_killed(world: Machines) -> None:
    world.broker()
    home = world.node("--resources", "a=1")
    world.init()
    world.node("--resources", "b=10")
    actor = on("b").remote()
    zactor.get(actor.add.remote(), timeout=PATIENCE)
    mine = zactor.put(np.ones(200_000))
    home.kill()
    wait_until(lambda: len(query("nodes", filters=[["state", "=", "ALIVE"]])) == 1)
    assert zactor.get(actor.add.remote(), timeout=PATIENCE) == 2
    assert zactor.get(mine, timeout=PATIENCE).sum() == 200_000
    value = zactor.put(np.ones(250_000))
    assert zactor.get(actor.sum.remote(value), timeout=PATIENCE) == 250_000


def test_a_node_goes_on_without_its_broker_beyond_its_lease(world: Machines) -> None:
    broker = world.broker()
    world.node()
    world.init()
    actor = Actor.remote()
    pid = zactor.get(actor.pid.remote(), timeout=PATIENCE)
    broker.kill()
    end = time.monotonic() + 2.0 * float(world.settings["ZACTOR_LEASE"])
    wait_until(lambda: outcome(actor.add.remote()) and time.monotonic() > end)
    world.broker()
    assert zactor.get(Actor.remote().add.remote(), timeout=PATIENCE) == 1
    assert zactor.get(actor.pid.remote(), timeout=PATIENCE) == pid


def test_a_node_that_was_declared_lost_comes_back_and_ends_what_was_replaced(
    world: Machines,
) -> None:
    world.broker()
    world.node("--resources", "a=1")
    node = world.node(machine="far")
    world.init()
    strategy = NodeAffinitySchedulingStrategy(node.node_id, soft=True)
    actor = Actor.options(max_restarts=1, scheduling_strategy=strategy).remote()
    pid = zactor.get(actor.pid.remote(), timeout=PATIENCE)
    node.send(signal.SIGSTOP)  # its workers go on

    def alive() -> int:
        return len(query("nodes", filters=[["state", "=", "ALIVE"]]))

    wait_until(lambda: alive() == 1)
    node.send(signal.SIGCONT)
    wait_until(lambda: alive() == 2)
    wait_until(lambda: not _lives(pid), what="the copy that was replaced is ended")
    wait_until(lambda: alive() == 2)
    wait_until(lambda: isinstance(outcome(actor.pid.remote()), int))


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_actors_of_a_node_that_stops_in_order_live_on_elsewhere(world: Machines) -> None:
    world.broker()
    leaving = world.node("--resources", "a=1")
    world.init()
    actor = on("a").options(max_restarts=1, max_task_retries=-1).remote()
    zactor.get(actor.add.remote(), timeout=PATIENCE)
    refs = [actor.add.remote() for _ in range(300)]
    assert leaving.stop() == 0
    refs += [actor.add.remote() for _ in range(10)]
    world.node("--resources", "a=1")
    counts = zactor.get(refs, timeout=PATIENCE)
    restart = next((at for at, count in enumerate(counts) if count != at + 2), len(counts))
    assert counts[restart:] == list(range(1, len(counts) - restart + 1))
    assert zactor.get(actor.add.remote(), timeout=PATIENCE) == len(counts) - restart + 1
