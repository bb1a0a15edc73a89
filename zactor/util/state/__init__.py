"""What lives in the cluster, and what this program has called: lists, single rows, summaries.

    from zactor.util.state import list_actors
    list_actors(filters=[("state", "=", "ALIVE")], limit=10)

Actors, nodes, workers, jobs and placement groups are the broker's word. Tasks, calls and objects are
those of the asking process: what it has submitted lately, and what it owns or borrows.
"""

from __future__ import annotations

from typing import Any

from zactor.api.state import (
    StateRow,
    get_row,
    list_rows,
    summarize_actor_rows,
    summarize_object_rows,
    summarize_task_rows,
)

__all__ = [
    "StateRow",
    "get_actor",
    "get_job",
    "get_node",
    "get_objects",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_cluster_events",
    "list_jobs",
    "list_nodes",
    "list_objects",
    "list_placement_groups",
    "list_runtime_envs",
    "list_tasks",
    "list_workers",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
]

DEFAULT_LIMIT = 100

Filters = list[tuple[str, str, Any]] | None


def list_actors(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
    timeout: float = 30, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
) -> list[StateRow]:  # fmt: skip
    """Return the actors, those that have died lately among them.

    Args:
        address: Of no effect: the cluster is the session's.
        filters: `(key, "=" or "!=", value)` each; all must hold.
        limit: How many rows at the most.
        timeout: Of no effect.
        detail: Of no effect: rows have all there is.
        raise_on_missing_output: Of no effect.

    Raises:
        ValueError: A filter or limit makes no sense.
    """
    return list_rows("actors", filters, limit)


def list_nodes(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT, **_: Any
) -> list[StateRow]:
    """Return the nodes; arguments as of `list_actors`."""
    return list_rows("nodes", filters, limit)


def list_workers(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT, **_: Any
) -> list[StateRow]:
    """Return the worker processes; arguments as of `list_actors`."""
    return list_rows("workers", filters, limit)


def list_jobs(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT, **_: Any
) -> list[StateRow]:
    """Return the jobs; arguments as of `list_actors`."""
    return list_rows("jobs", filters, limit)


def list_placement_groups(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT, **_: Any
) -> list[StateRow]:
    """Return the placement groups; arguments as of `list_actors`."""
    return list_rows("groups", filters, limit)


def list_tasks(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT, **_: Any
) -> list[StateRow]:
    """Return the tasks and calls this process has submitted lately; arguments as of `list_actors`."""
    return list_rows("tasks", filters, limit)


def list_objects(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT, **_: Any
) -> list[StateRow]:
    """Return the objects that this process shares or has stored; arguments as of `list_actors`."""
    return list_rows("objects", filters, limit)


def list_runtime_envs(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT, **_: Any
) -> list[StateRow]:
    """Return the runtime environments of living actors; arguments as of `list_actors`."""
    return list_rows("runtime_envs", filters, limit)


def list_cluster_events(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT, **_: Any
) -> list[StateRow]:
    """Return nothing: events are in the broker's log."""
    return list_rows("events", filters, limit)


def get_actor(
    id: str, address: str | None = None, timeout: float = 30, **_: Any
) -> StateRow | None:  # noqa: A002 - Ray's
    """Return one actor, or None."""
    return get_row("actors", "actor_id", id)


def get_node(
    id: str, address: str | None = None, timeout: float = 30, **_: Any
) -> StateRow | None:  # noqa: A002
    """Return one node, or None."""
    return get_row("nodes", "node_id", id)


def get_worker(
    id: str, address: str | None = None, timeout: float = 30, **_: Any
) -> StateRow | None:  # noqa: A002
    """Return one worker, or None."""
    return get_row("workers", "worker_id", id)


def get_job(
    id: str, address: str | None = None, timeout: float = 30, **_: Any
) -> StateRow | None:  # noqa: A002
    """Return one job, or None."""
    return get_row("jobs", "job_id", id)


def get_placement_group(
    id: str,
    address: str | None = None,
    timeout: float = 30,
    **_: Any,  # noqa: A002
) -> StateRow | None:
    """Return one placement group, or None."""
    return get_row("groups", "placement_group_id", id)


def get_task(
    id: Any, address: str | None = None, timeout: float = 30, **_: Any
) -> StateRow | None:  # noqa: A002
    """Return one task or call, by its id or a reference to its result; or None."""
    found = id.task_id().hex() if hasattr(id, "task_id") else id
    return get_row("tasks", "task_id", found)


def get_objects(
    id: str, address: str | None = None, timeout: float = 30, **_: Any
) -> list[StateRow]:  # noqa: A002
    """Return what is known of one object."""
    return list_rows("objects", [("object_id", "=", id)], DEFAULT_LIMIT)


def summarize_actors(
    address: str | None = None, timeout: float = 30, **_: Any
) -> dict[str, Any]:
    """Count the actors by class and state."""
    return summarize_actor_rows()


def summarize_tasks(
    address: str | None = None, timeout: float = 30, **_: Any
) -> dict[str, Any]:
    """Count this process's tasks and calls by name and state."""
    return summarize_task_rows()


def summarize_objects(
    address: str | None = None, timeout: float = 30, **_: Any
) -> dict[str, Any]:
    """Count the objects that this process knows."""
    return summarize_object_rows()
