"""The row of a call in listings: every key that Ray's state API has for a task, in its order.

Three places know of calls: a process of those it made, the broker's actors of their constructors, and an
in-process world of all. Each enters what it knows.
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def task_row(task_id: str, **known: Any) -> Row:
    """Return the row of a call of which nothing is known but what is given, by keys of the row."""
    return {
        "task_id": task_id,
        "attempt_number": 0,
        "name": "",
        "state": "",
        "job_id": "",
        "actor_id": None,
        "type": "NORMAL_TASK",
        "func_or_class_name": "",
        "parent_task_id": None,
        "node_id": None,
        "worker_id": None,
        "worker_pid": None,
        "error_type": None,
        "error_message": None,
        "required_resources": {},
        "language": "PYTHON",
        "call_site": None,
        "creation_time_ms": None,
        "start_time_ms": None,
        "owner_id": None,
        "owner_pid": None,
        "events": [],
    } | known
