"""What cancel does to calls that wait, run, and have called others."""

from pathlib import Path

import pytest

import zactor
from tests.system.waiting import wait_for


@zactor.remote
def linger(mark: str) -> None:
    import time

    Path(mark).touch()
    time.sleep(60)


@zactor.remote
def delegate(mark: str) -> None:
    zactor.get(linger.remote(mark))


@zactor.remote
class Sleeper:
    def linger(self, mark: str) -> None:
        import time

        Path(mark).touch()
        time.sleep(60)

    def answer(self) -> int:
        return 1


@pytest.mark.system
def test_a_running_method_and_a_queued_one_are_cancelled_and_the_next_is_not(
    cluster: None, tmp_path: Path
) -> None:
    actor = Sleeper.remote()
    mark = tmp_path / "running"
    running, queued, later = (
        actor.linger.remote(str(mark)), actor.answer.remote(), actor.answer.remote()
    )  # fmt: skip
    wait_for(mark.exists)

    zactor.cancel(queued)
    zactor.cancel(running)

    for ref in (running, queued):
        with pytest.raises(zactor.exceptions.TaskCancelledError):
            zactor.get(ref, timeout=20)
    assert zactor.get(later, timeout=20) == 1


@pytest.mark.system
def test_cancelling_a_task_cancels_what_it_has_called(cluster: None, tmp_path: Path) -> None:
    mark = tmp_path / "running"
    ref = delegate.remote(str(mark))
    wait_for(mark.exists)

    zactor.cancel(ref)

    with pytest.raises(zactor.exceptions.TaskCancelledError):
        zactor.get(ref, timeout=20)


@pytest.mark.system
def test_force_ends_the_worker_of_a_running_task(cluster: None, tmp_path: Path) -> None:
    mark = tmp_path / "running"
    ref = linger.remote(str(mark))
    wait_for(mark.exists)

    zactor.cancel(ref, force=True)

    with pytest.raises(zactor.exceptions.WorkerCrashedError):
        zactor.get(ref, timeout=20)


@pytest.mark.system
def test_force_is_refused_for_calls_of_actors(cluster: None) -> None:
    with pytest.raises(ValueError, match="force=True is not supported"):
        zactor.cancel(Sleeper.remote().answer.remote(), force=True)
