"""The relay: brokers and nodes pass on messages between processes that cannot connect to each other.

A message whose destination is another process is sent on as it is, over the link that leads there:
the destination's own, or its node's. Numbers, acknowledgements and repeats are between the two ends;
a relay keeps no message. What it may have lost, because the link to the next hop broke or there
is none, it says (HOP_LOST) to the sender, who greets again and repeats what did not arrive. That is said
on the relay's own link to the sender, which loses nothing: the way back may be broken, too.

    sender --- broker --- destination            it is on the broker's machine, or it is
                                                 connected to the broker
    sender --- broker --- node --- destination   otherwise

Does not decide who uses it (`routing`), and does not look inside. A broker hands to nodes, a node
only to processes of its machine, so that nothing goes in circles.

Owned by: the loop's thread.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from zactor.runtime.links.peer import BROKEN, CLOSED, FRESH, UP
from zactor.wire.codec import HELLO, HOP_LOST
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.runtime.links.peer import Peer
    from zactor.runtime.links.post import Post

MOST_KNOWN = 65_536  # processes whose address is remembered
MOST_PAIRS = 4_096  # pairs that are told when one hop breaks; those beyond find out by a gap


class Relay:
    """Passes on what its process's post receives for others."""

    def __init__(
        self, post: Post, *, node_of: Callable[[bytes], Address | None] | None = None
    ) -> None:
        """Begin.

        Args:
            post: Whose inbox and links are used.
            node_of: Where a node is, for a broker; None for a node, which passes nothing to others.
        """
        self._post = post
        self._node_of = node_of
        self._addresses: OrderedDict[bytes, Address] = OrderedDict()
        self._pairs: dict[bytes, dict[tuple[bytes, bytes], None]] = {}  # by next hop
        # Pairs whose sender was told of a loss and has not greeted since.
        self._told: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()
        self.passed = 0
        post.relay = self
        post.on_broken = self._hop_broken

    def forward(self, envelope: list[Any], data: bytes, frames: Sequence[bytes]) -> bool:
        """Pass a message on; False if it is none that a relay passes on."""
        kind, source, destination = envelope[1:4]
        if kind == HELLO and not self._learn(envelope):
            return False
        address = self._addresses.get(destination)
        if address is None:
            if kind != HELLO and source in self._addresses:
                self._say_lost(source, destination)
            return bool(kind != HELLO)
        if kind == HELLO:
            self._told.pop((source, destination), None)
        elif (source, destination) in self._told:
            return True  # it follows what was lost, and will come again after a greeting
        hop = self._next_hop(address)
        if hop is None or not self._send(hop, data, frames):
            self._say_lost(source, destination)
            return True
        self.passed += 1
        pairs = self._pairs.setdefault(hop.id, {})
        if (source, destination) not in pairs and len(pairs) < MOST_PAIRS:
            pairs[source, destination] = None
        return True

    def _learn(self, hello: list[Any]) -> bool:
        """Note who the ends are; False if this hello was not meant to be passed on."""
        try:
            ends = (Address._make(hello[6]["address"]), Address._make(hello[7]["to"]))
        except (IndexError, KeyError, TypeError):
            return False
        for address in ends:
            self._addresses[address.process] = address
            self._addresses.move_to_end(address.process)
        while len(self._addresses) > MOST_KNOWN:
            self._addresses.popitem(last=False)
        return True

    def _next_hop(self, address: Address) -> Peer | None:
        post = self._post
        known = post.peers.get(address.process)
        if known is not None and known.state == UP:
            return known
        if address.machine == post.address.machine:
            return post.peer(address)
        if self._node_of is None:
            return None
        node = self._node_of(address.node) if address.node else None
        if node is not None and node.process not in (address.process, post.process_id):
            return post.peer(node)
        return post.peer(address) if address.tcp or known is not None else None

    def _send(self, hop: Peer, data: bytes, frames: Sequence[bytes]) -> bool:
        with hop.lock:
            if hop.state == FRESH:
                hop.connect()
            if hop.state != UP:
                return False
            if hop.wire.send(data, frames):
                return True
            hop.broken()
            return False

    def _say_lost(self, source: bytes, destination: bytes) -> None:
        self._told[source, destination] = None
        if len(self._told) > MOST_KNOWN:
            self._told.popitem(last=False)
        self.pass_loss(source, destination)

    def pass_loss(self, source: bytes, destination: bytes) -> None:
        """Tell `source`, or who is on the way to it, that what it sent to `destination` may be lost."""
        address = self._addresses.get(source)
        hop = self._next_hop(address) if address is not None else None
        if hop is not None:
            with hop.lock:
                hop.transmit(HOP_LOST, [destination, source])

    def _hop_broken(self, hop: Peer) -> None:
        if hop.state in (BROKEN, CLOSED) and hop.id in self._pairs:
            pairs = self._pairs.pop(hop.id)
            self._post.call_later(0, lambda: self._say_all_lost(pairs))

    def _say_all_lost(self, pairs: dict[tuple[bytes, bytes], None]) -> None:
        for source, destination in pairs:
            self._say_lost(source, destination)
