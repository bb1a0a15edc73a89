"""The relay, and networks that are cut: nothing is lost, doubled or overtaken, and nobody hangs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zactor
from tests.system.daemons import PATIENCE, Machines, query, wait_until
from tests.system.networks import Network, networks
from zactor.options.scheduling import NodeAffinitySchedulingStrategy
from zactor.runtime.current import current

pytestmark = [pytest.mark.system, pytest.mark.slow]


@zactor.remote
class Log:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def add(self, number: int) -> int:
        self.seen.append(number)
        return number

    def all(self) -> list[int]:
        return self.seen

    def ask(self, other: Any, number: int) -> int:
        return zactor.get(other.add.remote(number), timeout=PATIENCE)

    def ones(self, count: int) -> Any:
        return np.ones(count)

    def sum(self, array: Any) -> float:
        return float(array.sum())


def on(resource: str, **options: Any) -> Any:
    return Log.options(resources={resource: 1}, **options).remote()


@pytest.fixture
def relayed(world: Machines, monkeypatch: pytest.MonkeyPatch) -> Machines:
    world.settings["ZACTOR_TRANSPORT"] = "relay"
    world.settings["ZACTOR_LEASE"] = "10"  # it is not leases that are tried here
    monkeypatch.setenv("ZACTOR_TRANSPORT", "relay")
    return world


def test_calls_over_the_relay_survive_its_restart_in_order_and_once(relayed: Machines) -> None:
    world = relayed
    broker = world.broker()
    world.node("--resources", "a=1")
    world.node("--resources", "b=1", machine="far")
    world.init()
    logs = [on("a"), on("b")]
    zactor.get([log.add.remote(-1) for log in logs], timeout=PATIENCE)
    refs: list[list[Any]] = [[], []]
    killed = threading.Event()

    def restart() -> None:
        broker.kill()
        killed.set()
        world.broker()

    thread = threading.Thread(target=restart)
    count = 20_000
    for number in range(count):
        for log, mine in zip(logs, refs, strict=True):
            mine.append(log.add.remote(number))
        if number == 3_000:
            zactor.get(refs[1][1_000], timeout=PATIENCE)
            thread.start()
        if number == 10_000:
            killed.wait(PATIENCE)
    for log, mine in zip(logs, refs, strict=True):
        assert zactor.get(mine, timeout=PATIENCE) == list(range(count))
        assert zactor.get(log.all.remote(), timeout=PATIENCE) == list(range(-1, count))
    thread.join()


def test_an_embedded_cluster_works_over_the_relay(
    monkeypatch: pytest.MonkeyPatch, own_cluster: Any
) -> None:
    monkeypatch.setenv("ZACTOR_TRANSPORT", "relay")
    own_cluster(num_cpus=2)
    one, two = Log.remote(), Log.remote()
    assert zactor.get(one.ask.remote(two, 5), timeout=PATIENCE) == 5
    refs = [two.add.remote(number) for number in range(5_000)]
    assert zactor.get(refs, timeout=PATIENCE) == list(range(5_000))
    value = zactor.get(one.ones.remote(200_000), timeout=PATIENCE)
    assert value.sum() == 200_000


@pytest.fixture
def cables() -> Iterator[list[Network]]:
    with networks(2) as made:
        yield made


def start(world: Machines, cables: list[Network], *argv: str) -> list[Any]:
    """A broker here, and a node on each cable's other end; they cannot reach each other."""
    world.broker("--listen", cables[0].host)
    nodes = []
    for cable, name in zip(cables, "ab", strict=True):
        given = ("--resources", f"{name}=10", *argv)
        nodes.append(world.node(*given, machine=f"m{name}", prefix=cable.prefix))
    return nodes


# Reachable from the broker (the cable's address), or from nobody (their own loopback).
@pytest.mark.parametrize("host", [(), ("--host", "127.0.0.1")], ids=["cable", "loopback"])
def test_nodes_that_cannot_reach_each_other_work_together(
    world: Machines, cables: list[Network], host: tuple[str, ...]
) -> None:
    world.settings["ZACTOR_LEASE"] = "10"
    start(world, cables, *host)
    world.init()
    a, b = on("a"), on("b")
    assert zactor.get([a.add.remote(1), b.add.remote(1)], timeout=PATIENCE * 2) == [1, 1]
    since = time.monotonic()
    assert zactor.get(a.ask.remote(b, 2), timeout=PATIENCE * 3) == 2
    assert zactor.get(b.ask.remote(a, 2), timeout=PATIENCE * 3) == 2
    assert time.monotonic() - since < 25
    made = a.ones.remote(300_000)
    assert zactor.get(b.sum.remote(made), timeout=PATIENCE * 3) == 300_000


def test_a_cut_shorter_than_the_lease_loses_nothing(
    world: Machines, cables: list[Network]
) -> None:
    world.settings.update({"ZACTOR_LEASE": "30", "ZACTOR_RENEW": "1"})
    start(world, cables)
    world.init()
    log = on("b")
    zactor.get(log.add.remote(0), timeout=PATIENCE)
    cables[1].cut()
    refs = [log.add.remote(number) for number in range(1, 10_000)]
    with pytest.raises(zactor.exceptions.GetTimeoutError):
        zactor.get(refs[-1], timeout=0.7)
    cables[1].heal()
    assert zactor.get(refs, timeout=PATIENCE) == list(range(1, 10_000))
    assert zactor.get(log.all.remote(), timeout=PATIENCE) == list(range(10_000))


def test_a_node_beyond_a_cut_is_lost_and_comes_back(
    world: Machines, cables: list[Network]
) -> None:
    nodes = start(world, cables)
    world.node("--resources", "c=1")
    world.init()
    strategy = NodeAffinitySchedulingStrategy(nodes[1].node_id, soft=True)
    moves = Log.options(max_restarts=1, scheduling_strategy=strategy).remote()
    stays = on("b")
    zactor.get([moves.add.remote(0), stays.add.remote(0)], timeout=PATIENCE)
    cables[1].cut()
    lost = stays.add.remote(1)
    with pytest.raises(zactor.exceptions.ActorDiedError) as caught:
        zactor.get(lost, timeout=PATIENCE)
    assert caught.value.executed == "unknown"

    def answers() -> bool:
        try:
            return zactor.get(moves.all.remote(), timeout=PATIENCE) == []
        except zactor.exceptions.ActorUnavailableError:
            return False

    wait_until(answers)
    cables[1].heal()

    def alive() -> int:
        return len(query("nodes", filters=[["state", "=", "ALIVE"]]))

    wait_until(lambda: alive() == 3, what="the node attaches again")


DRIVER = """
import sys, threading, zactor
zactor.init(sys.argv[1])

@zactor.remote
class Actor:
    def add(self, x): return x

actor = Actor.remote()
assert zactor.get(actor.add.remote(1), timeout=8) == 1
print("ready", flush=True)
pause = threading.Event()
while True:
    try:
        zactor.get(actor.add.remote(1), timeout=0.5)
        pause.wait(0.05)
    except zactor.exceptions.GetTimeoutError:
        print("cut", flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
        break
try:
    zactor.get(actor.add.remote(1), timeout=5)
except Exception as error:
    print(type(error).__name__, flush=True)
zactor.shutdown()
print("done", flush=True)
"""


def test_a_driver_that_was_declared_lost_is_told(
    world: Machines, cables: list[Network]
) -> None:
    world.settings["ZACTOR_DRIVER_GRACE"] = "0.3"
    world.broker("--listen", cables[0].host)
    world.node("--host", cables[0].host)
    driver = world.program(DRIVER, machine="far", prefix=cables[0].prefix)
    assert driver.process.stdout is not None
    world.init()
    jobs = [["status", "=", "RUNNING"]]
    assert len(query("jobs", filters=jobs)) == 2
    cables[0].cut()
    wait_until(
        lambda: len(query("jobs", filters=jobs)) == 1, 2 * PATIENCE, "it is declared lost"
    )
    cables[0].heal()
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(driver.process.stdout or ()))
    reader.start()
    # A greeting that was sent just before the cable was back is given 5 s.
    assert driver.process.wait(2 * PATIENCE) == 0, lines
    reader.join()
    said = [line.strip() for line in lines if line.strip() != "cut"]
    assert said == ["SessionLostError", "SessionLostError", "done"]


def test_ipc_is_not_taken_for_a_way_to_another_machine(world: Machines) -> None:
    world.broker()
    world.node("--resources", "b=1", machine="far")
    world.init()
    log = on("b")
    assert zactor.get(log.add.remote(1), timeout=PATIENCE) == 1
    tokens = {node["machine"] for node in query("nodes")}
    assert len(tokens) == 1
    process = current()
    assert process is not None
    links = [peer for peer in process.post.peers.values() if peer.is_remote]
    assert links
    assert all(peer.address.tcp for peer in links)
    assert not any(peer.is_relayed for peer in links)
    assert os.environ["ZACTOR_TMPDIR"]
