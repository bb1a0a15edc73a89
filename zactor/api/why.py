"""`why`: one chain of causes from a result that is not there to what it waits for in the end.

Follows the leads that processes give (see `runtime.insight.why`): to the actor that has the call, to the call
that this one waits for, and so on; the broker says what an actor or task without a place lacks. A
process that does not answer (C code may hold its interpreter) is looked at through its node.

Changes nothing, and asks for a bounded time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from zactor.api import stacks
from zactor.api.generators import ObjectRefGenerator
from zactor.api.session import process
from zactor.exceptions import GetTimeoutError, ZactorError
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.streaming import RemoteStream
from zactor.runtime.insight.explaining import cause
from zactor.runtime.insight.why import whys_of
from zactor.wire.messages import Address, Query, StackDump, WatchActor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zactor.runtime.insight.explaining import Explained, Lead
    from zactor.runtime.offered import Offered
    from zactor.runtime.process import Process

__all__ = ["Cause", "Why", "why"]

TIMEOUT = 2.0
UNHEARD = 5.0  # seconds; nodes are heard every two
ANSWER = 0.5  # seconds that one process is given, before its node is asked for its stack
LONGEST_CHAIN = 64
SHOWN_NODES = 8
SHOWN_HOLDERS = 3
MOST_HOLDERS = 1_000  # that are looked at


@dataclass(frozen=True)
class Cause:
    """One link of a chain.

    Attributes:
        kind: `ready`, `argument`, `held`, `credit`, `borrowed`, `worker`, `resource`, `pending`,
            `constructor`, `queued`, `running`, `waits`, `consumer`, `rebuilt`, `lost`, `deadlock`, `dead`,
            `idle` or `unknown`.
        text: What it is, in a sentence.
        fields: More of it, where it applies: `call`, `seconds`, `since`, `place`, `object`, ...
    """

    kind: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Why:
    """Why a result is not there: each cause in `chain` is that of the one before it."""

    chain: list[Cause]

    @property
    def is_ready(self) -> bool:
        """Whether nothing is waited for: the value or error is here."""
        return len(self.chain) == 1 and self.chain[0].kind == "ready"

    def rows(self) -> list[dict[str, Any]]:
        """Return the chain as plain dicts."""
        return [{**each.fields, "kind": each.kind, "text": each.text} for each in self.chain]

    def __str__(self) -> str:
        return "\n".join("  " * depth + each.text for depth, each in enumerate(self.chain))


def why(ref: ObjectRef[Any] | ObjectRefGenerator[Any], *, timeout: float = TIMEOUT) -> Why:
    """Say why the value of a reference is not there yet: what it waits for, and that in turn.

    `print(zactor.why(ref))` shows the chain. Nothing is stopped or slowed by it.

    Args:
        ref: The reference; or a generator, of which the next item is meant.
        timeout: Seconds that the asking may take; the chain ends where the time was up.

    Raises:
        TypeError: `ref` is no reference.
        ValueError: `timeout` is not positive.
    """
    if not isinstance(ref, ObjectRef | ObjectRefGenerator):
        raise TypeError(f"why() expected an ObjectRef or ObjectRefGenerator, got {type(ref)}")
    if not timeout > 0:
        raise ValueError(f"timeout must be positive, not {timeout!r}")
    runtime = process()
    runtime.flush()
    runtime.look()
    if isinstance(ref, ObjectRefGenerator):
        causes, lead = _of_generator(runtime, ref._stream)
    else:
        causes, lead = runtime.explain(ref._result)
    return follow(runtime, causes, lead, timeout=timeout)


def _of_generator(runtime: Offered, stream: Any) -> Explained:
    """Say why the next item of a generator is not there."""
    if isinstance(stream, RemoteStream):
        return runtime.explain(stream._ref._result)
    waits = len(stream.arrived)
    if waits:
        return [cause("ready", f"it is ready: {waits:,} items are here", is_error=False)], None
    return runtime.explain(stream)


def follow(
    runtime: Offered,
    causes: list[dict[str, Any]],
    lead: Lead | None,
    *,
    timeout: float = TIMEOUT,
) -> Why:
    """Ask on along the leads, until there is none, they lead back, or the time is up."""
    deadline = time.monotonic() + timeout
    chain = list(causes)
    seen: set[Any] = set()
    while lead is not None and len(chain) < LONGEST_CHAIN:
        asked = next(
            (what for what in ("call", "object", "doing", "actor") if what in lead), ""
        )
        key = asked, lead.get(asked)
        if asked and key in seen:
            text = f"{lead.get('label') or 'that'}, and so on: they wait for each other"
            chain.append(cause("deadlock", text))
            break
        seen.add(key)
        if time.monotonic() >= deadline:
            chain.append(cause("unknown", "the time to ask was up"))
            break
        try:
            more, lead = _ask(runtime, lead, deadline)
        except ZactorError as error:
            more, lead = [cause("unknown", f"nobody could be asked: {error}")], None
        chain += more
    return Why([_cause(each) for each in chain])


def _cause(row: dict[str, Any]) -> Cause:
    return Cause(
        row["kind"], row["text"], {k: v for k, v in row.items() if k not in ("kind", "text")}
    )


def _ask(runtime: Offered, lead: Lead, deadline: float) -> Explained:
    if "to" in lead:
        place = Address._make(lead["to"])
        until = min(deadline, time.monotonic() + ANSWER)
        said = whys_of(cast("Process", runtime)).ask(place, lead, until)
        return _silent(runtime, lead, place, deadline) if said is None else said
    if "group" in lead:
        return _of_group(runtime, lead["group"], deadline), None
    if "stored" in lead:
        return _of_store(runtime, lead["stored"], deadline), None
    if "demand" in lead:
        if lead.get("in"):
            of_group = _of_group(runtime, lead["in"], deadline)
            if of_group[-1]["kind"] != "ready":
                return of_group, None
        return list(_missing(runtime, lead["demand"], deadline)), lead.get("then")
    return of_actor(runtime, lead["actor"], deadline)


def _left(deadline: float) -> float:
    return max(0.05, deadline - time.monotonic())


def _nodes(runtime: Offered, deadline: float) -> Any:
    return runtime.ask(
        Query(0, "nodes", {"filters": [["state", "=", "ALIVE"]]}), timeout=_left(deadline)
    )


def why_actor(runtime: Offered, actor: bytes, *, timeout: float = TIMEOUT) -> Why:
    """Say what an actor waits for, or does. For tools."""
    return follow(runtime, [], {"actor": actor}, timeout=timeout)


def why_result(runtime: Offered, object_id: bytes, *, timeout: float = TIMEOUT) -> Why:
    """Say why a result is not there, asking the process that made the call. For tools.

    Raises:
        LookupError: That process is not known to the cluster.
    """
    place = _place_of_caller(runtime, object_id[:12], time.monotonic() + timeout)
    return follow(runtime, [], {"to": list(place), "object": object_id}, timeout=timeout)


def _place_of_caller(runtime: Offered, caller: bytes, deadline: float) -> Address:
    """Return where the driver, actor or worker is that a caller id begins with."""

    def rows(what: str, *filters: list[str], **args: Any) -> Any:
        args["filters"] = list(filters)
        return runtime.ask(Query(0, what, args), timeout=_left(deadline))

    for job in rows("jobs", ["driver_id", "=", caller.hex()]):
        return Address._make(job["address"])
    for actor in rows("actors", id=caller):
        entry = runtime.ask(WatchActor(0, caller, False), timeout=_left(deadline))
        if actor["worker_id"] and entry and entry.get("address"):
            return Address._make(entry["address"])
    for worker in rows("workers", ["worker_id", "=", caller.hex()], ["is_alive", "=", "true"]):
        for node in rows("nodes", id=bytes.fromhex(worker["node_id"])):
            at = Address._make(node["process_address"])
            # Workers have their inboxes beside their node's.
            ipc = f"{at.ipc.rpartition('/')[0]}/{caller.hex()}"
            return Address(caller, at.node, at.machine, ipc, "")
    raise LookupError(
        f"no process of this cluster has made {caller.hex()}'s calls, or it is gone"
    )


# -- what the broker knows ----------------------------------------------------------------------


def of_actor(runtime: Offered, actor: bytes, deadline: float) -> Explained:
    """Say why an actor has no place, or does nothing."""
    rows = runtime.ask(Query(0, "actors", {"id": actor}), timeout=_left(deadline))
    if not rows:
        return [cause("unknown", f"the broker does not know actor {actor.hex()}")], None
    row = rows[0]
    label = f"{row['class_name'] or 'actor'} {row['name'] or row['actor_id'][:12]}"
    if row["state"] == "DEAD":
        why_dead = (row["death_cause"] or {}).get("text") or "no cause is known"
        return [cause("dead", f"{label} is dead: {why_dead}")], None
    if row["phase"] == "ALIVE" or row["worker_id"]:
        entry = runtime.ask(WatchActor(0, actor, False), timeout=_left(deadline))
        if entry and entry.get("address"):
            return [], {"to": list(entry["address"]), "doing": actor}
    if row["phase"] == "STARTING":
        return [
            cause(
                "pending",
                f"{label} is placed on node {row['node_id'][:12]}; its process starts",
            )
        ], None
    ended = (row["death_cause"] or {}).get("text")
    text = f"{label} has no place yet"
    if row["state"] == "RESTARTING":
        ended = f"it {ended}" if ended and not ended.startswith("it") else ended
        text = f"{label} is to be started again" + (f" ({ended})" if ended else "")
    if row["pending_reason"]:
        text += f": {row['pending_reason']}"
    need = row["required_resources"]
    group = row["placement_group_id"]
    if group:
        of_group = _of_group(runtime, bytes.fromhex(group), deadline)
        if of_group[-1]["kind"] != "ready":
            return [
                cause("pending", text, actor=row["actor_id"], resources=need),
                *of_group,
            ], None
    missing = list(_missing(runtime, need, deadline))
    return [cause("pending", text, actor=row["actor_id"], resources=need), *missing], None


def _of_group(runtime: Offered, group: bytes, deadline: float) -> list[dict[str, Any]]:
    """Say why a placement group is not reserved."""
    rows = runtime.ask(Query(0, "groups", {"id": group}), timeout=_left(deadline))
    label = f"placement group {(rows[0]['name'] if rows else '') or group.hex()[:12]}"
    if not rows or rows[0]["state"] == "REMOVED":
        return [cause("dead", f"{label} was removed, or the broker does not know it")]
    row = rows[0]
    if row["state"] == "CREATED":
        return [cause("ready", f"{label} is reserved", is_error=False)]
    reason = row["pending_reason"] or "its nodes are being asked"
    return [cause("resource", f"{label} is not reserved yet: {reason}", bundles=row["bundles"])]


def _of_store(runtime: Offered, node: bytes, deadline: float) -> list[dict[str, Any]]:
    """Say that a node which stores a value is gone, if it is."""
    living = {row["node_id"] for row in _nodes(runtime, deadline) if row["state"] == "ALIVE"}
    if node.hex() in living:
        return []
    text = f"node {node.hex()[:12]} is gone: get() has the value made again, or says that it cannot be"
    return [cause("lost", text)]


def _holders(runtime: Offered, names: Iterable[str], deadline: float) -> str:
    """Say who has what others lack of some resources."""
    args = {"filters": [["state", "=", "ALIVE"]], "limit": MOST_HOLDERS}
    actors = runtime.ask(Query(0, "actors", args), timeout=_left(deadline))
    leases = runtime.ask(Query(0, "leases", {"limit": MOST_HOLDERS}), timeout=_left(deadline))
    held = []
    for row in actors:
        amounts = row["required_resources"]
        size = sum(float(amounts.get(name, 0)) for name in names)
        if size:
            label = f"{row['class_name'] or 'actor'} {row['name'] or row['actor_id'][:12]}"
            shown = ", ".join(
                f"{amounts[name]:g} {name}" for name in names if amounts.get(name)
            )
            held.append((size, f"{label} ({shown})"))
    held.sort(key=lambda each: -each[0])
    parts = [text for _, text in held[:SHOWN_HOLDERS]]
    if len(held) > SHOWN_HOLDERS:
        parts.append(f"{len(held) - SHOWN_HOLDERS} more actors")
    tasks = sum(any(row["resources"].get(name) for name in names) for row in leases)
    if tasks:
        parts.append(f"{tasks} workers that run tasks")
    return f"; held by {', '.join(parts)}" if parts else ""


def _missing(
    runtime: Offered, need: dict[str, float], deadline: float
) -> Iterator[dict[str, Any]]:
    """Yield one cause: which resources are missing, on which nodes, and who has them."""
    nodes = _nodes(runtime, deadline)
    living = [node for node in nodes if node["state"] == "ALIVE"]
    lacks: list[str] = []
    missing: dict[str, list[str]] = {}
    is_possible = False  # some node could take it, if nobody else had it
    for node in living:
        short, could = [], True
        for name, amount in need.items():
            total = float(node["resources_total"].get(name, 0))
            free = float(node["resources_available"].get(name, 0))
            could = could and total >= float(amount)
            if free < float(amount):
                short.append(f"{free:g} of {total:g} {name} free")
                missing.setdefault(name, []).append(node["node_id"])
        if short:
            is_possible = is_possible or could
            lacks.append(f"node {node['node_id'][:12]} has {', '.join(short)}")
    wanted = (
        ", ".join(f"{float(amount):g} {name}" for name, amount in need.items() if amount)
        or "nothing"
    )
    if not living:
        yield cause(
            "resource", f"it needs {wanted}, and there is no node", need=need, missing={}
        )
    elif len(lacks) == len(living):
        shown = "; ".join(lacks[:SHOWN_NODES])
        more = f"; and {len(lacks) - SHOWN_NODES} more" if len(lacks) > SHOWN_NODES else ""
        text = f"it needs {wanted}: {shown}{more}"
        text += (
            _holders(runtime, list(missing), deadline)
            if is_possible
            else "; no node ever could"
        )
        yield cause("resource", text, need=need, missing=missing)
    else:
        yield cause(
            "pending",
            f"it needs {wanted}, which there is: a process starts, or may not start there",
        )


# -- a process that does not answer -------------------------------------------------------------


def _silent(runtime: Offered, lead: Lead, place: Address, deadline: float) -> Explained:
    """Look at a process through its node: its handler for that runs also while C code does."""
    name = lead.get("label") or "it"
    text = f"{name} is in process {place.process.hex()[:12]}, which does not answer"
    nodes = [node for node in _nodes(runtime, deadline) if node["node_id"] == place.node.hex()]
    if not nodes or nodes[0]["state"] != "ALIVE":
        return [cause("unknown", f"{text}; its node is gone, or not known")], None
    unheard = time.time() - nodes[0]["heard"]
    if unheard > UNHEARD or nodes[0]["status"] not in ("ALIVE", "DRAINING"):
        text += (
            f"; its node {place.node.hex()[:12]} has not been heard of for {unheard:.0f} s, and is "
            "declared lost when its lease runs out: then calls there fail, or are sent again"
        )
        return [cause("lost", text, node=place.node.hex(), seconds=unheard)], None
    try:
        rows = runtime.ask(
            StackDump(0, place.process),
            to=Address._make(nodes[0]["process_address"]),
            timeout=max(1.0, _left(deadline)),
        )
    except GetTimeoutError:
        text += f"; nor does its node {place.node.hex()[:12]}, which was heard of {unheard:.0f} s ago"
        return [cause("unknown", text, node=place.node.hex(), seconds=unheard)], None
    except ZactorError as error:
        return [cause("unknown", f"{text}; its node says: {error.message}")], None
    for row in rows:
        found = stacks.places(str(row["stack"]))
        if found:
            text = (
                f"{name} is in the process of {row['label'] or 'a worker'} (pid {row['pid']}), where "
                f"code that holds the interpreter runs, and is at {found[0]}"
            )
            return [cause("running", text, place=found[0], stack=found)], None
    return [cause("unknown", f"{text} (it may be stopped, or be overloaded)")], None
