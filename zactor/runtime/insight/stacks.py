"""Dumps of workers' Python stacks, as `zactor stack` shows them.

A worker's handler is C code (faulthandler), so it answers also while other C code holds the
interpreter lock; it writes behind the progress page (see `runtime.nodes.spawn`). A dump has no end mark.
It is whole when the kernel says that the signal is neither waiting nor being handled, and it has not
grown from one look to the next: a worker that was interrupted in the middle of it only looks done.
One dump at a time.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.runtime.links.loop import Loop
    from zactor.runtime.nodes.spawn import WorkerProcess

    Workers = Callable[[], list[WorkerProcess]]
    Done = Callable[[list[tuple[WorkerProcess, str]]], None]

POLL = 0.01
POLLS = 200
"""How often a dump is looked at, and how many times before it is taken as it is."""


class StackDumps:
    """The dumps under way and to come. On the loop's thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        # (whose, who is told) each; the first is under way
        self._wanted: deque[tuple[Workers, Done]] = deque()

    def request(
        self,
        workers: Workers,
        done: Done,
    ) -> None:
        """Dump the stacks of the workers that `workers()` returns then; call `done` with them.

        They must have installed their handlers: a worker that has not would die of the signal.
        """
        self._wanted.append((workers, done))
        if len(self._wanted) == 1:
            self._begin()

    def _begin(self) -> None:
        asked = self._wanted[0][0]()
        for worker in asked:
            worker.request_stack()
        self._loop.call_later(POLL, partial(self._look, asked, [], POLLS))

    def _look(self, asked: list[WorkerProcess], before: list[str], looks_left: int) -> None:
        # In this order: what is written after the first question is seen by the second.
        is_writing = any(worker.is_dumping() for worker in asked)
        stacks = [worker.read_stack() if worker.page >= 0 else "" for worker in asked]
        if looks_left and (is_writing or stacks != before or "" in stacks):
            self._loop.call_later(POLL, partial(self._look, asked, stacks, looks_left - 1))
            return
        done = self._wanted.popleft()[1]
        done(list(zip(asked, stacks, strict=True)))
        if self._wanted:
            self._begin()
