"""The loop of a broker or a node: one thread, descriptors and timers.

It drives a `Post` and whatever else its process owns. A worker or driver has no loop of its own;
there the thread that waits receives (see `reception`).
"""

from __future__ import annotations

import heapq
import os
import select
import time
from itertools import count
from typing import TYPE_CHECKING

from zactor.runtime.links.bugs import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.runtime.links.post import Post


class Timer:
    """A callback that is due at a time; `cancel` it if it is not to run."""

    __slots__ = ("callback", "is_cancelled")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not run it."""
        self.is_cancelled = True


class Loop:
    """Runs callbacks for readable descriptors and for timers, on the thread that calls `run`."""

    def __init__(self) -> None:
        self.now = time.monotonic
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._post: Post | None = None
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopped = False
        self.add_reader(self._wake, self._woken)

    def drive(self, post: Post) -> None:
        """Receive for `post` too."""
        self._post = post
        post.on_wake = self.wake
        self.add_reader(post.arrivals.fd, _nothing)  # looked at in every turn

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `fd` is readable."""
        self._readers[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def remove_reader(self, fd: int) -> None:
        """Forget `fd`; before it is closed."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` once, `seconds` from now."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._order), timer))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the next turn. Any thread."""
        self.call_later(0, callback)
        self.wake()

    def wake(self) -> None:
        """End the present sleep. Any thread, and signal handlers."""
        try:
            os.eventfd_write(self._wake, 1)
        except (OSError, ValueError):
            pass  # it is closed

    def stop(self) -> None:
        """Have `run` return after this turn."""
        self._stopped = True
        self.wake()

    def run(self) -> None:
        """Turn until stopped."""
        while not self._stopped:
            self.turn()

    def turn(self, *, block: bool = True) -> None:
        """Do what is due, once."""
        post = self._post
        ready = self._epoll.poll(self._timeout() if block else 0.0)
        if post is not None:
            post.drain()  # before all else: who has died may have said something before
        for fd, _ in ready:
            callback = self._readers.get(fd)
            if callback is not None:
                guarded(callback)
        now = self.now()
        if post is not None and post.is_due():
            post.tick(now)
        while self._timers and (self._timers[0][0] <= now or self._timers[0][2].is_cancelled):
            timer = heapq.heappop(self._timers)[2]
            if not timer.is_cancelled:
                guarded(timer.callback)

    def _timeout(self) -> float | None:
        while self._timers and self._timers[0][2].is_cancelled:
            heapq.heappop(self._timers)
        due = [self._timers[0][0]] if self._timers else []
        if self._post is not None:
            if self._post.is_due():
                return 0.0
            deadline = self._post.next_deadline()
            if deadline is not None:
                due.append(deadline)
        return max(0.0, min(due) - self.now()) if due else None

    def _woken(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Release the descriptors."""
        wake, self._wake = (
            self._wake,
            -1,
        )  # a late wake must not write into what gets its number
        os.close(wake)
        self._epoll.close()


def _nothing() -> None:
    """What has arrived is taken in every turn."""
