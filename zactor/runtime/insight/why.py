"""Why a result is not there yet: what each process knows of it, asked along the chain.

A process explains what it holds back itself, and what its own code runs and waits for. Where the
answer lies with another process, the explanation ends with a *lead*: a dict that says whom to ask
what. `api.why` follows leads; this module answers, in any process, to a WHY message:

    [0, number, lead]                  the question
    [1, number, [causes, lead]]        the answer; `lead` is None at the end of the chain

A cause is a dict with `kind` and `text`, and more fields where they apply. A lead has `to` (an
address) with one of `call` (an object id, with its `actor`), `object` (asked of its owner) and
`doing` (an actor: what does it do?); or `actor` alone or `demand`, which the broker knows about.

Answers come from the leader, also while the user's code runs; not while C code holds the interpreter.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from itertools import count
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any

from zactor.ids import pack_object_id, split_object_id
from zactor.named import NamedTuple
from zactor.runtime.calls.dependents import OWN_METHODS
from zactor.runtime.calls.several import Part
from zactor.runtime.calls.task_queues import is_task
from zactor.runtime.hosting.hosts import MainHost
from zactor.runtime.insight.explaining import (
    cause,
    explain,
    name_of,
    pending_results,
    rebuilt,
    short,
    who,
)
from zactor.runtime.insight.frames import (
    awaited_by_task,
    awaited_in,
    frames_of,
    frames_of_task,
    held_up_in,
    place_of,
)
from zactor.runtime.links.interrupts import protect_module
from zactor.runtime.links.reception import Waiter
from zactor.runtime.objects.objects import Borrowed
from zactor.wire.codec import WHY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zactor.core.calls import Result
    from zactor.runtime.insight.explaining import Explained, Lead
    from zactor.runtime.process import Process
    from zactor.wire.messages import Address

QUESTION, ANSWER = 0, 1


class Whys:
    """Asks other processes, and answers them."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._numbers = count(1)
        self._asked: dict[int, Future[Any]] = {}

    def ask(self, to: Address, lead: Lead, deadline: float) -> Explained | None:
        """Return what the process at `to` knows; None if it does not answer in time."""
        process = self._process
        if to.process == process.id:
            return answer(process, lead)
        question = {key: value for key, value in lead.items() if key != "to"}
        number = next(self._numbers)
        future = self._asked[number] = Future()
        waiter = Waiter()
        future.add_done_callback(waiter.settled)
        peer = process.post.peer(to)
        with peer.lock:
            peer.transmit(WHY, [QUESTION, number, question])
        process.flush()
        try:
            if not process.reception.wait(waiter, deadline):
                return None
        finally:
            self._asked.pop(number, None)
        causes, further = future.result(0)
        return list(causes), further

    def received(self, peer: Any, body: Any) -> None:
        """A question or an answer has come. On the leader."""
        what, number, content = body[:3]
        if what == ANSWER:
            future = self._asked.get(number)
            if future is not None:
                future.set_result(content)
            return
        try:
            said = answer(self._process, content)
        except Exception as error:  # noqa: BLE001 - a tool must not end the process that it looks at
            said = [cause("unknown", f"{who(self._process)} cannot tell: {error!r}")], None
        with peer.lock:
            peer.transmit(WHY, [ANSWER, number, said])


_making = threading.Lock()


def whys_of(process: Process) -> Whys:
    """Return what asks and answers for a process, made on first use."""
    with _making:
        if process.whys is None:
            process.whys = Whys(process)
    found: Whys = process.whys
    return found


# -- the callee's side: what runs here ----------------------------------------------------------


class Running(NamedTuple):
    """A call that this process runs."""

    call: bytes  # the object id of its first result
    name: str
    started: float
    ident: int | None  # the thread that runs it
    task: Any  # or the asyncio task
    at: str = ""  # the actor, if it is not the one that was asked about


def answer(process: Process, lead: Lead) -> Explained:
    """Answer a question."""
    if "object" in lead:
        result = _owned(process, lead["object"])
        if result is None:
            return [_of_the_past(process, lead["object"])], None
        if result.state and rebuilt(process, result) is None:
            text = "its owner has the value: it is on its way, or has to be asked for"
            return [cause("ready", text, is_error=False)], None
        return explain(process, result)
    actor = lead.get("doing") or lead["actor"]
    host = process.callee.hosts.get(actor)
    execution = getattr(host, "execution", None)
    label = _label(process, host, actor)
    running = list(running_calls(process, host))
    blocks_loop = _blocks_loop(host)
    if "call" not in lead:
        return _doing(process, actor, label, [blocks_loop] if blocks_loop else running)
    wanted = lead["call"][:24]
    name = lead.get("label") or "the call"
    for each in running if blocks_loop is None else [blocks_loop, *running]:
        if each.call[:24] == wanted:
            if not each.name:
                each = each._replace(name=name)  # noqa: PLW2901 - its function is being loaded
            return _runs(process, each, label)
    blocking = blocks_loop or max(running, key=_age, default=None)
    if blocking is None:
        return _constructs(process, actor, label, name)
    if not blocking.name:
        blocking = blocking._replace(name="a call that is being loaded")
    text = f"{name} is queued at {label} behind {blocking.name}"
    caller, number, _ = split_object_id(lead["call"])
    ahead = _ahead(host, execution, caller, number)
    if ahead:
        text += f" and {ahead:,} more"
    elif len(running) > 1:
        text += f"; {len(running)} calls run"
    if blocking.at:
        text += f" of {blocking.at}, which has its turn in the process that they share"
    causes, further = _runs(process, blocking, label)
    return [cause("queued", text, call=name, ahead=ahead), *causes], further


def _owned(process: Process, object_id: bytes) -> Result | None:
    """Return a result that this process made, if anything here still knows of it."""
    found: Result | None = process.objects._shared.get(object_id)  # noqa: SLF001
    if found is not None:
        return found
    caller, number, _ = split_object_id(object_id)
    for result in pending_results(process):
        if (
            getattr(result, "number", 0) == number
            and getattr(result.stream, "caller", None) == caller
        ):
            return result
    return None


def _of_the_past(process: Process, object_id: bytes) -> dict[str, Any]:
    """Say what became of a call that nothing here waits for any more."""
    failure = process.caller.failures.get(object_id)
    if failure is not None:
        text = f"the call has failed ({failure.kind}): {failure.message().strip()}"
        return cause("ready", text, is_error=True)
    caller, number, _ = split_object_id(object_id)
    for stream, first, methods, _ in process.caller.sent_lately():
        if stream.caller == caller and first <= number < first + len(methods):
            text = f"{who(process)} has had the result: the call has ended"
            return cause("ready", text, is_error=False)
    text = f"{who(process)} waits for no such result: it was let go, or ended long ago"
    return cause("unknown", text)


def _age(running: Running) -> float:
    return -running.started


def _label(process: Process, host: Any, actor: bytes) -> str:
    if actor == process.id:
        return f"a worker for tasks (pid {process.pid})"
    entry = process.actors._views.get(actor)  # noqa: SLF001
    execution = getattr(host, "execution", None)
    kind = getattr(host, "kind", None)
    spec = (execution.spec if execution is not None else None) or {}
    class_name = spec.get("class_name") or getattr(kind, "label", "") or "actor"
    name = spec.get("name") or (entry.entry.get("name") if entry is not None else "")
    return f"{class_name} {short(actor, name)} (pid {process.pid})"


def running_calls(process: Process, host: Any) -> Iterator[Running]:
    """Yield what an actor runs now."""
    shared = getattr(host, "host", None)
    if shared is not None and hasattr(host, "seat"):  # one of many in this worker
        seat = host.seat
        if seat is None and host.is_busy:
            seat = (
                shared.holder
            )  # it waits for its turn, while another actor of the worker runs
        if seat is not None and seat.seq and seat.intake is not None:
            other = seat.actor
            at = _label(process, other, other.id) if other not in (None, host) else ""
            yield _of_execution(seat, seat.ident)._replace(at=at)
        return
    execution = getattr(host, "execution", None)
    if execution is None:
        return
    if isinstance(host, MainHost):
        if execution.seq and execution.intake is not None:
            yield _of_execution(execution, threading.main_thread().ident)
        return
    calls = getattr(host, "_calls", None)
    for call in list((execution.calls if calls is None else calls).values()):
        is_thread = type(call.task) is int
        name = f"{execution.label or 'Actor'}.{call.function}()"
        ident, task = (call.task, None) if is_thread else (None, call.task)
        yield Running(call.object_id(), name, call.started, ident, task)


def _of_execution(execution: Any, ident: int | None) -> Running:
    intake, seq = execution.intake, execution.seq
    method = execution.names.get(execution.method) or OWN_METHODS.get(execution.method)
    owner = f"{execution.label}." if execution.label else "task "
    name = f"{owner}{method}()" if method else ""
    call = pack_object_id(intake.caller, seq + execution.offset, 0)
    return Running(call, name, execution.started, ident, None)


def _blocks_loop(host: Any) -> Running | None:
    """Return the call of an async actor whose code keeps the event loop from running others."""
    loop = getattr(host, "loop", None)
    if loop is None or host._ident == get_ident():  # noqa: SLF001
        return None
    task = asyncio.current_task(loop)
    for call in list(host._calls.values()):  # noqa: SLF001
        if call.task is task and task is not None:
            name = f"{host.execution.label}.{call.function}()"
            return Running(call.object_id(), name, call.started, host._ident, None)  # noqa: SLF001
    return None


def _ahead(host: Any, execution: Any, caller: bytes, number: int) -> int:
    """Return how many calls wait before one, in a host that runs one at a time."""
    if not isinstance(host, MainHost):
        return 0
    first, calls = execution.run_calls
    intake = execution.intake
    if intake is not None and intake.caller == caller:
        at = number - execution.offset
        if execution.seq < at < first + len(calls) // 2:
            return int(at - execution.seq - 1)
    waiting = max(0, first + len(calls) // 2 - execution.seq - 1)
    for run in list(host.runs):
        size = len(run[3]) >> 1
        if run[0].caller == caller and run[2] <= number < run[2] + size:
            return int(waiting + number - run[2])
        waiting += size
    return 0


def _runs(process: Process, running: Running, label: str) -> Explained:
    """Say where a call is that runs, and what it waits for."""
    seconds = max(0.0, perf_counter() - running.started)
    if running.task is not None:
        task = running.task
        is_on = asyncio.current_task(task.get_loop()) is task
        frames: Sequence[Any] = frames_of_task(task)
        awaited = [] if is_on else awaited_by_task(task, pending_results(process))
    else:
        frames = frames_of(running.ident)
        awaited = awaited_in(frames)
    held_up = held_up_in(frames)
    place = held_up[1] if held_up is not None else place_of(frames)
    text = f"{running.name} has run for {seconds:.1f} s at {running.at or label}"
    if place:
        text += f", and is at {place}"
    said = cause(
        "running",
        text,
        call=running.name,
        seconds=seconds,
        since=time.time() - seconds,
        place=place,
    )
    if held_up is not None:
        return [said, cause("consumer", held_up[0].explain(), call=running.name)], None
    if not awaited:
        return [said], None
    return _waits(process, said, running.name, awaited)


def _waits(
    process: Process, said: dict[str, Any], name: str, awaited: list[Result]
) -> Explained:
    more = f" and {len(awaited) - 1:,} more" if len(awaited) > 1 else ""
    first = awaited[0]
    what = first.call if isinstance(first, Part) else first
    if isinstance(what, Borrowed):
        on, named = "object " + what.id.hex(), what.id.hex()
    elif getattr(what, "stream", None) is None and not is_task(what):
        on, named = "an item of a stream", ""
    else:
        on, named = name_of(process, what), first.object_id().hex()
    waits = cause("waits", f"{name} waits there for {on}{more}", call=name, object=named)
    causes, lead = explain(process, first)
    return [said, waits, *causes], lead


def _constructs(process: Process, actor: bytes, label: str, name: str) -> Explained:
    """Nothing runs, so the constructor does, or what has run is on its way back."""
    frames = frames_of(threading.main_thread().ident)
    place = place_of(frames) if _is_single(process) else ""
    if not place:
        text = f"{name} has come to {label}, which runs nothing: it is about to run, or its reply is on the way"
        return [cause("unknown", text)], None
    return _constructor(process, label, frames, place)


def _doing(process: Process, actor: bytes, label: str, running: list[Running]) -> Explained:
    """Say what an actor does, whoever asked for it."""
    if running:
        return _runs(process, max(running, key=_age), label)
    frames = frames_of(threading.main_thread().ident)
    place = place_of(frames) if _is_single(process) else ""
    if place:
        return _constructor(process, label, frames, place)
    return [cause("idle", f"{label} is idle: no call runs")], None


def _is_single(process: Process) -> bool:
    return process.is_worker and not process.callee.hosts_many


def _constructor(process: Process, label: str, frames: Any, place: str) -> Explained:
    text = f"the constructor of {label} has not returned, and is at {place}"
    said = cause("constructor", text, place=place)
    awaited = awaited_in(frames)
    return _waits(process, said, "it", awaited) if awaited else ([said], None)


protect_module(__name__)
