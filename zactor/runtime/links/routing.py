"""How one process reaches another: its own connection, an answer over the other's, or the relay.

    the peer is                                   its messages go
    on this machine                               over its ipc inbox
    the broker, on another machine                over tcp, and its answers come back the same way:
                                                  whoever can reach the broker can join
    another process on another machine            over tcp, after this process has bound tcp itself
    the same, but neither can be connected to     through the broker (`relay`)

With `transport="relay"` everything but the broker and the own node is reached through the relay;
that is for tests. A link takes to the relay when its first attempt fails, never later and never
back; its numbers go on, so that nothing is lost, doubled or overtaken.

Does not know what a relay does, nor what is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zactor.runtime.links.peer import FRESH

if TYPE_CHECKING:
    from collections.abc import Callable

    from zactor.runtime.links.peer import Peer
    from zactor.runtime.links.post import Post
    from zactor.wire.messages import Address

RELAY = "relay"
TRANSPORTS = ("", RELAY)


class Routing:
    """Decides, at each attempt to connect to a peer, how that is done."""

    def __init__(
        self,
        post: Post,
        *,
        broker: Callable[[], Address],
        node: Callable[[], Address | None],
        transport: str = "",
        host: str = "",
    ) -> None:
        """Take over the post's decisions.

        Args:
            post: Whose peers these are.
            broker: Where the broker is now.
            node: This process's own node, or the node itself: never relayed to.
            transport: "" or "relay".
            host: Where tcp is bound when that is needed.

        Raises:
            ValueError: There is no such transport.
        """
        if transport not in TRANSPORTS:
            raise ValueError(f"transport must be one of {TRANSPORTS}, not {transport!r}")
        self._post = post
        self._broker = broker
        self._node = node
        self._is_forced = transport == RELAY
        post.route = self.route
        post.relay_of = lambda peer: broker()
        if host:
            post.host = host

    def route(self, peer: Peer) -> None:
        """Set how `peer` is to be reached. Under its lock."""
        if peer.route or peer.is_relayed:
            return
        if peer.id == self._broker().process:
            peer.is_returning = peer.is_remote
            return
        node = self._node()
        if node is not None and peer.id == node.process:
            return
        if self._is_forced:
            # A node itself reaches what is on its machine: nothing could pass it on.
            is_node = node is not None and node.process == self._post.process_id
            peer.is_relayed = peer.is_remote or not is_node
        elif peer.is_remote:
            has_failed = peer.attempts > 0 and not peer.was_welcome
            peer.is_relayed = not peer.address.tcp or has_failed or self._post.cannot_bind
        if peer.is_relayed:
            # What comes back goes from the relay to this process: it has to know the way.
            self._post.call_later(0, self._greet_broker)

    def _greet_broker(self) -> None:
        address = self._broker()
        if address.process == self._post.process_id:
            return
        broker = self._post.peer(address)
        with broker.lock:
            if broker.state == FRESH:
                broker.connect()
