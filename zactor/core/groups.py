"""Placement groups: bundles of resources reserved together, all or none.

A group's bundles are taken from the pools of nodes (phase one: tried, and rolled back as a whole
if one does not fit; phase two: entered and told). The broker owns all accounting, so no message
to a node is part of it. When a node is lost its bundles are reserved again elsewhere, in the
meantime what is in the other bundles goes on.

    state         means
    PENDING       not reserved yet; waits for room, first come first served among equals
    CREATED       every bundle has its place
    RESCHEDULING  a node was lost; some bundles have no place
    REMOVED       given up; kept for a while so that late users learn of it

The keys of `spec` in `CreateGroup`: id, bundles ([{resource: number}]), strategy (PACK, SPREAD,
STRICT_PACK, STRICT_SPREAD), job, owner; and optionally name, namespace, lifetime ("detached"),
labels (one label_selector for all bundles, or a list with one each), options (opaque).

The entry: those keys, and `state`, `cause` (dict or None, once REMOVED), `pending_reason`,
`revision`, `placed` ([node id or b"" of each bundle]).

Does not end what runs in a removed group; whoever removes it does.

Invariants
    G1  A group that is PENDING holds nothing; one that is CREATED holds all its bundles.
    G2  What a bundle's pool has in total is what it took from its node.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from zactor.core.events import WARNING
from zactor.core.placement import Shape
from zactor.core.resources import Holding, Pool, parse_amounts, show_amounts
from zactor.wire.messages import GroupChanged

IN_USE = "its resources are in use by others"

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.broker_config import BrokerConfig
    from zactor.core.deadlines import Deadlines
    from zactor.core.journal import Journal
    from zactor.core.membership import Node

PENDING = "PENDING"
CREATED = "CREATED"
RESCHEDULING = "RESCHEDULING"
REMOVED = "REMOVED"

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
MAX_BUNDLES = 10_000


class Bundle:
    """One bundle of a group."""

    __slots__ = ("amounts", "holding", "index", "node", "pool", "wish")

    def __init__(self, index: int, amounts: dict[str, int], selector: Any) -> None:
        self.index = index
        self.amounts = amounts
        self.wish = Shape(amounts, {}, strategy=None, group=None, selector=selector)
        self.node = b""  # where it is reserved
        self.holding: Holding | None = None  # what it took there
        self.pool = Pool({})  # what it has to give

    def place(self, node: Node, holding: Holding) -> None:
        """Enter that it has taken `holding` from `node`."""
        self.node = node.id
        self.holding = holding
        self.pool = Pool(self.amounts, dict(holding.gpus))


class Group:
    """One placement group."""

    __slots__ = (
        "actors", "bundles", "cause", "id", "is_detached", "job", "leases", "namespace", "owner",
        "pending_reason", "revision", "signature", "spec", "state", "strategy", "watchers",
    )  # fmt: skip

    def __init__(self, spec: dict[str, Any], namespace: str) -> None:
        """Raise ValueError if the spec makes no sense."""
        for key, kind in (("id", bytes), ("job", bytes), ("owner", bytes), ("bundles", list)):
            if not isinstance(spec.get(key), kind):
                raise ValueError(f"{key!r} of a placement group cannot be {spec.get(key)!r}")
        self.strategy: str = spec.get("strategy") or "PACK"
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {STRATEGIES}, not {self.strategy!r}")
        if not 0 < len(spec["bundles"]) <= MAX_BUNDLES:
            raise ValueError(f"a placement group has 1 to {MAX_BUNDLES} bundles")
        labels = spec.get("labels") or {}
        if isinstance(labels, list) and len(labels) != len(spec["bundles"]):
            raise ValueError("there must be one label selector for each bundle")
        self.bundles = []
        for index, resources in enumerate(spec["bundles"]):
            amounts = parse_amounts(resources)
            if not amounts:
                raise ValueError(f"bundle {index} asks for nothing")
            selector = labels[index] if isinstance(labels, list) else labels
            self.bundles.append(Bundle(index, amounts, selector))
        self.spec = spec
        self.id: bytes = spec["id"]
        self.job: bytes = spec["job"]
        self.owner: bytes = spec["owner"]
        self.namespace = namespace
        self.is_detached = spec.get("lifetime") == "detached"
        self.state = PENDING
        self.cause: dict[str, Any] | None = None
        self.pending_reason = ""
        self.revision = 0
        self.watchers: dict[bytes, None] = {}
        self.actors: dict[bytes, None] = {}  # with a life in it
        self.leases: dict[int, None] = {}  # with a worker in it
        # Groups of one signature fit or do not fit together: they wait in one line.
        self.signature = (self.strategy, tuple(b.wish.key for b in self.bundles))

    @property
    def name(self) -> str:
        """Its name, or ""."""
        return self.spec.get("name") or ""

    @property
    def is_usable(self) -> bool:
        """Whether something can run in those of its bundles that have a place."""
        return self.state in {CREATED, RESCHEDULING}

    @property
    def is_removed(self) -> bool:
        """Whether it was given up."""
        return self.state == REMOVED

    def select(self, index: int) -> list[Bundle]:
        """Return the bundle at `index`, as a list; all for -1; none if there is no such."""
        return self.bundles if index < 0 else self.bundles[index : index + 1]

    def entry(self) -> dict[str, Any]:
        """Return the entry as clients get it."""
        return {
            "id": self.id, "job": self.job, "owner": self.owner, "name": self.name,
            "namespace": self.namespace, "lifetime": self.spec.get("lifetime") or "",
            "strategy": self.strategy, "labels": self.spec.get("labels") or {},
            "options": self.spec.get("options") or {},
            "bundles": [show_amounts(b.amounts) for b in self.bundles],
            "placed": [b.node for b in self.bundles], "state": self.state, "cause": self.cause,
            "pending_reason": self.pending_reason, "revision": self.revision,
        }  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Return what a broker that is started again has to know."""
        gpus = [[list(g) for g in b.holding.gpus] if b.holding else [] for b in self.bundles]
        return {
            "spec": self.spec, "namespace": self.namespace, "state": self.state,
            "cause": self.cause, "placed": [b.node for b in self.bundles], "gpus": gpus,
        }  # fmt: skip


class Groups:
    """All placement groups."""

    def __init__(
        self,
        journal: Journal,
        deadlines: Deadlines,
        config: BrokerConfig,
        nodes: dict[bytes, Node],
        freed: Callable[[Node], None],
    ) -> None:
        self._journal = journal
        self._deadlines = deadlines
        self._config = config
        self._nodes = nodes
        self._freed = freed
        self._is_stale = False
        self.groups: dict[bytes, Group] = {}
        self.names: dict[tuple[str, str], bytes] = {}
        self.by_owner: dict[bytes, dict[bytes, None]] = {}
        self.removed: OrderedDict[bytes, None] = OrderedDict()
        self.watched: dict[bytes, dict[bytes, None]] = {}
        self._queue: OrderedDict[Any, OrderedDict[bytes, None]] = OrderedDict()

    def find(self, group_id: bytes) -> Group | None:
        """Return the group, removed or not, or None."""
        return self.groups.get(group_id)

    def enter(self, group: Group, now: float) -> None:
        """Enter a new group and have it wait for its place."""
        self._index(group)
        self._wait(group, now)
        self.save(group)

    def _index(self, group: Group) -> None:
        self.groups[group.id] = group
        if group.state == REMOVED:
            self.removed[group.id] = None
            return
        self.by_owner.setdefault(group.owner, {})[group.id] = None
        if group.name:
            self.names[group.namespace, group.name] = group.id

    def load(self, now: float) -> None:
        """Enter the groups that a broker before this one knew; nodes are loaded already."""
        for _, item in self._journal.state.range(b"group/"):
            record = item.value
            group = Group(record["spec"], record["namespace"])
            group.state, group.cause = record["state"], record["cause"]
            group.revision = item.revision
            self._index(group)
            if group.is_removed:
                continue
            for bundle, node_id, gpus in zip(
                group.bundles, record["placed"], record["gpus"], strict=True
            ):
                node = self._nodes.get(node_id)
                if node is not None:
                    holding = Holding(bundle.amounts, tuple((g, u) for g, u in gpus))
                    node.pool.take_again(holding)
                    self._place(group, bundle, node, holding)
            if any(not b.node for b in group.bundles):
                if group.state == CREATED:
                    group.state = RESCHEDULING
                self._wait(group, now)

    def _wait(self, group: Group, now: float) -> None:
        # A bundle that is placed changes what would fit for the rest: such a group is alone.
        alone = any(b.node for b in group.bundles)
        line = self._queue.setdefault(group.id if alone else group.signature, OrderedDict())
        line[group.id] = None
        self._is_stale = True
        self._deadlines.set(("group", group.id), now + self._config.warn_infeasible)

    def stop_waiting(self, group: Group) -> None:
        """It has its place, or needs none any more."""
        for key in (group.signature, group.id):
            line = self._queue.get(key)
            if line is not None and group.id in line:
                del line[group.id]
                if not line:
                    del self._queue[key]
        self._deadlines.cancel(("group", group.id))

    def freed(self) -> None:
        """Something was given back somewhere: waiting groups may fit."""
        self._is_stale = bool(self._queue)

    def fill(self) -> bool:
        """Reserve what can be reserved; say whether any group changed."""
        changed = False
        while self._is_stale:
            self._is_stale = False
            for key in list(self._queue):
                line = self._queue.get(key)
                while line:
                    group = self.groups[next(iter(line))]
                    if not self._reserve(group):
                        break
                    self.stop_waiting(group)
                    group.state, group.pending_reason = CREATED, ""
                    self.changed(group)
                    changed = True
        return changed

    def _reserve(self, group: Group) -> bool:
        """Take every missing bundle from some node, or none at all."""
        missing = [b for b in group.bundles if not b.node]
        missing.sort(key=lambda b: (-sum(b.amounts.values()), b.index))
        used: dict[bytes, int] = {}
        for bundle in group.bundles:
            if bundle.node:
                used[bundle.node] = used.get(bundle.node, 0) + 1
        nodes = [n for n in self._nodes.values() if n.is_open]
        if group.strategy == "STRICT_PACK":
            taken = self._take_on_one(missing, [n for n in nodes if not used or n.id in used])
        else:
            taken = self._take_each(group.strategy, missing, nodes, used)
        if taken is None:
            return False
        for bundle, node, holding in taken:
            self._place(group, bundle, node, holding)
        return True

    def _place(self, group: Group, bundle: Bundle, node: Node, holding: Holding) -> None:
        bundle.place(node, holding)
        node.bundles[group.id, bundle.index] = None

    def _take_on_one(
        self, missing: list[Bundle], nodes: list[Node]
    ) -> list[tuple[Bundle, Node, Holding]] | None:
        for node in nodes:
            taken: list[tuple[Bundle, Node, Holding]] = []
            for bundle in missing:
                if not _fits(bundle, node):
                    break
                taken.append((bundle, node, node.pool.take(bundle.amounts)))
            if len(taken) == len(missing):
                return taken
            _roll_back(taken)
        return None

    def _take_each(
        self, strategy: str, missing: list[Bundle], nodes: list[Node], used: dict[bytes, int]
    ) -> list[tuple[Bundle, Node, Holding]] | None:
        taken: list[tuple[Bundle, Node, Holding]] = []
        for position, bundle in enumerate(missing):
            fitting = [n for n in nodes if _fits(bundle, n)]
            if strategy == "STRICT_SPREAD":
                fitting = [n for n in fitting if n.id not in used]
            if not fitting:
                _roll_back(taken)
                return None
            if strategy == "PACK":
                rest = missing[position:]
                node = min(
                    fitting, key=lambda n: (n.id not in used, -_count_fitting(rest, n), n.order)
                )
            else:
                node = min(fitting, key=lambda n: (used.get(n.id, 0), n.pool.use(), n.order))
            taken.append((bundle, node, node.pool.take(bundle.amounts)))
            used[node.id] = used.get(node.id, 0) + 1
        return taken

    def remove(self, group: Group, cause: dict[str, Any]) -> None:
        """Give up the group and what it has reserved."""
        self.stop_waiting(group)
        for bundle in group.bundles:
            self._unplace(group, bundle)
        group.state, group.cause = REMOVED, cause
        if self.names.get((group.namespace, group.name)) == group.id:
            del self.names[group.namespace, group.name]
        owned = self.by_owner.get(group.owner, {})
        owned.pop(group.id, None)
        if not owned:
            self.by_owner.pop(group.owner, None)
        self.removed[group.id] = None
        self.changed(group)
        while len(self.removed) > self._config.max_dead_groups:
            self._forget(self.removed.popitem(last=False)[0])

    def _forget(self, group_id: bytes) -> None:
        group = self.groups.pop(group_id)
        for watcher in group.watchers:
            self.watched[watcher].pop(group_id, None)
        self._journal.delete(b"group/" + group_id)

    def _unplace(self, group: Group, bundle: Bundle) -> None:
        node = self._nodes.get(bundle.node)
        if node is not None and bundle.holding is not None:
            node.pool.give(bundle.holding)
            node.bundles.pop((group.id, bundle.index), None)
            self._freed(node)
        bundle.node, bundle.holding = b"", None

    def node_lost(self, node: Node, now: float) -> None:
        """Have the bundles that were on `node` reserved again."""
        hit: dict[bytes, Group] = {}
        for group_id, index in node.bundles:
            group = hit[group_id] = self.groups[group_id]
            group.bundles[index].node, group.bundles[index].holding = b"", None
        for group in hit.values():
            self.stop_waiting(group)
            group.state = RESCHEDULING
            self._wait(group, now)
            self.changed(group)
        node.bundles.clear()

    def warn(self, group_id: bytes, now: float) -> str:
        """The warning deadline of a group is due; return why it is to be refused, or ""."""
        group = self.groups.get(group_id)
        if group is None or group.state in {CREATED, REMOVED}:
            return ""
        reason = _obstacle(group, [n for n in self._nodes.values() if n.is_open]) or IN_USE
        if reason != IN_USE and self._config.refuse_infeasible:
            return reason
        if reason != group.pending_reason:
            group.pending_reason = reason
            self.changed(group)
            if reason != IN_USE:
                text = f"placement group {group.id.hex()[:12]} waits: {reason}"
                self._journal.events.add(WARNING, "SCHEDULER_INFEASIBLE", text, job=group.job)
        self._deadlines.set(("group", group_id), now + self._config.warn_busy)
        return ""

    def save(self, group: Group) -> None:
        """Write a change down without telling watchers."""
        group.revision = self._journal.put(b"group/" + group.id, group.record())

    def changed(self, group: Group) -> None:
        """Write a change down and tell the watchers."""
        self.save(group)
        if group.watchers:
            message = GroupChanged(group.entry())
            for watcher in group.watchers:
                self._journal.send(watcher, message)

    def watch(self, group: Group, watcher: bytes) -> None:
        """Have `watcher` told of each change from now on."""
        watched = self.watched.setdefault(watcher, {})
        if len(watched) < self._config.max_watches:
            watched[group.id] = None
            group.watchers[watcher] = None

    def forget_watcher(self, watcher: bytes) -> None:
        """The watcher is dead."""
        for group_id in self.watched.pop(watcher, {}):
            self.groups[group_id].watchers.pop(watcher, None)

    def check(self) -> None:
        """Assert G1 and G2."""
        for group in self.groups.values():
            placed = [b for b in group.bundles if b.node]
            if group.state in {PENDING, REMOVED}:
                assert not placed, "G1"
            if group.state == CREATED:
                assert len(placed) == len(group.bundles), "G1"
            for bundle in placed:
                assert (group.id, bundle.index) in self._nodes[bundle.node].bundles, "G1"
                assert bundle.holding is not None
                assert bundle.pool.total == bundle.holding.amounts, "G2"
                bundle.pool.check()


def _obstacle(group: Group, nodes: list[Node]) -> str:
    """Return why the nodes could not take a group if nobody held anything, or "" if they might."""
    if group.strategy == "STRICT_SPREAD" and len(nodes) < len(group.bundles):
        return f"{len(group.bundles)} nodes are asked for and there are {len(nodes)}"
    together: dict[str, int] = {}
    for bundle in group.bundles:
        if not any(bundle.wish.allows(n) and n.pool.could_hold(bundle.amounts) for n in nodes):
            return f"no node of the cluster can take bundle {bundle.index}: {bundle.wish}"
        for name, units in bundle.amounts.items():
            together[name] = together.get(name, 0) + units
    if group.strategy == "STRICT_PACK" and not any(n.pool.could_hold(together) for n in nodes):
        return f"no node of the cluster can take all bundles: {show_amounts(together)}"
    for name, units in together.items():
        there = sum(n.pool.total.get(name, 0) for n in nodes)
        if there < units:
            wanted, known = show_amounts({name: units}), show_amounts({name: there})
            return f"its bundles ask for {wanted} together and the cluster has {known}"
    return ""


def _fits(bundle: Bundle, node: Node) -> bool:
    return bundle.wish.allows(node) and node.pool.fits(bundle.amounts)


def _roll_back(taken: list[tuple[Bundle, Node, Holding]]) -> None:
    for _, node, holding in taken:
        node.pool.give(holding)


def _count_fitting(bundles: list[Bundle], node: Node) -> int:
    """Estimate how many of `bundles` would fit on `node`, taken in order; GPUs only by count."""
    left = dict(node.pool.available)
    count = 0
    for bundle in bundles:
        if all(left.get(name, 0) >= units for name, units in bundle.amounts.items()):
            for name, units in bundle.amounts.items():
                left[name] -= units
            count += 1
    return count
