"""Who is a member, and what happens when one goes."""

from __future__ import annotations

import pytest

from tests.core.broker_world import FakeNode, World, address_of, pid_of
from zactor.core.journal import Watch
from zactor.wire import messages as m


@pytest.fixture
def world():
    return World()


def states(driver):
    rows = driver.get(m.Query, "nodes", {"filters": [["state", "=", "ALIVE"]]})
    return {row["node_id"]: row["status"] for row in rows}


def gone(driver):
    return driver.get(m.Query, "nodes", {"filters": [["state", "=", "DEAD"]]})


def test_nodes_that_are_gone_are_listed_with_why_and_when():
    world = World(max_dead_nodes=2)
    driver = world.driver()
    for number in (1, 2, 3):
        node = world.node(number, CPU=4)
        world.advance(5.0)
        node.stopped = "dead"
        world.machine.process_ended(node.process, world.now)
        world.deliver()
    assert states(driver) == {}
    assert [row["node_id"] for row in gone(driver)] == [
        "6e6f64650000000000000002",
        "6e6f64650000000000000003",
    ]
    row = gone(driver)[-1]
    assert row["status"] == "LOST"
    assert row["resources_total"] == {}
    assert row["state_message"] == "its process has ended"
    assert row["end_time_ms"] - row["start_time_ms"] == 5_000
    node.stopped = ""
    node.attach()
    assert list(states(driver)) == [row["node_id"]]
    assert len(gone(driver)) == 1


def test_a_node_is_told_its_lease_and_who_it_joined(world):
    node = world.node(1)
    said = []
    node.take = said.append
    node.attach()
    assert said[0].value["lease"] == 10.0
    assert said[0].value["renew"] == 2.0
    assert said[0].value["cluster"]["term"] == 1


def test_a_node_that_renews_stays_and_one_that_does_not_is_lost_after_lease_and_a_tenth(world):
    node = world.node(1)
    driver = world.driver()
    world.advance(60.0)
    assert states(driver) == {node.id.hex(): "ALIVE"}
    world.advance_silently(8.9)
    assert states(driver) == {node.id.hex(): "ALIVE"}
    world.advance_silently(2.2)
    assert states(driver) == {}
    assert any("lease ran out" in report.text for report in world.reports)


def test_a_broker_that_did_not_run_itself_gives_every_node_a_new_lease(world):
    world.node(1)
    driver = world.driver()
    world.advance(5.0)
    world.stand_still(60.0)
    assert states(driver)
    assert any("did not run for 59.0 s" in report.text for report in world.reports)
    world.advance_silently(10.9)
    assert states(driver)
    world.advance_silently(0.2)
    assert states(driver) == {}


def test_a_broker_that_is_a_little_late_takes_silence_for_what_it_is(world):
    world.node(1)
    driver = world.driver()
    world.advance_silently(10.9)
    world.stand_still(1.0)
    assert states(driver) == {}


def test_a_driver_may_come_back_to_a_broker_that_did_not_run(world):
    world.node(1)
    driver = world.driver()
    world.lose(driver.process)
    world.stand_still(60.0)
    assert len(driver.get(m.Query, "jobs", {"filters": [["status", "=", "RUNNING"]]})) == 1
    world.lose(driver.process)
    world.advance(10.1)
    other = world.driver()
    assert len(other.get(m.Query, "jobs", {"filters": [["status", "=", "RUNNING"]]})) == 1


def test_a_broker_without_nodes_does_not_look_at_the_clock(world):
    driver = world.driver()
    world.advance(30.0)
    assert world.machine.next_deadline() is None
    world.node(1)
    assert states(driver)
    assert world.machine.next_deadline() == world.now + 2.0


def test_a_node_that_was_declared_lost_has_to_attach_again(world):
    node = world.node(1)
    driver = world.driver()
    actor = driver.create(max_restarts=1)["id"]
    node.work()
    world.advance_silently(12.0)
    assert driver.entry(actor)["state"] == "RESTARTING"
    said = []
    node.take = said.append
    node.say(m.Renew(5, {}))
    assert said == [m.Answer(5, False, said[0].value)]
    assert said[0].value[0] == "NodeUnknown"
    del node.take
    node.attach()
    assert m.StopActor(actor, 1, False) in node.todo  # the old life is over for everybody else
    node.work()
    assert driver.entry(actor)["life"] == 2
    assert driver.entry(actor)["state"] == "ALIVE"


def test_nothing_is_placed_on_a_node_that_cannot_be_reached(world):
    node = world.node(1)
    driver = world.driver()
    world.lose(node.process)
    actor = driver.create()["id"]
    assert not node.todo
    node.say(m.Renew(world.number(), {}))  # refused: it attaches again
    assert driver.entry(actor)["state"] == "STARTING"


def test_what_a_node_still_runs_when_its_link_is_back_goes_on_and_the_rest_is_over(world):
    node = world.node(1, CPU=8)
    driver = world.driver()
    kept, died, lost_start = (driver.create(max_restarts=1)["id"] for _ in range(3))
    driver.demand(3, resources={"CPU": 1})
    node.work(2)
    node.todo.popleft()  # StartActor of the third never arrived
    node.work(2)
    node.todo.popleft()  # nor StartLease of the third
    held = [grant.lease for grant in driver.taken(m.LeaseGranted)]
    worker = next(w for w in node.workers.values() if died in w.actors)
    leased = next(w for w in node.workers.values() if w.lease == held[0])
    watcher = world.driver()
    watcher.get(m.WatchProcess, worker.process)
    world.lose(node.process)
    del node.workers[worker.process], node.workers[leased.process]  # died unheard
    node.attach()
    assert driver.entry(kept)["state"] == "ALIVE"
    entry = driver.entry(died)
    assert (entry["state"], entry["restarts"], entry["cause"]["kind"]) == (
        "RESTARTING",
        1,
        "node",
    )
    assert driver.entry(lost_start)["restarts"] == 0
    assert [lost.lease for lost in driver.taken(m.LeaseLost)] == [held[0]]
    assert [died.process for died in watcher.taken(m.ProcessDied)] == [worker.process]
    world.work()
    assert {driver.entry(a)["state"] for a in (kept, died, lost_start)} == {"ALIVE"}
    assert len(driver.taken(m.LeaseGranted)) == 2


def test_an_up_that_was_lost_with_the_link_is_read_from_what_the_node_says(world):
    node = world.node(1, CPU=4)
    driver = world.driver()
    actor = driver.create()["id"]
    driver.demand(1)
    say, node.say = node.say, lambda message: None
    node.work()
    node.say = say
    world.lose(node.process)
    node.attach()
    assert driver.entry(actor)["state"] == "ALIVE"
    assert len(driver.taken(m.LeaseGranted)) == 1


def test_a_kill_that_was_lost_with_the_link_is_said_again(world):
    node = world.node(1)
    driver = world.driver()
    actor = driver.create()["id"]
    node.work()
    world.lose(node.process)
    driver.get(m.KillActor, actor, True)
    node.todo.clear()
    node.attach()
    assert list(node.todo) == [m.StopActor(actor, 1, False)]


def test_a_drained_node_takes_nothing_more_and_ends_when_it_is_empty(world):
    first, second = world.node(1), world.node(2)
    driver = world.driver()
    actor = driver.create()["id"]
    first.work()
    assert driver.get(m.DrainNode, first.id) is True
    assert driver.get(m.DrainNode, b"unknown") is False
    assert states(driver)[first.id.hex()] == "DRAINING"
    assert driver.create()["node"] == second.id
    assert first.stopped == ""
    driver.get(m.KillActor, actor, True)
    first.work()
    assert first.stopped == "drained"
    assert states(driver) == {second.id.hex(): "ALIVE"}


def test_the_oldest_node_of_a_drivers_machine_is_its_home_and_watches_its_pid(world):
    world.node(1, machine=b"m2")
    home = world.node(2, machine=b"m1")
    said = []
    home.take = said.append
    driver = world.client()
    answer = driver.get(m.Attach, "driver", list(address_of(driver.process)), "", {"pid": 42})
    assert answer["node"] == home.id
    assert said == [m.WatchDriver(driver.process, 42)]


def test_a_driver_finds_a_home_when_one_comes_and_another_when_it_goes(world):
    driver = world.client()
    answer = driver.get(m.Attach, "driver", list(address_of(driver.process)), "", {"pid": 42})
    assert answer["node"] == b""
    leases = world.machine._cluster.leases
    first = world.node(1, machine=b"m2")
    assert leases.home_of(driver.process) == first.id
    second = world.node(2, machine=b"m1")
    assert leases.home_of(driver.process) == second.id
    second.stopped = "dead"
    second.say(m.ProcessDied(second.process, {"kind": "exit"}))
    assert leases.home_of(driver.process) == first.id


@pytest.mark.parametrize(
    "entry",
    [
        {"id": "x"}, {"address": []}, {"address": [1, 2, 3, 4, 5]}, {"resources": {"CPU": "many"}},
        {"address": list(address_of(pid_of("else", 1)))}, {"labels": 5},
    ],
)  # fmt: skip
def test_a_node_that_makes_no_sense_is_refused(world, entry):
    client = world.client(pid_of("nprc", 9))
    good = {
        "id": pid_of("node", 9),
        "address": list(address_of(client.process)),
        "resources": {},
    }
    assert client.refusal(m.NodeUp, {**good, **entry}, []) == "BadRequest"


def test_rows_that_make_no_sense_are_passed_over(world):
    node = world.node(1)
    rows = [
        5, {"lease": "x"}, {"process": b"p", "address": [1]}, {"pid": "x"}, {"shape": 5},
        {"actors": [[1, 2, 3, 4]]}, {"actors": [[b"a"]]}, {"lease": 5, "shape": {}}, {"process": 7},
    ]  # fmt: skip
    node.say(m.NodeUp(77, node.entry(), rows))
    assert m.EndLease(5, False) in node.todo


def test_who_is_no_member_is_not_listened_to(world):
    driver = world.driver()
    node = world.node(1)
    actor = driver.create()["id"]
    stranger = world.client()
    address = list(address_of(stranger.process))
    for message in (
        m.ActorUp(actor, 1, address, 1), m.ActorReady(actor, 1, ""), m.ActorFailed(actor, 1, ["constructor"]),
        m.ActorExited(actor, 1, {}, []), m.WorkerLeased(1, address, 1), m.LeaseFailed(1, []),
        m.WorkerDied(driver.process, [], 0, {}, []), m.ProcessDied(driver.process, {}), m.ProcessDied(node.process, {}),
    ):  # fmt: skip
        stranger.say(message)
    assert driver.entry(actor)["state"] == "STARTING"
    assert stranger.refusal(m.Renew, {}) == "NodeUnknown"


def test_the_end_of_a_node_on_the_brokers_machine_is_seen_at_once():
    world = World(machine=b"m1", process=pid_of("nprc", 3))
    node = world.node(1, machine=b"m1")
    world.node(2, machine=b"m2")
    world.node(3, machine=b"m1")  # the broker's own process
    driver = world.driver()
    actor = driver.create()["id"]
    node.work()
    assert world.watched == [Watch(node.process, 1)]
    node.stopped = "dead"
    world.machine.process_ended(node.process, world.now)
    world.deliver()
    assert driver.entry(actor)["cause"]["kind"] == "node"


def test_nodes_of_another_machine_watch_each_other(world):
    first = world.node(1, machine=b"m2")
    said = {first.process: [], pid_of("nprc", 2): []}
    first.take = said[first.process].append
    second = FakeNode(world, 2, b"m2", CPU=1)
    world.nodes[second.process] = second
    second.take = said[second.process].append
    second.attach()
    assert m.WatchDriver(second.process, 1) in said[first.process]
    assert m.WatchDriver(first.process, 1) in said[second.process]
    second.stopped = "dead"
    first.say(m.ProcessDied(second.process, {"kind": "signal", "code": 9, "text": "killed"}))
    assert len(states(world.driver())) == 1
