"""Constructors as rows among the tasks."""

from __future__ import annotations

from typing import Any

import pytest

from zactor.api.constructors import constructor_rows

ALIVE = {
    "actor_id": "ab12", "class_name": "Counter", "name": "", "state": "ALIVE", "phase": "ALIVE",
    "job_id": "01", "node_id": "n", "worker_id": "w", "pid": 7, "num_restarts": 0, "owner_id": "o",
    "required_resources": {}, "death_cause": None,
}  # fmt: skip


def row_of(**changes: Any) -> dict[str, Any]:
    [row] = constructor_rows([{**ALIVE, **changes}])
    return row


def test_the_row_names_class_actor_and_process() -> None:
    row = row_of()
    assert (row["name"], row["func_or_class_name"]) == ("Counter.__init__", "Counter.__init__")
    assert (row["actor_id"], row["worker_pid"], row["type"]) == (
        "ab12",
        7,
        "ACTOR_CREATION_TASK",
    )
    assert row["task_id"].endswith("ab12")
    assert row_of(name="c")["name"] == "c:Counter.__init__"


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        ("PENDING", "PENDING_NODE_ASSIGNMENT"),
        ("STARTING", "RUNNING"),
        ("ALIVE", "FINISHED"),
        ("RESTARTING", "FINISHED"),
        ("DEAD", "FINISHED"),  # it had a process, and no constructor that raised
    ],
)
def test_the_state_follows_from_the_actors(phase: str, state: str) -> None:
    assert row_of(phase=phase)["state"] == state


def test_a_constructor_that_raised_has_failed() -> None:
    row = row_of(phase="DEAD", death_cause={"kind": "constructor", "text": "no nest"})
    assert (row["state"], row["error_type"]) == ("FAILED", "TASK_EXECUTION_EXCEPTION")
    assert row["error_message"] == "no nest"


def test_one_that_never_ran_has_failed_with_its_actor() -> None:
    cause = {"kind": "killed", "text": "it was killed by kill()"}
    row = row_of(phase="DEAD", pid=0, node_id="", worker_id="", death_cause=cause)
    assert (row["state"], row["error_type"]) == ("FAILED", "ACTOR_DIED")
    assert row["error_message"] == "it was killed by kill()"


def test_rows_of_an_in_process_world_tell_less() -> None:
    actor = {
        name: ALIVE[name] for name in ALIVE if name not in ("phase", "worker_id", "owner_id")
    }
    [row] = constructor_rows([{**actor, "state": "PENDING_CREATION"}])
    assert row["state"] == "PENDING_NODE_ASSIGNMENT"
    [row] = constructor_rows([{**actor, "state": "DEAD", "pid": 0}])
    assert row["state"] == "FINISHED"
