"""Memory for values of other machines: re-used when nobody looks at it, and only then."""

from __future__ import annotations

import pytest

from zactor.store.warm import IDLE_SECONDS, WarmMemory

MEGABYTE = 1 << 20


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> WarmMemory:
    return WarmMemory(limit=16 * MEGABYTE, clock=clock)


def test_memory_is_given_out_again_only_when_no_view_of_it_is_left(memory: WarmMemory) -> None:
    view = memory.take(3 * MEGABYTE)
    view[:5] = b"first"
    part = view[:5].toreadonly()
    del view
    other = memory.take(3 * MEGABYTE)  # M1
    other[:5] = b"other"
    assert bytes(part) == b"first"
    del part
    again = memory.take(3 * MEGABYTE)
    assert bytes(again[:5]) == b"first"
    assert bytes(other[:5]) == b"other"
    assert (len(again), again.readonly, again.format) == (3 * MEGABYTE, False, "B")


def test_memory_is_not_wasted_on_what_is_much_smaller(memory: WarmMemory) -> None:
    view = memory.take(10 * MEGABYTE)
    del view
    small = memory.take(3 * MEGABYTE)
    assert memory.warm_bytes() == 10 * MEGABYTE
    half = memory.take(6 * MEGABYTE)
    assert memory.warm_bytes() == 0
    del small, half


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(memory: WarmMemory) -> None:
    views = [memory.take(size * MEGABYTE) for size in (8, 6, 4, 6)]
    while views:
        del views[0]
        memory.trim()
    assert memory.warm_bytes() == 16 * MEGABYTE  # M2: 6 + 4 + 6
    too_large = memory.take(18 * MEGABYTE)
    del too_large
    assert memory.warm_bytes() <= 16 * MEGABYTE


def test_what_is_idle_goes(memory: WarmMemory, clock: Clock) -> None:
    view = memory.take(MEGABYTE)
    assert not memory.trim()
    del view
    assert memory.trim()
    clock.now = IDLE_SECONDS / 2
    used = memory.take(MEGABYTE)
    del used
    assert memory.trim()
    clock.now = IDLE_SECONDS + 1
    assert memory.trim()  # it was used again
    clock.now = 2 * IDLE_SECONDS
    assert not memory.trim()
    assert memory.warm_bytes() == 0
