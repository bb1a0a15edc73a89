"""Which node has most of what a task is going to read."""

from __future__ import annotations

from typing import Any

import pytest

from zactor.runtime.calls.locality import node_with_most
from zactor.wire.batches import PICKLED, STORED, X_SLOTS, X_STORED

HOME = b"home"


def stored(slot: int, node: bytes, size: int) -> list[Any]:
    return [slot, STORED, ["name", size, node, []], b"object"]


@pytest.mark.parametrize(
    ("slots", "node"),
    [
        ([], b""),
        ([[0, PICKLED, b"bytes"]], b""),
        ([stored(0, b"a", 5)], b"a"),
        ([stored(0, HOME, 5)], b""),
        ([stored(0, b"a", 5), stored(1, b"b", 6)], b"b"),
        ([stored(0, b"a", 5), stored(1, b"b", 6), stored(2, b"a", 2)], b"a"),
        ([stored(0, b"a", 5), stored(1, HOME, 5)], b""),
    ],
)
def test_the_node_with_most_bytes_is_named_unless_there_are_as_many_at_home(
    slots: list[Any], node: bytes
) -> None:
    assert node_with_most({X_SLOTS: slots}, HOME) == node


def test_arguments_that_went_to_the_store_themselves_count_where_they_are() -> None:
    extras: dict[int, Any] = {
        X_SLOTS: [stored(0, b"a", 5)],
        X_STORED: [["name", 6, HOME, []], b"o"],
    }
    assert node_with_most(extras, HOME) == b""
    extras[X_STORED][0][1] = 4
    assert node_with_most(extras, HOME) == b"a"
