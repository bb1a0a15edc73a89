"""The rows of `ray microbenchmark`: the same names and the same work, on any module with Ray's API.

`api` is that module. Sizes shrink under `--quick`; full runs do what Ray's own program does.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

from bench.work import BUSY_NEIGHBOUR, GIGABYTE, ONE_AT_A_TIME, Group, Measure, Rate, Setting

GROUP = Group("ray microbenchmark")
PLACEMENT_GROUPS = Group("ray microbenchmark: placement groups")
CLIENT = Group("ray microbenchmark: a driver that joined from outside")

Works = Iterator[Rate | Measure]

MANY = 1000  # calls outstanding in the rows called async
TASKS = 4  # clients in the rows called multi, and in n:n


def _half_the_cpus() -> int:
    return max(1, multiprocessing.cpu_count() // 2)


def _actor(api: Any) -> Any:
    @api.remote(num_cpus=0)
    class Actor:
        def small_value(self) -> bytes:
            return b"ok"

        def small_value_arg(self, _x: Any) -> bytes:
            return b"ok"

    return Actor


def _async_actor(api: Any) -> Any:
    @api.remote
    class AsyncActor:
        async def small_value(self) -> bytes:
            return b"ok"

        async def small_value_with_arg(self, _x: Any) -> bytes:
            return b"ok"

    return AsyncActor


def _client(api: Any) -> Any:
    @api.remote(num_cpus=0)
    class Client:
        def __init__(self, servers: list[Any]) -> None:
            self.servers = servers

        def small_value_batch(self, n: int) -> None:
            results = []
            for server in self.servers:
                results.extend([server.small_value.remote() for _ in range(n)])
            api.get(results)

        def small_value_batch_arg(self, n: int) -> None:
            x = api.put(0)
            results = []
            for server in self.servers:
                results.extend([server.small_value_arg.remote(x) for _ in range(n)])
            api.get(results)

    return Client


def _task(api: Any) -> Any:
    @api.remote
    def small_value() -> bytes:
        return b"ok"

    return small_value


# -- values ------------------------------------------------------------------------------------


@GROUP.row(
    "single client get calls (Plasma Store)", "get of one small put value", unit="gets/s"
)
def get_small(api: Any, _: Setting) -> Works:
    value = api.put(0)
    yield Rate.each(lambda: api.get(value))


@GROUP.row("single client put calls (Plasma Store)", "put of a small value", unit="puts/s")
def put_small(api: Any, _: Setting) -> Works:
    yield Rate.each(lambda: api.put(0))


@GROUP.row(
    "multi client put calls (Plasma Store)", "10 tasks that put 100 small values", unit="puts/s"
)
def multi_put_small(api: Any, _: Setting) -> Works:
    @api.remote
    def do_put_small() -> None:
        for _ in range(100):
            api.put(0)

    yield Rate.each(lambda: api.get([do_put_small.remote() for _ in range(10)]), 1000)


@GROUP.row("single client put gigabytes", "put of 800 MB of numpy", unit="GB/s")
def put_large(api: Any, setting: Setting) -> Works:
    import numpy as np

    size = setting.pick(100, 25) * 1024 * 1024
    array = np.zeros(size, dtype=np.int64)
    yield Rate.each(lambda: api.put(array), size * 8 / GIGABYTE)


@GROUP.row("single client tasks and get batch", "1,000 tasks, then one get", unit="batches/s")
def tasks_and_get_batch(api: Any, _: Setting) -> Works:
    small_value = _task(api)
    yield Rate.each(lambda: api.get([small_value.remote() for _ in range(MANY)]))


@GROUP.row(
    "multi client put gigabytes", "10 tasks that put 80 MB of numpy 10 times", unit="GB/s"
)
def multi_put_large(api: Any, setting: Setting) -> Works:
    size = setting.pick(10, 2)

    @api.remote
    def do_put() -> None:
        import numpy as np

        for _ in range(10):
            api.put(np.zeros(size * 1024 * 1024, dtype=np.int64))

    yield Rate.each(lambda: api.get([do_put.remote() for _ in range(10)]), 10 * size * 8 * 0.01)


@GROUP.row(
    "single client get object containing 10k refs",
    "get of a list of 10,000 refs",
    unit="gets/s",
)
def get_containing_refs(api: Any, setting: Setting) -> Works:
    n = setting.pick(10_000, 10_000)

    @api.remote
    def create_object_containing_ref() -> list[Any]:
        return [api.put(1) for _ in range(n)]

    containing = create_object_containing_ref.remote()
    api.wait([containing])
    yield Rate.each(lambda: api.get(containing))


@GROUP.row(
    "single client wait 1k refs",
    "1,000 tasks, then wait for one of those left, 1,000 times",
    unit="rounds/s",
)
def wait_multiple_refs(api: Any, _: Setting) -> Works:
    small_value = _task(api)

    def rounds() -> None:
        not_ready = [small_value.remote() for _ in range(MANY)]
        fetch_local = True  # asking once is enough, as Ray's own program says
        for _ in range(MANY):
            _ready, not_ready = api.wait(not_ready, fetch_local=fetch_local)
            fetch_local = False

    yield Rate.each(rounds)


# -- tasks -------------------------------------------------------------------------------------


@GROUP.row(
    "single client tasks sync", "one task at a time", unit="tasks/s", placements=ONE_AT_A_TIME
)
def tasks_sync(api: Any, _: Setting) -> Works:
    small_value = _task(api)
    yield Rate.each(lambda: api.get(small_value.remote()))


@GROUP.row("single client tasks async", "1,000 tasks outstanding", unit="tasks/s")
def tasks_async(api: Any, _: Setting) -> Works:
    small_value = _task(api)
    yield Rate.each(lambda: api.get([small_value.remote() for _ in range(MANY)]), MANY)


@GROUP.row(
    "multi client tasks async", "4 actors with 10,000 tasks outstanding each", unit="tasks/s"
)
def multi_tasks(api: Any, setting: Setting) -> Works:
    n = setting.pick(10_000, 250)
    small_value = _task(api)

    @api.remote(num_cpus=0)
    class Submitter:
        def small_value_batch(self, n: int) -> None:
            api.get([small_value.remote() for _ in range(n)])

    actors = [Submitter.remote() for _ in range(TASKS)]
    yield Rate.each(lambda: api.get([a.small_value_batch.remote(n) for a in actors]), n * TASKS)


# -- actors ------------------------------------------------------------------------------------


@GROUP.row(
    "1:1 actor calls sync", "one call at a time", placements=(*ONE_AT_A_TIME, BUSY_NEIGHBOUR)
)
def actor_sync(api: Any, _: Setting) -> Works:
    actor = _actor(api).remote()
    yield Rate.each(lambda: api.get(actor.small_value.remote()))


@GROUP.row("1:1 actor calls async", "1,000 calls outstanding")
def actor_async(api: Any, _: Setting) -> Works:
    actor = _actor(api).remote()
    yield Rate.each(lambda: api.get([actor.small_value.remote() for _ in range(MANY)]), MANY)


@GROUP.row("1:1 actor calls concurrent", "1,000 calls outstanding, an actor of 16 threads")
def actor_concurrent(api: Any, _: Setting) -> Works:
    actor = _actor(api).options(max_concurrency=16).remote()
    yield Rate.each(lambda: api.get([actor.small_value.remote() for _ in range(MANY)]), MANY)


@GROUP.row("1:n actor calls async", "an actor with 5,000 calls outstanding to each of n")
def one_to_n(api: Any, setting: Setting) -> Works:
    n = setting.pick(5000, 1000)
    actors = [_actor(api).remote() for _ in range(_half_the_cpus())]
    client = _client(api).remote(actors)
    yield Rate.each(lambda: api.get(client.small_value_batch.remote(n)), n * len(actors))


def _n_to_n(api: Any, setting: Setting, actor: Any) -> Works:
    n = setting.pick(5000, 1000)
    count = _half_the_cpus()
    actors = [actor.remote() for _ in range(count)]

    @api.remote
    def work(actors: list[Any]) -> None:
        api.get([actors[i % count].small_value.remote() for i in range(n)])

    yield Rate.each(lambda: api.get([work.remote(actors) for _ in range(TASKS)]), TASKS * n)


@GROUP.row("n:n actor calls async", "4 tasks with 5,000 calls outstanding over n actors")
def n_to_n(api: Any, setting: Setting) -> Works:
    yield from _n_to_n(api, setting, _actor(api))


@GROUP.row(
    "n:n actor calls with arg async",
    "n actors with 1,000 calls outstanding, a put ref as argument",
)
def n_to_n_arg(api: Any, setting: Setting) -> Works:
    n = setting.pick(1000, 1000)
    actors = [_actor(api).remote() for _ in range(_half_the_cpus())]
    clients = [_client(api).remote([actor]) for actor in actors]
    yield Rate.each(
        lambda: api.get([c.small_value_batch_arg.remote(n) for c in clients]), n * len(clients)
    )


# -- async actors ------------------------------------------------------------------------------


@GROUP.row("1:1 async-actor calls sync", "one call at a time", placements=ONE_AT_A_TIME)
def async_actor_sync(api: Any, _: Setting) -> Works:
    actor = _async_actor(api).remote()
    yield Rate.each(lambda: api.get(actor.small_value.remote()))


@GROUP.row("1:1 async-actor calls async", "1,000 calls outstanding")
def async_actor_async(api: Any, _: Setting) -> Works:
    actor = _async_actor(api).remote()
    yield Rate.each(lambda: api.get([actor.small_value.remote() for _ in range(MANY)]), MANY)


@GROUP.row("1:1 async-actor calls with args async", "1,000 calls outstanding, a number each")
def async_actor_args(api: Any, _: Setting) -> Works:
    actor = _async_actor(api).remote()
    yield Rate.each(
        lambda: api.get([actor.small_value_with_arg.remote(i) for i in range(MANY)]), MANY
    )


@GROUP.row("1:n async-actor calls async", "an actor with 5,000 calls outstanding to each of n")
def one_to_n_async_actor(api: Any, setting: Setting) -> Works:
    n = setting.pick(5000, 1000)
    actors = [_async_actor(api).remote() for _ in range(_half_the_cpus())]
    client = _client(api).remote(actors)
    yield Rate.each(lambda: api.get(client.small_value_batch.remote(n)), n * len(actors))


@GROUP.row("n:n async-actor calls async", "4 tasks with 5,000 calls outstanding over n actors")
def n_to_n_async_actor(api: Any, setting: Setting) -> Works:
    yield from _n_to_n(api, setting, _async_actor(api))


# -- placement groups --------------------------------------------------------------------------


@PLACEMENT_GROUPS.row(
    "placement group create/removal",
    "100 groups of one bundle made, awaited and removed",
    unit="groups/s",
    session="resources",
)
def placement_groups(api: Any, setting: Setting) -> Works:
    count = setting.pick(100, 100)

    def create_and_remove() -> None:
        groups = [api.util.placement_group(bundles=[{"custom": 0.001}]) for _ in range(count)]
        for group in groups:
            group.wait(timeout_seconds=30)
        for group in groups:
            api.util.remove_placement_group(group)

    yield Rate.each(create_and_remove, count)


# -- a driver that joined from outside ---------------------------------------------------------


@CLIENT.row("client: get calls", "get of one small put value", unit="gets/s", session="client")
def client_get(api: Any, setting: Setting) -> Works:
    yield from get_small(api, setting)


@CLIENT.row(
    "client: tasks and get batch",
    "1,000 tasks, then one get",
    unit="batches/s",
    session="client",
)
def client_tasks(api: Any, setting: Setting) -> Works:
    yield from tasks_and_get_batch(api, setting)


@CLIENT.row("client: put calls", "put of a small value", unit="puts/s", session="client")
def client_put(api: Any, setting: Setting) -> Works:
    yield from put_small(api, setting)


@CLIENT.row(
    "client: tasks and put batch",
    "10 tasks that put 100 small values",
    unit="puts/s",
    session="client",
)
def client_multi_put(api: Any, setting: Setting) -> Works:
    yield from multi_put_small(api, setting)


@CLIENT.row("client: put gigabytes", "put of 800 MB of numpy", unit="GB/s", session="client")
def client_put_large(api: Any, setting: Setting) -> Works:
    yield from put_large(api, setting)


@CLIENT.row("client: 1:1 actor calls sync", "one call at a time", session="client")
def client_actor_sync(api: Any, setting: Setting) -> Works:
    yield from actor_sync(api, setting)


@CLIENT.row("client: 1:1 actor calls async", "1,000 calls outstanding", session="client")
def client_actor_async(api: Any, setting: Setting) -> Works:
    yield from actor_async(api, setting)


@CLIENT.row(
    "client: 1:1 actor calls concurrent",
    "1,000 calls outstanding, an actor of 16 threads",
    session="client",
)
def client_actor_concurrent(api: Any, setting: Setting) -> Works:
    yield from actor_concurrent(api, setting)
