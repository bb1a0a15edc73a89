"""Serializers of the user's own, and where a value cannot be pickled."""

import io

from tests.parity.table import Table

table = Table("2.10 serialization")


def make_class():
    import threading

    class Locked:
        def __init__(self, value):
            self.value, self.lock = value, threading.Lock()

    return Locked


@table.row("register_serializer: both ways, here and in a task.", gives=[5, 6])
def a_serializer_is_used(ray):
    kind = make_class()
    ray.util.register_serializer(kind, serializer=lambda x: x.value, deserializer=kind)

    @ray.remote
    def more(x):
        return kind(x.value + 1)

    try:
        here = ray.get(ray.put(kind(5))).value
        return [here, here + 1]
    finally:
        ray.util.deregister_serializer(kind)


@table.row("deregister_serializer: as it was before.", raises="TypeError")
def a_serializer_is_taken_back(ray):
    kind = make_class()
    ray.util.register_serializer(kind, serializer=lambda x: x.value, deserializer=kind)
    ray.util.deregister_serializer(kind)
    ray.put(kind(1))


@table.row("inspect_serializability of what pickles: (True, nothing).", gives=(True, set()))
def what_pickles(ray):
    return ray.util.inspect_serializability([1, 2], name="numbers", print_file=io.StringIO())


@table.row(
    "inspect_serializability of what does not: (False, the culprits).", gives=[False, True]
)
def what_does_not_pickle(ray):
    import threading

    lock = threading.Lock()

    def f():
        return lock

    good, culprits = ray.util.inspect_serializability(f, name="f", print_file=io.StringIO())
    return [good, any(c.obj is lock for c in culprits)]


test_serialization = table.test()
