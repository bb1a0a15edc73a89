"""Calls at the callee: a stream from one caller, in order, each taken once.

Says which of the calls that arrive are new, keeps the replies that were sent until the caller is
known to have them, and remembers cancels of calls that have not come yet.

A caller has a reply when its floor has passed the call, or when its process has acknowledged the
message that carried it: receiving and settling are one there. The second matters where one call runs
for ever and the floor never moves.

Does not run anything.

Invariants
    S1  A seq is taken at most once in one life of the callee.
    S2  A stream that is not known starts at the caller's floor.
    S3  A reply is kept until the caller is known to have it; at the bound new calls are refused,
        and nothing is forgotten.
"""

from __future__ import annotations

from typing import Any

MAX_CANCELS = 1_024  # cancels remembered for calls that have not come
MAX_UNFINISHED = 65_536  # calls taken and not replied to; a caller's credit is a quarter of it
MAX_KEPT = 65_536  # replies that the caller is not known to have
LOOK_AT_KEPT = 1_024  # kept replies from which on acknowledgements are looked at


_NONE: frozenset[int] = frozenset()


class Intake:
    """One stream, as its callee keeps it.

    Attributes:
        peer: Where its replies go: the caller's process now.
        channel: The caller's number for the stream on the link to `peer`.
        next_seq: The seq that comes next.
        kept: Replies that were gathered, as `[seq, status, value, ...]`.
        row: Where this stream's progress stands in the worker's progress page; 0 if it has no row.
        cancelled: Seqs that were cancelled before they ran.
        host: The actor (or task runner) that runs the calls.
        unfinished: Calls taken and not replied to.
    """

    __slots__ = (
        "_carried",
        "_carried_by",
        "_dropped",
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
        # One flat list: 90 bytes where one reply is kept, and a worker may have a hundred thousand
        # streams. A tuple while it is empty.
        self.kept: Any = ()
        self._dropped = 0  # replies that have left `kept`, ever
        self._carried = 0  # how many replies had entered `kept`, ever, when ...
        self._carried_by = 0  # ... this message of the link left with the last of them; 0: none
        self.cancelled: Any = _NONE  # a set once one is cancelled
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

    @property
    def kept_replies(self) -> int:
        """How many replies are kept."""
        return len(self.kept) // 3

    @property
    def is_full(self) -> bool:
        """Whether new calls are to be refused."""
        return self.unfinished >= MAX_UNFINISHED or self.kept_replies >= MAX_KEPT

    def settled_below(self, floor: int) -> None:
        """The caller will not ask for anything below `floor` again (S3)."""
        self.floor = floor
        if self.cancelled:
            self.cancelled = {seq for seq in self.cancelled if seq >= floor}
        # Mostly they are in order, and without gaps: then it is known how many go. Looking at each
        # would take 30 ns a call.
        while self.kept and self.kept[0] < floor:
            kept = self.kept
            below = min(len(kept), 3 * (floor - kept[0]))
            if max(kept[0:below:3]) >= floor:
                below = next(at for at in range(0, below, 3) if kept[at] >= floor)
            self._drop(below // 3)

    def keep(self, flat: list[Any] | tuple[Any, ...]) -> None:
        """Keep the replies `[seq, status, value, ...]`. The list is the intake's from now on."""
        kept = self.kept
        if not kept:
            self.kept = flat
        elif type(kept) is list:
            kept += flat
        else:
            self.kept = [*kept, *flat]

    def carried(self, message: int, acked: int) -> None:
        """All kept replies have left by now, the last of them in message `message` of the link.

        Args:
            message: Its number.
            acked: The highest number that the caller's process has acknowledged.
        """
        if self._carried_by and self._carried_by <= acked:
            self._drop(self._carried - self._dropped)
            self._carried_by = 0
        if not self._carried_by and self.kept_replies >= LOOK_AT_KEPT:
            self._carried_by = message
            self._carried = self._dropped + self.kept_replies

    def _drop(self, replies: int) -> None:
        if replies <= 0:
            return
        if 3 * replies >= len(self.kept):
            self.kept = ()
        else:
            self.kept = self.kept[3 * replies :]
        self._dropped += replies

    def replies_from(self, first_seq: int) -> list[Any]:
        """Return the kept replies of `first_seq` and later, flat."""
        again: list[Any] = []
        kept = self.kept
        for at in range(0, len(kept), 3):
            if kept[at] >= first_seq:
                again += kept[at : at + 3]
        return again

    def cancel(self, seq: int) -> None:
        """Remember that a call is not to be run, whether it is queued or has yet to come."""
        if len(self.cancelled) < MAX_CANCELS:
            if not self.cancelled:
                self.cancelled = set()
            self.cancelled.add(seq)

    def check(self) -> None:
        """Assert the invariants."""
        assert len(self.kept) % 3 == 0
        assert self._carried_by == 0 or self._carried >= 0
        assert self.unfinished >= 0
