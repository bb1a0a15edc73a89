"""The broker machine as a whole: its door, its answers, its state."""

from __future__ import annotations

import pytest

from tests.core.broker_world import CountingIds, World, address_of, pid_of
from zactor.core.broker import BrokerMachine, Report
from zactor.core.broker_config import BrokerConfig
from zactor.core.state import Change, MemoryState, StaleError
from zactor.store.state import SqliteState
from zactor.wire import messages as m


@pytest.fixture
def world():
    return World()


# -- at the door


def test_what_is_not_for_a_broker_is_reported_and_dropped(world):
    driver = world.driver()
    driver.say(m.SessionLost("you"))
    driver.say("nonsense")
    assert driver.refusal(m.ReserveSegment, 5) == "BadRequest"
    assert world.machine.stats().refused == 3
    assert sum("not for a broker" in report.text for report in world.reports) == 3


@pytest.mark.parametrize("kind", m.CODES.values(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("value", [None, 5, b"x", "x", [], {}, [[[]]], {"id": []}, True])
def test_no_field_of_any_message_makes_it_raise(world, kind, value):
    driver = world.driver()
    node = world.node(1)
    message = kind(*[value] * len(kind._fields))
    driver.say(message)
    node.say(message)
    fitting = {
        "int": 1, "str": "x", "bytes": b"x", "bool": True, "dict[str, Any]": {"id": value},
        "list[Any]": [value], "str | None": None, "bytes | None": None, "Any": value,
    }  # fmt: skip
    types = (str(getattr(a, "__forward_arg__", a)) for a in kind.__annotations__.values())
    message = kind(*(fitting[t] for t in types))
    driver.say(message)
    node.say(message)


def test_a_repeated_request_that_changes_something_is_answered_the_same(world):
    world.node(1)
    driver = world.driver()
    actor = driver.create()["id"]
    request = m.KillActor(77, actor, True)
    driver.say(request)
    driver.say(request)
    world.work()
    driver.say(request)
    assert driver.taken(m.Answer) == [m.Answer(77, True, True)] * 3


def test_answers_kept_are_bounded():
    world = World(max_answers=3)
    driver = world.driver()
    for _ in range(10):
        driver.get(m.KillActor, b"nobody", True)
    assert len(world.machine._answers) == 3


def test_processes_listened_to_are_bounded():
    world = World(max_clients=1)
    clients = [world.client() for _ in range(6)]
    for client in clients:
        client.say(m.ListNames(1, None))
    assert [len(client.inbox) for client in clients] == [1, 1, 1, 1, 0, 0]
    world.lose(clients[0].process)
    clients[5].say(m.ListNames(2, None))
    assert len(clients[5].inbox) == 1


def test_actors_drivers_and_groups_are_bounded():
    world = World(max_actors=1, max_clients=2, max_groups=0)
    world.node(1)
    driver = world.driver()
    driver.create()
    assert driver.refusal(m.CreateActor, driver.spec()) == "TooMany"
    spec = {"id": b"g", "job": driver.job, "owner": driver.process, "bundles": [{"CPU": 1}]}
    assert driver.refusal(m.CreateGroup, spec) == "TooMany"
    world.driver()
    third = world.client()
    assert (
        third.refusal(m.Attach, "driver", list(address_of(third.process)), "", {}) == "TooMany"
    )


def test_dead_actors_and_processes_are_forgotten_above_a_bound():
    world = World(max_dead_actors=2, max_dead_processes=2, max_dead_jobs=1)
    node = world.node(1)
    driver = world.driver()
    for _ in range(5):
        actor = driver.create()["id"]
        node.work()
        driver.get(m.KillActor, actor, True)
        node.work()
    assert world.machine.stats().actors["DEAD"] == 2
    assert len(world.machine._cluster.processes.dead) == 2
    for _ in range(3):
        world.driver().get(m.Detach)
    assert len(driver.get(m.Query, "jobs", {})) == 2


def test_a_broken_invariant_tells_the_story(world):
    driver = world.driver()
    world.node(1)
    actor = driver.create()["id"]
    world.machine._cluster.directory.names["n", "ghost"] = actor
    with pytest.raises(AssertionError, match="CreateActor from"):
        world.machine.check()


def test_stats_count(world):
    world.node(1)
    driver = world.driver()
    driver.create()
    stats = world.machine.stats()
    assert (stats.term, stats.nodes, stats.jobs, stats.actors["STARTING"]) == (1, 1, 1, 1)
    assert stats.messages == 3


# -- questions


def test_queries_show_what_there_is(world):
    node = world.node(1, CPU=4)
    driver = world.driver(namespace="n")
    alive = driver.create(name="a", class_name="A", running={"CPU": 1})["id"]
    node.work()
    dead = driver.create(class_name="B")["id"]
    driver.get(m.KillActor, dead, True)
    node.work()
    driver.demand(1)
    driver.create(running={"fpga": 1})
    rows = driver.get(m.Query, "actors", {})
    assert [row["state"] for row in rows] == ["ALIVE", "DEAD", "PENDING_CREATION"]
    assert rows[0]["required_resources"] == {"CPU": 1.0}
    ask = driver.get
    assert [
        r["class_name"] for r in ask(m.Query, "actors", {"filters": [["state", "=", "DEAD"]]})
    ] == ["B"]
    assert len(ask(m.Query, "actors", {"filters": [["state", "!=", "DEAD"]], "limit": 1})) == 1
    assert ask(m.Query, "actors", {"id": alive})[0]["name"] == "a"
    assert ask(m.Query, "actors", {"id": b"nobody"}) == []
    assert ask(m.Query, "groups", {"id": b"nobody"}) == []
    assert ask(m.Query, "nodes", {"id": node.id})[0]["resources_total"] == {"CPU": 4.0}
    assert ask(m.Query, "nodes", {"id": b"nobody"}) == []
    kinds = [row["worker_type"] for row in ask(m.Query, "workers", {})]
    assert kinds == ["NODE", "DRIVER", "WORKER"]
    assert ask(m.Query, "names", {}) == [
        {"namespace": "n", "name": "a", "actor_id": alive.hex()}
    ]
    resources = ask(m.Query, "resources", {})
    assert resources["waiting"][0]["resources"] == {"fpga": 1.0}
    assert resources["available"] == {"CPU": 2.0}
    world.machine.show_links(lambda: {"strangers": 2})
    status = ask(m.Query, "status", {})
    assert status["links"] == {"strangers": 2}
    assert status["actors"] == {
        "PENDING": 1,
        "STARTING": 0,
        "ALIVE": 1,
        "RESTARTING": 0,
        "DEAD": 1,
    }


@pytest.mark.parametrize(
    ("what", "args"),
    [
        ("secrets", {}), ("actors", {"limit": "all"}), ("actors", {"filters": 5}), ("nodes", {"filters": [1]}),
        ("nodes", {"filters": [["state", "~", "x"]]}), ("actors", {"id": []}),
    ],
)  # fmt: skip
def test_senseless_questions_are_refused(world, what, args):
    world.node(1)
    assert world.driver().refusal(m.Query, what, args) == "BadRequest"


# -- killed and started again


@pytest.fixture(params=["memory", "sqlite"])
def lasting(request, tmp_path):
    """A world whose broker can be killed; `restart` opens what it left."""
    if request.param == "memory":
        yield World()
        return
    world = World(state=SqliteState(tmp_path / "state"))
    restart = world.restart

    def reopen():
        world.state.close()
        world.state = SqliteState(tmp_path / "state")
        restart()

    world.restart = reopen
    yield world
    world.state.close()


def test_a_broker_that_was_killed_goes_on_where_it_was(lasting):
    world = lasting
    node = world.node(1, CPU=4, GPU=1)
    driver = world.driver(namespace="n")
    driver.say(m.Define(b"key", b"blob", driver.job))
    group = world.ids.new_id()
    spec = {
        "id": group,
        "job": driver.job,
        "owner": driver.process,
        "bundles": [{"CPU": 1}],
        "name": "g",
    }
    driver.get(m.CreateGroup, spec)
    named = driver.create(name="a", running={"GPU": 1})["id"]
    grouped = driver.create(group={"id": group, "bundle": 0}, running={"CPU": 1})["id"]
    dead = driver.create()["id"]
    driver.demand(2)
    node.work()
    leases = [grant.lease for grant in driver.taken(m.LeaseGranted)]
    driver.get(m.KillActor, dead, True)
    node.work()
    waiting = driver.create(running={"CPU": 4})["id"]

    world.restart()
    driver.inbox.clear()
    assert driver.entry(named)["state"] == "ALIVE"
    node.attach()
    # Told again of what it holds: it may have returned it, or never have heard of the grant.
    assert sorted(grant.lease for grant in driver.taken(m.LeaseGranted)) == sorted(leases)
    job = driver.job
    assert driver.attach().job == job
    assert driver.get(m.FindActor, "a", "n")["id"] == named
    assert {driver.entry(a)["state"] for a in (named, grouped)} == {"ALIVE"}
    assert driver.entry(dead)["state"] == "DEAD"
    assert driver.entry(waiting)["state"] == "PENDING"
    assert driver.get(m.WatchGroup, group)["state"] == "CREATED"
    assert driver.get(m.FetchDefinition, b"key") == b"blob"
    assert driver.get(m.Query, "resources", {})["available"] == {"CPU": 1.0, "GPU": 0.0}
    driver.demand(0)
    for lease in leases:
        driver.say(m.ReturnLease(lease, True))
    driver.get(m.KillActor, grouped, True)
    driver.get(m.RemoveGroup, group)
    world.advance(20.0)
    node.work()
    assert driver.entry(waiting)["state"] == "ALIVE"
    driver.demand(1, resources={})
    node.work()
    (grant,) = driver.taken(m.LeaseGranted)
    assert grant.lease > max(leases)  # L3
    assert driver.get(m.Query, "status", {})["term"] == 2


def test_who_does_not_come_back_after_a_broker_restart_is_gone(lasting):
    world = lasting
    node, other = world.node(1, CPU=2), world.node(2, CPU=2)
    driver, second = world.driver(), world.driver()
    here = {"strategy": {"kind": "node", "node": node.id, "soft": True}}
    mine = driver.create(max_restarts=1, **here)["id"]
    theirs = second.create(lifetime="detached", max_restarts=1, **here)["id"]
    parent = driver.create(
        strategy={"kind": "node", "node": other.id, "soft": False}, lifetime="detached"
    )["id"]
    world.work()
    (worker,) = other.workers.values()
    child = world.in_worker(worker, driver.job).create(running={"fpga": 1})["id"]
    world.restart()
    del other.workers[worker.process]
    other.attach()
    second.attach()
    node.stopped = "dead"
    world.advance(20.0)
    world.work()
    assert second.entry(mine)["cause"]["kind"] == "job"
    assert second.entry(parent)["cause"]["kind"] == "node"
    assert second.entry(child)["cause"]["kind"] == "owner"
    entry = second.entry(theirs)
    assert (entry["state"], entry["node"]) == ("ALIVE", other.id)


def test_what_was_ending_or_between_two_lives_goes_on_too(lasting):
    world = lasting
    node = world.node(1, CPU=4)
    driver = world.driver()
    ending, between = driver.create()["id"], driver.create(max_restarts=-1)["id"]
    node.work()
    for _ in range(2):
        node.kill(next(w for w in node.workers.values() if between in w.actors))
        node.work()
    assert driver.entry(between)["state"] == "RESTARTING"
    driver.get(m.KillActor, ending, True)
    node.todo.clear()
    world.restart()
    node.attach()
    driver.attach()
    assert m.StopActor(ending, 1, False) in node.todo
    world.advance(5.0)
    world.work()
    assert driver.entry(ending)["state"] == "DEAD"
    assert driver.entry(between)["state"] == "ALIVE"


def test_a_worker_watched_across_a_restart_is_known_dead_if_it_does_not_come_back(lasting):
    world = lasting
    node = world.node(1)
    driver = world.driver()
    driver.create()
    node.work()
    (worker,) = node.workers.values()
    world.restart()
    assert driver.get(m.WatchProcess, worker.process) is None
    assert driver.get(m.WatchProcess, b"another one ") is None
    node.attach()
    driver.attach()
    world.advance(20.0)
    assert [died.process for died in driver.taken(m.ProcessDied)] == [b"another one "]


def test_a_draining_node_is_still_draining_after_a_restart(lasting):
    world = lasting
    node = world.node(1)
    driver = world.driver()
    driver.create()
    node.work()
    driver.get(m.DrainNode, node.id)
    world.restart()
    node.attach()
    assert driver.create()["state"] == "PENDING"


def test_a_broker_that_was_replaced_ends(world):  # S2
    driver = world.driver()
    world.state.transact([Change(b"meta/term", 2)])
    world.machine.receive(driver.process, address_of(driver.process), m.Detach(5), world.now)
    with pytest.raises(StaleError):
        world.machine.drain()


def test_the_first_event_starts_a_machine_that_nobody_started():
    machine = BrokerMachine(MemoryState(), CountingIds(), BrokerConfig())
    assert machine.next_deadline() is None
    machine.lost(b"nobody", 1.0)
    machine.tick(2.0)
    assert machine.stats().term == 1
    assert machine.drain() == []
    assert m.Query in machine.message_types
    machine.close()


def test_reports_name_level_and_text(world):
    world.node(1)
    assert Report("info", f"node {pid_of('node', 1).hex()[:12]} joined") in world.reports


def test_what_the_directory_holds_answers_a_repeated_creation(world):
    world.node(1)
    driver = world.driver()
    spec = driver.spec()
    kept = len(world.machine._answers)
    for _ in range(3):
        driver.say(m.CreateActor(77, spec))
    world.work()
    driver.say(m.CreateActor(77, spec))
    answers = driver.taken(m.Answer)
    assert [answer.value["id"] for answer in answers] == [spec["id"]] * 4
    assert answers[-1].value["state"] == "ALIVE"
    assert len(world.machine._answers) == kept


def test_a_refused_creation_is_answered_the_same_though_the_name_is_free_by_then(world):
    world.node(1)
    driver = world.driver()
    holder = driver.create(name="taken")["id"]
    request = m.CreateActor(77, driver.spec(name="taken"))
    driver.say(request)
    driver.get(m.KillActor, holder, True)
    driver.say(request)
    first, second = (each for each in driver.taken(m.Answer) if each.request == 77)
    assert first == second
    assert first.value[0] == "NameTaken"


def test_watchers_of_an_actor_come_and_go_one_by_one(world):
    world.node(1)
    creator = world.driver()
    actor = creator.create()["id"]
    found = world.machine._cluster.directory.actors[actor]
    others = [world.driver() for _ in range(3)]
    for other in others:
        other.get(m.WatchActor, actor, False)
        other.get(m.WatchActor, actor, False)
    assert list(found.watchers) == [creator.process, *(each.process for each in others)]
    others[1].say(m.UnwatchActor(actor))
    others[1].say(m.UnwatchActor(actor))
    world.lose(others[2].process)
    world.machine.check()
    assert others[1].process not in found.watchers
    creator.say(m.UnwatchActor(actor))
    others[0].say(m.UnwatchActor(actor))
    assert not [each for each in found.watchers if each != others[2].process]
    world.machine.check()
