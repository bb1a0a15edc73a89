"""One link: the numbered, acknowledged exchange of messages with one other process.

Counts what goes out, keeps it until it is acknowledged, and says of what comes in whether it is
the next, a duplicate, or past a gap. A link outlives its connections: after one is lost, what the
other side has not acknowledged goes out again over the next one, in order.

Does not send or time anything; the connection is the shell's.

Invariants
    L1  A seq is delivered once, and only after all before it.
    L2  What is unacknowledged is exactly what was stamped and not acknowledged, in order.
    L3  `is_full` turns true at the limits; nothing is dropped because of it.
    L4  An acknowledgement of what was never sent is refused, and changes nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from zactor.exceptions import RemoteProtocolError

NEXT = 0
DUPLICATE = 1
GAP = 2

MAX_MESSAGES = 16_384
MAX_BYTES = 256 << 20
ACK_EVERY = 64  # messages received without an ack of ours on the way back
ACK_BYTES = 4 << 20


class Link:
    """The state of both directions between this process and one peer."""

    __slots__ = ("bytes_since_told", "received", "sent", "told", "unacked", "unacked_bytes")

    def __init__(self) -> None:
        self.sent = 0  # highest seq stamped
        self.received = 0  # highest seq delivered
        self.unacked: deque[tuple[int, Any, int]] = (
            deque()
        )  # (seq, frames, bytes), oldest first
        self.unacked_bytes = 0
        self.told = 0  # the ack that the peer was last sent
        self.bytes_since_told = 0  # received since

    @property
    def acked(self) -> int:
        """The highest seq that the peer is known to have."""
        return self.sent - len(self.unacked)

    def stamp(self, frames: Any, size: int) -> None:
        """Count one more message out, and keep it until it is acknowledged.

        What is sent with it tells the peer all that has arrived.
        """
        self.sent += 1
        self.unacked.append((self.sent, frames, size))
        self.unacked_bytes += size
        self.told = self.received
        self.bytes_since_told = 0

    def acknowledged(self, ack: int) -> None:
        """Forget what the peer says it has.

        Raises:
            RemoteProtocolError: It says that it has what was never sent.
        """
        if ack > self.sent:
            raise RemoteProtocolError(f"message {ack} acknowledged, and {self.sent} were sent")
        unacked = self.unacked
        while unacked and unacked[0][0] <= ack:
            self.unacked_bytes -= unacked.popleft()[2]

    def arrived(self, seq: int, size: int) -> int:
        """Say whether message `seq` is the NEXT (and take it), a DUPLICATE, or past a GAP."""
        if seq == self.received + 1:
            self.received = seq
            self.bytes_since_told += size
            return NEXT
        return DUPLICATE if seq <= self.received else GAP

    @property
    def wants_ack(self) -> bool:
        """Whether the peer should hear now, and not with the next message, what has arrived."""
        return self.received - self.told >= ACK_EVERY or self.bytes_since_told >= ACK_BYTES

    @property
    def owes_ack(self) -> bool:
        """Whether something has arrived that the peer was not told of."""
        return self.received != self.told

    def ack_sent(self) -> None:
        """The peer is being told `received`."""
        self.told = self.received
        self.bytes_since_told = 0

    @property
    def is_full(self) -> bool:
        """Whether so much is unacknowledged that calls should wait."""
        return len(self.unacked) >= MAX_MESSAGES or self.unacked_bytes >= MAX_BYTES

    def check(self) -> None:
        """Assert the invariants."""
        seqs = [seq for seq, _, _ in self.unacked]
        assert seqs == list(range(self.sent - len(seqs) + 1, self.sent + 1))  # L2
        assert self.unacked_bytes == sum(size for _, _, size in self.unacked)
        assert self.told <= self.received
        assert self.bytes_since_told >= 0
