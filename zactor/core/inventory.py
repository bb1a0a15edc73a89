"""What a cluster is asked by people and tools: answers to `Query`.

Rows are dicts of plain values; ids are hex, states and keys are those of Ray's state API where
it has them. `args` of a query: `filters` ([[key, "=" | "!=", value], ...], all must hold),
`limit`, and for one actor, node or group `id` (bytes).

Reads only.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from zactor.core.directory import ALIVE, DEAD, PENDING, RESTARTING, STARTING
from zactor.core.filters import Filters
from zactor.core.resources import SCALE, show_amounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from zactor.core.cluster import Cluster
    from zactor.core.directory import Actor
    from zactor.core.groups import Group
    from zactor.core.lease import Lease

_RAY_STATES = {
    PENDING: "PENDING_CREATION",
    STARTING: "PENDING_CREATION",
    ALIVE: "ALIVE",
    RESTARTING: "RESTARTING",
    DEAD: "DEAD",
}

Row = dict[str, Any]


def actor_row(actor: Actor) -> Row:
    """Return an actor as `list actors` shows it."""
    spec = actor.spec
    group = spec.get("group") or {}
    node, process, pid = _place_of(actor)
    return {
        "actor_id": actor.id.hex(),
        "class_name": spec.get("class_name") or "",
        "state": _RAY_STATES[actor.state],
        "job_id": actor.job.hex(),
        "name": actor.name,
        "node_id": node.hex(),
        "pid": pid,
        "ray_namespace": actor.namespace,
        "serialized_runtime_env": repr(spec.get("env") or {}),
        "required_resources": show_amounts(actor.shape.need) if actor.shape else {},
        "death_cause": shown_cause(actor.cause),
        "is_detached": actor.is_detached,
        "placement_group_id": group["id"].hex() if group else None,
        "repr_name": actor.repr_name,
        "num_restarts": actor.restarts,
        "num_restarts_due_to_lineage_reconstruction": 0,
        "num_restarts_due_to_node_preemption": 0,
        "call_site": None,
        "label_selector": spec.get("label_selector") or {},
        "worker_id": process.hex(),
        "owner_id": actor.owner.hex(),
        "life": actor.life,
        "epoch": actor.epoch,
        "phase": actor.state,
        "is_ending": actor.ending is not None,
        "pending_reason": actor.pending_reason,
    }


_REASONS = {
    "exit": "WORKER_DIED",
    "exited": "WORKER_DIED",
    "group": "UNSPECIFIED",
    "job": "OWNER_DIED",
    "killed": "RAY_KILL",
    "node": "NODE_DIED",
    "oom": "WORKER_DIED",
    "owner": "OWNER_DIED",
    "released": "REF_DELETED",
    "signal": "WORKER_DIED",
    "stopped": "OUT_OF_SCOPE",
}


def shown_cause(cause: Row | None) -> Row | None:
    """Return why an actor died as rows have it: kind and text, and where Ray has the text."""
    if not cause:
        return None
    kind, text = str(cause.get("kind") or ""), str(cause.get("text") or "")
    shown: Row = {"kind": kind, "code": cause.get("code", 0), "text": text}
    if kind == "constructor":
        shown["creation_task_failure_context"] = {"formatted_exception_string": text}
    else:
        shown["actor_died_error_context"] = {
            "error_message": f"The actor is dead: {text}",
            "reason": _REASONS.get(kind, "UNSPECIFIED"),
        }
    return shown


def _place_of(actor: Actor) -> tuple[bytes, bytes, int]:
    """Return node, process and pid: where it lives; of a dead one, where it lived last."""
    if actor.state == DEAD and actor.last is not None:
        return actor.last
    return actor.node, actor.address.process if actor.address else b"", actor.pid


def group_row(group: Group) -> Row:
    """Return a placement group as `placement_group_table` shows it."""
    return {
        "placement_group_id": group.id.hex(),
        "name": group.name,
        "ray_namespace": group.namespace,
        "creator_job_id": group.job.hex(),
        "state": group.state,
        "strategy": group.strategy,
        "is_detached": group.is_detached,
        "bundles": [
            {
                "bundle_index": bundle.index,
                "node_id": bundle.node.hex(),
                "resources": show_amounts(bundle.amounts),
                "available": show_amounts(bundle.pool.available),
            }
            for bundle in group.bundles
        ],
        "stats": {"scheduling_state": group.pending_reason or group.state},
        "cause": group.cause,
        "pending_reason": group.pending_reason,
    }


def lease_row(lease: Lease, epoch: float = 0.0) -> Row:
    """Return a lease as `list leases` shows it; `epoch` is 1970 on the broker's clock."""
    return {
        "lease": lease.id,
        "client_id": lease.party.client.hex(),
        "state": lease.state,
        "job_id": (lease.party.raw.get("job") or b"").hex(),
        "node_id": lease.node.id.hex(),
        "worker_id": lease.address.process.hex() if lease.address else "",
        "pid": lease.pid,
        "resources": show_amounts(lease.holding.amounts),
        "gpu_ids": lease.holding.gpu_ids,
        "is_blocked": lease.is_blocked,
        "is_recalled": lease.is_recalled,
        "since": epoch + lease.since,
    }


class Inventory:
    """Answers queries from the parts of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._tables: dict[str, Callable[[Row], Iterable[Row]]] = {
            "actors": self._actors,
            "nodes": self._nodes,
            "workers": lambda _args: self._workers(),
            "jobs": lambda _args: self._jobs(),
            "groups": self._groups,
            "events": lambda _args: cluster.journal.events.rows(),
            "leases": lambda _args: (
                lease_row(lease, cluster.journal.events.epoch)
                for lease in cluster.leases.leases.values()
            ),
            "names": lambda _args: (
                {"namespace": namespace, "name": name, "actor_id": actor_id.hex()}
                for (namespace, name), actor_id in cluster.directory.names.items()
            ),
        }

    def answer(self, what: str, args: Row) -> Any:
        """Return the answer to a query.

        Raises:
            ValueError: There is no such table, or the arguments make no sense.
        """
        if what == "status":
            return self.status()
        if what == "resources":
            return self.resources()
        table = self._tables.get(what)
        if table is None:
            names = sorted([*self._tables, "resources", "status"])
            raise ValueError(f"there is no {what!r} to ask for; there is: {', '.join(names)}")
        most = self._cluster.config.max_rows
        limit = args.get("limit", most)
        filters = args.get("filters") or []
        if not isinstance(limit, int) or not isinstance(filters, (list, tuple)):
            raise ValueError("a query takes an int `limit` and a list of `filters`")
        rows = Filters(filters).over(table(args))
        return list(islice(rows, max(0, min(limit, most))))

    def _nodes(self, args: Row) -> Iterator[Row]:
        epoch = self._cluster.journal.events.epoch
        for node in self._cluster.membership.nodes.values():
            if args.get("id") in {None, node.id}:
                heard, joined = epoch + node.heard, epoch + node.joined
                yield {
                    **node.describe(),
                    "heard": heard,
                    "joined": joined,
                    "start_time_ms": int(joined * 1000),
                    "end_time_ms": None,
                }

    def _actors(self, args: Row) -> Iterator[Row]:
        actors = self._cluster.directory.actors
        if args.get("id") is not None:
            actor = actors.get(args["id"])
            return iter([actor_row(actor)] if actor else [])
        return (actor_row(actor) for actor in actors.values())

    def _groups(self, args: Row) -> Iterator[Row]:
        groups = self._cluster.groups.groups
        if args.get("id") is not None:
            group = groups.get(args["id"])
            return iter([group_row(group)] if group else [])
        return (group_row(group) for group in groups.values())

    def _workers(self) -> Iterator[Row]:
        cluster = self._cluster
        for process, known in cluster.processes.living.items():
            hosted = cluster.directory.by_process.get(process, {})
            lease = cluster.leases.by_process.get(process)
            node = cluster.membership.nodes.get(known.node)
            yield {
                "worker_id": process.hex(),
                "worker_type": known.kind.upper(),
                "is_alive": True,
                "node_id": known.node.hex(),
                "ip": node.ip if node is not None else "",
                "pid": known.pid,
                "exit_type": None,
                "exit_detail": None,
                "actors": [actor.hex() for actor in hosted],
                "lease": lease.id if lease else 0,
                "is_idle": known.kind == "worker" and not hosted and lease is None,
            }

    def _jobs(self) -> Iterator[Row]:
        for job in self._cluster.sessions.jobs.values():
            yield {
                "job_id": job.id.hex(),
                "type": "DRIVER",
                "status": "RUNNING" if job.ended is None else "STOPPED",
                "driver_id": job.driver.hex(),
                "driver_info": {
                    "id": job.driver.hex(),
                    "pid": str(job.metadata.get("pid", "")),
                },
                "submission_id": None,  # nothing is submitted: jobs are the sessions of drivers
                "address": list(job.address),
                "namespace": job.namespace,
                "entrypoint": str(job.metadata.get("entrypoint", "")),
                "pid": job.metadata.get("pid", 0),
                "log_to_driver": bool(job.metadata.get("log_to_driver", True)),
                "started": self._cluster.journal.events.epoch + job.started,
                "start_time": int((self._cluster.journal.events.epoch + job.started) * 1000),
                "end_cause": job.ended,
                "actors": len(self._cluster.directory.by_job.get(job.id, {})),
            }

    def resources(self) -> Row:
        """Return what the cluster has, has left, and is asked for in vain."""
        total: dict[str, int] = {}
        available: dict[str, int] = {}
        for node in self._cluster.membership.nodes.values():
            if node.is_lost:
                continue
            for name, units in node.pool.total.items():
                total[name] = total.get(name, 0) + units
                left = max(0, node.pool.available[name]) if node.is_open else 0
                available[name] = available.get(name, 0) + left
        waiting = [
            {
                "shape": str(line.shape),
                "resources": show_amounts(line.shape.need),
                "count": sum(party.want for party in line.parties.values()),
            }
            for line in islice(self._cluster.waiting.lines.values(), 100)
        ]
        shown = {name: units / SCALE for name, units in available.items()}
        return {"total": show_amounts(total), "available": shown, "waiting": waiting}

    def status(self) -> Row:
        """Return the cluster at a glance."""
        cluster = self._cluster
        living = {k: n for k, n in cluster.directory.counts.items() if k != DEAD}
        return {
            "cluster": cluster.config.cluster,
            "term": cluster.term,
            "revision": cluster.journal.revision,
            "nodes": [node.describe() for node in cluster.membership.nodes.values()],
            "actors": {**living, DEAD: cluster.directory.counts[DEAD]},
            "jobs": len(cluster.sessions.by_driver),
            "leases": len(cluster.leases.leases),
            "groups": len(cluster.groups.groups) - len(cluster.groups.removed),
            "workers": sum(p.kind == "worker" for p in cluster.processes.living.values()),
            "definitions": {
                "count": len(cluster.definitions),
                "bytes": cluster.definitions.size,
            },
            "resources": self.resources(),
            "links": cluster.links(),
        }
