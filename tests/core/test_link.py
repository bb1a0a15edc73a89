"""One link: each message once, in order, whatever becomes of the connections under it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zactor.core import link as links
from zactor.core.link import DUPLICATE, GAP, NEXT, Link
from zactor.exceptions import RemoteProtocolError


def test_a_message_is_taken_once_and_only_after_all_before_it() -> None:
    link = Link()

    assert link.arrived(1, 10) == NEXT  # L1
    assert link.arrived(1, 10) == DUPLICATE
    assert link.arrived(3, 10) == GAP
    assert link.arrived(2, 10) == NEXT
    assert link.received == 2
    assert link.bytes_since_told == 20


def test_what_is_stamped_is_kept_until_it_is_acknowledged() -> None:
    link = Link()
    link.stamp("a", 5)
    link.stamp("b", 7)
    assert (link.sent, link.acked, link.unacked_bytes) == (2, 0, 12)

    link.acknowledged(1)

    assert [frames for _, frames, _ in link.unacked] == ["b"]  # L2
    assert (link.acked, link.unacked_bytes) == (1, 7)
    link.acknowledged(1)  # an old one again changes nothing
    assert link.acked == 1
    link.check()


def test_an_acknowledgement_of_what_was_never_sent_is_refused() -> None:
    link = Link()
    link.stamp("a", 5)
    with pytest.raises(RemoteProtocolError):
        link.acknowledged(2)  # L4
    assert link.acked == 0


def test_the_peer_is_told_by_any_message_that_leaves() -> None:
    link = Link()
    link.arrived(1, 10)
    assert link.owes_ack
    link.stamp("a", 1)
    assert not link.owes_ack
    assert link.bytes_since_told == 0


def test_the_peer_hears_soon_of_many_messages_or_bytes() -> None:
    link = Link()
    for seq in range(1, links.ACK_EVERY):
        link.arrived(seq, 1)
    assert not link.wants_ack
    link.arrived(links.ACK_EVERY, 1)
    assert link.wants_ack
    link.ack_sent()
    assert not link.wants_ack
    assert not link.owes_ack
    link.arrived(links.ACK_EVERY + 1, links.ACK_BYTES)
    assert link.wants_ack


def test_a_link_is_full_at_its_limits_and_drops_nothing() -> None:
    link = Link()
    link.stamp("a", links.MAX_BYTES)
    assert link.is_full  # L3
    link.stamp("b", 1)
    assert len(link.unacked) == 2
    link.acknowledged(1)
    assert not link.is_full
    for _ in range(links.MAX_MESSAGES - 1):
        link.stamp("c", 0)
    assert link.is_full


class Conversation(RuleBasedStateMachine):
    """Two links over connections that are lost with what is in them, and that double messages."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = (Link(), Link())
        self.wires: tuple[list, list] = ([], [])  # what is on its way from each end
        self.delivered: tuple[list, list] = ([], [])
        self.stamped = [0, 0]

    @rule(end=st.integers(0, 1))
    def send(self, end: int) -> None:
        link = self.ends[end]
        self.stamped[end] += 1
        link.stamp(self.stamped[end], 1)
        self.wires[end].append((link.sent, link.received, self.stamped[end]))

    @precondition(lambda self: self.wires[0] or self.wires[1])
    @rule(end=st.integers(0, 1))
    def arrive(self, end: int) -> None:
        if self.wires[end]:
            self._receive(1 - end, self.wires[end].pop(0))

    def _receive(self, end: int, message: tuple) -> None:
        seq, ack, content = message
        link = self.ends[end]
        link.acknowledged(ack)
        if seq and link.arrived(seq, 1) == NEXT:
            self.delivered[end].append(content)

    @rule(end=st.integers(0, 1), at=st.integers(0, 50))
    def double(self, end: int, at: int) -> None:
        wire = self.wires[end]
        if wire:
            wire.insert(at % len(wire), wire[at % len(wire)])

    @rule(end=st.integers(0, 1))
    def tell(self, end: int) -> None:
        link = self.ends[end]
        link.ack_sent()
        self.wires[end].append((0, link.received, None))

    @rule(end=st.integers(0, 1), kept=st.integers(0, 50))
    def reconnect(self, end: int, kept: int) -> None:
        """What was in the connection is lost but for a part at its front; the hello tells."""
        link, other = self.ends[end], self.ends[1 - end]
        old = self.wires[end][: kept % (len(self.wires[end]) + 1)]
        link.acknowledged(other.received)
        again = [(seq, link.received, content) for seq, content, _ in link.unacked]
        self.wires[end][:] = again
        for message in old:  # read from the old connection after the greeting
            self._receive(1 - end, message)

    @invariant()
    def each_once_and_in_order(self) -> None:
        for end in (0, 1):
            self.ends[end].check()
            got = self.delivered[end]
            assert got == list(range(1, len(got) + 1))  # L1

    def teardown(self) -> None:
        for end in (0, 1):
            self.reconnect(end, 0)
        for end in (0, 1):
            while self.wires[end]:
                self.arrive(end)
        for end in (0, 1):
            assert len(self.delivered[1 - end]) == self.stamped[end]  # nothing is lost


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
