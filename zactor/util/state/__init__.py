"""What lives in the cluster, and what its programs have called: lists, single rows, summaries.

    from zactor.util.state import list_actors
    list_actors(filters=[("state", "=", "ALIVE")], limit=10)

Actors, nodes, workers, jobs, placement groups and events are the broker's word. Tasks, calls and objects
are asked, at the moment, of every driver and worker: what goes on, and what ended lately.

Arguments that all have
    address   Of no effect: the cluster is the session's.
    filters   `(key, "=" or "!=", value)` each; all must hold. Text is compared without regard to case.
    limit     How many rows at the most, up to 10,000.
    timeout   Seconds that it may take.
    detail    Of no effect: rows have all there is.
    raise_on_missing_output   Whether it is an error (`StateApiError`) or a warning if a process does
              not answer.
"""

from __future__ import annotations

from typing import Any

from zactor.api.state import StateRow, get_row, list_rows, summarize
from zactor.util.state.logs import get_log, list_logs

__all__ = [
    "StateRow",
    "get_actor",
    "get_job",
    "get_log",
    "get_node",
    "get_objects",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_cluster_events",
    "list_jobs",
    "list_logs",
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
DEFAULT_TIMEOUT = 30.0

Filters = list[tuple[str, str, Any]] | None


def list_actors(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
) -> list[StateRow]:  # fmt: skip
    """Return the actors, those that have died lately among them.

    Raises:
        ValueError: A filter or limit makes no sense.
        StateApiError: A process did not answer.
    """
    return list_rows(
        "actors", filters, limit, timeout, raise_on_missing_output=raise_on_missing_output
    )


def list_nodes(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
) -> list[StateRow]:  # fmt: skip
    """Return the nodes."""
    return list_rows(
        "nodes", filters, limit, timeout, raise_on_missing_output=raise_on_missing_output
    )


def list_workers(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
) -> list[StateRow]:  # fmt: skip
    """Return the processes of the cluster: workers, drivers and nodes."""
    return list_rows(
        "workers", filters, limit, timeout, raise_on_missing_output=raise_on_missing_output
    )


def list_jobs(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
) -> list[StateRow]:  # fmt: skip
    """Return the jobs: the sessions of drivers, those that ended lately among them."""
    return list_rows(
        "jobs", filters, limit, timeout, raise_on_missing_output=raise_on_missing_output
    )


def list_placement_groups(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
) -> list[StateRow]:  # fmt: skip
    """Return the placement groups."""
    return list_rows(
        "groups", filters, limit, timeout, raise_on_missing_output=raise_on_missing_output
    )


def list_tasks(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
) -> list[StateRow]:  # fmt: skip
    """Return the tasks and calls: what waits or runs, and what ended lately.

    Raises:
        ValueError: A filter or limit makes no sense.
        StateApiError: A process did not answer.
    """
    return list_rows(
        "tasks", filters, limit, timeout, raise_on_missing_output=raise_on_missing_output
    )


def list_objects(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
) -> list[StateRow]:  # fmt: skip
    """Return the objects that are shared between processes or stored, once for each process that
    knows of them. A small value that never left its process is not among them.

    Raises:
        ValueError: A filter or limit makes no sense.
        StateApiError: A process did not answer.
    """
    return list_rows(
        "objects", filters, limit, timeout, raise_on_missing_output=raise_on_missing_output
    )


def list_runtime_envs(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
) -> list[StateRow]:  # fmt: skip
    """Return the runtime environments of actors."""
    return list_rows(
        "runtime_envs", filters, limit, timeout, raise_on_missing_output=raise_on_missing_output
    )


def list_cluster_events(
    address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
) -> list[StateRow]:  # fmt: skip
    """Return what happened lately: nodes and actors that came, died or were restarted, workers that
    crashed, stores that spilled or were full, requests that no node can serve. Latest last."""
    return list_rows(
        "events", filters, limit, timeout, raise_on_missing_output=raise_on_missing_output
    )


def get_actor(
    id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT, **_: Any  # noqa: A002 - Ray's
) -> StateRow | None:  # fmt: skip
    """Return one actor, or None."""
    return get_row("actors", "actor_id", id, timeout)


def get_node(
    id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT, **_: Any  # noqa: A002 - Ray's
) -> StateRow | None:  # fmt: skip
    """Return one node, or None."""
    return get_row("nodes", "node_id", id, timeout)


def get_worker(
    id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT, **_: Any  # noqa: A002 - Ray's
) -> StateRow | None:  # fmt: skip
    """Return one worker process, or None."""
    return get_row("workers", "worker_id", id, timeout)


def get_job(
    id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT, **_: Any  # noqa: A002 - Ray's
) -> StateRow | None:  # fmt: skip
    """Return one job, or None."""
    return get_row("jobs", "job_id", id, timeout)


def get_placement_group(
    id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT, **_: Any  # noqa: A002 - Ray's
) -> StateRow | None:  # fmt: skip
    """Return one placement group, or None."""
    return get_row("groups", "placement_group_id", id, timeout)


def get_task(
    id: Any, address: str | None = None, timeout: float = DEFAULT_TIMEOUT, **_: Any  # noqa: A002
) -> StateRow | None:  # fmt: skip
    """Return one task or call, by its id or a reference to its result; or None."""
    found = id.task_id().hex() if hasattr(id, "task_id") else id
    return get_row("tasks", "task_id", found, timeout)


def get_objects(
    id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT, **_: Any  # noqa: A002
) -> list[StateRow]:  # fmt: skip
    """Return what is known of one object, a row for each process that knows of it."""
    return list_rows("objects", [("object_id", "=", id)], DEFAULT_LIMIT, timeout)


def summarize_actors(
    address: str | None = None, timeout: float = DEFAULT_TIMEOUT, raise_on_missing_output: bool = True, **_: Any
) -> dict[str, Any]:  # fmt: skip
    """Count the actors by class and state."""
    return summarize("actors", timeout, raise_on_missing_output=raise_on_missing_output)


def summarize_tasks(
    address: str | None = None, timeout: float = DEFAULT_TIMEOUT, raise_on_missing_output: bool = True, **_: Any
) -> dict[str, Any]:  # fmt: skip
    """Count the tasks and calls by name and state."""
    return summarize("tasks", timeout, raise_on_missing_output=raise_on_missing_output)


def summarize_objects(
    address: str | None = None, timeout: float = DEFAULT_TIMEOUT, raise_on_missing_output: bool = True, **_: Any
) -> dict[str, Any]:  # fmt: skip
    """Count the objects by how they came to be."""
    return summarize("objects", timeout, raise_on_missing_output=raise_on_missing_output)
