"""Values that have to be fetched or made again, for event loops, which must not wait for them.

A few threads read them; each ends when there is nothing left to read. They do not keep the program from
ending.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from zactor.wire import batches

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zactor.runtime.process import Process

MOST_THREADS = 8
"""More would not fetch faster: a link carries one value after the other, as chunks."""


class Outcome(NamedTuple):
    """What a function returned, or raised."""

    value: Any
    error: BaseException | None

    def get(self) -> Any:
        """Return the value, or raise."""
        if self.error is not None:
            raise self.error
        return self.value


class Fetching:
    """Runs what may wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], None]] = deque()
        self._threads = 0

    def outcome(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[], Any]
    ) -> asyncio.Future[Outcome]:
        """Have a function run in a thread; return a future of what it returned or raised."""
        future: asyncio.Future[Outcome] = loop.create_future()

        def give(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        def job() -> None:
            try:
                outcome = Outcome(function(), None)
            except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
                outcome = Outcome(None, error)
            try:
                loop.call_soon_threadsafe(give, outcome)
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more

        self._begin(job)
        return future

    def _begin(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._jobs.append(job)
            if self._threads >= MOST_THREADS:
                return
            self._threads += 1
        threading.Thread(target=self._run, name="zactor fetching", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._threads -= 1
                    return
                job = self._jobs.popleft()
            job()
            del job  # what it holds must not live until the next one


def are_here(process: Process, extras: dict[int, Any]) -> bool:
    """Tell whether the arguments of a call can most likely be read without waiting."""
    store = process.objects.store
    stored = extras.get(batches.X_STORED)
    if stored is not None and not store.is_here(*stored):
        return False
    return all(
        store.is_here(place, *name)
        for _, status, place, *name in extras.get(batches.X_SLOTS, ())
        if status == batches.STORED
    )
