"""Dask: tasks and actors on a `LocalCluster` with a process per CPU."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

from distributed import Client, LocalCluster

from bench.engines import Simple
from bench.rows.data import SIZES
from bench.rows.startup import REPLIED
from bench.work import GIGABYTE, Measure, Rate, Row, Setting, Work

Works = Iterator[Rate | Measure]

MANY = 1000


class Counter:
    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> int:
        self.value += 1
        return self.value

    def small_value(self) -> bytes:
        return b"ok"

    def first(self, array: Any) -> int:
        return int(array[0])


def small_value() -> bytes:
    return b"ok"


def nap() -> None:
    time.sleep(0.05)


def _actor(client: Any) -> Any:
    return client.submit(Counter, actor=True, pure=False).result()


def _tasks(client: Any, n: int) -> list[Any]:
    return [client.submit(small_value, pure=False) for _ in range(n)]


def calls_sync(client: Any, _: Setting) -> Works:
    actor = _actor(client)
    yield Rate.each(lambda: actor.small_value().result())


def calls_async(client: Any, _: Setting) -> Works:
    actor = _actor(client)

    def once() -> None:
        for future in [actor.small_value() for _ in range(MANY)]:
            future.result()

    yield Rate.each(once, MANY)


def tasks_sync(client: Any, _: Setting) -> Works:
    yield Rate.each(lambda: client.submit(small_value, pure=False).result())


def tasks_async(client: Any, _: Setting, *, count: int) -> Works:
    yield Rate.each(lambda: client.gather(_tasks(client, MANY)), count)


def fan_in(client: Any, _: Setting, *, n: int) -> Works:
    yield Rate.each(lambda: client.gather(_tasks(client, n)), n)


def get_small(client: Any, _: Setting) -> Works:
    value = client.scatter(0, hash=False)
    yield Rate.each(lambda: client.gather(value))


def put_small(client: Any, _: Setting) -> Works:
    yield Rate.each(lambda: client.scatter(0, hash=False))


def put_gigabytes(client: Any, setting: Setting) -> Works:
    import numpy as np

    size = setting.pick(100, 25) * 2**20
    array = np.zeros(size, dtype=np.int64)
    yield Rate.each(lambda: client.scatter(array, hash=False), size * 8 / GIGABYTE)


def argument(client: Any, _: Setting, *, size: int, outstanding: int) -> Works:
    import numpy as np

    array = np.ones(size, dtype=np.uint8)
    actor = _actor(client)

    def once() -> None:
        for future in [actor.first(array) for _ in range(outstanding)]:
            future.result()

    yield Rate.each(once, outstanding)


def created(client: Any, _: Setting, *, n: int, rate: bool) -> Works:
    def once() -> float:
        start = time.perf_counter()
        futures = [client.submit(Counter, actor=True, pure=False) for _ in range(n)]
        for call in [future.result().increment() for future in futures]:
            call.result()
        elapsed = time.perf_counter() - start
        return n / elapsed if rate else elapsed

    yield Measure(once)


def tasks_of_50_ms(client: Any, setting: Setting) -> Works:
    n = setting.pick(100, 20)

    def once() -> float:
        start = time.perf_counter()
        client.gather([client.submit(nap, pure=False) for _ in range(n)])
        return (time.perf_counter() - start) / (n * 0.05 / setting.cpus)

    yield Measure(once)


def start_to_first_call(_client: Any, setting: Setting) -> Works:
    cluster, client = _start(setting)
    _actor(client).increment().result()
    yield REPLIED
    client.close()
    cluster.close()


def _start(setting: Setting) -> tuple[Any, Any]:
    cluster = LocalCluster(
        n_workers=setting.cpus, threads_per_worker=1, dashboard_address=None, silence_logs=50
    )
    return cluster, Client(cluster)


class Dask(Simple):
    """The engine, with its cluster."""

    cluster: Any = None
    client: Any = None

    def api(self, row: Row) -> Any:
        """Return the client."""
        return self.client

    def start(self, session: str, setting: Setting) -> None:
        """See Engine."""
        self.cluster, self.client = _start(setting)

    def stop(self) -> None:
        """See Engine."""
        self.client.close()
        self.cluster.close()


def make(_name: str) -> Simple:
    """Return the engine."""
    works: dict[str, Work] = {
        "single client get calls (Plasma Store)": get_small,
        "single client put calls (Plasma Store)": put_small,
        "single client put gigabytes": put_gigabytes,
        "single client tasks sync": tasks_sync,
        "single client tasks async": functools.partial(tasks_async, count=MANY),
        "single client tasks and get batch": functools.partial(tasks_async, count=1),
        "1:1 actor calls sync": calls_sync,
        "1:1 actor calls async": calls_async,
        "start to first call": start_to_first_call,
        "20 actors created and called": functools.partial(created, n=20, rate=False),
        "actor creation, shared": functools.partial(created, n=20, rate=True),
        "100 tasks of 50 ms": tasks_of_50_ms,
    }
    works["one get on 1,000 refs"] = functools.partial(fan_in, n=1000)
    for label, (size, outstanding) in SIZES.items():
        works[f"calls with {label} of numpy"] = functools.partial(
            argument, size=size, outstanding=outstanding
        )
    return Dask(
        ("dask", "distributed"),
        works,
        "Dask has no counterpart, or none was written",
        {"one get on 10,000 refs": "half a minute a round"},
    )
