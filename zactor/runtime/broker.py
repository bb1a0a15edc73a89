"""The broker's shell: it feeds the broker's machine and does what that says.

Everything is decided in `core.broker`. Here are its post, its loop's timers and its log. Effects
are taken once in a turn of the loop: a burst of messages is one transaction of the state, and
nobody is told of what is not yet written, nor is a message acknowledged before what came of it is.
"""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.core.broker import BrokerMachine
from zactor.core.broker_config import BrokerConfig
from zactor.core.journal import Send, Watch
from zactor.core.state import ForgetfulState, StaleError
from zactor.exceptions import RemoteProtocolError
from zactor.runtime.links.gate import GatedPost
from zactor.runtime.links.relay import Relay
from zactor.wire.messages import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zactor.config import Config
    from zactor.core.state import State
    from zactor.runtime.links.loop import Loop
    from zactor.runtime.links.peer import Peer
    from zactor.runtime.links.post import Post
    from zactor.runtime.links.timers import Timer
    from zactor.wire.messages import Address

PROBE_EVERY = 2.0

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
        self._due = 0.0  # when the timer fires
        self._is_step_due = False
        self._is_probing = False
        self._is_retired = False
        self._pidfds: dict[bytes, int] = {}  # of nodes on this machine
        for message_type in machine.message_types:
            post.on(message_type, self._received)
        post.on_lost(self._lost)
        self._gate = post if isinstance(post, GatedPost) and not machine.forgets else None
        if self._gate is not None:
            self._gate.gate(self._commit, self._step_soon)
        Relay(post, node_of=machine.node_address)
        machine.show_links(post.counted)
        machine.start(loop.now())
        self._step()

    def retire(self) -> None:
        """Hear and do nothing more: the cluster is being ended, and who ends it sees to the rest."""
        self._is_retired = True

    def _received(self, peer: bytes, address: Address, message: Any) -> None:
        if type(message) is not Query:
            self._take(peer, address, message)
            return
        # What happened before it was asked may still be on its way within this process, in a lane of
        # its node: that has come at the end of the next turn.
        later = partial(self._take, peer, address, message)
        self._loop.call_later(0.0, partial(self._in_next_turn, later))

    def _in_next_turn(self, callback: Callable[[], None]) -> None:
        self._loop.call_later(0.0, callback)

    def _take(self, peer: bytes, address: Address, message: Any) -> None:
        if self._is_retired:
            return
        self.machine.receive(peer, address, message, self._loop.now())
        self._step_soon()
        known = self._post.peers.get(peer)  # not if it is this process itself
        if not self._is_probing and known is not None and known.route:
            self._is_probing = True
            self._loop.call_later(PROBE_EVERY, self._probe_routes)

    def _lost(self, peer: Peer) -> None:
        self.machine.lost(peer.id, self._loop.now())
        self._step_soon()
        if not self.machine.knows(peer.id):
            self._post.forget(peer.id)

    def _probe_routes(self) -> None:
        """Notice that a connection which is answered over is gone: it shows only in sending."""
        routed = [peer for peer in list(self._post.peers.values()) if peer.route]
        for peer in routed:
            self._post.probe(peer)
        self._is_probing = bool(routed)
        if routed:
            self._loop.call_later(PROBE_EVERY, self._probe_routes)

    def _tick(self) -> None:
        self._timer = None
        self.machine.tick(self._loop.now())
        self._step()

    def _step_soon(self) -> None:
        if not self._is_step_due:
            self._is_step_due = True
            self._loop.call_later(0.0, self._step)  # later in this very turn

    def _commit(self) -> None:
        try:
            self.machine.commit()
        except StaleError as error:
            self._replaced(error)
            raise RemoteProtocolError("another broker has taken over") from error

    def _replaced(self, error: StaleError) -> None:
        log.error("another broker has taken over, this one ends: %s", error)
        self._loop.stop()

    def _step(self) -> None:
        self._is_step_due = False
        if self._is_retired:
            return
        try:
            effects = self.machine.drain()
        except StaleError as error:
            self._replaced(error)
            return
        for effect in effects:
            if isinstance(effect, Send):
                self._post.send(effect.to, effect.message)
            elif isinstance(effect, Watch):
                self._watch(effect.process, effect.pid)
            else:
                level = logging.getLevelName(effect.level.upper())
                log.log(level if isinstance(level, int) else logging.INFO, "%s", effect.text)
        if self._gate is not None:
            self._gate.written()
        if self._check:
            self.machine.check()
        self._set_timer()

    def _watch(self, process: bytes, pid: int) -> None:
        if process in self._pidfds:
            return
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._loop.call_later(0.0, partial(self._ended, process))
            return
        self._pidfds[process] = fd
        self._loop.add_reader(fd, partial(self._ended, process))

    def _ended(self, process: bytes) -> None:
        fd = self._pidfds.pop(process, None)
        if fd is not None:
            self._loop.remove_reader(fd)
            os.close(fd)
        self.machine.process_ended(process, self._loop.now())
        self._step()
        self._post.forget(process)

    def _set_timer(self) -> None:
        due = self.machine.next_deadline()
        if self._timer is not None:
            # One that fires too early costs a turn. Moving it whenever a lease is renewed or
            # a deadline is cancelled would fill the loop's heap.
            if due is None or self._due <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._due = due
            pause = max(0.0, due - self._loop.now())
            self._timer = self._loop.call_later(pause, self._tick)

    def close(self) -> None:
        """Write what is not yet written, and let go of the state."""
        self._step()
        if self._timer is not None:
            self._timer.cancel()
        for fd in self._pidfds.values():
            self._loop.remove_reader(fd)
            os.close(fd)
        self._pidfds.clear()
        self.machine.close()


def start_broker(
    loop: Loop,
    post: Post,
    config: Config,
    info: Mapping[str, Any],
    *,
    state: State | None = None,
    **limits: Any,
) -> BrokerShell:
    """Start a broker on a loop.

    Args:
        loop: Runs it.
        post: Its inbox.
        config: Of the process.
        info: What everybody who attaches is told of the cluster.
        state: Where it keeps what must survive it; nothing survives if there is none.
        limits: Fields of `BrokerConfig` that are not to be the default.
    """
    fields: dict[str, Any] = {
        "cluster": dict(info),
        "machine": post.address.machine,
        "process": post.process_id,
        "node_lease": config.lease,
        "node_renew": config.renew,
        "driver_grace": config.driver_grace,
        "restart_grace": max(5.0, 1.5 * config.lease),
        "refuse_infeasible": config.refuse_infeasible,
        "epoch": time.time() - loop.now(),
        **limits,
    }
    settings = BrokerConfig(**fields)
    machine = BrokerMachine(state or ForgetfulState(history=0), RandomIds(), settings)
    return BrokerShell(machine, post, loop, check=config.debug)
