"""Generators: references that come one by one (2.4)."""

# ruff: noqa: UP028 - Ray's actors stream from `yield`, and not from `yield from range(...)`.

import asyncio
import pickle

from tests.parity.table import Table, count_at, error_of, gate_at, tally_at, wait_until

table = Table("2.4 Generators")


def values(ray, generator):
    return [ray.get(ref) for ref in generator]


@table.row(
    "A function with yield gives an ObjectRefGenerator.",
    gives=("ObjectRefGenerator", [0, 1, 2]),
)
def a_generator_function_streams(ray):
    @ray.remote
    def f():
        for i in range(3):
            yield i

    g = f.remote()
    return type(g).__name__, values(ray, g)


@table.row("num_returns='streaming' by options.", gives=[0, 1])
def streaming_by_options(ray):
    @ray.remote
    def f():
        yield 0
        yield 1

    return values(ray, f.options(num_returns="streaming").remote())


@table.row("Each item is a reference.", gives=True)
def items_are_references(ray):
    @ray.remote
    def f():
        yield 1

    return isinstance(next(f.remote()), ray.ObjectRef)


@table.row("next, then StopIteration.", gives=[5, "StopIteration"])
def next_then_stop(ray):
    @ray.remote
    def f():
        yield 5

    g = f.remote()
    return [ray.get(next(g)), error_of(lambda: next(g))]


@table.row("An empty generator.", gives=[])
def an_empty_generator(ray):
    @ray.remote
    def f():
        if False:
            yield 1

    return list(f.remote())


@table.row("A generator method of an actor.", gives=[0, 1, 4])
def a_generator_method(ray):
    @ray.remote
    class A:
        def squares(self, n):
            for i in range(n):
                yield i * i

    return values(ray, A.remote().squares.remote(3))


@table.row(
    "yield from an iterator of any kind (Ray's actors need a generator).",
    gives=[0, 1],
    only="zactor",
)
def yield_from_an_iterator(ray):
    @ray.remote
    class A:
        def count(self, n):
            yield from range(n)

    return values(ray, A.remote().count.remote(2))


@table.row("Two generators of one actor run one after the other.", gives=[[0, 1], [0, 1]])
def two_generators_of_one_actor(ray):
    @ray.remote
    class A:
        def count(self):
            for i in range(2):
                yield i

    a = A.remote()
    first, second = a.count.remote(), a.count.remote()
    return [values(ray, second), values(ray, first)]


@table.row("An async generator method.", gives=[0, 1, 2])
def an_async_generator_method(ray):
    @ray.remote
    class A:
        async def count(self):
            for i in range(3):
                await asyncio.sleep(0)
                yield i

    return values(ray, A.remote().count.remote())


@table.row("aiter/anext in asyncio.", gives=[0, 1, 2])
def async_iteration(ray):
    @ray.remote
    def f():
        for i in range(3):
            yield i

    async def main():
        return [await ref async for ref in f.remote()]

    return asyncio.run(main())


@table.row("anext ends with StopAsyncIteration.", gives="StopAsyncIteration")
def async_iteration_ends(ray):
    @ray.remote
    def f():
        yield 1

    async def main():
        g = f.remote()
        await anext(g)
        await anext(g)

    return error_of(lambda: asyncio.run(main()))


@table.row("An item is there before the generator has ended.", gives="first")
def items_come_as_they_are_made(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def f():
        yield "first"
        gate()
        yield "second"

    g = f.remote()
    first = ray.get(next(g))
    (tmp_path / "open").touch()
    assert ray.get(next(g)) == "second"
    return first


@table.row("The producer runs eagerly.", gives=True)
def the_producer_runs_ahead(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    def f():
        for i in range(20):
            tally()
            yield i

    g = f.remote()
    ran = wait_until(lambda: count_at(tmp_path / "n") == 20)
    return ran and len(list(g)) == 20


@table.row("With back-pressure the producer waits for the consumer.", gives=(True, 20))
def the_producer_waits_under_back_pressure(ray, tmp_path):
    import time

    tally = tally_at(tmp_path / "n")

    @ray.remote(_generator_backpressure_num_objects=2)
    def f():
        for i in range(20):
            tally()
            yield i

    g = f.remote()
    wait_until(lambda: count_at(tmp_path / "n") >= 2)
    time.sleep(0.3)
    return count_at(tmp_path / "n") <= 4, len(list(g))


@table.row("Back-pressure on a method.", gives=10)
def back_pressure_on_a_method(ray):
    @ray.remote
    class A:
        @ray.method(_generator_backpressure_num_objects=1)
        def count(self):
            for i in range(10):
                yield i

    return len(values(ray, A.remote().count.remote()))


@table.row(".completed() is there when the generator has ended.", gives=True)
def completed_tells_the_end(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def f():
        yield 1
        gate()

    g = f.remote()
    next(g)
    early, _ = ray.wait([g.completed()], timeout=0.2)
    (tmp_path / "open").touch()
    late, _ = ray.wait([g.completed()], timeout=20)
    return (len(early), len(late)) == (0, 1)


@table.row(
    "App error: items, then a ref that raises it, then StopIteration.",
    gives=[1, "ValueError", "StopIteration"],
)
def an_error_is_the_last_item(ray):
    @ray.remote
    def f():
        yield 1
        raise ValueError("late")

    g = f.remote()
    out = [ray.get(next(g))]
    last = next(g)
    try:
        ray.get(last)
    except ValueError:
        out.append("ValueError")
    return [*out, error_of(lambda: next(g))]


@table.row("An error before the first item.", raises="ValueError")
def an_error_before_the_first_item(ray):
    @ray.remote
    def f():
        raise ValueError("early")
        yield 1

    values(ray, f.remote())


@table.row("An error in an actor's generator leaves the actor alive.", gives=["ValueError", 2])
def an_actor_survives_its_generators_error(ray):
    @ray.remote
    class A:
        def bad(self):
            yield 1
            raise ValueError

        def two(self):
            return 2

    a = A.remote()
    try:
        values(ray, a.bad.remote())
    except ValueError:
        return ["ValueError", ray.get(a.two.remote())]


@table.row("In wait: ready when the next item is.", gives=(1, 0, 7))
def wait_takes_a_generator(ray):
    @ray.remote
    def f():
        yield 7

    g = f.remote()
    ready, rest = ray.wait([g], timeout=20)
    return len(ready), len(rest), ray.get(next(ready[0]))


@table.row("In wait: not ready while no item is.", gives=(0, 1))
def wait_on_a_slow_generator(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def f():
        gate()
        yield 1

    g = f.remote()
    ready, rest = ray.wait([g], timeout=0.2)
    (tmp_path / "open").touch()
    return len(ready), len(rest)


@table.row("In wait: mixed with refs.", gives=2)
def wait_on_generators_and_references(ray):
    @ray.remote
    def f():
        yield 1

    ready, _ = ray.wait([f.remote(), ray.put(2)], num_returns=2, timeout=20)
    return len(ready)


@table.row("Several generators multiplexed by wait.", gives=[0, 0, 1, 1, 2, 2])
def generators_multiplexed(ray):
    @ray.remote
    def f():
        for i in range(3):
            yield i

    open_ones, out = [f.remote(), f.remote()], []
    while open_ones:
        [g], open_ones = ray.wait(open_ones)
        try:
            out.append(ray.get(next(g)))
            open_ones.append(g)
        except StopIteration:
            pass
    return sorted(out)


@table.row("wait takes several generators that all have an item.", gives=(2, 0))
def ready_generators_are_several(ray):
    @ray.remote
    def f():
        yield 1

    both = [f.remote(), f.remote()]
    for generator in both:
        ray.wait([generator], timeout=20)
    ready, rest = ray.wait(both, num_returns=2, timeout=20)
    return len(ready), len(rest)


@table.row("Not picklable.", raises="TypeError")
def a_generator_is_not_picklable(ray):
    @ray.remote
    def f():
        yield 1

    pickle.dumps(f.remote())


@table.row("Not passable as an argument.", raises="TypeError", only="ray")
def a_generator_is_not_an_argument(ray):
    @ray.remote
    def f():
        yield 1

    @ray.remote
    def g(x):
        return x

    g.remote(f.remote())


@table.row("get of a generator gives the generator.", gives=True)
def get_of_a_generator(ray):
    @ray.remote
    def f():
        yield 1

    g = f.remote()
    return ray.get(g) is g


@table.row("No send, throw or close.", gives=["NotImplementedError"] * 3)
def a_generator_has_no_send(ray):
    @ray.remote
    def f():
        yield 1

    g = f.remote()
    return [
        error_of(lambda: g.send(None)),
        error_of(lambda: g.throw(ValueError())),
        error_of(lambda: g.close()),
    ]


@table.row("The return value is lost.", gives=[1])
def the_return_value_is_lost(ray):
    @ray.remote
    def f():
        yield 1
        return 2

    return values(ray, f.remote())


@table.row("Items can be passed on as arguments.", gives=[1, 2, 3])
def items_as_arguments(ray):
    @ray.remote
    def f():
        for i in range(3):
            yield i

    @ray.remote
    def more(x):
        return x + 1

    return ray.get([more.remote(ref) for ref in f.remote()])


@table.row("Large items stream as well.", gives=[0.0, 300000.0, 600000.0], needs="numpy")
def large_items(ray):
    import numpy as np

    @ray.remote
    def f():
        for i in range(3):
            yield np.full(300_000, i)

    return [float(ray.get(ref).sum()) for ref in f.remote()]


@table.row("1,000 items.", gives=499500)
def a_thousand_items(ray):
    @ray.remote
    def f():
        for i in range(1000):
            yield i

    return sum(ray.get(list(f.remote())))


@table.row("Cancel ends the producer; the consumer sees TaskCancelledError.", gives=True)
def cancel_ends_the_producer(ray):
    @ray.remote
    def f():
        import time

        i = 0
        while True:
            yield i
            i += 1
            time.sleep(0.01)

    g = f.remote()
    ray.get(next(g))
    ray.cancel(g)

    def drain():
        for ref in g:
            ray.get(ref)

    return error_of(drain) in {"TaskCancelledError", "RayTaskError"}


@table.row("num_returns='dynamic': a ref to a generator of refs.", gives=[0, 1, 2])
def dynamic_generators(ray):
    @ray.remote(num_returns="dynamic")
    def f():
        for i in range(3):
            yield i

    return [ray.get(ref) for ref in ray.get(f.remote())]


@table.row("num_returns=n with a generator function: n refs.", gives=[0, 1])
def a_generator_for_fixed_returns(ray):
    @ray.remote(num_returns=2)
    def f():
        for i in range(2):
            yield i

    return ray.get(list(f.remote()))


@table.row(
    "... that raises midway: what it had yielded is there.", gives=[0, "KeyError", "KeyError"]
)
def a_generator_for_fixed_returns_raises(ray):
    @ray.remote(num_returns=3)
    def f():
        yield 0
        raise KeyError("midway")

    first, *rest = f.remote()
    return [ray.get(first), *(error_of(lambda ref=ref: ray.get(ref)) for ref in rest)]


@table.row("... that would yield more: the first n.", gives=[0, 1])
def a_generator_for_fixed_returns_has_more(ray):
    @ray.remote(num_returns=2)
    def f():
        for i in range(4):
            yield i

    return ray.get(list(f.remote()))


@table.row("DynamicObjectRefGenerator has its name at the top.", gives=True)
def the_name_of_dynamic_generators(ray):
    @ray.remote(num_returns="dynamic")
    def f():
        yield 0

    return isinstance(ray.get(f.remote()), ray.DynamicObjectRefGenerator)


@table.row("num_returns=1 with a generator function: what it yields.", gives=[[0], "KeyError"])
def a_generator_for_one_return(ray):
    @ray.remote(num_returns=1)
    def f(fails):
        if fails:
            raise KeyError
        yield [0]

    return [ray.get(f.remote(False)), error_of(lambda: ray.get(f.remote(True)))]


@table.row(
    "num_returns='dynamic': an error is the last of the references.", gives=[0, "KeyError"]
)
def a_dynamic_generator_raises(ray):
    @ray.remote(num_returns="dynamic")
    def f():
        yield 0
        raise KeyError

    first, second = ray.get(f.remote())
    return [ray.get(first), error_of(lambda: ray.get(second))]


@table.row(
    "num_returns='dynamic' of what is no generator: RayTaskError.", raises="RayTaskError"
)
def a_list_is_no_dynamic_generator(ray):
    @ray.remote(num_returns="dynamic")
    def f():
        return [1, 2]

    ray.get(f.remote())


@table.row("A retried generator skips what was yielded.", gives=[0, 1, 2])
def a_retried_generator_skips(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=2, retry_exceptions=True)
    def f():
        run = tally()
        for i in range(3):
            if run == 1 and i == 2:
                raise ValueError("once")
            yield i

    return values(ray, f.remote())


@table.row("A generator whose worker dies is run again.", gives=[0, 1, 2])
def a_generator_survives_its_worker(ray, tmp_path):
    import os

    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=2)
    def f():
        run = tally()
        for i in range(3):
            if run == 1 and i == 2:
                os._exit(1)
            yield i

    return values(ray, f.remote())


@table.row("A generator whose actor dies: the last ref raises.", raises="ActorDiedError")
def a_generator_whose_actor_dies(ray):
    import os

    @ray.remote
    class A:
        def count(self):
            yield 0
            os._exit(1)

    values(ray, A.remote().count.remote())


@table.row(
    "num_returns='streaming' on a function without yield: ValueError.", raises="ValueError"
)
def streaming_asked_of_a_plain_function(ray):
    @ray.remote(num_returns="streaming")
    def f():
        return 1


@table.row("A generator can be passed on to another actor.", gives=[0, 1], only="zactor")
def a_generator_is_passed_on(ray):
    @ray.remote
    def f():
        for i in range(2):
            yield i

    @ray.remote
    class Consumer:
        def all(self, gs):
            return [ray.get(ref) for ref in gs[0]]

    return ray.get(Consumer.remote().all.remote([f.remote()]))


@table.row("Dropping the generator ends the producer.", gives=True, only="zactor")
def a_dropped_generator_ends_its_producer(ray, tmp_path):
    import gc
    import time

    tally = tally_at(tmp_path / "n")

    @ray.remote
    def f():
        while True:
            tally()
            yield 1
            time.sleep(0.01)

    g = f.remote()
    next(g)
    del g
    gc.collect()

    def still():
        before = count_at(tmp_path / "n")
        time.sleep(0.2)
        return count_at(tmp_path / "n") == before

    return wait_until(still)


test_generators = table.test()
