"""What holds a call or a value up, as far as this process knows: for `deadlocks`.

Everything here is asked on the leader, about what other threads change meanwhile: what is missed or just
over counts as going on, never as stuck.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from zactor.core.calls import Result
from zactor.core.circles import Need
from zactor.ids import split_object_id
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.several import Part
from zactor.runtime.hosting.hosts import MainHost
from zactor.runtime.objects.objects import Borrowed

if TYPE_CHECKING:
    from zactor.runtime.process import Process

DEEPEST = 64  # calls that wait for an argument which waits for an argument ...


def needs_of(process: Process, result: Result) -> list[Need]:
    """Return what a pending result of this process waits for; nothing if that is not known."""
    found: list[Need] = []
    looked_at: set[int] = set()
    todo: list[Any] = [result]
    while todo and len(looked_at) < DEEPEST:
        each = todo.pop()
        if isinstance(each, Part):
            each = each.call
        if each.state or id(each) in looked_at:
            continue
        looked_at.add(id(each))
        if isinstance(each, Borrowed):
            found.append(Need("object", each.id, b"", tuple(each.owner)))
        elif each.waiting:
            todo += _arguments(each)
        else:
            found += _call(each)
            held = getattr(each.stream, "held", None)
            if held and held[0] is not each and not hasattr(each, "seq"):
                todo.append(held[0])  # it leaves after those before it
    return found


def _arguments(result: Result) -> list[Result]:
    pins = result.pin if isinstance(result.pin, list) else ()
    refs = [pin._result for pin in list(pins) if isinstance(pin, ObjectRef)]  # noqa: SLF001
    return refs + [pin for pin in list(pins) if isinstance(pin, Result)]


def _call(result: Result) -> list[Need]:
    """Return the need of a call that has left, or is about to: what it holds up there."""
    stream = result.stream
    outgoing = getattr(stream, "outgoing", None)
    if outgoing is None:
        return []  # it has no place: that may change
    return [Need("call", result.object_id()[:24], stream.actor, tuple(outgoing.peer.address))]


def needs_of_object(process: Process, object_id: bytes) -> tuple[Need, ...]:
    """Return what an object of this process waits for: its call, or the call that makes it again."""
    recovery = process.objects.recovery
    again = recovery.under_way(object_id) if recovery is not None else None
    result = again or process.objects.shared(object_id)
    return tuple(needs_of(process, result)) if result is not None else ()


def idents_holding(process: Process, actor: bytes, call: bytes) -> list[int]:
    """Return the threads all of which have to go on before a call can end; none if it may anyway."""
    host: Any = process.callee.hosts.get(actor)
    caller, number, _ = split_object_id(call + bytes(4))
    if isinstance(host, MainHost):
        running = host.execution
        if host.is_task_host and not running.runs_now(caller, number):
            return []  # tasks behind one that blocks are handed back
        return [threading.main_thread().ident or 0]
    seat = getattr(host, "seat", None)
    if seat is not None:  # a plain actor among others in this worker
        return [seat.ident] if seat.actor is host else []
    loop_thread = getattr(host, "_ident", 0)
    if loop_thread:  # async: a wait that blocks the loop blocks them all
        return [loop_thread]
    places = getattr(host, "places_of", None)
    if places is None:
        return []
    found: list[int] = places(caller, number)
    return found
