"""The segments of one machine: how much they take, and in which order they may go.

Only counts and orders; what becomes of a segment is decided by `core.storage`.

Invariants
    N1  What is reserved is the sum of the segments, and what is going the sum of those being
        taken or spilled; room is given only while the sum stays within the capacity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The steps of a segment. The last four end by a callback.
RESERVED = "reserved"  # its maker writes to it, or forgot it
FILLED = "filled"
WARM = "warm"  # kept by its maker for its next value
TAKING = "taking"
SPILLING = "spilling"
FILLING = "filling"  # by this node, from disk or from another node
INSPECTING = "inspecting"

# In which table a segment is that may go; they go in this order, and oldest first in each.
COPY, RESTORED, PRIMARY = "copy", "restored", "primary"
_ORDER = (WARM, COPY, RESTORED, PRIMARY)


class Segment:
    """A file in shared memory."""

    __slots__ = (
        "freed",
        "is_doomed",
        "leaving",
        "maker",
        "name",
        "object_id",
        "size",
        "spilling",
        "state",
    )

    def __init__(self, name: str, maker: bytes, size: int, state: str) -> None:
        self.name = name
        self.maker = maker  # process that writes to it: a client, or this node itself
        self.size = size  # what was reserved
        self.state = state
        self.object_id = b""  # what is in it, as far as we were told
        self.freed = (
            b""  # what was in it, and may be until its maker has heard that it is freed
        )
        self.is_doomed = False  # to be deleted after the step it is at
        self.leaving = b""  # what is being spilled
        self.spilling = 0  # bytes of disk set aside while it is being spilled


class Room:
    """Shared memory of `capacity` bytes, and what is in it."""

    def __init__(self, prefix: str, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.going = 0  # of that, what is being taken or spilled
        self.segments: dict[str, Segment] = {}
        self.in_use: dict[str, None] = {}  # tried to take, in vain; left alone until `retry`
        self._prefix = prefix
        self._serial = 0
        self._may_go: dict[str, dict[str, None]] = {table: {} for table in _ORDER}

    def has(self, size: int) -> bool:
        """Whether there is room for so many bytes now."""
        return self.used + size <= self.capacity

    def new(self, maker: bytes, size: int, state: str) -> Segment:
        """Reserve a segment under a name that is never used again."""
        self._serial += 1
        name = f"{self._prefix}{maker.hex()}-{self._serial}"
        segment = self.segments[name] = Segment(name, maker, size, state)
        self.used += size
        return segment

    def remove(self, segment: Segment) -> None:
        """The segment is gone, or about to go without fail."""
        del self.segments[segment.name]
        self.unlist(segment.name)
        self.in_use.pop(segment.name, None)
        self.used -= segment.size

    def enlist(self, name: str, table: str) -> None:
        """The segment may go, as the youngest of its table."""
        self.unlist(name)
        self._may_go[table][name] = None

    def unlist(self, name: str) -> None:
        """The segment may not go."""
        for table in self._may_go.values():
            table.pop(name, None)

    def listed(self, table: str) -> list[str]:
        """What may go, oldest first."""
        return list(self._may_go[table])

    def victims(self) -> Iterator[tuple[Segment, str]]:
        """What may go, in order, with the table it is in; without what was found in use."""
        for table in _ORDER:
            for name in self.listed(table):
                if name not in self.in_use:
                    yield self.segments[name], table

    def going_begins(self, segment: Segment, state: str) -> None:
        """The segment is being taken or spilled now."""
        self.unlist(segment.name)
        segment.state = state
        self.going += segment.size

    def going_ends(self, segment: Segment) -> None:
        """It was, or could not be."""
        self.going -= segment.size

    def check(self) -> None:
        """Assert N1."""
        segments = self.segments.values()
        assert self.used == sum(segment.size for segment in segments), "N1"
        going = [segment for segment in segments if segment.state in (TAKING, SPILLING)]
        assert self.going == sum(segment.size for segment in going), "N1"
        listed = [name for table in _ORDER for name in self._may_go[table]]
        assert len(listed) == len(set(listed)), "listed twice"
        for table in _ORDER:
            state = WARM if table == WARM else FILLED
            assert all(self.segments[name].state == state for name in self._may_go[table])
        for segment in segments:
            is_listed = segment.name in listed
            assert is_listed == (segment.state in (WARM, FILLED)), (segment.name, segment.state)
