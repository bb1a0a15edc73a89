"""One side of connections within the machine, turned by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from zactor.transport import local
from zactor.transport.arrivals import Arrivals
from zactor.transport.local import LocalConnection, LocalListener


class Side:
    """A poll set with what was heard on it; turned by hand."""

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.heard: list[list[bytes]] = []
        self.ended: list[str] = []
        self.refused: list[str] = []
        self.timers: list[tuple[float, Any]] = []
        self.lock = threading.RLock()
        self.opened: list[LocalConnection | LocalListener] = []

    def deliver(self, connection: Any, first: bytes, frames: Sequence[bytes]) -> None:
        self.heard.append([first, *frames])

    def listen(self, path: str) -> LocalListener:
        made = LocalListener(
            path,
            self.arrivals,
            self.deliver,
            on_refused=self.refused.append,
            call_later=lambda seconds, callback: self.timers.append((seconds, callback)),
        )
        self.opened.append(made)
        return made

    def connect(self, path: str) -> LocalConnection:
        made = local.connect(
            path,
            self.arrivals,
            self.deliver,
            lambda made, why: self.ended.append(why),
            self.lock,
        )
        self.opened.append(made)
        return made

    def turn(self, seconds: float = 0.0) -> int:
        ready = self.arrivals.wait(seconds)
        self.arrivals.handle(ready)
        return len(ready)

    def until(self, condition: Any, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come to be in time"
            self.turn(0.02)

    def close(self) -> None:
        for each in self.opened:
            each.close()
        self.arrivals.close()
