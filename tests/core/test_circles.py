"""Circles of waits: what is one, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.core.circles import Circles, Need, Waiting


def need(name: int) -> Need:
    return Need("call", name.to_bytes(4, "big"), b"actor", ("somewhere",))


def waiting(name: int, *needs: int) -> Waiting:
    return Waiting(bytes([name]), f"wait {name}", tuple(need(each) for each in needs))


def circles(waits: dict[int, list[int]], calls: dict[int, list[int]], start: int) -> Circles:
    """Return a round in which all was asked: waits need calls, calls are held up by waits."""
    found = Circles(waiting(start, *waits[start]))
    todo = list(found.start.needs)
    while todo:
        each = todo.pop()
        if not found.knows(each):
            held = calls.get(int.from_bytes(each.id, "big"), [])
            todo += found.said(each, tuple(waiting(by, *waits[by]) for by in held))
    return found


@pytest.mark.parametrize(
    ("waits", "calls", "circle"),
    [
        ({1: [1]}, {1: [1]}, ["wait 1"]),
        ({1: [1], 2: [2]}, {1: [2], 2: [1]}, ["wait 1", "wait 2"]),
        ({1: [1], 2: [2], 3: [3]}, {1: [2], 2: [3], 3: [1]}, ["wait 1", "wait 2", "wait 3"]),
        ({1: [1], 2: [2]}, {1: [2]}, None),  # the second one's call runs
        (
            {1: [1], 2: [2], 3: [3]},
            {1: [2], 2: [3], 3: [2]},
            None,
        ),  # it only waits for a circle
        ({1: [1], 2: [2], 3: [3]}, {1: [2, 3], 2: [1]}, None),  # one place may become free
        ({1: [1], 2: [2], 3: [3]}, {1: [2, 3], 2: [1], 3: [1]}, ["wait 1", "wait 2"]),
        ({1: [9, 1], 2: [2]}, {1: [2], 2: [1]}, ["wait 1", "wait 2"]),  # it needs both
        ({1: []}, {}, None),
    ],
)
def test_circles(
    waits: dict[int, list[int]], calls: dict[int, list[int]], circle: list[str] | None
) -> None:
    assert circles(waits, calls, 1).circle() == circle


def test_a_wait_that_was_not_there_before_is_in_no_circle() -> None:
    first = circles({1: [1], 2: [2]}, {1: [2], 2: [1]}, 1)
    assert circles({1: [1], 2: [2]}, {1: [2], 2: [1]}, 1).circle(first) == ["wait 1", "wait 2"]
    assert circles({1: [1], 3: [2]}, {1: [3], 2: [1]}, 1).circle(first) is None


@given(
    st.dictionaries(st.integers(1, 6), st.lists(st.integers(1, 8), max_size=3), min_size=1),
    st.dictionaries(st.integers(1, 8), st.lists(st.integers(1, 6), max_size=3)),
)
def test_what_could_still_end_is_never_in_a_circle(
    waits: dict[int, list[int]], calls: dict[int, list[int]]
) -> None:
    calls = {call: [by for by in held if by in waits] for call, held in calls.items()}
    ended: set[int] = set()  # let everything end that can
    while True:
        done = {c for c in range(1, 9) if not calls.get(c) or set(calls[c]) & ended}
        more = {w for w, needs in waits.items() if set(needs) <= done} - ended
        if not more:
            break
        ended |= more
    for start in waits:
        found = circles(waits, calls, start).circle()
        if found is not None:
            assert not ended & {int(label.split()[1]) for label in found}
            assert found[0] == f"wait {start}"
