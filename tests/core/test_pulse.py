"""Silence, and whether it was the broker that did not listen."""

from __future__ import annotations

import pytest

from zactor.core.deadlines import Deadlines
from zactor.core.pulse import NAME, Pulse


@pytest.fixture
def deadlines():
    return Deadlines()


@pytest.fixture
def pulse(deadlines):
    return Pulse(deadlines, 2.0)


def test_nobody_to_be_heard_is_nothing_to_look_for(deadlines, pulse):
    assert not pulse.is_due(1_000.0)
    assert deadlines.next() is None
    pulse.begin(1_000.0)
    assert deadlines.next() == 1_002.0
    pulse.end()
    assert not pulse.is_due(2_000.0)
    assert deadlines.next() is None


def test_a_look_in_time_or_a_little_late_is_no_absence(deadlines, pulse):
    pulse.begin(10.0)
    assert deadlines.next() == 12.0
    assert not pulse.is_due(11.9)
    assert pulse.is_due(12.0)
    assert pulse.away(12.0) == 0.0
    assert pulse.away(14.0) == 0.0


def test_a_look_that_is_late_says_how_long_nothing_was_heard(pulse):
    pulse.begin(10.0)
    assert pulse.away(42.0) == 30.0
    pulse.beat(42.0)
    assert pulse.away(43.0) == 0.0


def test_who_comes_after_an_absence_does_not_hide_it(deadlines, pulse):
    pulse.begin(10.0)
    pulse.begin(42.0)
    assert pulse.away(42.0) == 30.0
    assert NAME in deadlines
