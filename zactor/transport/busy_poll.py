"""Waiting that looks for a moment before it sleeps: a sleep and its wake-up cost more than a call.

To put a core to sleep and wake it from another one takes 30 to 200 us on a virtual machine, more than
zactor's own work on both sides of a call. So whoever waits for the next message looks again and
again for a few hundred microseconds first, while experience says that it comes within them: one call at
a time is then two to five times as fast with a core for each side. Where looking was in vain, ever more
waits sleep at once before it is tried again (exponential backoff): what is idle, or waits for slow
methods, costs nothing worth mentioning.

A core that somebody else wants is not looked on: each look offers it to others (`sched_yield`), and
if that, or getting the interpreter's lock back, takes noticeably long, all waits sleep at
once for a while, for longer each time.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CROWDED = (
    200e-6  # seconds that one look takes if somebody else has had the core; alone it is 2 us
)
LEAST_PAUSE = 8  # times what was lost to others, in which nobody looks
MOST_PAUSE = 64
MOST_SKIPPED = 127  # waits that sleep at once between two that look in vain


class BusyPoll:
    """Looks before sleeping, in the waits of one thread at a time.

    Attributes:
        window: Seconds that a wait looks before it sleeps; 0 has every wait sleep at once.
    """

    __slots__ = ("_not_before", "_pause", "_skip", "_skipped", "window")

    def __init__(self, window: float) -> None:
        self.window = window
        self._skip = 0  # waits to let sleep until the next that looks
        self._skipped = 0  # how many that were, the last time
        self._pause = LEAST_PAUSE
        self._not_before = 0.0

    def wait(self, poll: Callable[[float | None], Any], timeout: float | None) -> Any:
        """Wait for what `poll(seconds or None)` waits for, and return what it returned.

        `poll(0)` looks without waiting, and returns what is false if there is nothing. An exception
        that a signal's handler raises may leave it anywhere.
        """
        if self._skip:
            self._skip -= 1
            return poll(timeout)
        if not self.window or timeout == 0.0:
            return poll(timeout)
        start = now = monotonic()
        if now < self._not_before:
            return poll(timeout)
        end = start + (self.window if timeout is None else min(self.window, timeout))
        while now < end:
            ready = poll(0)
            if ready:
                self._skipped = 0
                if self._pause > LEAST_PAUSE:
                    self._pause -= 1
                return ready
            os.sched_yield()
            before, now = now, monotonic()
            if now - before > CROWDED:
                self._not_before = now + self._pause * (now - before)
                self._pause = min(2 * self._pause, MOST_PAUSE)
                break
        else:
            self._skip = self._skipped = min(2 * self._skipped + 1, MOST_SKIPPED)
        return poll(None if timeout is None else max(0.0, start + timeout - now))
