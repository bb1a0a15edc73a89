"""The journal: writes before effects, one transaction a drain."""

from __future__ import annotations

import pytest

from tests.core.broker_world import address_of
from zactor.core.journal import Journal, Report, Send
from zactor.core.state import Change, MemoryState, StaleError


def test_writes_are_committed_in_one_transaction_before_effects_are_handed_out():
    state = MemoryState()
    journal = Journal(state)
    assert journal.put(b"a", 1) == 1
    assert journal.put(b"a", 2) == 2
    journal.put(b"b", 1)
    journal.delete(b"b")
    journal.report("info", "x")
    assert state.revision == 0
    assert journal.drain() == [Report("info", "x")]
    assert (state.revision, state.get(b"a").value, state.get(b"b")) == (4, 2, None)
    assert journal.drain() == []
    assert state.revision == 4


def test_only_processes_whose_place_is_known_are_sent_to():
    journal = Journal(MemoryState())
    journal.book[b"p"] = address_of(b"p")
    journal.send(b"p", "hello")
    journal.send(b"q", "hello")
    assert journal.drain() == [Send(address_of(b"p"), "hello")]


def test_nobody_is_told_anything_by_a_broker_that_was_replaced():
    state = MemoryState()
    journal = Journal(state)
    state.transact([Change(b"term", 2)])
    journal.put(b"a", 1)
    journal.report("info", "x")
    with pytest.raises(StaleError):
        journal.drain()
