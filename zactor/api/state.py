"""Rows about the cluster, for `zactor.util.state` and the command line.

Actors, nodes, workers, jobs, groups and events are the broker's word. Tasks and objects are asked of the
processes that made or own them (see `api.surveys`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from zactor.api.constructors import TYPE as CONSTRUCTOR
from zactor.api.constructors import constructor_rows
from zactor.api.session import is_in_process, process
from zactor.api.surveys import ask_all, missing_text
from zactor.core.filters import Filters
from zactor.exceptions import StateApiError, ZactorError
from zactor.wire.messages import Query

if TYPE_CHECKING:
    from zactor.runtime.offered import Offered
    from zactor.runtime.process import Process

_BROKERS = ("actors", "nodes", "workers", "jobs", "groups", "events")
_SURVEYED = ("tasks", "objects")
_FOR_PROCESSES = {"nodes": "process_address", "jobs": "address"}  # what says nothing to people
MAX_LIMIT = 10_000
TIMEOUT = 30.0


class StateRow(dict[str, Any]):
    """One row: a dict whose keys are attributes as well."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"a row has {sorted(self)}, not {name!r}") from None

    def asdict(self) -> dict[str, Any]:
        """Return a plain dict."""
        return dict(self)


def list_rows(
    what: str,
    filters: Any,
    limit: int,
    timeout: float = TIMEOUT,
    *,
    raise_on_missing_output: bool = True,
) -> list[StateRow]:
    """Return the rows of a table.

    Raises:
        ValueError: A filter, the limit or the timeout makes no sense.
        StateApiError: Part of the cluster did not answer, and `raise_on_missing_output` holds;
            otherwise there is a warning.
    """
    rows, missing, _ = find_rows(process(), what, filters, limit, timeout)
    if missing:
        text = missing_text(what, missing)
        if raise_on_missing_output:
            raise StateApiError(f"Failed to retrieve all {what} from the cluster: {text}")
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    return rows


def find_rows(
    runtime: Offered, what: str, filters: Any, limit: int, timeout: float = TIMEOUT
) -> tuple[list[StateRow], list[str], bool]:
    """Return the rows of a table, who did not answer, and whether there are more rows.

    Raises:
        ValueError: A filter, the limit or the timeout makes no sense.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= MAX_LIMIT:
        raise ValueError(f"limit must be between 1 and {MAX_LIMIT}, not {limit!r}")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
    conditions = [_plain(each) for each in filters or ()]
    Filters(conditions)  # says at once what makes no sense in them
    missing: list[str] = []
    is_cut = False
    if what in _SURVEYED and not is_in_process(runtime):
        rows, missing, is_cut = ask_all(
            cast("Process", runtime), what, conditions, limit, timeout
        )
    elif what in _BROKERS or what in _SURVEYED:  # an in-process world knows all of it itself
        rows = _broker(runtime, what, {"filters": conditions, "limit": limit + 1}, timeout)
        for row in rows:
            row.pop(_FOR_PROCESSES.get(what, ""), None)
            if what == "events":
                row["time"] = _moment(row["timestamp"])
    else:
        rows = list(Filters(conditions).over(_environments(runtime, timeout)))
    if what == "tasks" and not is_cut:
        actors = _broker(runtime, "actors", {"limit": MAX_LIMIT}, timeout)
        rows += Filters(conditions).over(constructor_rows(actors))
    return [StateRow(row) for row in rows[:limit]], missing, is_cut or len(rows) > limit


def _plain(condition: Any) -> Any:
    """Return a filter as it can travel: any value as one of msgpack's."""
    if isinstance(condition, list | tuple) and len(condition) == 3:
        key, op, value = condition
        if value is not None and not isinstance(value, str | int | float | bool):
            value = str(value)
        return [str(key), op, value]
    return condition


def _broker(runtime: Offered, what: str, args: dict[str, Any], timeout: float) -> list[Any]:
    try:
        return list(runtime.ask(Query(0, what, args), timeout=timeout))
    except ZactorError as error:
        if error.message.startswith("BadRequest: "):
            raise ValueError(error.message.removeprefix("BadRequest: ")) from None
        raise


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _environments(runtime: Offered, timeout: float) -> list[dict[str, Any]]:
    rows = _broker(runtime, "actors", {"limit": MAX_LIMIT}, timeout)
    seen = dict.fromkeys(row["serialized_runtime_env"] for row in rows)
    return [{"runtime_env": env, "success": True} for env in seen]


def get_row(what: str, key: str, value: str, timeout: float = TIMEOUT) -> StateRow | None:
    """Return the row whose `key` is `value`, or None."""
    rows, missing, _ = find_rows(process(), what, [(key, "=", value)], 1, timeout)
    if missing and not rows:
        raise StateApiError(f"{value!r} was not found, but {missing_text(what, missing)}")
    return rows[0] if rows else None


# -- summaries


Rows = Sequence[Mapping[str, Any]]


def _summary(rows: Rows, key: str, *more: str) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for row in rows:
        entry = summary.setdefault(
            row[key],
            {key: row[key], "state_counts": {}, **{name: row.get(name) for name in more}},
        )
        counts = entry["state_counts"]
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    return summary


def summarize_actor_rows(rows: Rows) -> dict[str, Any]:
    """Count the actors by class and state."""
    summary = _summary(rows, "class_name")
    return {"cluster": {"summary": summary, "total_actors": len(rows), "summary_by": "class"}}


def summarize_task_rows(rows: Rows) -> dict[str, Any]:
    """Count the tasks, calls and constructors by name and state."""
    named = [{**row, "func_or_class_name": row["name"]} for row in rows]
    summary = _summary(named, "func_or_class_name", "type")
    calls = sum(row["type"] == "ACTOR_TASK" for row in rows)
    constructors = sum(row["type"] == CONSTRUCTOR for row in rows)
    return {
        "cluster": {
            "summary": summary,
            "total_tasks": len(rows) - calls - constructors,
            "total_actor_tasks": calls,
            "total_actor_scheduled": constructors,
            "summary_by": "func_name",
        }
    }


def summarize_object_rows(rows: Rows) -> dict[str, Any]:
    """Count the objects by how they came to be."""
    summary: dict[str, Any] = {}
    for row in rows:
        entry = summary.setdefault(
            row["call_site"] or "calls",
            {
                "total_objects": 0,
                "total_size_mb": 0.0,
                "task_state_counts": {},
                "ref_type_counts": {},
            },
        )
        entry["total_objects"] += 1
        entry["total_size_mb"] += row["object_size"] / (1 << 20)
        for name, key in (
            ("task_state_counts", "task_status"),
            ("ref_type_counts", "reference_type"),
        ):
            entry[name][row[key]] = entry[name].get(row[key], 0) + 1
    return {
        "cluster": {
            "summary": summary,
            "total_objects": len(rows),
            "total_size_mb": sum(row["object_size"] for row in rows) / (1 << 20),
            "callsite_enabled": False,
            "summary_by": "callsite",
        }
    }


SUMMARIES = {
    "actors": summarize_actor_rows,
    "objects": summarize_object_rows,
    "tasks": summarize_task_rows,
}


def summarize(
    what: str, timeout: float = TIMEOUT, *, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """Count the rows of a table: actors, objects or tasks.

    Raises:
        StateApiError: See `list_rows`.
    """
    rows = list_rows(
        what, None, MAX_LIMIT, timeout, raise_on_missing_output=raise_on_missing_output
    )
    return SUMMARIES[what](rows)
