"""`util.queue.Queue`; expectations are those of `ray.util.queue`."""

import asyncio
import importlib
import queue as standard
import time

from tests.parity.table import Table, error_of

table = Table("2.10 Queue")


def make_queue(ray, *args, **kwargs):
    return importlib.import_module(f"{ray.__name__}.util.queue").Queue(*args, **kwargs)


@table.row("First in, first out.", gives=[0, 1, 2])
def first_in_first_out(ray):
    q = make_queue(ray)
    for i in range(3):
        q.put(i)
    return [q.get() for _ in range(3)]


@table.row("qsize, size, len, empty and full.", gives=[(0, True, False), (2, False, True)])
def sizes(ray):
    q = make_queue(ray, 2)
    before = q.qsize(), q.empty(), q.full()
    q.put(1)
    q.put(2)
    assert q.qsize() == q.size() == len(q)
    return [before, (len(q), q.empty(), q.full())]


@table.row("put_nowait in a full queue: Full, a queue.Full.", gives=["Full", True])
def put_nowait_in_a_full_queue(ray):
    q = make_queue(ray, 1)
    q.put_nowait(1)
    try:
        q.put_nowait(2)
    except standard.Full as error:
        return [error_of(lambda: q.put_nowait(2)), isinstance(error, standard.Full)]


@table.row("get_nowait of an empty queue: Empty, a queue.Empty.", gives=["Empty", True])
def get_nowait_of_an_empty_queue(ray):
    q = make_queue(ray)
    try:
        q.get_nowait()
    except standard.Empty as error:
        return [error_of(q.get_nowait), isinstance(error, standard.Empty)]


@table.row("put(block=False) and get(block=False).", gives=["Full", 1, "Empty"])
def not_blocking(ray):
    q = make_queue(ray, 1)
    q.put(1, block=False)
    full = error_of(lambda: q.put(2, block=False))
    return [full, q.get(block=False), error_of(lambda: q.get(block=False))]


@table.row("put(timeout) in a full queue: Full after it.", gives=["Full", True])
def put_with_a_timeout(ray):
    q = make_queue(ray, 1)
    q.put(1)
    start = time.monotonic()
    kind = error_of(lambda: q.put(2, timeout=0.3))
    return [kind, time.monotonic() - start >= 0.25]


@table.row("get(timeout) of an empty queue: Empty after it.", gives=["Empty", True])
def get_with_a_timeout(ray):
    q = make_queue(ray)
    q.empty()
    start = time.monotonic()
    kind = error_of(lambda: q.get(timeout=0.3))
    return [kind, time.monotonic() - start >= 0.25]


@table.row("A negative timeout: ValueError.", gives=["ValueError"] * 2)
def a_negative_timeout(ray):
    q = make_queue(ray)
    return [error_of(lambda: q.put(1, timeout=-1)), error_of(lambda: q.get(timeout=-1))]


@table.row("get waits for a put of another process.", gives="late")
def get_waits_for_a_put(ray):
    q = make_queue(ray)

    @ray.remote
    def put(q):
        time.sleep(0.2)
        q.put("late")

    ref = put.remote(q)
    value = q.get(timeout=30)
    ray.get(ref)
    return value


@table.row("put waits for a get of another process.", gives=[1, 2])
def put_waits_for_a_get(ray):
    q = make_queue(ray, 1)
    q.put(1)

    @ray.remote
    def get(q):
        time.sleep(0.2)
        return q.get()

    ref = get.remote(q)
    q.put(2, timeout=30)
    return [ray.get(ref), q.get()]


@table.row("Producers and consumers in tasks.", gives=list(range(20)))
def producers_and_consumers(ray):
    q = make_queue(ray, 5)

    @ray.remote
    def produce(q, start):
        for i in range(start, start + 10):
            q.put(i)

    @ray.remote
    def consume(q):
        return [q.get(timeout=30) for _ in range(10)]

    refs = [produce.remote(q, 0), produce.remote(q, 10)]
    out = ray.get([consume.remote(q), consume.remote(q)])
    ray.get(refs)
    return sorted(out[0] + out[1])


@table.row("put_nowait_batch and get_nowait_batch.", gives=[[0, 1], [2, 3]])
def batches(ray):
    q = make_queue(ray)
    q.put_nowait_batch(range(4))
    return [q.get_nowait_batch(2), q.get_nowait_batch(2)]


@table.row("A batch that does not fit: Full, and nothing is put.", gives=["Full", 1])
def a_batch_that_does_not_fit(ray):
    q = make_queue(ray, 2)
    q.put(0)
    return [error_of(lambda: q.put_nowait_batch([1, 2])), q.qsize()]


@table.row("A batch that is not there: Empty, and nothing is taken.", gives=["Empty", 1])
def a_batch_that_is_not_there(ray):
    q = make_queue(ray)
    q.put(0)
    return [error_of(lambda: q.get_nowait_batch(2)), q.qsize()]


@table.row("Batches check their arguments.", gives=["TypeError", "TypeError", "ValueError"])
def arguments_of_batches(ray):
    q = make_queue(ray)
    return [
        error_of(lambda: q.put_nowait_batch(1)),
        error_of(lambda: q.get_nowait_batch(1.5)),
        error_of(lambda: q.get_nowait_batch(-1)),
    ]


@table.row("Coroutines: put_async and get_async.", gives=[0, 1, 2])
def coroutines(ray):
    q = make_queue(ray)

    async def main():
        await asyncio.gather(*[q.put_async(i) for i in range(3)])
        return [await q.get_async() for _ in range(3)]

    return sorted(asyncio.run(main()))


@table.row("Coroutines: Full and Empty.", gives=["Full", "Empty"])
def errors_of_coroutines(ray):
    q = make_queue(ray, 1)

    async def fill():
        await q.put_async(1)
        await q.put_async(2, block=False)

    async def drain():
        await q.get_async()
        await q.get_async(timeout=0.1)

    return [error_of(lambda: asyncio.run(fill())), error_of(lambda: asyncio.run(drain()))]


@table.row("None, exceptions and large values are items.", gives=[None, "ValueError", 100_000])
def items_of_all_kinds(ray):
    q = make_queue(ray)
    q.put(None)
    q.put(ValueError("x"))
    q.put("x" * 100_000)
    return [q.get(), type(q.get()).__name__, len(q.get())]


@table.row("actor_options are the actor's.", gives=True)
def options_of_the_actor(ray):
    q = make_queue(ray, actor_options={"name": "util-queue", "num_cpus": 1})
    q.put(1)
    return ray.get_actor("util-queue") == q.actor


@table.row("shutdown ends the actor; later calls fail.", gives=[None, True])
def shutdown(ray):
    q = make_queue(ray)
    q.put(1)
    q.shutdown()
    return [q.actor, error_of(lambda: q.put(1)) != "none"]


@table.row("shutdown(force=True).", gives=None)
def shutdown_by_force(ray):
    q = make_queue(ray)
    q.put(1)
    q.shutdown(force=True)
    return q.actor


test_queue = table.test()
