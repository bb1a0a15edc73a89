"""Where things go."""

from __future__ import annotations

import pytest

from tests.core.broker_world import World, pid_of
from zactor.core.placement import Shape, shape_of_actor, shape_of_demand
from zactor.wire import messages as m


@pytest.fixture
def world():
    return World()


def places(driver, count, **spec):
    return [driver.create(**spec)["node"] for _ in range(count)]


def test_default_packs_until_half_full_and_then_evens_out(world):
    first, second = world.node(1, CPU=4), world.node(2, CPU=4)
    driver = world.driver()
    found = places(driver, 8, running={"CPU": 1})
    assert found[:2] == [first.id, first.id]
    assert found[2:4] == [second.id, second.id]
    assert sorted(found) == [first.id] * 4 + [second.id] * 4


def test_default_prefers_the_callers_own_node(world):
    world.node(1, CPU=4)
    second = world.node(2, CPU=4)
    driver = world.driver()
    parent = driver.create(strategy={"kind": "node", "node": second.id, "soft": False})
    world.work()
    worker = next(iter(second.workers.values()))
    child = world.in_worker(worker, driver.job).create(running={"CPU": 1})
    assert parent["node"] == child["node"] == second.id


def test_actors_that_hold_nothing_do_not_pile_up_on_one_node(world):
    first, second = world.node(1, CPU=1), world.node(2, CPU=1)
    found = places(world.driver(), 40)
    assert abs(found.count(first.id) - found.count(second.id)) <= 2


def test_an_actor_that_holds_no_cpu_needs_a_node_that_has_one_but_not_a_free_one(world):
    world.node(1, memory=1)
    node = world.node(2, CPU=1)
    driver = world.driver()
    driver.create(running={"CPU": 1})
    assert places(driver, 3) == [node.id] * 3
    assert driver.create(placing={}, running={"memory": 1})["node"] != node.id


def test_spread_goes_round(world):
    nodes = [world.node(i, CPU=4).id for i in (1, 2, 3)]
    assert places(world.driver(), 6, strategy="SPREAD", running={"CPU": 1}) == nodes * 2


def test_leases_go_near_the_data_however_full_that_node_is_and_else_where_there_is_room(world):
    first, second = world.node(1, CPU=4), world.node(2, CPU=2)
    driver = world.driver()
    driver.demand(3, near=second.id)
    assert [len(node.todo) for node in (first, second)] == [1, 2]


@pytest.mark.parametrize(
    "wish",
    [
        {"strategy": "SPREAD"},
        {"strategy": {"kind": "labels", "hard": {}, "soft": {"zone": ["in", ["a"]]}}},
        {"near": b"nobody"},
    ],
    ids=str,
)
def test_data_counts_for_nothing_where_a_node_was_wished_for_or_it_is_gone(world, wish):
    first, second = world.node(1, CPU=2), world.node(2, CPU=2)
    world.driver().demand(1, **{"near": second.id, **wish})
    assert (len(first.todo), len(second.todo)) == (1, 0)


def test_hard_affinity_waits_for_its_node_and_soft_goes_elsewhere_only_if_it_must(world):
    first, second = world.node(1, CPU=1), world.node(2, CPU=4)
    driver = world.driver()
    hard = {"kind": "node", "node": first.id, "soft": False}
    soft = {"kind": "node", "node": first.id, "soft": True}
    assert driver.create(strategy=hard, running={"CPU": 1})["node"] == first.id
    assert driver.create(strategy=hard, running={"CPU": 1})["state"] == "PENDING"
    assert driver.create(strategy=soft, running={"CPU": 1})["state"] == "PENDING"
    assert driver.create(strategy=soft, running={"CPU": 2})["node"] == second.id


def test_hard_affinity_to_a_node_that_is_gone_or_too_small_fails_at_once(world):
    node = world.node(1, CPU=1)
    driver = world.driver()
    for strategy, cpus in (
        ({"kind": "node", "node": pid_of("none", 1), "soft": False}, 1),
        ({"kind": "node", "node": node.id, "soft": False}, 2),
    ):
        entry = driver.create(strategy=strategy, running={"CPU": cpus})
        assert entry["state"] == "DEAD"
        assert entry["cause"]["kind"] == "unschedulable"
        assert entry["cause"]["error"][0] == "ActorUnschedulable"


def test_those_who_wait_for_a_node_fail_when_it_is_lost(world):
    world.node(1, CPU=1)
    node = world.node(2, CPU=1)
    driver = world.driver()
    hard = {"kind": "node", "node": node.id, "soft": False}
    driver.create(strategy=hard, running={"CPU": 1})
    waiting = driver.create(strategy=hard, running={"CPU": 1})
    node.stopped = "dead"
    node.say(m.ProcessDied(node.process, {"kind": "exit"}))
    assert driver.entry(waiting["id"])["state"] == "DEAD"


def test_labels_select_nodes(world):
    world.node(1, labels={"zone": "a", "disk": "ssd"})
    b = world.node(2, labels={"zone": "b"})
    driver = world.driver()
    for selector in ({"zone": "b"}, {"zone": "!a"}, {"zone": "in(b, c)"}, {"zone": "!in(a,c)"}):
        assert driver.create(label_selector=selector)["node"] == b.id, selector
    for hard in (
        {"zone": ["in", ["b"]]}, {"disk": ["does_not_exist", []]},
        {"disk": ["not_in", ["ssd"]], "zone": ["exists", []]},
    ):  # fmt: skip
        strategy = {"kind": "labels", "hard": hard, "soft": {}}
        assert driver.create(strategy=strategy)["node"] == b.id, hard
    soft = {"kind": "labels", "hard": {}, "soft": {"zone": ["in", ["b"]]}}
    assert driver.create(strategy=soft)["node"] == b.id
    nowhere = {"kind": "labels", "hard": {}, "soft": {"zone": ["in", ["z"]]}}
    assert driver.create(strategy=nowhere)["node"]
    by_id = driver.create(label_selector={"zactor.io/node-id": b.id.hex()})
    assert by_id["node"] == b.id


def test_gpus_are_given_by_number(world):
    node = world.node(1, CPU=1, GPU=2)
    driver = world.driver()
    for gpus in (0.5, 1, 0.5):
        driver.create(running={"GPU": gpus})
    assert [task.spec["gpu_ids"] for task in node.todo] == [[0], [1], [0]]
    assert [task.spec["assigned"] for task in node.todo] == [
        {"GPU": 0.5},
        {"GPU": 1.0},
        {"GPU": 0.5},
    ]


@pytest.mark.parametrize(
    "wish",
    [
        {"strategy": "SPREADING"}, {"strategy": {"kind": "node"}}, {"strategy": 5},
        {"strategy": {"kind": "labels", "hard": {"a": ["like", []]}}}, {"strategy": {"kind": "labels", "hard": 5}},
        {"label_selector": "a"}, {"label_selector": {"a": 1}}, {"group": {"id": 1}}, {"group": 7},
        {"group": {"id": b"g", "bundle": -2}}, {"group": {"id": b"g", "bundle": "x"}},
    ],
)  # fmt: skip
def test_wishes_that_make_no_sense_are_refused(wish):
    with pytest.raises(ValueError):
        shape_of_actor({"running": {}, **wish})
    with pytest.raises(ValueError):
        shape_of_demand({"resources": {}, **wish})


def test_shapes_that_ask_the_same_are_the_same():
    def key(**more):
        return shape_of_actor(
            {"running": {"CPU": 1, "x": 2}, "placing": {"CPU": 1}, **more}
        ).key

    assert key() == key() == key(strategy="DEFAULT", group=None, label_selector={})
    assert (
        key() == shape_of_actor({"running": {"x": 2.0, "CPU": 1.0}, "placing": {"CPU": 1}}).key
    )
    others = {key(strategy="SPREAD"), key(group={"id": b"g"}), key(label_selector={"a": "b"})}
    assert len({key(), *others}) == 4
    shape = shape_of_actor({"running": {}, "strategy": "SPREAD"})
    assert shape.avoiding(frozenset({b"n"})).key != shape.key
    assert "label a in ['b']" in str(
        Shape({}, {}, strategy=None, group=None, selector={"a": "b"})
    )


@pytest.mark.parametrize("how", ["lost", "unreachable", "draining"])
def test_soft_affinity_does_not_wait_for_a_node_that_takes_nothing_more(world, how):  # W3
    node, other = world.node(1, CPU=1), world.node(2, CPU=1)
    driver = world.driver()
    soft = {"kind": "node", "node": node.id, "soft": True}
    driver.create(strategy=soft, running={"CPU": 1})
    waiting = driver.create(strategy=soft, running={"CPU": 1})["id"]
    assert driver.entry(waiting)["state"] == "PENDING"  # its node is only busy
    if how == "lost":
        node.stopped = "dead"
        node.say(m.ProcessDied(node.process, {"kind": "exit"}))
    elif how == "unreachable":
        world.lose(node.process)
    else:
        driver.get(m.DrainNode, node.id)
    assert driver.entry(waiting)["node"] == other.id
