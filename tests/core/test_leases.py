"""Leased workers for tasks."""

from __future__ import annotations

import pytest

from tests.core.broker_world import World, pid_of
from zactor.wire import messages as m


@pytest.fixture
def world():
    return World()


@pytest.fixture
def node(world):
    return world.node(1, CPU=2)


@pytest.fixture
def driver(world, node):
    return world.driver()


def granted(client):
    return [g.lease for g in client.taken(m.LeaseGranted)]


def free(client):
    return client.get(m.Query, "resources", {})["available"].get("CPU")


def worker_of(node, lease):
    return next(worker for worker in node.workers.values() if worker.lease == lease)


def test_a_demand_is_granted_as_far_as_resources_allow(node, driver):
    driver.demand(5)
    assert [task.shape["assigned"] for task in node.todo] == [{"CPU": 1.0}] * 2
    assert granted(driver) == []
    node.work()
    grants = driver.taken(m.LeaseGranted)
    assert [g.key for g in grants] == [b"d", b"d"]
    assert grants[0].address == list(worker_of(node, grants[0].lease).address)
    assert free(driver) == 0.0


def test_a_returned_lease_goes_to_whoever_waits_and_the_worker_is_used_again(
    world, node, driver
):
    driver.demand(2)
    node.work()
    first, second = granted(driver)
    other = world.driver()
    other.demand(1)
    driver.demand(1)
    driver.say(m.ReturnLease(first, True))
    driver.say(m.ReturnLease(first, True))
    node.work()
    assert len(granted(other)) == 1
    assert len(node.workers) == 2
    other.say(m.ReturnLease(second, True))  # not its own
    assert free(other) == 0.0


def test_a_lease_returned_while_the_demand_stands_is_asked_for_again(node, driver):
    driver.demand(1)
    node.work()
    (lease,) = granted(driver)
    driver.say(m.ReturnLease(lease, False))
    node.work()
    (again,) = granted(driver)
    assert again > lease
    assert len(node.workers) == 1  # the first was stopped


def test_a_grant_that_comes_too_late_goes_back_unused(node, driver):
    driver.demand(2)
    driver.demand(0)
    node.work()
    assert granted(driver) == []
    assert free(driver) == 2.0
    assert len(node.idle) == 2


def test_a_demand_that_is_over_leaves_nothing(world, node, driver):
    driver.demand(0)
    driver.demand(1)
    driver.demand(0)
    node.work()
    assert world.machine._cluster.leases.parties == {}
    assert len(world.machine._cluster.waiting.lines) == 0


def test_a_worker_that_dies_takes_its_lease_with_it(node, driver):
    driver.demand(1)
    node.work()
    (lease,) = granted(driver)
    rows = [[driver.process + b"\0\0\0\0", 0, 3, 2], [b"else" * 4, 0, 1, 1]]
    node.kill(worker_of(node, lease), "oom", rows)
    (lost,) = driver.taken(m.LeaseLost)
    assert (lost.lease, lost.cause["kind"], lost.progress) == (lease, "oom", rows[:1])
    node.work()
    assert len(granted(driver)) == 1  # the demand stands


def test_a_client_that_dies_gives_everything_up(world, node, driver):
    actor = driver.create()["id"]
    node.work()
    worker = next(iter(node.workers.values()))
    inside = world.in_worker(worker, driver.job)
    inside.demand(2)
    node.work()
    assert len(granted(inside)) == 2
    assert driver.entry(actor)["state"] == "ALIVE"
    node.kill(worker)
    assert [task for task in node.todo if isinstance(task, m.EndLease)] == [
        m.EndLease(task.lease, False) for task in node.todo
    ]
    assert free(driver) == 2.0
    node.work()
    assert node.workers == {}


def test_a_worker_that_its_client_never_heard_of_is_used_again(world, node, driver):
    other = world.driver()
    other.demand(1)
    other.get(m.Detach)
    node.work()
    assert len(node.idle) == 1


def test_a_blocked_worker_lends_its_cpus_and_takes_them_back_below_zero(world, node, driver):
    driver.demand(2)
    node.work()
    parents = [world.in_worker(w, driver.job) for w in node.workers.values()]
    for parent in parents:
        parent.say(m.Blocked(True))
        parent.demand(1, resources={"CPU": 1})
    node.work()
    assert [len(granted(parent)) for parent in parents] == [1, 1]
    for parent in parents:
        parent.say(m.Blocked(False))
    world.driver().demand(1)
    node.work()
    available = world.machine._cluster.membership.nodes[node.id].pool.available
    assert available["CPU"] == -20_000
    assert free(driver) == 0.0


def test_a_blocked_worker_that_dies_gives_back_once(world, node, driver):
    driver.demand(1)
    node.work()
    worker = next(iter(node.workers.values()))
    world.in_worker(worker, driver.job).say(m.Blocked(True))
    driver.demand(0)
    node.kill(worker)
    assert free(driver) == 2.0


def test_workers_that_fail_to_start_are_tried_elsewhere_and_in_the_end_refused():
    world = World(spawn_attempts=3)
    nodes = [world.node(1, CPU=1), world.node(2, CPU=1)]
    driver = world.driver()
    driver.demand(1)
    tried = []
    for _ in range(3):
        world.advance(1.0)
        (node,) = [n for n in nodes if n.todo]
        tried.append(node)
        node.say(m.LeaseFailed(node.todo.popleft().lease, ["spawn", "fork failed", {}]))
    assert tried[:2] == nodes
    (failed,) = driver.taken(m.DemandFailed)
    assert (failed.final, failed.error[1]) == (True, "fork failed")
    world.advance(10.0)
    assert not any(n.todo for n in nodes)


def crash(node, driver, *, rows=()):
    """Have the worker of the next lease come up, and die."""
    node.work()
    (lease,) = granted(driver)
    node.kill(worker_of(node, lease), "exit", rows)


def test_workers_that_die_before_a_task_began_come_back_later_and_later_and_not_for_ever():
    world = World(spawn_attempts=5, restart_step=0.1, restart_pause=1.0)
    node, driver = world.node(1, CPU=1), world.driver()
    driver.demand(1)
    pauses = []
    for _ in range(5):
        began = world.now
        while not node.todo:
            world.advance(0.05)
        pauses.append(world.now - began)
        crash(node, driver)
        world.advance(0.001)
    assert pauses == pytest.approx([0.0, 0.0, 0.1, 0.2, 0.4], abs=0.06)
    lost, failed = driver.taken(m.LeaseLost), driver.taken(m.DemandFailed)
    assert len(lost) == 5
    assert [(each.final, each.error[0]) for each in failed] == [(True, "WorkerCrashedError")]
    assert failed[0].error[2] == {"executed": "no"}
    assert "5 workers" in failed[0].error[1]
    world.advance(60.0)
    assert not node.todo


def test_workers_that_ran_something_are_replaced_at_once_and_for_ever():
    world = World(spawn_attempts=3)
    node, driver = world.node(1, CPU=1), world.driver()
    driver.demand(1)
    for _ in range(10):
        crash(node, driver)
        crash(node, driver, rows=[[driver.process + b"\0\0\0\0", 0, 1, 0]])
    assert driver.taken(m.DemandFailed) == []


def test_workers_that_died_together_count_as_one():
    world = World(spawn_attempts=3)
    node, driver = world.node(1, CPU=4), world.driver()
    driver.demand(4)
    node.work()
    for lease in granted(driver):
        node.kill(worker_of(node, lease), "exit", [])
    assert driver.taken(m.DemandFailed) == []
    node.work()
    assert len(granted(driver)) == 4


def test_a_demand_with_other_workers_is_not_failed_for_those_that_die():
    world = World(spawn_attempts=2)
    node, driver = world.node(1, CPU=2), world.driver()
    driver.demand(1)
    node.work()
    granted(driver)
    driver.demand(2)
    for _ in range(4):
        while not node.todo:
            world.advance(0.1)
        crash(node, driver)
    assert driver.taken(m.DemandFailed) == []


def test_deaths_long_ago_do_not_count():
    world = World(spawn_attempts=3, restart_window=5.0)
    node, driver = world.node(1, CPU=1), world.driver()
    driver.demand(1)
    for _ in range(6):
        while not node.todo:
            world.advance(0.1)
        crash(node, driver)
        world.advance(6.0)
    assert driver.taken(m.DemandFailed) == []


def test_an_environment_that_cannot_be_built_ends_the_demand(node, driver):
    driver.demand(2)
    for _ in range(2):
        node.say(m.LeaseFailed(node.todo.popleft().lease, ["environment", "no module", {}]))
    assert {f.error[0] for f in driver.taken(m.DemandFailed)} == {"environment"}
    assert not node.todo


def test_tasks_that_ask_for_nothing_do_not_get_workers_without_end(node, driver):
    driver.demand(1_000, resources={})
    node.work()
    assert len(granted(driver)) == 16


def test_a_lost_node_loses_its_leases(world, node, driver):
    driver.demand(2)
    node.work(1)
    (held,) = granted(driver)
    node.stopped = "dead"
    node.say(m.ProcessDied(node.process, {"kind": "signal"}))
    (lost,) = driver.taken(m.LeaseLost)  # the one that was starting was never told of
    assert (lost.lease, lost.cause["kind"]) == (held, "node")
    second = world.node(2, CPU=2)
    second.work()
    assert len(granted(driver)) == 2


def test_a_demand_that_makes_no_sense_is_refused(world, driver):
    driver.demand(1, resources={"CPU": "x"})
    assert driver.taken(m.DemandFailed)[0].error[0] == "BadRequest"


def test_demands_of_one_client_are_bounded():
    world = World(max_demands=2)
    world.node(1)
    driver = world.driver()
    for i in range(3):
        driver.demand(1, key=b"%d" % i, resources={"x": 1})
    assert [f.key for f in driver.taken(m.DemandFailed)] == [b"2"]


def test_words_about_unknown_leases_change_nothing(node, driver):
    node.say(m.WorkerLeased(77, list(node.new_worker().address), 1))
    assert list(node.todo) == [m.EndLease(77, True)]
    node.say(m.LeaseFailed(77, ["spawn", "", {}]))
    driver.say(m.ReturnLease(77, True))
    driver.say(m.Blocked(True))
    assert free(driver) == 2.0


# -- fair shares


def test_leases_are_called_back_for_who_has_none(world, node, driver):
    driver.demand(10)
    node.work()
    mine = granted(driver)
    world.advance(0.1)
    assert driver.taken(m.LeaseRecalled) == []  # nobody else waits
    other = world.driver()
    other.demand(10)
    world.advance(0.1)
    (recalled,) = driver.taken(m.LeaseRecalled)
    assert recalled.lease == mine[1]  # the newest
    world.advance(1.0)
    assert driver.taken(m.LeaseRecalled) == []  # one each is fair
    driver.say(m.ReturnLease(recalled.lease, True))
    node.work()
    assert len(granted(other)) == 1
    world.advance(1.0)
    assert driver.taken(m.LeaseRecalled) == other.taken(m.LeaseRecalled) == []


def test_two_clients_come_to_share_evenly():
    world = World()
    node = world.node(1, CPU=8)
    first, second = world.driver(), world.driver()
    first.demand(100)
    node.work()
    held = {first.process: granted(first), second.process: []}
    second.demand(100)
    for _ in range(20):
        world.advance(0.01)
        for client in (first, second):
            for recalled in client.taken(m.LeaseRecalled):
                held[client.process].remove(recalled.lease)
                client.say(m.ReturnLease(recalled.lease, True))
        node.work()
        for client in (first, second):
            held[client.process] += granted(client)
    assert sorted(len(leases) for leases in held.values()) == [4, 4]


def test_leases_are_called_back_for_an_actor_and_for_another_shape_of_the_same_client(
    world, node, driver
):
    driver.demand(2)
    node.work()
    mine = granted(driver)
    actor = driver.create(running={"CPU": 2})["id"]
    world.advance(0.1)
    assert sorted(r.lease for r in driver.taken(m.LeaseRecalled)) == mine
    driver.demand(0)
    for lease in mine:
        driver.say(m.ReturnLease(lease, True))
    node.work()
    driver.get(m.KillActor, actor, True)
    node.work()
    driver.demand(2)
    node.work()
    granted(driver)
    driver.demand(1, key=b"other", resources={"CPU": 2})
    world.advance(0.1)
    assert len(driver.taken(m.LeaseRecalled)) == 2


def test_nothing_is_called_back_in_vain(world, node, driver):
    driver.demand(2)
    node.work()
    granted(driver)
    driver.create(running={"CPU": 1, "fpga": 1})
    driver.create(running={"CPU": 3})
    world.advance(1.0)
    assert driver.taken(m.LeaseRecalled) == []


def test_nothing_is_called_back_where_it_would_free_nothing(world, node, driver):
    driver.create(running={"CPU": 1})
    driver.demand(1)
    node.work()
    worker_process = worker_of(node, granted(driver)[0])
    world.in_worker(worker_process, driver.job).say(m.Blocked(True))
    driver.create(running={"CPU": 1})
    driver.create(running={"CPU": 1})
    world.advance(1.0)
    assert driver.taken(m.LeaseRecalled) == []


def test_leases_in_a_group_are_called_back_for_others_of_the_group(world, node, driver):
    group = world.ids.new_id()
    spec = {"id": group, "job": driver.job, "owner": driver.process, "bundles": [{"CPU": 1}]}
    driver.get(m.CreateGroup, spec)
    inside = {"id": group, "bundle": 0}
    driver.demand(1, group=inside)
    node.work()
    (lease,) = granted(driver)
    driver.create(group=inside, running={"CPU": 1})
    world.advance(0.1)
    assert [r.lease for r in driver.taken(m.LeaseRecalled)] == [lease]


def test_the_list_of_leases_shows_who_holds_what(node, driver):
    driver.demand(1)
    node.work()
    (row,) = driver.get(m.Query, "leases", {})
    assert (row["client_id"], row["state"], row["resources"]) == (
        driver.process.hex(),
        "HELD",
        {"CPU": 1.0},
    )
    assert row["worker_id"] == pid_of("proc", 2).hex()


def test_what_an_absent_node_says_of_a_lease_does_not_end_it(world, node, driver):
    driver.demand(1)
    node.work()
    (lease,) = granted(driver)
    worker = worker_of(node, lease)
    world.restart()
    # Said to the broker before and not acknowledged: it comes before the node attaches.
    node.say(m.WorkerLeased(lease, list(worker.address), 7))
    assert not [each for each in node.todo if isinstance(each, m.EndLease)]
    node.attach()
    driver.attach()
    assert granted(driver) == [lease]
    assert worker.lease == lease


def test_a_lease_whose_end_was_lost_does_not_take_what_another_has_since(world, driver):
    node = world.node(9, b"m1", CPU=2, GPU=1)
    driver.demand(1, resources={"GPU": 1})  # the node has not begun with it
    group = world.ids.new_id()
    spec = {"id": group, "job": driver.job, "owner": driver.process, "bundles": [{"GPU": 1}]}
    driver.get(m.CreateGroup, spec)

    def everybody_attaches() -> None:
        world.restart()
        for each in world.nodes.values():
            each.attach()
        driver.attach()

    everybody_attaches()  # the lease is given back, and the group has the GPU
    node.work(1)  # the start of the lease; its end is still to come
    everybody_attaches()
    world.machine.check()
    node.work()
    world.machine.check()
    assert not [worker for worker in node.workers.values() if worker.lease]
