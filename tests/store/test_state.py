"""`State` on SQLite: the same contract, and what a file adds."""

from __future__ import annotations

import sqlite3

import pytest

from tests.core.test_state import StateContract
from zactor.core.state import Change, CompactedError, StaleError
from zactor.store.state import SqliteState


class TestSqliteState(StateContract):
    @pytest.fixture
    def state(self, tmp_path):
        state = SqliteState(tmp_path / "state")
        yield state
        state.close()

    @pytest.fixture
    def short(self, tmp_path):
        state = SqliteState(tmp_path / "short", history=4)
        yield state
        state.close()


def test_what_was_written_outlives_the_broker(tmp_path):
    first = SqliteState(tmp_path / "state", is_synced=True)
    revision = first.transact([Change(b"k", {"v": 1})])
    first._db.execute("PRAGMA wal_checkpoint")  # a killed process closes nothing
    second = SqliteState(tmp_path / "state")
    assert second.get(b"k") == ({"v": 1}, revision)
    assert second.revision == revision
    first.close()
    second.close()


def test_a_broker_that_was_replaced_cannot_write(tmp_path):  # S2
    old = SqliteState(tmp_path / "state")
    revision = old.transact([Change(b"term", 1)])
    new = SqliteState(tmp_path / "state")
    new.transact([Change(b"term", 2)], after=revision)
    with pytest.raises(StaleError):
        old.transact([Change(b"k", 1)], after=revision)
    assert new.get(b"k") is None
    old.close()
    new.close()


def test_a_file_that_is_something_else_is_refused(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        SqliteState(path)


def test_a_format_of_the_future_is_refused(tmp_path):
    state = SqliteState(tmp_path / "state")
    state._db.execute("UPDATE meta SET number = 99 WHERE name = 'format'")
    state.close()
    with pytest.raises(sqlite3.DatabaseError, match="format 99"):
        SqliteState(tmp_path / "state")


def test_without_history_nothing_can_be_watched(tmp_path):
    state = SqliteState(tmp_path / "state", history=0)
    start = state.revision
    state.transact([Change(b"k", 1)])
    with pytest.raises(CompactedError):
        state.watch(b"", start)
    state.close()
