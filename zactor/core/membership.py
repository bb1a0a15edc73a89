"""The nodes of the cluster: who is a member, until when, and what each has to give.

    state         means                                              placed there?
    ALIVE         it renews its lease                                yes
    UNREACHABLE   its link is lost; its lease runs                   no
    ABSENT        known from before a broker restart, not here yet   no
    DRAINING      it is being emptied                                no
    LOST          declared lost; all that ran there is failed        no

A node's lease lasts `node_lease` from the last `Renew`; it is declared lost 10% later, never
before, so that a node that stopped acknowledging at the end of its lease has done so by then.

Does not fail what ran on a lost node; whoever asks `expired` does.

Invariants
    N1  A node that is LOST is not in `nodes`.
    N2  Each node has exactly one deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.resources import GPU, SCALE, Pool, parse_amounts, show_amounts
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from zactor.core.broker_config import BrokerConfig
    from zactor.core.deadlines import Deadlines
    from zactor.core.journal import Journal

ALIVE = "ALIVE"
UNREACHABLE = "UNREACHABLE"
ABSENT = "ABSENT"
DRAINING = "DRAINING"
LOST = "LOST"

LEASE_MARGIN = 1.1


class Node:
    """One member."""

    __slots__ = (
        "actors", "address", "bundles", "crowd", "entry", "heard", "id", "is_draining", "joined",
        "labels", "leases", "load", "notices", "order", "pool", "state",
    )  # fmt: skip

    def __init__(self, entry: dict[str, Any], order: int, now: float) -> None:
        self.id: bytes = entry["id"]
        self.entry = entry
        self.heard = now
        self.address = Address(*entry["address"])
        self.labels: dict[str, str] = dict(entry.get("labels") or {})
        for prefix in ("zactor.io", "ray.io"):
            self.labels.setdefault(f"{prefix}/node-id", self.id.hex())
        total = parse_amounts(entry.get("resources") or {})
        if GPU in total:
            total[GPU] -= total[GPU] % SCALE
        self.pool = Pool(total)
        self.order = order  # the how-manieth node it is
        self.joined = now
        self.state = ALIVE
        self.is_draining = False
        self.load: dict[str, Any] = {}
        self.notices: dict[str, None] = {}  # what users should know of it
        self.actors: dict[bytes, None] = {}  # with a life here, from StartActor to its end
        self.leases: dict[int, None] = {}  # from StartLease to its end
        self.bundles: dict[tuple[bytes, int], None] = {}  # reserved here
        self.crowd = 0  # how many of `actors` hold nothing

    @property
    def pid(self) -> int:
        """The pid of its process; 0 if it does not say."""
        pid = self.entry.get("pid", 0)
        return pid if isinstance(pid, int) else 0

    @property
    def is_open(self) -> bool:
        """Whether something may be placed here."""
        return self.state == ALIVE and not self.is_draining

    @property
    def is_lost(self) -> bool:
        """Whether it was declared lost."""
        return self.state == LOST

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs here and nothing is reserved."""
        return not (self.actors or self.leases or self.bundles)

    @property
    def ip(self) -> str:
        """The address of its machine, which its resource `node:<ip>` has as well."""
        return str(self.entry.get("ip") or "127.0.0.1")

    def describe(self) -> dict[str, Any]:
        """Return what `nodes()` and `list nodes` show."""
        entry = self.entry
        return {
            "node_id": self.id.hex(),
            "state": "ALIVE" if self.state != LOST else "DEAD",
            "status": DRAINING if self.is_draining else self.state,
            "is_head_node": self.order == 0,
            "hostname": entry.get("hostname", ""),
            "node_name": entry.get("hostname", ""),
            "node_ip": self.ip,
            "state_message": None,
            "machine": self.address.machine.hex(),
            "pid": self.pid,
            "address": self.address.tcp or self.address.ipc,
            "process_address": list(self.address),
            "resources_total": show_amounts(self.pool.total),
            "resources_available": show_amounts(self.pool.available),
            "labels": self.labels,
            "actors": len(self.actors),
            "leases": len(self.leases),
            "store": entry.get("store", 0),
            "load": self.load,
            "joined": self.joined,
        }


class Membership:
    """All members, by node id."""

    def __init__(self, journal: Journal, deadlines: Deadlines, config: BrokerConfig) -> None:
        self._journal = journal
        self._deadlines = deadlines
        self._config = config
        self._count = 0
        self.nodes: dict[bytes, Node] = {}
        self.by_process: dict[bytes, Node] = {}
        self.draining: dict[bytes, Node] = {}

    def load(self, now: float) -> list[Node]:
        """Enter the nodes that a broker before this one knew; they may re-attach for a while."""
        loaded = []
        for _, item in self._journal.state.range(b"node/"):
            node = self._enter(item.value["entry"], now)
            node.state = ABSENT
            if item.value["draining"]:
                self.drain(node)
            self._deadlines.set(("node", node.id), now + self._config.restart_grace)
            loaded.append(node)
        return loaded

    def attach(self, entry: dict[str, Any], now: float) -> tuple[Node, bool]:
        """Enter a node, or have it back; say whether it is new.

        Raises:
            ValueError, KeyError, TypeError: The entry makes no sense.
        """
        known = self.nodes.get(entry["id"])
        if known is None:
            node = self._enter(entry, now)
            self._save(node)
        else:
            node = known
            self.by_process.pop(node.address.process, None)
            node.address = Address(*entry["address"])
            node.entry = entry
            node.state = ALIVE
            self.by_process[node.address.process] = node
            self._save(node)
        self.renewed(node, now)
        return node, known is None

    def _enter(self, entry: dict[str, Any], now: float) -> Node:
        node = Node(entry, self._count, now)
        self._count += 1
        self.nodes[node.id] = node
        self.by_process[node.address.process] = node
        return node

    def renewed(self, node: Node, now: float) -> None:
        """It was heard of: its lease begins anew."""
        node.heard = now
        self._deadlines.set(("node", node.id), now + self._config.node_lease * LEASE_MARGIN)

    def unreachable(self, node: Node) -> None:
        """Its link is lost: place nothing there until it re-attaches."""
        if node.state == ALIVE:
            node.state = UNREACHABLE

    def drain(self, node: Node) -> None:
        """Place nothing there any more."""
        node.is_draining = True
        self.draining[node.id] = node
        self._save(node)

    def remove(self, node: Node) -> None:
        """Declare it lost."""
        node.state = LOST
        del self.nodes[node.id]
        self.by_process.pop(node.address.process, None)
        self.draining.pop(node.id, None)
        self._deadlines.cancel(("node", node.id))
        self._journal.delete(b"node/" + node.id)

    def on_machine(self, machine: bytes, besides: Node | None = None) -> Node | None:
        """Return a living node on that machine, if there is one (other than `besides`)."""
        for node in self.nodes.values():
            if node.address.machine == machine and node.state == ALIVE and node is not besides:
                return node
        return None

    def any(self) -> Node | None:
        """Return a living node, the oldest."""
        return next((n for n in self.nodes.values() if n.state == ALIVE), None)

    def _save(self, node: Node) -> None:
        value = {"entry": node.entry, "draining": node.is_draining}
        self._journal.put(b"node/" + node.id, value)

    def check(self) -> None:
        """Assert N1 and N2, and R1 and R2 of each node's pool."""
        for node in self.nodes.values():
            assert node.state != LOST, "N1"
            assert ("node", node.id) in self._deadlines, "N2"
            node.pool.check()
