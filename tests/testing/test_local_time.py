"""Time in an in-process world: virtual, patched within, restored behind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import queue
import random
import threading
import time
from typing import Any

import pytest

import zactor
from tests.testing.actors import Clock, Counter, double
from zactor.exceptions import DeadlineExceededError, DeadlockError, GetTimeoutError
from zactor.testing import local

A_DAY = 86_400.0
real_clock = time.perf_counter


@pytest.fixture(autouse=True)
def takes_no_real_time() -> Any:
    began = real_clock()
    yield
    assert real_clock() - began < 20.0


def test_sleeping_costs_nothing() -> None:
    with local() as world:
        began = time.time()
        time.sleep(A_DAY)
        assert zactor.get(Counter.remote(3).nap.remote(A_DAY)) == 3
        assert time.time() - began == pytest.approx(2 * A_DAY, abs=1.0)
        assert world.now == pytest.approx(2 * A_DAY, abs=1.0)


def test_names_imported_from_time_are_virtual_too() -> None:
    with local():
        napped = zactor.get(Counter.remote().nap_by_name.remote(A_DAY))
        assert napped == pytest.approx(A_DAY, abs=1.0)


def test_naps_of_different_actors_pass_at_the_same_time() -> None:
    with local() as world:
        zactor.get([Counter.remote().nap.remote(100.0) for _ in range(5)])
        assert world.now == pytest.approx(100.0, abs=1.0)


def test_coroutines_sleep_in_virtual_time() -> None:
    with local() as world:
        clock = Clock.remote()
        assert zactor.get([clock.nap.remote(n) for n in (300, 100, 200)]) == [300, 100, 200]
        assert world.now == pytest.approx(300.0, abs=1.0)


def test_a_get_times_out_in_virtual_time() -> None:
    with local() as world:
        ref = Counter.remote().nap.remote(100.0)
        with pytest.raises(GetTimeoutError):
            zactor.get(ref, timeout=60.0)
        assert world.now == pytest.approx(60.0, abs=1.0)
        assert zactor.get(ref, timeout=60.0) == 0
        assert world.now == pytest.approx(100.0, abs=1.0)


def test_a_timeout_that_was_not_needed_costs_no_virtual_time() -> None:
    with local() as world:
        assert zactor.get(double.remote(2), timeout=1000.0) == 4
        with pytest.raises(DeadlockError):
            zactor.get(Clock.remote().never.remote())
        assert world.now < 1.0


def test_wait_waits_in_virtual_time_and_polls_make_progress() -> None:
    with local() as world:
        counter = Counter.remote()
        refs = [counter.nap.remote(10.0), counter.nap.remote(10.0)]
        assert zactor.wait(refs, timeout=15.0) == (refs[:1], refs[1:])
        polls = 0
        while zactor.wait(refs[1:], timeout=0)[1]:
            polls += 1
        assert polls > 0
        assert world.now == pytest.approx(20.0, abs=1.0)


def test_a_loop_that_watches_the_clock_ends() -> None:
    with local():
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            pass


def test_deadlines_of_calls_pass_in_virtual_time() -> None:
    with local():
        counter = Counter.remote()
        ref = counter.nap.options(timeout=5.0).remote(100.0)
        behind = counter.increment.options(timeout=5.0).remote()
        for each in (ref, behind):
            with pytest.raises(DeadlineExceededError):
                zactor.get(each)
        assert zactor.get(counter.increment.remote()) == 1  # the one behind did not run


def test_restarts_back_off_in_virtual_time() -> None:
    with local() as world:
        counter = Counter.options(max_restarts=-1, max_task_retries=-1).remote()
        for _ in range(5):
            zactor.get(counter.increment.remote())
            world.crash(counter)
        assert zactor.get(counter.increment.remote()) == 1
        assert 0.5 < world.now < 60.0


def test_the_world_s_waits_reach_into_the_standard_library() -> None:
    with local() as world:
        with pytest.raises(queue.Empty):
            queue.Queue().get(timeout=30.0)
        assert not threading.Event().wait(30.0)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda n: zactor.get(double.remote(n)), range(4))) == [
                0,
                2,
                4,
                6,
            ]
        future = double.remote(4).future()
        assert future.result() == 8
        assert world.now == pytest.approx(60.0, abs=1.0)


def test_a_driver_s_event_loop_runs_in_virtual_time() -> None:
    async def program() -> list[Any]:
        clock = Clock.remote()
        await asyncio.sleep(50.0)
        loop = asyncio.get_running_loop()
        in_thread = await loop.run_in_executor(None, lambda: zactor.get(double.remote(1)))
        return [await clock.nap.remote(100.0), await double.remote(5), in_thread]

    with local() as world:
        assert asyncio.run(program()) == [100.0, 10, 2]
        assert world.now == pytest.approx(150.0, abs=1.0)


def test_a_loop_from_outside_is_refused() -> None:
    loop = asyncio.new_event_loop()

    async def program() -> None:
        await Counter.remote().nap.remote(1.0)

    try:
        with local(), pytest.raises(RuntimeError, match="made outside of the in-process world"):
            loop.run_until_complete(program())
    finally:
        loop.close()


def test_sockets_in_a_world_s_loop_are_refused() -> None:
    async def program() -> None:
        await asyncio.open_connection("127.0.0.1", 9)

    with local(), pytest.raises(NotImplementedError, match="not part of an in-process world"):
        asyncio.run(program())


def test_what_ticks_for_ever_does_not_keep_a_hopeless_wait_waiting() -> None:
    with local(patience=1000.0) as world:
        clock = Clock.remote()
        clock.tick_for_ever.remote()
        with pytest.raises(DeadlockError, match="goes on for ever") as caught:
            zactor.get(clock.never.remote())
        assert "Clock#1.never(), which awaits what nobody sets" in str(caught.value)
        assert world.now == pytest.approx(1000.0, abs=2.0)


def test_advance_lets_time_pass_with_all_that_happens_in_it() -> None:
    with local() as world:
        ref = Counter.remote().nap.remote(10.0)
        world.advance(9.0)
        assert not ref.is_ready()
        world.advance(2.0)
        assert ref.is_ready()


def test_everything_is_restored_behind_the_world() -> None:
    def state() -> list[Any]:
        return [
            time.time, time.sleep, time.monotonic, time.perf_counter_ns, threading.Lock,
            threading.RLock, threading.Condition.wait, threading.Thread.start,
            threading.Thread.join, queue.SimpleQueue, asyncio.new_event_loop, os._exit, os.getpid,
            os.kill, dict(os.environ), random.getstate(), threading.active_count(),
        ]  # fmt: skip

    before = state()
    with pytest.raises(ZeroDivisionError), local():
        actor = Counter.options(runtime_env={"env_vars": {"WORLD": "1"}}).remote()
        zactor.get(actor.increment.remote())
        actor.wait_for_ever.remote()
        Clock.remote().tick_for_ever.remote()
        random.random()
        time.sleep(1.0)
        _ = 1 / 0
    assert state() == before
    assert not zactor.is_initialized()


def test_random_is_seeded_by_the_world() -> None:
    drawn = []
    for seed in (1, 1, 2):
        with local(seed=seed):
            drawn.append(random.random())
    assert drawn[0] == drawn[1] != drawn[2]
