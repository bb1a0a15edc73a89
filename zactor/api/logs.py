"""What workers have printed: the log files that nodes keep of it.

Files are read through their nodes, from any machine of the cluster; of a worker that is dead as well,
while its node keeps them (see `runtime.nodes.output`).

Does not set up how workers log (`api.log_config`).
"""

from __future__ import annotations

import fnmatch
import time
from collections import deque
from threading import Event
from typing import TYPE_CHECKING, Any

from zactor.exceptions import ZactorError
from zactor.named import NamedTuple
from zactor.wire.messages import Address, Query, ReadLog, Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zactor.runtime.process import Process

CHUNK = 1 << 20
INTERVAL = 0.2  # seconds between two looks at a file that is followed
STREAMS = {"out": 1, "err": 2}

_pause = Event()  # never set


class Log(NamedTuple):
    """One log file: what one process printed to one of its two streams."""

    node: Address
    process: bytes
    stream: int


def list_files(
    runtime: Process, node_id: str | None = None, pattern: str = "*", timeout: float = 30.0
) -> list[dict[str, Any]]:
    """Return the log files of a node, or of all; a row each.

    Raises:
        ValueError: There is no such node.
    """
    deadline = time.monotonic() + timeout
    nodes = _nodes(runtime, deadline)
    if node_id is not None:
        nodes = [node for node in nodes if node["node_id"] == node_id]
        if not nodes:
            raise ValueError(f"there is no node {node_id!r}")
    found = []
    for node in nodes:
        answer = runtime.ask(
            Survey(0, "logs", {}),
            to=Address._make(node["process_address"]),
            timeout=_left(deadline),
        )
        found += [
            {**row, "node_id": node["node_id"]}
            for row in answer["rows"]
            if fnmatch.fnmatch(row["filename"], pattern)
        ]
    return found


def find(runtime: Process, which: dict[str, Any], suffix: str, timeout: float = 30.0) -> Log:
    """Return the log that an actor, task, worker, pid or file name means.

    Args:
        runtime: Of the process that asks.
        which: `actor_id`, `task_id`, `worker_id`, `pid` or `filename`; with `node_id` for the last two,
            where several nodes have it.
        suffix: "out" or "err".
        timeout: Seconds that it may take.

    Raises:
        ValueError: There is no such log; says why.
    """
    if suffix not in STREAMS:
        raise ValueError(f"suffix must be 'out' or 'err', not {suffix!r}")
    deadline = time.monotonic() + timeout
    given = {name: value for name, value in which.items() if value is not None}
    node_id = given.pop("node_id", None)
    if len(given) != 1:
        raise ValueError(
            "say whose log it is by one of actor_id, task_id, worker_id, pid and filename, "
            f"not by {', '.join(given) or 'nothing'}"
        )
    [(kind, value)] = given.items()
    if kind in ("actor_id", "task_id"):
        kind, value = "worker_id", _worker_of(runtime, kind, value, deadline)
    rows = list_files(runtime, node_id, timeout=_left(deadline))
    wanted = [row for row in rows if str(row[kind]) == str(value)]
    if kind != "filename":
        wanted = [row for row in wanted if row["stream"] == suffix]
    if len({row["node_id"] for row in wanted}) > 1:
        raise ValueError(f"several nodes have a log of {kind} {value!r}: say node_id as well")
    if not wanted:
        raise ValueError(
            f"there is no log of {kind} {value!r}: it has printed nothing, never ran, "
            "or its log was deleted since (ZACTOR_LOG_FILES logs of dead workers are kept)"
        )
    row = wanted[-1]
    node = next(n for n in _nodes(runtime, deadline) if n["node_id"] == row["node_id"])
    place = Address._make(node["process_address"])
    return Log(place, bytes.fromhex(row["worker_id"]), STREAMS[row["stream"]])


def _worker_of(runtime: Process, kind: str, value: str, deadline: float) -> str:
    """Return the process that an actor lives in, or lived last, or that a task runs in."""
    from zactor.api.state import find_rows

    what = "actors" if kind == "actor_id" else "tasks"
    rows, _, _ = find_rows(runtime, what, [(kind, "=", value)], 1, _left(deadline))
    if not rows:
        raise ValueError(f"there is no {what.removesuffix('s')} {value!r}")
    if not rows[0]["worker_id"]:
        raise ValueError(f"{what.removesuffix('s')} {value!r} has no process, and has had none")
    return str(rows[0]["worker_id"])


def read(runtime: Process, log: Log, offset: int, timeout: float = 30.0) -> tuple[str, int]:
    """Return what stands in a log from `offset` on (up to 1 MiB of it), and where that ends.

    Raises:
        ValueError: The log is gone.
    """
    request = ReadLog(0, log.process, log.stream, offset, CHUNK)
    try:
        answer = runtime.ask(request, to=log.node, timeout=timeout)
    except ZactorError as error:
        raise ValueError(f"the log cannot be read: {error.message}") from None
    return answer["text"], answer["offset"]


def lines_of(
    runtime: Process,
    log: Log,
    *,
    tail: int = -1,
    follow: Callable[[], bool] | None = None,
    timeout: float = 30.0,
) -> Iterator[str]:
    """Yield pieces of a log: its last `tail` lines, or all (-1); then, as long as `follow()`, what is new.

    Raises:
        ValueError: The log is gone.
    """
    last, offset = _last_lines(runtime, log, tail, timeout) if tail >= 0 else ("", 0)
    if last:
        yield last
    while True:
        goes_on = (
            follow is not None and follow()
        )  # asked first: what is read then may be the last
        text, offset = read(runtime, log, offset, timeout)
        if text:
            yield text
        elif not goes_on:
            return
        else:
            _pause.wait(INTERVAL)


def _last_lines(runtime: Process, log: Log, count: int, timeout: float) -> tuple[str, int]:
    """Return the last lines, and where they end."""
    lines: deque[str] = deque(maxlen=count)
    text, offset = read(runtime, log, 0, timeout)
    rest = ""
    while text:
        *whole, rest = (rest + text).split("\n")
        lines.extend(line + "\n" for line in whole)
        text, offset = read(runtime, log, offset, timeout)
    if rest:
        lines.append(rest)
    return "".join(lines), offset


def _nodes(runtime: Process, deadline: float) -> list[dict[str, Any]]:
    query = Query(0, "nodes", {"filters": [["state", "=", "ALIVE"]]})
    return list(runtime.ask(query, timeout=_left(deadline)))


def _left(deadline: float) -> float:
    return max(0.05, deadline - time.monotonic())
