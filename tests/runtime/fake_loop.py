"""A loop with the interface of `zactor.runtime.loop.Loop`, for tests that drive it by hand."""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable
from typing import Any


class FakeLoop:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], Any]] = {}
        self._timers: list[tuple[float, int, Handle]] = []
        self._soon: list[Callable[[], Any]] = []
        self._count = itertools.count()

    def now(self) -> float:
        return time.monotonic()

    def add_reader(self, fd: int, callback: Callable[[], Any]) -> None:
        if fd in self._readers:
            self._epoll.modify(fd, select.EPOLLIN)
        else:
            self._epoll.register(fd, select.EPOLLIN)
        self._readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], Any]) -> Handle:
        handle = Handle(callback)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._count), handle))
        return handle

    def call_soon(self, callback: Callable[[], Any]) -> None:
        self._soon.append(callback)

    def turn(self, longest: float) -> None:
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()
        if self._timers:
            longest = min(longest, max(0.0, self._timers[0][0] - self.now()))
        for fd, _ in self._epoll.poll(0 if self._soon else longest):
            callback = self._readers.get(fd)
            if callback:
                callback()
        while self._timers and self._timers[0][0] <= self.now():
            handle = heapq.heappop(self._timers)[2]
            if handle.callback:
                handle.callback()

    def until(self, condition: Callable[[], Any], seconds: float = 10.0) -> None:
        deadline = self.now() + seconds
        while not condition():
            assert self.now() < deadline, "the condition did not come true in time"
            self.turn(0.05)

    def close(self) -> None:
        self._epoll.close()


class Handle:
    def __init__(self, callback: Callable[[], Any]) -> None:
        self.callback: Callable[[], Any] | None = callback

    def cancel(self) -> None:
        self.callback = None
