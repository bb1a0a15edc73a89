"""Placement options as the broker reads them: strategy, placement group, inherited group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.api.groups import check_bundle

if TYPE_CHECKING:
    from zactor.options import ActorOptions, TaskOptions
    from zactor.runtime.offered import Offered


def placing_of(
    runtime: Offered, options: ActorOptions | TaskOptions, label: str
) -> dict[str, Any]:
    """Return `{"strategy": ..., "group": ...}` of an actor's spec or a task's shape.

    `label` is what errors call the actor or the task.
    """
    chosen = options.placement_group()
    if chosen is not None:
        group = chosen.placement_group
        if group is None:
            return {"strategy": None, "group": None}
        check_bundle(group, chosen.placement_group_bundle_index, options.demand(), label)
        return {
            "strategy": None,
            "group": {
                "id": group.id.binary(),
                "bundle": chosen.placement_group_bundle_index,
                "capture": bool(chosen.placement_group_capture_child_tasks),
            },
        }
    inherited = runtime.session.get("group")
    if inherited and inherited.get("capture") and options.scheduling_strategy is None:
        return {"strategy": None, "group": {**inherited, "bundle": -1}}
    return {"strategy": options.strategy(), "group": None}
