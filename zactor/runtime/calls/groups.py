"""Placement groups as their users see them: who makes one, and who waits for one to be reserved.

Does not reserve anything: the broker does, and pushes a group's entry at each change. Nobody waits for
its answers without need: what this process asks of it afterwards comes after the group (or after its
end) on the same link. Who shows a group to others waits until the broker knows it (`confirm`).

Invariants
    V1  What is remembered of groups that are no more, and what is unanswered, is bounded.
    V2  A group that this process has removed is removed here at once, whatever arrives late.
"""

from __future__ import annotations

import threading
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING, Result
from zactor.exceptions import TaskPlacementGroupRemoved, ZactorError, from_wire, to_wire
from zactor.runtime.calls.actors import ADVICE
from zactor.wire.messages import Address, CreateGroup, GroupChanged, RemoveGroup, WatchGroup

if TYPE_CHECKING:
    from concurrent.futures import Future

    from zactor.runtime.process import Process

CREATED, REMOVED = "CREATED", "REMOVED"
REMOVED_KEPT = 1_000
MOST_UNANSWERED = 1_000  # creations and removals; more wait for the oldest


class GroupViews:
    """The placement groups that this process has asked about."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._entries: dict[bytes, dict[str, Any]] = {}
        self._waiting: dict[bytes, list[tuple[Result, int, Any]]] = {}
        self._removed: deque[bytes] = deque()  # those of `_entries` that are no more
        self._creating: dict[bytes, Future[Any]] = {}  # until the broker has answered
        self._removing: deque[Future[Any]] = deque()
        process.post.on(GroupChanged, self._changed)

    def entry(self, group: bytes) -> dict[str, Any] | None:
        """Return what was last heard of a group."""
        return self._entries.get(group)

    def create(self, spec: dict[str, Any]) -> None:
        """Have the broker make a group; what speaks against it is found out by who waits for it."""
        group = spec["id"]
        if len(self._creating) >= MOST_UNANSWERED:
            self.confirm(next(iter(self._creating)))
        future = self._ask(CreateGroup(0, spec))
        self._creating[group] = future
        future.add_done_callback(lambda done: self._answered(group, done))

    def _answered(self, group: bytes, done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            self.learn(done.result())
        else:
            shown = error if isinstance(error, ZactorError) else ZactorError(str(error))
            cause = {"error": to_wire(shown)}
            self.learn({"id": group, "state": REMOVED, "revision": 0, "cause": cause})
        self._creating.pop(group, None)

    def confirm(self, group: bytes) -> None:
        """Wait until the broker has answered about a group that this process has made.

        Raises:
            ZactorError: It was refused.
        """
        future = self._creating.get(group)
        if future is not None:
            self._process.wait_answer(future)

    def remove(self, group: bytes) -> None:
        """Have the broker give a group up."""
        while self._removing and self._removing[0].done():
            self._removing.popleft()
        if len(self._removing) >= MOST_UNANSWERED:
            self._process.wait_answer(self._removing[0])
        self._removing.append(self._ask(RemoveGroup(0, group)))
        known = self._entries.get(group)
        if known is not None or group in self._creating:
            self.learn({**(known or {"id": group}), "state": REMOVED, "revision": inf})  # V2

    def _ask(self, message: Any) -> Future[Any]:
        process = self._process
        if process.is_over is not None:
            raise process.is_over
        return process.post.request(process.broker, message)

    def learn(self, entry: dict[str, Any]) -> None:
        """Take an entry that was answered or pushed."""
        group = entry["id"]
        with self._lock:
            known = self._entries.get(group)
            if known is not None and known["revision"] > entry["revision"]:
                return
            state = entry["state"]
            self._entries[group] = entry
            if state == REMOVED and (known is None or known["state"] != REMOVED):
                self._removed.append(group)
                if len(self._removed) > REMOVED_KEPT:
                    self._entries.pop(self._removed.popleft(), None)  # V1
            waiting = self._waiting.pop(group, []) if state in (CREATED, REMOVED) else []
        if entry.get("pending_reason") and state not in (CREATED, REMOVED):
            name = entry.get("name") or group.hex()[:12]
            self._process.warn(
                f"placement group {name} waits: {entry['pending_reason']}. {ADVICE}"
            )
        for result, kind, value in waiting:
            if state == CREATED:
                result.settle(kind, value)
            else:
                result.settle(ERROR, _removed(entry))

    def awaited_by(self, result: Result) -> bytes | None:
        """Return the group that `when_created` will settle a result for."""
        with self._lock:
            for group, waiting in self._waiting.items():
                if any(each[0] is result for each in waiting):
                    return group
        return None

    def when_created(self, group: bytes, result: Result, kind: int, value: Any) -> None:
        """Settle a result once the group is reserved; with an error if it is removed."""
        with self._lock:
            self._waiting.setdefault(group, []).append((result, kind, value))
            known = self._entries.get(group)
        if known is not None:
            self.learn(known)
        if result.state == PENDING and group not in self._creating:
            self.watch(group)

    def watch(self, group: bytes) -> None:
        """Have the broker tell of a group's changes."""
        process = self._process
        future = process.post.request(process.broker, WatchGroup(0, group))

        def answered(done: Any) -> None:
            error = done.exception()
            if error is None and done.result() is not None:
                self.learn(done.result())
                return
            failure = error if isinstance(error, ZactorError) else _removed({"id": group})
            for result, _, _ in self._waiting.pop(group, []):
                result.settle(ERROR, failure)

        future.add_done_callback(answered)

    def _changed(self, peer: bytes, address: Address, message: GroupChanged) -> None:  # noqa: ARG002
        self.learn(message.entry)


def _removed(entry: dict[str, Any]) -> Exception:
    cause = entry.get("cause") or {}
    if cause.get("error"):
        return from_wire(cause["error"])
    text = cause.get("text") or "it was removed"
    name = entry["id"].hex()
    return TaskPlacementGroupRemoved(
        f"the placement group {name} is gone: {text}", executed="no"
    )
