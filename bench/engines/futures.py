"""concurrent.futures: tasks on a ProcessPoolExecutor."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from typing import Any

from bench.engines import Simple
from bench.engines.processes import nap, small_value
from bench.rows.data import SIZES
from bench.rows.startup import REPLIED
from bench.work import Measure, Rate, Setting, Work

Works = Iterator[Rate | Measure]

MANY = 1000


def tasks_sync(_api: Any, setting: Setting) -> Works:
    with ProcessPoolExecutor(setting.cpus) as pool:
        pool.submit(small_value).result()  # starts the processes
        yield Rate.each(lambda: pool.submit(small_value).result())


def tasks_async(_api: Any, setting: Setting, *, count: int) -> Works:
    with ProcessPoolExecutor(setting.cpus) as pool:

        def once() -> None:
            for future in [pool.submit(small_value) for _ in range(MANY)]:
                future.result()

        yield Rate.each(once, count)


def fan_in(_api: Any, setting: Setting, *, n: int) -> Works:
    count = n if not setting.quick else min(n, 10_000)
    with ProcessPoolExecutor(setting.cpus) as pool:
        yield Rate.each(lambda: wait([pool.submit(small_value) for _ in range(count)]), count)


def first(array: Any) -> int:
    return int(array[0])


def argument(_api: Any, _: Setting, *, size: int, outstanding: int) -> Works:
    import numpy as np

    array = np.ones(size, dtype=np.uint8)
    with ProcessPoolExecutor(1) as pool:

        def once() -> None:
            for future in [pool.submit(first, array) for _ in range(outstanding)]:
                future.result()

        yield Rate.each(once, outstanding)


def start_to_first_call(_api: Any, _: Setting) -> Works:
    with ProcessPoolExecutor(1) as pool:
        pool.submit(small_value).result()
        yield REPLIED


def tasks_of_50_ms(_api: Any, setting: Setting) -> Works:
    n = setting.pick(100, 20)
    with ProcessPoolExecutor(setting.cpus) as pool:

        def once() -> float:
            start = time.perf_counter()
            wait([pool.submit(nap) for _ in range(n)])
            return (time.perf_counter() - start) / (n * 0.05 / setting.cpus)

        yield Measure(once)


def make(_name: str) -> Simple:
    """Return the engine."""
    works: dict[str, Work] = {
        "single client tasks sync": tasks_sync,
        "single client tasks async": functools.partial(tasks_async, count=MANY),
        "single client tasks and get batch": functools.partial(tasks_async, count=1),
        "start to first call": start_to_first_call,
        "100 tasks of 50 ms": tasks_of_50_ms,
    }
    for n in (1000, 10_000, 100_000):
        works[f"one wait on {n:,} refs"] = functools.partial(fan_in, n=n)
    for label, (size, outstanding) in SIZES.items():
        works[f"calls with {label} of numpy"] = functools.partial(
            argument, size=size, outstanding=outstanding
        )
    return Simple((), works, "tasks only: no actors, references or nodes")
