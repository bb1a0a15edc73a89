"""What nodes tell a broker, message by message.

    message        says                                          means
    NodeUp         here I am, with what runs here                member again; compared with what should run
    Renew          I live                                        its lease begins anew
    ActorUp        the life's worker takes calls                 callers learn its address
    ActorReady     its constructor has returned                  ALIVE
    ActorsUp       the same of many actors of one worker
    ActorsReady    the same of many actors
    ActorFailed    the life never came to be                     elsewhere, or DEAD
    ActorExited    it ended of itself                            DEAD
    WorkerLeased   the lease's worker is up                      granted
    LeaseFailed    no worker for the lease                       elsewhere, or refused
    WorkerDied     its pidfd says so                             lives and lease over; what it owned goes
    ProcessDied    a driver of my machine, or I myself, is dead  the job is over; the node is lost
    Notice         users should know this                        drivers are told, also those to come

Only members are listened to: what an unknown node says is refused (`NodeUnknown`) or dropped, so
that one declared lost has to attach again before it can speak of lives that are over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.client_requests import RefusedError, read_address
from zactor.core.events import INFO, WARNING, note_store
from zactor.core.lease import STARTING
from zactor.core.membership import ABSENT
from zactor.core.processes import FORGOTTEN
from zactor.wire import messages as m

if TYPE_CHECKING:
    from zactor.core.cluster import Cluster
    from zactor.core.membership import Node

MOST_NOTICES = 20  # of one node
LOST = {"kind": "node", "code": 0, "text": "it had ended when its node re-attached"}


class NodeReports:
    """The handlers, on the parts of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.handlers: dict[type, Any] = {
            m.NodeUp: self._node_up,
            m.Renew: self._renew,
            m.ActorUp: self._actor_up,
            m.ActorReady: self._actor_ready,
            m.ActorsUp: self._actors_up,
            m.ActorsReady: self._actors_ready,
            m.ActorFailed: self._actor_failed,
            m.ActorExited: self._actor_exited,
            m.WorkerLeased: self._worker_leased,
            m.LeaseFailed: self._lease_failed,
            m.WorkerDied: self._worker_died,
            m.ProcessDied: self._process_died,
            m.Notice: self._notice,
        }

    def _node(self, peer: bytes) -> Node | None:
        return self._cluster.membership.by_process.get(peer)

    # -- membership

    def _node_up(self, peer: bytes, message: m.NodeUp, now: float) -> Any:
        cluster, entry = self._cluster, message.entry
        address = read_address(entry.get("address") or [])
        if address is None or address.process != peer or not isinstance(entry.get("id"), bytes):
            raise RefusedError("BadRequest", "NodeUp must carry the id and address of its node")
        cluster.journal.book[peer] = address
        try:
            node, is_new = cluster.membership.attach(entry, now)
            cluster.pulse.begin(now)
        except (ValueError, TypeError) as error:
            raise RefusedError("BadRequest", f"the node's entry: {error}") from None
        cluster.processes.dead.pop(peer, None)
        cluster.processes.enter(peer, "node", node.id, node.pid)
        cluster.watch_node(node)
        self._compare(node, [row for row in message.workers if _is_row(row)], now)
        cluster.waiting.freed(node)
        cluster.find_homes(node)
        word = "joined" if is_new else "is back"
        cluster.journal.report("info", f"node {node.id.hex()[:12]} {word}")
        where = f"node {node.id.hex()[:12]} on {entry.get('hostname') or '?'} {word}"
        kind = "NODE_JOINED" if is_new else "NODE_BACK"
        cluster.journal.events.add(INFO, kind, where, node=node.id)
        return {
            "lease": cluster.config.node_lease,
            "renew": cluster.config.node_renew,
            "is_new": is_new,
            "cluster": {**cluster.config.cluster, "term": cluster.term},
        }

    def _compare(self, node: Node, rows: list[dict[str, Any]], now: float) -> None:
        """Bring the broker's idea of what runs on a node in line with what the node says."""
        cluster = self._cluster
        processes = {row["process"]: None for row in rows if row.get("process")}
        for row in rows:
            if row.get("process"):
                pid = row.get("pid", 0)
                cluster.processes.enter(row["process"], "worker", node.id, pid)
        cluster.lifecycle.reattached(node, rows, now)
        self._compare_leases(node, rows, now)
        for process in list(cluster.processes.on_node.get(node.id, {})):
            if process not in processes and process != node.address.process:
                cluster.process_died(process, LOST, now)

    def _compare_leases(self, node: Node, rows: list[dict[str, Any]], now: float) -> None:
        leases = self._cluster.leases
        said = {row["lease"]: row for row in rows if row.get("lease")}
        for number, row in said.items():
            lease = leases.leases.get(number)
            if lease is None:
                # One of this broker's own that it does not know has ended: EndLease is on its way.
                is_older = number >> 32 < self._cluster.term
                if not is_older or not leases.adopt(node, row, now):
                    end = m.EndLease(number, False)
                    self._cluster.journal.send(node.address.process, end)
            elif lease.state == STARTING and row.get("process"):
                address = m.Address(*row["address"])
                leases.worker_up(node, number, address, row.get("pid", 0), now)
        for lease in [x for x in leases.leases.values() if x.node is node]:
            if lease.id in said:
                continue
            if lease.state == STARTING:
                leases.failed(node, lease.id, ["spawn", "its start was lost", {}], now)
            else:
                leases.worker_died(lease, LOST, [], now)

    def _renew(self, peer: bytes, message: m.Renew, now: float) -> Any:
        node = self._node(peer)
        if node is None or node.state not in {"ALIVE", "DRAINING"}:
            raise RefusedError("NodeUnknown", "the broker does not know this node (any more)")
        note_store(self._cluster.journal.events, node, message.load)
        node.load = message.load
        self._cluster.membership.renewed(node, now)
        return self._cluster.term

    # -- actors

    def _actor_up(self, peer: bytes, message: m.ActorUp, now: float) -> None:
        node, address = self._node(peer), read_address(message.address)
        if node is not None and address is not None:
            lifecycle = self._cluster.lifecycle
            lifecycle.up(node, message.actor, message.life, address, message.pid)

    def _actor_ready(self, peer: bytes, message: m.ActorReady, now: float) -> None:
        node = self._node(peer)
        if node is not None:
            lifecycle = self._cluster.lifecycle
            lifecycle.ready(node, message.actor, message.life, message.repr_name)

    def _actors_up(self, peer: bytes, message: m.ActorsUp, now: float) -> None:
        node, address = self._node(peer), read_address(message.address)
        if node is not None and address is not None:
            up = self._cluster.lifecycle.up
            for actor_id, life in _wide(message.rows, 2):
                up(node, actor_id, life, address, message.pid)

    def _actors_ready(self, peer: bytes, message: m.ActorsReady, now: float) -> None:
        node = self._node(peer)
        if node is not None:
            ready = self._cluster.lifecycle.ready
            for actor_id, life, repr_name in _wide(message.rows, 3):
                ready(node, actor_id, life, repr_name)

    def _actor_failed(self, peer: bytes, message: m.ActorFailed, now: float) -> None:
        node = self._node(peer)
        if node is not None:
            lifecycle = self._cluster.lifecycle
            lifecycle.failed(node, message.actor, message.life, list(message.error), now)

    def _actor_exited(self, peer: bytes, message: m.ActorExited, now: float) -> None:
        node = self._node(peer)
        if node is not None:
            self._cluster.lifecycle.exited(
                node, message.actor, message.life, message.cause, _rows(message.progress), now
            )

    # -- workers

    def _worker_leased(self, peer: bytes, message: m.WorkerLeased, now: float) -> None:
        node, address = self._node(peer), read_address(message.address)
        if node is None or address is None:
            return
        if node.state != ABSENT:  # else it tells of it again when it attaches
            self._cluster.leases.worker_up(node, message.lease, address, message.pid, now)

    def _lease_failed(self, peer: bytes, message: m.LeaseFailed, now: float) -> None:
        node = self._node(peer)
        if node is not None:
            self._cluster.leases.failed(node, message.lease, list(message.error), now)

    def _worker_died(self, peer: bytes, message: m.WorkerDied, now: float) -> None:
        if self._node(peer) is None:
            return
        hosted = [row for row in message.actors if _is_life(row)]
        self._cluster.worker_died(
            message.process, hosted, message.lease, _cause(message.cause),
            _rows(message.progress), now,
        )  # fmt: skip

    def _process_died(self, peer: bytes, message: m.ProcessDied, now: float) -> None:
        if self._node(peer) is not None:
            self._cluster.ended(message.process, _cause(message.cause), now)

    def _notice(self, peer: bytes, message: m.Notice, now: float) -> None:
        node, cluster = self._node(peer), self._cluster
        if node is None or message.text in node.notices or len(node.notices) >= MOST_NOTICES:
            return
        node.notices[message.text] = None
        text = f"node {node.id.hex()[:12]}: {message.text}"
        cluster.journal.events.add(WARNING, "NODE_WARNING", text, node=node.id)
        for driver in cluster.sessions.by_driver:
            cluster.journal.send(driver, m.Notice(text))


def _is_life(row: Any) -> bool:
    """Whether this begins with an actor's id and a life."""
    if not isinstance(row, (list, tuple)) or len(row) < 2:
        return False
    return isinstance(row[0], bytes) and isinstance(row[1], int)


def _is_row(row: Any) -> bool:
    """Whether this looks like a row of `NodeUp.workers`."""
    if not isinstance(row, dict) or not isinstance(row.get("lease", 0), int):
        return False
    process = row.get("process") or b""
    if process and read_address(list(row.get("address") or [])) is None:
        return False
    if not isinstance(row.get("pid", 0), int) or not isinstance(row.get("shape") or {}, dict):
        return False
    actors = row.get("actors") or []
    return isinstance(process, bytes) and all(_is_life(a) and len(a) == 4 for a in actors)


def _rows(progress: list[Any]) -> list[Any]:
    """Keep the rows that look like rows of a progress page."""
    return [
        row
        for row in progress
        if isinstance(row, (list, tuple)) and len(row) >= 4 and isinstance(row[0], bytes)
    ]


def _cause(cause: dict[str, Any]) -> dict[str, Any]:
    return {**FORGOTTEN, "text": "", **cause}


def _wide(rows: list[Any], width: int) -> list[Any]:
    """Return the rows that have `width` fields, an id and a number before others."""
    return [
        row
        for row in rows
        if type(row) is list
        and len(row) == width
        and type(row[0]) is bytes
        and type(row[1]) is int
    ]
