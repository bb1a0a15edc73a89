"""Hello, welcome and no: what two processes say to each other on a fresh connection.

The first message on every connection is a hello. It says who greets, where it can be reached, what it
speaks, and what has arrived from the other; the welcome says the same the other way, and
both send again what the other does not have. A hello from one that cannot be
talked to (another Python, another wire version, meant for another process) is refused with the reason.

Owned by: the receiving thread, except for `hello`, which any thread calls under the peer's lock.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from zactor.runtime.links.interrupts import protect_module
from zactor.runtime.links.peer import BROKEN, CLOSED, FRESH, GREETING, LOST_AFTER, UP
from zactor.wire.batches import SINGLES
from zactor.wire.codec import (
    HELLO,
    HOP_LOST,
    REFUSED,
    VERSION,
    WELCOME,
    hello_of_other_version,
    pack,
)
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zactor.runtime.links.peer import Peer
    from zactor.runtime.links.post import Post


class Greetings:
    """What is said and heard for one post."""

    def __init__(self, post: Post) -> None:
        self._post = post
        post.on_kind(
            WELCOME,
            self._welcome_received,
            lambda body: type(body) is dict and type(body.get("received")) is int,
        )
        post.on_kind(REFUSED, self._refused_received, lambda body: type(body) is dict)
        post.on_kind(
            HOP_LOST, self._hop_lost, lambda body: type(body) is list and len(body) == 2
        )

    def greeting(self, peer: Peer) -> dict[str, Any]:
        """What a hello and a welcome say."""
        greeting = {
            "address": list(self._post.address),
            "versions": [VERSION, VERSION],
            "python": list(sys.version_info[:3]),
            "received": self._post.received_from(peer),
            "number": peer.greeted,
            "heard": peer.heard,
            "features": {SINGLES: True, **self._post.features},
        }
        if peer.is_returning:
            greeting["return"] = "link"
        if peer.is_relayed:
            greeting["relayed"] = True
        return greeting

    def hello(self, peer: Peer) -> bytes:
        """The first message on every connection."""
        received = self._post.received_from(peer)
        envelope: tuple[Any, ...] = (
            VERSION, HELLO, self._post.process_id, peer.id, 0, received, self.greeting(peer),
        )  # fmt: skip
        if peer.is_relayed:
            envelope += ({"to": list(peer.address)},)
        return pack(envelope)

    def hello_received(self, source: bytes, envelope: list[Any], route: Any) -> None:
        """Take a hello; it makes the peer known if it was not."""
        body = envelope[6]
        try:
            address = Address._make(body["address"])
            received = int(body["received"])
            python = list(body["python"])
        except (TypeError, KeyError, ValueError):
            self._post.counters["refused"] += 1
            return
        if address.process != source:
            self._post.counters["refused"] += 1
            return
        if python[:2] != list(sys.version_info[:2]):
            mine = ".".join(map(str, sys.version_info[:2]))
            self.refuse(
                route,
                envelope,
                f"this cluster runs Python {mine} and the caller Python "
                f"{'.'.join(map(str, python[:2]))}: pickles would not be understood",
            )
            return
        peer = self._post.peer(address)
        with peer.lock:
            if peer.state == CLOSED:
                return
            if received > peer.link.sent:
                text = (
                    "this process was told that the other is lost, and has forgotten the link"
                )
                self.refuse(route, envelope, text, is_forgotten=True)
                return
            peer.link.acknowledged(received)
            _note_features(peer, body)
            peer.heard = body.get("number", 0)
            if body.get("relayed") and peer.state != UP:
                peer.is_relayed = True
            elif body.get("return") == "link" and type(route) is bytes and peer.route != route:
                peer.use_route(route)
            if peer.state in (FRESH, BROKEN):
                peer.connect()  # with a hello that says what was heard: it is the answer, too
            else:
                self._post.send_raw(peer, WELCOME, self.greeting(peer))
            if body.get("heard") == peer.greeted:
                peer.welcomed()

    def _welcome_received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        with peer.lock:
            peer.link.acknowledged(int(body["received"]))
            _note_features(peer, body)
            if body.get("again") and peer.state == UP:
                peer.send_unacked()
            # An answer to the hello on a connection that is gone says nothing about this one.
            if body.get("heard") == peer.greeted:
                peer.welcomed()

    def refuse(
        self,
        route: Any,
        hello: list[Any],
        reason: str,
        *,
        successor: Address | None = None,
        version: int = VERSION,
        is_forgotten: bool = False,
    ) -> None:
        """Say no to a hello, as the process it was meant for and in the version it speaks."""
        try:
            body = hello[6]
            address = Address._make(body["address"])
            refusal = {
                "reason": reason,
                "address": list(successor) if successor else None,
                "forgotten": is_forgotten,
            }
            data = pack((version, REFUSED, hello[3], address.process, 0, 0, refusal))
        except (TypeError, KeyError, AttributeError):
            return
        self._post.connections.send_once(
            address, data, route if body.get("return") == "link" else None
        )

    def answer_other_version(self, route: Any, data: bytes) -> None:
        """Tell who greets in another version of the wire so; it understands that much."""
        # What a hello and a refusal begin with is the same in every version.
        version, hello = hello_of_other_version(data)
        if hello is not None:
            text = (
                f"it speaks wire version {version}, and this process {VERSION}: use one zactor"
            )
            self.refuse(route, hello, text, version=version)

    def _refused_received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        successor = body.get("address")
        if (
            successor
            and self._post.on_moved is not None
            and self._post.on_moved(peer, Address(*successor))
        ):
            return
        if body.get("forgotten"):
            peer.begin_again()
            return
        with peer.lock:
            peer.attempts = max(peer.attempts, LOST_AFTER)
            peer.reason = str(body.get("reason"))
            peer.is_refused = True
            peer.broken()
        self._post.unreachable.append(peer)

    def _hop_lost(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        destination, source = body
        if source != self._post.process_id:
            if self._post.relay is not None:
                self._post.relay.pass_loss(source, destination)
            return
        lost = self._post.peers.get(destination)
        if lost is not None:
            with lost.lock:
                if lost.is_relayed and lost.state in (GREETING, UP):
                    lost.relay_failed()


def _note_features(peer: Peer, body: dict[str, Any]) -> None:
    features = body.get("features")
    peer.takes_singles = type(features) is dict and bool(features.get(SINGLES))


protect_module(__name__)
