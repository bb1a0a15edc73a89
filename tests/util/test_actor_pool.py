"""`ActorPool` hands work to free actors; expectations are those of `ray.util.ActorPool`."""

import time

from tests.parity.table import Table, error_of

table = Table("2.10 ActorPool")


def make_pool(ray, size=2):
    @ray.remote
    class Worker:
        def double(self, x):
            return 2 * x

        def slow(self, x):
            time.sleep(x)
            return x

        def bad(self, x):
            raise ValueError(x)

        def die(self, x):
            import os

            os._exit(1)

    return ray.util.ActorPool([Worker.remote() for _ in range(size)])


@table.row("map keeps the order of the input.", gives=[0, 2, 4, 6, 8])
def map_keeps_the_order(ray):
    return list(make_pool(ray).map(lambda a, v: a.double.remote(v), range(5)))


@table.row("map keeps the order though later ones end first.", gives=[0.3, 0.0, 0.1])
def map_waits_for_the_slow(ray):
    return list(make_pool(ray).map(lambda a, v: a.slow.remote(v), [0.3, 0.0, 0.1]))


@table.row("map_unordered yields what is there first.", gives=[0.0, 1.0])
def map_unordered_yields_the_fast(ray):
    pool = make_pool(ray)
    list(pool.map(lambda a, v: a.double.remote(v), [1, 1]))
    return list(pool.map_unordered(lambda a, v: a.slow.remote(v), [1.0, 0.0]))


@table.row("map_unordered yields everything.", gives=[0, 2, 4, 6, 8, 10, 12])
def map_unordered_yields_all(ray):
    return sorted(make_pool(ray).map_unordered(lambda a, v: a.double.remote(v), range(7)))


@table.row("map of nothing.", gives=[])
def map_of_nothing(ray):
    return list(make_pool(ray).map(lambda a, v: a.double.remote(v), []))


@table.row("submit, then get_next in the order of submission.", gives=[2, 4, 6])
def submit_and_get_next(ray):
    pool = make_pool(ray)
    for value in (1, 2, 3):
        pool.submit(lambda a, v: a.double.remote(v), value)
    return [pool.get_next() for _ in range(3)]


@table.row("has_next while results are to be fetched.", gives=[False, True, False])
def has_next(ray):
    pool = make_pool(ray)
    seen = [pool.has_next()]
    pool.submit(lambda a, v: a.double.remote(v), 1)
    seen.append(pool.has_next())
    pool.get_next()
    return [*seen, pool.has_next()]


@table.row("get_next with nothing left: StopIteration.", gives=["StopIteration"] * 2)
def nothing_left(ray):
    pool = make_pool(ray)
    return [error_of(pool.get_next), error_of(pool.get_next_unordered)]


@table.row(
    "get_next(timeout): TimeoutError, and the result can be had later.",
    gives=["TimeoutError", 0.5],
)
def a_timeout(ray):
    pool = make_pool(ray)
    pool.submit(lambda a, v: a.slow.remote(v), 0.5)
    return [error_of(lambda: pool.get_next(timeout=0.05)), pool.get_next(timeout=20)]


@table.row("get_next_unordered(timeout): TimeoutError.", gives=["TimeoutError", 0.5])
def an_unordered_timeout(ray):
    pool = make_pool(ray)
    pool.submit(lambda a, v: a.slow.remote(v), 0.5)
    seen = error_of(lambda: pool.get_next_unordered(timeout=0.05))
    return [seen, pool.get_next_unordered(timeout=20)]


@table.row("ignore_if_timedout: the result is given up.", gives=["TimeoutError", False])
def a_result_given_up(ray):
    pool = make_pool(ray)
    pool.submit(lambda a, v: a.slow.remote(v), 0.5)
    seen = error_of(lambda: pool.get_next(timeout=0.05, ignore_if_timedout=True))
    return [seen, pool.has_next()]


@table.row("get_next after get_next_unordered: ValueError.", gives=[True, "ValueError"])
def the_two_are_not_mixed(ray):
    pool = make_pool(ray)
    for value in (0.5, 0.0):
        pool.submit(lambda a, v: a.slow.remote(v), value)
    list(range(1))
    first = pool.get_next_unordered()
    again = pool.get_next_unordered()
    pool.submit(lambda a, v: a.slow.remote(v), 0.5)
    pool.submit(lambda a, v: a.slow.remote(v), 0.0)
    assert pool.get_next_unordered() == 0.0
    assert pool.get_next_unordered() == 0.5
    return [{first, again} == {0.0, 0.5}, "ValueError"]


@table.row("has_free and pop_idle and push.", gives=[True, True, False, None, True])
def actors_in_and_out(ray):
    pool = make_pool(ray, size=1)
    seen = [pool.has_free()]
    actor = pool.pop_idle()
    seen += [actor is not None, pool.has_free(), pool.pop_idle()]
    pool.push(actor)
    return [*seen, pool.has_free()]


@table.row("push of an actor that is there: ValueError.", raises="ValueError")
def push_twice(ray):
    pool = make_pool(ray, size=1)
    actor = pool.pop_idle()
    pool.push(actor)
    pool.push(actor)


@table.row("push sends work that waits.", gives=[2, 4])
def push_sends_waiting_work(ray):
    @ray.remote
    class Worker:
        def double(self, x):
            return 2 * x

    pool = ray.util.ActorPool([])
    for value in (1, 2):
        pool.submit(lambda a, v: a.double.remote(v), value)
    pool.push(Worker.remote())
    return [pool.get_next(), pool.get_next()]


@table.row(
    "An error of the work is raised; the actor stays in the pool.", gives=["ValueError", 2]
)
def an_error_leaves_the_actor(ray):
    pool = make_pool(ray, size=1)
    pool.submit(lambda a, v: a.bad.remote(v), 1)
    seen = error_of(pool.get_next)
    pool.submit(lambda a, v: a.double.remote(v), 1)
    return [seen, pool.get_next()]


@table.row("A dead actor leaves the pool.", gives=["ActorDiedError", False])
def a_dead_actor_leaves(ray):
    pool = make_pool(ray, size=1)
    pool.submit(lambda a, v: a.die.remote(v), 1)
    return [error_of(pool.get_next), pool.has_free()]


@table.row("map drops results nobody fetched.", gives=[20, 40])
def map_after_submit(ray):
    pool = make_pool(ray)
    pool.submit(lambda a, v: a.double.remote(v), 1)
    pool.submit(lambda a, v: a.double.remote(v), 2)
    time.sleep(0.3)
    return list(pool.map(lambda a, v: a.double.remote(v), [10, 20]))


test_actor_pool = table.test()
