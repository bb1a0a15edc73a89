"""Filters of listings."""

from __future__ import annotations

import pytest

from zactor.core.filters import Filters

ROWS = [
    {"state": "ALIVE", "pid": 7, "is_idle": True},
    {"state": "DEAD", "pid": 8, "is_idle": False},
]


def test_all_conditions_must_hold() -> None:
    both = Filters([["state", "=", "ALIVE"], ("pid", "!=", 8)])
    assert list(both.over(ROWS)) == ROWS[:1]
    assert list(Filters([["state", "=", "ALIVE"], ["pid", "=", 8]]).over(ROWS)) == []
    assert list(Filters(None).over(ROWS)) == ROWS


def test_values_are_compared_as_text_without_regard_to_case() -> None:
    for condition in (
        ["state", "=", "alive"],
        ["pid", "=", "7"],
        ["is_idle", "=", "true"],
        ["is_idle", "=", 1],
    ):
        assert list(Filters([condition]).over(ROWS)) == ROWS[:1]


def test_what_may_change_yet_is_left_out() -> None:
    filters = Filters([["state", "=", "RUNNING"], ["pid", "=", 7]])
    assert filters.match(ROWS[0], {"state"})
    assert not filters.match(ROWS[1], {"state"})
    assert not filters.match(ROWS[0])


def test_a_key_that_rows_do_not_have_is_an_error_that_names_those_they_have() -> None:
    with pytest.raises(ValueError, match="no 'status' to filter by; there is: state, pid"):
        list(Filters([["status", "=", "ALIVE"]]).over(ROWS))


@pytest.mark.parametrize("condition", [("a", "="), "abc", ["a", "~", 1], 5])
def test_a_condition_that_is_none_is_refused(condition: object) -> None:
    with pytest.raises(ValueError, match="filter"):
        Filters([condition])
