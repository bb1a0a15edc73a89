"""Which node, or which bundle of a placement group, takes the next actor or lease.

Does not take anything: `choose` names a spot that fits now, or none. What cannot be placed waits
in `core.waiting`.

What an actor must find is two things. `need` is held and has to be free. `must` only has to be
there in total: an actor that holds no CPU while it runs still goes only where a CPU is, but does
not wait for one, so that an actor whose constructor waits for another actor never starves it.

DEFAULT packs: a node that has most of a task's large arguments, however full, as long as the task fits;
the caller's own node, then nodes in the order they joined, as long as each is used less than
`spread_from`; past that the least used. Actors that hold nothing count as a quarter of a
CPU in this comparison (only), so that thousands of them do not pile up on one node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.resources import Amounts, Pool, parse_amounts, show_amounts
from zactor.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from zactor.core.groups import Group
    from zactor.core.membership import Node

Condition = tuple[str, str, tuple[str, ...]]  # label, in|not_in|exists|does_not_exist, values


class Spot(NamedTuple):
    """Where something can go: a node, and the pool (of it, or of a bundle there) that gives."""

    node: Node
    pool: Pool
    bundle: int  # index in its group; -1 outside of groups


class Obstacle(NamedTuple):
    """Why something cannot be placed on any node as the cluster is."""

    text: str
    is_final: bool  # waiting will not help
    kind: str = (
        "Unschedulable"  # or PlacementGroupRemoved: the wire error but for "Task", "Actor"
    )
    is_infeasible: bool = False  # no node there is could ever take it; another that joins might


class Shape:
    """What is asked of a node. Equal keys mean equal wishes: they wait in one line."""

    __slots__ = (
        "avoid",
        "bundle",
        "fallbacks",
        "group",
        "hard",
        "key",
        "must",
        "need",
        "node",
        "soft",
        "spread",
        "wishes",
    )

    def __init__(
        self,
        need: Amounts,
        must: Amounts,
        *,
        strategy: Any,
        group: Any,
        selector: Any,
        fallback: Any = None,
    ) -> None:
        self.need = need
        self.must = must
        self.spread = False
        self.node = b""  # affinity
        self.soft = False  # ... that may be given up
        self.hard: tuple[Condition, ...] = ()
        self.wishes: tuple[Condition, ...] = ()
        self.group = b""
        self.bundle = -1
        self.avoid: frozenset[bytes] = frozenset()  # where it failed to start just now
        if group:
            self._read_group(group)
        elif strategy is not None and strategy != "DEFAULT":
            self._read_strategy(strategy)
        if selector:
            self.hard += _read_selector(selector)
        # Labels that do instead of `hard`, the better ones first.
        self.fallbacks = tuple(
            _read_selector(each.get("label_selector") or {}) for each in fallback or ()
        )
        self.key = self._make_key()

    def _read_group(self, group: Any) -> None:
        if not isinstance(group, dict) or not isinstance(group.get("id"), bytes):
            raise ValueError(f"group must be a dict with an id, not {group!r}")
        bundle = group.get("bundle", -1)
        if not isinstance(bundle, int) or bundle < -1:
            raise ValueError(f"bundle must be an index or -1, not {bundle!r}")
        self.group, self.bundle = group["id"], bundle

    def _read_strategy(self, strategy: Any) -> None:
        if strategy == "SPREAD":
            self.spread = True
            return
        kind = strategy.get("kind") if isinstance(strategy, dict) else None
        if kind == "node" and isinstance(strategy.get("node"), bytes):
            self.node, self.soft = strategy["node"], bool(strategy.get("soft"))
        elif kind == "labels":
            self.hard = _read_conditions(strategy.get("hard") or {})
            self.wishes = _read_conditions(strategy.get("soft") or {})
        else:
            raise ValueError(f"unknown scheduling strategy {strategy!r}")

    def _make_key(self) -> tuple[Any, ...]:
        return (
            tuple(self.need.items()), tuple(self.must.items()), self.spread, self.node,
            self.soft, self.hard, self.fallbacks, self.wishes, self.group, self.bundle, self.avoid,
        )  # fmt: skip

    def avoiding(self, nodes: frozenset[bytes]) -> Shape:
        """Return the same wish, to be fulfilled elsewhere than on `nodes` if that can be."""
        other = Shape(self.need, self.must, strategy=None, group=None, selector=None)
        for name in (
            "spread",
            "node",
            "soft",
            "hard",
            "fallbacks",
            "wishes",
            "group",
            "bundle",
        ):
            setattr(other, name, getattr(self, name))
        other.avoid = nodes
        other.key = other._make_key()
        return other

    def allows(self, node: Node) -> bool:
        """Say whether the labels of `node` are as they must be."""
        return any(_all_hold(labels, node) for labels in (self.hard, *self.fallbacks))

    def __str__(self) -> str:
        asked = show_amounts({**self.must, **self.need}) or "no resources"
        parts = [str(asked)]
        if self.node:
            parts.append(f"on node {self.node.hex()[:12]}{' if possible' if self.soft else ''}")
        parts += [f"label {k} {op} {list(v)}" for k, op, v in self.hard]
        if self.group:
            where = "any bundle" if self.bundle < 0 else f"bundle {self.bundle}"
            parts.append(f"in {where} of placement group {self.group.hex()[:12]}")
        return ", ".join(parts)


_MOST_SHAPES = 1_000
_shapes: dict[tuple[Any, ...], Shape] = {}  # read lately, by key


def _same(shape: Shape) -> Shape:
    """Return the shape that stands for all with its key: each takes 700 bytes, and nobody changes one."""
    if len(_shapes) >= _MOST_SHAPES:
        _shapes.clear()
    return _shapes.setdefault(shape.key, shape)


def shape_of_actor(spec: Mapping[str, Any]) -> Shape:
    """Read the shape out of an ActorSpec.

    Raises:
        ValueError: It makes no sense; the text says what.
    """
    return _same(
        Shape(
            parse_amounts(spec.get("running") or {}),
            parse_amounts(spec.get("placing") or {}),
            strategy=spec.get("strategy"),
            group=spec.get("group"),
            selector=spec.get("label_selector"),
            fallback=spec.get("fallback"),
        )
    )


def shape_of_demand(shape: Mapping[str, Any]) -> Shape:
    """Read the shape out of a `Demand`. Raises ValueError as `shape_of_actor`."""
    return Shape(
        parse_amounts(shape.get("resources") or {}),
        {},
        strategy=shape.get("strategy"),
        group=shape.get("group"),
        selector=shape.get("label_selector"),
        fallback=shape.get("fallback"),
    )


class Placement:
    """Chooses spots among `nodes` (all that are known) and the bundles of groups."""

    def __init__(self, nodes: Mapping[bytes, Node], spread_from: float) -> None:
        self._nodes = nodes
        self.find_group: Callable[[bytes], Group | None] = _no_group
        self._spread_from = spread_from
        self._cursor = -1  # order number of the node that SPREAD took last
        self.is_settled = True  # False while nodes may still re-attach to a restarted broker

    def choose(
        self,
        shape: Shape,
        prefer: bytes = b"",
        only: Iterable[Node] | None = None,
        *,
        near: bytes = b"",
    ) -> Spot | None:
        """Return the spot to take for `shape`, or None if nothing fits now.

        `prefer` is the node the caller is on. `only` are the nodes worth a look, where the
        others have been tried since anything was freed there. `near` is the node that has most
        of what it will read.
        """
        if shape.group:
            return self._choose_bundle(shape)
        if shape.node:
            node = self._nodes.get(shape.node)
            if node is not None and self._fits(shape, node):
                return Spot(node, node.pool, -1)
            if not shape.soft:
                return None
            if node is not None and node.is_open and self._could_hold(shape, node):
                return None  # it is only busy
        elif not (shape.spread or shape.wishes or shape.avoid or shape.fallbacks):
            node = self._nodes.get(near)
            if node is not None and self._fits(shape, node):
                return Spot(node, node.pool, -1)
            node = self._nodes.get(prefer)
            if node is not None and self._fits(shape, node) and not self._pressure(node):
                return Spot(node, node.pool, -1)
        fitting = [n for n in only or self._nodes.values() if self._fits(shape, n)]
        if shape.avoid:
            fitting = [n for n in fitting if n.id not in shape.avoid] or fitting
        if not fitting:
            return None
        if shape.fallbacks:
            choices = (
                [n for n in fitting if _all_hold(c, n)] for c in (shape.hard, *shape.fallbacks)
            )
            fitting = next(chosen for chosen in choices if chosen)
        node = self._spread(fitting) if shape.spread else self._pack(shape, fitting, prefer)
        return Spot(node, node.pool, -1)

    def has_room(self, shape: Shape) -> bool:
        """Say whether `choose` would find a spot."""
        cursor = self._cursor
        spot = self.choose(shape)
        self._cursor = cursor
        return spot is not None

    def pools(self, shape: Shape) -> list[tuple[Node, Pool]]:
        """Return the pools that could hold `shape` if they were empty, of open nodes."""
        if not shape.group:
            nodes = self._nodes.values()
            return [(n, n.pool) for n in nodes if n.is_open and self._is_option(shape, n)]
        group = self.find_group(shape.group)
        if group is None or not group.is_usable:
            return []
        found = []
        for bundle in group.select(shape.bundle):
            node = self._nodes.get(bundle.node)
            if node is not None and node.is_open and bundle.pool.could_hold(shape.need):
                found.append((node, bundle.pool))
        return found

    def _is_option(self, shape: Shape, node: Node) -> bool:
        is_there = not shape.node or shape.soft or shape.node == node.id
        return is_there and self._could_hold(shape, node)

    def obstacle(self, shape: Shape) -> Obstacle | None:
        """Return why `shape` can be placed nowhere; None if it only waits for its turn."""
        if shape.group:
            return self._obstacle_in_group(shape)
        if shape.node and not shape.soft:
            node = self._nodes.get(shape.node)
            if node is None or (node.is_lost and self.is_settled):
                return Obstacle(f"node {shape.node.hex()[:12]} is gone", self.is_settled)
            if not self._could_hold(shape, node):
                return Obstacle(f"node {shape.node.hex()[:12]} can never take {shape}", True)
            return None
        open_nodes = [n for n in self._nodes.values() if n.is_open]
        if any(self._could_hold(shape, n) for n in open_nodes):
            return None
        if not open_nodes:
            return Obstacle("the cluster has no node", False)
        text = f"no node of the cluster can take {shape}"
        return Obstacle(text, False, is_infeasible=True)

    def _choose_bundle(self, shape: Shape) -> Spot | None:
        group = self.find_group(shape.group)
        if group is None or not group.is_usable:
            return None
        for bundle in group.select(shape.bundle):
            node = self._nodes.get(bundle.node)
            if node is None or not node.is_open or not shape.allows(node):
                continue
            if bundle.pool.could_hold(shape.must) and bundle.pool.fits(shape.need):
                return Spot(node, bundle.pool, bundle.index)
        return None

    def _obstacle_in_group(self, shape: Shape) -> Obstacle | None:
        group = self.find_group(shape.group)
        name = shape.group.hex()[:12]
        if group is None or group.is_removed:
            return Obstacle(
                f"placement group {name} was removed", True, "PlacementGroupRemoved"
            )
        bundles = group.select(shape.bundle)
        if not bundles:
            return Obstacle(f"placement group {name} has no bundle {shape.bundle}", True)
        wanted = {**shape.must, **shape.need}
        if not any(Pool(bundle.amounts).could_hold(wanted) for bundle in bundles):
            return Obstacle(f"no bundle can ever hold {shape}", True)
        if not group.is_usable:
            return Obstacle(f"placement group {name} is not reserved yet", False)
        return None

    def _fits(self, shape: Shape, node: Node) -> bool:
        return (
            node.is_open
            and node.pool.fits(shape.need)
            and (not shape.must or node.pool.could_hold(shape.must))
            and (not (shape.hard or shape.fallbacks) or shape.allows(node))
        )

    def _could_hold(self, shape: Shape, node: Node) -> bool:
        pool = node.pool
        return (
            pool.could_hold(shape.need) and pool.could_hold(shape.must) and shape.allows(node)
        )

    def _pressure(self, node: Node) -> float:
        """How full a node is, as far as that matters: 0.0 below `spread_from`."""
        cpus = node.pool.total.get("CPU", 0)
        crowd = node.crowd * 2_500 / cpus if cpus else 0.0
        use = max(node.pool.use(), crowd)
        return use if use >= self._spread_from else 0.0

    def _pack(self, shape: Shape, fitting: list[Node], prefer: bytes) -> Node:
        def rank(node: Node) -> tuple[bool, float, bool, int]:
            unlike = not all(_holds(wish, node.labels) for wish in shape.wishes)
            return unlike, self._pressure(node), node.id != prefer, node.order

        return min(fitting, key=rank)

    def _spread(self, fitting: list[Node]) -> Node:
        cursor = self._cursor
        node = min(fitting, key=lambda n: (n.order <= cursor, n.order))
        self._cursor = node.order
        return node


def _no_group(group_id: bytes) -> Group | None:  # noqa: ARG001 - until groups are there
    return None


def _holds(condition: Condition, labels: Mapping[str, str]) -> bool:
    label, op, values = condition
    has = labels.get(label)
    if op == "in":
        return has in values
    if op == "not_in":
        return has not in values
    return (has is not None) == (op == "exists")


def _read_conditions(conditions: Any) -> tuple[Condition, ...]:
    if not isinstance(conditions, dict):
        raise ValueError(f"label conditions must be a dict, not {conditions!r}")
    read = []
    for label, condition in sorted(conditions.items()):
        op, values = condition
        if op not in {"in", "not_in", "exists", "does_not_exist"}:
            raise ValueError(f"unknown label operator {op!r}")
        read.append((str(label), str(op), tuple(str(v) for v in values)))
    return tuple(read)


def _all_hold(conditions: tuple[Condition, ...], node: Node) -> bool:
    return all(_holds(condition, node.labels) for condition in conditions)


def _read_selector(selector: Any) -> tuple[Condition, ...]:
    """Read `{"zone": "in(a,b)"}`: `v`, `!v`, `in(a,b)`, `!in(a,b)`."""
    if not isinstance(selector, dict):
        raise ValueError(f"label_selector must be a dict, not {selector!r}")
    read = []
    for label, text in sorted(selector.items()):
        if not isinstance(label, str) or not isinstance(text, str):
            raise ValueError(f"label_selector maps str to str, not {label!r} to {text!r}")
        op, wanted = ("not_in", text[1:]) if text.startswith("!") else ("in", text)
        if wanted.startswith("in(") and wanted.endswith(")"):
            values = tuple(v.strip() for v in wanted[3:-1].split(","))
        else:
            values = (wanted,)
        read.append((label, op, values))
    return tuple(read)
