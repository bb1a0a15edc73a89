"""Classes on their way to workers: fetched once, and nothing overtakes."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from zactor.runtime.nodes.node_definitions import CACHED, LARGEST, NodeDefinitions
from zactor.wire.messages import Address, FetchDefinition, StartActor, StopActor

BROKER = Address(b"b", b"", b"", "ipc://b", "")


class Broker:
    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Future[Any]]] = []
        self.delivered: list[Any] = []
        self.definitions = NodeDefinitions(self, lambda: BROKER, self.delivered.append)

    def request(self, to: Address, message: FetchDefinition) -> Future[Any]:
        future: Future[Any] = Future()
        self.asked.append((message.key, future))
        return future

    def start(self, name: bytes, key: bytes) -> None:
        self.definitions.receive(StartActor(name, 1, {"class_key": key}))

    def seen(self) -> list[Any]:
        return [(m.actor, m.spec.get("definition")) for m in self.delivered]


def test_a_class_is_asked_for_once_and_nothing_overtakes() -> None:
    broker = Broker()
    broker.start(b"1", b"k")
    broker.definitions.receive(StopActor(b"1", 1, False))
    broker.start(b"2", b"k")
    assert broker.delivered == []
    broker.asked[0][1].set_result(b"blob")
    assert [type(m) for m in broker.delivered] == [StartActor, StopActor, StartActor]
    assert [m.spec["definition"] for m in broker.delivered[::2]] == [b"blob", b"blob"]
    assert len(broker.asked) == 1


def test_a_class_that_is_large_or_missing_is_left_to_the_worker() -> None:
    broker = Broker()
    for number, answer in enumerate((None, b"x" * (LARGEST + 1), RuntimeError("no"))):
        broker.start(bytes([number]), b"k")
        future = broker.asked[-1][1]
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
    assert broker.seen() == [(b"\0", None), (b"\1", None), (b"\2", None)]
    assert len(broker.asked) == 3


def test_what_is_kept_is_bounded() -> None:
    broker = Broker()
    count = CACHED // LARGEST + 1
    for number in range(count):
        broker.start(b"a", number.to_bytes(2, "big"))
        broker.asked[-1][1].set_result(b"x" * LARGEST)
    broker.start(b"a", (0).to_bytes(2, "big"))
    assert len(broker.asked) == count + 1
