"""What drivers, workers and tools ask of a broker, message by message.

Each handler takes `(peer, message, now)`. That of a request returns the answer's value, raises
`RefusedError`, or returns `LATER` if the answer is given by itself, or has been. Requests that
change something are answered the same when they are repeated (`CHANGING`).

    message           answered with                    kinds of error
    Attach            session dict                     SessionLost, TooMany
    Detach            True
    CreateActors      [[actor id, error]]              as CreateActor
    CreateActor       entry                            NameTaken, BadRequest, JobEnded, ActorDied, TooMany
    WatchActor        entry                            ActorHandleNotFound (not heard of within a while)
    KillActor         True | False
    FindActor         entry | None
    ListNames         [[namespace, name]]
    FetchDefinition   blob | None (not heard of within a while)
    WatchProcess      None | [process, cause]
    CreateGroup       group entry                      NameTaken, BadRequest, JobEnded, ActorDied, TooMany
    RemoveGroup       True | False
    WatchGroup        group entry | None
    Query             rows                             BadRequest
    DrainNode         True | False

Who creates an actor or a group watches it from then on, as if it had said `WatchActor` too.

Does not decide what a request means for others (`core.cluster`, `core.lifecycle`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.directory import DEAD, check_spec
from zactor.core.events import INFO
from zactor.core.groups import Group
from zactor.core.inventory import Inventory
from zactor.core.placement import shape_of_actor
from zactor.core.specs import SharedSpec
from zactor.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zactor.core.cluster import Cluster

LATER = object()

CHANGING = (
    m.Attach,
    m.CreateActor,
    m.CreateActors,
    m.KillActor,
    m.CreateGroup,
    m.RemoveGroup,
    m.DrainNode,
)


class RefusedError(Exception):
    """A request is answered with an error."""

    def __init__(self, kind: str, text: str, **fields: Any) -> None:
        super().__init__(text)
        self.wire = [kind, text, fields]


class ClientRequests:
    """The handlers, on the parts of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._inventory = Inventory(cluster)
        self.handlers: dict[type, Any] = {
            m.Attach: self._attach,
            m.Detach: self._detach,
            m.CreateActor: self._create_actor,
            m.CreateActors: self._create_actors,
            m.WatchActor: self._watch_actor,
            m.UnwatchActor: self._unwatch_actor,
            m.ReleaseActor: self._release_actor,
            m.KillActor: self._kill_actor,
            m.FindActor: self._find_actor,
            m.ListNames: self._list_names,
            m.Define: self._define,
            m.FetchDefinition: self._fetch_definition,
            m.Demand: self._demand,
            m.ReturnLease: self._return_lease,
            m.Blocked: self._blocked,
            m.WatchProcess: self._watch_process,
            m.CreateGroup: self._create_group,
            m.RemoveGroup: self._remove_group,
            m.WatchGroup: self._watch_group,
            m.Query: self._query,
            m.DrainNode: self._drain_node,
        }

    # -- sessions

    def _attach(self, peer: bytes, message: m.Attach, now: float) -> Any:
        cluster = self._cluster
        sessions = cluster.sessions
        was = cluster.processes.dead.get(peer)
        if was is not None:
            if was.get("kind") != "detached":
                raise RefusedError("SessionLost", str(was.get("text") or "the session is over"))
            del cluster.processes.dead[peer]  # the same process opens another session
        address = read_address(message.address)
        if address is None or address.process != peer:
            raise RefusedError("BadRequest", "Attach must carry the address of its sender")
        cluster.journal.book[peer] = address
        if message.role == "tool":
            sessions.tools.setdefault(peer, message.namespace or cluster.ids.new_id().hex())
            cluster.processes.enter(peer, "tool", b"", _pid(message.metadata))
            return self._session(peer, b"", sessions.tools[peer], cluster.find_home(peer))
        if message.role != "driver":
            raise RefusedError("BadRequest", f"there is no role {message.role!r}")
        job = sessions.by_driver.get(peer)
        if job is None:
            if len(sessions.by_driver) >= cluster.config.max_clients:
                raise RefusedError("TooMany", "the cluster has no room for another driver")
            namespace = message.namespace or (cluster.ids.new_id() + cluster.ids.new_id()).hex()
            cluster.processes.enter(peer, "driver", b"", _pid(message.metadata))
            job = sessions.open(peer, address, namespace, message.metadata, now)
            text = f"job {job.id.hex()} has begun: {job.metadata.get('entrypoint') or '?'}"
            cluster.journal.events.add(INFO, "JOB_STARTED", text, job=job.id)
            self._tell_notices(peer)
        return self._session(peer, job.id, job.namespace, cluster.find_home(peer))

    def _tell_notices(self, driver: bytes) -> None:
        for node in self._cluster.membership.nodes.values():
            for text in node.notices:
                notice = m.Notice(f"node {node.id.hex()[:12]}: {text}")
                self._cluster.journal.send(driver, notice)

    def _session(self, peer: bytes, job: bytes, namespace: str, node: bytes) -> dict[str, Any]:
        cluster = {**self._cluster.config.cluster, "term": self._cluster.term}
        own = self._cluster.membership.on_machine(self._cluster.journal.book[peer].machine)
        address = list(own.address) if own is not None else None
        return {
            "job": job, "namespace": namespace, "node": node, "node_address": address,
            "cluster": cluster,
        }  # fmt: skip

    def _detach(self, peer: bytes, message: m.Detach, now: float) -> Any:
        cluster = self._cluster
        cluster.journal.send(peer, m.Answer(message.request, True, True))
        cause = {"kind": "detached", "code": 0, "text": "the driver has shut down"}
        job = cluster.sessions.by_driver.get(peer)
        if job is not None and cluster.journal.forgets and len(cluster.sessions.by_driver) == 1:
            return LATER  # an embedded cluster's last driver has started it, and ends all of it now
        if job is not None:
            cluster.end_job(job, cause, now)
        elif peer in cluster.sessions.tools:
            cluster.process_died(peer, cause, now)
        return LATER

    def _namespace_of(self, peer: bytes) -> str:
        job = self._cluster.sessions.by_driver.get(peer)
        return job.namespace if job is not None else self._cluster.sessions.tools.get(peer, "")

    # -- actors

    def _create_actor(self, peer: bytes, message: m.CreateActor, now: float) -> Any:
        cluster, spec = self._cluster, message.spec
        directory = cluster.directory
        try:
            check_spec(spec)
        except ValueError as error:
            raise RefusedError("BadRequest", str(error)) from None
        known = directory.actors.get(spec["id"])
        if known is not None:
            directory.watch(known, peer)
            return known.entry()
        self._check_owner(spec, "actor")
        namespace = spec.get("namespace") or cluster.sessions.jobs[spec["job"]].namespace
        name = spec.get("name")
        holder = directory.find(namespace, name) if name else None
        if holder is not None:
            if not spec.get("get_if_exists"):
                # The error makes its own text of the fields.
                raise RefusedError("NameTaken", "", name=name, namespace=namespace)
            directory.watch(holder, peer)
            return holder.entry()
        if len(directory.actors) >= cluster.config.max_actors:
            raise RefusedError("TooMany", f"the cluster holds {len(directory.actors)} actors")
        return self._enter_actor(peer, spec, namespace, now)

    def _create_actors(self, peer: bytes, message: m.CreateActors, now: float) -> Any:
        cluster, common = self._cluster, message.common
        directory, lifecycle = cluster.directory, cluster.lifecycle
        refused: list[Any] = []
        shape, namespace = None, ""
        if not all(type(row) is list and len(row) == 2 for row in message.rows):
            raise RefusedError("BadRequest", "a row of CreateActors is an id and arguments")
        for actor_id, args in message.rows:
            spec = SharedSpec(common, actor_id, args)
            if shape is None:
                try:
                    check_spec(spec)
                    shape = shape_of_actor(spec)
                except (ValueError, TypeError) as error:
                    raise RefusedError("BadRequest", str(error)) from None
                self._check_owner(spec, "actor")
                namespace = (
                    spec.get("namespace") or cluster.sessions.jobs[spec["job"]].namespace
                )
            if type(actor_id) is not bytes or len(actor_id) != len(spec["owner"]):
                refused.append([actor_id, ["BadRequest", "that is no actor id", {}]])
            elif actor_id in directory.actors:
                directory.watch(directory.actors[actor_id], peer)
            elif len(directory.actors) >= cluster.config.max_actors:
                text = f"the cluster holds {len(directory.actors)} actors"
                refused.append([actor_id, ["TooMany", text, {}]])
            else:
                actor = lifecycle.create(spec, namespace, now, shape=shape, common=common)
                directory.watch(actor, peer)
                self._unpark(("actor", actor_id), now)
        cluster.settle(now)
        return refused

    def _enter_actor(
        self, peer: bytes, spec: dict[str, Any], namespace: str, now: float
    ) -> Any:
        cluster = self._cluster
        try:
            actor = cluster.lifecycle.create(spec, namespace, now)
        except (ValueError, TypeError) as error:
            raise RefusedError("BadRequest", str(error)) from None
        cluster.directory.watch(actor, peer)
        cluster.settle(now)
        if not actor.revision:
            cluster.directory.save(actor)
        self._unpark(("actor", actor.id), now)
        return actor.entry()

    def _check_owner(self, spec: Mapping[str, Any], what: str) -> None:
        """Refuse to make something for a job or an owner that is gone."""
        if not self._cluster.is_job_open(spec["job"]):
            raise RefusedError("JobEnded", f"the job {spec['job'].hex()} is over")
        owner = spec["owner"]
        if spec.get("lifetime") != "detached" and owner in self._cluster.processes.dead:
            text = f"the {what} cannot be: its owner {owner.hex()[:12]} is dead"
            raise RefusedError("ActorDied", text, executed="no")

    def _watch_actor(self, peer: bytes, message: m.WatchActor, now: float) -> Any:
        actor = self._cluster.directory.actors.get(message.actor)
        if actor is None:
            return self._park(("actor", message.actor), peer, message, now)
        self._cluster.directory.watch(actor, peer)
        if message.network and actor.state != DEAD:
            self._cluster.lifecycle.want_network(actor)
        return actor.entry()

    def _unwatch_actor(self, peer: bytes, message: m.UnwatchActor, now: float) -> Any:
        self._cluster.directory.unwatch(message.actor, peer)

    def _release_actor(self, peer: bytes, message: m.ReleaseActor, now: float) -> Any:
        actor = self._cluster.directory.actors.get(message.actor)
        if actor is not None and not actor.is_detached:
            cause = {"kind": "released", "text": "all handles of it are gone"}
            self._cluster.lifecycle.end(actor, cause, now, graceful=True)

    def _kill_actor(self, peer: bytes, message: m.KillActor, now: float) -> Any:
        actor = self._cluster.directory.actors.get(message.actor)
        if actor is None or actor.state == DEAD:
            return False
        if message.no_restart:
            cause = {"kind": "killed", "code": 0, "text": "it was killed by kill()"}
            self._cluster.lifecycle.end(actor, cause, now)
        else:
            self._cluster.lifecycle.crash(actor)
        return True

    def _find_actor(self, peer: bytes, message: m.FindActor, now: float) -> Any:
        namespace = message.namespace or self._namespace_of(peer)
        actor = self._cluster.directory.find(namespace, message.name)
        return actor.entry() if actor is not None else None

    def _list_names(self, peer: bytes, message: m.ListNames, now: float) -> Any:
        names = self._cluster.directory.names
        wanted = message.namespace
        return [[ns, name] for ns, name in names if wanted is None or ns == wanted]

    # -- definitions

    def _define(self, peer: bytes, message: m.Define, now: float) -> Any:
        if not self._cluster.is_job_open(message.job):
            return
        if not self._cluster.definitions.define(message.key, message.blob, message.job):
            text = (
                f"a definition of {len(message.blob)} bytes was not kept: the bound is reached"
            )
            self._cluster.journal.report("warning", text)
            return
        self._unpark(("definition", message.key), now)

    def _fetch_definition(self, peer: bytes, message: m.FetchDefinition, now: float) -> Any:
        blob = self._cluster.definitions.get(message.key)
        if blob is None:
            return self._park(("definition", message.key), peer, message, now)
        return blob

    # -- leases

    def _demand(self, peer: bytes, message: m.Demand, now: float) -> Any:
        leases = self._cluster.leases
        try:
            leases.demanded(peer, message.key, message.shape, message.count, now)
        except (ValueError, TypeError) as error:
            failed = m.DemandFailed(message.key, True, ["BadRequest", str(error), {}])
            self._cluster.journal.send(peer, failed)

    def _return_lease(self, peer: bytes, message: m.ReturnLease, now: float) -> Any:
        self._cluster.leases.returned(peer, message.lease, now, reusable=message.reusable)

    def _blocked(self, peer: bytes, message: m.Blocked, now: float) -> Any:
        if not self._cluster.leases.blocked(peer, is_blocked=message.is_blocked):
            self._cluster.lifecycle.blocked(
                peer, is_blocked=message.is_blocked, is_all=message.is_all
            )

    # -- processes and groups

    def _watch_process(self, peer: bytes, message: m.WatchProcess, now: float) -> Any:
        cluster, process = self._cluster, message.process
        cause = cluster.processes.dead.get(process)
        if cause is not None:
            return [process, cause]
        cluster.processes.watch(process, peer)
        if process not in cluster.processes.living:
            # Its node's word of it may be on its way; if none comes, it died long ago.
            settled = cluster.placement.is_settled
            config = cluster.config
            grace = config.unknown_grace if settled else config.restart_grace
            if ("unknown", process) not in cluster.deadlines:
                cluster.deadlines.set(("unknown", process), now + grace)
        return None

    def _create_group(self, peer: bytes, message: m.CreateGroup, now: float) -> Any:
        cluster, spec = self._cluster, message.spec
        groups = cluster.groups
        try:
            group = Group(spec, str(spec.get("namespace") or ""))
        except (ValueError, TypeError) as error:
            raise RefusedError("BadRequest", str(error)) from None
        known = groups.find(group.id)
        if known is not None:
            groups.watch(known, peer)
            return known.entry()
        self._check_owner(spec, "placement group")
        group.namespace = group.namespace or cluster.sessions.jobs[group.job].namespace
        if group.name and (group.namespace, group.name) in groups.names:
            text = f"a placement group named {group.name!r} exists already"
            raise RefusedError("NameTaken", text, name=group.name, namespace=group.namespace)
        if len(groups.groups) >= cluster.config.max_groups:
            raise RefusedError("TooMany", f"the cluster holds {len(groups.groups)} groups")
        groups.enter(group, now)
        cluster.settle(now)
        groups.watch(group, peer)
        self._unpark(("group", group.id), now)
        return group.entry()

    def _remove_group(self, peer: bytes, message: m.RemoveGroup, now: float) -> Any:
        group = self._cluster.groups.find(message.group)
        if group is None or group.is_removed:
            return False
        cause = {"kind": "removed", "text": "it was removed by its users"}
        self._cluster.remove_group(group, cause, now)
        return True

    def _watch_group(self, peer: bytes, message: m.WatchGroup, now: float) -> Any:
        group = self._cluster.groups.find(message.group)
        if group is None:
            return self._park(("group", message.group), peer, message, now)
        self._cluster.groups.watch(group, peer)
        return group.entry()

    # -- people and tools

    def _query(self, peer: bytes, message: m.Query, now: float) -> Any:
        try:
            return self._inventory.answer(message.what, message.args)
        except (ValueError, TypeError) as error:
            raise RefusedError("BadRequest", str(error)) from None

    def _drain_node(self, peer: bytes, message: m.DrainNode, now: float) -> Any:
        node = self._cluster.membership.nodes.get(message.node)
        if node is None:
            return False
        self._cluster.membership.drain(node)
        self._cluster.waiting.recheck()
        return True

    # -- what is not there yet

    def _park(self, key: Any, peer: bytes, message: Any, now: float) -> Any:
        if not self._cluster.parking.park(key, peer, message, now):
            raise RefusedError("TooMany", "too many requests wait for what is not known")
        return LATER

    def _unpark(self, key: Any, now: float) -> None:
        for peer, message in self._cluster.parking.take(key):
            value = self.handlers[type(message)](peer, message, now)
            self._cluster.journal.send(peer, m.Answer(message.request, True, value))

    def overdue(self, number: int, now: float) -> None:
        """What a parked request waited for has not come."""
        peer, message = self._cluster.parking.overdue(number)
        answer = m.Answer(message.request, True, None)
        if isinstance(message, m.WatchActor):
            text = f"no actor {message.actor.hex()[:12]} is known to this cluster"
            error = ["ActorHandleNotFound", text, {"actor_id": message.actor.hex()}]
            answer = m.Answer(message.request, False, error)
        self._cluster.journal.send(peer, answer)


def read_address(fields: list[Any]) -> m.Address | None:
    """Read an address off the wire; None if it is none."""
    kinds = (bytes, bytes, bytes, str, str)
    if len(fields) != len(kinds):
        return None
    if not all(isinstance(f, k) for f, k in zip(fields, kinds, strict=True)):
        return None
    return m.Address(*fields)


def _pid(metadata: dict[str, Any]) -> int:
    pid = metadata.get("pid", 0)
    return pid if isinstance(pid, int) else 0
