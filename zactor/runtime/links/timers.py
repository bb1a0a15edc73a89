"""Timers: callbacks that are due at a time. Any thread sets them, one runs them.

Does not sleep or wake: who runs them asks for the `nearest`, and whoever sets one wakes it.
"""

from __future__ import annotations

import heapq
import threading
from itertools import count
from typing import TYPE_CHECKING

from zactor.runtime.links.bugs import guarded
from zactor.runtime.links.interrupts import protect_module

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """A callback that is due at a time; `cancel` it if it is not to run."""

    __slots__ = ("callback", "is_cancelled")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not run it."""
        self.is_cancelled = True


class Timers:
    """Those of one process, or of one loop."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        # To look at the first and to take it is two steps: one that is set between them is nearer,
        # and would be taken for the one that was looked at. Reentrant for signal handlers.
        self._lock = threading.RLock()

    def add(self, when: float, callback: Callable[[], None]) -> Timer:
        """Have `callback` run once `when` has come. Any thread."""
        timer = Timer(callback)
        with self._lock:
            heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def nearest(self) -> float | None:
        """When the next of them is due; None if there is none."""
        heap = self._heap
        with self._lock:
            while heap and heap[0][2].is_cancelled:
                heapq.heappop(heap)
            return heap[0][0] if heap else None

    def run_due(self, now: float) -> None:
        """Run those that are due at `now`, the earliest first."""
        while (timer := self._take(now)) is not None:
            if not timer.is_cancelled:
                guarded(timer.callback)

    def _take(self, now: float) -> Timer | None:
        heap = self._heap
        with self._lock:
            return heapq.heappop(heap)[2] if heap and heap[0][0] <= now else None


protect_module(__name__)
