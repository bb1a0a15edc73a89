"""The constructors of actors, as rows among the tasks: what they wait for, that they run, how they ended.

Made of the rows of actors when somebody asks, so a constructor is listed while its actor is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.task_rows import task_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zactor.core.task_rows import Row

TYPE = "ACTOR_CREATION_TASK"

_STATES = {
    "PENDING": "PENDING_NODE_ASSIGNMENT",
    "PENDING_CREATION": "PENDING_NODE_ASSIGNMENT",  # in an in-process world, which tells no phase
    "STARTING": "RUNNING",
    "ALIVE": "FINISHED",
    "RESTARTING": "FINISHED",
}


def constructor_rows(actors: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Yield the row of each actor's constructor."""
    for actor in actors:
        name = f"{actor['class_name']}.__init__"
        cause = actor["death_cause"] or {}
        phase = actor.get("phase", actor["state"])
        state, error_type, message = _STATES.get(phase, "FINISHED"), None, None
        if cause.get("kind") == "constructor":
            state, error_type, message = "FAILED", "TASK_EXECUTION_EXCEPTION", cause["text"]
        elif (
            phase == "DEAD" and not actor["pid"] and "phase" in actor
        ):  # it never had a process
            state, error_type, message = "FAILED", "ACTOR_DIED", cause.get("text")
        yield task_row(
            "f" * 24 + actor["actor_id"],
            attempt_number=actor["num_restarts"],
            name=f"{actor['name']}:{name}" if actor["name"] else name,
            state=state,
            job_id=actor["job_id"],
            actor_id=actor["actor_id"],
            type=TYPE,
            func_or_class_name=name,
            node_id=actor["node_id"] or None,
            worker_id=actor.get("worker_id") or None,
            worker_pid=actor["pid"] or None,
            error_type=error_type,
            error_message=message,
            required_resources=actor["required_resources"],
            owner_id=actor.get("owner_id"),
        )
