"""The loop of a broker or a node: one thread, descriptors and timers.

It drives a `Post` and whatever else its process owns. A worker or driver has no loop of its own;
there the thread that waits receives (see `reception`).
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from zactor.runtime.links.bugs import guarded
from zactor.runtime.links.timers import Timer, Timers

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.runtime.links.post import Post


class Loop:
    """Runs callbacks for readable descriptors and for timers, on the thread that calls `run`."""

    def __init__(self) -> None:
        self.now = time.monotonic
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers = Timers()
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
        return self._timers.add(self.now() + seconds, callback)

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
        self._timers.run_due(now)

    def _timeout(self) -> float | None:
        nearest = self._timers.nearest()
        due = [] if nearest is None else [nearest]
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
