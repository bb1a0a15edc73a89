"""Resources, labels and placement groups of an in-process world: one node, placed on as the broker does.

`core.placement` and `core.groups` decide; this feeds them the world's one node.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from zactor.core.broker_config import BrokerConfig
from zactor.core.deadlines import Deadlines
from zactor.core.groups import Group, Groups
from zactor.core.inventory import group_row
from zactor.core.membership import Node
from zactor.core.placement import Placement
from zactor.core.resources import show_amounts
from zactor.exceptions import ActorAlreadyExistsError, ZactorError
from zactor.runtime.calls.groups import GroupViews
from zactor.runtime.machine import ip_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.core.placement import Obstacle, Shape
    from zactor.core.resources import Holding, Pool
    from zactor.runtime.inprocess.world import World

GONE = "its placement group {} was removed"


class Held:
    """What an actor's life or a task holds, and what of that it has lent while it waits."""

    __slots__ = ("_pool", "group", "holding")

    def __init__(self, pool: Pool, holding: Holding, group: bytes) -> None:
        self._pool = pool
        self.holding = holding
        self.group = group

    def give_back(self) -> None:
        """It has ended."""
        self._pool.give(self.holding)

    def lend(self, is_lent: bool) -> None:  # noqa: FBT001 - a callback's argument
        """While it waits, others may have its CPUs."""
        cpus = self.holding.amounts.get("CPU", 0)
        if cpus:
            (self._pool.lend if is_lent else self._pool.force)("CPU", cpus)


class LocalPlacing:
    """The world's node and its placement groups."""

    def __init__(
        self, world: World, resources: dict[str, float], labels: dict[str, str]
    ) -> None:
        self._world = world
        address = list(world.address(world.node_id))
        self.node = Node(
            {
                "id": world.node_id, "address": address, "resources": resources, "labels": labels,
                "hostname": socket.gethostname(), "ip": ip_address(),
            },
            0,
            0.0,
        )  # fmt: skip
        nodes = {world.node_id: self.node}
        config = BrokerConfig()
        self.placement = Placement(nodes, config.spread_from)
        self.groups = Groups(
            self,  # type: ignore[arg-type] # it has what groups ask of a journal
            Deadlines(),
            config,
            nodes,
            lambda node: None,
        )
        self.placement.find_group = self.groups.find

    # -- a journal, as far as groups need one

    revision = 0

    def put(self, key: bytes, value: Any) -> int:  # noqa: ARG002
        """Nothing outlives a world."""
        self.revision += 1
        return self.revision

    def delete(self, key: bytes) -> None:
        """Nothing outlives a world."""

    def send(self, watcher: bytes, message: Any) -> None:  # noqa: ARG002
        """Tell the world of a group's change."""
        self._world.group_views.learn(message.entry)

    # -- placing

    def starts(self, what: Any, begin: Callable[[], Any]) -> list[Callable[[], Any]]:
        """Return what could be done with an actor or task that waits for its place."""
        shape: Shape = what.place_shape
        if self.placement.has_room(shape):
            return [begin]
        obstacle = self.placement.obstacle(shape)
        if obstacle is not None and obstacle.is_final:
            return [lambda: what.refused(obstacle)]
        return []

    def take(self, shape: Shape) -> Held:
        """Take what something needs that `starts` has found room for."""
        spot = self.placement.choose(shape)
        assert spot is not None
        return Held(spot.pool, spot.pool.take(shape.need), shape.group)

    def obstacle(self, shape: Shape) -> Obstacle | None:
        """Return why something can be placed nowhere, if it cannot."""
        return self.placement.obstacle(shape)

    def amounts(self) -> dict[str, dict[str, float]]:
        """Return what the node has, and what is left of it."""
        pool = self.node.pool
        return {"total": show_amounts(pool.total), "available": show_amounts(pool.available)}

    # -- groups

    def fill(self) -> None:
        """Reserve what can be reserved."""
        self.groups.freed()
        self.groups.fill()

    def create_group(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Enter a group.

        Raises:
            ZactorError: It makes no sense.
            ActorAlreadyExistsError: Its name is taken.
        """
        try:
            group = Group(spec, str(spec.get("namespace") or ""))
        except (ValueError, TypeError) as error:
            raise ZactorError(str(error)) from None
        if group.name and (group.namespace, group.name) in self.groups.names:
            raise ActorAlreadyExistsError(
                f"a placement group named {group.name!r} exists already"
            )
        self.groups.enter(group, 0.0)
        self.groups.fill()
        self.groups.watch(group, b"world")
        return group.entry()

    def remove_group(self, group_id: bytes) -> bool:
        """Give a group up, with what runs in it. Return whether there was one."""
        group = self.groups.find(group_id)
        if group is None or group.is_removed:
            return False
        self.groups.remove(group, {"kind": "removed", "text": "it was removed by its users"})
        text = GONE.format(group_id.hex()[:12])
        for what in self._world.living():
            if what.held is not None and what.held.group == group_id:
                kind = what.kind + "PlacementGroupRemoved"
                cause = {"kind": "group", "text": text, "error": [kind, text, {}]}
                what.life_over(cause, is_final=True)
        return True

    def group_entry(self, group_id: bytes) -> dict[str, Any] | None:
        """Return a group's entry."""
        group = self.groups.find(group_id)
        return group.entry() if group is not None else None

    def group_rows(self, group_id: bytes | None) -> list[dict[str, Any]]:
        """Return groups for listings."""
        return [
            group_row(group)
            for group in self.groups.groups.values()
            if group_id is None or group.id == group_id
        ]


class LocalGroupViews(GroupViews):
    """Placement groups as their users see them: the world tells of every change."""

    def watch(self, group: bytes) -> None:
        """They are all watched; one that is not known will never be there."""
        entry = self._process.world.placing.group_entry(group)  # type: ignore[attr-defined]
        if entry is not None:
            self.learn(entry)
