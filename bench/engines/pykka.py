"""Pykka: actors as threads of one process, called through proxies. Nothing crosses a process."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pykka

from bench.engines import Simple
from bench.rows.calls import MANY, SHARED_ACTORS, over
from bench.rows.startup import REPLIED
from bench.work import Measure, Rate, Setting, Work

Works = Iterator[Rate | Measure]


class Counter(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def increment(self) -> int:
        self.value += 1
        return self.value

    def small_value(self) -> bytes:
        return b"ok"

    def small_value_arg(self, _x: Any) -> bytes:
        return b"ok"


def calls_sync(_api: Any, _: Setting) -> Works:
    actor = Counter.start().proxy()
    yield Rate.each(lambda: actor.small_value().get())
    actor.stop()


def calls_async(_api: Any, _: Setting) -> Works:
    actor = Counter.start().proxy()
    yield Rate.each(lambda: pykka.get_all([actor.small_value() for _ in range(MANY)]), MANY)
    actor.stop()


def round_robin(_api: Any, _: Setting, *, n: int) -> Works:
    actors = [Counter.start().proxy() for _ in range(n)]
    turn = itertools.cycle(actors)
    yield Rate.each(lambda: pykka.get_all([next(turn).increment() for _ in range(MANY)]), MANY)
    pykka.ActorRegistry.stop_all()


def start_to_first_call(_api: Any, _: Setting) -> Works:
    actor = Counter.start().proxy()
    actor.increment().get()
    yield REPLIED
    pykka.ActorRegistry.stop_all()


def created(_api: Any, setting: Setting) -> Works:
    n = setting.pick(1000, 100)

    def once() -> float:
        start = time.perf_counter()
        actors = [Counter.start().proxy() for _ in range(n)]
        pykka.get_all([actor.increment() for actor in actors])
        elapsed = time.perf_counter() - start
        pykka.ActorRegistry.stop_all()
        return n / elapsed

    yield Measure(once)


def make(_name: str) -> Simple:
    """Return the engine."""
    works: dict[str, Work] = {
        "1:1 actor calls sync": calls_sync,
        "1:1 actor calls async": calls_async,
        "start to first call": start_to_first_call,
        "actor creation, shared": created,
    }
    for n in SHARED_ACTORS[:-1]:
        works[over(n, "shared ")] = functools.partial(round_robin, n=n)
    return Simple(("pykka",), works, "threads of one process: no tasks, stores or nodes")
