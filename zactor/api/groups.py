"""Placement groups: bundles of resources that are reserved together."""

from __future__ import annotations

import os
import time
from typing import Any

from zactor.api.session import process
from zactor.core.calls import PENDING, PICKLED
from zactor.core.groups import Group
from zactor.exceptions import ActorAlreadyExistsError, ZactorError
from zactor.ids import PlacementGroupID
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.objects.objects import Put
from zactor.serde.values import dumps
from zactor.wire.messages import Query, WatchGroup

NODE_ID_LABELS = ("ray.io/node-id", "zactor.io/node-id")
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class PlacementGroup:
    """A handle of a placement group. Can be passed to calls and stored."""

    def __init__(
        self, group_id: PlacementGroupID, bundles: list[dict[str, float]] | None = None
    ) -> None:
        self.id = group_id
        self._bundles = bundles
        self._is_new = False  # made here just now: the broker may not know it yet

    @staticmethod
    def empty() -> PlacementGroup:
        """Return a handle of no group."""
        return PlacementGroup(PlacementGroupID(b"\0" * 12), [])

    @property
    def is_empty(self) -> bool:
        """Whether this is a handle of no group."""
        return self.id.is_nil()

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The resources of each bundle."""
        if self._bundles is None:
            entry = process().ask(WatchGroup(0, self.id.binary()))
            self._bundles = entry["bundles"] if entry else []
        return self._bundles or []

    @property
    def bundle_count(self) -> int:
        """How many bundles it has."""
        return len(self.bundle_specs)

    def ready(self) -> ObjectRef[PlacementGroup]:
        """Return a reference that is there once all is reserved; its value is this group."""
        runtime = process()
        identity = runtime.identity
        result = Put(identity.caller, next(identity.numbers), PENDING, None)
        payload = dumps(PlacementGroup(self.id, self._bundles))[0]
        runtime.groups.when_created(self.id.binary(), result, PICKLED, payload)
        return ObjectRef(result)

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Wait until all is reserved; False if it is not within `timeout_seconds`."""
        runtime = process()
        ref = self.ready()
        deadline = time.monotonic() + timeout_seconds
        if not ref._result.state:
            runtime.wait_for([ref._result], 1, deadline)
        return ref._result.state == PICKLED

    def __reduce__(self) -> tuple[Any, ...]:
        if self._is_new:
            # Whoever gets it may ask the broker before what created it has arrived there.
            process().groups.confirm(self.id.binary())
            self._is_new = False
        return PlacementGroup, (self.id, self._bundles)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex()})"


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: dict[str, str] | None = None,
    **_: Any,
) -> PlacementGroup:
    """Ask for resources to be reserved together; return at once.

    That they can be had is known once `wait` or `ready` says so.

    Args:
        bundles: The resources of each bundle: `[{"CPU": 2, "GPU": 1}, ...]`.
        strategy: "PACK" (if nothing is said), "SPREAD", "STRICT_PACK" or "STRICT_SPREAD".
        name: A name to find it by.
        lifetime: "detached": it outlives the process that made it.
        bundle_label_selector: Labels that the node of each bundle must have.
        topology_strategy: `{"ray.io/node-id": strategy}` is the same as `strategy`. Other labels are
            not supported.

    Raises:
        ValueError: An argument makes no sense.
    """
    strategy = _strategy_of(strategy, topology_strategy)
    _check(bundles, strategy, lifetime, bundle_label_selector)
    runtime = process()
    group = os.urandom(12)
    spec: dict[str, Any] = {
        "id": group,
        "bundles": [{key: float(amount) for key, amount in each.items()} for each in bundles],
        "strategy": strategy,
        "name": name or "",
        "namespace": runtime.namespace,
        "lifetime": lifetime or "",
        "labels": bundle_label_selector or {},
        "job": runtime.job,
        "owner": runtime.id,
    }
    try:
        Group(spec, runtime.namespace)  # what the broker would say of it
        runtime.groups.create(spec)
        if name:
            runtime.groups.confirm(group)
    except ActorAlreadyExistsError as error:
        raise ValueError(str(error)) from None
    except ZactorError as error:
        raise ValueError(str(error)) from error
    made = PlacementGroup(PlacementGroupID(group), [dict(each) for each in bundles])
    made._is_new = True
    return made


def _strategy_of(strategy: str | None, topology: Any) -> str:
    if topology is None:
        return "PACK" if strategy is None else strategy
    if strategy is not None:
        raise ValueError("say either `strategy` or `topology_strategy`, not both")
    if not isinstance(topology, dict):
        raise ValueError(f"`topology_strategy` must be a dict, got {type(topology).__name__}.")
    others = topology.keys() - NODE_ID_LABELS
    if others or len(topology) > 1:
        raise ValueError(
            f"`topology_strategy` may name {NODE_ID_LABELS[0]!r} alone; zactor does not place by "
            f"{sorted(map(str, others))}. Use bundle_label_selector for labels of nodes."
        )
    return str(next(iter(topology.values()), "PACK"))


def _check(bundles: Any, strategy: Any, lifetime: Any, selectors: Any) -> None:
    if not isinstance(bundles, list):
        raise ValueError(f"The type of bundles must be list, got {bundles!r}")
    if not bundles:
        raise ValueError(f"Bundles must be a non-empty list of dictionaries, got {bundles!r}")
    for bundle in bundles:
        if not isinstance(bundle, dict) or not bundle:
            raise ValueError(f"Bundles must be non-empty dictionaries, got {bundle!r}")
        for name, amount in bundle.items():
            if (
                not isinstance(name, str)
                or isinstance(amount, bool)
                or not isinstance(amount, int | float)
            ):
                raise ValueError(f"Bundles map resource names to numbers, got {bundle!r}")
            if name == "bundle":
                raise ValueError(
                    f"'bundle' is the name of what a group itself counts, no resource: {bundle!r}"
                )
            if amount < 0:
                raise ValueError(
                    f"A bundle cannot have less than nothing of {name!r}: {bundle!r}"
                )
        if not any(bundle.values()):
            raise ValueError(
                f"Bundles cannot be an empty dictionary or resources with only 0 values: {bundle!r}"
            )
    if strategy not in STRATEGIES:
        raise ValueError(
            f"Invalid `strategy` argument {strategy!r}: it is one of {STRATEGIES}."
        )
    if lifetime not in (None, "detached"):
        raise ValueError(
            "placement group `lifetime` argument must be either `None` or 'detached'"
        )
    if selectors is not None and (
        not isinstance(selectors, list) or len(selectors) != len(bundles)
    ):
        raise ValueError(
            "`bundle_label_selector` must be a list with one selector for each bundle"
        )


def remove_placement_group(group: PlacementGroup) -> None:
    """Give a group's resources back; what runs in it is ended. Returns at once.

    Raises:
        TypeError: Not a placement group.
    """
    if not isinstance(group, PlacementGroup):
        raise TypeError(f"remove_placement_group takes a PlacementGroup, not {type(group)}")
    process().groups.remove(group.id.binary())


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """Return the placement group with this name, in this job's namespace.

    Raises:
        ValueError: There is none.
    """
    if not placement_group_name:
        raise ValueError("Please supply a non-empty value to get_placement_group")
    runtime = process()
    rows = runtime.ask(
        Query(
            0,
            "groups",
            {
                "filters": [
                    ["name", "=", placement_group_name],
                    ["ray_namespace", "=", runtime.namespace],
                    ["state", "!=", "REMOVED"],
                ]
            },
        )
    )
    if not rows:
        raise ValueError(f"Failed to look up placement group with name: {placement_group_name}")
    row = rows[0]
    return PlacementGroup(
        PlacementGroupID(bytes.fromhex(row["placement_group_id"])),
        [bundle["resources"] for bundle in row["bundles"]],
    )


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """Return what is known of a group; of all, by id, if none is given."""
    runtime = process()
    args = {} if placement_group is None else {"id": placement_group.id.binary()}
    table = {
        row["placement_group_id"]: _table_row(row)
        for row in runtime.ask(Query(0, "groups", args))
    }
    if placement_group is None:
        return table
    return table.get(placement_group.id.hex(), {})


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    bundles = row["bundles"]
    return {
        "placement_group_id": row["placement_group_id"],
        "name": row["name"],
        "bundles": {bundle["bundle_index"]: bundle["resources"] for bundle in bundles},
        "bundles_to_node_id": {bundle["bundle_index"]: bundle["node_id"] for bundle in bundles},
        "strategy": row["strategy"],
        "state": row["state"],
        "stats": {"scheduling_state": row["pending_reason"] or row["state"]},
    }


def get_current_placement_group() -> PlacementGroup | None:
    """Return the placement group that the calling task or actor runs in, or None."""
    group = process().session.get("group")
    return PlacementGroup(PlacementGroupID(group["id"])) if group else None


def check_bundle(
    group: PlacementGroup, index: int, demand: dict[str, float], label: str
) -> None:
    """Raise ValueError if what is asked for can never run in the group."""
    bundles = group.bundle_specs
    if index < -1 or (bundles and index >= len(bundles)):
        raise ValueError(
            f"placement group bundle index {index} is invalid. Valid placement group indexes: "
            f"0-{len(bundles) - 1}"
        )
    among = bundles if index < 0 else [bundles[index]]
    if among and not any(
        all(bundle.get(name, 0) >= amount for name, amount in demand.items())
        for bundle in among
    ):
        among = [{name: float(amount) for name, amount in b.items()} for b in among]
        raise ValueError(
            f"Cannot schedule {label} with the placement group because the resource request {demand} "
            f"cannot fit into any bundles for the placement group, {among}."
        )
