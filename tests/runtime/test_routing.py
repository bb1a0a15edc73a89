"""How a peer is reached: by where it is, and by what has failed."""

from __future__ import annotations

from typing import Any

import pytest

from zactor.runtime.links.routing import Routing
from zactor.wire.messages import Address

HERE, THERE = b"here", b"there"
BROKER = Address(b"broker", b"", THERE, "ipc://b", "tcp://b")
NODE = Address(b"node", b"n", HERE, "ipc://n", "")


class FakePost:
    process_id = b"self"
    route: Any = None
    relay_of: Any = None
    host = "127.0.0.1"
    cannot_bind = False

    def __init__(self) -> None:
        self.later: list[Any] = []

    def call_later(self, seconds: float, callback: Any) -> None:
        self.later.append(callback)


class FakePeer:
    def __init__(self, address: Address, **state: Any) -> None:
        self.id, self.address = address.process, address
        self.is_remote = address.machine != HERE
        self.route, self.attempts, self.was_welcome = b"", 0, False
        self.is_relayed = self.is_returning = False
        self.__dict__.update(state)


def routed(address: Address, transport: str = "", **state: Any) -> FakePeer:
    post = FakePost()
    Routing(post, broker=lambda: BROKER, node=lambda: NODE, transport=transport)
    peer = FakePeer(address, **state)
    post.route(peer)
    return peer


def test_the_broker_of_another_machine_answers_over_our_connection() -> None:
    assert routed(BROKER).is_returning
    assert not routed(BROKER._replace(machine=HERE)).is_returning


@pytest.mark.parametrize(
    ("address", "state", "is_relayed"),
    [
        (Address(b"p", b"", HERE, "ipc://p", ""), {}, False),
        (Address(b"p", b"", THERE, "ipc://p", "tcp://p"), {}, False),
        (Address(b"p", b"", THERE, "ipc://p", ""), {}, True),
        (Address(b"p", b"", THERE, "ipc://p", "tcp://p"), {"attempts": 1}, True),
        # Once it was reached, it is cut off with everybody: the broker must not carry it all.
        (
            Address(b"p", b"", THERE, "ipc://p", "tcp://p"),
            {"attempts": 9, "was_welcome": True},
            False,
        ),
        (Address(b"p", b"", HERE, "ipc://p", ""), {"is_relayed": True}, True),  # never back
    ],
)
def test_the_relay_is_taken_where_a_connection_cannot_be_made(
    address: Address, state: dict[str, Any], is_relayed: bool
) -> None:
    assert routed(address, **state).is_relayed == is_relayed


def test_forced_everything_but_the_broker_and_the_own_node_is_relayed() -> None:
    neighbour = Address(b"p", b"", HERE, "ipc://p", "")
    assert routed(neighbour, "relay").is_relayed
    assert not routed(NODE, "relay").is_relayed
    assert not routed(BROKER, "relay").is_relayed


def test_an_unknown_transport_is_refused() -> None:
    with pytest.raises(ValueError, match="pigeon"):
        routed(NODE, "pigeon")
