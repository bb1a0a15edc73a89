"""Concurrency groups of async actors: each has an event loop of its own, in a thread of its own.

So a method that blocks keeps only its own group waiting: a health check in a group of one is
answered whatever the others do. Methods without a group run in the main thread's loop (`pools`),
as they do in an actor without groups.

Within a group, coroutines interleave at `await` only; those of two groups run side by side, as
threads do.

Does not decide which group a call is of (`pools.Groups`), and does not end the actor: what a call
raises to that end is handed to the main host.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from zactor.runtime.hosting.pools import AsyncHost, Groups

if TYPE_CHECKING:
    from collections.abc import Iterator

END_PATIENCE = 1.0  # seconds that a group's coroutines have to be cancelled in, at the end


class GroupLoop(AsyncHost):
    """Runs the calls of one concurrency group, in its own thread."""

    def __init__(self, main: GroupedHost, name: str, limit: int) -> None:
        groups = Groups({name: limit}, 1, main.groups.methods)
        super().__init__(main.process, main.execution, main.life, groups)
        self._main = main
        self._thread = threading.Thread(
            target=self._serve, name=f"zactor-{name or 'group'}", daemon=True
        )

    def start(self) -> None:
        """Begin to run what has arrived, and what comes."""
        self.loop = asyncio.new_event_loop()
        self._thread.start()

    def _serve(self) -> None:
        loop = self.loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        self._ident = threading.get_ident()
        loop.call_soon(self._start)
        try:
            loop.run_forever()
            self._cancel_rest()
        finally:
            self.process.reception.detach(loop)
            self.process.flush()

    def close(self) -> None:
        """Cancel what runs and end the thread, unless user code keeps it. The main thread."""
        loop = self.loop
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(END_PATIENCE)

    def _end(self, error: BaseException | None) -> None:
        self._main.end_soon(error)

    def _is_last(self) -> bool:
        return self._main.is_done()


class GroupedHost(AsyncHost):
    """Runs an async actor with concurrency groups: what has no group here, the rest in its loop."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        limits = self.groups.limits
        self._loops = {name: GroupLoop(self, name, limits[name]) for name in limits if name}

    def put(self, run: Any) -> None:
        """Give the calls of a run to their groups. On the leader."""
        for group, part in self._parts(run):
            loop = self._loops.get(group)
            if loop is None:
                super().put(part)
            else:
                loop.put(part)

    def _parts(self, run: Any) -> Iterator[tuple[str, Any]]:
        """Cut a run where the group changes; mostly it does not."""
        intake, seq, number, calls, frames, parent = run
        count = len(calls) // 2
        names = [self.groups.of(calls[2 * at], calls[2 * at + 1]) for at in range(count)]
        first = 0
        for at in range(1, count + 1):
            if at == count or names[at] != names[first]:
                part = calls[2 * first : 2 * at]
                yield names[first], (intake, seq + first, number + first, part, frames, parent)
                first = at

    def _call_of(self, key: tuple[int, int]) -> Any:
        found = super()._call_of(key)
        for loop in self._loops.values():
            found = found or loop._call_of(key)  # noqa: SLF001 - our own kind
        return found

    def is_done(self) -> bool:
        """Whether the actor is to end, and no call is left in any group. Any thread."""
        return super()._is_last() and not any(loop.is_busy for loop in self._loops.values())

    def _is_last(self) -> bool:
        return self.is_done()

    def end_soon(self, error: BaseException | None) -> None:
        """End the actor: a call in one of the loops wants it, or was the last. Its thread."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._end, error)

    def serve(self) -> None:
        """Run all loops until the actor ends."""
        for loop in self._loops.values():
            loop.start()
        try:
            super().serve()
        finally:
            for loop in self._loops.values():
                loop.close()
