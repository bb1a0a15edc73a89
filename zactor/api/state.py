"""Rows about the cluster and this process, for `zactor.util.state`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.api.session import process
from zactor.core.calls import PENDING, STORED
from zactor.ids import pack_object_id
from zactor.runtime.objects import Borrowed, Put
from zactor.wire.messages import Query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zactor.runtime.offered import Offered

_BROKERS = ("actors", "nodes", "workers", "jobs", "groups")
MAX_LIMIT = 10_000


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


def list_rows(what: str, filters: Any, limit: int) -> list[StateRow]:
    """Return the rows of a table.

    Raises:
        ValueError: A filter or the limit makes no sense.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= MAX_LIMIT:
        raise ValueError(f"limit must be between 1 and {MAX_LIMIT}, not {limit!r}")
    conditions = [_condition(each) for each in filters or ()]
    if what in _BROKERS:
        rows = process().ask(Query(0, what, {"filters": conditions, "limit": limit}))
        return [StateRow(row) for row in rows]
    found = []
    for row in _own_rows(what):
        if all(
            (str(row.get(key)) == str(value)) == (op == "=") for key, op, value in conditions
        ):
            found.append(StateRow(row))
            if len(found) == limit:
                break
    return found


def _condition(condition: Any) -> list[Any]:
    if not isinstance(condition, list | tuple) or len(condition) != 3:
        raise ValueError(f"a filter is (key, '=' or '!=', value), not {condition!r}")
    key, op, value = condition
    if op not in ("=", "!="):
        raise ValueError(
            f"Unsupported filter predicate {op!r} is given. Available predicates: =, !="
        )
    if value is not None and not isinstance(value, str | int | float | bool):
        value = str(value)
    return [str(key), op, value]


def get_row(what: str, key: str, value: str) -> StateRow | None:
    """Return the row whose `key` is `value`, or None."""
    rows = list_rows(what, [(key, "=", value)], 1)
    return rows[0] if rows else None


def _own_rows(what: str) -> Iterator[dict[str, Any]]:
    runtime = process()
    if what == "tasks":
        yield from _tasks(runtime)
    elif what == "objects":
        yield from _objects(runtime)
    elif what == "runtime_envs":
        seen = dict.fromkeys(
            row["serialized_runtime_env"] for row in list_rows("actors", None, MAX_LIMIT)
        )
        for env in seen:
            yield {"runtime_env": env, "success": True}


def _tasks(runtime: Offered) -> Iterator[dict[str, Any]]:
    """Yield the tasks and calls that were submitted lately, newest state of each."""
    caller = runtime.caller
    with caller.lock:
        failed = dict(caller.failures)
        sent = list(caller.history)
        queues = runtime.tasks.waiting_results()
        held = [
            result for stream in runtime.identity.streams.values() for result in stream.held
        ]
    seen: set[bytes] = {result.object_id() for result in [*queues, *held]}
    for result in queues:
        yield _row(
            runtime,
            result.stream.caller,
            result.number,
            result.function[1],
            "",
            "PENDING_NODE_ASSIGNMENT",
        )
    for result in held:
        view = result.stream.target
        waiting = (
            "PENDING_ARGS_AVAIL"
            if result.waiting
            else "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY"
        )
        name = _method_name(view, result.method)
        yield _row(runtime, result.stream.caller, result.number, name, view.id.hex(), waiting)
    for stream, seq, number, methods in reversed(sent):
        for at, method in enumerate(methods):
            identity = pack_object_id(stream.caller, number + at, 0)
            if identity in seen:
                continue
            seen.add(identity)
            result = stream.pending.get(seq + at)
            error = failed.get(identity)
            state = "RUNNING" if result is not None else "FAILED" if error else "FINISHED"
            target = stream.target
            if hasattr(target, "functions"):
                name, actor = runtime.tasks.name_of(target, method), ""
            else:
                name, actor = _method_name(target, method), target.id.hex()
            row = _row(runtime, stream.caller, number + at, name, actor, state)
            row["error_type"], row["error_message"] = error or (None, None)
            yield row


def _method_name(view: Any, method: int) -> str:
    rows = view.entry.get("methods") or ()
    name = rows[method][0] if 0 <= method < len(rows) else "__zactor_call__"
    return f"{view.entry.get('class_name') or 'Actor'}.{name}"


def _row(
    runtime: Offered, caller: bytes, number: int, name: str, actor: str, state: str
) -> dict[str, Any]:
    running = runtime.running
    call = running.current() if running is not None else None
    return {
        "task_id": pack_object_id(caller, number, 0)[:24].hex(),
        "attempt_number": 0,
        "name": name,
        "state": state,
        "job_id": runtime.job.hex(),
        "actor_id": actor or None,
        "type": "ACTOR_TASK" if actor else "NORMAL_TASK",
        "func_or_class_name": name,
        "parent_task_id": call.object_id()[:24].hex() if call is not None else "",
        "node_id": None,
        "worker_id": None,
        "worker_pid": None,
        "error_type": None,
        "error_message": None,
        "required_resources": {},
        "language": "PYTHON",
        "call_site": None,
        "events": [],
    }


def _objects(runtime: Offered) -> Iterator[dict[str, Any]]:
    objects = runtime.objects
    for object_id, result, place in objects.known():
        is_ready = result is None or result.state != PENDING
        yield {
            "object_id": object_id.hex(),
            "object_size": place[1] if place else 0,
            "task_status": "FINISHED" if is_ready else "PENDING",
            "reference_type": "LOCAL_REFERENCE"
            if not isinstance(result, Borrowed)
            else "BORROWED",
            "type": "DRIVER" if not runtime.is_worker else "WORKER",
            "call_site": "put" if isinstance(result, Put) else "",
            "pid": runtime.pid,
            "ip": "127.0.0.1",
            "is_stored": place is not None or (result is not None and result.state == STORED),
            "attempt_number": 1,
        }


# -- summaries


def _summary(rows: Any, key: str, *more: str) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for row in rows:
        entry = summary.setdefault(
            row[key],
            {key: row[key], "state_counts": {}, **{name: row.get(name) for name in more}},
        )
        counts = entry["state_counts"]
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    return summary


def summarize_actor_rows() -> dict[str, Any]:
    """Count the actors by class and state."""
    rows = list_rows("actors", None, MAX_LIMIT)
    summary = _summary(rows, "class_name")
    return {"cluster": {"summary": summary, "total_actors": len(rows), "summary_by": "class"}}


def summarize_task_rows() -> dict[str, Any]:
    """Count this process's tasks and calls by name and state."""
    rows = list_rows("tasks", None, MAX_LIMIT)
    summary = _summary(rows, "func_or_class_name", "type")
    calls = sum(row["type"] == "ACTOR_TASK" for row in rows)
    return {
        "cluster": {
            "summary": summary,
            "total_tasks": len(rows) - calls,
            "total_actor_tasks": calls,
            "total_actor_scheduled": 0,
            "summary_by": "func_name",
        }
    }


def summarize_object_rows() -> dict[str, Any]:
    """Count the objects that this process knows, by how they came to be."""
    rows = list_rows("objects", None, MAX_LIMIT)
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
