"""`Queue`: a first-in-first-out queue that lives in an actor of its own.

Any process that holds the queue can put and get; the items are kept by the actor. Does not
survive its actor: what it held is lost with it.
"""

# ruff: noqa: ASYNC109 - the timeouts are those of queue.Queue's interface.

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable
from typing import Any

import zactor

__all__ = ["Empty", "Full", "Queue"]


class Empty(queue.Empty):
    """The queue had no item in time."""


class Full(queue.Full):
    """The queue had no room in time."""


class Queue:
    """A queue in an actor, with the interface of `queue.Queue` and coroutines beside it.

    Order is that in which the actor takes the calls: of one caller, the order in which it put.

    Args:
        maxsize: The most items it holds; 0 and below: no bound.
        actor_options: Options of the actor that holds the queue.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        self.actor: Any = (
            zactor.remote(_QueueActor).options(**(actor_options or {})).remote(maxsize)
        )

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """Return how many items it holds."""
        return int(zactor.get(self.actor.qsize.remote()))

    def qsize(self) -> int:
        """Return how many items it holds."""
        return self.size()

    def empty(self) -> bool:
        """Return whether it holds nothing."""
        return bool(zactor.get(self.actor.empty.remote()))

    def full(self) -> bool:
        """Return whether it has no room."""
        return bool(zactor.get(self.actor.full.remote()))

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item, waiting for room up to `timeout` seconds.

        Raises:
            Full: No room in time, or at once if not `block`.
            ValueError: `timeout` is negative.
        """
        zactor.get(self._put(item, block=block, timeout=timeout))

    async def put_async(
        self, item: Any, block: bool = True, timeout: float | None = None
    ) -> None:
        """Add an item, as `put` does, without blocking the event loop."""
        await self._put(item, block=block, timeout=timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item, waiting for one up to `timeout` seconds.

        Raises:
            Empty: No item in time, or at once if not `block`.
            ValueError: `timeout` is negative.
        """
        return zactor.get(self._get(block=block, timeout=timeout))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item, as `get` does, without blocking the event loop."""
        return await self._get(block=block, timeout=timeout)

    def put_nowait(self, item: Any) -> None:
        """Add an item, or raise Full at once."""
        self.put(item, block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all items, or none of them and raise Full at once."""
        if not isinstance(items, Iterable):
            raise TypeError("Argument 'items' must be an Iterable")
        zactor.get(self.actor.put_nowait_batch.remote(list(items)))

    def get_nowait(self) -> Any:
        """Take the oldest item, or raise Empty at once."""
        return self.get(block=False)

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take `num_items` items, or none of them and raise Empty at once."""
        if not isinstance(num_items, int):
            raise TypeError("Argument 'num_items' must be an int")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        taken: list[Any] = zactor.get(self.actor.get_nowait_batch.remote(num_items))
        return taken

    def shutdown(self, force: bool = False, grace_period_s: int = 5) -> None:
        """End the queue's actor, and with it what it holds.

        Args:
            force: End it at once.
            grace_period_s: Otherwise, how long calls already made have to finish.
        """
        if self.actor is None:
            return
        actor, self.actor = self.actor, None
        if not force:
            ended = actor.__ray_terminate__.remote()
            if zactor.wait([ended], timeout=grace_period_s)[0]:
                return
        zactor.kill(actor, no_restart=True)

    def _put(self, item: Any, *, block: bool, timeout: float | None) -> Any:
        if not block:
            return self.actor.put_nowait.remote(item)
        return self.actor.put.remote(item, _checked(timeout))

    def _get(self, *, block: bool, timeout: float | None) -> Any:
        if not block:
            return self.actor.get_nowait.remote()
        return self.actor.get.remote(_checked(timeout))


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


class _QueueActor:
    """Holds the items; its coroutines wait for room and for items beside each other."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.queue: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self.queue.qsize()

    async def empty(self) -> bool:
        return self.queue.empty()

    async def full(self) -> bool:
        return self.queue.full()

    async def put(self, item: Any, timeout: float | None = None) -> None:
        try:
            await asyncio.wait_for(self.queue.put(item), timeout)
        except TimeoutError:
            raise Full from None

    async def get(self, timeout: float | None = None) -> Any:
        try:
            return await asyncio.wait_for(self.queue.get(), timeout)
        except TimeoutError:
            raise Empty from None

    async def put_nowait(self, item: Any) -> None:
        try:
            self.queue.put_nowait(item)
        except asyncio.QueueFull:
            raise Full from None

    async def put_nowait_batch(self, items: list[Any]) -> None:
        room = self.maxsize - self.queue.qsize()
        if self.maxsize > 0 and room < len(items):
            raise Full(f"{len(items)} items do not fit: there is room for {room}")
        for item in items:
            self.queue.put_nowait(item)

    async def get_nowait(self) -> Any:
        try:
            return self.queue.get_nowait()
        except asyncio.QueueEmpty:
            raise Empty from None

    async def get_nowait_batch(self, num_items: int) -> list[Any]:
        if num_items > self.queue.qsize():
            raise Empty(f"{num_items} items are not there: it holds {self.queue.qsize()}")
        return [self.queue.get_nowait() for _ in range(num_items)]
