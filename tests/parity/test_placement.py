"""Placement groups and the strategies that place tasks and actors (2.2, 2.10)."""

import os

from tests.parity.table import Table, error_of, wait_until

table = Table("2.10 Placement")


def strategies(ray):
    import importlib

    return importlib.import_module(f"{ray.__name__}.util.scheduling_strategies")


def make_group(ray, bundles, **options):
    group = ray.util.placement_group(bundles, **options)
    assert ray.get(group.ready(), timeout=20) is not None
    return group


@table.row("ready() is a reference, there once all is reserved.", gives=(1, True))
def a_group_is_ready(ray):
    group = ray.util.placement_group([{"CPU": 1}], strategy="PACK")
    out = ray.get(group.ready(), timeout=20)
    count = len(group.bundle_specs)
    ray.util.remove_placement_group(group)
    return count, out is not None


@table.row("wait(seconds): True once reserved.", gives=True)
def wait_for_a_group(ray):
    group = ray.util.placement_group([{"CPU": 1}])
    out = group.wait(20)
    ray.util.remove_placement_group(group)
    return out


@table.row("wait(seconds): False when it cannot be reserved in time.", gives=False)
def wait_for_a_group_nobody_can_reserve(ray):
    group = ray.util.placement_group([{"CPU": 1000}])
    out = group.wait(1)
    ray.util.remove_placement_group(group)
    return out


@table.row("PACK, SPREAD, STRICT_PACK on one node.", gives=[True, True, True])
def strategies_one_node_can_meet(ray):
    out = []
    for strategy in ("PACK", "SPREAD", "STRICT_PACK"):
        group = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}], strategy=strategy)
        out.append(group.wait(20))
        ray.util.remove_placement_group(group)
    return out


@table.row("STRICT_SPREAD of two bundles needs two nodes.", gives=False)
def strict_spread_on_one_node(ray):
    group = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
    out = group.wait(1)
    ray.util.remove_placement_group(group)
    return out


@table.row("An unknown strategy: ValueError.", raises="ValueError")
def an_unknown_placement_strategy(ray):
    ray.util.placement_group([{"CPU": 1}], strategy="LOOSE")


@table.row(
    "No bundles, an empty bundle, or nothing but zeros: ValueError.", gives=["ValueError"] * 3
)
def bad_bundles(ray):
    return [
        error_of(lambda: ray.util.placement_group(bundles))
        for bundles in ([], [{}], [{"CPU": 0}])
    ]


@table.row("Bundles are a list.", raises="ValueError")
def bundles_are_a_list(ray):
    ray.util.placement_group({"CPU": 1})


@table.row("An unknown lifetime: ValueError.", raises="ValueError")
def an_unknown_lifetime(ray):
    ray.util.placement_group([{"CPU": 1}], lifetime="forever")


@table.row(
    "The group's resources are taken from the cluster, and given back.", gives=(True, True)
)
def resources_of_a_group(ray):
    def free():
        return ray.available_resources().get("widget", 0.0)

    assert wait_until(lambda: free() == 2)
    group = make_group(ray, [{"widget": 2}])
    down = wait_until(lambda: free() == 0)
    ray.util.remove_placement_group(group)
    return down, wait_until(lambda: free() == 2)


@table.row("A task runs in a group; its context knows.", gives=True)
def a_task_in_a_group(ray):
    group = make_group(ray, [{"CPU": 1}])
    strategy = strategies(ray).PlacementGroupSchedulingStrategy(placement_group=group)

    @ray.remote(num_cpus=1, scheduling_strategy=strategy)
    def f():
        return ray.get_runtime_context().get_placement_group_id()

    out = ray.get(f.remote(), timeout=20) == group.id.hex()
    ray.util.remove_placement_group(group)
    return out


@table.row("An actor runs in a bundle.", gives=5)
def an_actor_in_a_bundle(ray):
    group = make_group(ray, [{"CPU": 1}, {"widget": 1}])
    strategy = strategies(ray).PlacementGroupSchedulingStrategy(group, 1)

    @ray.remote(num_cpus=0, resources={"widget": 1}, scheduling_strategy=strategy)
    class A:
        def m(self):
            return 5

    a = A.remote()
    out = ray.get(a.m.remote(), timeout=20)
    del a
    ray.util.remove_placement_group(group)
    return out


@table.row("A bundle index out of range: ValueError.", gives=["ValueError", "ValueError"])
def a_bundle_index_out_of_range(ray):
    group = make_group(ray, [{"CPU": 1}])
    kind = strategies(ray).PlacementGroupSchedulingStrategy

    @ray.remote(num_cpus=1)
    def f():
        return 1

    out = [
        error_of(lambda i=i: f.options(scheduling_strategy=kind(group, i)).remote())
        for i in (1, -2)
    ]
    ray.util.remove_placement_group(group)
    return out


@table.row("More than any bundle has: ValueError.", gives="ValueError")
def more_than_a_bundle_has(ray):
    group = make_group(ray, [{"CPU": 1}])
    strategy = strategies(ray).PlacementGroupSchedulingStrategy(group)

    @ray.remote(num_cpus=2, scheduling_strategy=strategy)
    def f():
        return 1

    out = error_of(f.remote)
    ray.util.remove_placement_group(group)
    return out


@table.row("A group bounds what runs in it.", gives=1)
def a_group_bounds_its_tasks(ray, tmp_path):
    group = make_group(ray, [{"CPU": 1}])
    strategy = strategies(ray).PlacementGroupSchedulingStrategy(group)
    path = str(tmp_path / "running")

    @ray.remote(num_cpus=1, scheduling_strategy=strategy)
    def alone():
        import os
        import time

        fd = os.open(path, os.O_CREAT | os.O_EXCL)
        time.sleep(0.05)
        os.close(fd)
        os.unlink(path)
        return 1

    out = max(ray.get([alone.remote() for _ in range(3)], timeout=30))
    ray.util.remove_placement_group(group)
    return out


@table.row("Removing a group ends its actors.", raises="ActorDiedError")
def removing_a_group_ends_its_actors(ray):
    group = make_group(ray, [{"CPU": 1}])
    strategy = strategies(ray).PlacementGroupSchedulingStrategy(group)

    @ray.remote(num_cpus=1, scheduling_strategy=strategy)
    class A:
        def m(self):
            return 1

    a = A.remote()
    ray.get(a.m.remote(), timeout=20)
    ray.util.remove_placement_group(group)
    import time

    time.sleep(0.5)
    ray.get(a.m.remote(), timeout=20)


@table.row("get_placement_group by name.", gives=True)
def a_group_by_name(ray):
    group = make_group(ray, [{"CPU": 1}], name="placement-named")
    out = ray.util.get_placement_group("placement-named").id == group.id
    ray.util.remove_placement_group(group)
    return out


@table.row("get_placement_group of an unknown name: ValueError.", raises="ValueError")
def a_group_nobody_named(ray):
    ray.util.get_placement_group("placement-nobody")


@table.row("placement_group_table tells state, strategy, name and bundles.", gives=True)
def the_table_of_groups(ray):
    group = make_group(ray, [{"CPU": 1}], name="placement-table", strategy="SPREAD")
    entry = ray.util.placement_group_table(group)
    ray.util.remove_placement_group(group)
    return (
        entry["placement_group_id"] == group.id.hex()
        and entry["name"] == "placement-table"
        and entry["strategy"] == "SPREAD"
        and entry["state"] == "CREATED"
        and entry["bundles"][0]["CPU"] == 1
    )


@table.row("A removed group is REMOVED in the table.", gives=True)
def a_removed_group_in_the_table(ray):
    group = make_group(ray, [{"CPU": 1}])
    ray.util.remove_placement_group(group)
    return wait_until(lambda: ray.util.placement_group_table(group)["state"] == "REMOVED")


@table.row("capture_child_tasks: children run in the parent's group.", gives=[True, False])
def children_are_captured(ray):
    group = make_group(ray, [{"CPU": 2}])
    kind = strategies(ray).PlacementGroupSchedulingStrategy

    @ray.remote(num_cpus=1)
    def child():
        return ray.get_runtime_context().get_placement_group_id()

    @ray.remote(num_cpus=1)
    def parent():
        return ray.get(child.remote())

    capture = kind(group, placement_group_capture_child_tasks=True)
    leave = kind(group, placement_group_capture_child_tasks=False)
    out = [
        ray.get(parent.options(scheduling_strategy=s).remote(), timeout=30) == group.id.hex()
        for s in (capture, leave)
    ]
    ray.util.remove_placement_group(group)
    return out


@table.row("get_current_placement_group: None in the driver.", gives=None)
def no_current_group(ray):
    return ray.util.get_current_placement_group()


@table.row("get_current_placement_group in a task of the group.", gives=True)
def the_current_group(ray):
    group = make_group(ray, [{"CPU": 1}])
    strategy = strategies(ray).PlacementGroupSchedulingStrategy(group)

    @ray.remote(num_cpus=1, scheduling_strategy=strategy)
    def f():
        return ray.util.get_current_placement_group().id.hex()

    out = ray.get(f.remote(), timeout=20) == group.id.hex()
    ray.util.remove_placement_group(group)
    return out


@table.row("A group can be passed to a task.", gives=True)
def a_group_as_an_argument(ray):
    group = make_group(ray, [{"CPU": 1}])

    @ray.remote(num_cpus=0)
    def use(g):
        return g.id.hex(), g.bundle_count

    out = ray.get(use.remote(group)) == (group.id.hex(), 1)
    ray.util.remove_placement_group(group)
    return out


@table.row("remove_placement_group twice is no error.", gives=None)
def removing_twice(ray):
    group = make_group(ray, [{"CPU": 1}])
    ray.util.remove_placement_group(group)
    return ray.util.remove_placement_group(group)


@table.row("NodeAffinity, hard: runs on that node.", gives=True)
def affinity_to_a_node(ray):
    node = ray.get_runtime_context().get_node_id()
    strategy = strategies(ray).NodeAffinitySchedulingStrategy(node_id=node, soft=False)

    @ray.remote(scheduling_strategy=strategy)
    def f():
        return ray.get_runtime_context().get_node_id()

    return ray.get(f.remote(), timeout=20) == node


@table.row("NodeAffinity, soft, to a node that is not there: runs elsewhere.", gives=1)
def soft_affinity_to_a_missing_node(ray):
    missing = "ab" * (len(ray.get_runtime_context().get_node_id()) // 2)
    strategy = strategies(ray).NodeAffinitySchedulingStrategy(node_id=missing, soft=True)

    @ray.remote(scheduling_strategy=strategy)
    def f():
        return 1

    return ray.get(f.remote(), timeout=20)


@table.row(
    "NodeAffinity, hard, to a missing node: TaskUnschedulableError.",
    raises="TaskUnschedulableError",
)
def hard_affinity_of_a_task_to_a_missing_node(ray):
    missing = "ab" * (len(ray.get_runtime_context().get_node_id()) // 2)
    strategy = strategies(ray).NodeAffinitySchedulingStrategy(node_id=missing, soft=False)

    @ray.remote(scheduling_strategy=strategy)
    def f():
        return 1

    ray.get(f.remote(), timeout=20)


@table.row(
    "NodeAffinity, hard, of an actor: ActorUnschedulableError.",
    raises="ActorUnschedulableError",
)
def hard_affinity_of_an_actor_to_a_missing_node(ray):
    missing = "ab" * (len(ray.get_runtime_context().get_node_id()) // 2)
    strategy = strategies(ray).NodeAffinitySchedulingStrategy(node_id=missing, soft=False)

    @ray.remote(scheduling_strategy=strategy)
    class A:
        def m(self):
            return 1

    ray.get(A.remote().m.remote(), timeout=20)


@table.row("NodeLabel, hard: In, NotIn, Exists, DoesNotExist.", gives=[1, 1, 1, 1])
def node_label_conditions(ray):
    s = strategies(ray)

    @ray.remote
    class A:
        def m(self):
            return 1

    conditions = [
        {"zone": s.In("north", "west")},
        {"zone": s.NotIn("south")},
        {"zone": s.Exists()},
        {"planet": s.DoesNotExist()},
    ]
    actors = [
        A.options(scheduling_strategy=s.NodeLabelSchedulingStrategy(hard=c)).remote()
        for c in conditions
    ]
    return ray.get([a.m.remote() for a in actors], timeout=30)


@table.row("OMP_NUM_THREADS is the CPUs assigned.", gives=["1", "2", "1", "1", "2", "7"])
def threads_of_a_task(ray):
    @ray.remote
    def f():
        return os.environ.get("OMP_NUM_THREADS")

    @ray.remote
    class A:
        def m(self):
            return os.environ.get("OMP_NUM_THREADS")

    own = {"env_vars": {"OMP_NUM_THREADS": "7"}}
    return ray.get(
        [
            f.remote(),
            f.options(num_cpus=2).remote(),
            f.options(num_cpus=0.25).remote(),
            A.remote().m.remote(),
            A.options(num_cpus=2).remote().m.remote(),
            f.options(runtime_env=own).remote(),
        ],
        timeout=60,
    )


@table.row("A task has the resources that it asked for, whoever ran there before.", gives=[])
def each_task_has_its_own_resources(ray):
    @ray.remote
    def f():
        return ray.get_runtime_context().get_assigned_resources()

    shapes = [{"CPU": (1 + i % 37) / 100} for i in range(150)]
    found = ray.get([f.options(num_cpus=s["CPU"]).remote() for s in shapes], timeout=60)
    return [(s, g) for s, g in zip(shapes, found, strict=True) if s != g]


@table.row("Workers go before all others when memory runs out.", gives=True)
def workers_are_ended_first(ray):
    @ray.remote
    def f():
        with open("/proc/self/oom_score_adj") as file:
            return int(file.read())

    return ray.get(f.remote()) >= 1000


@table.row(
    "What no group can be of, and what names no bundle.", gives=[True, *["ValueError"] * 3]
)
def groups_and_bundles_that_make_no_sense(ray):
    @ray.remote
    def f():
        pass

    return [
        error_of(lambda: ray.util.placement_group([{"bundle": 1}])) != "none",
        error_of(lambda: f.options(placement_group_bundle_index=0).remote()),
        error_of(
            lambda: ray.util.placement_group(
                [{"CPU": 1}], strategy="PACK", topology_strategy={"ray.io/node-id": "PACK"}
            )
        ),
        error_of(lambda: ray.util.placement_group([{"CPU": 1}], topology_strategy=["PACK"])),
    ]


@table.row("topology_strategy by node is the strategy.", gives="STRICT_PACK")
def a_topology_strategy_by_node(ray):
    group = ray.util.placement_group(
        [{"CPU": 1}], topology_strategy={"ray.io/node-id": "STRICT_PACK"}
    )
    out = ray.util.placement_group_table(group)["strategy"]
    ray.util.remove_placement_group(group)
    return out


@table.row(
    "topology_strategy by another label: ValueError.", raises="ValueError", only="zactor"
)
def a_topology_strategy_by_rack(ray):
    ray.util.placement_group([{"CPU": 1}], topology_strategy={"rack": "STRICT_PACK"})


@table.row("What label operators refuse.", gives=[True] * 4)
def labels_that_make_no_sense(ray):
    module = strategies(ray)

    def says(make, words):
        try:
            make()
        except ValueError as error:
            return words in str(error)

    by_label = module.NodeLabelSchedulingStrategy
    return [
        says(lambda: module.In(), "variadic parameter of the In operator must be a non-empty"),
        says(lambda: module.NotIn(1), "position 0 for the NotIn operator must be str"),
        says(lambda: by_label({1: module.Exists()}), "map key of the hard parameter must"),
        says(
            lambda: by_label({"a": "b"}), "one of the `In`, `NotIn`, `Exists` or `DoesNotExist`"
        ),
    ]


test_placement = table.test()
