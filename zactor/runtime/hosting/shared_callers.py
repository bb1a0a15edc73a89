"""Who calls, in a worker of shared actors: the one whose code asks.

Each shared actor is a caller of its own: in a shared worker `process.identity` is that of the
actor whose code asks, wherever it runs, by a context variable.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any

from zactor.runtime.calls.caller import Identity
from zactor.runtime.process import BLOCKED_AFTER, Process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zactor.core.calls import Result, Stream
    from zactor.runtime.hosting.shared import SharedHost
    from zactor.runtime.links.reception import Waiter

running_actor: ContextVar[Any] = ContextVar("zactor_shared_actor", default=None)
"""The shared actor whose code runs in this thread or asyncio task."""


class SharedIdentity(Identity):
    """A shared actor as a caller: current where that actor's code runs."""

    __slots__ = ()

    def __init__(self, caller: bytes) -> None:
        self.caller = caller
        self.numbers = count(1)
        self.streams: dict[Any, Stream] = {}

    @property
    def is_current(self) -> bool:  # type: ignore[override]
        """Whether what asks is this actor's code."""
        actor = running_actor.get()
        return actor is not None and actor.caller is self


class SharedProcess(Process):
    """The process of a worker that has turned out to be for shared actors."""

    shared: SharedHost

    @property
    def identity(self) -> Identity:  # type: ignore[override]
        """Who calls: the actor whose code asks; in threads that user code has made, the worker."""
        actor = running_actor.get()
        return self.__dict__["identity"] if actor is None else actor.identity()  # type: ignore[no-any-return]

    @property
    def running(self) -> Any:
        """What runs the actor whose code asks."""
        actor = running_actor.get()
        return None if actor is None else actor.execution

    def block_on(
        self,
        waiter: Waiter,
        deadline: float | None,
        needed: Sequence[Result] = (),
    ) -> None:
        """Send what was gathered and wait, without the run token."""
        if waiter.is_done:
            return
        seat = self.shared.give_token_up()
        self.flush()
        wait = None
        try:
            soon = time.monotonic() + BLOCKED_AFTER
            is_asked_about = bool(needed) and deadline is None
            if is_asked_about and not self.reception.wait(waiter, soon):
                wait = self.deadlocks.waits(needed, waiter)
            self.reception.wait(waiter, deadline)
        finally:
            if wait is not None:
                self.deadlocks.over(wait)
            if seat is not None:
                self.shared.take_token_back(seat)
        if wait is not None and wait.error is not None:
            raise wait.error
