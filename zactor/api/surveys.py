"""Tasks and objects of the whole cluster: asked of all who may know, and put together.

Who has made a call knows what it is and how it ended; who runs it knows that it runs, and since when.
So nodes are asked, which ask their workers, and drivers; all at the same time, and once. Whoever
does not answer in time is missing from the answer, which says so.

Nothing is gathered while nobody asks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from zactor.core.filters import Filters
from zactor.exceptions import ZactorError
from zactor.named import NamedTuple
from zactor.runtime.insight.listing import CALLEE_SAYS, RUNNING, survey
from zactor.runtime.links.reception import Waiter
from zactor.wire.messages import Address, Query, Survey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from zactor.runtime.process import Process

Row = dict[str, Any]

PATIENCE = 3.0  # seconds that one worker is given, at the most
SHOWN_MISSING = 5
MOST_ROWS = 10_000  # of one process


class Found(NamedTuple):
    """Rows, and what they lack."""

    rows: list[Row]
    missing: list[str]  # who did not answer, in words
    is_cut: bool  # there are more than the limit


def ask_all(
    runtime: Process, what: str, conditions: list[Any], limit: int, timeout: float
) -> Found:
    """Return the rows of all processes of the cluster.

    Args:
        runtime: Of the process that asks.
        what: "tasks" or "objects".
        conditions: Filters, see `core.filters`.
        limit: How many rows at the most.
        timeout: Seconds that it may take.

    Raises:
        ValueError: A filter makes no sense.
        ZactorError: The broker does not answer.
    """
    deadline = time.monotonic() + timeout
    filters = Filters(conditions)
    patience = min(PATIENCE, timeout / 2)
    # What a caller does not know of its calls can only be filtered here, when all have answered.
    is_late = any(condition[0] in CALLEE_SAYS for condition in conditions)
    most = MOST_ROWS if is_late else limit
    args = {"filters": conditions, "limit": most, "patience": patience}
    runtime.flush()
    runtime.look()  # what has arrived and nobody has waited for is settled now
    asked = dict(_places(runtime, deadline))
    futures: dict[str, Future[Any]] = {
        name: runtime.post.request(place, Survey(0, what, args))
        for name, place in asked.items()
        if place.process != runtime.id
    }
    waiter = Waiter(len(futures))
    for future in futures.values():
        future.add_done_callback(waiter.settled)
    answers = []
    if len(futures) < len(asked):
        answers.append(survey(runtime, what, args))
    runtime.flush()
    if futures:
        until = min(deadline, time.monotonic() + patience + PATIENCE)
        runtime.reception.wait(waiter, until)
    missing = []
    for name, future in futures.items():
        said = _answer_of(future)
        if said is None:
            missing.append(name)
        else:
            answers.append(said)
    return _together(answers, missing, filters, limit)


def _places(runtime: Process, deadline: float) -> Iterator[tuple[str, Address]]:
    """Yield whom to ask: the nodes, for their workers, and the drivers."""

    def rows(what: str, *condition: str) -> Any:
        query = Query(0, what, {"filters": [list(condition)]})
        return runtime.ask(query, timeout=max(0.05, deadline - time.monotonic()))

    for node in rows("nodes", "state", "=", "ALIVE"):
        yield f"node {node['node_id'][:12]}", Address._make(node["process_address"])
    for job in rows("jobs", "status", "=", "RUNNING"):
        yield (
            f"the driver of job {job['job_id']} (pid {job['pid']})",
            Address._make(job["address"]),
        )


def _answer_of(future: Future[Any]) -> Any:
    """Return an answer; None if there is none.

    Raises:
        ValueError: The question makes no sense.
    """
    if not future.done():
        return None
    error = future.exception()
    if error is None:
        return future.result()
    text = error.message if isinstance(error, ZactorError) else ""
    if text.startswith("BadRequest: "):
        raise ValueError(text.removeprefix("BadRequest: ")) from None
    return None


def _together(answers: list[Any], missing: list[str], filters: Filters, limit: int) -> Found:
    running: dict[str, Row] = {}
    started: set[tuple[bytes, int, int]] = set()  # caller, stream, seq
    for said in answers:
        for task, since, *whose in said["running"]:
            running[task] = {"start_time_ms": since, **_whose(*whose)}
        for process, pid, label, progress in said.get("silent", ()):
            missing.append(f"{label or 'a worker'} (pid {pid}, {process.hex()[:12]})")
            started.update((bytes(row[0]), row[1], row[2]) for row in progress)
    rows: list[Row] = []
    is_cut = any(said["is_cut"] for said in answers)
    for row in (row for said in answers for row in said["rows"]):
        at = row.pop("at", None)
        if at is not None:
            about = running.get(row["task_id"])
            if about is not None:
                row |= {"state": RUNNING, **about}
            elif (bytes(at[0]), at[1], at[2]) in started:
                row["state"] = RUNNING
        if not filters.match(row):
            continue
        if len(rows) == limit:
            is_cut = True
            break
        rows.append(row)
    return Found(rows, missing, is_cut)


def _whose(process: bytes = b"", pid: int = 0) -> Row:
    return {"worker_id": process.hex(), "worker_pid": pid} if process else {}


def missing_text(what: str, missing: list[str]) -> str:
    """Return what is said of rows that are not there."""
    shown = ", ".join(missing[:SHOWN_MISSING])
    more = f" and {len(missing) - SHOWN_MISSING} more" if len(missing) > SHOWN_MISSING else ""
    return (
        f"the {what} of {shown}{more} are missing: no answer in time (C code may hold the "
        "interpreter, or it is stopped)"
    )
