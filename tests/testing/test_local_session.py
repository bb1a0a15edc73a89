"""An in-process world as a session: one at a time, and clear about what it does not offer."""

from __future__ import annotations

import _thread
import signal
import threading
from collections import deque
from typing import Any

import pytest

import zactor
from tests.testing.actors import Counter, double
from zactor.exceptions import SerializationError, SessionLostError, TaskError, ZactorError
from zactor.runtime.inprocess import references
from zactor.testing import local
from zactor.util import ActorPool
from zactor.util.queue import Empty, Queue


def test_init_with_local_mode_starts_no_process() -> None:
    with zactor.init(local_mode=True, num_cpus=3, namespace="here") as context:
        assert zactor.is_initialized()
        assert context["namespace"] == "here"
        assert zactor.cluster_resources()["CPU"] == 3
        assert zactor.get(Counter.remote().increment.remote()) == 1
        assert zactor.get_runtime_context().namespace == "here"
    assert not zactor.is_initialized()


def test_a_world_beside_a_session_is_refused() -> None:
    with local():
        with pytest.raises(RuntimeError, match="twice by accident"):
            zactor.init(local_mode=True)
        with pytest.raises(RuntimeError, match="a session already"), local():
            pass
        assert zactor.get(double.remote(1)) == 2


def test_handles_of_a_closed_world_are_of_no_use() -> None:
    with local():
        counter = Counter.remote()
        ref = counter.nap.remote(10.0)
    with local(), pytest.raises(ZactorError):
        zactor.get(counter.increment.remote(), timeout=10.0)
    assert not ref.is_ready() or isinstance(ref._result.value, SessionLostError)


def test_arguments_are_pickled_as_in_a_real_session() -> None:
    with local():
        counter = Counter.remote()
        with pytest.raises(SerializationError, match="lock"):
            counter.call.remote(counter, threading.Lock())
        with pytest.raises(SerializationError, match="lock"):
            double.remote(x=_thread.allocate_lock())  # type: ignore[call-overload]


def test_results_are_snapshots() -> None:
    class Keeper:
        def __init__(self) -> None:
            self.items: list[int] = []

        def add(self, item: int) -> list[int]:
            self.items.append(item)
            return self.items

    with local():
        keeper = zactor.remote(Keeper).remote()
        assert zactor.get([keeper.add.remote(n) for n in (1, 2)]) == [[1], [1, 2]]


def test_a_result_that_cannot_be_pickled_is_told() -> None:
    class Locked:
        def lock(self) -> Any:
            return _thread.allocate_lock()

    with local(), pytest.raises(SerializationError) as caught:
        zactor.get(zactor.remote(Locked).remote().lock.remote())
    assert caught.value.executed == "yes"


def test_an_exception_is_of_the_user_s_class() -> None:
    class Shop:
        def buy(self) -> None:
            raise KeyError("apples")

    with local(), pytest.raises(KeyError) as caught:
        zactor.get(zactor.remote(Shop).remote().buy.remote())
    assert isinstance(caught.value, TaskError)
    assert "in buy" in str(caught.value)


def test_an_actor_cannot_end_the_session() -> None:
    class Rash:
        def shut_down(self) -> bool:
            zactor.shutdown()
            return zactor.is_initialized()

    with local():
        assert zactor.get(zactor.remote(Rash).remote().shut_down.remote())
        assert zactor.is_initialized()


def test_a_thread_from_outside_is_told_so() -> None:
    told: list[BaseException] = []
    may_ask = threading.Event()

    def ask() -> None:
        may_ask.wait(10.0)
        try:
            double.remote(1)
        except ZactorError as error:
            told.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    with local():
        may_ask.set()
        thread.join()
    assert "a thread that it does not know" in str(told[0])


def test_utilities_run_in_a_world() -> None:
    with local() as world:
        pool = ActorPool([Counter.remote() for _ in range(2)])
        assert sorted(pool.map(lambda a, _: a.increment.remote(), range(4))) == [1, 1, 2, 2]
        queue = Queue(maxsize=1)
        queue.put("item")
        assert queue.get() == "item"
        with pytest.raises(Empty):
            queue.get(timeout=100.0)
        assert world.now == pytest.approx(100.0, abs=1.0)


def test_what_is_not_offered_says_so() -> None:
    from zactor.util import state

    with local():
        with pytest.raises(NotImplementedError, match=r"listings of objects: use world\.trace"):
            state.list_objects()
        with pytest.raises(NotImplementedError, match="logs"):
            state.list_logs()
        assert [row["class_name"] for row in state.list_actors()] == []


def test_calls_are_listed_while_they_wait_and_run_and_after_their_end() -> None:
    from zactor.util.state import list_tasks

    with local():
        counter = Counter.remote()
        zactor.get(counter.increment.remote())
        nap, behind = counter.nap.remote(100.0), counter.increment.remote()
        zactor.wait([behind], timeout=1.0)
        states = {row["task_id"]: row["state"] for row in list_tasks()}
        assert states[nap.task_id().hex()] == "RUNNING"
        assert states[behind.task_id().hex()].startswith("PENDING")
        assert "FINISHED" in states.values()

        zactor.kill(counter)
        zactor.wait([nap, behind], num_returns=2)
        left = {row["task_id"]: row["state"] for row in list_tasks()}
        assert "RUNNING" not in left.values()
        assert behind.task_id().hex() not in left


def test_why_tells_what_a_result_hangs_on() -> None:
    with local():
        counter = Counter.remote()
        nap = counter.nap.remote(100.0)
        behind = counter.increment.remote()
        told = str(zactor.why(behind))
        assert "Counter#1.increment(), which has not started" in told
        assert "Counter#1.nap(), which sleeps" in told
        zactor.get(nap)
        zactor.get(behind)
        assert zactor.why(behind).is_ready


def test_an_interrupted_test_leaves_nothing_that_runs() -> None:
    class Endless:
        def loop(self) -> None:
            while True:
                pass

    class InterruptError(Exception):
        pass

    def interrupt(number: int, frame: Any) -> None:
        raise InterruptError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(InterruptError), local():
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            zactor.get(zactor.remote(Endless).remote().loop.remote())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not any(thread.name == "zactor-strand" for thread in threading.enumerate())


def test_a_reference_that_outlives_its_module_goes_quietly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As at the end of a program, when modules have forgotten what they had names for."""
    kept = references.Kept(None, b"owner", deque())
    monkeypatch.setattr(references, "Streaming", None)
    del kept
