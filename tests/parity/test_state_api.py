"""The state API: what lives and what ran (2.10). On Ray it needs the dashboard's packages."""

import importlib
import time

from tests.parity.table import Table, wait_until

table = Table("2.10 State API")


def state(ray):
    return importlib.import_module(f"{ray.__name__}.util.state")


def make_actor(ray, **options):
    @ray.remote
    class Sparrow:
        def one(self):
            return 1

        def die(self):
            import os

            os._exit(1)

    actor = Sparrow.options(**options).remote()
    ray.get(actor.one.remote())
    return actor


@table.row("list_actors tells id, class, state and pid.", gives=["Sparrow", "ALIVE", True])
def actors_are_listed(ray):
    actor = make_actor(ray)
    [row] = state(ray).list_actors(filters=[("actor_id", "=", actor._actor_id.hex())])
    return [row["class_name"].rpartition(".")[2], row["state"], row["pid"] > 0]


@table.row("Rows are read by key and by attribute.", gives=True)
def rows_have_attributes(ray):
    actor = make_actor(ray)
    [row] = state(ray).list_actors(filters=[("actor_id", "=", actor._actor_id.hex())])
    return row.actor_id == row["actor_id"] == actor._actor_id.hex()


@table.row("list_actors: name and namespace.", gives=("state-named", "parity"))
def named_actors_are_listed(ray):
    actor = make_actor(ray, name="state-named")
    [row] = state(ray).list_actors(filters=[("name", "=", "state-named")])
    assert row["actor_id"] == actor._actor_id.hex()
    return row["name"], row["ray_namespace"]


@table.row("A killed actor is DEAD.", gives=True)
def a_killed_actor_is_dead(ray):
    actor = make_actor(ray)
    actor_id = actor._actor_id.hex()
    ray.kill(actor)
    return wait_until(lambda: state(ray).get_actor(actor_id)["state"] == "DEAD")


@table.row("An actor nobody can place is PENDING_CREATION.", gives=True)
def an_actor_that_waits(ray):
    @ray.remote(resources={"unobtainable": 1})
    class A:
        pass

    actor = A.remote()
    actor_id = actor._actor_id.hex()

    def waits():
        row = state(ray).get_actor(actor_id)
        return row is not None and row["state"] == "PENDING_CREATION"

    return wait_until(waits)


@table.row("get_actor of an unknown id: None.", gives=None)
def an_unknown_actor(ray):
    known = make_actor(ray)._actor_id.hex()
    return state(ray).get_actor("f" * len(known))


@table.row("Filters: = and !=.", gives=[1, True])
def filters(ray):
    actor = make_actor(ray)
    by_id = ("actor_id", "=", actor._actor_id.hex())
    others = state(ray).list_actors(filters=[("actor_id", "!=", actor._actor_id.hex())])
    ids = [row["actor_id"] for row in others]
    return [len(state(ray).list_actors(filters=[by_id])), actor._actor_id.hex() not in ids]


@table.row("An unknown operator of a filter: ValueError.", raises="ValueError")
def an_unknown_operator(ray):
    state(ray).list_actors(filters=[("actor_id", "~", "x")])


@table.row("limit bounds the rows.", gives=1)
def rows_are_bounded(ray):
    a, b = make_actor(ray), make_actor(ray)
    rows = state(ray).list_actors(limit=1)
    del a, b
    return len(rows)


@table.row("detail=True tells more: restarts, resources.", gives=[0, True])
def details_of_an_actor(ray):
    actor = make_actor(ray, num_cpus=1)
    by_id = [("actor_id", "=", actor._actor_id.hex())]
    [row] = state(ray).list_actors(filters=by_id, detail=True)
    return [int(row["num_restarts"]), row["required_resources"].get("CPU") == 1.0]


@table.row("list_nodes: this node, ALIVE, with its resources.", gives=["ALIVE", True, 8.0])
def nodes_are_listed(ray):
    [row] = state(ray).list_nodes()
    same = row["node_id"] == ray.get_runtime_context().get_node_id()
    return [row["state"], same, row["resources_total"]["CPU"]]


@table.row("get_node by id.", gives="ALIVE")
def a_node_by_id(ray):
    return state(ray).get_node(ray.get_runtime_context().get_node_id())["state"]


@table.row("list_tasks: a task that ended is FINISHED.", gives=True)
def a_finished_task(ray):
    @ray.remote
    def finch():
        return 1

    ref = finch.remote()
    ray.get(ref)

    def is_finished():
        rows = state(ray).list_tasks(filters=[("task_id", "=", ref.task_id().hex())])
        return [(row["name"], row["state"]) for row in rows] == [("finch", "FINISHED")]

    return wait_until(is_finished)


@table.row("list_tasks: one that raised is FAILED.", gives=True)
def a_failed_task(ray):
    @ray.remote(max_retries=0)
    def finch():
        raise ValueError

    ref = finch.remote()
    ray.wait([ref])

    def has_failed():
        rows = state(ray).list_tasks(filters=[("task_id", "=", ref.task_id().hex())])
        return [row["state"] for row in rows] == ["FAILED"]

    return wait_until(has_failed)


@table.row("list_tasks: a running one is RUNNING.", gives=True)
def a_running_task(ray):
    @ray.remote
    def finch():
        time.sleep(60)

    ref = finch.remote()

    def is_running():
        rows = state(ray).list_tasks(filters=[("task_id", "=", ref.task_id().hex())])
        return [row["state"] for row in rows] == ["RUNNING"]

    out = wait_until(is_running)
    ray.cancel(ref, force=True)
    return out


@table.row("list_tasks tells an actor's calls too.", gives=True)
def calls_are_listed(ray):
    actor = make_actor(ray)

    def is_there():
        rows = state(ray).list_tasks(filters=[("actor_id", "=", actor._actor_id.hex())])
        return any(row["type"] == "ACTOR_TASK" and row["state"] == "FINISHED" for row in rows)

    return wait_until(is_there)


@table.row("list_objects: a value in the store.", gives=True)
def objects_are_listed(ray):
    ref = ray.put(b"x" * 1_000_000)

    def is_there():
        rows = state(ray).list_objects(filters=[("object_id", "=", ref.hex())])
        return len(rows) >= 1

    return wait_until(is_there)


@table.row("list_workers: those of the actors.", gives=True)
def workers_are_listed(ray):
    actor = make_actor(ray)
    pid = state(ray).get_actor(actor._actor_id.hex())["pid"]
    return wait_until(lambda: pid in [row["pid"] for row in state(ray).list_workers()])


@table.row("list_placement_groups.", gives=True)
def groups_are_listed(ray):
    group = ray.util.placement_group([{"CPU": 1}], name="state-group")
    group.wait(20)
    rows = state(ray).list_placement_groups(filters=[("name", "=", "state-group")])
    ray.util.remove_placement_group(group)
    return [row["state"] for row in rows] == ["CREATED"]


@table.row("list_jobs: this one.", gives=True)
def jobs_are_listed(ray):
    return len(state(ray).list_jobs()) >= 1


@table.row("summarize_actors counts by class and state.", gives=True)
def a_summary_of_actors(ray):
    actor = make_actor(ray)
    summary = state(ray).summarize_actors()["cluster"]["summary"]
    names = [name for name in summary if name.endswith("Sparrow")]
    return actor is not None and any("ALIVE" in summary[n]["state_counts"] for n in names)


@table.row("summarize_tasks counts by function and state.", gives=True)
def a_summary_of_tasks(ray):
    @ray.remote
    def bunting():
        return 1

    ray.get([bunting.remote() for _ in range(2)])

    def is_counted():
        summary = state(ray).summarize_tasks()["cluster"]["summary"]
        return summary.get("bunting", {}).get("state_counts", {}).get("FINISHED", 0) == 2

    return wait_until(is_counted)


@table.row("summarize_objects.", gives=True)
def a_summary_of_objects(ray):
    ref = ray.put(b"x" * 1_000_000)
    summary = state(ray).summarize_objects()
    return ref is not None and "cluster" in summary


@table.row("An actor's constructor is a task too.", gives=["ACTOR_CREATION_TASK", "FINISHED"])
def constructors_are_listed(ray):
    actor = make_actor(ray)
    mine = [("actor_id", "=", actor._actor_id.hex()), ("type", "=", "ACTOR_CREATION_TASK")]
    found = []

    def is_there():
        found[:] = state(ray).list_tasks(filters=mine)
        return bool(found)

    assert wait_until(is_there)
    assert found[0]["func_or_class_name"].endswith("Sparrow.__init__")
    return [found[0]["type"], found[0]["state"]]


@table.row("A constructor that raised is FAILED.", gives=["FAILED", "TASK_EXECUTION_EXCEPTION"])
def a_failed_constructor_is_listed(ray):
    @ray.remote
    class Cuckoo:
        def __init__(self):
            raise RuntimeError("no nest")

    actor = Cuckoo.remote()
    mine = [("actor_id", "=", actor._actor_id.hex()), ("type", "=", "ACTOR_CREATION_TASK")]
    found = []

    def has_failed():
        found[:] = state(ray).list_tasks(filters=mine, detail=True)
        return found and found[0]["state"] == "FAILED"

    assert wait_until(has_failed)
    assert "no nest" in found[0]["error_message"]
    return [found[0]["state"], found[0]["error_type"]]


@table.row("death_cause of a killed actor has reason and message.", gives=["RAY_KILL", True])
def the_death_cause_of_a_killed_actor(ray):
    actor = make_actor(ray)
    actor_id = actor._actor_id.hex()
    ray.kill(actor)
    assert wait_until(lambda: state(ray).get_actor(actor_id)["state"] == "DEAD")
    why = state(ray).get_actor(actor_id)["death_cause"]["actor_died_error_context"]
    return [why["reason"], why["error_message"].startswith("The actor is dead")]


@table.row("death_cause of one whose process died.", gives="WORKER_DIED")
def the_death_cause_of_a_crashed_actor(ray):
    actor = make_actor(ray)
    actor_id = actor._actor_id.hex()
    ray.wait([actor.die.remote()])
    assert wait_until(lambda: state(ray).get_actor(actor_id)["state"] == "DEAD")
    why = state(ray).get_actor(actor_id)["death_cause"]["actor_died_error_context"]
    return why["reason"]


@table.row("death_cause of one whose constructor raised has its text.", gives=True)
def the_death_cause_of_a_failed_constructor(ray):
    @ray.remote
    class Cuckoo:
        def __init__(self):
            raise RuntimeError("no nest")

    actor = Cuckoo.remote()
    actor_id = actor._actor_id.hex()
    assert wait_until(lambda: state(ray).get_actor(actor_id)["state"] == "DEAD")
    cause = state(ray).get_actor(actor_id)["death_cause"]["creation_task_failure_context"]
    return "no nest" in cause["formatted_exception_string"]


@table.row("A job says who its driver is, and when it began.", gives=[True, True, None])
def what_a_job_says(ray):
    import os

    [job] = [
        row
        for row in state(ray).list_jobs(detail=True)
        if row["job_id"] == ray.get_runtime_context().get_job_id()
    ]
    info = job["driver_info"]
    pid = info["pid"] if isinstance(info, dict) else info.pid
    return [
        pid == str(os.getpid()),
        abs(job["start_time"] / 1000 - time.time()) < 3600,
        job["submission_id"],
    ]


@table.row("summarize_tasks counts by the name that a task was given.", gives=True)
def a_summary_of_named_tasks(ray):
    @ray.remote
    def bunting():
        return 1

    ray.get(bunting.options(name="yellowhammer").remote())

    def is_counted():
        summary = state(ray).summarize_tasks()["cluster"]["summary"]
        return "yellowhammer" in summary

    return wait_until(is_counted)


@table.row("summarize_tasks counts constructors.", gives=True)
def a_summary_of_constructors(ray):
    actor = make_actor(ray)

    def is_counted():
        return state(ray).summarize_tasks()["cluster"]["total_actor_scheduled"] > 0

    return actor is not None and wait_until(is_counted)


test_state_api = table.test()
