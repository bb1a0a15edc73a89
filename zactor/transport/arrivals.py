"""The descriptors on which something may arrive for a process: one poll set, waited on by one thread.

Level-triggered: what is left undone shows again at the next wait. Any thread may register; only
the thread that receives waits.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
EDGE = select.EPOLLET


class Arrivals:
    """An epoll, and what to call for each of its descriptors.

    Attributes:
        wait: `wait(seconds or None)` returns the descriptors that are ready, as `[(fd, events)]`.
            A signal does not end it (PEP 475), unless its handler raises.
        fd: Is readable while `wait` would return at once.
        handlers: What to call, by descriptor.
        has_more: Set by a handler that has left something; for who has to know that all was taken.
    """

    __slots__ = ("_epoll", "fd", "handlers", "has_more", "wait")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fd = self._epoll.fileno()
        self.wait = self._epoll.poll
        self.has_more = False
        # The number of one that was closed meanwhile may be another's by now, who is called for
        # nothing: handlers find out by themselves what there is.
        self.handlers: dict[int, Callable[[], None]] = {}

    def handle(self, ready: Sequence[tuple[int, int]]) -> None:
        """Call the handlers of what `wait` returned."""
        handlers = self.handlers
        for fd, _ in ready:
            handler = handlers.get(fd)
            if handler is not None:
                handler()

    def register(self, fd: int, handler: Callable[[], None], events: int = READABLE) -> None:
        """Have `handler()` called when `fd` is ready."""
        self.handlers[fd] = handler
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events than before."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Forget `fd`; before it is closed."""
        if self.handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Release the poll set, but none of its descriptors."""
        self.handlers.clear()
        self._epoll.close()
