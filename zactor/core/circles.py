"""Waits that can never end: found in what processes say of who waits for what.

A *wait* blocks a thread until all of its *needs* have come; so it is stuck if one of them is. A *need* is a
call or an object; it has the waits that hold it up. It is stuck if there are any, and all of them are stuck:
a queued call goes on as soon as one of the calls goes on that have its actor's places. Whatever nobody
answers for is not stuck.

A wait is in a circle if it is stuck, and leads back to itself by waits that are. What is said of
different processes was not said at the same moment; so a circle counts only if all of it was there, with
the same wait numbers, in an earlier round that was over before this one began: then there was a moment
between the two at which each wait of it waited for the others, and no wait of it can have ended since.

After K. M. Chandy, J. Misra, L. M. Haas, "Distributed deadlock detection", 1983.

Does not ask, time or send anything.
"""

from __future__ import annotations

from collections import deque

from zactor.named import NamedTuple


class Need(NamedTuple):
    """What a wait is for: a call, of the actor at a process, or an object, asked of its owner.

    `address` is for whoever asks; the other fields name it.
    """

    kind: str
    id: bytes
    actor: bytes
    address: tuple[object, ...]

    def key(self) -> tuple[str, bytes, bytes]:
        """Return its name."""
        return self.kind, self.id, self.actor


class Waiting(NamedTuple):
    """One wait, as its process describes it. `id` is never used for another one."""

    id: bytes
    label: str
    needs: tuple[Need, ...]


class Circles:
    """What was said in one round, beginning with one wait."""

    def __init__(self, start: Waiting) -> None:
        self.start = start
        self._said: dict[tuple[str, bytes, bytes], tuple[Waiting, ...]] = {}

    def said(self, need: Need, held_up_by: tuple[Waiting, ...]) -> list[Need]:
        """Enter what holds a need up; return what else is of interest now."""
        self._said[need.key()] = held_up_by
        return [each for waiting in held_up_by for each in waiting.needs]

    def knows(self, need: Need) -> bool:
        """Whether it was said what holds a need up."""
        return need.key() in self._said

    def waits(self) -> dict[bytes, Waiting]:
        """Return all waits that were named."""
        found = {waiting.id: waiting for held in self._said.values() for waiting in held}
        found[self.start.id] = self.start
        return found

    def circle(self, earlier: Circles | None = None) -> list[str] | None:
        """Return the labels of the waits on a circle through `start`, from it on; None if there is none.

        With `earlier`, only of waits that were there in that round too.
        """
        waits = self.waits()
        if earlier is not None:
            before = earlier.waits()
            waits = {key: waiting for key, waiting in waits.items() if key in before}
        stuck = self._stuck(waits)
        if self.start.id not in stuck:
            return None
        came_from: dict[bytes, Waiting] = {}
        queue = deque([self.start])
        while queue:
            waiting = queue.popleft()
            for following in self._after(waiting, stuck):
                if following.id == self.start.id:
                    return self._way_to(waiting, came_from)
                if following.id not in came_from:
                    came_from[following.id] = waiting
                    queue.append(following)
        return None

    def _stuck(self, waits: dict[bytes, Waiting]) -> set[bytes]:
        """Return the largest set of waits none of which can end before another of the set does."""
        stuck = set(waits)
        changed = True
        while changed:
            free = [key for key in sorted(stuck) if not any(self._after(waits[key], stuck))]
            stuck.difference_update(free)
            changed = bool(free)
        return stuck

    def _after(self, waiting: Waiting, stuck: set[bytes]) -> list[Waiting]:
        """Return the waits that hold up those needs of a wait that are stuck."""
        found: list[Waiting] = []
        for need in waiting.needs:
            held_up_by = self._said.get(need.key(), ())
            if all(each.id in stuck for each in held_up_by):
                found += held_up_by
        return found

    def _way_to(self, end: Waiting, came_from: dict[bytes, Waiting]) -> list[str]:
        labels = [end.label]
        while end.id != self.start.id:
            end = came_from[end.id]
            labels.append(end.label)
        return labels[::-1]
