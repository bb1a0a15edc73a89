"""asyncio's event loop, in the world's time.

It runs callbacks as asyncio's own loop does; where that would sleep in `select`, this one gives the
baton up. Timers of asyncio are points of the world's time.

Does no I/O: sockets, pipes and subprocesses raise.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zactor.runtime.inprocess.scheduler import Scheduler, Strand


class WorldSelector(selectors.BaseSelector):
    """What a `WorldLoop` sleeps in."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._strand: Strand | None = None  # the one that runs the loop, while it sleeps
        self._is_woken = False

    def select(self, timeout: float | None = None) -> list[Any]:
        """Give the baton up until something was scheduled from elsewhere, or the time has come."""
        scheduler = self._scheduler
        strand = scheduler.here()
        if timeout is not None and timeout <= 0:
            if scheduler.random.random() < scheduler.eagerness:
                scheduler.yield_now()
        elif not self._is_woken:
            self._strand = strand
            deadline = None if timeout is None else scheduler.now + timeout
            try:
                scheduler.block(
                    strand, None, deadline, why="has an event loop with nothing to do"
                )
            finally:
                self._strand = None
        self._is_woken = False
        return []

    def wake(self) -> None:
        """Something was scheduled from elsewhere."""
        self._is_woken = True
        if self._strand is not None:
            self._scheduler.wake(self._strand)

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        """Not offered."""
        raise NotImplementedError(
            "sockets, pipes and subprocesses are not part of an in-process world: its event loops "
            "have virtual time, and the world outside has not. Use a real session for them."
        )

    def unregister(self, fileobj: Any) -> Any:
        """There is nothing registered."""
        raise KeyError(fileobj)

    def get_map(self) -> Mapping[Any, Any]:
        """Return what is registered: nothing."""
        return {}

    def get_key(self, fileobj: Any) -> Any:
        """There is nothing registered."""
        raise KeyError(fileobj)


class WorldLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._world_selector = WorldSelector(scheduler)
        super().__init__(self._world_selector)

    def time(self) -> float:
        return self._scheduler.now

    def _make_self_pipe(self) -> None:
        pass

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        self._world_selector.wake()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        future = self.create_future()
        scheduler = self._scheduler

        def run() -> None:
            try:
                value = func(*args)
            except Exception as error:  # noqa: BLE001 - it is the future's
                self.call_soon_threadsafe(_set, future.set_exception, future, error)
            else:
                self.call_soon_threadsafe(_set, future.set_result, future, value)

        strand = scheduler.start("executor", scheduler.here().process, run)
        scheduler.make_ready(strand)
        return future

    def abandon(self) -> None:
        """Drop what still runs in it: its process is dead."""
        self.set_exception_handler(lambda loop, context: None)
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001
            coroutine: Any = task.get_coro()
            try:
                coroutine.close()
            except BaseException:  # noqa: BLE001, S110 - the user's clean-up; nobody waits for it
                pass
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()


def _set(setter: Callable[[Any], None], future: Any, outcome: Any) -> None:
    if not future.done():
        setter(outcome)
