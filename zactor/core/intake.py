"""Calls at the callee: a stream from one caller, in order, each taken once.

Says which of the calls that arrive are new, keeps the replies that were sent until the caller's
floor passes them, and remembers cancels of calls that have not come yet.

Does not run anything.

Invariants
    S1  A seq is taken at most once in one life of the callee.
    S2  A stream that is not known starts at the caller's floor.
    S3  A reply is kept until the floor passes its seq, and not longer.
"""

from __future__ import annotations

from collections import deque
from typing import Any

MAX_CANCELS = 1_024  # cancels remembered for calls that have not come


class Intake:
    """One stream, as its callee keeps it.

    Attributes:
        peer: Where its replies go: the caller's process now.
        channel: The caller's number for the stream on the link to `peer`.
        next_seq: The seq that comes next.
        kept: Replies that were sent, as `(first seq, last seq, [seq, status, value, ...])`.
        row: Where this stream's progress stands in the worker's progress page; 0 if it has no row.
        cancelled: Seqs that were cancelled before they ran.
        host: The actor (or task runner) that runs the calls.
        unfinished: Calls taken and not replied to.
    """

    __slots__ = (
        "actor",
        "caller",
        "cancelled",
        "channel",
        "floor",
        "host",
        "kept",
        "next_seq",
        "number",
        "peer",
        "row",
        "unfinished",
    )

    def __init__(self, caller: bytes, actor: bytes, number: int, first_seq: int) -> None:
        self.caller = caller
        self.actor = actor
        self.number = number
        self.next_seq = self.floor = first_seq
        self.kept: deque[tuple[int, int, list[Any]]] = deque()
        self.cancelled: set[int] = set()
        self.row = 0
        self.peer: Any = None
        self.channel = -1
        self.host: Any = None
        self.unfinished = 0

    def take(self, first_seq: int, calls: int) -> int:
        """Take a run of calls; return how many at its start were taken before (S1), or -1 if there
        is a gap before it."""
        skipped = self.next_seq - first_seq
        if skipped < 0:
            return -1
        end = first_seq + calls
        if end > self.next_seq:
            self.unfinished += end - self.next_seq
            self.next_seq = end
        return min(skipped, calls)

    def settled_below(self, floor: int) -> None:
        """The caller will not ask for anything below `floor` again (S3)."""
        self.floor = floor
        kept = self.kept
        while kept and kept[0][1] < floor:
            kept.popleft()

    def replies_from(self, first_seq: int) -> list[Any]:
        """Return the kept replies of `first_seq` and later, flat."""
        again: list[Any] = []
        for _, last, flat in self.kept:
            if last >= first_seq:
                for at in range(0, len(flat), 3):
                    if flat[at] >= first_seq:
                        again += flat[at : at + 3]
        return again

    def cancel(self, seq: int) -> None:
        """Remember that a call is not to be run, whether it is queued or has yet to come."""
        if len(self.cancelled) < MAX_CANCELS:
            self.cancelled.add(seq)
