"""The lives of actors, from `CreateActor` to DEAD."""

from __future__ import annotations

import pytest

from tests.core.broker_world import World, address_of, pid_of
from zactor.ids import caller_id
from zactor.wire import messages as m


@pytest.fixture
def world():
    return World(restart_step=0.1, spawn_attempts=3, stop_grace=30.0)


@pytest.fixture
def node(world):
    return world.node(1, CPU=4)


@pytest.fixture
def driver(world, node):
    return world.driver()


def changes(client):
    return [(c.entry["state"], c.entry["life"]) for c in client.taken(m.ActorChanged)]


def host(node, actor):
    return next(worker for worker in node.workers.values() if actor in worker.actors)


def test_an_actor_is_placed_started_up_and_ready(node, driver):
    entry = driver.create(running={"CPU": 1}, args={"payload": b"p"}, max_concurrency=3)
    assert (entry["state"], entry["life"], entry["epoch"], entry["node"]) == (
        "STARTING",
        1,
        1,
        node.id,
    )
    assert entry["address"] is None
    assert entry["max_concurrency"] == 3
    (task,) = node.todo
    assert (task.actor, task.life) == (entry["id"], 1)
    assert task.spec["args"] == {"payload": b"p"}
    assert (task.spec["restarts"], task.spec["assigned"], task.spec["epoch"]) == (
        0,
        {"CPU": 1.0},
        1,
    )
    node.work()
    up, ready = driver.taken(m.ActorChanged)
    assert up.entry["state"] == "STARTING"
    assert up.entry["address"] == list(host(node, entry["id"]).address)
    assert ready.entry["state"] == "ALIVE"
    assert entry["revision"] < up.entry["revision"] < ready.entry["revision"]


def test_creating_twice_is_the_same_as_once(node, driver):
    spec = driver.spec(name="n")
    first = driver.get(m.CreateActor, spec)
    again = driver.get(m.CreateActor, spec)
    assert first == again
    assert len(node.todo) == 1


def test_a_crash_without_restarts_is_death(node, driver):
    actor = driver.create()["id"]
    node.work()
    changes(driver)
    node.kill(host(node, actor))
    (change,) = driver.taken(m.ActorChanged)
    assert (change.entry["state"], change.entry["cause"]["kind"]) == ("DEAD", "signal")
    assert change.entry["address"] is None


def test_a_crash_with_restarts_is_another_life_with_a_new_place(world, node, driver):
    actor = driver.create(max_restarts=2, running={"CPU": 1})["id"]
    node.work()
    changes(driver)
    node.kill(host(node, actor))
    assert changes(driver)[0] == ("RESTARTING", 1)
    assert node.todo[0].spec["restarts"] == 1
    node.work()
    assert changes(driver)[-1] == ("ALIVE", 2)
    node.kill(host(node, actor))
    assert not node.todo  # the second restart waits
    world.advance(0.2)
    node.work()
    entry = driver.entry(actor)
    assert (entry["state"], entry["life"], entry["epoch"], entry["restarts"]) == (
        "ALIVE",
        3,
        3,
        2,
    )
    node.kill(host(node, actor))
    assert driver.entry(actor)["state"] == "DEAD"


def test_a_crash_before_the_first_constructor_returned_goes_back_to_waiting(node, driver):
    actor = driver.create(max_restarts=1)["id"]
    node.todo.clear()
    worker = node.new_worker()
    worker.actors[actor] = 1
    node.say(m.ActorUp(actor, 1, list(worker.address), 7))
    changes(driver)
    node.kill(worker)
    assert changes(driver)[0] == ("PENDING", 1)
    assert node.todo[0].spec["restarts"] == 1
    node.work()
    assert driver.entry(actor)["state"] == "ALIVE"
    node.kill(host(node, actor))
    assert driver.entry(actor)["state"] == "DEAD"  # that one was counted


def test_an_actor_that_ends_with_its_node_is_restarted(node, driver):
    actor = driver.create(max_restarts=1)["id"]
    node.work()
    cause = {"kind": "node", "text": "its node has stopped"}
    node.say(m.ActorExited(actor, 1, cause, []))
    assert (driver.entry(actor)["state"], driver.entry(actor)["cause"]) == (
        "RESTARTING",
        cause,
    )


def test_a_constructor_that_raises_is_never_tried_again(node, driver):
    actor = driver.create(max_restarts=-1)["id"]
    error = ["constructor", "ValueError: no", {"exception": b"pickle"}]
    node.say(m.ActorFailed(actor, 1, error))
    cause = driver.entry(actor)["cause"]
    assert cause == {"kind": "constructor", "text": "ValueError: no", "error": error}


def test_an_environment_that_cannot_be_built_is_death(node, driver):
    actor = driver.create(max_restarts=-1)["id"]
    node.say(m.ActorFailed(actor, 1, ["environment", "no such module", {}]))
    assert driver.entry(actor)["cause"]["kind"] == "environment"


def test_a_worker_that_cannot_be_started_is_tried_elsewhere_and_not_counted(
    world, node, driver
):
    other = world.node(2, CPU=4)
    actor = driver.create(max_restarts=0)["id"]
    node.todo.clear()
    node.say(m.ActorFailed(actor, 1, ["spawn", "fork failed", {}]))
    assert other.todo[0].life == 2
    other.todo.clear()
    other.say(m.ActorFailed(actor, 2, ["spawn", "fork failed", {}]))
    world.advance(0.2)
    entry = driver.entry(actor)
    assert (entry["state"], entry["restarts"], entry["life"]) == ("STARTING", 0, 3)
    world.nodes[pid_of("nprc", 1 if entry["node"] == node.id else 2)].say(
        m.ActorFailed(actor, 3, ["spawn", "fork failed", {}])
    )
    cause = driver.entry(actor)["cause"]
    assert (cause["kind"], cause["text"]) == ("spawn", "fork failed")


def test_an_actor_that_ends_itself_is_not_restarted(node, driver):
    actor = driver.create(max_restarts=-1)["id"]
    node.work()
    node.say(m.ActorExited(actor, 1, {"kind": "whatever", "text": "exit_actor"}, []))
    assert driver.entry(actor)["cause"] == {"kind": "exited", "text": "exit_actor"}


def test_the_name_is_free_before_the_node_hears_of_the_kill(world, node, driver):  # D1
    actor = driver.create(name="n")["id"]
    node.work()
    assert driver.get(m.FindActor, "n", "")["id"] == actor
    assert driver.get(m.KillActor, actor, True) is True
    assert driver.get(m.FindActor, "n", "") is None
    second = driver.create(name="n")
    assert second["state"] == "STARTING"
    entry = driver.entry(actor)
    assert (entry["state"], entry["ending"]["kind"]) == ("ALIVE", "killed")
    node.work()
    assert driver.entry(actor)["state"] == "DEAD"
    assert driver.get(m.KillActor, actor, True) is False
    assert driver.get(m.FindActor, "n", "")["id"] == second["id"]


def test_of_two_who_want_a_name_one_learns_that_it_is_taken(world, node, driver):
    driver.create(name="n", namespace="s")
    other = world.driver()
    assert other.refusal(m.CreateActor, other.spec(name="n", namespace="s")) == "NameTaken"
    assert other.create(name="n")["state"] == "STARTING"  # in its own namespace


def test_get_if_exists_is_one_step(world, node, driver):
    first = driver.create(name="n", namespace="s", get_if_exists=True)
    other = world.driver(namespace="s")
    second = other.create(name="n", get_if_exists=True)
    assert first["id"] == second["id"]
    node.work()
    assert changes(other)[-1] == ("ALIVE", 1)


def test_a_kill_that_allows_a_restart_is_a_crash(node, driver):
    actor = driver.create(max_restarts=1, name="n")["id"]
    node.work()
    driver.get(m.KillActor, actor, False)
    node.work()
    entry = driver.entry(actor)
    assert (entry["state"], entry["life"], entry["restarts"]) == ("ALIVE", 2, 1)
    assert driver.get(m.FindActor, "n", "")["id"] == actor


def test_a_kill_ends_an_actor_that_has_no_life_at_once(world, driver):
    actor = driver.create(running={"fpga": 1})["id"]
    driver.get(m.KillActor, actor, True)
    assert driver.entry(actor)["state"] == "DEAD"
    world.node(9, fpga=1, CPU=1)
    assert driver.entry(actor)["life"] == 0


def test_a_kill_between_two_lives_ends_the_actor(world, node, driver):
    actor = driver.create(max_restarts=-1)["id"]
    for _ in range(2):
        node.work()
        node.kill(host(node, actor))
    assert driver.entry(actor)["state"] == "RESTARTING"
    driver.get(m.KillActor, actor, True)
    world.advance(5.0)
    assert driver.entry(actor)["state"] == "DEAD"
    assert not node.todo


def test_the_last_handle_stops_an_actor_gracefully_and_a_kill_hurries_it(node, driver):
    actor = driver.create(max_restarts=-1)["id"]
    node.work()
    driver.say(m.ReleaseActor(actor))
    driver.say(m.ReleaseActor(actor))
    assert list(node.todo) == [m.StopActor(actor, 1, True)]
    driver.get(m.KillActor, actor, True)
    assert list(node.todo)[1:] == [m.StopActor(actor, 1, False)]
    node.work()
    assert driver.entry(actor)["cause"]["kind"] == "killed"


def test_a_detached_actor_is_not_released(node, driver):
    actor = driver.create(lifetime="detached")["id"]
    driver.say(m.ReleaseActor(actor))
    assert driver.entry(actor)["ending"] is None


def test_a_node_that_does_not_confirm_a_kill_is_not_waited_for_for_ever(world, node, driver):
    actor = driver.create()["id"]
    node.work()
    driver.get(m.KillActor, actor, True)
    world.advance(29.0)
    assert driver.entry(actor)["state"] == "ALIVE"
    world.advance(2.0)
    assert driver.entry(actor)["state"] == "DEAD"
    assert any("did not end" in report.text for report in world.reports)


def test_words_about_a_life_that_is_over_change_nothing(node, driver):  # A3
    actor = driver.create(max_restarts=1)["id"]
    node.work()
    worker = host(node, actor)
    node.kill(worker)
    before = driver.entry(actor)
    node.say(m.WorkerDied(worker.process, [[actor, 1]], 0, {"kind": "exit"}, []))
    node.say(m.ActorReady(actor, 1, ""))
    node.say(m.ActorFailed(actor, 1, ["constructor", "", {}]))
    node.say(m.ActorExited(actor, 1, {}, []))
    assert driver.entry(actor) == before
    node.say(m.ActorUp(actor, 1, list(address_of(pid_of("proc", 99), node.id)), 1))
    assert m.StopActor(actor, 1, False) in node.todo


def test_actors_die_with_their_owner_unless_detached(world, node, driver):  # K1
    parent = driver.create()["id"]
    node.work()
    inside = world.in_worker(host(node, parent), driver.job)
    child = inside.create()["id"]
    detached = inside.create(lifetime="detached")["id"]
    waiting = inside.create(running={"fpga": 1})["id"]
    node.work()
    node.kill(host(node, parent))
    node.work()
    assert driver.entry(child)["cause"]["kind"] == "owner"
    assert driver.entry(waiting)["cause"]["kind"] == "owner"
    assert driver.entry(detached)["state"] == "ALIVE"


def test_actors_die_with_the_life_that_created_them(node, driver):
    parent = driver.create(max_restarts=1)["id"]
    node.work()
    child = driver.create(owner_caller=caller_id(parent, 1))["id"]
    node.work()
    node.say(m.ActorExited(parent, 1, {"kind": "exited"}, []))
    node.work()
    assert driver.entry(child)["cause"]["kind"] == "owner"


def test_nothing_is_made_for_an_owner_that_is_dead(world, node, driver):
    parent = driver.create()["id"]
    node.work()
    worker = host(node, parent)
    node.kill(worker)
    assert driver.refusal(m.CreateActor, driver.spec(owner=worker.process)) == "ActorDied"
    assert driver.create(owner=worker.process, lifetime="detached")["state"] == "STARTING"


def test_a_lost_node_is_a_crash_of_all_that_ran_there(world, node, driver):
    other = world.node(2, CPU=4)
    strategy = {"kind": "node", "node": node.id, "soft": True}
    actor = driver.create(max_restarts=1, strategy=strategy)["id"]
    plain = driver.create(strategy=strategy)["id"]
    node.work()
    node.stopped = "dead"
    world.advance_silently(10.9)
    assert driver.entry(plain)["state"] == "ALIVE"
    other.say(m.Renew(world.number(), {}))
    world.advance_silently(0.2)
    assert driver.entry(plain)["cause"]["kind"] == "node"
    other.work()
    entry = driver.entry(actor)
    assert (entry["state"], entry["node"], entry["life"]) == ("ALIVE", other.id, 2)


def test_progress_goes_only_to_those_whose_it_is(world, node, driver):
    parent = driver.create()["id"]
    victim = driver.create()["id"]
    node.work()
    inside = world.in_worker(host(node, parent), driver.job)
    inside.entry(victim)
    bystander = world.driver()
    bystander.entry(victim)
    rows = [
        [caller_id(driver.process, 0), 0, 5, 4],
        [caller_id(parent, 1), 0, 7, 7],
        [caller_id(pid_of("else", 1), 0), 0, 1, 1],
        "garbage",
    ]
    for client in (driver, inside, bystander):
        changes(client)
    node.kill(host(node, victim), progress=rows)
    assert [c.taken(m.ActorChanged)[0].progress for c in (driver, inside, bystander)] == [
        rows[:1],
        rows[1:2],
        [],
    ]


def test_who_asks_from_another_machine_has_the_worker_bind_tcp(world, node, driver):
    actor = driver.create(max_restarts=1)["id"]
    node.work()
    said = []
    node.take = said.append
    driver.get(m.WatchActor, actor, True)
    driver.get(m.WatchActor, actor, True)
    assert said == [m.BindNetwork(actor, 1)]
    worker = host(node, actor)
    address = worker.address._replace(tcp="tcp://127.0.0.1:5")
    node.say(m.ActorUp(actor, 1, list(address), 7))
    assert driver.taken(m.ActorChanged)[-1].entry["address"] == list(address)
    del node.take
    node.kill(worker)
    assert node.todo[0].spec["network"] is True


def test_an_actor_that_waits_lends_its_cpus(world, node, driver):
    actor = driver.create(running={"CPU": 4})["id"]
    node.work()
    second = driver.create(running={"CPU": 4})["id"]
    assert driver.entry(second)["state"] == "PENDING"
    inside = world.in_worker(host(node, actor), driver.job)
    inside.say(m.Blocked(True))
    inside.say(m.Blocked(True))
    assert driver.entry(second)["state"] == "STARTING"
    inside.say(m.Blocked(False))
    assert driver.create(running={"CPU": 1})["state"] == "PENDING"
    driver.get(m.KillActor, second, True)
    node.work()
    driver.get(m.KillActor, actor, True)
    node.work()
    world.machine.check()


def test_an_actor_whose_constructor_lacks_an_argument_lends_all_but_gpus(world):
    node = world.node(1, CPU=2, GPU=1, one=1)
    driver = world.driver()
    actor = driver.create(running={"CPU": 1, "GPU": 1, "one": 1})["id"]
    node.work()
    inside = world.in_worker(host(node, actor), driver.job)
    available = {"CPU": 1.0, "GPU": 0.0, "one": 0.0}
    assert driver.get(m.Query, "resources", {})["available"] == available
    inside.say(m.Blocked(True))
    assert driver.get(m.Query, "resources", {})["available"] == available | {"CPU": 2.0}
    inside.say(m.Blocked(True, True))
    assert driver.get(m.Query, "resources", {})["available"] == {
        "CPU": 2.0,
        "GPU": 0.0,
        "one": 1.0,
    }
    world.machine.check()
    inside.say(m.Blocked(False))
    assert driver.get(m.Query, "resources", {})["available"] == available
    world.machine.check()


def test_a_blocked_actor_that_dies_gives_back_what_it_held_once(world, node, driver):
    actor = driver.create(running={"CPU": 2})["id"]
    node.work()
    world.in_worker(host(node, actor), driver.job).say(m.Blocked(True))
    node.kill(host(node, actor))
    assert driver.get(m.Query, "resources", {})["available"] == {"CPU": 4.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": b"short"}, {"id": 5}, {"job": "j"}, {"owner": None}, {"name": 7}, {"lifetime": "forever"},
        {"max_restarts": "1"}, {"running": {"CPU": -1}}, {"running": []}, {"strategy": "X"},
        {"owner_caller": b"x"}, {"group": []}, {"label_selector": {"a": 5}}, {"args": []},
    ],
)  # fmt: skip
def test_a_spec_that_makes_no_sense_is_refused(driver, wrong):
    assert driver.refusal(m.CreateActor, {**driver.spec(), **wrong}) == "BadRequest"


def test_a_spec_that_lacks_what_must_be_there_is_refused(driver):
    spec = driver.spec()
    del spec["class_key"]
    assert driver.refusal(m.CreateActor, spec) == "BadRequest"
