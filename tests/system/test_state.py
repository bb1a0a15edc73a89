"""The state of the whole cluster: tasks, objects, events and logs, whoever asks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zactor
from tests.system.waiting import wait_for
from zactor.exceptions import ActorDiedError, StateApiError, TaskError
from zactor.util import state

pytestmark = pytest.mark.system


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[str]:
    """Give a path; what waits for it goes on at the end of the test."""
    path = tmp_path / "gate"
    yield str(path)
    path.touch()


@zactor.remote
class Slow:
    def work(self, gate: str) -> None:
        while not Path(gate).exists():
            time.sleep(0.01)

    def search(self, letters: int) -> None:
        import re

        re.match("(a+)+b", "a" * letters)  # nobody else runs Python meanwhile

    def fail(self) -> None:
        raise ValueError("no good")

    def die(self) -> None:
        os._exit(1)

    def say(self, text: str) -> None:
        print(text, flush=True)


@zactor.remote
class Boss:
    def __init__(self, slow: Any) -> None:
        self.slow = slow

    def order(self, gate: str) -> None:
        self.refs = [self.slow.work.remote(gate) for _ in range(3)]
        zactor.get(self.refs)

    def keep(self, refs: list[Any]) -> None:
        self.kept = refs


@zactor.remote
def task(*given: Any) -> int:
    return len(given)


def task_of(ref: Any) -> Any:
    return state.get_task(ref)


def rows_of(name: str, **fields: Any) -> list[Any]:
    filters = [("name", "=", name), *((key, "=", value) for key, value in fields.items())]
    return state.list_tasks(filters=filters)


def test_calls_that_others_have_made_are_listed(cluster: None, gate: str) -> None:
    slow = Slow.remote()
    boss = Boss.remote(slow)
    order = boss.order.remote(gate)
    waits = wait_for(lambda: rows_of("Slow.work", state="RUNNING"))
    queued = rows_of("Slow.work", state="PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY")
    assert (len(waits), len(queued)) == (1, 2)
    [row] = waits
    pid = {each["class_name"]: each["pid"] for each in state.list_actors()}
    assert (row.owner_pid, row.worker_pid) == (pid["Boss"], pid["Slow"])
    assert row.parent_task_id == order.task_id().hex()
    assert abs(row.start_time_ms / 1000 - time.time()) < 30
    assert task_of(order).state == "RUNNING"
    counts = state.summarize_tasks()["cluster"]["summary"]["Slow.work"]["state_counts"]
    assert counts["RUNNING"] == 1


def test_calls_that_failed_say_how_and_those_that_wait_for_what(
    cluster: None, gate: str
) -> None:
    slow, other = Slow.remote(), Slow.remote()
    with pytest.raises(TaskError):
        zactor.get(slow.fail.remote())
    with pytest.raises(ActorDiedError):
        zactor.get(other.die.remote())
    [failed], [died] = rows_of("Slow.fail"), rows_of("Slow.die")
    assert (failed.state, failed.error_type) == ("FAILED", "TASK_EXECUTION_EXCEPTION")
    assert "no good" in failed.error_message
    assert (died.state, died.error_type) == ("FAILED", "ACTOR_DIED")
    late = task.remote(slow.work.remote(gate))
    assert task_of(late).state == "PENDING_ARGS_AVAIL"
    stuck = task.options(resources={"moon": 1}).remote()
    assert task_of(stuck).state == "PENDING_NODE_ASSIGNMENT"


def test_calls_that_go_on_are_listed_however_many_have_ended_since(
    cluster: None, gate: str
) -> None:
    slow, quick = Slow.remote(), Slow.remote()
    ref = slow.work.remote(gate)
    for _ in range(600):
        zactor.get(quick.__zactor_ready__.remote())
    assert wait_for(lambda: task_of(ref).state == "RUNNING")
    calls = [("state", "=", "FINISHED"), ("type", "=", "ACTOR_TASK")]
    ended = state.list_tasks(filters=calls, limit=10_000)
    assert 100 < len(ended) <= 500


def test_what_runs_is_found_behind_many_calls_that_wait(cluster: None, gate: str) -> None:
    first, second = Slow.remote(), Slow.remote()
    refs = [first.work.remote(gate) for _ in range(300)] + [second.work.remote(gate)]

    def running() -> Any:
        found = state.list_tasks(filters=[("state", "=", "RUNNING")], limit=10)
        return len([row for row in found if row.name == "Slow.work"]) == 2

    assert wait_for(running)
    assert len(state.list_tasks(filters=[("name", "=", "Slow.work")], limit=10)) == 10
    del refs


def test_a_process_that_cannot_answer_is_named(cluster: None) -> None:
    slow = Slow.options(name="stuck").remote()
    zactor.get(slow.__zactor_ready__.remote())
    ref = slow.search.remote(34)
    wait_for(lambda: zactor.why(ref, timeout=0.5).chain[-1].kind == "running")
    with pytest.raises(StateApiError, match=r"Slow.*no answer in time"):
        state.list_tasks(timeout=0.5)
    with pytest.warns(RuntimeWarning, match="no answer in time"):
        rows = state.list_tasks(timeout=0.5, raise_on_missing_output=False)
    # The process says nothing, but its progress page does.
    assert [row.state for row in rows if row.name == "Slow.search"] == ["RUNNING"]
    zactor.kill(slow)


def test_objects_of_others_are_listed(cluster: None) -> None:
    boss = Boss.remote(None)
    ref = zactor.put(np.ones(1 << 20))
    zactor.get(boss.keep.remote([ref]))
    kinds = {(row.reference_type, row.type) for row in state.get_objects(ref.hex())}
    assert kinds == {("LOCAL_REFERENCE", "DRIVER"), ("BORROWED", "WORKER")}
    summary = state.summarize_objects()["cluster"]["summary"]
    assert summary["put"]["total_objects"] >= 1


def test_filters_and_limits_make_sense_or_are_refused(cluster: None) -> None:
    zactor.get([task.remote() for _ in range(4)])
    assert len(state.list_tasks(filters=[("name", "=", "task")], limit=3)) == 3
    for listed in (state.list_tasks, state.list_actors, state.list_cluster_events):
        with pytest.raises(ValueError, match="no 'weather' to filter by"):
            listed(filters=[("weather", "=", "fine")])
        with pytest.raises(ValueError, match="limit"):
            listed(limit=0)
        with pytest.raises(ValueError, match="timeout"):
            listed(timeout=0)


def test_events_tell_what_happened(cluster: None) -> None:
    slow = Slow.options(max_restarts=1, max_task_retries=0).remote()
    with pytest.raises(zactor.exceptions.ActorUnavailableError):
        zactor.get(slow.die.remote())
    event = wait_for(
        lambda: state.list_cluster_events(
            filters=[
                ("event_type", "=", "ACTOR_RESTARTED"),
                ("actor_id", "=", slow._actor_id.hex()),
            ]
        )
    )[0]
    assert event.severity == "WARNING"
    assert "exited with code 1" in event.message
    assert abs(event.timestamp - time.time()) < 60


def test_logs_are_found_by_actor_also_of_a_dead_one(cluster: None) -> None:
    slow = Slow.remote()
    zactor.get([slow.say.remote(str(number)) for number in range(3)])
    actor = slow._actor_id.hex()

    def row() -> Any:
        return state.get_actor(actor)

    assert wait_for(lambda: "".join(state.get_log(actor_id=actor))) == "0\n1\n2\n"
    assert "".join(state.get_log(actor_id=actor, tail=1)) == "2\n"
    zactor.kill(slow)
    wait_for(lambda: row().state == "DEAD")
    assert "".join(state.get_log(actor_id=actor)) == "0\n1\n2\n"
    pid = row().pid
    names = state.list_logs(glob_filter=f"worker-{pid}-*")["worker_out"]
    assert "".join(state.get_log(filename=names[0])) == "0\n1\n2\n"
    with pytest.raises(ValueError, match="no log of pid"):
        state.get_log(pid=1)
    with pytest.raises(ValueError, match="by one of"):
        state.get_log()


PROGRAM = """
import sys
import zactor

zactor.init(num_cpus=1, preload=["tests.runtime.threaded_preload"])

@zactor.remote(resources={"moon": 1})
class Rover:
    def go(self): pass

@zactor.remote(resources={"mars": 1})
def probe(): pass

rovers = [Rover.remote() for _ in range(3)]
going = [rover.go.remote() for rover in rovers]
probed = [probe.remote() for _ in range(3)]
group = zactor.util.placement_group([{"venus": 1}])
for ref in (going[0], probed[0], group.ready()):
    try:
        zactor.get(ref, timeout=float(sys.argv[1]))
    except zactor.exceptions.ZactorError as error:
        print(type(error).__name__)
"""


def program(seconds: float, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seconds)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environ},
        check=True,
    )


@pytest.mark.slow
def test_what_hinders_is_shown_once_at_the_drivers_terminal() -> None:
    done = program(1.0)
    assert done.stdout.split() == ["GetTimeoutError"] * 3
    told = [line for line in done.stderr.splitlines() if line.startswith("zactor: ")]
    for what in ("has started threads", "Rover", "probe()", "placement group"):
        assert len([line for line in told if what in line]) == 1, told
    assert len(told) == 4


@pytest.mark.slow
def test_what_no_node_can_take_is_an_error_on_request() -> None:
    done = program(30.0, ZACTOR_REFUSE_INFEASIBLE="1")
    errors = ["ActorUnschedulableError", "TaskUnschedulableError", "TaskUnschedulableError"]
    assert done.stdout.split() == errors


def test_calls_that_were_given_a_name_are_listed_by_it(cluster: None) -> None:
    slow = Slow.remote()
    named, plain = task.options(name="first").remote(), task.remote()
    zactor.get([named, plain, slow.say.options(name="speech").remote("x")])
    rows = [
        task_of(named),
        task_of(plain),
        *state.list_tasks(filters=[("name", "=", "speech")]),
    ]
    assert [(row.name, row.func_or_class_name) for row in rows] == [
        ("first", "task"), ("task", "task"), ("speech", "Slow.say"),
    ]  # fmt: skip
