"""The layout of calls and replies: what is well-formed is known to be, everything else is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.wire import batches

GROUP = [0, 1, 1, 1, [0, None, 1, b"pickle", -5, [b"pickle", {1: 2}], 3, [None, {}]]]
DEFINED = [[b"c", b"a", 1, 0, 0], 1, 1, 1, [0, None]]
SINGLES = [None, 1, [0, 1, 0, None, [b"c", b"a", 1, 0, 0], 1, 3, b"pickle"]]

anything = st.recursive(
    st.none() | st.integers() | st.binary() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.integers(), inner, max_size=3)
    ),
    max_leaves=30,
)


def test_calls_as_they_are_sent_are_well_formed() -> None:
    assert batches.is_calls([])
    assert batches.is_calls([GROUP, DEFINED])
    assert batches.is_calls([[*GROUP, [[b"caller", 7]]]])
    assert batches.is_calls([GROUP, SINGLES, DEFINED])


@pytest.mark.parametrize(
    "group",
    [
        None,
        {},
        GROUP[:4],
        ["0", *GROUP[1:]],
        [[b"c", b"a"], *GROUP[1:]],
        [0, "1", 1, 1, []],
        [0, 1, 1, None, []],
        [0, 1, 1, 1, {}],
        [0, 1, 1, 1, [0]],
        [0, 1, 1, 1, ["0", None]],
        [0, 1, 1, 1, [0, "arguments"]],
        [0, 1, 1, 1, [0, [b"pickle"]]],
        [0, 1, 1, 1, [0, [b"pickle", []]]],
        [None],
        [None, "1", []],
        [None, 1, {}],
        [None, 1, [0, 1, 0]],
        [None, 1, ["0", 1, 0, None]],
        [None, 1, [0, None, 0, None]],
        [None, 1, [0, 1, "0", None]],
        [None, 1, [0, 1, 0, "arguments"]],
    ],
)
def test_calls_laid_out_otherwise_are_not(group: object) -> None:
    assert not batches.is_calls([GROUP, group])
    assert not batches.is_calls(group)


def test_replies_as_they_are_sent_are_well_formed() -> None:
    assert batches.is_replies([])
    assert batches.is_replies(
        [
            [0, [1, 0, None, 2, 1, b"pickle"]],
            [1, []],
            [2, [1, 0, 5], 120],
            [None, [4, 1, 0, None, 5, 1, 1, b"pickle"]],
        ]
    )


@pytest.mark.parametrize(
    "group",
    [
        None,
        [0],
        ["0", []],
        [0, {}],
        [0, [1, 0]],
        [0, ["1", 0, 0]],
        [0, [1, None, 0]],
        [None, {}],
        [None, [0, 1, 0]],
        [None, [None, 1, 0, 0]],
        [None, [0, 1, "0", 0]],
    ],
)
def test_replies_laid_out_otherwise_are_not(group: object) -> None:
    assert not batches.is_replies([[0, []], group])


def test_a_cancel_names_a_channel_a_call_and_flags() -> None:
    assert batches.is_cancel([0, 7, 0, "later"])
    assert not batches.is_cancel([0, 7])
    assert not batches.is_cancel([0, "7", 0])
    assert not batches.is_cancel(None)


@given(anything)
def test_any_body_can_be_judged(body: object) -> None:
    for judge in (batches.is_calls, batches.is_replies, batches.is_cancel):
        assert judge(body) in (True, False)
