"""`as_completed` and `map_unordered`; expectations are those of `ray.util`."""

import time

from tests.parity.table import Table, error_of

table = Table("2.10 as_completed, map_unordered")


def make_nap(ray):
    @ray.remote(num_cpus=0)
    def nap(x):
        time.sleep(x)
        return x

    return nap


@table.row("as_completed yields every value.", gives=[0, 1, 2, 3])
def as_completed_yields_all(ray):
    return sorted(ray.util.as_completed([ray.put(i) for i in range(4)]))


@table.row("as_completed yields the fast first.", gives=[0.0, 1.0])
def as_completed_yields_the_fast(ray):
    nap = make_nap(ray)
    return list(ray.util.as_completed([nap.remote(1.0), nap.remote(0.0)], chunk_size=1))


@table.row("as_completed(yield_obj_refs=True) yields references.", gives=["ObjectRef"] * 2)
def as_completed_yields_references(ray):
    refs = ray.util.as_completed([ray.put(1), ray.put(2)], yield_obj_refs=True)
    return [type(ref).__name__ for ref in refs]


@table.row("as_completed of nothing.", gives=[])
def as_completed_of_nothing(ray):
    return list(ray.util.as_completed([]))


@table.row("as_completed: chunk_size below one: ValueError.", gives=True)
def as_completed_without_chunks(ray):
    return error_of(lambda: list(ray.util.as_completed([ray.put(1)], chunk_size=0))) != "none"


@table.row("as_completed raises what a call raised.", raises="KeyError")
def as_completed_raises(ray):
    @ray.remote
    def bad():
        raise KeyError("k")

    list(ray.util.as_completed([bad.remote()]))


@table.row("map_unordered over a remote function.", gives=[0, 1, 4, 9])
def map_unordered(ray):
    @ray.remote
    def square(x):
        return x * x

    return sorted(ray.util.map_unordered(square, range(4)))


@table.row("map_unordered under back-pressure.", gives=list(range(30)))
def map_unordered_under_back_pressure(ray):
    @ray.remote
    def same(x):
        return x

    out = ray.util.map_unordered(same, range(30), backpressure_size=4, chunk_size=2)
    return sorted(out)


@table.row("map_unordered reads its input as room comes.", gives=True)
def map_unordered_reads_as_room_comes(ray):
    @ray.remote
    def same(x):
        return x

    read = []

    def items():
        for i in range(100):
            read.append(i)
            yield i

    out = ray.util.map_unordered(same, items(), backpressure_size=5, chunk_size=1)
    next(out)
    return len(read) < 20


@table.row("map_unordered(backpressure_size=None): no bound.", gives=10)
def map_unordered_without_a_bound(ray):
    @ray.remote
    def same(x):
        return x

    return len(list(ray.util.map_unordered(same, range(10), backpressure_size=None)))


@table.row("map_unordered: back-pressure of zero: ValueError.", gives=True)
def map_unordered_without_room(ray):
    @ray.remote
    def same(x):
        return x

    action = lambda: list(ray.util.map_unordered(same, [1], backpressure_size=0))
    return error_of(action) != "none"


@table.row("map_unordered over a method of a handle.", gives=[0, 2, 4])
def map_unordered_over_a_method(ray):
    @ray.remote
    class A:
        def double(self, x):
            return 2 * x

    a = A.remote()
    return sorted(ray.util.map_unordered(a.double, range(3)))


test_iteration = table.test()
