"""Named deadlines."""

from __future__ import annotations

from zactor.core.deadlines import Deadlines


def test_deadlines_come_due_in_order_and_ties_in_the_order_set():
    deadlines = Deadlines()
    for name, when in (("c", 2.0), ("a", 1.0), ("b", 1.0)):
        deadlines.set((name,), when)
    assert deadlines.next() == 1.0
    assert deadlines.take_due(0.9) is None
    assert [deadlines.take_due(5.0) for _ in range(4)] == [("a",), ("b",), ("c",), None]
    assert deadlines.next() is None


def test_setting_again_moves_and_cancelling_removes():
    deadlines = Deadlines()
    deadlines.set(("a",), 1.0)
    deadlines.set(("a",), 3.0)
    deadlines.set(("b",), 2.0)
    assert len(deadlines) == 2
    assert ("a",) in deadlines
    deadlines.cancel(("b",))
    deadlines.cancel(("never",))
    assert deadlines.next() == 3.0
