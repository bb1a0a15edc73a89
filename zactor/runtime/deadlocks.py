"""Waits that can never end: found by asking along the chain of who waits for whom.

An actor that runs one call at a time and blocks in a `get` without a timeout, on a call of
another such actor, asks that actor: "are you, too, blocked?" (a WAITS message). Who is blocked on
other calls passes the question on to their actors. If it comes back to the one that asked, and that
one still waits for the same, the wait can never end: each call on the way is either the one
its actor is blocked in, or queued behind it. Whoever blocks last closes the circle, so its own question finds
it; no call that does not block pays anything.

After K. M. Chandy, J. Misra, L. M. Haas, "Distributed deadlock detection", 1983, for waits that
need all of what they wait for.

Not found: waits on several threads of one actor, and on references whose call another process made.

Owned by: `current` is set by the main thread, read by the leader.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from zactor.exceptions import DeadlockError
from zactor.runtime.hosts import MainHost
from zactor.runtime.interrupts import protect_module
from zactor.wire.codec import WAITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zactor.core.calls import Result
    from zactor.runtime.peer import Peer
    from zactor.runtime.process import Process
    from zactor.runtime.reception import Waiter

AGAIN = (0.02, 0.1, 0.5, 2.5)  # pauses after which a wait asks again
LONGEST_CHAIN = 256
MOST_ASKED = 64  # actors that one wait asks: a wait on more is hardly part of a circle


class Wait:
    """The main thread's present wait."""

    __slots__ = ("error", "number", "results", "waiter")

    def __init__(self, number: int, results: Sequence[Result], waiter: Waiter) -> None:
        self.number = number
        self.results = results
        self.waiter = waiter
        self.error: DeadlockError | None = None


class Deadlocks:
    """Asks for this process's waits, and answers for them."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._numbers = count(1)
        self.current: Wait | None = None
        process.post.on_kind(WAITS, self._asked)

    def waits(self, results: Sequence[Result], waiter: Waiter) -> Wait | None:
        """The main thread begins to wait for all of `results`, for as long as it takes."""
        execution = self._process.running
        if execution is None or execution.main_host is None or not execution.seq:
            return None
        wait = Wait(next(self._numbers), results, waiter)
        self.current = wait
        self._ask(wait, self._name(), wait.number, [])
        self._process.flush()
        self._ask_again(wait, 0)
        return wait

    def _ask_again(self, wait: Wait, times: int) -> None:
        # Somebody on the way may not have been blocked yet, or not have had a place.
        if times < len(AGAIN):
            self._process.post.call_later(AGAIN[times], lambda: self._repeat(wait, times))

    def _repeat(self, wait: Wait, times: int) -> None:
        if self.current is wait:
            self._ask(wait, self._name(), wait.number, [])
            self._process.flush()
            self._ask_again(wait, times + 1)

    def ends(self, wait: Wait) -> None:
        """It waits no longer.

        Raises:
            DeadlockError: Because it would have been for ever.
        """
        self.current = None
        if wait.error is not None:
            raise wait.error

    def _name(self) -> bytes:
        """Return what WAITS messages call this process's main thread: its actor's id, or its own."""
        execution = self._process.running
        return bytes.fromhex(execution.actor_id) if execution.actor_id else self._process.id

    def _label(self, result: Result) -> str:
        execution = self._process.running
        own = execution.current_name()
        view = getattr(result.stream, "target", None)
        target = getattr(view, "label", "") or "a task"
        return f"{own}, blocked in a get on a call of {target}"

    def _ask(self, wait: Wait, asker: bytes, number: int, chain: list[str]) -> None:
        asked: set[Any] = set()
        for result in wait.results:
            stream = result.stream
            outgoing = getattr(stream, "outgoing", None)
            if result.state or outgoing is None or stream in asked or len(asked) >= MOST_ASKED:
                continue
            asked.add(stream)
            peer: Peer = outgoing.peer
            body = [asker, number, stream.actor, [*chain, self._label(result)]]
            if peer.id == self._process.id:
                self._asked(peer, body, ())
                continue
            with peer.lock:
                peer.transmit(WAITS, body)

    def _asked(self, peer: Peer, body: Any, frames: Any) -> None:  # noqa: ARG002
        asker, number, target, chain = body[:4]
        wait = self.current
        host = self._process.callee.hosts.get(target)
        if wait is None or not isinstance(host, MainHost) or target != self._name():
            return
        if asker == self._name():
            if number == wait.number:
                wait.error = DeadlockError(chain=tuple(chain))
                wait.waiter.settled(None)
        elif len(chain) < LONGEST_CHAIN:
            self._ask(wait, asker, number, chain)


protect_module(__name__)
