"""What waits for a place: one line per shape, and in each line parties that take turns.

A party is a job's actors of that shape, or one client's demand for leases. A line that nothing
fits is not looked at again until something is freed on a node, and then on that node only; so a
large demand does not hold up small ones, and a thousand lines cost little.

Does not know what a party does with its spot.

Invariants
    W1  A line without parties is not kept.
    W2  Within a line who has least goes first and equals take turns; lines take turns too.
    W3  After `fill`, nothing that waits would fit.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from zactor.core.placement import Obstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zactor.core.broker_config import BrokerConfig
    from zactor.core.deadlines import Deadlines
    from zactor.core.membership import Node
    from zactor.core.placement import Placement, Shape, Spot


# Parties at the head of a line that are compared: who has least of them goes first. Since who is
# served goes to the end, everybody comes to be compared; all of a thousand would cost too much.
LOOK_AHEAD = 16


class Party(Protocol):
    """Somebody in a line."""

    key: tuple[Any, ...]

    @property
    def share(self) -> int:
        """How much it has already: who has least goes first."""

    @property
    def want(self) -> int:
        """How many places it waits for."""

    @property
    def prefer(self) -> bytes:
        """The node it would like best; b"" if any will do."""

    @property
    def near(self) -> bytes:
        """The node that has most of what it will read; b"" if none has."""

    def granted(self, spot: Spot, now: float) -> bool:
        """Take the spot; say whether more is wanted."""

    def warned(self, obstacle: Obstacle, now: float) -> None:
        """It takes long. Called at intervals."""

    def refused(self, obstacle: Obstacle, now: float) -> None:
        """It can never be; the party has left the line already."""


class Line:
    """Those who wait for one shape."""

    __slots__ = ("checked", "is_warned", "parties", "shape", "since")

    def __init__(self, shape: Shape, now: float) -> None:
        self.shape = shape
        self.parties: OrderedDict[tuple[Any, ...], Party] = OrderedDict()
        self.checked = 0  # what had been freed up to this stamp did not fit
        self.since = now  # nobody in it has been served since
        self.is_warned = False  # all in it have been told what they wait for


class Waiting:
    """All lines."""

    def __init__(
        self, placement: Placement, deadlines: Deadlines, config: BrokerConfig
    ) -> None:
        self._placement = placement
        self._deadlines = deadlines
        self._config = config
        self._stamp = 1
        self._freed: OrderedDict[bytes, tuple[int, Node]] = OrderedDict()  # latest last
        self._is_stale = False
        self.version = 0  # rises with each new party
        self.on_freed: Callable[[], None] = _nothing
        self.on_obstacle: Callable[[Obstacle], None] = lambda obstacle: None
        self.lines: OrderedDict[tuple[Any, ...], Line] = OrderedDict()

    def enter(self, shape: Shape, party: Party, now: float) -> None:
        """Join the line of `shape`, at its end. Being in it already is fine."""
        line = self.lines.get(shape.key)
        if line is None:
            line = self.lines[shape.key] = Line(shape, now)
            self._is_stale = True
            self._deadlines.set(("warn", shape.key), now + self._config.warn_infeasible)
        elif line.is_warned and party.key not in line.parties:
            # Those before it have been told what is wrong; it has not.
            line.is_warned = False
            self._deadlines.set(("warn", shape.key), now + self._config.warn_infeasible)
        if party.key not in line.parties:
            line.parties[party.key] = party
            self.version += 1

    def leave(self, shape: Shape, party_key: tuple[Any, ...]) -> None:
        """Want nothing more of this shape."""
        line = self.lines.get(shape.key)
        if line is not None and party_key in line.parties:
            del line.parties[party_key]
            if not line.parties:
                self._close(shape)

    def freed(self, node: Node) -> None:
        """Something was given back on `node`, or it has just opened."""
        self._stamp += 1
        self._freed[node.id] = (self._stamp, node)
        self._freed.move_to_end(node.id)
        self._is_stale = True
        self.on_freed()

    def forget_node(self, node: Node) -> None:
        """The node is gone for good."""
        self._freed.pop(node.id, None)

    def recheck(self) -> None:
        """Anything may fit now, though nothing was freed.

        A group was reserved; or a node closed, and who would rather have waited for it need not.
        """
        for line in self.lines.values():
            line.checked = 0
        self._is_stale = True

    def fill(self, now: float) -> None:
        """Serve whoever can be served."""
        while self._is_stale:
            self._is_stale = False
            turn = deque(line for line in self.lines.values() if line.checked < self._stamp)
            while turn:
                line = turn.popleft()
                if self._serve(line, now) and self.lines.get(line.shape.key) is line:
                    turn.append(line)

    def _serve(self, line: Line, now: float) -> bool:
        """Serve the head of the line once; False if nothing fits."""
        if not line.parties:
            return False
        shape = line.shape
        stamp = self._stamp
        party = min(islice(line.parties.values(), LOOK_AHEAD), key=_share)
        key = party.key
        only = list(self._freed_since(line.checked)) if line.checked else None
        spot = None
        if only is None or only:
            spot = self._placement.choose(shape, party.prefer, only, near=party.near)
        if spot is None:
            line.checked = stamp
            obstacle = self._placement.obstacle(shape)
            if obstacle is not None and obstacle.is_final:
                self._refuse(line, obstacle, now)
            return False
        line.since = now
        line.parties.move_to_end(key)
        self.lines.move_to_end(shape.key)
        if not party.granted(spot, now):
            self.leave(shape, key)
        return True

    def _freed_since(self, stamp: int) -> Iterator[Node]:
        for freed, node in reversed(self._freed.values()):
            if freed <= stamp:
                return
            yield node

    def review(self, now: float) -> None:
        """A node or group is gone: refuse what can never be placed now."""
        for line in list(self.lines.values()):
            obstacle = self._placement.obstacle(line.shape)
            if obstacle is not None and obstacle.is_final:
                self._refuse(line, obstacle, now)

    def warn(self, key: tuple[Any, ...], now: float) -> None:
        """The warning deadline of a line is due."""
        line = self.lines.get(key)
        if line is None:
            return
        obstacle = self._placement.obstacle(line.shape)
        waited = now - line.since
        if obstacle is not None and self._is_refused(obstacle):
            self._refuse(line, obstacle, now)
            return
        if obstacle is not None or waited >= self._config.warn_busy:
            if obstacle is not None:
                self.on_obstacle(obstacle)
            for party in list(line.parties.values()):
                party.warned(obstacle or _busy(line, waited), now)
            line.is_warned = True
        self._deadlines.set(("warn", key), now + self._config.warn_busy)

    def _is_refused(self, obstacle: Obstacle) -> bool:
        is_unwanted = self._config.refuse_infeasible and obstacle.is_infeasible
        return obstacle.is_final or is_unwanted

    def _refuse(self, line: Line, obstacle: Obstacle, now: float) -> None:
        self._close(line.shape)
        self.on_obstacle(obstacle)
        for party in list(line.parties.values()):
            party.refused(obstacle, now)

    def _close(self, shape: Shape) -> None:
        del self.lines[shape.key]
        self._deadlines.cancel(("warn", shape.key))

    def check(self) -> None:
        """Assert W1 and W3."""
        for line in self.lines.values():
            assert line.parties, "W1"
            if not self._is_stale:
                assert not self._placement.has_room(line.shape), f"W3: {line.shape}"


def _busy(line: Line, waited: float) -> Obstacle:
    return Obstacle(f"all that has {line.shape} is in use, for {waited:.0f} s now", False)


def _share(party: Party) -> int:
    return party.share


def _nothing() -> None:
    pass
