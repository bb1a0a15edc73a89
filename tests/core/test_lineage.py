"""Lineage: what is remembered of how values were made, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zactor.core.lineage import Lineage, Record
from zactor.ids import PUT_INDEX


def name(call: int, index: int = 0) -> bytes:
    return call.to_bytes(24, "big") + index.to_bytes(4, "big")


def made(
    lineage: Lineage, call: int, *parents: int, index: int = 0, size: int = 10
) -> Callable[[], Record]:
    found = {name(parent): lineage.find(name(parent)) for parent in parents}
    return lambda: Record(name(call)[:24], f"call {call}", size, found, 3)


def note(lineage: Lineage, call: int, *parents: int, index: int = 0, size: int = 10) -> None:
    lineage.note(name(call, index), made(lineage, call, *parents, size=size))
    lineage.check()


def specs(lineage: Lineage, *calls: int) -> list[Any]:
    return [
        found.spec if (found := lineage.find(name(call))) is not None else "unknown"
        for call in calls
    ]


def test_a_record_lives_while_one_of_its_values_does() -> None:  # L1
    lineage = Lineage(1_000)
    note(lineage, 1, index=0)
    note(lineage, 1, index=2)
    lineage.forget(name(1, 0))
    assert specs(lineage, 1) == ["call 1"]
    lineage.forget(name(1, 2))
    lineage.check()
    assert lineage.stats() == (0, 0, 0)


def test_a_record_lives_while_something_that_was_made_from_it_does() -> None:  # L1
    lineage = Lineage(1_000)
    note(lineage, 1)
    note(lineage, 2, 1)
    note(lineage, 3, 2)
    lineage.forget(name(1))
    lineage.forget(name(2))
    lineage.check()
    assert specs(lineage, 1, 2, 3) == ["call 1", "call 2", "call 3"]
    lineage.forget(name(3))
    assert lineage.stats() == (0, 0, 0)


def test_a_chain_of_any_length_is_dropped_without_recursion() -> None:
    lineage = Lineage(1 << 30)
    for call in range(1, 50_000):
        lineage.note(name(call), made(lineage, call, *([call - 1] if call > 1 else [])))
        if call > 1:
            lineage.forget(name(call - 1))
    assert lineage.stats().records == 49_999
    lineage.forget(name(49_999))
    assert lineage.stats() == (0, 0, 0)


def test_the_oldest_records_are_evicted_at_the_bound_and_say_so() -> None:  # L2, L3
    lineage = Lineage(30)
    for call in range(1, 6):
        note(lineage, call)
    assert specs(lineage, 1, 2, 3) == [None, None, "call 3"]
    assert lineage.reason(name(1)) == "LINEAGE_EVICTED"
    assert lineage.stats() == (5, 30, 2)
    lineage.forget(name(1))
    assert lineage.reason(name(1)) == "RETRIES_DISABLED"


def test_ancestors_that_live_by_their_descendants_alone_are_bounded_too() -> None:  # L2
    lineage = Lineage(30)
    note(lineage, 1)
    for call in range(2, 100):
        note(lineage, call, call - 1)
        lineage.forget(name(call - 1))
        lineage.check()
    assert lineage.stats().records == 4  # and what is left of the youngest evicted one
    lineage.forget(name(99))
    assert lineage.stats().records == 0


def test_one_record_larger_than_the_bound_is_kept() -> None:  # L2
    lineage = Lineage(30)
    note(lineage, 1, size=1_000)
    assert specs(lineage, 1) == ["call 1"]
    note(lineage, 2)
    assert specs(lineage, 1, 2) == [None, "call 2"]


def test_what_cannot_be_made_again_has_no_record() -> None:
    lineage = Lineage(30)
    lineage.note(name(1), lambda: None)
    lineage.forget(name(1))
    assert lineage.find(name(1)) is None
    assert lineage.reason(name(1)) == "RETRIES_DISABLED"
    assert lineage.reason(name(1, PUT_INDEX)) == "PUT"


class LineageMachine(RuleBasedStateMachine):
    """Values come, and go, in any order, some made from others that live or have gone."""

    def __init__(self) -> None:
        super().__init__()
        self.lineage = Lineage(100)
        self.calls = 0
        self.live: set[tuple[int, int]] = set()

    @rule(data=st.data(), size=st.integers(1, 60), values=st.integers(1, 3))
    def make(self, data: st.DataObject, size: int, values: int) -> None:
        known = sorted({call for call, _ in self.live})
        parents = data.draw(st.lists(st.sampled_from(known), max_size=3)) if known else []
        self.calls += 1
        record = made(self.lineage, self.calls, *parents, size=size)
        for index in range(values):
            self.lineage.note(name(self.calls, index), record)
            self.live.add((self.calls, index))

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if self.live:
            gone = data.draw(st.sampled_from(sorted(self.live)))
            self.live.discard(gone)
            self.lineage.forget(name(*gone))

    @invariant()
    def holds(self) -> None:
        self.lineage.check()
        assert all(self.lineage.find(name(*each)) is not None for each in self.live)


LineageMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40)
TestLineageMachine = LineageMachine.TestCase
