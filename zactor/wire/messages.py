"""The control messages: what brokers, nodes and their clients say to each other.

Each message is a `NamedTuple` of plain values (None, bool, int, float, str, bytes, list, dict);
`codec` turns it into bytes and back by the code it is registered under. Calls, replies and
reference messages travel in batches and have a layout of their own in `batches`.

A request carries a `request` number that is unique for its sender, and is answered by exactly
one `Answer`; asking again with the same number gets the same answer. Everything else is one way.
"""

from __future__ import annotations

from typing import Any

from zactor.named import NamedTuple


class Address(NamedTuple):
    """Where a process is reached."""

    process: bytes  # process id
    node: bytes  # id of the node it belongs to; b"" for a driver that has none yet
    machine: bytes  # token of the machine: equal tokens mean ipc endpoints can be used
    ipc: str  # ipc://... endpoint of its inbox
    tcp: str  # tcp://... endpoint, or "" while it has bound none


# -- any client (driver, worker, command line) to the broker ------------------------------------


class Answer(NamedTuple):
    """The one answer to a request: `value`, or an error as `[kind, text, fields]`."""

    request: int
    ok: bool
    value: Any


class Attach(NamedTuple):
    """A driver or tool opens its session. Answered with
    `{"job": bytes, "namespace": str, "node": bytes, "node_address": list | None, "cluster": dict}`;
    `node` is the driver's own machine's node, or any if none runs there; `node_address` is where
    a node of its own machine is."""

    request: int
    role: str  # "driver" | "tool"
    address: list[Any]  # an Address
    namespace: str  # "" asks for an anonymous one
    metadata: dict[str, Any]  # python version, pid, entrypoint, log_to_driver, job env ...


class Detach(NamedTuple):
    """The session ends in order: its non-detached actors and leases go."""

    request: int


class CreateActor(NamedTuple):
    """Enter an actor and place it. Answered with its entry (see `core.directory`) as soon as it
    is entered, placed or not; `NameTaken` if the name is held. With `get_if_exists` the entry of
    the holder is answered instead, in the same step."""

    request: int
    spec: dict[str, Any]  # see ActorSpec in core/directory.py


class CreateActors(NamedTuple):
    """`CreateActor` for many shared actors without names. The spec of each is `common` with what its
    row says: `[actor id, args]`. Answered with `[actor id, error]` of each that was refused."""

    request: int
    common: dict[str, Any]
    rows: list[Any]


class WatchActor(NamedTuple):
    """Answered with the actor's entry; `ActorChanged` follows at each later change. `network` asks that
    the actor's process have a tcp endpoint."""

    request: int
    actor: bytes
    network: bool


class UnwatchActor(NamedTuple):
    """No more `ActorChanged` about this one, please."""

    actor: bytes


class ReleaseActor(NamedTuple):
    """The last strong handle is gone: stop the actor when its queue is empty."""

    actor: bytes


class KillActor(NamedTuple):
    """End the actor now. Its name is free before this is answered (True, or False if unknown)."""

    request: int
    actor: bytes
    no_restart: bool


class FindActor(NamedTuple):
    """Answered with the entry that holds the name, or None."""

    request: int
    name: str
    namespace: str


class ListNames(NamedTuple):
    """Answered with `[[namespace, name], ...]` of the living actors that have a name."""

    request: int
    namespace: str | None  # None: all


class Define(NamedTuple):
    """Store the pickled class or function `blob` under its hash, for as long as `job` lives."""

    key: bytes
    blob: bytes
    job: bytes


class FetchDefinition(NamedTuple):
    """Answered with the blob, or None."""

    request: int
    key: bytes


class Demand(NamedTuple):
    """How many leased workers the sender could use now for tasks of one shape, those it holds
    included. A later Demand for the same key replaces it; count 0 ends it (what is held stays).
    Answered only by grants, as resources allow. To give a lease back for good, lower the count
    first; a lease returned while the count stands is asked for again."""

    key: bytes  # hash of shape, made by the client
    shape: dict[
        str, Any
    ]  # job, resources, strategy, group, label_selector (as in ActorSpec), env; near: node with the data
    count: int  # type: ignore[assignment]  # of a tuple it is a method


class ReturnLease(NamedTuple):
    """The worker is idle and given back. `reusable=False`: stop it (max_calls reached, tainted)."""

    lease: int
    reusable: bool


class Blocked(NamedTuple):
    """The sending worker waits in a get/wait (True) or goes on (False): its CPUs are free meanwhile."""

    is_blocked: bool


class WatchProcess(NamedTuple):
    """Answered with None while the process lives, else with its `ProcessDied` fields as a list;
    a later death is pushed as `ProcessDied`."""

    request: int
    process: bytes


class CreateGroup(NamedTuple):
    """Reserve a placement group. Answered with its entry once entered; `GroupChanged` follows."""

    request: int
    spec: dict[str, Any]  # id, bundles, strategy, name, namespace, lifetime, labels, job, owner


class RemoveGroup(NamedTuple):
    """Release a placement group; what runs in it is killed. Answered True, or False if unknown."""

    request: int
    group: bytes


class WatchGroup(NamedTuple):
    """Answered with the group's entry, or None; `GroupChanged` follows at each later change."""

    request: int
    group: bytes


class Query(NamedTuple):
    """A read for humans and tools. `what`: actors nodes workers jobs groups leases resources status names.
    Answered with a list of plain dicts (`status`, `resources`: one dict)."""

    request: int
    what: str
    args: dict[str, Any]


# -- broker to its clients ----------------------------------------------------------------------


class ActorChanged(NamedTuple):
    """The entry of a watched actor, whole, after a change. `progress` is set when a life just ended:
    rows of that life's progress page that belong to the receiver, see `WorkerDied`."""

    entry: dict[str, Any]
    progress: list[Any]


class ActorsMoved(NamedTuple):
    """To watchers: what has changed in many entries as their actors came up, a row each, see
    `MOVED`. Nobody is told so of an end."""

    rows: list[Any]


WHOLE = (b"", 0, 0, 0)
"""A row of `progress` that is no stream's: with it, of a stream without a row nothing had arrived."""

MOVED = ("id", "revision", "state", "life", "epoch", "node", "address", "pid", "repr_name")
"""The fields of an entry that a row of `ActorsMoved` has."""


class LeaseGranted(NamedTuple):
    """The worker at `address` runs tasks for the receiver alone until the lease ends."""

    key: bytes
    lease: int
    address: list[Any]  # an Address


class LeaseRecalled(NamedTuple):
    """Others wait for what this lease holds: give it back when the running task ends."""

    lease: int


class LeaseLost(NamedTuple):
    """The leased worker is gone. `cause` as in `WorkerDied`."""

    lease: int
    cause: dict[str, Any]
    progress: list[Any]


class DemandFailed(NamedTuple):
    """Nothing can be granted for this key. `final=False` is a warning (no node has such resources
    now); True ends the demand (its placement group is gone, its runtime environment cannot be built)."""

    key: bytes
    final: bool
    error: list[Any]  # [kind, text, fields]


class ProcessDied(NamedTuple):
    """A watched process is dead."""

    process: bytes
    cause: dict[str, Any]


class GroupChanged(NamedTuple):
    """The entry of a watched placement group, whole, after a change."""

    entry: dict[str, Any]


class SessionLost(NamedTuple):
    """To a driver that was declared lost while it lives: its session is over."""

    reason: str


class Output(NamedTuple):
    """Lines that workers of the receiver's job printed, in order."""

    lines: list[Any]  # [process id, label, pid, node, stream (1|2), text] each


# -- nodes and the broker -----------------------------------------------------------------------


class NodeUp(NamedTuple):
    """A node joins or re-attaches. Answered with
    `{"lease": seconds, "renew": seconds, "is_new": bool, "cluster": dict}`.
    `workers` lists what runs or is being started there already (re-attachment after a lost link or
    to a restarted broker), idle workers of the past included, a dict each: process (b"" while it
    starts), address, pid, job, actors [[actor id, life, is ready, repr]], lease (0: none) and the
    shape of its StartLease."""

    request: int
    entry: dict[
        str, Any
    ]  # id, address, machine, hostname, pid, resources, labels, store capacity
    workers: list[Any]


class Renew(NamedTuple):
    """The node's heartbeat, with its load. Answered with the broker's term, or with the error
    `NodeUnknown`: then the node attaches again with `NodeUp`."""

    request: int
    load: dict[str, Any]


class DrainNode(NamedTuple):
    """Asks the broker to place nothing more on the node and stop it when it is empty."""

    request: int
    node: bytes


class StartActor(NamedTuple):
    """Broker to node: get a worker for this life of the actor and construct it there."""

    actor: bytes
    life: int
    spec: dict[str, Any]


class StartActors(NamedTuple):
    """Broker to node: `StartActor` for many shared actors. The spec of each is `common` with what
    its row says: `[actor id, life, epoch, restarts, args]`."""

    common: dict[str, Any]
    rows: list[Any]


class StartLease(NamedTuple):
    """Broker to node: get a worker for a lease. Answered by `WorkerLeased` or `LeaseFailed`."""

    lease: int
    job: bytes
    shape: dict[
        str, Any
    ]  # the demand's, and: client, key, address (of the client), gpu_ids, assigned


class EndLease(NamedTuple):
    """Broker to node: the worker is idle again, or to be stopped (`reusable=False`)."""

    lease: int
    reusable: bool


class StopActor(NamedTuple):
    """Broker to node: end this life. `graceful`: after its queue; otherwise SIGKILL."""

    actor: bytes
    life: int
    graceful: bool


class BindNetwork(NamedTuple):
    """Broker to node: have the actor's worker bind tcp; `ActorUp` repeats with the new address."""

    actor: bytes
    life: int


class ActorUp(NamedTuple):
    """Node to broker: the life's worker takes calls (they queue until the constructor is done)."""

    actor: bytes
    life: int
    address: list[Any]
    pid: int


class ActorReady(NamedTuple):
    """Node to broker: the constructor has returned."""

    actor: bytes
    life: int
    repr_name: str


class ActorsUp(NamedTuple):
    """`ActorUp` for many actors of one worker: `[actor id, life]` each."""

    rows: list[Any]
    address: list[Any]
    pid: int


class ActorsReady(NamedTuple):
    """`ActorReady` for many actors: `[actor id, life, repr name]` each."""

    rows: list[Any]


class ActorFailed(NamedTuple):
    """Node to broker: the life never came to be. `error` is `[kind, text, fields]`; kind "constructor"
    has the pickled exception in `fields["exception"]`, "environment" is a runtime_env failure,
    "spawn" means that no worker could be started (try elsewhere)."""

    actor: bytes
    life: int
    error: list[Any]


class ActorExited(NamedTuple):
    """Node to broker: the actor ended of itself (exit_actor, graceful stop); not restarted."""

    actor: bytes
    life: int
    cause: dict[str, Any]
    progress: list[Any]


class WorkerLeased(NamedTuple):
    """Node to broker: the worker for the lease is up."""

    lease: int
    address: list[Any]
    pid: int


class LeaseFailed(NamedTuple):
    """Node to broker: no worker for this lease."""

    lease: int
    error: list[Any]


class WorkerDied(NamedTuple):
    """Node to broker: a worker process is dead, as its pidfd says.

    `cause` is `{"kind": "exit"|"signal"|"killed"|"oom"|"node", "code": int, "text": str}`.
    `progress` are the rows of its progress page, one a stream:
    `[caller id, stream number, started, finished]`, the highest seq of each.
    With the row `WHOLE` among them, of a stream that has no row nothing had arrived."""

    process: bytes
    actors: list[Any]  # [actor id, life] of each actor it hosted
    lease: int  # 0 if none
    cause: dict[str, Any]
    progress: list[Any]


class JobEnded(NamedTuple):
    """Broker to node: the job is over; stop its idle workers, drop its output routes."""

    job: bytes


class StopNode(NamedTuple):
    """Broker to node: end, with all that runs there."""

    reason: str


class WatchDriver(NamedTuple):
    """Broker to node: this driver, or other node, runs on your machine; send `ProcessDied` when its
    pid is dead."""

    process: bytes
    pid: int


class StackDump(NamedTuple):
    """Asks a node for the Python stacks of its workers (all, or those of `process`). Answered with
    `[{"process", "pid", "label", "stack"}]`."""

    request: int
    process: bytes | None


class Notice(NamedTuple):
    """Node to broker, and broker to drivers: something that users should know of a node."""

    text: str


class ReadLog(NamedTuple):
    """Asks a node for the log of a worker from `offset`. Answered with `{"text", "offset", "size"}`."""

    request: int
    process: bytes
    stream: int
    offset: int
    limit: int


class Survey(NamedTuple):
    """Asks a node what its workers have called, own and run, or a driver what it has. `what` is "tasks" or
    "objects"; or, of a node, "logs", its log files, or "output": what workers of the job in `args` have
    printed is sent before the answer. `args` are `filters` and `limit` as of `Query`, and `patience`, seconds after which a
    node answers without the workers that have not. Answered with `{"rows": [...], "running":
    [[task id, since (ms), process, pid]], "is_cut": bool, "silent": [[process, pid, label,
    progress]]}`."""

    request: int
    what: str
    args: dict[str, Any]


# -- a process and its node: the store ----------------------------------------------------------


class ReserveSegment(NamedTuple):
    """A process will make a shared-memory segment of `size` bytes. Answered with the file name to use
    once there is room (copies evicted, values spilled), or an `ObjectStoreFull` error."""

    request: int
    size: int


class SegmentFilled(NamedTuple):
    """The segment holds an object now; the node may spill it when room is short, keeps it when its
    maker dies, and frees it when `owner` does."""

    name: str
    object_id: bytes
    size: int  # bytes in use within the segment
    owner: bytes  # process id of the object's owner


class FreeSegment(NamedTuple):
    """Nobody holds the object in this segment any more. From the object's owner to the segment's node, and
    from there to the process that made the segment; from that one to its node, `keep` says that it
    keeps the segment warm for re-use. `object_id` is named by all but the maker: a word that comes late
    must not free what is in the segment by then."""

    name: str
    keep: bool
    object_id: bytes = b""


class LocateSegment(NamedTuple):
    """A process wants to map a segment that it did not find: it was spilled (restore it) or it is on
    another node (pull it from `node`). Answered with the name of a local segment, or `ObjectLost`."""

    request: int
    object_id: bytes
    name: str
    node: bytes
    address: list[Any]  # the other node's Address


class ReadSegment(NamedTuple):
    """Node to node: a chunk of the object in a segment, please. Answered by a `CHUNK`; or with
    `ObjectLost`."""

    request: int
    name: str
    offset: int
    length: int


# Codes on the wire. They are never re-used; a gap is a message that is no more.
CODES: dict[int, type] = dict(
    enumerate(
        (
            Answer, Attach, Detach, CreateActor, WatchActor, UnwatchActor, ReleaseActor, KillActor, FindActor, ListNames,
            Define, FetchDefinition, Demand, ReturnLease, Blocked, WatchProcess, CreateGroup, RemoveGroup, WatchGroup, Query,
            ActorChanged, LeaseGranted, LeaseRecalled, LeaseLost, DemandFailed, ProcessDied, GroupChanged, SessionLost, Output,
            NodeUp, Renew, DrainNode, StartActor, StartLease, EndLease, StopActor, BindNetwork, ActorUp, ActorReady,
            ActorFailed, ActorExited, WorkerLeased, LeaseFailed, WorkerDied, JobEnded, StopNode, StackDump, ReadLog,
            ReserveSegment, SegmentFilled, FreeSegment, LocateSegment, ReadSegment, WatchDriver,
            CreateActors, StartActors, ActorsUp, ActorsReady, ActorsMoved, Survey,
            Notice,
        ),
        start=16,
    )
)  # fmt: skip
