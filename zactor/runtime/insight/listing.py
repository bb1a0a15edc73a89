"""What this process has called, owns and runs, as rows for `zactor.util.state`.

Nothing is kept for it that calls would not keep anyway, but for the last batches that left and the
last failures (both bounded, see `runtime.calls.caller`). So a finished call is listed for a while, and one
that goes on always.

Reads only, and in any thread: what it looks at may change meanwhile, and then a row is of before.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from zactor.core.calls import PENDING, STORED
from zactor.core.filters import Filters
from zactor.core.task_rows import task_row
from zactor.ids import PUT_INDEX, pack_object_id, split_object_id
from zactor.runtime.calls.dependents import method_name
from zactor.runtime.calls.failures import outcome
from zactor.runtime.calls.task_queues import Lease
from zactor.runtime.insight.why import running_calls
from zactor.runtime.links.interrupts import protect_module
from zactor.runtime.objects.objects import Borrowed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zactor.core.calls import Result, Stream
    from zactor.runtime.calls.failures import Failure
    from zactor.runtime.process import Process

Row = dict[str, Any]
Batch = tuple[Any, int, list[int], float]  # as `Caller.sent_lately` has them

MOST_LOOKED_AT = 200_000  # calls of one process that a listing goes through
MOST_RUNNING = 10_000

WAITS_FOR_ARGUMENTS = "PENDING_ARGS_AVAIL"
WAITS_FOR_WORKER = "PENDING_NODE_ASSIGNMENT"
WAITS_FOR_ACTOR = "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY"
SUBMITTED = "SUBMITTED_TO_WORKER"
RUNNING = "RUNNING"

CALLEE_SAYS = frozenset({"state", "start_time_ms", "worker_pid", "worker_id", "node_id"})
"""What the process that runs a call knows better than the one that made it."""


def survey(process: Process, what: str, args: Row) -> Row:
    """Return this process's rows of a table, and what it runs.

    Args:
        process: This process.
        what: "tasks" or "objects".
        args: `filters` and `limit`.

    Returns:
        `rows`; `is_cut`, whether there are more; and, of tasks, `running`: what runs here.

    Raises:
        ValueError: A filter makes no sense.
    """
    filters = Filters(args.get("filters"))
    limit = int(args.get("limit") or 100)
    found = _tasks(process) if what == "tasks" else _objects(process)
    looked_at = islice(found, MOST_LOOKED_AT)
    wanted = (
        row for row in looked_at if filters.match(row, CALLEE_SAYS if _is_sent(row) else ())
    )
    rows = list(islice(wanted, limit + 1))
    is_cut = len(rows) > limit or next(found, None) is not None
    said = {"rows": rows[:limit], "is_cut": is_cut, "running": []}
    if what == "tasks":
        said["running"] = list(islice(_running(process), MOST_RUNNING))
    return said


def _is_sent(row: Row) -> bool:
    return "at" in row


# -- tasks --------------------------------------------------------------------------------------


def _tasks(process: Process) -> Iterator[Row]:
    """Yield what waits, what has left, and what was settled lately; each call once."""
    seen: set[bytes] = set()
    with process.caller.lock:
        history, failures = process.caller.sent_lately(), dict(process.caller.failures)
    times = _Times(history)
    for row, identity in _unsettled(process, times):
        if identity not in seen:
            seen.add(identity)
            yield row
    yield from _settled(process, history, failures, seen)


class _Times:
    """When calls have left, as far as their batches are remembered."""

    def __init__(self, history: list[Batch]) -> None:
        self._batches: dict[Stream, list[tuple[int, int, float]]] = {}
        for stream, number, methods, when in history:
            self._batches.setdefault(stream, []).append((number, len(methods), when))
        for batches in self._batches.values():
            batches.sort()

    def of(self, stream: Stream, number: int) -> int | None:
        """Return when a call has left, in milliseconds since 1970."""
        batches = self._batches.get(stream, [])
        at = bisect_right(batches, (number, MOST_LOOKED_AT, 0.0)) - 1
        if at < 0 or number >= batches[at][0] + batches[at][1]:
            return None
        return int(batches[at][2] * 1000)


def _unsettled(process: Process, times: _Times) -> Iterator[tuple[Row, bytes]]:
    awaiting: list[Any] = [each for each in list(process.awaiting) if each.state == PENDING]
    for result in [*awaiting, *process.tasks.waiting()]:
        state = WAITS_FOR_ARGUMENTS if result.waiting else WAITS_FOR_WORKER
        if hasattr(result, "queue"):
            row = _row(process, result.stream.caller, result.number)
            _name(process, row, result.stream.caller, result.number, result.function[1])
            row["required_resources"] = dict(result.queue.shape.get("resources") or {})
        else:
            row = _called(process, result.stream, result.number, result.method)
        yield row | {"state": state}, result.object_id()
    for stream in _streams(process):
        for result in list(stream.pending.values()):
            if result.state == PENDING:
                row = _called(process, stream, result.number, result.method)
                row["creation_time_ms"] = times.of(stream, result.number)
                row["at"] = [stream.caller, stream.number, getattr(result, "seq", 0)]
                row["state"] = WAITS_FOR_ACTOR if row["actor_id"] else SUBMITTED
                yield row, result.object_id()
        for result in list(stream.held):
            row = _called(process, stream, result.number, result.method)
            row["state"] = WAITS_FOR_ARGUMENTS if result.waiting else WAITS_FOR_ACTOR
            yield row, result.object_id()


def _streams(process: Process) -> Iterator[Stream]:
    """Yield the streams that may have unsettled calls, each once."""
    seen: dict[int, Stream] = {}
    for peer in list(process.post.peers.values()):
        for stream in list(peer.calls.streams) if peer.calls is not None else ():
            seen[id(stream)] = stream
    for view in process.actors.all():
        for stream in list(view.streams):
            seen[id(stream)] = stream
    yield from seen.values()


def _settled(
    process: Process, history: list[Batch], failures: dict[bytes, Failure], seen: set[bytes]
) -> Iterator[Row]:
    """Yield the calls that left lately and are settled, newest first, and those that never left."""
    for stream, number, methods, when in reversed(history):
        for at in reversed(range(len(methods))):
            identity = pack_object_id(stream.caller, number + at, 0)
            if identity in seen:
                continue
            seen.add(identity)
            row = _called(process, stream, number + at, methods[at])
            row["creation_time_ms"] = int(when * 1000)
            yield row | outcome(failures.pop(identity, None))
    for identity, failure in reversed(failures.items()):
        if identity not in seen:
            yield _never_sent(process, failure) | outcome(failure)


def _never_sent(process: Process, failure: Failure) -> Row:
    if failure.function:
        row = _row(process, failure.stream.caller, failure.number)
        return _name(process, row, failure.stream.caller, failure.number, failure.function)
    return _called(process, failure.stream, failure.number, failure.method)


def _called(process: Process, stream: Stream, number: int, method: int) -> Row:
    """Return the row of a call on a stream: to an actor, or to a leased worker."""
    target: Any = stream.target
    row = _row(process, stream.caller, number)
    if isinstance(target, Lease):
        name = process.tasks.name_of(target, method)
        row["required_resources"] = dict(target.queue.shape.get("resources") or {})
        place, pid = target.address, None
    else:
        entry = target.entry
        known = method_name(entry, method) or "__zactor_call__"
        name = f"{entry.get('class_name') or 'Actor'}.{known}"
        place, pid = target.place, entry.get("pid")
        row |= {"actor_id": target.id.hex(), "type": "ACTOR_TASK"}
    if place is not None:
        row |= {"worker_id": place.process.hex(), "node_id": place.node.hex()}
        row["worker_pid"] = pid or None
    return _name(process, row, stream.caller, number, name)


def _name(process: Process, row: Row, caller: bytes, number: int, function: str) -> Row:
    """Enter what a call is of, and the name that it was given, if it was."""
    row["name"] = process.caller.given_names.get((caller, number), function)
    row["func_or_class_name"] = function
    return row


def _row(process: Process, caller: bytes, number: int) -> Row:
    """Return what the rows of all calls have in common."""
    return task_row(
        pack_object_id(caller, number, 0)[:24].hex(),
        job_id=process.job.hex(),
        parent_task_id=_parent(process, number),
        owner_id=process.id.hex(),
        owner_pid=process.pid,
    )


def _parent(process: Process, number: int) -> str | None:
    """Return the task that made a call: "" in a driver; None where that was not noted."""
    if not process.is_worker:
        return ""
    execution = process.running
    seq, intake = getattr(execution, "seq", 0), getattr(execution, "intake", None)
    if not seq or intake is None or number < getattr(execution, "first_made", number + 1):
        return None
    if len(getattr(execution, "run_calls", ((), ()))[1]) > 2:  # noqa: PLR2004 - one call's two fields
        return None  # one of several that run without a pause: which is not known
    return pack_object_id(intake.caller, seq + execution.offset, 0)[:24].hex()


def _running(process: Process) -> Iterator[list[Any]]:
    """Yield `[task id, since (ms)]` of the calls that run here."""
    now, clock = time.time(), perf_counter()
    seen: set[bytes] = set()
    for host in list(process.callee.hosts.values()):
        for call in list(running_calls(process, host)):
            identity = call.call[:24]
            if identity not in seen:
                seen.add(identity)
                yield [identity.hex(), int((now - (clock - call.started)) * 1000)]


# -- objects ------------------------------------------------------------------------------------


def _objects(process: Process) -> Iterator[Row]:
    """Yield the objects that this process shares, borrows or has stored."""
    return iter([_object(process, *known) for known in process.objects.known()])


def _object(process: Process, object_id: bytes, result: Result | None, place: Any) -> Row:
    is_ready = result is None or result.state != PENDING
    is_borrowed = isinstance(result, Borrowed)
    owner = result.owner[0].hex() if isinstance(result, Borrowed) else process.id.hex()
    return {
        "object_id": object_id.hex(),
        "object_size": place[1] if place else 0,
        "task_status": "FINISHED" if is_ready else "PENDING",
        "reference_type": "BORROWED" if is_borrowed else "LOCAL_REFERENCE",
        "type": "WORKER" if process.is_worker else "DRIVER",
        "call_site": "put" if split_object_id(object_id)[2] == PUT_INDEX else "",
        "pid": process.pid,
        "ip": "127.0.0.1",
        "is_stored": place is not None or (result is not None and result.state == STORED),
        "attempt_number": 1,
        "owner_id": owner,
        "worker_id": process.id.hex(),
        "node_id": process.post.address.node.hex(),
    }


protect_module(__name__)
