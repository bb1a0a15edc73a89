"""The directory: which actors exist, what they are called, where they live, who watches them.

Does not place, start or end actors (`core.lifecycle` does); it enters what was decided, keeps
the indexes, and tells watchers.

ActorSpec: the keys of `spec` in `CreateActor`
----------------------------------------------
Everything is a plain value. Only `id`, `job`, `owner` and `class_key` must be there; the right-hand
column is what an absent key means.

    id                  bytes 12   actor id, made by the client: creating it twice is the same as once
    job                 bytes 4    the job it belongs to
    owner               bytes 12   process id of the creator's process; the actor dies with it unless detached
    owner_caller        bytes 16   caller id of the creator (driver session, or one life of an actor);  b""
                                   the actor also dies when that life ends, unless detached
    name                str        ""   no name
    namespace           str        ""   the job's namespace
    lifetime            str        ""   "" | "detached"
    get_if_exists       bool       False
    class_key           bytes      key of the pickled class, see `Define`
    class_name          str        ""   for errors, logs and `list actors`
    methods             any        None opaque here; comes back in the entry, so that a handle can be made of it
    args                dict       {}   opaque, also bytes: {"payload": bytes, "frames": [bytes], "slots": list};
                                   dropped at death
    placing             {str: num} {}   what a node must have in all to be chosen ({"CPU": 1} by default).
                                   Compared with what the node (or bundle) has in total; held by nobody.
    running             {str: num} {}   what the actor holds from `StartActor` to the end of that life
    strategy            see below  None
    group               dict       None {"id": group id, "bundle": int (-1: any), "capture": bool}
    label_selector      {str: str} {}   all must hold: "v", "!v", "in(a,b)", "!in(a,b)"
    fallback            list       []   {"label_selector": ...} each: what does if no node has those labels
    max_restarts        int        0    -1: without limit
    max_task_retries    int        0    for callers; the broker does not look at it
    max_concurrency     int        1    for the worker
    concurrency_groups  {str: int} {}   for the worker
    is_async            bool       False for the worker
    isolation           str        "process"  | "shared": the node may put it beside others in one worker
    max_pending_calls   int        -1   for callers
    env                 dict       {}   runtime_env; workers of unequal env are never shared
    options             dict       {}   anything else, opaque; comes back in the entry

`placing` uses "CPU", "GPU", "memory", or a custom name; numbers are multiples of 0.0001.

`strategy` (of actors, and of the shape in `Demand`):

    None | "DEFAULT"                                    near the caller until half full, then the emptiest
    "SPREAD"                                            round robin over the nodes that fit
    {"kind": "node", "node": node id, "soft": bool}     that node; soft: else any
    {"kind": "labels", "hard": L, "soft": L}            L = {label: [op, [values]]},
                                                        op "in" | "not_in" | "exists" | "does_not_exist"

`spec` in `StartActor` is the same dict with `namespace` filled in, and besides:

    epoch     int            restarts  int (crashes so far; > 0: this life is a reconstruction)
    gpu_ids   [int]          the GPUs of the node that this life may see
    assigned  {str: float}   the resources it holds
    network   bool           bind tcp at once: somebody on another machine asks for it

The entry: what `CreateActor`, `WatchActor`, `FindActor` answer and `ActorChanged` carries
-----------------------------------------------------------------------------------------
    id job owner owner_caller name namespace lifetime class_key class_name methods max_restarts
    max_task_retries max_concurrency concurrency_groups is_async isolation max_pending_calls group
    label_selector options env      as in the spec
    resources       {str: float}   the spec's `running`
    state           str            PENDING STARTING ALIVE RESTARTING DEAD
    cause           dict | None    why it is DEAD, or why the last life ended (RESTARTING and after)
    ending          dict | None    set while a kill or release is under way: the cause it will die of. New
                                   calls need not be sent; the name is free already
    life epoch      int            0 until first started. `life` is new at every start
    restarts        int            how often it was started again after a crash
    node            bytes          b"" while it has none
    address         list | None    Address of its worker, from `ActorUp` on (calls queue there)
    pid             int            0 while it has no worker
    repr_name       str            its repr, once ALIVE
    pending_reason  str            why it is not placed yet, when that takes long; else ""
    revision        int            of this entry; later is greater

`cause` is `{"kind": str, "text": str, ...}`:

    exit signal killed oom node     the worker's death, as in `WorkerDied` (with "code"); "killed" also: `kill`
    constructor                     `__init__` raised; "error" is the wire error with the pickled exception
    environment                     the runtime_env cannot be built; "error"
    exited                          it ended itself (exit_actor)
    released                        the last handle is gone
    owner                           its owner died; "owner" is the process id
    job                             its job ended
    group                           its placement group was removed
    unschedulable                   no node can ever take it; "error"
    spawn                           no worker could be started, on any node, again and again; "error"

Invariants
    D1  A name in a namespace is held by at most one actor, one that is neither DEAD nor ending.
    D2  An actor leaves DEAD never, and is forgotten only from there, oldest first, above a bound.
    D3  `revision` of an entry rises at each change; `life` and `epoch` never fall.
    D4  The indexes by node, process, owner and job hold exactly the actors that are not DEAD.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from zactor.core.resources import NOTHING, Holding, show_amounts
from zactor.core.restarts import CrashRecord
from zactor.core.specs import without_arguments
from zactor.ids import CALLER_ID_SIZE, caller_id
from zactor.wire.messages import ActorChanged, ActorsMoved, Address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zactor.core.broker_config import BrokerConfig
    from zactor.core.journal import Journal
    from zactor.core.placement import Shape
    from zactor.core.resources import Pool

PENDING = "PENDING"
STARTING = "STARTING"
ALIVE = "ALIVE"
RESTARTING = "RESTARTING"
FEW = 8  # actors that came up in one step and whose watchers get their whole entries
DEAD = "DEAD"
NOWHERE: frozenset[bytes] = frozenset()  # one for all: each call of frozenset() makes 216 bytes

# What handles and callers need of the spec; copied into the entry as it is.
_DEFAULTS: dict[str, Any] = {
    "owner_caller": b"",
    "lifetime": "",
    "class_name": "",
    "methods": None,
    "max_restarts": 0,
    "max_task_retries": 0,
    "max_concurrency": 1,
    "concurrency_groups": {},
    "is_async": False,
    "isolation": "process",
    "max_pending_calls": -1,
    "group": None,
    "label_selector": {},
    "options": {},
    "env": {},
}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "id": bytes, "job": bytes, "owner": bytes, "class_key": bytes, "owner_caller": bytes,
    "name": str, "namespace": str, "lifetime": str, "get_if_exists": bool, "class_name": str,
    "args": (dict, bytes), "placing": dict, "running": dict, "label_selector": dict,
    "max_restarts": int, "max_task_retries": int, "max_concurrency": int,
    "concurrency_groups": dict, "is_async": bool, "isolation": str, "max_pending_calls": int,
    "env": dict, "options": dict, "group": dict,
}  # fmt: skip
_REQUIRED = ("id", "job", "owner", "class_key")


def check_spec(spec: Mapping[str, Any]) -> None:
    """Check the types of an ActorSpec.

    Raises:
        ValueError: A key is missing or of the wrong type; the text names it.
    """
    for name in _REQUIRED:
        if name not in spec:
            raise ValueError(f"the actor spec lacks {name!r}")
    for name, value in spec.items():
        wanted = _TYPES.get(name)
        if wanted is None or (value is None and name not in _REQUIRED):
            continue
        if not isinstance(value, wanted):
            raise ValueError(f"{name!r} of the actor spec cannot be {value!r}")
    if len(spec["id"]) != 12:
        raise ValueError("an actor id has 12 bytes")
    if spec.get("lifetime") not in {None, "", "detached", "non_detached"}:
        raise ValueError(f"lifetime cannot be {spec['lifetime']!r}")
    if spec.get("owner_caller") and len(spec["owner_caller"]) != CALLER_ID_SIZE:
        raise ValueError("owner_caller must be a caller id")


class Actor:
    """One actor, from `CreateActor` until it is forgotten."""

    __slots__ = (
        "address", "attempts", "avoid", "bundle", "cause", "common", "crashes", "ending", "epoch",
        "holding", "id", "is_detached", "job", "last", "lent", "life", "namespace", "network",
        "node", "owner", "pending_reason", "pid", "pool", "repr_name", "restarts", "revision", "shape",
        "spec", "state", "watchers",
    )  # fmt: skip

    def __init__(self, spec: Mapping[str, Any], namespace: str, shape: Shape | None) -> None:
        self.spec = spec
        self.id: bytes = spec["id"]
        self.job: bytes = spec["job"]
        self.owner: bytes = spec["owner"]
        self.namespace = namespace
        self.is_detached = spec.get("lifetime") == "detached"
        self.shape = shape
        self.state = PENDING
        self.cause: dict[str, Any] | None = None
        self.ending: dict[str, Any] | None = None
        self.life = 0
        self.epoch = 0
        self.restarts = 0
        self.node = b""  # where its present life is; b"" between lives
        self.bundle = -1  # the bundle of its group that its life is in
        self.address: Address | None = None
        self.pid = 0
        self.last: tuple[bytes, bytes, int] | None = (
            None  # node, process, pid of the life before
        )
        self.repr_name = ""
        self.pending_reason = ""
        self.revision = 0
        self.network = False  # somebody asked for a tcp endpoint
        self.holding: Holding = NOTHING  # of its present life
        self.pool: Pool | None = None  # what `holding` was taken from
        self.lent: dict[str, int] = {}  # of `holding`, while it waits
        self.attempts = 0  # workers that failed to start since the last that did
        self.avoid = NOWHERE  # nodes where they failed
        self.crashes: CrashRecord | None = None
        # Process ids. Mostly that of the creator alone: then a tuple that its actors share.
        self.watchers: tuple[bytes, ...] | dict[bytes, None] = ()
        self.common: dict[str, Any] | None = (
            None  # of the specs it was created with, if several
        )

    def watch_no_more(self, watcher: bytes) -> None:
        """Take out one of its watchers."""
        if type(self.watchers) is dict:
            self.watchers.pop(watcher, None)
        else:
            self.watchers = ()

    def moved(self) -> list[Any]:
        """Return its row for `ActorsMoved`."""
        return [
            self.id, self.revision, self.state, self.life, self.epoch, self.node,
            list(self.address) if self.address else None, self.pid, self.repr_name,
        ]  # fmt: skip

    @property
    def name(self) -> str:
        """Its name, or ""."""
        return self.spec.get("name") or ""

    @property
    def label(self) -> str:
        """What texts call it."""
        name = f" {self.name!r}" if self.name else ""
        return f"actor{name} ({self.spec.get('class_name') or '?'}, {self.id.hex()[:12]})"

    @property
    def has_life(self) -> bool:
        """Whether a node runs, or is starting, a life of it."""
        return bool(self.node)

    def entry(self) -> dict[str, Any]:
        """Return the entry as clients get it; see the module's docstring."""
        spec = self.spec
        entry = {key: spec.get(key, default) for key, default in _DEFAULTS.items()}
        entry.update(
            id=self.id, job=self.job, owner=self.owner, namespace=self.namespace,
            name=self.name, class_key=spec["class_key"],
            resources=show_amounts(self.shape.need) if self.shape else {},
            state=self.state, cause=self.cause, ending=self.ending, life=self.life,
            epoch=self.epoch, restarts=self.restarts, node=self.node,
            address=list(self.address) if self.address else None, pid=self.pid,
            repr_name=self.repr_name, pending_reason=self.pending_reason,
            revision=self.revision,
        )  # fmt: skip
        return entry

    def record(self) -> list[Any]:
        """Return what changes, for a broker that is started again. In a list: there are many."""
        return [
            self.state, self.cause, self.ending, self.life, self.epoch, self.restarts, self.node,
            self.bundle, self.pid, self.repr_name, self.network, self.address,
            self.holding.amounts, self.holding.gpus,
        ]  # fmt: skip

    def restore(self, record: list[Any], revision: int) -> None:
        """Be as `record` says."""
        (
            self.state, self.cause, self.ending, self.life, self.epoch, self.restarts, self.node,
            self.bundle, self.pid, self.repr_name, self.network, address, amounts, gpus,
        ) = record  # fmt: skip
        self.address = Address(*address) if address else None
        self.holding = Holding(amounts, tuple((gpu, units) for gpu, units in gpus))
        self.revision = revision


class Directory:
    """All actors, and who wants to hear of them."""

    def __init__(self, journal: Journal, config: BrokerConfig) -> None:
        self._journal = journal
        self._config = config
        self.actors: dict[bytes, Actor] = {}
        self.names: dict[tuple[str, str], bytes] = {}
        self.by_job: dict[bytes, dict[bytes, None]] = {}
        self.by_owner: dict[bytes, dict[bytes, None]] = {}
        self.by_caller: dict[bytes, dict[bytes, None]] = {}  # owner_caller -> actors
        self.by_process: dict[bytes, dict[bytes, None]] = {}
        self.watched: dict[bytes, dict[bytes, None]] = {}  # watcher -> actors
        self._alone: dict[bytes, tuple[bytes]] = {}  # watcher -> itself, for `Actor.watchers`
        self.dead: OrderedDict[bytes, None] = OrderedDict()
        self._moved: dict[bytes, Actor] = {}  # changed by coming up; watchers are not told yet
        self.counts = dict.fromkeys((PENDING, STARTING, ALIVE, RESTARTING, DEAD), 0)

    def enter(self, actor: Actor) -> None:
        """Enter a new actor; its name must be free."""
        self.actors[actor.id] = actor
        self.counts[actor.state] += 1
        if actor.state == DEAD:
            self.dead[actor.id] = None
            return
        if actor.name and actor.ending is None:
            assert (actor.namespace, actor.name) not in self.names, "D1"
            self.names[actor.namespace, actor.name] = actor.id
        for index, key in self._indexes(actor):
            index.setdefault(key, {})[actor.id] = None
        if actor.address is not None:
            self.by_process.setdefault(actor.address.process, {})[actor.id] = None

    def _indexes(self, actor: Actor) -> list[tuple[dict[bytes, dict[bytes, None]], bytes]]:
        indexes = [(self.by_job, actor.job), (self.by_owner, actor.owner)]
        caller = actor.spec.get("owner_caller")
        if caller:
            indexes.append((self.by_caller, caller))
        return indexes

    def find(self, namespace: str, name: str) -> Actor | None:
        """Return who holds the name."""
        actor_id = self.names.get((namespace, name))
        return self.actors[actor_id] if actor_id is not None else None

    def free_name(self, actor: Actor) -> None:
        """Let somebody else have its name."""
        key = (actor.namespace, actor.name)
        if self.names.get(key) == actor.id:
            del self.names[key]

    def set_state(self, actor: Actor, state: str) -> None:
        """Change the state of an actor; tell nobody yet."""
        self.counts[actor.state] -= 1
        self.counts[state] += 1
        actor.state = state

    def set_address(self, actor: Actor, address: Address | None) -> None:
        """Enter where its worker is, or that it has none."""
        old = actor.address
        actor.address = address
        if old is not None and (address is None or address.process != old.process):
            _discard(self.by_process, old.process, actor.id)
        if address is not None and actor.state != DEAD:
            self.by_process.setdefault(address.process, {})[actor.id] = None

    def save(self, actor: Actor) -> None:
        """Write a change down without telling watchers."""
        if self._journal.forgets:
            actor.revision = self._journal.rise()
        else:
            if not actor.revision:
                self._save_spec(actor)
            actor.revision = self._journal.put(b"actor/" + actor.id, actor.record())

    def moved(self, actor: Actor) -> None:
        """Write a change down that is no end; watchers are told with others' at the step's end."""
        self.save(actor)
        if actor.watchers:
            self._moved[actor.id] = actor

    def publish(self) -> None:
        """Tell watchers of those that moved."""
        moved, self._moved = self._moved, {}
        if len(moved) <= FEW:
            for actor in moved.values():
                entry = actor.entry()
                for watcher in actor.watchers:
                    self._journal.send(watcher, ActorChanged(entry, []))
            return
        rows: dict[bytes, list[Any]] = {}
        for actor in moved.values():
            row = actor.moved()
            for watcher in actor.watchers:
                rows.setdefault(watcher, []).append(row)
        for watcher, theirs in rows.items():
            self._journal.send(watcher, ActorsMoved(theirs))

    def _save_spec(self, actor: Actor) -> None:
        # Apart from what changes: it can be large.
        self._journal.put(b"spec/" + actor.id, [actor.namespace, dict(actor.spec)])

    def changed(self, actor: Actor, progress: list[Any] | None = None) -> None:
        """Write a change down and tell the watchers, each with the rows that are its own."""
        self.save(actor)
        self._moved.pop(actor.id, None)
        if not actor.watchers:
            return
        entry = actor.entry()
        for watcher in actor.watchers:
            rows = self.rows_of(watcher, progress) if progress else []
            self._journal.send(watcher, ActorChanged(entry, rows))

    def rows_of(self, watcher: bytes, progress: list[Any]) -> list[Any]:
        """Pick the progress rows whose caller is `watcher` or an actor that it hosts.

        A life of an actor that was just restarted elsewhere is not hosted there any more: its
        calls settle with it, so nobody misses the row.
        """
        hosted = self.by_process.get(watcher, {})
        rows = []
        for row in progress:
            identity = row[0][:12]
            if identity == watcher or identity in hosted or not identity:
                rows.append(row)
        return rows

    def buried(self, actor: Actor, progress: list[Any] | None = None) -> None:
        """Enter the death of an actor and tell its watchers; forget the oldest dead."""
        self.free_name(actor)
        for index, key in self._indexes(actor):
            _discard(index, key, actor.id)
        self.set_state(actor, DEAD)
        self.set_address(actor, None)
        # The arguments can be large and nothing starts from them again.
        if "args" in actor.spec:
            actor.spec = without_arguments(actor.spec)
            self._save_spec(actor)
        self.dead[actor.id] = None
        self.changed(actor, progress)
        while len(self.dead) > self._config.max_dead_actors:
            self._forget(self.dead.popitem(last=False)[0])

    def _forget(self, actor_id: bytes) -> None:
        actor = self.actors.pop(actor_id)
        self.counts[DEAD] -= 1
        for watcher in actor.watchers:
            _discard(self.watched, watcher, actor_id)
        self._moved.pop(actor_id, None)
        if not self._journal.forgets:
            self._journal.delete(b"actor/" + actor_id)
            self._journal.delete(b"spec/" + actor_id)

    def watch(self, actor: Actor, watcher: bytes) -> None:
        """Have `watcher` told of each change from now on."""
        watched = self.watched.setdefault(watcher, {})
        if len(watched) < self._config.max_watches:
            watched[actor.id] = None
            if not actor.watchers:
                actor.watchers = self._alone.setdefault(watcher, (watcher,))
            elif watcher not in actor.watchers:
                if type(actor.watchers) is tuple:
                    actor.watchers = dict.fromkeys(actor.watchers)
                actor.watchers[watcher] = None  # type: ignore[index]

    def unwatch(self, actor_id: bytes, watcher: bytes) -> None:
        """No more of this actor to `watcher`."""
        actor = self.actors.get(actor_id)
        if actor is not None and watcher in actor.watchers:
            actor.watch_no_more(watcher)
            _discard(self.watched, watcher, actor_id)

    def forget_watcher(self, watcher: bytes) -> None:
        """The watcher is dead."""
        for actor_id in self.watched.pop(watcher, {}):
            self.actors[actor_id].watch_no_more(watcher)
        self._alone.pop(watcher, None)

    def children_of(self, identity: bytes, life: int) -> list[Actor]:
        """Return the actors that one life of an actor has created."""
        found = self.by_caller.get(caller_id(identity, life), {})
        return [self.actors[actor_id] for actor_id in found]

    def check(self) -> None:
        """Assert D1, D2 and D4."""
        for (namespace, name), actor_id in self.names.items():
            actor = self.actors[actor_id]
            assert (actor.namespace, actor.name) == (namespace, name), "D1"
            assert actor.state != DEAD, "D1"
            assert actor.ending is None, "D1"
        counts = dict.fromkeys(self.counts, 0)
        living = 0
        for actor in self.actors.values():
            counts[actor.state] += 1
            assert (actor.state == DEAD) == (actor.id in self.dead), "D2"
            if actor.state == DEAD:
                continue
            living += 1
            assert actor.id in self.by_job[actor.job], "D4"
            assert actor.id in self.by_owner[actor.owner], "D4"
            if actor.address is not None:
                assert actor.id in self.by_process[actor.address.process], "D4"
            if actor.name and actor.ending is None:
                assert self.names[actor.namespace, actor.name] == actor.id, "D1"
        assert counts == self.counts, (counts, self.counts)
        assert len(self.dead) <= self._config.max_dead_actors, "D2"
        for index in (self.by_job, self.by_owner):
            assert sum(map(len, index.values())) == living, "D4"
        for watcher, watched in self.watched.items():
            for actor_id in watched:
                assert watcher in self.actors[actor_id].watchers


def _discard(index: dict[bytes, dict[bytes, None]], key: bytes, actor_id: bytes) -> None:
    found = index.get(key)
    if found is not None:
        found.pop(actor_id, None)
        if not found:
            del index[key]
