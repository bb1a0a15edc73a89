"""The cluster as a whole: nodes, resources."""

from __future__ import annotations

import json
from typing import Any

from zactor.api.session import process
from zactor.wire.messages import Query

__all__ = ["available_resources", "cluster_resources", "nodes", "timeline"]


def nodes() -> list[dict[str, Any]]:
    """Return the nodes of the cluster; those that are gone too, with `Alive` False."""
    return [_node(row) for row in process().ask(Query(0, "nodes", {}))]


def _node(row: dict[str, Any]) -> dict[str, Any]:
    is_alive = row["state"] == "ALIVE"
    address = row["address"]
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    is_tcp = address.startswith("tcp://")
    return {
        "NodeID": row["node_id"],
        "Alive": is_alive,
        "NodeManagerAddress": host if is_tcp else "127.0.0.1",
        "NodeManagerHostname": row["hostname"],
        "NodeManagerPort": int(port) if is_tcp and port.isdigit() else 0,
        "ObjectManagerPort": 0,
        "ObjectStoreSocketName": "",
        "RayletSocketName": address,
        "MetricsExportPort": 0,
        "NodeName": row["hostname"],
        "RuntimeEnvAgentPort": 0,
        "DeathReason": 0 if is_alive else _death_reason(row["state_message"]),
        "DeathReasonMessage": "" if is_alive else row["state_message"] or "",
        "alive": is_alive,
        "Resources": dict(row["resources_total"]) if is_alive else {},
        "Labels": dict(row["labels"]),
    }


def _death_reason(message: str | None) -> int:
    """Return Ray's number: 1 of a node that was drained, 2 of one that was lost."""
    return 1 if message == "drained" else 2


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

    They are the leases and actors that there are now: what has ended is not kept.
    """
    runtime = process()
    events = [
        {
            "cat": "lease",
            "name": f"lease {row['lease']}",
            "ph": "i",
            "s": "p",
            "ts": row["since"] * 1e6,
            "pid": row["node_id"],
            "tid": row["worker_id"],
            "args": {"resources": row["resources"]},
        }
        for row in runtime.ask(Query(0, "leases", {}))
    ]
    if filename is None:
        return events
    with open(filename, "w") as file:
        json.dump(events, file)
    return None
