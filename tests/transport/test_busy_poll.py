"""Waiting that looks before it sleeps: when it does, when it does not, and that it keeps time."""

from __future__ import annotations

import os
from typing import Any

import pytest

from zactor.transport import busy_poll
from zactor.transport.busy_poll import MOST_SKIPPED, BusyPoll

WINDOW = 0.001


class World:
    """A clock that moves with each look, and a descriptor that gets ready at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.ready_at = float("inf")
        self.yields_take = 1e-6
        self.looks = 0
        self.slept: list[float | None] = []
        monkeypatch.setattr(busy_poll, "monotonic", lambda: self.now)
        monkeypatch.setattr(os, "sched_yield", self._sched_yield)

    def _sched_yield(self) -> None:
        self.now += self.yields_take

    def poll(self, timeout: float | None) -> list[str]:
        if timeout == 0:
            self.looks += 1
            self.now += 1e-6
        else:
            self.slept.append(timeout)
            assert timeout is not None or self.ready_at < float("inf"), "would sleep for ever"
            until = self.ready_at if timeout is None else min(self.ready_at, self.now + timeout)
            self.now = max(self.now, until)
        return ["it"] if self.now >= self.ready_at else []

    def wait(self, polling: BusyPoll, comes_after: float, timeout: float | None = None) -> Any:
        """One wait for what comes so much later; returns (its outcome, looks, sleeps)."""
        self.looks, self.slept = 0, []
        self.ready_at = self.now + comes_after
        return polling.wait(self.poll, timeout), self.looks, len(self.slept)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_what_comes_within_the_window_is_found_without_sleeping(world: World) -> None:
    polling = BusyPoll(WINDOW)
    for _ in range(100):
        outcome, looks, sleeps = world.wait(polling, WINDOW / 2)
        assert outcome == ["it"]
        assert looks > 1
        assert sleeps == 0


def test_without_a_window_every_wait_sleeps_at_once(world: World) -> None:
    assert world.wait(BusyPoll(0.0), WINDOW / 2) == (["it"], 0, 1)


def test_looking_in_vain_becomes_rare_and_is_taken_up_again_once_it_pays(world: World) -> None:
    polling = BusyPoll(WINDOW)
    looked = [world.wait(polling, 1.0)[1] > 0 for _ in range(1_000)]
    assert looked[0]
    assert sum(looked) <= 6 + 1_000 / MOST_SKIPPED
    assert any(looked[-MOST_SKIPPED - 1 :])
    while not world.wait(polling, WINDOW / 2)[1]:
        pass
    assert all(world.wait(polling, WINDOW / 2)[2] == 0 for _ in range(100))


def test_a_core_that_others_want_is_left_to_them(world: World) -> None:
    polling = BusyPoll(WINDOW)
    world.yields_take = 0.004  # the slice of another program
    start, lost = world.now, 0
    for _ in range(20_000):
        outcome, looks, _ = world.wait(polling, 50e-6)
        assert outcome == ["it"]
        lost += looks
    assert lost * world.yields_take < 0.05 * (world.now - start)


@pytest.mark.parametrize("timeout", [0.0, WINDOW / 4, 10 * WINDOW])
def test_a_wait_ends_in_time(world: World, timeout: float) -> None:
    start = world.now
    outcome, _, _ = world.wait(BusyPoll(WINDOW), 1.0, timeout)
    assert outcome == []
    assert world.now - start == pytest.approx(timeout, abs=5e-6)


def test_an_exception_while_it_looks_leaves_it_usable(world: World) -> None:
    polling = BusyPoll(WINDOW)

    def interrupted(timeout: float | None) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        polling.wait(interrupted, None)
    assert world.wait(polling, WINDOW / 2) == (["it"], pytest.approx(250, abs=5), 0)
