"""Memory for values that are read from other machines, used again when nobody looks at it any more.

The first write to a page costs three times the copy that is made to it, in huge pages too: the kernel
clears it.

Does not know what is in it. Any thread may use it.

Invariants
    M1  Memory is given out again only when no view of it is left.
    M2  What is kept for re-use is bounded, and goes when it is idle.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from zactor.store.memory import PrivateMapping, export

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_LIMIT = 256 << 20
IDLE_SECONDS = 10.0
LARGEST_MISFIT = 2  # memory may be this much larger than what it is taken for
_STEP = 2 << 20  # a huge page


class WarmMemory:
    """Gives out writable memory, warm if it can."""

    def __init__(
        self,
        limit: int = WARM_LIMIT,
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._returned: deque[PrivateMapping] = deque()  # appended to by finalizers only
        self._warm: list[
            tuple[float, PrivateMapping]
        ] = []  # (since when, memory), oldest first

    def take(self, size: int) -> memoryview:
        """Return `size` bytes, whatever is in them."""
        with self._lock:
            self._collect()
            fitting = [
                (mapping.length, at)
                for at, (_, mapping) in enumerate(self._warm)
                if size <= mapping.length <= max(_STEP, size * LARGEST_MISFIT)
            ]
            mapping = self._warm.pop(min(fitting)[1])[1] if fitting else None
        if mapping is None:
            mapping = PrivateMapping(-(-size // _STEP) * _STEP)
        gone = partial(self._returned.append, mapping)
        return memoryview(export(mapping, None, gone)).cast("B")[:size]

    def trim(self) -> bool:
        """Let go of what was not used for a while; whether anything is left."""
        with self._lock:
            self._collect()
            since = self._clock() - self._idle_seconds
            self._warm = [each for each in self._warm if each[0] > since]
            return bool(self._warm)

    def warm_bytes(self) -> int:
        """Return how much is kept for re-use."""
        with self._lock:
            self._collect()
            return sum(mapping.length for _, mapping in self._warm)

    def _collect(self) -> None:
        while self._returned:
            self._warm.append((self._clock(), self._returned.popleft()))
        kept = sum(mapping.length for _, mapping in self._warm)
        while kept > self._limit:
            kept -= self._warm.pop(0)[1].length
