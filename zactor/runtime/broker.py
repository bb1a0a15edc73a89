"""The broker's shell: it feeds the broker's machine and does what that says.

Everything is decided in `core.broker`. Here are its post, its loop's timers and its log.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from zactor.core.broker import BrokerMachine
from zactor.core.broker_config import BrokerConfig
from zactor.core.journal import Send
from zactor.core.state import MemoryState

if TYPE_CHECKING:
    from zactor.config import Config
    from zactor.core.state import State
    from zactor.runtime.loop import Loop, Timer
    from zactor.runtime.post import Peer, Post
    from zactor.wire.messages import Address

log = logging.getLogger("zactor.broker")


class RandomIds:
    """Fresh ids from the operating system."""

    def new_id(self) -> bytes:
        """Return 12 random bytes."""
        return os.urandom(12)


class BrokerShell:
    """Drives one broker machine on a loop. Everything runs on the loop's thread."""

    def __init__(self, machine: BrokerMachine, post: Post, loop: Loop, *, check: bool) -> None:
        self.machine = machine
        self._post = post
        self._loop = loop
        self._check = check
        self._timer: Timer | None = None
        self._due: float | None = None
        for message_type in machine.message_types:
            post.on(message_type, self._received)
        post.on_lost(self._lost)
        machine.start(loop.now())
        self._step()

    def _received(self, peer: bytes, address: Address, message: Any) -> None:
        self.machine.receive(peer, address, message, self._loop.now())
        self._step()

    def _lost(self, peer: Peer) -> None:
        self.machine.lost(peer.id, self._loop.now())
        self._step()

    def _tick(self) -> None:
        self._due = self._timer = None
        self.machine.tick(self._loop.now())
        self._step()

    def _step(self) -> None:
        for effect in self.machine.drain():
            if isinstance(effect, Send):
                self._post.send(effect.to, effect.message)
            else:
                level = logging.getLevelName(effect.level.upper())
                log.log(level if isinstance(level, int) else logging.INFO, "%s", effect.text)
        if self._check:
            self.machine.check()
        due = self.machine.next_deadline()
        if due != self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due = due
            self._timer = None
            if due is not None:
                self._timer = self._loop.call_later(max(0.0, due - self._loop.now()), self._tick)


def start_broker(
    loop: Loop, post: Post, config: Config, info: dict[str, Any], *, state: State | None = None
) -> BrokerShell:
    """Start a broker on a loop; `state` is where it keeps what must survive it."""
    settings = BrokerConfig(cluster=info, node_lease=config.lease, node_renew=config.renew)
    machine = BrokerMachine(state or MemoryState(), RandomIds(), settings)
    return BrokerShell(machine, post, loop, check=config.debug)
