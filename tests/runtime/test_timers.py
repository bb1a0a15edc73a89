"""Timers and deadlines that one thread meets and all set: none is lost, whenever it is set."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from tests.runtime.ends import UNIT, End
from zactor.runtime.links.loop import Loop
from zactor.runtime.links.post import Post
from zactor.runtime.links.timers import Timers

FAR = 1_000.0


def test_they_run_when_they_are_due_the_earliest_first_and_once() -> None:
    timers, ran = Timers(), []
    for when in (3.0, 1.0, 2.0, 1.0):
        timers.add(when, lambda when=when: ran.append(when))  # type: ignore[misc]
    assert timers.nearest() == 1.0
    timers.run_due(0.9)
    assert ran == []
    timers.run_due(2.0)
    timers.run_due(2.0)
    assert ran == [1.0, 1.0, 2.0]
    assert timers.nearest() == 3.0


def test_one_that_is_cancelled_does_not_run_and_is_not_waited_for() -> None:
    timers, ran = Timers(), []
    first = timers.add(1.0, lambda: ran.append(1))
    timers.add(2.0, lambda: ran.append(2))
    first.cancel()
    assert timers.nearest() == 2.0
    timers.run_due(5.0)
    assert ran == [2]
    assert timers.nearest() is None


def test_one_that_raises_is_reported_and_the_others_run(capfd: Any) -> None:
    timers, ran = Timers(), []
    timers.add(1.0, lambda: 1 / 0)
    timers.add(2.0, lambda: ran.append(2))
    timers.run_due(5.0)
    assert ran == [2]
    assert "ZeroDivisionError" in capfd.readouterr().err


def steps_of(function: Callable[..., Any], run: Callable[[], None]) -> int:
    """Return how many steps (bytecodes) of `function` are gone through when `run` runs."""
    return _traced(function, run, -1, lambda: None)


def with_another_thread_at(
    step: int, function: Callable[..., Any], run: Callable[[], None], other: Callable[[], None]
) -> None:
    """Run `run`, and before the `step`-th step of `function` let another thread do `other`."""
    threads = []

    def intrude() -> None:
        threads.append(threading.Thread(target=other))
        threads[0].start()
        threads[0].join(0.01)  # it may have to wait until this thread is out of there

    _traced(function, run, step, intrude)
    threads[0].join(10 * UNIT)
    assert not threads[0].is_alive()


def _traced(
    function: Callable[..., Any], run: Callable[[], None], step: int, act: Callable[[], None]
) -> int:
    code, seen = function.__code__, 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal seen
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if seen == step:
                act()
            seen += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return seen


def test_a_deadline_set_while_the_next_is_worked_out_is_met(tmp_path: Any) -> None:
    end = End(tmp_path, "end")
    end.reception.stop()  # this test is the receiving thread
    post = end.post
    try:
        for function in (Post.tick, Post._set_deadline, Post._bring_forward):

            def tick() -> None:
                post._deadline = None
                post.call_later(FAR, lambda: None)
                post._deadline = post.now()  # something is due
                post.tick(post.now())

            for step in range(steps_of(function, tick)):
                ran: list[int] = []
                with_another_thread_at(
                    step,
                    function,
                    tick,
                    lambda ran=ran: post.call_later(0.001, lambda: ran.append(1)),  # type: ignore[misc]
                )
                deadline = post.next_deadline()
                assert ran or (deadline is not None and deadline <= post.now() + 0.01), (
                    f"lost at step {step} of {function.__name__}"
                )
                post.tick(post.now() + 1)
                assert ran == [1]
    finally:
        post.close()


def test_a_callback_set_while_a_loop_works_out_how_long_to_sleep_runs() -> None:
    loop = Loop()
    try:

        def turn() -> None:
            loop.call_later(0.5, lambda: None).cancel()
            loop.wake()  # it does not block
            loop.turn()

        for function in (Loop._timeout, Timers.nearest, Timers._take):
            for step in range(steps_of(function, turn)):
                ran: list[int] = []
                with_another_thread_at(
                    step,
                    function,
                    turn,
                    lambda ran=ran: loop.call_soon(lambda: ran.append(1)),  # type: ignore[misc]
                )
                loop.turn(block=False)
                loop.turn(block=False)
                assert ran == [1], f"lost at step {step} of {function.__name__}"
    finally:
        loop.close()
