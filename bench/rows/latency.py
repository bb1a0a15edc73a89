"""How long one reply takes when other things are going on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from bench.statistic import percentile
from bench.work import Group, Measure, Rate, Setting

GROUP = Group("latency")

Works = Iterator[Rate | Measure]

WINDOW = 64  # calls outstanding while the full load is found


def offered_load(
    submit: Callable[[], Any],
    ready: Callable[[Any, float], bool],
    take: Callable[[Any], object],
    seconds: float,
) -> dict[str, float]:
    """Find what this loop reaches with `WINDOW` calls outstanding, then offer half of it.

    A call's time runs from when it was due, not from when it was sent, so a stall is charged to
    every call it held up. `ready(call, seconds)` waits no longer than `seconds` for one call.
    """
    pending: deque[Any] = deque(submit() for _ in range(WINDOW))
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds / 2:
        call = pending.popleft()
        while not ready(call, 1.0):
            pass
        take(call)
        pending.append(submit())
        done += 1
    interval = 2 * (time.perf_counter() - start) / done
    for call in pending:
        take(call)
    return _offer(submit, ready, take, interval, seconds)


def _offer(
    submit: Callable[[], Any],
    ready: Callable[[Any, float], bool],
    take: Callable[[Any], object],
    interval: float,
    seconds: float,
) -> dict[str, float]:
    pending: deque[tuple[float, Any]] = deque()
    times: list[float] = []
    now = due = time.perf_counter()
    end = now + seconds
    while due < end or pending:
        while due <= now and due < end:
            pending.append((due, submit()))
            due += interval
        left = max(0.0, due - time.perf_counter()) if due < end else 1.0
        if not pending:
            time.sleep(left)
        elif ready(pending[0][1], left):
            was_due, call = pending.popleft()
            take(call)
            times.append(time.perf_counter() - was_due)
        now = time.perf_counter()
    return {name: percentile(times, share) * 1000 for name, share in PERCENTILES.items()}


PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


@GROUP.row(
    "latency at half load",
    "calls offered at half the rate the same loop reaches; from when a call is due to its reply",
    unit="ms",
    less_is_better=True,
    parts=tuple(PERCENTILES),
)
def half_load(api: Any, setting: Setting) -> Works:
    @api.remote(num_cpus=0)
    class Actor:
        def small_value(self) -> bytes:
            return b"ok"

    actor = Actor.remote()
    api.get(actor.small_value.remote())

    def ready(ref: Any, seconds: float) -> bool:
        return bool(api.wait([ref], timeout=seconds)[0])

    yield Measure(
        lambda: offered_load(actor.small_value.remote, ready, api.get, setting.seconds)
    )


def behind(
    fast: Callable[[], Any],
    slow: Callable[[], Any],
    take: Callable[[Any], object],
    rounds: int,
) -> dict[str, float]:
    """Time the reply of a fast call that has a slow one right behind it."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        first, second = fast(), slow()
        take(first)
        times.append(time.perf_counter() - start)
        take(second)
    return {"p50": percentile(times, 0.5) * 1000, "worst": max(times) * 1000}


@GROUP.row(
    "reply with a slow method behind",
    "a fast call and at once a 50 ms call to the same actor; time to the fast one's reply",
    unit="ms",
    less_is_better=True,
    parts=("p50", "worst"),
)
def slow_method_behind(api: Any, setting: Setting) -> Works:
    @api.remote(num_cpus=0)
    class Actor:
        def fast(self) -> bytes:
            return b"ok"

        def slow(self) -> bytes:
            time.sleep(0.05)
            return b"ok"

    actor = Actor.remote()
    api.get(actor.fast.remote())
    rounds = setting.pick(40, 5)
    yield Measure(lambda: behind(actor.fast.remote, actor.slow.remote, api.get, rounds))
