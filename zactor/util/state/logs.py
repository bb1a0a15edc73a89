"""`list_logs` and `get_log`: what workers have printed, as their nodes keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.api import logs
from zactor.api.session import process_of_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 30.0


def list_logs(
    address: str | None = None,  # noqa: ARG001 - the cluster is the session's
    node_id: str | None = None,
    node_ip: str | None = None,  # noqa: ARG001 - nodes are told apart by their ids
    glob_filter: str | None = None,
    timeout: float = TIMEOUT,
) -> dict[str, list[str]]:
    """Return the names of the log files of a node, or of all nodes, by kind.

    Raises:
        ValueError: There is no such node.
    """
    rows = logs.list_files(process_of_cluster("logs"), node_id, glob_filter or "*", timeout)
    found: dict[str, list[str]] = {"worker_out": [], "worker_err": []}
    for row in rows:
        found[f"worker_{row['stream']}"].append(row["filename"])
    return {kind: names for kind, names in found.items() if names}


def _always() -> bool:
    return True


def get_log(
    address: str | None = None,  # noqa: ARG001
    node_id: str | None = None,
    node_ip: str | None = None,  # noqa: ARG001
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,  # noqa: FBT001, FBT002 - Ray's
    tail: int = -1,
    timeout: float = TIMEOUT,
    suffix: str = "out",
    **_: Any,
) -> Iterator[str]:
    """Yield what a worker has printed, in pieces.

    Args:
        address: Of no effect: the cluster is the session's.
        node_id: Where it ran; needed with `pid` and `filename` where several nodes have such.
        node_ip: Of no effect.
        filename: As `list_logs` shows it.
        actor_id: Of the actor whose worker printed it.
        task_id: Of a task or call that the worker ran.
        pid: Of the worker.
        follow: Go on as more is printed, for ever.
        tail: Only the last lines; -1 for all.
        timeout: Seconds that one read may take.
        suffix: "out" or "err", the worker's standard output or error.
        **_: Accepted for Ray's sake.

    Raises:
        ValueError: There is no such log, or the arguments make no sense.
    """
    if isinstance(tail, bool) or not isinstance(tail, int) or tail < -1:
        raise ValueError(f"tail must be a number of lines, or -1 for all, not {tail!r}")
    which = {"actor_id": actor_id, "task_id": task_id, "pid": pid, "filename": filename}
    runtime = process_of_cluster("logs")
    log = logs.find(runtime, {**which, "node_id": node_id}, suffix, timeout)
    return logs.lines_of(
        runtime, log, tail=tail, follow=_always if follow else None, timeout=timeout
    )
