"""Tasks on leased workers: nothing waits behind a task that is slow or blocked."""

import time

import pytest

import zactor


@zactor.remote
def quick() -> int:
    return 1


@zactor.remote
def hold(seconds: float) -> float:
    time.sleep(seconds)  # noqa: TID251 - it is what the task is for
    return seconds


@zactor.remote
def wait_for_others(refs: list[zactor.ObjectRef[int]]) -> int:
    return sum(zactor.get(refs))


@pytest.mark.system
@pytest.mark.slow
def test_quick_tasks_queued_behind_a_slow_one_are_handed_back(cluster: None) -> None:
    zactor.get([quick.remote() for _ in range(2_000)])  # so that many are queued at a worker

    slow = hold.remote(5.0)
    started = time.monotonic()
    assert zactor.get([quick.remote() for _ in range(200)], timeout=20) == [1] * 200

    assert time.monotonic() - started < 4.0
    zactor.cancel(slow, force=True)


@pytest.mark.system
def test_tasks_that_wait_for_tasks_queued_behind_them_end(cluster: None) -> None:
    zactor.get([quick.remote() for _ in range(500)])
    waiting = [wait_for_others.remote([quick.remote(), quick.remote()]) for _ in range(50)]

    assert sum(zactor.get(waiting, timeout=30)) == 100
