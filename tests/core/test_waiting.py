"""Lines, turns, and what is told to those who wait."""

from __future__ import annotations

import pytest

from tests.core.broker_world import World
from tests.core.test_groups import group_spec
from zactor.wire import messages as m


@pytest.fixture
def world():
    return World(warn_infeasible=1.0, warn_busy=30.0)


def started(node):
    return [task for task in node.todo if isinstance(task, (m.StartActor, m.StartLease))]


def test_a_large_wish_does_not_hold_up_small_ones(world):
    node = world.node(1, CPU=2)
    driver = world.driver()
    driver.create(running={"CPU": 1})
    large = driver.create(running={"CPU": 2})
    small = driver.create(running={"CPU": 1})
    assert large["state"] == "PENDING"
    assert small["state"] == "STARTING"
    assert len(started(node)) == 2


def test_actors_of_one_shape_are_started_in_the_order_they_were_created(world):  # W2
    node = world.node(1, CPU=1)
    driver = world.driver()
    order = [driver.create(running={"CPU": 1})["id"] for _ in range(4)]
    for actor in order:
        node.work()
        assert [w.actors for w in node.workers.values()] == [{actor: 1}]
        driver.get(m.KillActor, actor, True)


def test_jobs_take_turns(world):  # W2
    node = world.node(1, CPU=1)
    first, second = world.driver(), world.driver()
    running = {"CPU": 1}
    ids = {
        d.process: [d.create(running=running)["id"] for _ in range(3)] for d in (first, second)
    }
    order = []
    for _ in range(6):
        (task,) = started(node)
        order.append(task.actor)
        node.work()
        first.get(m.KillActor, task.actor, True)
        node.work(1)
    mine, theirs = ids.values()
    assert order == [mine[0], mine[1], theirs[0], mine[2], theirs[1], theirs[2]]


def test_what_nobody_could_ever_give_is_said_soon_and_placed_when_somebody_comes(world):
    world.node(1, CPU=1)
    driver = world.driver()
    actor = driver.create(running={"fpga": 1})["id"]
    driver.demand(1, resources={"fpga": 1})
    driver.taken(m.ActorChanged)
    world.advance(1.1)
    (change,) = driver.taken(m.ActorChanged)
    assert "fpga" in change.entry["pending_reason"]
    (failed,) = driver.taken(m.DemandFailed)
    assert (failed.key, failed.final, failed.error[0]) == (b"d", False, "TaskUnschedulable")
    world.advance(20.0)
    assert driver.taken(m.DemandFailed) == []
    late = world.driver()
    late.demand(1, resources={"fpga": 1})
    world.advance(1.1)
    assert len(late.taken(m.DemandFailed)) == 1
    world.node(2, fpga=2, CPU=1)
    entry = driver.entry(actor)
    assert entry["state"] == "STARTING"
    assert entry["pending_reason"] == ""


def test_who_waits_for_its_turn_is_told_later(world):
    world.node(1, CPU=1)
    driver = world.driver()
    driver.create(running={"CPU": 1})
    actor = driver.create(running={"CPU": 1})["id"]
    world.advance(29.0)
    assert driver.entry(actor)["pending_reason"] == ""
    world.advance(5.0)
    assert "in use" in driver.entry(actor)["pending_reason"]


def test_nothing_is_placed_while_there_is_no_node(world):
    driver = world.driver()
    actor = driver.create()["id"]
    world.advance(2.0)
    assert "no node" in driver.entry(actor)["pending_reason"]
    world.node(1)
    assert driver.entry(actor)["state"] == "STARTING"


def test_a_line_that_nothing_fits_is_looked_at_again_only_where_something_was_freed(world):
    nodes = [world.node(i, CPU=1) for i in (1, 2, 3)]
    driver = world.driver()
    held = [driver.create(running={"CPU": 1}) for _ in nodes]
    driver.create(running={"CPU": 1})
    world.work()
    looked = []
    placement = world.machine._cluster.placement
    choose = placement.choose
    placement.choose = lambda shape, prefer="", only=None, near=b"": (
        looked.append(only) or choose(shape, prefer, only, near=near)
    )
    world.machine._cluster.waiting.check = lambda: None  # it looks everywhere
    world.node(4, memory=1)
    assert [[node.id for node in only] for only in looked] == [
        [world.nodes[n].id for n in list(world.nodes)[3:]]
    ]
    driver.get(m.KillActor, held[1]["id"], True)
    world.work()
    assert [node.id for node in looked[-1]] == [nodes[1].id]


def test_what_no_node_can_take_is_refused_on_request():
    world = World(warn_infeasible=1.0, refuse_infeasible=True)
    world.node(1, CPU=1)
    driver = world.driver()
    actor = driver.create(running={"CPU": 1, "moon": 1})["id"]
    busy = [driver.create(running={"CPU": 1})["id"] for _ in range(2)]
    driver.demand(1, resources={"mars": 1})
    group = driver.get(m.CreateGroup, group_spec(driver, [{"venus": 1}]))["id"]
    world.work()
    world.advance(1.5)
    entry = driver.entry(actor)
    assert (entry["state"], entry["cause"]["error"][0]) == ("DEAD", "ActorUnschedulable")
    assert [driver.entry(each)["state"] for each in busy] == ["ALIVE", "PENDING"]
    [failed] = driver.taken(m.DemandFailed)
    assert failed.final
    assert driver.get(m.WatchGroup, group)["cause"]["kind"] == "unschedulable"


def test_what_users_should_know_of_a_node_is_told_to_all_drivers_once():
    world = World()
    node = world.node(1, CPU=1)
    first = world.driver()
    for _ in range(2):
        node.say(m.Notice("its disk is slow"))
    second = world.driver()
    for driver in (first, second):
        [notice] = driver.taken(m.Notice)
        assert notice.text == f"node {node.id.hex()[:12]}: its disk is slow"
    for number in range(100):
        node.say(m.Notice(f"number {number}"))
    assert len(first.taken(m.Notice)) < 25
