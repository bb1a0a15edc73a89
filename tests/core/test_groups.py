"""Placement groups: all bundles or none."""

from __future__ import annotations

import pytest

from tests.core.broker_world import World
from zactor.wire import messages as m


@pytest.fixture
def world():
    return World()


def group_spec(driver, bundles, strategy="PACK", **more):
    return {
        "id": driver.world.ids.new_id(), "job": driver.job, "owner": driver.process,
        "bundles": bundles, "strategy": strategy, **more,
    }  # fmt: skip


def create(driver, *args, **more):
    return driver.get(m.CreateGroup, group_spec(driver, *args, **more))


def available(driver):
    return driver.get(m.Query, "resources", {})["available"]


ONE = {"CPU": 1}


def test_pack_uses_as_few_nodes_as_it_can(world):
    first, second = world.node(1, CPU=2), world.node(2, CPU=4)
    driver = world.driver()
    assert create(driver, [ONE] * 3)["placed"] == [second.id] * 3
    assert create(driver, [ONE] * 3)["placed"] == [first.id, first.id, second.id]


def test_spread_uses_as_many_nodes_as_it_can(world):
    first, second = world.node(1, CPU=4), world.node(2, CPU=4)
    placed = create(world.driver(), [ONE] * 3, "SPREAD")["placed"]
    assert sorted(placed) == sorted([first.id, second.id, first.id])


def test_strict_pack_wants_one_node_and_strict_spread_many(world):
    first, second = world.node(1, CPU=2), world.node(2, CPU=3)
    driver = world.driver()
    assert create(driver, [ONE] * 3, "STRICT_PACK")["placed"] == [second.id] * 3
    assert create(driver, [ONE] * 2, "STRICT_SPREAD")["state"] == "PENDING"
    world.node(3, CPU=1)
    third = driver.taken(m.GroupChanged)[-1].entry
    assert third["state"] == "CREATED"
    assert first.id in third["placed"]


def test_a_group_that_does_not_fit_whole_holds_nothing(world):  # G1
    world.node(1, CPU=2)
    driver = world.driver()
    for strategy in ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"):
        assert create(driver, [ONE] * 3, strategy)["state"] == "PENDING"
    assert available(driver) == {"CPU": 2.0}


def test_waiting_groups_are_served_when_room_is_made(world):
    world.node(1, CPU=2)
    driver = world.driver()
    first = create(driver, [ONE, ONE])["id"]
    second, third = create(driver, [ONE, ONE])["id"], create(driver, [ONE])["id"]
    assert driver.get(m.WatchGroup, third)["state"] == "PENDING"
    assert driver.get(m.RemoveGroup, first) is True
    assert driver.get(m.RemoveGroup, first) is False
    assert driver.get(m.WatchGroup, second)["state"] == "CREATED"
    assert driver.get(m.WatchGroup, third)["state"] == "PENDING"
    driver.get(m.RemoveGroup, second)
    assert driver.get(m.WatchGroup, third)["state"] == "CREATED"


def test_actors_and_leases_run_within_their_bundles(world):
    node = world.node(1, CPU=4, GPU=2)
    driver = world.driver()
    group = create(driver, [{"CPU": 1}, {"CPU": 2, "GPU": 1}])["id"]
    inside = {"id": group, "bundle": 1}
    first = driver.create(group=inside, running={"CPU": 2, "GPU": 1})
    assert first["node"] == node.id
    assert node.todo[-1].spec["gpu_ids"] == [0]
    assert driver.create(group=inside, running={"CPU": 1})["state"] == "PENDING"
    driver.demand(5, group={"id": group, "bundle": -1})
    node.work()
    assert len(driver.taken(m.LeaseGranted)) == 1  # bundle 0
    assert available(driver) == {"CPU": 1.0, "GPU": 1.0}


def test_what_can_never_be_in_a_bundle_fails_at_once(world):
    world.node(1, CPU=4)
    driver = world.driver()
    group = create(driver, [{"CPU": 1}])["id"]
    for inside, running in (
        ({"id": group, "bundle": 3}, ONE),
        ({"id": group}, {"CPU": 2}),
        ({"id": group}, {"x": 1}),
    ):
        assert driver.create(group=inside, running=running)["cause"]["kind"] == "unschedulable"


def test_what_runs_in_a_removed_group_is_killed_and_what_waits_for_it_fails(world):
    node = world.node(1, CPU=4)
    driver = world.driver()
    group = create(driver, [ONE, ONE])["id"]
    inside = {"id": group, "bundle": -1}
    actor = driver.create(group=inside, running=ONE, max_restarts=-1)["id"]
    driver.demand(1, group=inside)
    node.work()
    (lease,) = driver.taken(m.LeaseGranted)
    waiting = driver.create(group=inside, running=ONE)["id"]
    driver.demand(5, key=b"more", group=inside)
    driver.get(m.RemoveGroup, group)
    assert available(driver) == {"CPU": 4.0}
    cause = driver.entry(waiting)["cause"]
    assert (cause["kind"], cause["error"][0]) == ("group", "ActorPlacementGroupRemoved")
    failed = driver.taken(m.DemandFailed)
    assert {(f.final, f.error[0]) for f in failed} == {(True, "TaskPlacementGroupRemoved")}
    assert driver.taken(m.LeaseLost) == []
    node.work()
    assert driver.entry(actor)["cause"]["kind"] == "group"
    (lost,) = driver.taken(m.LeaseLost)
    assert (lost.lease, lost.cause["kind"]) == (lease.lease, "group")
    assert driver.create(group=inside, running=ONE)["cause"]["kind"] == "group"


def test_bundles_of_a_lost_node_are_reserved_again_and_the_rest_goes_on(world):
    first, second = world.node(1, CPU=2), world.node(2, CPU=2)
    driver = world.driver()
    group = create(driver, [ONE, ONE], "STRICT_SPREAD")["id"]
    actors = [
        driver.create(group={"id": group, "bundle": i}, running=ONE, max_restarts=1)["id"]
        for i in (0, 1)
    ]
    world.work()
    first.stopped = "dead"
    first.say(m.ProcessDied(first.process, {"kind": "exit"}))
    states = [driver.entry(actor)["state"] for actor in actors]
    assert sorted(states) == ["ALIVE", "RESTARTING"]
    assert driver.get(m.WatchGroup, group)["state"] == "RESCHEDULING"
    third = world.node(3, CPU=1)
    entry = driver.get(m.WatchGroup, group)
    assert (entry["state"], sorted(entry["placed"])) == (
        "CREATED",
        sorted([second.id, third.id]),
    )
    world.work()
    assert [driver.entry(actor)["state"] for actor in actors] == ["ALIVE", "ALIVE"]


def test_a_strict_pack_stays_together_when_some_of_it_is_lost(world):
    first = world.node(1, CPU=2)
    driver = world.driver()
    group = create(driver, [ONE, ONE], "STRICT_PACK")["id"]
    first.stopped = "dead"
    first.say(m.ProcessDied(first.process, {"kind": "exit"}))
    world.node(2, CPU=1)
    assert driver.get(m.WatchGroup, group)["placed"] == [b"", b""]
    third = world.node(3, CPU=2)
    assert driver.get(m.WatchGroup, group)["placed"] == [third.id] * 2


def test_bundles_go_where_labels_say(world):
    world.node(1, labels={"zone": "a"})
    second = world.node(2, labels={"zone": "b"})
    driver = world.driver()
    assert create(driver, [ONE], labels={"zone": "b"})["placed"] == [second.id]
    mixed = create(driver, [ONE, ONE], labels=[{"zone": "b"}, {"zone": "z"}])
    assert mixed["state"] == "PENDING"
    world.advance(1.5)
    assert "bundle 1" in driver.taken(m.GroupChanged)[-1].entry["pending_reason"]


@pytest.mark.parametrize(
    ("bundles", "strategy", "reason"),
    [
        ([{"fpga": 1}], "PACK", "fpga"), ([ONE] * 2, "STRICT_SPREAD", "2 nodes"),
        ([{"CPU": 4}, ONE], "PACK", "{'CPU': 5.0} together and the cluster has {'CPU': 4.0}"),
        ([{"CPU": 3}] * 2, "SPREAD", "{'CPU': 6.0} together"),
        ([{"CPU": 3}] * 2, "STRICT_PACK", "no node of the cluster can take all bundles: {'CPU': 6.0}"),
    ],
)  # fmt: skip
def test_a_group_that_waits_says_why(world, bundles, strategy, reason):
    world.node(1, CPU=4)
    driver = world.driver()
    create(driver, bundles, strategy)
    world.advance(1.5)
    assert reason in driver.taken(m.GroupChanged)[-1].entry["pending_reason"]
    world.advance(40.0)
    assert driver.taken(m.GroupChanged) == []


def test_a_group_that_waits_for_what_others_hold_says_so(world):
    world.node(1, CPU=4)
    driver = world.driver()
    create(driver, [ONE])
    create(driver, [{"CPU": 3}, ONE])
    world.advance(1.5)
    assert "in use by others" in driver.taken(m.GroupChanged)[-1].entry["pending_reason"]


def test_groups_go_with_their_owner_unless_detached(world):
    node = world.node(1, CPU=4)
    driver, other = world.driver(), world.driver()
    mine = create(driver, [ONE], name="mine", namespace="n")["id"]
    kept = create(driver, [ONE], lifetime="detached", name="kept", namespace="n")["id"]
    assert (
        driver.refusal(m.CreateGroup, group_spec(driver, [ONE], name="kept", namespace="n"))
        == "NameTaken"
    )
    other.get(m.WatchGroup, mine)
    node.say(m.ProcessDied(driver.process, {"kind": "signal", "code": 9}))
    assert other.taken(m.GroupChanged)[-1].entry["cause"]["kind"] == "owner"
    assert other.get(m.WatchGroup, kept)["state"] == "CREATED"
    assert available(other) == {"CPU": 3.0}


def test_creating_a_group_twice_is_the_same_as_once(world):
    world.node(1, CPU=4)
    driver = world.driver()
    spec = group_spec(driver, [ONE])
    assert driver.get(m.CreateGroup, spec) == driver.get(m.CreateGroup, spec)
    assert available(driver) == {"CPU": 3.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"bundles": []}, {"bundles": [{}]}, {"bundles": [{"CPU": -1}]}, {"bundles": "x"}, {"id": "x"}, {"job": None},
        {"strategy": "PACKED"}, {"labels": [{}, {}]}, {"labels": {"a": 5}}, {"owner": 1},
    ],
)  # fmt: skip
def test_a_group_that_makes_no_sense_is_refused(world, wrong):
    driver = world.driver()
    assert driver.refusal(m.CreateGroup, {**group_spec(driver, [ONE]), **wrong}) == "BadRequest"


def test_a_watch_of_an_unknown_group_waits_a_little(world):
    driver, other = world.driver(), world.driver()
    spec = group_spec(driver, [ONE])
    other.say(m.WatchGroup(7, spec["id"]))
    assert other.inbox == []
    driver.get(m.CreateGroup, spec)
    assert other.inbox[0].value["id"] == spec["id"]
    other.say(m.WatchGroup(8, b"never"))
    world.advance(6.0)
    assert m.Answer(8, True, None) in other.inbox


def test_removed_groups_are_forgotten_above_a_bound():
    world = World(max_dead_groups=2)
    world.node(1, CPU=1)
    driver = world.driver()
    ids = []
    for _ in range(4):
        ids.append(create(driver, [ONE])["id"])
        driver.get(m.RemoveGroup, ids[-1])
    table = driver.get(m.Query, "groups", {})
    assert [row["placement_group_id"] for row in table] == [i.hex() for i in ids[2:]]
    assert driver.get(m.Query, "groups", {"id": ids[3]})[0]["state"] == "REMOVED"
