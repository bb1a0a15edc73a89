"""Classes that a node hands to its workers together with the order to construct an actor.

A worker that had to ask the broker for its actor's class would connect to it for that alone: two
sockets on either side and 5 ms of each worker's start, measured. The node asks once a class. What the
broker says goes on in the order in which it came, whether it has to wait for a class or not.

A class that is large, or that the broker does not have (yet), is left for the worker to ask for.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from functools import partial
from typing import TYPE_CHECKING, Any

from zactor.wire.messages import Address, FetchDefinition, StartActor, StartActors

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from zactor.runtime.links.post import Post

LARGEST = 256 * 1024
CACHED = 16 * 1024 * 1024
"""Bytes of one class that is handed on, and of all that are kept."""


class NodeDefinitions:
    """Puts classes into `StartActor`, between the broker and the node's machine."""

    def __init__(
        self, post: Post, broker: Callable[[], Address], deliver: Callable[[Any], None]
    ) -> None:
        self._post = post
        self._broker = broker
        self._deliver = deliver
        self._blobs: OrderedDict[bytes, bytes] = OrderedDict()  # least recently used first
        self._size = 0
        self._waiting: deque[Any] = (
            deque()
        )  # what came after a StartActor whose class is asked for

    def receive(self, message: Any) -> None:
        """Take a message of the broker; it is delivered now or when those before it are."""
        self._waiting.append(message)
        if len(self._waiting) == 1:
            self._go_on()

    def _go_on(self) -> None:
        while self._waiting:
            message = self._waiting[0]
            spec = _spec_of(message)
            key = spec.get("class_key") if spec is not None else None
            if key is not None:
                blob = self._blobs.get(key)
                if blob is None:
                    future = self._post.request(self._broker(), FetchDefinition(0, key))
                    future.add_done_callback(partial(self._fetched, key))
                    return
                self._blobs.move_to_end(key)
                assert spec is not None
                whole = {**spec, "definition": blob}
                if type(message) is StartActors:
                    message = message._replace(common=whole)
                else:
                    message = message._replace(spec=whole)
            self._waiting.popleft()
            self._deliver(message)

    def _fetched(self, key: bytes, future: Future[Any]) -> None:
        blob = future.result() if future.exception() is None else None
        if isinstance(blob, bytes) and len(blob) <= LARGEST:
            self._blobs[key] = blob
            self._size += len(blob)
            while self._size > CACHED:
                self._size -= len(self._blobs.popitem(last=False)[1])
        else:
            self._deliver(self._waiting.popleft())
        self._go_on()


def _spec_of(message: Any) -> dict[str, Any] | None:
    if type(message) is StartActor:
        return message.spec
    return message.common if type(message) is StartActors else None
