"""Threads that read what an event loop must not wait for."""

import asyncio
import functools
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from zactor.runtime.objects.fetching import MOST_THREADS, Fetching, are_here
from zactor.wire.batches import NATIVE, STORED, X_SLOTS, X_STORED


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))

    return run


@in_a_loop
async def test_the_loop_goes_on_and_gets_the_outcome() -> None:
    fetching, gate = Fetching(), threading.Event()
    outcome = fetching.outcome(asyncio.get_running_loop(), lambda: gate.wait(20) and "value")
    await asyncio.sleep(0)
    assert not outcome.done()
    gate.set()
    assert (await outcome).get() == "value"


@pytest.mark.parametrize("kind", [ValueError, StopIteration, asyncio.CancelledError])
@in_a_loop
async def test_what_it_raises_is_raised_to_who_asks(kind: type[BaseException]) -> None:
    def fails() -> None:
        raise kind("x")

    outcome = await Fetching().outcome(asyncio.get_running_loop(), fails)
    with pytest.raises(kind):
        outcome.get()


@in_a_loop
async def test_any_number_is_read_by_few_threads_that_end() -> None:
    fetching, seen = Fetching(), set()

    def read(number: int) -> int:
        seen.add(threading.current_thread())
        return number

    loop = asyncio.get_running_loop()
    outcomes = [
        fetching.outcome(loop, functools.partial(read, number)) for number in range(200)
    ]
    assert [(await outcome).get() for outcome in outcomes] == list(range(200))
    for thread in seen:
        await asyncio.to_thread(thread.join, 20)
    assert not any(thread.is_alive() for thread in seen)
    assert fetching._threads == 0


@in_a_loop
async def test_no_more_threads_run_than_are_of_use() -> None:
    fetching, gate = Fetching(), threading.Event()
    loop = asyncio.get_running_loop()
    outcomes = [fetching.outcome(loop, lambda: gate.wait(20)) for _ in range(5 * MOST_THREADS)]
    running = [t for t in threading.enumerate() if t.name == "zactor fetching"]
    gate.set()
    await asyncio.gather(*outcomes)
    assert len(running) == MOST_THREADS


@in_a_loop
async def test_nothing_is_kept_of_what_was_read() -> None:
    class Value:
        def __init__(self) -> None:
            self.reader = threading.current_thread()

    fetching = Fetching()
    value = (await fetching.outcome(asyncio.get_running_loop(), Value)).get()
    known, reader = weakref.ref(value), value.reader
    del value
    await asyncio.to_thread(reader.join, 20)
    gc.collect()
    assert known() is None


def test_a_loop_that_was_closed_meanwhile_is_not_told() -> None:
    fetching, gate = Fetching(), threading.Event()
    loop = asyncio.new_event_loop()
    fetching.outcome(loop, lambda: gate.wait(20))
    reader = next(t for t in threading.enumerate() if t.name == "zactor fetching")
    loop.close()
    gate.set()
    reader.join(20)
    assert not reader.is_alive()


@pytest.mark.parametrize(
    ("extras", "expected"),
    [
        ({}, True),
        ({X_SLOTS: [[0, NATIVE, 5], ["x", STORED, ["near"], b"1"]]}, True),
        ({X_SLOTS: [[0, NATIVE, 5], ["x", STORED, ["far"], b"1"]]}, False),
        ({X_STORED: [["near"], b"1"]}, True),
        ({X_STORED: [["far"], b"1"]}, False),
    ],
)
def test_arguments_are_here_if_their_segments_are(extras: Any, expected: bool) -> None:
    store = SimpleNamespace(
        is_here=lambda place, object_id: (place, object_id) == (["near"], b"1")
    )
    process: Any = SimpleNamespace(objects=SimpleNamespace(store=store))
    assert are_here(process, extras) == expected
