"""A post's connections to its peers: which kind each is made with, and who notices when one ends.

    within the machine   `transport.local`: tells by itself when it ends
    over tcp             `transport.network`: a DEALER, whose end shows on its descriptor (mostly)
    answered over        `ReturnRoute`: the peer's own connection to our inbox

Owned by: the receiving thread, except for what says otherwise.
"""

from __future__ import annotations

import select
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.runtime.links.interrupts import protect_module
from zactor.transport import local
from zactor.transport.arrivals import EDGE, READABLE, WRITABLE
from zactor.transport.limits import most_connections
from zactor.transport.local import LocalConnection

if TYPE_CHECKING:
    from zactor.runtime.links.peer import Peer
    from zactor.runtime.links.post import Post
    from zactor.wire.messages import Address

LOOK_AFTER = 0.1  # seconds after a connection was used
REST_AFTER = (
    0.05  # seconds; while there are too many connections, how often idle ones are closed
)
LINGER = 1.0  # seconds for a last word


class Connections:
    """See the module.

    Attributes:
        most: Connections from which on idle ones are closed.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        self.most = most_connections()
        # Of the DEALERs. Edge-triggered like ZMQ_FD itself: a level would fire until the socket is
        # next used; and in a set of their own, so that an interrupted wait uses no edge up.
        self._edges = select.epoll()
        self._by_fd: dict[int, Peer] = {}
        self._probed: dict[int, Peer] = {}  # by the descriptor of their wire's probe
        self._open: set[Peer] = set()
        self._last: set[LocalConnection] = set()  # on which a last word was said
        self._is_resting = False
        self._to_look_at: deque[Peer] = deque()
        self._is_looking = False
        post.arrivals.register(self._edges.fileno(), self.look_at_edges)

    def endpoint_of(self, address: Address) -> str:
        """Return the endpoint by which this process reaches `address`.

        Raises:
            ConnectionRefusedError: There is none.
        """
        if address.ipc and address.machine == self._post.address.machine:
            return address.ipc
        if address.tcp:
            return address.tcp
        raise ConnectionRefusedError("the process has no network endpoint")

    def wire_to(self, peer: Peer) -> Any:
        """Make a connection to a peer, or to who passes things on to it. Any thread, under its lock.

        Raises:
            OSError: It is refused.
        """
        post = self._post
        if peer.route:
            from zactor.transport.network import ReturnRoute

            assert post.tcp_inbox.socket is not None  # it came over that
            return ReturnRoute(post.tcp_inbox.socket, peer.route)
        address = peer.address
        if peer.is_relayed and post.relay_of is not None:
            address = post.relay_of(peer)
        endpoint = self.endpoint_of(address)
        if endpoint.startswith("ipc://"):
            return local.connect(
                endpoint[6:], post.arrivals, post.deliver, peer.wire_ended, peer.lock
            )
        from zactor.transport.network import SendingSocket

        wire = SendingSocket(endpoint, post.keys)
        if peer.is_returning:
            wire.on_arrival = lambda: post.call_later(0, peer.check_connection)
        return wire

    def send_once(self, address: Address, data: bytes, route: Any) -> None:
        """Send one message to a process without a link to it, if that can be done; the refusals.

        `route` is what it came on, if it can be answered only there.
        """
        post = self._post
        if type(route) is bytes:
            assert post.tcp_inbox.socket is not None
            post.tcp_inbox.socket.send(route, (data,))
            return
        try:
            endpoint = self.endpoint_of(address)
            if endpoint.startswith("ipc://"):
                self._send_last(endpoint[6:], data)
            else:
                from zactor.transport.network import SendingSocket

                wire = SendingSocket(endpoint, post.keys)
                wire.send(data, ())
                wire.close(linger=LINGER)
        except OSError:
            return

    def _send_last(self, path: str, data: bytes) -> None:
        # Libzmq drops what it has not read of a connection that it cannot greet back on.
        last: set[LocalConnection] = self._last

        def ended(connection: LocalConnection, why: str = "") -> None:  # noqa: ARG001
            last.discard(connection)
            connection.close()

        post = self._post
        made = local.connect(path, post.arrivals, post.deliver, ended, threading.Lock())
        last.add(made)
        made.send(data, ())
        post.call_later(LINGER, partial(ended, made))

    def watch(self, peer: Peer) -> None:
        """Take notice of the end of a peer's new wire. Any thread, under its lock."""
        wire = peer.wire
        self._open.add(peer)
        peer.is_looked_at = wire.tells_its_end
        if not wire.tells_its_end:
            self._by_fd[wire.fd] = peer
            if wire.probe is not None:
                self._probed[wire.probe.fd] = peer
                self._edges.register(wire.probe.fd, WRITABLE)
            self._edges.register(wire.fd, READABLE | EDGE)
        if len(self._open) > self.most and not self._is_resting:
            self._is_resting = True
            self._post.call_later(REST_AFTER, self._rest_idle)

    def _rest_idle(self) -> None:
        # A clock: what was not used since the last round goes, the longest known first. What that
        # costs is paid only by a process with thousands of connections.
        self._is_resting = False
        surplus = len(self._open) - self.most * 9 // 10
        for peer in list(self._post.peers.values()):
            if surplus <= 0:
                return
            surplus -= peer.rest()
        if len(self._open) > self.most:
            self._is_resting = True
            self._post.call_later(REST_AFTER, self._rest_idle)

    def unwatch(self, peer: Peer) -> None:
        """Undo `watch`, before the wire is closed. Any thread, under the peer's lock."""
        self._open.discard(peer)
        wire = peer.wire
        if not wire.tells_its_end and self._by_fd.pop(wire.fd, None) is not None:
            self._edges.unregister(wire.fd)
            self.end_probe(peer)

    def end_probe(self, peer: Peer) -> str:
        """Take the probe of a wire out of the poll set; return why it failed, if it did."""
        probe = peer.wire.probe
        if probe is None:
            return ""
        peer.wire.probe = None
        self._probed.pop(probe.fd, None)
        self._edges.unregister(probe.fd)
        failure: str = probe.failure()
        probe.close()
        return failure

    def look_later(self, peer: Peer) -> None:
        """Have a connection that is about to be used looked at a moment later. Any thread.

        Sending may take libzmq's word that the connection is gone off the descriptor's edge without
        telling: then nothing would tell any more, and what is sent would go nowhere, for ever.
        """
        if not peer.is_looked_at:
            peer.is_looked_at = True
            self._to_look_at.append(peer)
            if not self._is_looking:
                self._is_looking = True
                self._post.call_later(LOOK_AFTER, self._look)

    def _look(self) -> None:
        self._is_looking = False
        for _ in range(len(self._to_look_at)):
            peer = self._to_look_at.popleft()
            peer.is_looked_at = isinstance(peer.wire, LocalConnection)
            peer.check_connection()

    def look_at_edges(self) -> None:
        """Look at the DEALERs whose descriptors have something to say."""
        for fd, _ in self._edges.poll(0):
            probed = self._probed.get(fd)
            if probed is not None:
                probed.probe_ready()
                continue
            peer = self._by_fd.get(fd)
            if peer is not None:
                peer.check_connection()

    def close(self) -> None:
        """Release the poll set; the wires are their peers'."""
        self._post.arrivals.unregister(self._edges.fileno())
        self._edges.close()
        while self._last:
            self._last.pop().close()


protect_module(__name__)
