"""The contract of `State`, in memory. `tests/store/test_state.py` holds SQLite to the same."""

from __future__ import annotations

import pytest

from zactor.core.state import Change, CompactedError, MemoryState, StaleError


class StateContract:
    """Every implementation of `State` passes these; a subclass gives `state` and `short`."""

    def test_what_was_put_is_there_with_its_revision(self, state):
        revision = state.transact([Change(b"a/1", {"x": [1, b"y", None, 0.5, True]})])
        assert state.get(b"a/1") == ({"x": [1, b"y", None, 0.5, True]}, revision)
        assert state.get(b"a/2") is None
        assert state.revision == revision

    def test_a_range_is_ordered_and_ends_with_its_prefix(self, state):
        state.transact([Change(key, 1) for key in (b"b/2", b"b/10", b"a/9", b"c", b"b/\xff")])
        assert [key for key, _ in state.range(b"b/")] == [b"b/10", b"b/2", b"b/\xff"]
        assert len(list(state.range(b""))) == 5
        assert list(state.range(b"\xff")) == []

    def test_a_range_may_be_written_to_while_it_is_read(self, state):
        state.transact([Change(b"k%d" % i, i) for i in range(5)])
        for key, _ in state.range(b"k"):
            state.transact([Change(key, None)])
        assert list(state.range(b"k")) == []

    def test_of_two_changes_of_one_key_the_later_stands(self, state):
        state.transact([Change(b"k", 1), Change(b"k", 2), Change(b"l", 1), Change(b"l", None)])
        assert state.get(b"k").value == 2
        assert state.get(b"l") is None

    def test_revisions_rise_and_may_be_asked_for(self, state):  # S1
        first = state.transact([Change(b"k", 1)])
        assert state.transact([Change(b"k", 2)], revision=first + 10) == first + 10
        assert state.transact([Change(b"k", 3)], revision=1) == first + 11

    def test_a_transaction_after_somebody_elses_is_refused_whole(self, state):  # S2
        mine = state.transact([Change(b"k", 1)])
        theirs = state.transact([Change(b"k", 2)])
        with pytest.raises(StaleError):
            state.transact([Change(b"k", 3), Change(b"l", 3)], after=mine)
        assert state.get(b"k").value == 2
        assert state.get(b"l") is None
        assert state.revision == theirs
        state.transact([Change(b"k", 4)], after=theirs)

    def test_a_transaction_may_expect_revisions_of_keys(self, state):  # S2
        revision = state.transact([Change(b"k", 1)])
        state.transact([Change(b"other", 1)])
        state.transact([Change(b"k", 2)], expect={b"k": revision, b"new": 0})
        with pytest.raises(StaleError):
            state.transact([Change(b"k", 3)], expect={b"k": revision})
        with pytest.raises(StaleError):
            state.transact([Change(b"k", 3)], expect={b"absent": 7})
        assert state.get(b"k").value == 2

    def test_a_watch_tells_every_change_since_in_order(self, state):  # S3
        start = state.transact([Change(b"a/1", 1)])
        second = state.transact([Change(b"a/2", 2), Change(b"b", 0)])
        third = state.transact([Change(b"a/1", None)])
        assert state.watch(b"a/", start) == [(b"a/2", 2, second), (b"a/1", None, third)]
        assert state.watch(b"a/", third) == []

    def test_a_watch_from_too_long_ago_says_so(self, short):  # S3
        start = short.revision
        for i in range(10):
            short.transact([Change(b"k", i)])
        with pytest.raises(CompactedError):
            short.watch(b"", start)
        assert [e.value for e in short.watch(b"", short.revision - 2)] == [8, 9]

    def test_keys_go_with_their_lease(self, state):
        lease = state.grant(10.0, now=100.0)
        state.transact(
            [Change(b"mine", 1, lease), Change(b"free", 1), Change(b"also", 1, lease)]
        )
        state.transact([Change(b"also", 2)])  # not leased any more
        assert state.renew(lease, 10.0, now=105.0)
        assert state.expire(now=114.9) == []
        before = state.revision
        assert state.expire(now=115.0) == [b"mine"]
        assert state.revision > before
        assert state.get(b"mine") is None
        assert state.get(b"also").value == 2
        assert not state.renew(lease, 10.0, now=116.0)
        assert state.grant(1.0, now=0.0) != lease
        state.close()


class TestMemoryState(StateContract):
    @pytest.fixture
    def state(self):
        return MemoryState()

    @pytest.fixture
    def short(self):
        return MemoryState(history=4)

    def test_without_history_nothing_can_be_watched(self):
        state = MemoryState(history=0)
        state.transact([Change(b"k", 1)])
        with pytest.raises(CompactedError):
            state.watch(b"", 0)
