"""Chunks of stored values on their way between machines.

A chunk answers a `ReadSegment`. It travels as a frame of its own: inside the answer it would be packed
and unpacked with it, a copy each.

Does not decide what is read when: `core.pulls` does for nodes. A process on a machine without a node
reads by itself (`read_far`), with a few chunks in flight like a node's pull.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from zactor.core.pulls import CHUNK, CHUNKS_IN_FLIGHT
from zactor.exceptions import GetTimeoutError, ObjectLostError, ZactorSystemError
from zactor.wire.codec import CHUNK as KIND
from zactor.wire.messages import Address, ReadSegment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from zactor.runtime.links.peer import Peer
    from zactor.runtime.links.post import Post
    from zactor.runtime.process import Process

CHUNK_TIMEOUT = 600.0  # a spilled value may have to be restored first


def listen(post: Post) -> None:
    """Have requests of this process be answered by chunks."""

    def arrived(peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        request, size = body
        entry = post.requests.get(request)
        if entry is not None and entry[1] == peer.id:
            del post.requests[request]
            entry[0].set_result((size, frames[0]))

    post.on_kind(KIND, arrived, _is_chunk)


def _is_chunk(body: Any) -> bool:
    """Whether a handler's failure is not the sender's fault."""
    return isinstance(body, list) and len(body) == 2 and all(type(n) is int for n in body)


def send(post: Post, to: Address, request: int, size: int, chunk: bytes) -> None:
    """Answer a request with a chunk of a value of `size` bytes."""
    peer = post.peer(to)
    with peer.lock:
        peer.transmit(KIND, [request, size], (chunk,))


def read_far(
    process: Process,
    object_id: bytes,
    place: Any,
    memory_of: Callable[[int], memoryview],
    deadline: float | None = None,
) -> memoryview:
    """Return the bytes of a value on another machine, read into memory that `memory_of` gives.

    Raises:
        ObjectLostError: It is not there any more, or its node is not.
        GetTimeoutError: The deadline came first.
    """
    node, name = Address._make(place[3]), place[0]
    asked: deque[tuple[int, Future[Any]]] = deque()

    def ask(offset: int) -> None:
        message = ReadSegment(0, name, offset, CHUNK)
        asked.append((offset, process.post.request(node, message)))

    ask(0)
    size, chunk = _take(process, asked, object_id, deadline)
    if size == len(chunk):
        return memoryview(chunk)
    memory = memory_of(size)
    to_ask = CHUNK
    at = 0
    while True:
        if len(chunk) != min(CHUNK, size - at):
            raise _gone(object_id)
        while to_ask < size and len(asked) < CHUNKS_IN_FLIGHT:
            ask(to_ask)
            to_ask += CHUNK
        memory[at : at + len(chunk)] = chunk
        at += len(chunk)
        if at == size:
            return memory.toreadonly()
        _, chunk = _take(process, asked, object_id, deadline)


def _take(
    process: Process,
    asked: deque[tuple[int, Future[Any]]],
    object_id: bytes,
    deadline: float | None,
) -> tuple[int, bytes]:
    """Wait for the chunk that was asked for first."""
    offset, future = asked.popleft()
    timeout = CHUNK_TIMEOUT
    if deadline is not None:
        timeout = min(timeout, max(0.0, deadline - time.monotonic()))
    try:
        size, chunk = process.wait_answer(future, timeout, f"node (chunk at {offset})")
    except GetTimeoutError:
        raise GetTimeoutError(
            "Get timed out: some object(s) not ready: the value is being fetched from another "
            f"machine ({timeout:.1f} s)"
        ) from None
    except ZactorSystemError as error:
        if type(error) is not ZactorSystemError:
            raise
        raise ObjectLostError(
            f"object {object_id.hex()} was in the store of a node that is gone",
            object_ref_hex=object_id.hex(),
        ) from None
    return size, chunk


def _gone(object_id: bytes) -> ObjectLostError:
    return ObjectLostError(
        f"object {object_id.hex()} is not in the store any more",
        object_ref_hex=object_id.hex(),
    )
