"""Objects on their way from other nodes: in chunks, a few of each in flight, a few objects at once.

Knows nothing of room or segments: says which chunks to ask for, and when all are written.
"""

from __future__ import annotations

from collections import deque
from typing import Any

CHUNK = 1 << 20
CHUNKS_IN_FLIGHT = 4
MOST_PULLS = 8


class Pull:
    """One object being pulled."""

    __slots__ = ("address", "asked", "first", "home", "object_id", "segment", "size", "written")

    def __init__(self, object_id: bytes, home: str, address: Any) -> None:
        self.object_id = object_id
        self.home = home  # name of the segment there
        self.address = address
        self.size = 0  # of the whole; known with the first chunk
        self.first = b""  # the first chunk, until there is room for the object
        self.segment = ""  # where it is written to, once there is room
        self.asked = 0
        self.written = 0


class Pulls:
    """All pulls of a node."""

    def __init__(self) -> None:
        self._pulls: dict[bytes, Pull] = {}  # under way
        self._queue: deque[Pull] = deque()
        self._asked: dict[int, tuple[Pull, int]] = {}  # token -> pull, offset
        self._serial = 0
        self.to_ask: list[
            tuple[int, Pull, int]
        ] = []  # (token, pull, offset) to send; taken by the owner

    def start(self, object_id: bytes, home: str, address: Any) -> None:
        """Begin to pull an object, now or when others are done."""
        pull = Pull(object_id, home, address)
        if len(self._pulls) < MOST_PULLS:
            self._begin(pull)
        else:
            self._queue.append(pull)

    def get(self, object_id: bytes) -> Pull | None:
        """The object's pull, if it is under way."""
        return self._pulls.get(object_id)

    def stop(self, object_id: bytes) -> None:
        """The pull is over, one way or another."""
        self._queue = deque(pull for pull in self._queue if pull.object_id != object_id)
        if self._pulls.pop(object_id, None) is not None and self._queue:
            self._begin(self._queue.popleft())

    def answered(self, token: int, ok: bool, value: Any) -> tuple[Pull, int, bytes] | None:
        """A node's answer: returns the pull, the offset, and the chunk (b"" if it failed)."""
        pull, offset = self._asked.pop(token, (None, 0))
        if pull is None or self._pulls.get(pull.object_id) is not pull:
            return None
        if not ok or not _is_chunk(value, offset, pull.size):
            return pull, offset, b""
        pull.size = value[0]
        return pull, offset, value[1]

    def ask_more(self, pull: Pull) -> None:
        """Ask for as many chunks as may be in flight."""
        while pull.asked < pull.size and pull.asked - pull.written < CHUNKS_IN_FLIGHT * CHUNK:
            self._ask(pull)

    def written(self, pull: Pull) -> bool:
        """One more chunk is written; was it the last?"""
        pull.written = min(pull.written + CHUNK, pull.size)
        self.ask_more(pull)
        return pull.written == pull.size

    def _begin(self, pull: Pull) -> None:
        self._pulls[pull.object_id] = pull
        self._ask(pull)

    def _ask(self, pull: Pull) -> None:
        self._serial += 1
        self._asked[self._serial] = (pull, pull.asked)
        self.to_ask.append((self._serial, pull, pull.asked))
        pull.asked += CHUNK


def _is_chunk(value: Any, offset: int, size: int) -> bool:
    """Whether a node's answer is the chunk it was asked for."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    total, payload = value
    if type(total) is not int or type(payload) not in (bytes, memoryview) or total <= 0:
        return False
    return total == (size or total) and len(payload) == min(CHUNK, total - offset)
