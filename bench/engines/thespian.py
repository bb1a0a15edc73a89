"""Thespian: actors as processes that talk over TCP, on its `multiprocTCPBase`."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from thespian.actors import Actor, ActorExitRequest, ActorSystem

from bench.engines import Simple, free_port
from bench.rows.startup import REPLIED
from bench.work import Measure, Rate, Row, Setting, Work

Works = Iterator[Rate | Measure]

MANY = 1000
PATIENCE = timedelta(seconds=30)


class Counter(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        if isinstance(message, str):
            self.value += 1
            self.send(sender, b"ok")


def _listen(system: Any) -> None:
    if system.listen(PATIENCE) is None:
        raise TimeoutError("no reply from a Thespian actor")


def calls_sync(system: Any, _: Setting) -> Works:
    actor = system.createActor(Counter)
    yield Rate.each(lambda: system.ask(actor, "call", PATIENCE))
    system.tell(actor, ActorExitRequest())


def calls_async(system: Any, setting: Setting) -> Works:
    many = setting.pick(MANY, 100)
    actor = system.createActor(Counter)
    system.ask(actor, "call", PATIENCE)

    def once() -> None:
        for _ in range(many):
            system.tell(actor, "call")
        for _ in range(many):
            _listen(system)

    yield Rate.each(once, many)
    system.tell(actor, ActorExitRequest())


def created(system: Any, _: Setting, *, n: int, rate: bool) -> Works:
    def once() -> float:
        start = time.perf_counter()
        actors = [system.createActor(Counter) for _ in range(n)]
        for actor in actors:
            system.ask(actor, "call", PATIENCE)
        elapsed = time.perf_counter() - start
        for actor in actors:
            system.tell(actor, ActorExitRequest())
        return n / elapsed if rate else elapsed

    yield Measure(once)


def start_to_first_call(_system: Any, _: Setting) -> Works:
    system = _start()
    system.ask(system.createActor(Counter), "call", PATIENCE)
    yield REPLIED
    system.shutdown()


def _start() -> Any:
    return ActorSystem("multiprocTCPBase", capabilities={"Admin Port": free_port()})


class Thespian(Simple):
    """The engine, with its actor system."""

    system: Any = None

    def api(self, row: Row) -> Any:
        """Return the actor system."""
        return self.system

    def start(self, session: str, setting: Setting) -> None:
        """See Engine."""
        self.system = _start()

    def stop(self) -> None:
        """See Engine."""
        self.system.shutdown()
        self.system = None


def make(_name: str) -> Simple:
    """Return the engine."""
    works: dict[str, Work] = {
        "1:1 actor calls sync": calls_sync,
        "1:1 actor calls async": calls_async,
        "20 actors created and called": functools.partial(created, n=20, rate=False),
        "actor creation, process": functools.partial(created, n=10, rate=True),
        "start to first call": start_to_first_call,
    }
    return Thespian(("thespian",), works, "no tasks, references or stores")
