"""What a broker would answer, in an in-process world: names, kills, rows for listings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from zactor.core.inventory import shown_cause
from zactor.exceptions import ActorAlreadyExistsError
from zactor.wire.messages import (
    CreateActor,
    CreateGroup,
    FindActor,
    KillActor,
    ListNames,
    Query,
    RemoveGroup,
    WatchActor,
    WatchGroup,
)

if TYPE_CHECKING:
    from zactor.runtime.inprocess.process import LocalProcess
    from zactor.runtime.inprocess.world import World

_WHERE = (
    "an in-process world (zactor.testing.local, local_mode) does not offer {}: use world.trace, or a "
    "real session"
)


class LocalDirectory:
    """Names, and answers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.names: dict[tuple[str, str], bytes] = {}

    def ask(self, process: LocalProcess, message: Any) -> Any:
        """Return the answer to a request.

        Raises:
            NotImplementedError: There is none.
            ZactorError: The answer is an error.
        """
        match message:
            case CreateActor(_, spec):
                return self._create(spec)
            case FindActor(_, name, namespace):
                actor = self.names.get((namespace, name))
                return self._world.views.view(actor).entry if actor is not None else None
            case ListNames(_, namespace):
                return [
                    [where, name]
                    for where, name in self.names
                    if namespace is None or where == namespace
                ]
            case KillActor(_, actor, no_restart):
                return self._kill(actor, no_restart=no_restart)
            case WatchActor(_, actor, _):
                return self._world.views.view(actor).entry
            case Query(_, what, args):
                return self._rows(what, args)
            case CreateGroup(_, spec):
                return self._world.placing.create_group(spec)
            case RemoveGroup(_, group):
                return self._world.placing.remove_group(group)
            case WatchGroup(_, group):
                return self._world.placing.group_entry(group)
        raise NotImplementedError(_WHERE.format(f"this ({type(message).__name__})"))

    def _create(self, spec: dict[str, Any]) -> Any:
        world, name, namespace = self._world, spec.get("name"), spec.get("namespace") or ""
        if name:
            holder = self.names.get((namespace, name))
            if holder is not None:
                if spec.get("get_if_exists"):
                    return world.views.view(holder).entry
                raise ActorAlreadyExistsError(
                    f"an actor named {name!r} exists already in namespace {namespace!r}"
                )
            self.names[namespace, name] = spec["id"]
        world.create(spec)
        return world.views.view(spec["id"]).entry

    def _kill(self, actor: bytes, *, no_restart: bool) -> bool:
        world = self._world
        found = world.actors.get(actor)
        if found is None:
            view = world.views.known(actor)
            if view is None:
                return False
            world.killed_early(view, no_restart=no_restart)
            return True
        if found.state == "DEAD":
            return False
        found.kill(no_restart=no_restart)
        return True

    def free(self, spec: dict[str, Any]) -> None:
        """An actor's name can be taken again."""
        key = (spec.get("namespace") or "", spec.get("name") or "")
        if self.names.get(key) == spec["id"]:
            del self.names[key]

    # -- rows ----------------------------------------------------------------------------------

    def _rows(self, what: str, args: dict[str, Any]) -> Any:
        if what == "resources":
            return self._world.placing.amounts()
        if what == "nodes":
            rows = [self._world.placing.node.describe()]
        elif what == "actors":
            rows = [self._actor(actor) for actor in self._world.actors.values()]
        elif what == "groups":
            rows = self._world.placing.group_rows(args.get("id"))
        elif what == "leases":
            rows = []
        elif what == "tasks":
            rows = list(self._world.listing.calls())
        elif what == "workers":
            rows = list(self._world.listing.workers())
        elif what == "jobs":
            rows = list(self._world.listing.jobs())
        else:
            raise NotImplementedError(_WHERE.format(f"listings of {what}"))
        for key, op, value in args.get("filters") or ():
            rows = [row for row in rows if (str(row.get(key)) == str(value)) == (op == "=")]
        return rows[: args.get("limit") or None]

    def _actor(self, actor: Any) -> dict[str, Any]:
        spec, entry = actor.spec, actor.view.entry
        alive = actor.state == "ALIVE"
        state = "PENDING_CREATION" if actor.state == "PENDING" else actor.state
        return {
            "actor_id": actor.id.hex(), "class_name": spec.get("class_name") or "",
            "state": state, "job_id": self._world.job.hex(), "name": spec.get("name") or "",
            "node_id": self._world.node_id.hex() if alive else None,
            "pid": actor.process.pid if alive else 0, "ray_namespace": spec.get("namespace") or "",
            "num_restarts": actor.restarts, "repr_name": entry.get("repr_name") or "",
            "is_detached": spec.get("lifetime") == "detached",
            "required_resources": spec.get("running") or {},
            "death_cause": shown_cause(entry.get("cause")),
        }  # fmt: skip


def address_of(process: bytes, node: bytes) -> tuple[bytes, bytes, bytes, str, str]:
    """Return the fields of an address that nothing can be sent to."""
    return process, node, b"inproc", f"ipc://{os.path.join('/inproc', process.hex())}", ""
