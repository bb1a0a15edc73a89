"""The cluster as a whole: nodes, resources."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from zactor.api.session import process
from zactor.api.state import MAX_LIMIT, find_rows
from zactor.wire.messages import Query

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["available_resources", "cluster_resources", "nodes", "timeline"]


def nodes() -> list[dict[str, Any]]:
    """Return the nodes of the cluster, those that are gone among them."""
    return [_node(row) for row in process().ask(Query(0, "nodes", {}))]


def _node(row: dict[str, Any]) -> dict[str, Any]:
    is_alive = row["state"] == "ALIVE"
    address = row["address"]
    port = address.rpartition(":")[2]
    is_tcp = address.startswith("tcp://")
    return {
        "NodeID": row["node_id"],
        "Alive": is_alive,
        "NodeManagerAddress": row["node_ip"],
        "NodeManagerHostname": row["hostname"],
        "NodeManagerPort": int(port) if is_tcp and port.isdigit() else 0,
        "ObjectManagerPort": 0,
        "ObjectStoreSocketName": "",
        "RayletSocketName": address,
        "MetricsExportPort": 0,
        "NodeName": row["hostname"],
        "RuntimeEnvAgentPort": 0,
        "DeathReason": 0,
        "DeathReasonMessage": "",
        "alive": is_alive,
        "Resources": dict(row["resources_total"]) if is_alive else {},
        "Labels": dict(row["labels"]),
    }


def cluster_resources() -> dict[str, float]:
    """Return what all nodes have together."""
    return _amounts("total")


def available_resources() -> dict[str, float]:
    """Return what is left of it now; what has nothing left is not in it."""
    return {name: amount for name, amount in _amounts("available").items() if amount}


def _amounts(which: str) -> dict[str, float]:
    answer = process().ask(Query(0, "resources", {}))
    return {name: float(amount) for name, amount in answer[which].items()}


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Return events in Chrome's trace format, or write them to a file.

    They are what there is now, leases and running calls, and when the calls that are not forgotten
    yet were submitted. When a call that has ended ran is not kept.
    """
    runtime = process()
    events = [_lease(row) for row in runtime.ask(Query(0, "leases", {}))]
    calls, _, _ = find_rows(runtime, "tasks", None, MAX_LIMIT)
    now = time.time() * 1e6
    for row in calls:
        events += _submission(row) + _run(row, now)
    if filename is None:
        return events
    with open(filename, "w") as file:
        json.dump(events, file)
    return None


def _lease(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "cat": "lease",
        "name": f"lease {row['lease']}",
        "ph": "i",
        "s": "p",
        "ts": row["since"] * 1e6,
        "pid": row["node_id"],
        "tid": row["worker_id"],
        "args": {"resources": row["resources"]},
    }


def _submission(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    if row["creation_time_ms"] is None:
        return []
    event = {
        "cat": "submit_task",
        "name": "submit_task",
        "ph": "i",
        "s": "t",
        "args": _whose(row),
    }
    at = {"ts": row["creation_time_ms"] * 1000.0, "pid": row["job_id"], "tid": row["owner_id"]}
    return [event | at]


def _run(row: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
    if row["start_time_ms"] is None:
        return []
    since = row["start_time_ms"] * 1000.0
    event = {"cat": f"task::{row['func_or_class_name']}", "name": row["name"], "ph": "X"}
    at = {
        "ts": since,
        "dur": max(0.0, now - since),
        "pid": row["node_id"],
        "tid": row["worker_id"],
    }
    return [event | at | {"args": _whose(row)}]


def _whose(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": row["name"], "task_id": row["task_id"], "state": row["state"]}
