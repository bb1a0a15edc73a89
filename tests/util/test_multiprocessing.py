"""`util.multiprocessing.Pool`; expectations are those of `ray.util.multiprocessing`."""

import importlib
import multiprocessing
import os
import time

from tests.parity.table import Table, error_of, wait_until

table = Table("2.10 Pool")


def make_pool(ray, *args, **kwargs):
    return importlib.import_module(f"{ray.__name__}.util.multiprocessing").Pool(*args, **kwargs)


@table.row("map keeps the order.", gives=[0, 1, 4, 9, 16])
def map_keeps_the_order(ray):
    with make_pool(ray, 2) as pool:
        return pool.map(lambda x: x * x, range(5))


@table.row("map runs in other processes.", gives=True)
def map_runs_elsewhere(ray):
    with make_pool(ray, 2) as pool:
        return os.getpid() not in pool.map(lambda _: os.getpid(), range(8))


@table.row("map with a chunksize.", gives=list(range(10)))
def map_in_chunks(ray):
    with make_pool(ray, 2) as pool:
        return pool.map(lambda x: x, range(10), chunksize=3)


@table.row("map of nothing.", gives=[])
def map_of_nothing(ray):
    with make_pool(ray, 2) as pool:
        return pool.map(lambda x: x, [])


@table.row("apply with args and kwargs.", gives=(1, 2, 3))
def apply(ray):
    with make_pool(ray, 1) as pool:
        return pool.apply(lambda a, b, c=0: (a, b, c), (1, 2), {"c": 3})


@table.row("apply raises what the function raises.", raises="ZeroDivisionError")
def apply_raises(ray):
    with make_pool(ray, 1) as pool:
        pool.apply(lambda: 1 / 0)


@table.row("apply_async: ready, wait, successful, get.", gives=[True, True, 5])
def apply_async(ray):
    with make_pool(ray, 1) as pool:
        result = pool.apply_async(lambda: 5)
        result.wait(timeout=20)
        return [result.ready(), result.successful(), result.get()]


@table.row("get(timeout): multiprocessing.TimeoutError.", gives=True)
def get_times_out(ray):
    with make_pool(ray, 1) as pool:
        result = pool.apply_async(time.sleep, (1,))
        try:
            result.get(timeout=0.05)
        except multiprocessing.TimeoutError:
            return True


@table.row("successful() before it is ready: ValueError.", gives="ValueError")
def successful_too_early(ray):
    with make_pool(ray, 1) as pool:
        result = pool.apply_async(time.sleep, (0.5,))
        return error_of(result.successful)


@table.row("successful() of a failed one: False.", gives=False)
def successful_of_a_failed_one(ray):
    with make_pool(ray, 1) as pool:
        result = pool.apply_async(lambda: 1 / 0)
        result.wait()
        return result.successful()


@table.row("callback gets the result.", gives=[7])
def callback(ray):
    seen = []
    with make_pool(ray, 1) as pool:
        pool.apply_async(lambda: 7, callback=seen.append).get()
        wait_until(lambda: seen)
    return seen


@table.row(
    "error_callback gets the exception, as the standard library's (Ray's is wrapped).",
    gives=["ZeroDivisionError"],
    only="zactor",
)
def error_callback(ray):
    seen = []
    with make_pool(ray, 1) as pool:
        pool.apply_async(
            lambda: 1 / 0, error_callback=lambda e: seen.append(type(e).__name__)
        ).wait()
        wait_until(lambda: seen)
    return seen


@table.row(
    "callback of map_async gets the list in order (Ray's: as they came).",
    gives=[[0, 2, 4]],
    only="zactor",
)
def callback_of_a_map(ray):
    seen = []
    with make_pool(ray, 2) as pool:
        pool.map_async(lambda x: 2 * x, range(3), callback=seen.append).get()
        wait_until(lambda: seen)
    return seen


@table.row("map raises the exception of a run.", raises="ValueError", match="three")
def map_raises(ray):
    def f(x):
        if x == 3:
            raise ValueError("three")
        return x

    with make_pool(ray, 2) as pool:
        pool.map(f, range(5))


@table.row("starmap and starmap_async.", gives=[[3, 7], [2, 12]])
def starmap(ray):
    with make_pool(ray, 2) as pool:
        sums = pool.starmap(lambda a, b: a + b, [(1, 2), (3, 4)])
        products = pool.starmap_async(lambda a, b: a * b, [(1, 2), (3, 4)])
        return [sums, products.get()]


@table.row("imap keeps the order.", gives=[0.3, 0.0, 0.1])
def imap(ray):
    def nap(x):
        time.sleep(x)
        return x

    with make_pool(ray, 3) as pool:
        return list(pool.imap(nap, [0.3, 0.0, 0.1]))


@table.row("imap_unordered yields everything.", gives=[0, 1, 2, 3])
def imap_unordered(ray):
    with make_pool(ray, 2) as pool:
        return sorted(pool.imap_unordered(lambda x: x, range(4), chunksize=2))


@table.row("imap_unordered yields the fast first.", gives=0.0)
def imap_unordered_yields_the_fast(ray):
    def nap(x):
        time.sleep(x)
        return x

    with make_pool(ray, 2) as pool:
        pool.map(nap, [0.0, 0.0])
        return next(pool.imap_unordered(nap, [0.7, 0.0]))


@table.row("imap of an endless iterator: as far as is taken.", gives=[0, 1, 2])
def imap_of_an_endless_iterator(ray):
    import itertools

    with make_pool(ray, 2) as pool:
        it = pool.imap(lambda x: x, itertools.count())
        return [next(it) for _ in range(3)]


@table.row("imap: next(timeout).", gives=True)
def imap_with_a_timeout(ray):
    with make_pool(ray, 1) as pool:
        it = pool.imap(time.sleep, [1])
        try:
            it.next(timeout=0.05)
        except multiprocessing.TimeoutError:
            return True


@table.row("imap: an exception is yielded in its item's place.", gives=[0, True, 2])
def imap_goes_on_after_an_exception(ray):
    def f(x):
        if x == 1:
            raise ValueError
        return x

    with make_pool(ray, 1) as pool:
        it = pool.imap(f, range(3))
        return [next(it), isinstance(next(it), ValueError), next(it)]


@table.row("initializer runs in each process.", gives=["set"] * 4)
def initializer(ray):
    def start(value):
        os.environ["POOL_INITIALIZED"] = value

    with make_pool(ray, 2, initializer=start, initargs=("set",)) as pool:
        return pool.map(lambda _: os.environ.get("POOL_INITIALIZED"), range(4))


@table.row("initializer must be callable.", raises="TypeError", only="zactor")
def a_bad_initializer(ray):
    make_pool(ray, 1, initializer=5)


@table.row("maxtasksperchild: processes are replaced.", gives=4)
def processes_are_replaced(ray):
    with make_pool(ray, 1, maxtasksperchild=1) as pool:
        return len(set(pool.map(lambda _: os.getpid(), range(4), chunksize=1)))


@table.row("processes <= 0: ValueError.", gives=["ValueError"] * 2)
def no_processes(ray):
    return [error_of(lambda n=n: make_pool(ray, n)) for n in (0, -1)]


@table.row("More processes than processors: ValueError.", raises="ValueError")
def too_many_processes(ray):
    make_pool(ray, 10_000)


@table.row("close: no more work: ValueError.", gives="ValueError")
def work_after_close(ray):
    pool = make_pool(ray, 1)
    pool.close()
    out = error_of(lambda: pool.apply(lambda: 1))
    pool.join()
    return out


@table.row("join before close: ValueError.", gives="ValueError")
def join_before_close(ray):
    with make_pool(ray, 1) as pool:
        return error_of(pool.join)


@table.row("close lets work finish; join waits.", gives=[1, 1])
def close_lets_work_finish(ray):
    def nap(_):
        time.sleep(0.2)
        return 1

    pool = make_pool(ray, 1)
    result = pool.map_async(nap, range(2))
    pool.close()
    pool.join()
    return result.get()


@table.row("terminate: no more work: ValueError.", gives="ValueError")
def work_after_terminate(ray):
    pool = make_pool(ray, 1)
    pool.terminate()
    return error_of(lambda: pool.apply(lambda: 1))


@table.row("A remote function is taken for a function.", gives=[0, 2, 4], only="zactor")
def a_remote_function(ray):
    @ray.remote
    def double(x):
        return 2 * x

    with make_pool(ray, 2) as pool:
        return pool.map(double, range(3))


@table.row("ray_remote_args are options of the actors.", gives=["x"])
def options_of_the_actors(ray):
    options = {"runtime_env": {"env_vars": {"POOL_OPTION": "x"}}}
    with make_pool(ray, 1, ray_remote_args=options) as pool:
        return pool.map(lambda _: os.environ.get("POOL_OPTION"), range(1))


@table.row("A pool cannot be pickled.", raises="NotImplementedError", only="zactor")
def a_pool_is_not_picklable(ray):
    import pickle

    with make_pool(ray, 1) as pool:
        pickle.dumps(pool)


test_multiprocessing = table.test()
