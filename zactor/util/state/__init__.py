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

from typing import Any, Protocol

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


class ListFunction(Protocol):
    """What all functions that list have in common."""

    def __call__(
        self, address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
        timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
    ) -> list[StateRow]:  # fmt: skip
        """Return the rows that pass the filters.

        Raises:
            ValueError: A filter or limit makes no sense.
            StateApiError: A process did not answer.
        """


class GetFunction(Protocol):
    """What all functions that look for one row have in common."""

    def __call__(
        self, id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT, **_: Any  # noqa: A002 - Ray's
    ) -> StateRow | None:  # fmt: skip
        """Return one row, or None."""


def _list_function(name: str, table: str, doc: str) -> ListFunction:
    def rows_of_table(
        address: str | None = None, filters: Filters = None, limit: int = DEFAULT_LIMIT,
        timeout: float = DEFAULT_TIMEOUT, detail: bool = False, raise_on_missing_output: bool = True, **_: Any,
    ) -> list[StateRow]:  # fmt: skip
        return list_rows(
            table, filters, limit, timeout, raise_on_missing_output=raise_on_missing_output
        )

    _name(rows_of_table, name, f"{doc}\n\n{ListFunction.__call__.__doc__}")
    return rows_of_table


def _get_function(name: str, table: str, key: str, doc: str) -> GetFunction:
    def row_of_table(
        id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT, **_: Any  # noqa: A002 - Ray's
    ) -> StateRow | None:  # fmt: skip
        return get_row(table, key, id, timeout)

    _name(row_of_table, name, doc)
    return row_of_table


def _name(function: Any, name: str, doc: str) -> None:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc


list_actors = _list_function(
    "list_actors", "actors", "Return the actors, those that have died lately among them."
)
list_nodes = _list_function("list_nodes", "nodes", "Return the nodes.")
list_workers = _list_function(
    "list_workers",
    "workers",
    "Return the processes of the cluster: workers, drivers and nodes.",
)
list_jobs = _list_function(
    "list_jobs",
    "jobs",
    "Return the jobs: the sessions of drivers, those that ended lately among them.",
)
list_placement_groups = _list_function(
    "list_placement_groups", "groups", "Return the placement groups."
)
list_tasks = _list_function(
    "list_tasks",
    "tasks",
    "Return the tasks and calls: what waits or runs, and what ended lately.",
)
list_objects = _list_function(
    "list_objects",
    "objects",
    "Return the objects that are shared between processes or stored, once for each process that\n"
    "knows of them. A small value that never left its process is not among them.",
)
list_runtime_envs = _list_function(
    "list_runtime_envs", "runtime_envs", "Return the runtime environments of actors."
)
list_cluster_events = _list_function(
    "list_cluster_events",
    "events",
    "Return what happened lately: nodes and actors that came, died or were restarted, workers that\n"
    "crashed, stores that spilled or were full, requests that no node can serve. Latest last.",
)

get_actor = _get_function("get_actor", "actors", "actor_id", "Return one actor, or None.")
get_node = _get_function("get_node", "nodes", "node_id", "Return one node, or None.")
get_worker = _get_function(
    "get_worker", "workers", "worker_id", "Return one worker process, or None."
)
get_job = _get_function("get_job", "jobs", "job_id", "Return one job, or None.")
get_placement_group = _get_function(
    "get_placement_group",
    "groups",
    "placement_group_id",
    "Return one placement group, or None.",
)


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
