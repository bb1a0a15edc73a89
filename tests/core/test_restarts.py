"""The truth table of `core.restarts`, row by row, and its back-off."""

from __future__ import annotations

import pytest

from zactor.core.broker_config import BrokerConfig
from zactor.core.restarts import FINAL_KINDS, CrashRecord, is_restarted, spawn_pause

CONFIG = BrokerConfig(restart_window=60.0, restart_step=0.1, restart_pause=5.0)


@pytest.mark.parametrize("kind", ["exit", "signal", "oom", "node", "killed"])
@pytest.mark.parametrize(
    ("max_restarts", "restarts", "expected"),
    [(0, 0, False), (1, 0, True), (1, 1, False), (3, 2, True), (-1, 10_000, True)],
)
def test_a_crash_is_followed_by_a_life_while_restarts_are_left(
    kind, max_restarts, restarts, expected
):
    cause = {"kind": kind}
    assert is_restarted(cause, max_restarts=max_restarts, restarts=restarts) is expected


@pytest.mark.parametrize("kind", sorted(FINAL_KINDS))
def test_some_ends_are_final_whatever_is_left(kind):
    assert not is_restarted({"kind": kind}, max_restarts=-1, restarts=0)


def test_the_first_restart_is_immediate_and_each_further_one_waits_twice_as_long():
    crashes = CrashRecord()
    pauses = [crashes.crashed(now, CONFIG) for now in range(9)]
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_crashes_older_than_the_window_are_forgotten():
    crashes = CrashRecord()
    crashes.crashed(0.0, CONFIG)
    assert crashes.crashed(59.9, CONFIG) == 0.1
    assert crashes.crashed(119.8, CONFIG) == 0.1
    assert crashes.crashed(179.8, CONFIG) == 0.0


def test_many_crashes_never_overflow():
    crashes = CrashRecord()
    assert all(crashes.crashed(1.0, CONFIG) <= 5.0 for _ in range(2_000))
    assert spawn_pause(5_000, CONFIG) == 5.0
    assert [spawn_pause(n, CONFIG) for n in range(4)] == [0.0, 0.0, 0.1, 0.2]
