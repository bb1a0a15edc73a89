"""`ActorGroup` calls its actors together."""

import importlib

from tests.parity.table import Table, error_of

table = Table("2.10 ActorGroup")


def make_group(ray, *args, **kwargs):
    module = importlib.import_module(f"{ray.__name__}.util.actor_group")
    return module.ActorGroup(*args, **kwargs)


def make_class():
    class Worker:
        def __init__(self, base=0, *, more=0):
            self.base = base + more

        def add(self, x):
            return self.base + x

    return Worker


@table.row("A call goes to each actor.", gives=[5, 5])
def a_call_goes_to_each(ray):
    group = make_group(ray, make_class(), num_actors=2)
    out = ray.get(group.add.remote(5))
    group.shutdown()
    return out


@table.row("init_args and init_kwargs reach the constructors.", gives=[16])
def arguments_of_the_constructors(ray):
    group = make_group(ray, make_class(), init_args=(10,), init_kwargs={"more": 5})
    out = ray.get(group.add.remote(1))
    group.shutdown()
    return out


@table.row("len and indexing.", gives=(2, 7))
def actors_of_a_group(ray):
    group = make_group(ray, make_class(), num_actors=2)
    out = len(group), ray.get(group[1].actor.add.remote(7))
    group.shutdown()
    return out


@table.row("Metadata tells where each actor runs.", gives=True, only="zactor")
def metadata_of_the_actors(ray):
    group = make_group(ray, make_class(), num_actors=2)
    node = ray.get_runtime_context().get_node_id()
    out = all(m.node_id == node for m in group.actor_metadata)
    group.shutdown()
    return out


@table.row("add_actors and remove_actors.", gives=[3, 2])
def actors_come_and_go(ray):
    group = make_group(ray, make_class(), num_actors=1)
    group.add_actors(2)
    out = [len(group)]
    group.remove_actors([0])
    out.append(len(group))
    group.shutdown()
    return out


@table.row("A number out of range: ValueError.", gives=["ValueError"] * 2)
def numbers_out_of_range(ray):
    return [
        error_of(lambda: make_group(ray, make_class(), num_actors=0)),
        error_of(lambda: make_group(ray, make_class(), num_cpus_per_actor=-1)),
    ]


@table.row("A method called without .remote: TypeError.", gives="TypeError")
def a_direct_call(ray):
    group = make_group(ray, make_class())
    kind = error_of(lambda: group.add(1))
    group.shutdown()
    return kind


test_actor_group = table.test()
