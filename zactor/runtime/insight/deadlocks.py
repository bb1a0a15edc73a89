"""Waits that can never end: found by asking along the chain of who waits for whom.

A thread that runs a call and blocks in a `get` without a timeout asks what holds up what it waits
for, and what holds that up in turn, as far as the answers lead (WAITS messages). If they lead back to
itself by waits none of which can end (`core.circles`), twice in a row, it raises `DeadlockError`.
Whoever blocks last closes the circle, so its own questions find it; it asks again later, since a
call of the circle may not have arrived where it is going. No call that does not block pays anything.

    [0, number, [kind, id, actor]]                         the question: what holds this up?
    [1, number, [[wait id, label, [[kind, id, actor, address], ...]], ...]]    the answer

Found are waits of tasks and of plain, threaded, async and shared actors, in methods and constructors, on
calls of their own and on references from elsewhere. Not found are coroutines that `await`, and waits
with a timeout, which end anyway.

Owned by: `_waits` is written by the threads that wait, each its own entry; all else is the leader's.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from threading import get_ident
from typing import TYPE_CHECKING, Any

from zactor.core.circles import Circles, Need, Waiting
from zactor.exceptions import DeadlockError
from zactor.runtime.calls.several import Part
from zactor.runtime.insight.holding import idents_holding, needs_of, needs_of_object
from zactor.runtime.links.interrupts import protect_module
from zactor.wire.codec import WAITS
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zactor.core.calls import Result
    from zactor.runtime.links.peer import Peer
    from zactor.runtime.links.reception import Waiter
    from zactor.runtime.process import Process

QUESTION, ANSWER = 0, 1
FIRST_PAUSE = 0.02  # after which a wait asks again; each later pause is three times as long
LONGEST_PAUSE = 60.0
MOST_ASKED = 512  # questions of one round: a wait that needs more is hardly part of a circle
MOST_NEEDS = 64  # of one wait, of which it is told


class Wait:
    """One thread's present wait."""

    __slots__ = ("error", "id", "label", "results", "waiter")

    def __init__(
        self, wait_id: bytes, label: str, results: Sequence[Result], waiter: Waiter
    ) -> None:
        self.id = wait_id
        self.label = label
        self.results = results
        self.waiter = waiter
        self.error: DeadlockError | None = None


class Deadlocks:
    """Asks for this process's waits, and answers for them."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._numbers = count(1)
        self._waits: dict[int, Wait] = {}  # by the ident of the thread
        self._asked: dict[int, tuple[_Round, Need]] = {}
        process.post.on_kind(WAITS, self._received)

    # -- the waiting thread --------------------------------------------------------------------

    def waits(self, results: Sequence[Result], waiter: Waiter) -> Wait | None:
        """This thread begins to wait for all of `results`, for as long as it takes."""
        execution = self._process.running
        if execution is None:
            return None
        call = execution.current()
        if call is None and not (execution.actor_id and execution.instance is None):
            return (
                None  # a thread of the user's own; constructors are no calls, but hold calls up
            )
        wait_id = self._process.id + next(self._numbers).to_bytes(8, "big")
        first = results[0].call if isinstance(results[0], Part) else results[0]
        target = getattr(getattr(first.stream, "target", None), "label", "")
        name = execution.name_of_wait(call)
        label = f"{name}, blocked in a get on {'a call of ' + target if target else 'a result'}"
        wait = self._waits[get_ident()] = Wait(wait_id, label, results, waiter)
        self._look_later(wait, 0.0)
        return wait

    def ends(self, wait: Wait) -> None:
        """It waits no longer.

        Raises:
            DeadlockError: Because it would have been for ever.
        """
        self.over(wait)
        if wait.error is not None:
            raise wait.error

    def over(self, wait: Wait) -> None:
        """It waits no longer; see its `error`."""
        if self._waits.get(get_ident()) is wait:
            del self._waits[get_ident()]

    # -- looking, on the leader ----------------------------------------------------------------

    def _look_later(self, wait: Wait, pause: float) -> None:
        self._process.post.call_later(pause, lambda: self._look(wait, pause))

    def _is_waiting(self, wait: Wait) -> bool:
        return wait.error is None and any(each is wait for each in self._waits.values())

    def _look(self, wait: Wait, pause: float) -> None:
        if self._is_waiting(wait):
            _Round(self, wait, None).begin()
            self._process.flush()
            self._look_later(wait, min(LONGEST_PAUSE, 3 * pause) or FIRST_PAUSE)

    def found(self, wait: Wait, chain: list[str]) -> None:
        """A wait is in a circle."""
        if self._is_waiting(wait):
            wait.error = DeadlockError(chain=tuple(chain))
            wait.waiter.is_done = True
            wait.waiter.wake()

    def described(self, wait: Wait) -> Waiting:
        """Say what a wait of this process needs, as of now."""
        needs: dict[Any, Need] = {}
        for result in wait.results:
            for need in needs_of(self._process, result):
                needs[need.key()] = need
            if len(needs) >= MOST_NEEDS:
                break
        return Waiting(wait.id, wait.label, tuple(needs.values()))

    def holds_up(self, kind: str, name: bytes, actor: bytes) -> tuple[Waiting, ...]:
        """Say which waits of this process hold up a call or an object."""
        if kind == "object":
            needs = needs_of_object(self._process, name)
            return (Waiting(name, "", needs),) if needs else ()
        waits = []
        for ident in idents_holding(self._process, actor, name):
            wait = self._waits.get(ident)
            if wait is None:
                return ()  # who runs may end
            waits.append(self.described(wait))
        return tuple(waits)

    def ask(self, found: _Round, need: Need) -> None:
        """Have a process say what holds a need up."""
        address = Address._make(need.address)
        if address.process == self._process.id:
            found.answered(need, self.holds_up(*need.key()))
            return
        number = next(self._numbers)
        self._asked[number] = (found, need)
        while len(self._asked) > MOST_ASKED * MOST_NEEDS:  # of peers that never answered
            del self._asked[next(iter(self._asked))]
        peer = self._process.post.peer(address)
        with peer.lock:
            peer.transmit(WAITS, [QUESTION, number, list(need.key())])

    def _received(self, peer: Peer, body: Any, frames: Any) -> None:  # noqa: ARG002
        what, number, content = body[:3]
        if what == QUESTION:
            held_up_by = [
                [each.id, each.label, [list(need) for need in each.needs]]
                for each in self.holds_up(*content[:3])
            ]
            with peer.lock:
                peer.transmit(WAITS, [ANSWER, number, held_up_by])
        elif number in self._asked:
            found, need = self._asked.pop(number)
            found.answered(need, tuple(_waiting(row) for row in content))


class _Round:
    """One round of questions for one wait; after a first one that found a circle, a second."""

    def __init__(self, deadlocks: Deadlocks, wait: Wait, earlier: Circles | None) -> None:
        self._deadlocks = deadlocks
        self._wait = wait
        self._earlier = earlier
        self._circles = Circles(deadlocks.described(wait))
        self._to_ask = deque(self._circles.start.needs)
        self._open: set[Any] = set()
        self._asked = 0
        self._is_asking = False

    def begin(self) -> None:
        """Ask for what is to be asked for; once all was answered, look."""
        if self._is_asking:
            return  # an answer of this process itself: the loop below goes on
        self._is_asking = True
        while self._to_ask:
            need = self._to_ask.popleft()
            key = need.key()
            if (
                key not in self._open
                and not self._circles.knows(need)
                and self._asked < MOST_ASKED
            ):
                self._asked += 1
                self._open.add(key)
                self._deadlocks.ask(self, need)
        self._is_asking = False
        if not self._open:
            self._look()

    def answered(self, need: Need, held_up_by: tuple[Waiting, ...]) -> None:
        """It was said what holds a need up."""
        self._open.discard(need.key())
        self._to_ask += self._circles.said(need, held_up_by)
        self.begin()

    def _look(self) -> None:
        chain = self._circles.circle(self._earlier)
        if chain is None:
            return
        if self._earlier is None:
            _Round(self._deadlocks, self._wait, self._circles).begin()
        else:
            self._deadlocks.found(self._wait, [label for label in chain if label])


def _waiting(row: list[Any]) -> Waiting:
    needs = tuple(
        Need(kind, name, actor, tuple(address)) for kind, name, actor, address in row[2]
    )
    return Waiting(row[0], row[1], needs)


protect_module(__name__)
