"""multiprocessing: a process behind a pipe as the actor, a Pool for tasks."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

from bench.engines import Simple
from bench.rows.data import SIZES
from bench.rows.startup import REPLIED
from bench.work import GIGABYTE, Measure, Rate, Setting, Work

Works = Iterator[Rate | Measure]

MANY = 1000
WINDOW = 200  # calls in the pipe at once: with more, both ends would wait for each other


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


def _serve(connection: Any) -> None:
    actor = Counter()
    while True:
        n, method, arguments = connection.recv()
        connection.send((n, getattr(actor, method)(*arguments)))


class Remote:
    """The actor's process, seen from the caller."""

    def __init__(self) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call and wait."""
        self.pipe.send((0, method, arguments))
        return self.pipe.recv()[1]

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def calls_sync(_api: Any, _: Setting) -> Works:
    actor = Remote()
    yield Rate.each(lambda: actor.call("small_value"))
    actor.end()


def calls_async(_api: Any, _: Setting) -> Works:
    actor = Remote()
    send, receive = actor.pipe.send, actor.pipe.recv

    def once() -> None:
        for n in range(WINDOW):
            send((n, "small_value", ()))
        for n in range(WINDOW, MANY):
            receive()
            send((n, "small_value", ()))
        for _ in range(WINDOW):
            receive()

    yield Rate.each(once, MANY)
    actor.end()


def argument(_api: Any, _: Setting, *, size: int, outstanding: int) -> Works:
    import numpy as np

    array = np.ones(size, dtype=np.uint8)
    actor = Remote()

    def once() -> None:
        for _ in range(outstanding):
            actor.call("first", array)

    yield Rate.each(once, outstanding)
    actor.end()


def start_to_first_call(_api: Any, _: Setting) -> Works:
    actor = Remote()
    actor.call("increment")
    yield REPLIED
    actor.end()


def created(_api: Any, _: Setting, *, n: int, rate: bool) -> Works:
    def once() -> float:
        start = time.perf_counter()
        actors = [Remote() for _ in range(n)]
        for actor in actors:
            actor.call("increment")
        elapsed = time.perf_counter() - start
        for actor in actors:
            actor.end()
        return n / elapsed if rate else elapsed

    yield Measure(once)


def small_value() -> bytes:
    return b"ok"


def nap() -> None:
    time.sleep(0.05)


def tasks_sync(_api: Any, setting: Setting) -> Works:
    with multiprocessing.Pool(setting.cpus) as pool:
        yield Rate.each(lambda: pool.apply(small_value))


def tasks_async(_api: Any, setting: Setting, *, count: int) -> Works:
    with multiprocessing.Pool(setting.cpus) as pool:

        def once() -> None:
            for result in [pool.apply_async(small_value) for _ in range(MANY)]:
                result.get()

        yield Rate.each(once, count)


def tasks_of_50_ms(_api: Any, setting: Setting) -> Works:
    n = setting.pick(100, 20)
    with multiprocessing.Pool(setting.cpus) as pool:

        def once() -> float:
            start = time.perf_counter()
            for result in [pool.apply_async(nap) for _ in range(n)]:
                result.get()
            return (time.perf_counter() - start) / (n * 0.05 / setting.cpus)

        yield Measure(once)


def put_gigabytes(_api: Any, setting: Setting) -> Works:
    from multiprocessing.shared_memory import SharedMemory

    import numpy as np

    size = setting.pick(100, 25) * 2**20
    array = np.zeros(size, dtype=np.int64)

    def once() -> None:
        memory = SharedMemory(create=True, size=array.nbytes)
        target = np.ndarray(array.shape, array.dtype, memory.buf)
        np.copyto(target, array)
        del target
        memory.close()
        memory.unlink()

    yield Rate.each(once, size * 8 / GIGABYTE)


def make(_name: str) -> Simple:
    """Return the engine."""
    works: dict[str, Work] = {
        "1:1 actor calls sync": calls_sync,
        "1:1 actor calls async": calls_async,
        "start to first call": start_to_first_call,
        "20 actors created and called": functools.partial(created, n=20, rate=False),
        "actor creation, process": functools.partial(created, n=50, rate=True),
        "single client tasks sync": tasks_sync,
        "single client tasks async": functools.partial(tasks_async, count=MANY),
        "single client tasks and get batch": functools.partial(tasks_async, count=1),
        "100 tasks of 50 ms": tasks_of_50_ms,
        "single client put gigabytes": put_gigabytes,
    }
    for label, (size, outstanding) in SIZES.items():
        works[f"calls with {label} of numpy"] = functools.partial(
            argument, size=size, outstanding=outstanding
        )
    return Simple((), works, "no actors among actors, references or nodes")
