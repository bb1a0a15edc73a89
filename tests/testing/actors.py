"""Actors and tasks that the tests of in-process worlds run."""

from __future__ import annotations

import asyncio
import threading
import time
from time import monotonic, sleep
from typing import Any

import zactor

inside: list[int] = []  # how many were inside of `Busy.work`, each time one came in


@zactor.remote
class Busy:
    def work(self) -> None:
        inside.append(1)
        depth = len(inside)
        sum(range(2000))
        assert len(inside) == depth, "somebody else ran in between"


@zactor.remote
class Counter:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def increment(self) -> int:
        self.value += 1
        return self.value

    def nap(self, seconds: float) -> int:
        time.sleep(seconds)
        return self.value

    def call(self, other: Any, name: str, *args: Any) -> Any:
        return zactor.get(getattr(other, name).remote(*args))

    def nap_by_name(self, seconds: float) -> float:
        began = monotonic()
        sleep(seconds)
        return monotonic() - began

    def wait_for_ever(self) -> None:
        threading.Event().wait()


@zactor.remote
class Register:
    """A read and a write, between which another's may come."""

    def __init__(self) -> None:
        self.value = 0

    def read(self) -> int:
        return self.value

    def write(self, value: int) -> None:
        self.value = value


@zactor.remote
def add_one(register: Any) -> None:
    value = zactor.get(register.read.remote())
    zactor.get(register.write.remote(value + 1))


@zactor.remote
class Clock:
    async def nap(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(1.0)

    async def never(self) -> None:
        await asyncio.Event().wait()


@zactor.remote
def double(x: int) -> int:
    return 2 * x
