"""What a broker's step leaves behind: effects for the shell, writes for the state.

The parts of the broker share one journal. Writes are kept until `drain`, which commits them in
one transaction before it hands out the effects: nobody is told what could still be lost.

Does not look at what is written or sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.events import Events
from zactor.core.state import Change
from zactor.named import NamedTuple

if TYPE_CHECKING:
    from zactor.core.state import State
    from zactor.wire.messages import Address


class Send(NamedTuple):
    """Effect: send `message` to the process at `to`."""

    to: Address
    message: Any


class Report(NamedTuple):
    """Effect: log `text`. `level` is debug, info, warning or error."""

    level: str
    text: str


class Watch(NamedTuple):
    """Effect: watch a process of this machine; `BrokerMachine.process_ended` tells of its end."""

    process: bytes
    pid: int


Effect = Send | Report | Watch


class Journal:
    """Effects and writes of the steps since the last `drain`."""

    def __init__(self, state: State, events: Events | None = None) -> None:
        self.state = state
        self.events = events or Events(1_000)
        self.forgets = getattr(state, "forgets", False)  # nothing is ever read back
        self.revision = state.revision  # of the latest write, committed or not
        self.book: dict[bytes, Address] = {}  # process id -> where it was last heard from
        self._committed = state.revision
        self._writes: dict[bytes, Any] = {}
        self._effects: list[Effect] = []

    def put(self, key: bytes, value: Any) -> int:
        """Write `value` under `key`; return the revision of this write."""
        self._writes[key] = value
        self.revision += 1
        return self.revision

    def rise(self) -> int:
        """Return the revision of a change that is not written."""
        self.revision += 1
        return self.revision

    def delete(self, key: bytes) -> None:
        """Take `key` out of the state."""
        self._writes[key] = None
        self.revision += 1

    def send(self, process: bytes, message: Any) -> None:
        """Send to a process if it is known where it is."""
        address = self.book.get(process)
        if address is not None:
            self._effects.append(Send(address, message))

    def report(self, level: str, text: str) -> None:
        """Have the shell log something."""
        self._effects.append(Report(level, text))

    def watch(self, process: bytes, pid: int) -> None:
        """Have the shell watch a process of its own machine."""
        self._effects.append(Watch(process, pid))

    def commit(self) -> None:
        """Put what was written into the state.

        Raises:
            StaleError: Another broker has written to this state: this one must end.
        """
        if self._writes:
            changes = [Change(key, value) for key, value in self._writes.items()]
            self.state.transact(changes, after=self._committed, revision=self.revision)
            self._committed = self.revision
            self._writes = {}

    def drain(self) -> list[Effect]:
        """Commit what was written, then return the effects in order and forget them.

        Raises:
            StaleError: Another broker has written to this state: this one must end.
        """
        self.commit()
        effects, self._effects = self._effects, []
        return effects
