"""What a program can ask about where it runs (2.1, 2.8)."""

import os
import subprocess
import sys

from tests.parity.table import SUBJECT, Table, error_of, gate_at, wait_until

table = Table("2.8 RuntimeContext")


@table.row("Ids are hexadecimal text in the driver.", gives=True)
def ids_of_the_driver(ray):
    context = ray.get_runtime_context()
    ids = [context.get_job_id(), context.get_node_id(), context.get_worker_id()]
    return all(int(i, 16) >= 0 for i in ids)


@table.row("get_task_id, get_actor_id and get_actor_name in the driver.", gives=[None, None])
def the_driver_is_no_actor(ray):
    context = ray.get_runtime_context()
    return [context.get_actor_id(), context.get_actor_name()]


@table.row("get_task_id in a task is that of its ref.", gives=True)
def the_task_id_of_a_task(ray):
    @ray.remote
    def f():
        return ray.get_runtime_context().get_task_id()

    ref = f.remote()
    return ray.get(ref) == ref.task_id().hex()


@table.row("get_task_id differs from call to call.", gives=3)
def each_call_has_an_id(ray):
    @ray.remote
    class A:
        def m(self):
            return ray.get_runtime_context().get_task_id()

    a = A.remote()
    return len(set(ray.get([a.m.remote() for _ in range(3)])))


@table.row("get_actor_id in an actor is that of its handle.", gives=True)
def the_actor_id_of_an_actor(ray):
    @ray.remote
    class A:
        def m(self):
            return ray.get_runtime_context().get_actor_id()

    a = A.remote()
    return ray.get(a.m.remote()) == a._actor_id.hex()


@table.row("get_actor_id in the constructor.", gives=True)
def the_actor_id_in_the_constructor(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.id = ray.get_runtime_context().get_actor_id()

        def m(self):
            return self.id

    a = A.remote()
    return ray.get(a.m.remote()) == a._actor_id.hex()


@table.row("get_actor_id in a task: None.", gives=None)
def a_task_is_no_actor(ray):
    @ray.remote
    def f():
        return ray.get_runtime_context().get_actor_id()

    return ray.get(f.remote())


@table.row("get_actor_name.", gives="context-named")
def the_name_of_an_actor(ray):
    @ray.remote
    class A:
        def m(self):
            return ray.get_runtime_context().get_actor_name()

    a = A.options(name="context-named").remote()
    return ray.get(a.m.remote())


@table.row(
    "get_task_name and get_task_function_name end in the function's name.", gives=[True, True]
)
def the_name_of_a_task(ray):
    @ray.remote
    def special():
        context = ray.get_runtime_context()
        return context.get_task_name(), context.get_task_function_name()

    return [name.endswith("special") for name in ray.get(special.remote())]


@table.row(
    "get() has ids as objects, and those alone of what runs.", gives=[True, True, True, True]
)
def the_ids_in_the_context_as_a_dict(ray):
    @ray.remote
    def f():
        context = ray.get_runtime_context()
        found = context.get()
        return (
            found["task_id"].hex() == context.get_task_id(),
            found["node_id"].hex() == context.get_node_id(),
            "actor_id" not in found,
        )

    return [*ray.get(f.remote()), "task_id" not in ray.get_runtime_context().get()]


@table.row("The old spellings give objects, and warn.", gives=(True, True, True))
def the_old_spellings_of_ids(ray):
    import warnings

    context = ray.get_runtime_context()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        same = context.node_id.hex() == context.get_node_id()
        same_job = context.job_id.hex() == context.get_job_id()
    told = [str(each.message) for each in seen]
    return same, same_job, any("Use get_node_id() instead" in text for text in told)


@table.row("get_task_function_name has the module, get_task_name has not.", gives=[True] * 4)
def the_module_in_the_name_of_a_function(ray):
    @ray.remote
    def special():
        context = ray.get_runtime_context()
        return context.get_task_function_name(), context.get_task_name()

    @ray.remote
    class Special:
        def method(self):
            context = ray.get_runtime_context()
            return context.get_task_function_name(), context.get_task_name()

    names = [*ray.get(special.remote()), *ray.get(Special.remote().method.remote())]
    expected = [
        f"{__name__}.special",
        "special",
        f"{__name__}.Special.method",
        "Special.method",
    ]
    return [name == other for name, other in zip(names, expected, strict=True)]


@table.row("get_task_name of a method names class and method.", gives=True)
def the_name_of_a_call(ray):
    @ray.remote
    class Special:
        def method(self):
            return ray.get_runtime_context().get_task_name()

    return ray.get(Special.remote().method.remote()).endswith("Special.method")


@table.row("get_node_id is the same everywhere on one node.", gives=True)
def one_node(ray):
    @ray.remote
    def f():
        return ray.get_runtime_context().get_node_id()

    return ray.get(f.remote()) == ray.get_runtime_context().get_node_id()


@table.row("get_job_id is the same in driver, task and actor.", gives=1)
def one_job(ray):
    @ray.remote
    def f():
        return ray.get_runtime_context().get_job_id()

    @ray.remote
    class A:
        def m(self):
            return ray.get_runtime_context().get_job_id()

    ids = ray.get([f.remote(), A.remote().m.remote()])
    return len({*ids, ray.get_runtime_context().get_job_id()})


@table.row("get_worker_id differs between actors.", gives=2)
def each_actor_has_a_worker(ray):
    @ray.remote
    class A:
        def m(self):
            return ray.get_runtime_context().get_worker_id()

    a, b = A.remote(), A.remote()
    return len(set(ray.get([a.m.remote(), b.m.remote()])))


@table.row(
    "was_current_actor_reconstructed: False, then True after a restart.", gives=[False, True]
)
def a_restart_is_known(ray):
    @ray.remote(max_restarts=1, max_task_retries=-1)
    class A:
        def m(self):
            return os.getpid(), ray.get_runtime_context().was_current_actor_reconstructed

    a = A.remote()
    pid, first = ray.get(a.m.remote())
    ray.kill(a, no_restart=False)
    from tests.parity.table import wait_until

    assert wait_until(lambda: ray.get(a.m.remote())[0] != pid)
    return [first, ray.get(a.m.remote())[1]]


@table.row("get_placement_group_id: None outside of a group.", gives=None)
def no_placement_group(ray):
    return ray.get_runtime_context().get_placement_group_id()


@table.row("should_capture_child_tasks_in_placement_group: False by default.", gives=False)
def children_are_not_captured(ray):
    return ray.get_runtime_context().should_capture_child_tasks_in_placement_group


@table.row("get_assigned_resources of a task.", gives={"CPU": 2.0, "widget": 0.5})
def assigned_resources_of_a_task(ray):
    @ray.remote(num_cpus=2, resources={"widget": 0.5})
    def f():
        return ray.get_runtime_context().get_assigned_resources()

    return ray.get(f.remote())


@table.row("get_accelerator_ids: no accelerators here.", gives=True)
def no_accelerators(ray):
    ids = ray.get_runtime_context().get_accelerator_ids()
    return isinstance(ids, dict) and not any(ids.values())


@table.row("runtime_env of a task.", gives={"A": "b"})
def the_runtime_env_of_a_task(ray):
    @ray.remote(runtime_env={"env_vars": {"A": "b"}})
    def f():
        return dict(ray.get_runtime_context().runtime_env)["env_vars"]

    return ray.get(f.remote())


@table.row("get_runtime_env_string is JSON.", gives=True)
def the_runtime_env_as_text(ray):
    import json

    return isinstance(
        json.loads(ray.get_runtime_context().get_runtime_env_string() or "{}"), dict
    )


@table.row("current_actor outside an actor: RuntimeError.", gives="RuntimeError")
def no_current_actor(ray):
    return error_of(lambda: ray.get_runtime_context().current_actor)


@table.row("The address joins another process to the cluster.", gives="parity 1")
def the_address_can_be_joined(ray):
    program = (
        f"import {SUBJECT} as ray\n"
        f"ray.init(address={ray.get_runtime_context().gcs_address!r}, namespace='parity')\n"
        "print('>', ray.get_runtime_context().namespace, len(ray.nodes()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if line.startswith("> ")]
    return said[0][2:] if said else done.stderr[-2000:]


@table.row("gcs_address is host:port or an address.", gives=True)
def the_address_of_the_cluster(ray):
    return isinstance(ray.get_runtime_context().gcs_address, str)


@table.row("get_node_labels has the labels of init.", gives="north")
def the_labels_of_the_node(ray):
    return ray.get_runtime_context().get_node_labels()["zone"]


@table.row("get_session_name and get_temp_dir.", gives=[True, True])
def the_session_and_its_directory(ray):
    context = ray.get_runtime_context()
    return [bool(context.get_session_name()), os.path.isdir(context.get_temp_dir())]


@table.row("namespace.", gives="parity")
def the_namespace(ray):
    return ray.get_runtime_context().namespace


@table.row("get() gives everything in a dict.", gives=True)
def the_context_as_a_dict(ray):
    return {"job_id", "node_id", "namespace"} <= set(ray.get_runtime_context().get())


@table.row("In threads of a task the context is the task's.", gives=True)
def the_context_in_a_thread(ray):
    @ray.remote
    class A:
        def m(self):
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(1) as pool:
                seen = pool.submit(lambda: ray.get_runtime_context().get_actor_id()).result()
            return seen == ray.get_runtime_context().get_actor_id()

    return ray.get(A.remote().m.remote())


# The cluster as a whole.


@table.row("is_initialized.", gives=True, section="2.1")
def it_is_initialized(ray):
    return ray.is_initialized()


@table.row(
    "nodes(): one, alive, with its resources and id.", gives=(1, True, 8.0, True), section="2.1"
)
def the_nodes(ray):
    [node] = ray.nodes()
    same = node["NodeID"] == ray.get_runtime_context().get_node_id()
    return 1, node["Alive"], node["Resources"]["CPU"], same


@table.row("nodes(): labels.", gives="north", section="2.1")
def the_nodes_labels(ray):
    return ray.nodes()[0]["Labels"]["zone"]


@table.row("cluster_resources().", gives=(8.0, 2.0, True), section="2.1")
def the_resources_of_the_cluster(ray):
    r = ray.cluster_resources()
    return r["CPU"], r["widget"], r["memory"] > 0 and r["object_store_memory"] > 0


@table.row("A node:IP resource can be asked for.", gives=1, section="2.1")
def the_resource_of_a_node(ray):
    name = next(
        n for n in ray.cluster_resources() if n.startswith("node:") and "internal" not in n
    )

    @ray.remote(resources={name: 0.01})
    def f():
        return 1

    return ray.get(f.remote())


@table.row(
    "The address that nodes(), the state API and init tell is the one of the node:IP resource.",
    gives=[True, True, True],
    section="2.1",
)
def the_address_of_a_node(ray):
    import importlib

    name = f"node:{ray.nodes()[0]['NodeManagerAddress']}"
    rows = importlib.import_module(f"{ray.__name__}.util.state").list_nodes()
    facts = ray.init(ignore_reinit_error=True).address_info
    return [
        name in ray.cluster_resources(),
        name == f"node:{rows[0]['node_ip']}",
        name == f"node:{facts['node_ip_address']}",
    ]


@table.row("available_resources() goes down and up again.", gives=(True, True), section="2.1")
def available_resources_follow(ray):
    from tests.parity.table import wait_until

    @ray.remote(num_cpus=0, resources={"widget": 2})
    class A:
        pass

    def free():
        return ray.available_resources().get("widget", 0.0)

    assert wait_until(lambda: free() == 2)
    a = A.remote()
    ray.get(a.__ray_ready__.remote())
    down = wait_until(lambda: free() == 0)
    del a
    return down, wait_until(lambda: free() == 2)


@table.row("get_gpu_ids(): none.", gives=[], section="2.1")
def no_gpus(ray):
    return ray.get_gpu_ids()


@table.row("timeline() is a list of events.", gives=True, section="2.1")
def the_timeline(ray):
    return isinstance(ray.timeline(), list)


@table.row("... among them when tasks and calls were submitted.", gives=True, section="2.1")
def submissions_in_the_timeline(ray):
    ray.get(ray.remote(lambda: 1).remote())
    return wait_until(lambda: any(event["cat"] == "submit_task" for event in ray.timeline()))


@table.row(
    "... and what runs, since when (Ray: what has run).",
    gives="X",
    section="2.1",
    only="zactor",
)
def a_run_in_the_timeline(ray, tmp_path):
    gate = gate_at(tmp_path / "gate")

    @ray.remote
    def wren():
        gate()

    ref = wren.options(name="bird").remote()
    found = []

    def runs():
        found[:] = [event for event in ray.timeline() if event["name"] == "bird"]
        return found

    wait_until(runs)
    (tmp_path / "gate").touch()
    ray.get(ref)
    event = found[0]
    assert event["cat"].startswith("task::") and event["dur"] >= 0, event
    return event["ph"]


@table.row("Ids have a class each, made from hexadecimal text.", gives=True, section="2.1")
def ids_from_text(ray):
    kinds = [
        (ray.ActorID, ray.remote(type("A", (), {})).remote()._actor_id),
        (ray.TaskID, ray.put(1).task_id()),
        (ray.JobID, ray.put(1).job_id()),
    ]
    return all(
        kind.from_hex(i.hex()) == i and hash(kind(i.binary())) == hash(i) for kind, i in kinds
    )


@table.row(
    "ObjectRef, ObjectRefGenerator and the ids are public names.", gives=[], section="2.1"
)
def public_names(ray):
    names = (
        "init shutdown is_initialized remote get put wait kill cancel get_actor method nodes "
        "cluster_resources available_resources timeline get_gpu_ids get_runtime_context "
        "LoggingConfig ObjectRef ObjectRefGenerator ActorID NodeID TaskID JobID WorkerID "
        "ObjectID PlacementGroupID exceptions util actor __version__"
    )
    return [name for name in names.split() if not hasattr(ray, name)]


test_runtime_context = table.test()
