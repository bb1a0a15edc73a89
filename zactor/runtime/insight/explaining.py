"""What became of a call that was made here: the caller's half of the answer to "why".

A process explains what it holds back itself. Where the answer lies with another process, the
explanation ends with a lead (see `runtime.insight.why`).

Reads only, without locks: what it looks at may change meanwhile, and then the answer is of before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, STORED, USER_ERROR, Result
from zactor.runtime.calls.dependents import function_name
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.several import Part
from zactor.runtime.calls.streaming import Streaming
from zactor.runtime.calls.task_queues import Lease, is_task
from zactor.runtime.links.interrupts import protect_module
from zactor.runtime.objects.objects import Borrowed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zactor.runtime.process import Process

Cause = dict[str, Any]
Lead = dict[str, Any]
Explained = tuple[list[Cause], "Lead | None"]

LONGEST = 32  # causes that one process adds before it is asked again


def cause(kind: str, text: str, **fields: Any) -> Cause:
    """Return one link of the chain."""
    return {"kind": kind, "text": text, **fields}


def who(process: Process) -> str:
    """Return what texts call this process."""
    return f"{'the worker' if process.is_worker else 'the driver'} (pid {process.pid})"


def explain(process: Process, result: Result) -> Explained:
    """Say why a result is not here, as far as this process knows."""
    causes: list[Cause] = []
    while len(causes) < LONGEST:
        if isinstance(result, Part):
            result = result.call
        if result.state:
            again = rebuilt(process, result)
            if again is None:
                said, lead = _settled(process, result)
                return [*causes, said], lead
            text = "the value was lost with where it was stored, and is being made again"
            causes.append(cause("rebuilt", text, object=result.object_id().hex()))
            result = again
            continue
        if isinstance(result, Borrowed):
            text = (
                f"{who(process)} waits for object {result.id.hex()}, which another process owns"
            )
            return [*causes, cause("borrowed", text)], {
                "to": list(result.owner),
                "object": result.id,
            }
        if getattr(result, "stream", None) is None and not is_task(result):
            group = process.groups.awaited_by(result)
            if group is not None:
                return causes, {"group": group}
            asked = process.streams.asked_of(result)
            if asked is not None:
                text = f"{who(process)} waits for the next item of a stream that another process owns"
                return [*causes, cause("borrowed", text)], {
                    "to": list(asked[0]),
                    "object": asked[1],
                }
            found = _stream_of(process, result)
            if found is None:
                return [*causes, cause("unknown", "nothing here will make the value")], None
            result = found
            continue
        name = name_of(process, result)
        argument = awaited_argument(result) if result.waiting else None
        if argument is not None:
            text = f"{name} has not left {who(process)}: an argument is not ready"
            causes.append(cause("argument", text, call=name, object=argument.object_id().hex()))
            result = argument
            continue
        if is_task(result):
            return _task(process, result, name, causes)
        further = _actor_call(process, result, name, causes)
        if isinstance(further, Result):
            result = further
            continue
        return causes, further
    return causes, None


def rebuilt(process: Process, result: Result) -> Result | None:
    """Return the run that makes a lost value again, if one is under way."""
    recovery = process.objects.recovery
    if recovery is None or result.state != STORED:
        return None
    found: Result | None = recovery.under_way(result.object_id())
    return found


def _settled(process: Process, result: Result) -> tuple[Cause, Lead | None]:
    if result.state in (USER_ERROR, ERROR):
        text = "it is ready: the call has failed, get() raises"
        return cause("ready", text, is_error=True), None
    node = result.value[2] if result.state == STORED else b""
    if node and node != process.post.address.node:
        text = (
            f"it is ready: the value is stored at node {node.hex()[:12]}, get() brings it here"
        )
        return cause("ready", text, is_error=False), {"stored": node}
    return cause("ready", "it is ready: the value is here", is_error=False), None


def awaited_argument(result: Result) -> Result | None:
    """Return the first reference among a call's arguments that is not ready."""
    pins = result.pin if isinstance(result.pin, list) else ()
    for pin in pins:
        if isinstance(pin, ObjectRef) and not pin._result.state:
            return pin._result
    return None


def _stream_of(process: Process, signal: Result) -> Result | None:
    """Return the generator's call that a signal (`Streaming.waitable`) belongs to."""
    for result in pending_results(process):
        if isinstance(result, Streaming) and result.signal is signal:
            return result
    return None


def _is_sent(result: Result) -> bool:
    pending = getattr(result.stream, "pending", {})  # a task that was never sent has none
    return pending.get(getattr(result, "seq", 0)) is result


def _task(
    process: Process,
    result: Any,  # of a task
    name: str,
    causes: list[Cause],
) -> Explained:
    lease = getattr(result.stream, "target", None)  # before it was ever sent, it has no stream
    if isinstance(lease, Lease) and _is_sent(result):
        lead = {"to": list(lease.address), "actor": lease.address.process}
        return causes, {**lead, "call": result.object_id(), "label": name}
    queue = result.queue
    busy = [each for each in list(queue.leases.values()) if each.stream.pending]
    text = f"{name} waits in {who(process)} for a worker"
    if busy:
        text += f"; the {len(busy)} that it has run other tasks"
    causes.append(cause("worker", text, call=name))
    group = (queue.shape.get("group") or {}).get("id")
    demand: Lead = {"demand": queue.shape.get("resources") or {}, "then": None, "in": group}
    for each in busy:
        for other in list(each.stream.pending.values()):
            lead = {"to": list(each.address), "actor": each.address.process}
            lead |= {"call": other.object_id(), "label": name_of(process, other)}
            return causes, {**demand, "then": lead}
    return causes, demand


def _actor_call(
    process: Process, result: Result, name: str, causes: list[Cause]
) -> Result | Lead | None:
    """Add why a call has not left; return what to look at next."""
    stream = result.stream
    view, outgoing = stream.target, stream.outgoing
    actor: bytes = stream.actor
    if _is_sent(result):
        return {
            "to": list(outgoing.peer.address),
            "actor": actor,
            "call": result.object_id(),
            "label": name,
        }
    if outgoing is None:
        text = f"{name} is held in {who(process)}: its actor is {view.entry['state'].lower()}"
        causes.append(cause("held", text, call=name))
        argument = awaited_argument(view.pin) if view.pin is not None else None
        if argument is not None and not view.entry.get("revision"):
            causes.append(
                cause("argument", f"{view.label}: an argument of its constructor is not ready")
            )
            return argument
        return {"actor": actor}
    head = stream.held[0] if stream.held else None
    if head is not None and head is not result and head.waiting:
        first = name_of(process, head)
        causes.append(
            cause("held", f"{name} is held in {who(process)} behind {first}", call=name)
        )
        first_held: Result = head
        return first_held
    if len(stream.pending) >= stream.credit:
        text = (
            f"{name} is held in {who(process)} for credit: {len(stream.pending):,} calls from here "
            "to this actor are unanswered"
        )
        causes.append(cause("credit", text, call=name))
        oldest: Result | None = next(iter(stream.pending.values()), None)
        return oldest
    text = f"{name} is held in {who(process)}: the link to its actor's process is full or not there"
    causes.append(cause("held", text, call=name))
    return {"actor": actor}


def name_of(process: Process, result: Result) -> str:
    """Return what texts call a call that was made here."""
    name = function_name(process, result)
    if not name:
        return "a call"
    view: Any = getattr(result.stream, "target", None)
    if is_task(result) or isinstance(view, Lease):
        return f"task {name}()"
    return f"{name}() of actor {short(view.id, view.entry.get('name'))}"


def short(actor: bytes, name: str | None = "") -> str:
    """Return what texts call an actor: its name, or the beginning of its id."""
    return f"{name!r}" if name else actor.hex()[:12]


def pending_results(process: Process) -> Iterator[Result]:
    """Yield what this process waits for: calls it has made, items of streams, others' objects."""
    for result in _pending_calls(process):
        yield result
        signal = getattr(result, "signal", None)  # of a generator: what its consumer waits for
        if signal is not None:
            yield signal
    yield from process.streams.tickets()
    yield from list(process.objects._borrowed.values())  # noqa: SLF001


def _pending_calls(process: Process) -> Iterator[Result]:
    for peer in list(process.post.peers.values()):
        for stream in list(peer.calls.streams) if peer.calls is not None else ():
            yield from list(stream.pending.values())
    for view in process.actors.all():
        for stream in list(view.streams):
            yield from list(stream.held)
    yield from process.tasks.waiting()
    yield from list(process.awaiting)


protect_module(__name__)
