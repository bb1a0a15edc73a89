"""Xoscar: actors in a pool of processes, called from asyncio."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import xoscar as xo

from bench.engines import Simple, free_port
from bench.rows.calls import CALLERS, MANY, SHARED_ACTORS, from_callers, over
from bench.rows.data import SIZES
from bench.rows.startup import REPLIED
from bench.work import Measure, Rate, Row, Setting, Work

Works = Iterator[Rate | Measure]

_names = itertools.count()


class Counter(xo.Actor):
    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def increment(self) -> int:
        self.value += 1
        return self.value

    def small_value(self) -> bytes:
        return b"ok"

    async def small_value_async(self) -> bytes:
        return b"ok"

    async def small_value_with_arg(self, _x: Any) -> bytes:
        return b"ok"

    def first(self, array: Any) -> int:
        return int(array[0])


class Caller(xo.Actor):
    def __init__(self, servers: list[Any]) -> None:
        super().__init__()
        self.servers = servers

    async def call(self, n: int) -> None:
        await asyncio.gather(*[s.small_value() for s in self.servers for _ in range(n)])


class Pool:
    """A running pool, and the loop it is used from."""

    def __init__(self, cpus: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.cpus = cpus
        self.address = f"127.0.0.1:{free_port()}"
        self.pool = self.run(xo.create_actor_pool(self.address, n_process=cpus))

    def run(self, what: Awaitable[Any]) -> Any:
        """Wait for something."""
        return self.loop.run_until_complete(what)

    async def create(self, kind: Any, *arguments: Any, process: int = 1) -> Any:
        """Create an actor in one of the pool's sub-processes, counted from 1."""
        strategy = xo.allocate_strategy.ProcessIndex(1 + (process - 1) % self.cpus)
        return await xo.create_actor(
            kind,
            *arguments,
            address=self.address,
            uid=f"a{next(_names)}",
            allocate_strategy=strategy,
        )

    def end(self) -> None:
        """Stop it."""
        self.run(self.pool.stop())
        self.loop.close()


def _rounds(pool: Pool, once: Callable[[], Awaitable[Any]], count: float = 1) -> Rate:
    # The rounds run inside one coroutine: entering the loop for each would be charged to xoscar.
    async def many(rounds: int) -> None:
        for _ in range(rounds):
            await once()

    return Rate(lambda rounds: pool.run(many(rounds)), count)


def _gathered(pool: Pool, call: Callable[[], Awaitable[Any]], n: int) -> Rate:
    async def once() -> None:
        await asyncio.gather(*[call() for _ in range(n)])

    return _rounds(pool, once, n)


def calls_sync(pool: Pool, _: Setting, *, method: str) -> Works:
    actor = pool.run(pool.create(Counter))
    yield _rounds(pool, getattr(actor, method))
    pool.run(xo.destroy_actor(actor))


def calls_async(pool: Pool, _: Setting, *, method: str) -> Works:
    actor = pool.run(pool.create(Counter))
    yield _gathered(pool, getattr(actor, method), MANY)
    pool.run(xo.destroy_actor(actor))


def calls_with_args(pool: Pool, _: Setting) -> Works:
    actor = pool.run(pool.create(Counter))

    async def once() -> None:
        await asyncio.gather(*[actor.small_value_with_arg(i) for i in range(MANY)])

    yield _rounds(pool, once, MANY)
    pool.run(xo.destroy_actor(actor))


def callers(pool: Pool, setting: Setting, *, n: int, calls: tuple[int, int]) -> Works:
    each = setting.pick(*calls)
    server = pool.run(pool.create(Counter))
    clients = [pool.run(pool.create(Caller, [server], process=2 + i)) for i in range(n)]

    async def once() -> None:
        await asyncio.gather(*[client.call(each) for client in clients])

    yield _rounds(pool, once, n * each)
    for actor in [server, *clients]:
        pool.run(xo.destroy_actor(actor))


def round_robin(pool: Pool, _: Setting, *, n: int) -> Works:
    actors = [pool.run(pool.create(Counter, process=1 + i)) for i in range(n)]
    turn = itertools.cycle(actors)
    yield _gathered(pool, lambda: next(turn).increment(), MANY)
    for actor in actors:
        pool.run(xo.destroy_actor(actor))


def argument(pool: Pool, _: Setting, *, size: int, outstanding: int) -> Works:
    import numpy as np

    array = np.ones(size, dtype=np.uint8)
    actor = pool.run(pool.create(Counter))
    yield _gathered(pool, lambda: actor.first(array), outstanding)
    pool.run(xo.destroy_actor(actor))


def by_name(pool: Pool, _: Setting) -> Works:
    actor = pool.run(pool.create(Counter))

    async def once() -> None:
        await xo.actor_ref(pool.address, actor.uid)

    yield _rounds(pool, once)
    pool.run(xo.destroy_actor(actor))


def created(pool: Pool, setting: Setting, *, n: tuple[int, int], rate: bool) -> Works:
    count = setting.pick(*n)

    async def once() -> float:
        start = time.perf_counter()
        actors = await asyncio.gather(
            *[pool.create(Counter, process=1 + i) for i in range(count)]
        )
        await asyncio.gather(*[actor.increment() for actor in actors])
        elapsed = time.perf_counter() - start
        for actor in actors:
            await xo.destroy_actor(actor)
        return count / elapsed if rate else elapsed

    yield Measure(lambda: pool.run(once()))


def start_to_first_call(_pool: Any, setting: Setting) -> Works:
    pool = Pool(setting.cpus)
    actor = pool.run(pool.create(Counter))
    pool.run(actor.increment())
    yield REPLIED
    pool.end()


class Xoscar(Simple):
    """The engine, with its pool."""

    pool: Any = None

    def api(self, row: Row) -> Any:
        """Return the pool."""
        return self.pool

    def start(self, session: str, setting: Setting) -> None:
        """See Engine."""
        self.pool = Pool(setting.cpus)

    def stop(self) -> None:
        """See Engine."""
        self.pool.end()


def make(_name: str) -> Simple:
    """Return the engine."""
    part = functools.partial
    works: dict[str, Work] = {
        "1:1 actor calls sync": part(calls_sync, method="small_value"),
        "1:1 actor calls async": part(calls_async, method="small_value"),
        "1:n actor calls async": part(callers, n=1, calls=(5000, 1000)),
        "1:1 async-actor calls sync": part(calls_sync, method="small_value_async"),
        "1:1 async-actor calls async": part(calls_async, method="small_value_async"),
        "1:1 async-actor calls with args async": calls_with_args,
        "start to first call": start_to_first_call,
        "20 actors created and called": part(created, n=(20, 20), rate=False),
        "actor creation, shared": part(created, n=(1000, 100), rate=True),
        "get_actor by name": by_name,
    }
    for n in SHARED_ACTORS:
        works[over(n, "shared ")] = part(round_robin, n=n)
    for n in CALLERS:
        works[from_callers(n)] = part(callers, n=n, calls=(1000, 200))
    for label, (size, outstanding) in SIZES.items():
        works[f"calls with {label} of numpy"] = part(
            argument, size=size, outstanding=outstanding
        )
    return Xoscar(("xoscar",), works, "Xoscar has no counterpart, or none was written")
