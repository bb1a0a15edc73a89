"""Processes the broker has heard of: which live, which are dead, who wants to know.

A process is entered when it attaches (drivers, nodes) or its node names it (workers), and
leaves for the bounded list of the dead. Does not find out about deaths: nodes do.

Invariants
    P1  A process is not both living and dead.
    P2  A watcher is told of a death once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from zactor.named import NamedTuple
from zactor.wire.messages import ProcessDied

if TYPE_CHECKING:
    from zactor.core.broker_config import BrokerConfig
    from zactor.core.journal import Journal

FORGOTTEN = {"kind": "exit", "code": 0, "text": "it ended some time ago"}


class Process(NamedTuple):
    """One living process."""

    kind: str  # driver, tool, worker or node
    node: bytes  # the node it runs on; b"" for drivers and tools
    pid: int


class Processes:
    """The living, the dead, and the watchers."""

    def __init__(self, journal: Journal, config: BrokerConfig) -> None:
        self._journal = journal
        self._config = config
        self.living: dict[bytes, Process] = {}
        self.on_node: dict[bytes, dict[bytes, None]] = {}
        self.dead: OrderedDict[bytes, dict[str, Any]] = OrderedDict()  # id -> cause
        self._watchers: dict[bytes, dict[bytes, None]] = {}  # process -> watchers
        self._watching: dict[bytes, dict[bytes, None]] = {}  # watcher -> processes

    def enter(self, process: bytes, kind: str, node: bytes = b"", pid: int = 0) -> None:
        """It lives."""
        if process in self.dead:
            return
        self.living[process] = Process(kind, node, pid)
        if node:
            self.on_node.setdefault(node, {})[process] = None

    def watch(self, process: bytes, watcher: bytes) -> None:
        """Have `watcher` told when it dies."""
        if len(self._watching.get(watcher, ())) < self._config.max_watches:
            self._watchers.setdefault(process, {})[watcher] = None
            self._watching.setdefault(watcher, {})[process] = None

    def is_known(self, process: bytes) -> bool:
        """Whether it is living or remembered as dead."""
        return process in self.living or process in self.dead

    def died(self, process: bytes, cause: dict[str, Any]) -> bool:
        """Enter a death and tell its watchers; False if it is known already."""
        if process in self.dead:
            return False
        known = self.living.pop(process, None)
        if known is not None and known.node:
            hosted = self.on_node.get(known.node, {})
            hosted.pop(process, None)
            if not hosted:
                self.on_node.pop(known.node, None)
        self.dead[process] = cause
        if len(self.dead) > self._config.max_dead_processes:
            self.dead.popitem(last=False)
        for watcher in self._watchers.pop(process, {}):
            self._watching[watcher].pop(process, None)
            self._journal.send(watcher, ProcessDied(process, cause))
        for watched in self._watching.pop(process, {}):
            self._watchers[watched].pop(process, None)
            if not self._watchers[watched]:
                del self._watchers[watched]
        self._journal.book.pop(process, None)
        return True

    def check(self) -> None:
        """Assert P1 and that the indexes agree."""
        assert not (self.living.keys() & self.dead.keys()), "P1"
        for node, hosted in self.on_node.items():
            for process in hosted:
                assert self.living[process].node == node
        for process, watchers in self._watchers.items():
            for watcher in watchers:
                assert process in self._watching[watcher]
