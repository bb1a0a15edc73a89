"""Whether this broker has been running: silence proves something only to who has listened.

A broker that was stopped, paused with its machine, or starved of CPU has heard nobody meanwhile,
and the others may have stood still with it. So it looks at the clock as often as a node renews its
lease, while anybody is a member. A look that comes late by more than that says for how long
nothing was heard; whoever asks `away` then gives everybody a new lease.

Does not touch anybody's deadline but its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zactor.core.deadlines import Deadlines

NAME = ("pulse",)


class Pulse:
    """A deadline that comes again and again."""

    def __init__(self, deadlines: Deadlines, interval: float) -> None:
        self._deadlines = deadlines
        self._interval = interval
        self._due = 0.0  # the next look

    def is_due(self, now: float) -> bool:
        """Whether it is time to look."""
        return NAME in self._deadlines and now >= self._due

    def away(self, now: float) -> float:
        """Return for how long the broker did not run: 0.0 if it did."""
        late = now - self._due
        return late if late > self._interval else 0.0

    def begin(self, now: float) -> None:
        """There is somebody to be heard. A look that is due already stays so."""
        if NAME not in self._deadlines:
            self.beat(now)

    def beat(self, now: float) -> None:
        """Set the next look."""
        self._due = now + self._interval
        self._deadlines.set(NAME, self._due)

    def end(self) -> None:
        """There is nobody any more."""
        self._deadlines.cancel(NAME)
