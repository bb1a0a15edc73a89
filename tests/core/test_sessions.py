"""Sessions of drivers, what jobs define, watches of processes."""

from __future__ import annotations

import pytest

from tests.core.broker_world import World, address_of
from zactor.core.state import ForgetfulState
from zactor.wire import messages as m


@pytest.fixture
def world():
    return World(driver_grace=10.0, unknown_grace=5.0)


def test_each_driver_has_a_job_and_a_namespace_of_its_own(world):
    first, second = world.driver(), world.driver()
    assert (first.job, second.job) == (b"\0\0\0\1", b"\0\0\0\2")
    namespaces = [job["namespace"] for job in first.get(m.Query, "jobs", {})]
    assert len(set(namespaces)) == 2
    assert world.driver(namespace="shop").job == b"\0\0\0\3"
    assert first.get(m.Query, "jobs", {})[2]["namespace"] == "shop"


def test_attaching_again_is_the_same_session(world):
    driver = world.driver()
    job = driver.job
    assert driver.attach().job == job


def test_a_tool_has_no_job_and_leaves_nothing(world):
    tool = world.client()
    session = tool.get(m.Attach, "tool", list(address_of(tool.process)), "", {})
    assert session["job"] == b""
    assert tool.get(m.Detach) is True
    other = world.client()
    other.get(m.Attach, "tool", list(address_of(other.process)), "n", {})
    world.lose(other.process)
    assert len(world.machine._cluster.journal.book) == 0


@pytest.mark.parametrize(
    ("role", "address"),
    [
        ("king", None),
        ("driver", []),
        ("driver", list(address_of(b"somebody els"))),
        ("driver", [1, 2, 3, 4, 5]),
    ],
)
def test_a_senseless_attach_is_refused(world, role, address):
    client = world.client()
    fields = list(address_of(client.process)) if address is None else address
    assert client.refusal(m.Attach, role, fields, "", {}) == "BadRequest"


def test_a_job_that_ends_takes_its_actors_with_it_but_not_detached_ones(world):
    node = world.node(1)
    driver, other = world.driver(), world.driver()
    mortal = driver.create(name="a", namespace="n")["id"]
    driver.create(name="b", namespace="n", lifetime="detached")
    node.work()
    other.get(m.WatchProcess, driver.process)
    assert driver.get(m.Detach) is True
    node.work()
    assert other.get(m.ListNames, "n") == [["n", "b"]]
    assert other.get(m.ListNames, None) == [["n", "b"]]
    assert other.entry(mortal)["cause"]["kind"] == "job"
    (died,) = other.taken(m.ProcessDied)
    assert (died.process, died.cause["kind"]) == (driver.process, "detached")
    assert [job["status"] for job in other.get(m.Query, "jobs", {})] == ["STOPPED", "RUNNING"]


@pytest.mark.parametrize(("drivers", "state"), [(1, "ALIVE"), (2, "DEAD")])
def test_the_last_driver_of_an_embedded_cluster_ends_all_of_it_by_itself(drivers, state):
    world = World(ForgetfulState())
    node = world.node(1)
    driver, *_ = [world.driver() for _ in range(drivers)]
    actor = driver.create()["id"]
    node.work()
    assert driver.get(m.Detach) is True
    node.work()
    assert world.machine._cluster.directory.actors[actor].state == state


def test_the_same_process_can_open_another_session(world):
    driver = world.driver()
    first = driver.job
    driver.get(m.Detach)
    assert driver.attach().job != first


def test_nothing_is_made_for_a_job_that_is_over(world):
    world.node(1)
    driver, other = world.driver(), world.driver()
    driver.get(m.Detach)
    assert other.refusal(m.CreateActor, other.spec(job=driver.job)) == "JobEnded"
    assert other.refusal(m.CreateActor, other.spec(job=b"none")) == "JobEnded"


def test_a_driver_whose_link_comes_back_in_time_goes_on(world):
    node = world.node(1)
    driver = world.driver()
    actor = driver.create()["id"]
    node.work()
    world.lose(driver.process)
    world.advance(9.0)
    world.lose(driver.process)  # told again: no longer grace
    assert driver.entry(actor)["state"] == "ALIVE"
    world.advance(20.0)
    assert driver.entry(actor)["state"] == "ALIVE"


def test_a_driver_that_was_declared_lost_is_told_if_it_lives(world):
    node = world.node(1)
    driver, other = world.driver(), world.driver()
    actor = driver.create()["id"]
    node.work()
    world.lose(driver.process)
    world.advance(11.0)
    node.work()
    assert other.entry(actor)["state"] == "DEAD"
    assert len(driver.taken(m.SessionLost)) == 1
    driver.say(m.FindActor(1, "n", ""))
    assert [type(message) for message in driver.inbox[-1:]] == [m.SessionLost]
    assert (
        driver.refusal(m.Attach, "driver", list(address_of(driver.process)), "", {})
        == "SessionLost"
    )


def test_a_driver_is_dead_when_its_node_says_so(world):
    node = world.node(1)
    driver, other = world.driver(), world.driver()
    actor = driver.create()["id"]
    other.get(m.WatchProcess, driver.process)
    node.say(m.ProcessDied(driver.process, {"kind": "signal", "code": 9, "text": "killed"}))
    assert other.taken(m.ProcessDied)[0].cause["code"] == 9
    node.work()
    assert other.entry(actor)["state"] == "DEAD"
    node.say(m.ProcessDied(driver.process, {"kind": "exit"}))  # twice is once
    assert other.taken(m.ProcessDied) == []


# -- definitions


def test_a_blob_is_there_for_all_as_long_as_a_job_that_defined_it(world):
    world.node(1)
    first, second, third = world.driver(), world.driver(), world.driver()
    for driver in (first, second, second):
        driver.say(m.Define(b"key", b"blob", driver.job))
    assert third.get(m.FetchDefinition, b"key") == b"blob"
    first.get(m.Detach)
    assert third.get(m.FetchDefinition, b"key") == b"blob"
    second.get(m.Detach)
    third.say(m.FetchDefinition(9, b"key"))
    world.advance(6.0)
    assert m.Answer(9, True, None) in third.inbox


def test_a_detached_actor_keeps_what_its_job_has_defined(world):
    node = world.node(1)
    driver, other = world.driver(), world.driver()
    driver.say(m.Define(b"key", b"blob", driver.job))
    actor = driver.create(lifetime="detached")["id"]
    node.work()
    driver.get(m.Detach)
    assert other.get(m.FetchDefinition, b"key") == b"blob"
    inside = world.in_worker(next(iter(node.workers.values())), driver.job)
    assert inside.create()["state"] == "STARTING"
    inside.say(m.Define(b"more", b"blob", driver.job))
    other.get(m.KillActor, actor, True)
    node.work()
    assert world.machine.stats().definitions == 0
    inside.say(m.Define(b"late", b"blob", driver.job))
    assert world.machine.stats().definitions == 0


def test_a_fetch_that_overtook_its_definition_waits_for_it(world):
    driver, worker = world.driver(), world.client()
    worker.say(m.FetchDefinition(1, b"key"))
    assert worker.inbox == []
    driver.say(m.Define(b"key", b"blob", driver.job))
    assert worker.inbox == [m.Answer(1, True, b"blob")]


def test_definitions_are_bounded():
    world = World(max_definitions=10, max_definition=8)
    driver = world.driver()
    for key, size in ((b"a", 9), (b"b", 8), (b"c", 3)):
        driver.say(m.Define(key, b"x" * size, driver.job))
    assert world.machine.stats().definitions == 8
    assert len([r for r in world.reports if "not kept" in r.text]) == 2


# -- watches


def test_a_watch_of_an_actor_that_is_not_known_yet_waits_for_it(world):
    world.node(1)
    driver, other = world.driver(), world.driver()
    spec = driver.spec()
    other.say(m.WatchActor(1, spec["id"], False))
    driver.get(m.CreateActor, spec)
    assert other.inbox[0].value["id"] == spec["id"]
    other.say(m.WatchActor(2, b"never", False))
    world.advance(6.0)
    assert other.inbox[-1].value[0] == "ActorHandleNotFound"


def test_parked_requests_are_bounded():
    world = World(max_parked=1)
    driver = world.driver()
    driver.say(m.WatchActor(1, b"x", False))
    assert driver.refusal(m.WatchActor, b"y", False) == "TooMany"


def test_a_process_nobody_has_heard_of_is_dead_after_a_while(world):
    node = world.node(1)
    driver = world.driver()
    worker = node.new_worker()
    for process in (worker.process, b"never heard "):
        assert driver.get(m.WatchProcess, process) is None
    driver.create()
    task = node.todo.popleft()
    node.say(m.ActorUp(task.actor, task.life, list(worker.address), 1))
    world.advance(6.0)
    assert [died.process for died in driver.taken(m.ProcessDied)] == [b"never heard "]
    assert driver.get(m.WatchProcess, b"never heard ")[1]["text"]
    node.say(m.WorkerDied(worker.process, [], 0, {"kind": "signal", "code": 11}, []))
    assert driver.taken(m.ProcessDied)[0].cause["code"] == 11
    assert driver.get(m.WatchProcess, worker.process)[0] == worker.process


def test_one_that_was_only_out_of_sight_is_heard_again(world):
    driver = world.driver()
    late = world.client()
    driver.get(m.WatchProcess, late.process)
    world.advance(6.0)
    assert late.get(m.ListNames, None) == []


def test_no_more_changes_after_unwatch(world):
    node = world.node(1)
    driver = world.driver()
    actor = driver.create()["id"]
    driver.say(m.UnwatchActor(actor))
    driver.say(m.UnwatchActor(b"unknown"))
    node.work()
    assert driver.taken(m.ActorChanged) == []
