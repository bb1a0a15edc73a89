"""Where tasks and actors go in a cluster of several nodes (2.2, 2.10)."""

from tests.parity.table import Table

table = Table("2.10 Several nodes")

# ruff: noqa: F821 - `say` and `time` are the script's.


@table.script(
    "SPREAD: tasks one after the other take turns on the nodes, as actors do.",
    prints="[2, 2]\n[5, 5]\n[2, 2]",
)
def spread_over_two_nodes(ray):
    import collections

    from tests.parity.nodes import nodes

    def shares(places):
        return sorted(collections.Counter(places).values())

    @ray.remote(scheduling_strategy="SPREAD")
    def place():
        time.sleep(0.2)
        return ray.get_runtime_context().get_node_id()

    @ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
    class Actor:
        def place(self):
            return ray.get_runtime_context().get_node_id()

    with nodes(ray, {"num_cpus": 5}, {"num_cpus": 5}):
        say(shares([ray.get(place.remote()) for _ in range(4)]))
        say(shares(ray.get([place.remote() for _ in range(10)])))
        actors = [Actor.remote() for _ in range(4)]
        say(shares(ray.get([actor.place.remote() for actor in actors])))


@table.script(
    "DEFAULT: a task goes where its large arguments are, also those borrowed; SPREAD does not.",
    prints="True\nTrue\nTrue",
    needs="numpy",
)
def tasks_go_to_their_arguments(ray):
    import numpy as np

    from tests.parity.nodes import nodes

    @ray.remote(num_cpus=0)
    def make():
        return np.zeros(1_000_000)

    @ray.remote
    def place(value):
        return ray.get_runtime_context().get_node_id()

    @ray.remote(num_cpus=0, resources={"near": 1})
    def borrow(refs):
        return ray.get(place.remote(refs[0]))

    near = {"num_cpus": 4, "resources": {"near": 1}}
    with nodes(ray, near, {"num_cpus": 4, "resources": {"far": 1}}) as far:
        made = make.options(resources={"far": 1}).remote()
        ray.wait([made], fetch_local=False)
        say(ray.get(place.remote(made)) == far)
        say(ray.get(borrow.remote([made])) == far)
        spread = place.options(scheduling_strategy="SPREAD")
        say(len({ray.get(spread.remote(made)) for _ in range(2)}) == 2)


@table.script(
    "DEFAULT: the driver's node up to half of its CPUs, then the other node.",
    prints="[2]\n[2, 2]",
)
def the_first_node_up_to_half(ray):
    import collections

    from tests.parity.nodes import nodes

    @ray.remote(num_cpus=1)
    class Actor:
        def place(self):
            return ray.get_runtime_context().get_node_id()

    def shares(actors):
        places = ray.get([actor.place.remote() for actor in actors])
        return sorted(collections.Counter(places).values())

    with nodes(ray, {"num_cpus": 4}, {"num_cpus": 4}):
        actors = [Actor.remote() for _ in range(2)]
        say(shares(actors))
        actors += [Actor.remote() for _ in range(2)]
        say(shares(actors))


test_several_nodes = table.test()
