"""A node's answer to `Survey`: what its workers have called, own and run.

Asks each worker that has work over its control lane, and answers when all have, or when the asker's
patience is over: a worker whose interpreter is held by C code, or that is stopped, is then named as
silent, with what its progress page says of what it runs. Nothing is kept between surveys.

    the node says to a worker        ["survey", number, what, args]
    and the worker to the node       ["surveyed", number, answer]

Invariants
    S1  Each survey is answered once, no later than its patience.
    S2  An answer has at most `limit` rows, however many workers there are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.wire.messages import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zactor.runtime.links.loop import Loop
    from zactor.runtime.links.post import Post
    from zactor.runtime.nodes.spawn import WorkerProcess
    from zactor.wire.messages import Address, Survey

MOST_PATIENCE = 30.0
MOST_AT_ONCE = 64  # surveys under way; more are refused
MOST_ROWS = 10_000
TABLES = ("tasks", "objects")


class _Pending:
    """A survey under way."""

    __slots__ = ("address", "answer", "limit", "request", "waits_for")

    def __init__(
        self, address: Address, request: int, limit: int, asked: Iterable[WorkerProcess]
    ) -> None:
        self.address = address
        self.request = request
        self.limit = limit
        self.waits_for = {worker.process: worker for worker in asked}
        self.answer: dict[str, Any] = {
            "rows": [],
            "running": [],
            "is_cut": False,
            "silent": [],
        }

    def add(self, worker: WorkerProcess, said: dict[str, Any]) -> None:
        rows = self.answer["rows"]
        room = self.limit - len(rows)
        rows += said["rows"][:room]
        self.answer["is_cut"] |= said["is_cut"] or len(said["rows"]) > room
        self.answer["running"] += [
            [*each[:2], worker.process, worker.pid] for each in said["running"]
        ]


class Surveys:
    """The surveys of one node. On the loop's thread."""

    def __init__(
        self,
        loop: Loop,
        post: Post,
        workers: Callable[[], dict[WorkerProcess, str]],
        send: Callable[[WorkerProcess, list[Any]], None],
    ) -> None:
        """Prepare. `workers()` returns those that can be asked, with their labels."""
        self._loop = loop
        self._send = send
        self._post = post
        self._workers = workers
        # What the node answers itself: table -> function(asker, args), which returns rows.
        self.of_node: dict[str, Callable[[Address, dict[str, Any]], list[Any]]] = {}
        self._pending: dict[int, _Pending] = {}
        self._number = 0

    def asked(self, peer: bytes, address: Address, message: Survey) -> None:  # noqa: ARG002
        """Somebody asks."""
        try:
            limit = max(1, min(int(message.args.get("limit", 100)), MOST_ROWS))
            patience = min(float(message.args.get("patience", 1.0)), MOST_PATIENCE)
        except (AttributeError, TypeError, ValueError) as error:
            self._refuse(address, message, f"a survey's arguments: {error}")
            return
        own = self.of_node.get(message.what)
        if own is not None:
            rows = own(address, message.args)
            answer = {"rows": rows, "running": [], "is_cut": False, "silent": []}
            self._post.answer(address, message.request, answer)
            return
        if message.what not in TABLES or len(self._pending) >= MOST_AT_ONCE:
            text = f"no survey of {message.what!r}"
            self._refuse(address, message, text if message.what not in TABLES else "too many")
            return
        self._number += 1
        number, workers = self._number, self._workers()
        self._pending[number] = _Pending(address, message.request, limit, workers)
        for worker in workers:
            self._send(
                worker, ["survey", number, message.what, {**message.args, "limit": limit}]
            )
        if workers:
            self._loop.call_later(max(0.0, patience), partial(self._overdue, number))
        else:
            self._finish(number)

    def _refuse(self, address: Address, message: Survey, text: str) -> None:
        self._post.send(address, Answer(message.request, False, ["BadRequest", text, {}]))

    def answered(self, worker: WorkerProcess, words: list[Any]) -> None:
        """A worker has answered; late answers are dropped."""
        number = words[0] if words and isinstance(words[0], int) else 0
        pending = self._pending.get(number)
        if pending is None or pending.waits_for.pop(worker.process, None) is None:
            return
        said = _checked(words[1] if len(words) > 1 else None)
        if "error" in said:
            del self._pending[number]
            error = ["BadRequest", said["error"], {}]
            self._post.send(pending.address, Answer(pending.request, False, error))
            return
        pending.add(worker, said)
        if not pending.waits_for:
            self._finish(number)

    def worker_died(self, process: bytes) -> None:
        """It will not answer any more."""
        for number, pending in list(self._pending.items()):
            if pending.waits_for.pop(process, None) and not pending.waits_for:
                self._finish(number)

    def _overdue(self, number: int) -> None:
        pending = self._pending.get(number)
        if pending is None:
            return
        labels = self._workers()
        for worker in pending.waits_for.values():
            progress = [row for row in worker.progress() if row[2] > row[3]]
            about = [worker.process, worker.pid, labels.get(worker, ""), progress]
            pending.answer["silent"].append(about)
        self._finish(number)

    def _finish(self, number: int) -> None:
        pending = self._pending.pop(number)
        self._post.answer(pending.address, pending.request, pending.answer)


def _checked(said: Any) -> dict[str, Any]:
    """Return what a worker has said, if it can be: user code runs there, and no word may end its node."""
    if isinstance(said, dict):
        rows, running = said.get("rows"), said.get("running")
        if isinstance(said.get("error"), str):
            return said
        if isinstance(rows, list) and isinstance(running, list):
            is_whole = all(isinstance(each, list) and len(each) > 1 for each in running)
            if is_whole:
                return {**said, "is_cut": bool(said.get("is_cut"))}
    return {"error": "a worker has answered nonsense"}
