"""Values of other machines, read chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from zactor.core.pulls import CHUNK, CHUNKS_IN_FLIGHT
from zactor.exceptions import GetTimeoutError, ObjectLostError, ZactorSystemError
from zactor.runtime.objects import chunks
from zactor.wire.codec import CHUNK as KIND
from zactor.wire.messages import Address, ReadSegment

OBJECT = b"o" * 28
NODE = Address(b"n" * 12, b"", b"", "", "tcp://there")
PLACE = ["segment", 0, b"node", list(NODE)]


class FarNode:
    """A process, its post, and the node it asks: answers when the process waits."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.post = self
        self.asked: list[tuple[ReadSegment, Future[Any]]] = []
        self.most = 0
        self.answer: Callable[[ReadSegment], Any] = self.read

    def read(self, message: ReadSegment) -> Any:
        return len(self.data), self.data[message.offset : message.offset + message.length]

    def request(self, to: Address, message: ReadSegment) -> Future[Any]:
        assert to == NODE
        future: Future[Any] = Future()
        self.asked.append((message, future))
        self.most = max(self.most, sum(not each.done() for _, each in self.asked))
        return future

    def wait_answer(self, future: Future[Any], timeout: float, asked: str) -> Any:
        message = next(each for each, waited in self.asked if waited is future)
        future.set_result(None)
        return self.answer(message)


def read(far: FarNode) -> memoryview:
    process: Any = far
    return chunks.read_far(process, OBJECT, PLACE, lambda size: memoryview(bytearray(size)))


@pytest.mark.parametrize(
    "size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK, 7 * CHUNK + 5], ids=str
)
def test_a_value_is_read_whole_with_some_chunks_in_flight(size: int) -> None:
    far = FarNode(bytes(range(256)) * (size // 256 + 1))
    far.data = far.data[:size]
    view = read(far)
    assert view == far.data
    assert view.readonly
    assert len(far.asked) == -(-size // CHUNK)
    assert far.most <= CHUNKS_IN_FLIGHT


@pytest.mark.parametrize("wrong", [b"", bytes(CHUNK - 1), bytes(CHUNK + 1)], ids=len)
def test_a_chunk_of_the_wrong_size_is_no_value(wrong: bytes) -> None:
    far = FarNode(bytes(3 * CHUNK))
    far.answer = lambda each: (3 * CHUNK, wrong) if each.offset else far.read(each)
    with pytest.raises(ObjectLostError, match="not in the store any more"):
        read(far)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ZactorSystemError("gone"), ObjectLostError),
        (ObjectLostError("freed"), ObjectLostError),
        (GetTimeoutError("late"), GetTimeoutError),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_the_node_answers_or_its_end_is_raised(
    error: Exception, shown: type[Exception]
) -> None:
    far = FarNode(bytes(3 * CHUNK))

    def answer(message: ReadSegment) -> Any:
        if message.offset:
            raise error
        return far.read(message)

    far.answer = answer
    with pytest.raises(shown):
        read(far)


class Post:
    """Takes handlers, and what is sent."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}
        self.checks: dict[int, Any] = {}
        self.requests: dict[int, Any] = {}
        self.sent: list[Any] = []
        self.lock = nullcontext()

    def on_kind(self, kind: int, handler: Any, check: Any) -> None:
        self.handlers[kind] = handler
        self.checks[kind] = check

    def peer(self, address: Address) -> Any:
        return self

    def transmit(self, *message: Any) -> None:
        self.sent.append(message)


def test_a_chunk_answers_the_request_of_the_peer_that_was_asked() -> None:
    post: Any = Post()
    chunks.listen(post)
    future: Future[Any] = Future()
    post.requests[5] = (future, NODE.process, None)
    chunks.send(post, NODE, 5, 10, b"chunk")
    (kind, body, frames) = post.sent[0]
    assert kind == KIND
    handle = post.handlers[KIND]
    handle(SimpleNamespace(id=b"stranger"), body, frames)
    handle(SimpleNamespace(id=NODE.process), [6, 10], frames)
    assert not future.done()
    handle(SimpleNamespace(id=NODE.process), body, frames)
    assert future.result() == (10, b"chunk")
    assert not post.requests
    handle(SimpleNamespace(id=NODE.process), body, frames)  # late, and known no more
    assert post.checks[KIND](body)
    assert not any(map(post.checks[KIND], (None, [1], [1, b"2"], [1, 2, 3])))
