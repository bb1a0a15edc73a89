"""Actors that wait for a place: one party for each job and shape.

Does not start actors, `core.lifecycle` does, and does not choose who is next among parties, see
`core.waiting`; within a party the actor that came first goes first.

Invariants
    Q1  An actor waits in one party at most.
    Q2  A party without actors is not kept.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.directory import Actor
    from zactor.core.placement import Obstacle, Shape, Spot
    from zactor.core.waiting import Waiting


class Starter(Protocol):
    """What becomes of actors that need not, or must not, wait any longer."""

    def start(self, actor: Actor, spot: Spot, now: float) -> None:
        """It has a place."""

    def warned(self, actor: Actor, obstacle: Obstacle) -> None:
        """It takes long."""

    def refused(self, actor: Actor, obstacle: Obstacle) -> None:
        """It can never be."""


class ActorParty:
    """The actors of one job that wait for one shape, first come first served."""

    __slots__ = ("actors", "key", "queue")

    def __init__(self, queue: ActorQueue, job: bytes) -> None:
        self.queue = queue
        self.key = ("actors", job)
        self.actors: OrderedDict[bytes, Actor] = OrderedDict()

    @property
    def share(self) -> int:
        """Actors are not leases: they take turns."""
        return 0

    @property
    def want(self) -> int:
        """How many of them there are."""
        return len(self.actors)

    @property
    def prefer(self) -> bytes:
        """The node of the first one's owner."""
        return self.queue.home_of(next(iter(self.actors.values())).owner)

    @property
    def near(self) -> bytes:
        """Nowhere: an actor outlives what it is constructed with."""
        return b""

    def granted(self, spot: Spot, now: float) -> bool:
        """Start the first."""
        actor = next(iter(self.actors.values()))
        self.queue.took(actor)
        self.queue.lifecycle.start(actor, spot, now)
        return bool(self.actors)

    def warned(self, obstacle: Obstacle, now: float) -> None:
        """Tell all of them."""
        for actor in self.actors.values():
            self.queue.lifecycle.warned(actor, obstacle)

    def refused(self, obstacle: Obstacle, now: float) -> None:
        """End all of them."""
        for actor in list(self.actors.values()):
            self.queue.took(actor)
            self.queue.lifecycle.refused(actor, obstacle)


class ActorQueue:
    """All actors that wait."""

    def __init__(
        self, lifecycle: Starter, waiting: Waiting, home_of: Callable[[bytes], bytes]
    ) -> None:
        self.lifecycle = lifecycle
        self.home_of = home_of
        self._waiting = waiting
        self._parties: dict[tuple[Any, ...], ActorParty] = {}

    def enter(self, actor: Actor, now: float) -> None:
        """Have the actor wait."""
        shape = _shape_of(actor)
        party = self._parties.get((shape.key, actor.job))
        if party is None:
            party = self._parties[shape.key, actor.job] = ActorParty(self, actor.job)
        party.actors[actor.id] = actor
        self._waiting.enter(shape, party, now)

    def took(self, actor: Actor) -> None:
        """The actor is out; whether its party stays in line is its caller's to say."""
        key = (_shape_of(actor).key, actor.job)
        party = self._parties[key]
        del party.actors[actor.id]
        if not party.actors:
            del self._parties[key]

    def leave(self, actor: Actor) -> None:
        """The actor waits no longer, if it did."""
        if actor.shape is None:
            return
        shape = _shape_of(actor)
        party = self._parties.get((shape.key, actor.job))
        if party is not None and actor.id in party.actors:
            self.took(actor)
            if not party.actors:
                self._waiting.leave(shape, party.key)

    def check(self) -> None:
        """Assert Q1 and Q2."""
        seen: set[bytes] = set()
        for party in self._parties.values():
            assert party.actors, "Q2"
            assert not seen & party.actors.keys(), "Q1"
            seen |= party.actors.keys()


def _shape_of(actor: Actor) -> Shape:
    assert actor.shape is not None
    return actor.shape.avoiding(actor.avoid) if actor.avoid else actor.shape
