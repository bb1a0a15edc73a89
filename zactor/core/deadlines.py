"""Named points in time, earliest first.

Each deadline has a name (any tuple); setting it again moves it. Does not know what is due:
whoever owns the table takes the names and acts.
"""

from __future__ import annotations

from typing import Any

from sortedcontainers import SortedDict

Name = tuple[Any, ...]


class Deadlines:
    """A set of named deadlines. Ties are taken in the order they were set."""

    def __init__(self) -> None:
        self._queue: SortedDict[tuple[float, int], Name] = SortedDict()
        self._keys: dict[Name, tuple[float, int]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, name: Name) -> bool:
        return name in self._keys

    def set(self, name: Name, when: float) -> None:
        """Put or move the deadline `name` to `when`."""
        self.cancel(name)
        self._number += 1
        key = (when, self._number)
        self._queue[key] = name
        self._keys[name] = key

    def cancel(self, name: Name) -> None:
        """Take `name` out, if it is there."""
        key = self._keys.pop(name, None)
        if key is not None:
            del self._queue[key]

    def next(self) -> float | None:
        """Return the earliest deadline."""
        return self._queue.peekitem(0)[0][0] if self._queue else None

    def take_due(self, now: float) -> Name | None:
        """Remove and return the earliest name that is due, or None."""
        if self._queue:
            (when, _), name = self._queue.peekitem(0)
            if when <= now:
                self.cancel(name)
                return name
        return None
