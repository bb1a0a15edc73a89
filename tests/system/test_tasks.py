"""Tasks on leased workers: nothing waits behind a task that is slow or blocked."""

import os
import time
from pathlib import Path
from typing import Any

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


@zactor.remote
def slow_lane() -> int:
    """Have this worker hear of later leases late."""
    from zactor.runtime.worker import Worker

    hear = Worker._task_order

    def late(self: Worker, order: list[Any]) -> None:
        time.sleep(0.2)  # noqa: TID251 - what is slow on a busy machine
        hear(self, order)

    Worker._task_order = late  # type: ignore[method-assign]
    return os.getpid()


@zactor.remote
def assigned() -> tuple[int, dict[str, float]]:
    return os.getpid(), zactor.get_runtime_context().get_assigned_resources()


@pytest.mark.system
def test_a_task_waits_for_the_word_on_its_lease(cluster: None) -> None:
    late: set[int] = set()
    pid, resources = 0, {"CPU": 0.0}
    for _ in range(20):  # until a worker that hears late, and is idle by then, is leased again
        late.add(zactor.get(slow_lane.options(num_cpus=4).remote()))
        pid, resources = zactor.get(assigned.options(num_cpus=3).remote())
        if pid in late:
            break
    assert pid in late
    assert resources == {"CPU": 3.0}


DIES_BEFORE_ITS_TASKS = """
import os

def die_soon():
    from zactor.runtime import worker
    worker.Worker._run_tasks = lambda self, order: os._exit(3)

os.register_at_fork(after_in_child=die_soon)
"""


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(60)
def test_workers_that_die_before_their_tasks_begin_end_in_an_error_that_says_so(
    cluster: None, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DIES_BEFORE_ITS_TASKS)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    broken = quick.options(runtime_env={"env_vars": {"PYTHONPATH": path}}, max_retries=-1)
    refs = [broken.remote() for _ in range(3)]
    for ref in refs:
        with pytest.raises(
            zactor.exceptions.WorkerCrashedError, match="before a task"
        ) as caught:
            zactor.get(ref, timeout=30)
        assert caught.value.executed == "no"
    assert zactor.get(quick.remote(), timeout=10) == 1
