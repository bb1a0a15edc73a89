"""`ActorPool`: hands work to whichever of a fixed set of actors is free.

Does not make, restart or kill actors: an actor that has died is left out of the pool.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import zactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["ActorPool"]

V = TypeVar("V")


class _Running(NamedTuple):
    place: int
    actor: Any


class ActorPool(Generic[V]):
    """A fixed set of actors that take work in turn.

    Work that finds no actor free waits in the pool, in order, and is sent when a result is
    fetched: `submit` never blocks. Not thread-safe.

    Args:
        actors: The actors; each takes one piece of work at a time.
    """

    def __init__(self, actors: list[Any]) -> None:
        self._idle: deque[Any] = deque(actors)
        # Calls sent and not fetched yet, by their reference.
        self._running: dict[Any, _Running] = {}
        # The reference of each call sent, by its place in the order of submission.
        self._by_index: dict[int, Any] = {}
        # Work accepted and not sent.
        self._pending_submits: deque[tuple[Callable[[Any, V], Any], V]] = deque()
        self._next_sent = 0
        self._next_fetched = 0

    def map(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> Iterator[Any]:
        """Apply `fn(actor, value)` to all values; yield the results in their order.

        The work is sent when `map` is called, as far as actors are free. Results of earlier
        work that nobody fetched are dropped.
        """
        self._drop_unfetched()
        for value in values:
            self.submit(fn, value)
        return self._results(self.get_next)

    def map_unordered(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> Iterator[Any]:
        """Apply `fn(actor, value)` to all values; yield the results as they come."""
        self._drop_unfetched()
        for value in values:
            self.submit(fn, value)
        return self._results(self.get_next_unordered)

    def submit(self, fn: Callable[[Any, V], Any], value: V) -> None:
        """Send `fn(actor, value)` to a free actor, or keep it until one is.

        Args:
            fn: Called with an actor and the value; returns the reference of the call it made.
            value: What to work on.
        """
        if not self._idle:
            self._pending_submits.append((fn, value))
            return
        actor = self._idle.popleft()
        ref = fn(actor, value)
        self._running[_key(ref)] = _Running(self._next_sent, actor)
        self._by_index[self._next_sent] = ref
        self._next_sent += 1

    def has_next(self) -> bool:
        """Return whether a result is still to be fetched."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the next result in the order of submission.

        Raises:
            StopIteration: Nothing is left to fetch.
            ValueError: Results were already taken out of order.
            TimeoutError: The result did not come within `timeout` seconds. With
                `ignore_if_timedout` it is given up, and its actor is free again.
        """
        if not self.has_next():
            raise StopIteration("No more results to get")
        ref = self._by_index.get(self._next_fetched)
        if ref is None:
            raise ValueError("get_next() cannot follow get_next_unordered()")
        if timeout is not None and not _is_ready(ref, timeout):
            late = f"No result within {timeout} seconds"
            if not ignore_if_timedout:
                raise TimeoutError(late)
            self._finish(ref, alive=True)
            raise TimeoutError(f"{late}; it is given up")
        return self._fetch(ref)

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """Return whichever result is there first.

        Raises:
            StopIteration: Nothing is left to fetch.
            TimeoutError: No result came within `timeout` seconds. With `ignore_if_timedout`
                the oldest one is given up.
        """
        if not self.has_next():
            raise StopIteration("No more results to get")
        ready, _ = zactor.wait(list(self._by_index.values()), num_returns=1, timeout=timeout)
        if ready:
            return self._fetch(ready[0])
        if ignore_if_timedout:
            self._finish(next(iter(self._by_index.values())), alive=True)
        raise TimeoutError(f"No result within {timeout} seconds")

    def has_free(self) -> bool:
        """Return whether an actor is free and no work waits."""
        return bool(self._idle) and not self._pending_submits

    def pop_idle(self) -> Any | None:
        """Take a free actor out of the pool, or return None if all are busy."""
        return self._idle.popleft() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Add an actor to the pool.

        Raises:
            ValueError: The actor is in the pool already.
        """
        if actor in self._idle or any(actor == r.actor for r in self._running.values()):
            raise ValueError("Actor already belongs to current ActorPool")
        self._free(actor)

    def _results(self, fetch: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield fetch()

    def _drop_unfetched(self) -> None:
        # The calls run to their end all the same; only what they return is let go.
        while self.has_next():
            self._finish(next(iter(self._by_index.values())), alive=True)

    def _fetch(self, ref: Any) -> Any:
        try:
            value = zactor.get(ref)
        except (zactor.exceptions.ActorDiedError, zactor.exceptions.ActorUnavailableError):
            self._finish(ref, alive=False)
            raise
        except BaseException:
            self._finish(ref, alive=True)
            raise
        self._finish(ref, alive=True)
        return value

    def _finish(self, ref: Any, *, alive: bool) -> None:
        running = self._running.pop(_key(ref))
        del self._by_index[running.place]
        if running.place == self._next_fetched:
            self._next_fetched += 1
        if alive:
            self._free(running.actor)

    def _free(self, actor: Any) -> None:
        self._idle.append(actor)
        if self._pending_submits:
            self.submit(*self._pending_submits.popleft())


def _is_ready(ref: Any, timeout: float) -> bool:
    refs = ref if isinstance(ref, list) else [ref]
    return not zactor.wait(refs, num_returns=len(refs), timeout=timeout)[1]


def _key(ref: Any) -> Any:
    # A call with several returns gives a list of references.
    return tuple(ref) if isinstance(ref, list) else ref
