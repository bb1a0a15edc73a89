"""What happened lately: noted where it happens, bounded, and not what is ordinary."""

from __future__ import annotations

from typing import Any

from tests.core.broker_world import FakeNode, World
from zactor.core.events import Events
from zactor.wire import messages as m


def kinds(world: World) -> list[str]:
    return [row["event_type"] for row in rows(world)]


def rows(world: World) -> list[dict[str, Any]]:
    return world.machine._cluster.journal.events.rows()


def test_the_oldest_events_go_first() -> None:  # V1
    events = Events(3, epoch=100.0)
    for number in range(5):
        events.now = float(number)
        events.add("INFO", "NODE_JOINED", f"node {number}")
    events.check()
    assert [row["message"] for row in events.rows()] == ["node 2", "node 3", "node 4"]
    assert [row["timestamp"] for row in events.rows()] == [102.0, 103.0, 104.0]


def test_what_is_repeated_counts_and_does_not_fill_the_list() -> None:  # V2
    events = Events(2)
    events.add("INFO", "NODE_JOINED", "one")
    for _ in range(10):
        events.add("WARNING", "SCHEDULER_INFEASIBLE", "no node can take it")
    events.add("WARNING", "SCHEDULER_INFEASIBLE", "no node can take it", job=b"j")
    assert [(row["message"], row["count"]) for row in events.rows()] == [
        ("no node can take it", 10),
        ("no node can take it", 1),
    ]


def crash(node: FakeNode) -> None:
    """End the one worker there is."""
    [worker] = node.workers.values()
    node.kill(worker)


def test_a_crash_is_told_of_the_worker_and_the_actor() -> None:
    world = World()
    node = world.node(1, CPU=4)
    actor = world.driver().create(max_restarts=1)["id"]
    for _ in range(2):
        world.work()
        crash(node)
        world.advance(0.1)
    told = [kind for kind in kinds(world) if kind.startswith(("ACTOR", "WORKER"))]
    assert told == ["WORKER_CRASHED", "ACTOR_RESTARTED", "WORKER_CRASHED", "ACTOR_DIED"]
    last = rows(world)[-1]
    assert (last["severity"], last["actor_id"]) == ("ERROR", actor.hex())


def test_what_ends_in_order_is_no_event() -> None:
    world = World()
    world.node(1, CPU=4)
    driver = world.driver()
    driver.create()
    world.work()
    driver.get(m.Detach)
    world.work()
    assert kinds(world) == ["NODE_JOINED", "JOB_STARTED", "JOB_ENDED"]


def test_a_heartbeat_tells_of_a_store_that_spills_or_refuses() -> None:
    world = World()
    node = world.node(1, CPU=1)
    for spills, refused in ((0, 0), (2, 0), (2, 0), (5, 1)):
        node.say(m.Renew(world.number(), {"store": {"spills": spills, "refused": refused}}))
    for odd in ({"spills": "many"}, None, 7):
        node.say(m.Renew(world.number(), {"store": odd}))
    told = {row["event_type"]: row["count"] for row in rows(world)}
    assert (told["OBJECT_STORE_SPILLED"], told["OBJECT_STORE_FULL"]) == (2, 1)


def test_what_no_node_can_take_is_told_once_and_counted() -> None:
    world = World()
    world.node(1, CPU=1)
    world.driver().create(placing={"CPU": 1, "moon": 1})
    world.advance(40.0)
    [told] = [row for row in rows(world) if row["event_type"] == "SCHEDULER_INFEASIBLE"]
    assert told["count"] > 1
    assert "moon" in told["message"]


def test_a_lost_node_is_an_error_and_a_drained_one_is_not() -> None:
    world = World()
    first, second = world.node(1, CPU=1), world.node(2, machine=b"m2", CPU=1)
    world.driver().get(m.DrainNode, second.id)
    world.advance(0.1)
    del world.nodes[first.process]
    world.advance_silently(20.0)
    severities = {row["event_type"]: row["severity"] for row in rows(world)}
    assert (severities["NODE_LEFT"], severities["NODE_LOST"]) == ("INFO", "ERROR")


def test_where_an_actor_lived_last_is_known_when_it_is_dead() -> None:
    world = World()
    node = world.node(1, CPU=4)
    driver = world.driver()
    driver.create()
    world.work()
    [worker] = node.workers.values()
    node.kill(worker)
    [row] = driver.get(m.Query, "actors", {})
    assert (row["state"], row["worker_id"], row["pid"]) == ("DEAD", worker.process.hex(), 7)
    assert row["node_id"] == node.id.hex()
