"""Who receives: the lead is never lost, whatever ends a wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.runtime.ends import UNIT, End, until
from zactor.exceptions import ZactorSystemError
from zactor.runtime.links.reception import Waiter


@pytest.fixture
def ends(tmp_path: Any) -> Iterator[tuple[End, End]]:
    caller, callee = End(tmp_path, "caller"), End(tmp_path, "callee")
    yield caller, callee
    caller.close()
    callee.close()


def test_a_waiter_that_leads_is_woken_by_any_thread(ends: Any) -> None:
    """It sleeps in the kernel then, not on its lock (E2)."""
    end, _ = ends
    waiter = Waiter()
    thread = threading.Thread(target=lambda: end.reception.wait(waiter))
    thread.start()
    until(lambda: waiter.reception is end.reception)
    waiter.settled(None)
    thread.join(5 * UNIT)
    assert not thread.is_alive()


def test_a_deadline_ends_a_wait_of_leader_and_follower(ends: Any) -> None:
    end, _ = ends
    ended: list[bool] = []

    def wait() -> None:
        ended.append(end.reception.wait(Waiter(), time.monotonic() + 0.05))

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [False] * 4
    assert not end.reception.followers


def test_a_wait_for_nothing_returns_at_once(ends: Any) -> None:
    assert ends[0].reception.wait(Waiter(0))


@pytest.mark.slow
def test_many_threads_that_wait_and_give_up_lose_nothing(ends: Any) -> None:
    caller, callee = ends
    callee.host(lambda payload: payload)
    stream = caller.stream(callee.address)
    failures: list[Any] = []

    def work(name: int) -> None:
        try:
            for k in range(150):
                tag = bytes([name, k])
                result = caller.call(stream, 0, tag)
                if k % 3 == name % 3:
                    caller.reception.wait(Waiter(), time.monotonic() + 0.0005)
                assert caller.get([result]) == [tag]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    until(lambda: not caller.reception.followers)


def test_an_exception_in_a_follower_passes_the_lead_on(ends: Any) -> None:
    """As Ctrl-C does to a main thread that follows (E1)."""
    end, _ = ends
    first, second = Waiter(), Waiter()
    leader = threading.Thread(target=lambda: end.reception.wait(first))
    leader.start()
    until(lambda: first.reception is end.reception)

    class Torn(Waiter):
        __slots__ = ()

        def sleep(self, timeout: float | None) -> None:
            super().sleep(timeout)
            raise KeyboardInterrupt

    def torn() -> None:
        with pytest.raises(KeyboardInterrupt):
            end.reception.wait(Torn())

    follower = threading.Thread(target=torn)
    follower.start()
    until(lambda: len(end.reception.followers) == 1)
    last = threading.Thread(target=lambda: end.reception.wait(second))
    last.start()
    until(lambda: len(end.reception.followers) == 2)
    first.settled(None)  # the leader ends; the follower is promoted, and torn
    until(lambda: second.reception is end.reception)
    second.settled(None)
    for thread in (leader, follower, last):
        thread.join(5 * UNIT)
        assert not thread.is_alive()


def test_callbacks_may_block_raise_and_wait(ends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, callee = ends
    callee.host(lambda payload: payload)
    stream = caller.stream(callee.address)
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_type))
    said: list[Any] = []

    def fail() -> None:
        raise IndexError

    caller.reception.call_soon(fail)
    caller.reception.call_soon(lambda: said.append(caller.get([caller.call(stream, 0, b"x")])))
    caller.reception.call_soon(lambda: said.append("after"))
    until(lambda: len(said) == 2)
    assert said == [[b"x"], "after"]
    assert raised == [IndexError]


def test_the_end_of_a_reception_ends_all_waits(tmp_path: Any) -> None:
    end = End(tmp_path, "end")
    ended: list[Any] = []

    def wait() -> None:
        with pytest.raises(ZactorSystemError):
            end.reception.wait(Waiter())
        ended.append(1)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(end.reception.followers) == 2)
    end.close()
    for thread in threads:
        thread.join(5 * UNIT)
    assert len(ended) == 3
    end.reception.wake()  # late ones write nowhere
    end.reception.stop()


def test_what_was_gathered_leaves_though_nobody_waits(ends: Any) -> None:
    caller, callee = ends
    host = callee.host(lambda payload: payload)
    stream = caller.stream(callee.address)
    for k in range(10):
        caller.call(stream, 0, bytes([k]))
    until(lambda: len(host.ran) == 10, 2)
