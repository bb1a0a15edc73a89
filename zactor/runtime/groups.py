"""Placement groups as their users see them: who waits for one to be reserved.

Does not reserve anything: the broker does, and pushes a group's entry at each change.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING, Result
from zactor.exceptions import TaskPlacementGroupRemoved, ZactorError, from_wire
from zactor.runtime.actors import ADVICE
from zactor.wire.messages import Address, GroupChanged, WatchGroup

if TYPE_CHECKING:
    from zactor.runtime.process import Process

CREATED, REMOVED = "CREATED", "REMOVED"


class GroupViews:
    """The placement groups that this process has asked about."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._entries: dict[bytes, dict[str, Any]] = {}
        self._waiting: dict[bytes, list[tuple[Result, int, Any]]] = {}
        process.post.on(GroupChanged, self._changed)

    def entry(self, group: bytes) -> dict[str, Any] | None:
        """Return what was last heard of a group."""
        return self._entries.get(group)

    def learn(self, entry: dict[str, Any]) -> None:
        """Take an entry that was answered or pushed."""
        group = entry["id"]
        with self._lock:
            known = self._entries.get(group)
            if known is not None and known["revision"] > entry["revision"]:
                return
            self._entries[group] = entry
            state = entry["state"]
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
        if result.state == PENDING:
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
    return TaskPlacementGroupRemoved(f"the placement group {entry['id'].hex()} is gone: {text}")
