"""ObjectRefGenerator: the references of a call that yields."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zactor.api.session import process
from zactor.runtime import current as processes
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.streaming import DynamicObjectRefGenerator, RemoteStream, Streaming
from zactor.serde.pickling import is_collecting
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from zactor.core.calls import Result

__all__ = [
    "DynamicObjectRefGenerator",
    "ObjectRefGenerator",
    "generator_of",
    "is_generator",
    "waitable",
]

R = TypeVar("R")


class ObjectRefGenerator(Generic[R]):
    """Yields a reference for each value that a streaming call yields, as they come.

    The call runs ahead of its consumer, unless back-pressure is asked for. What it raises is raised
    by `get` of the last reference. When the generator is dropped, the call ends at its next `yield`.

    It can be passed to other actors, which then take items of the same stream. Not thread-safe.
    """

    __slots__ = ("__weakref__", "_ref", "_stream")

    def __init__(
        self, stream: Streaming | RemoteStream, ref: ObjectRef[Any] | None = None
    ) -> None:
        self._stream = stream
        self._ref = ref

    def __iter__(self) -> ObjectRefGenerator[R]:
        return self

    def __aiter__(self) -> ObjectRefGenerator[R]:
        return self

    def __next__(self) -> ObjectRef[R]:
        """Return the reference of the next item; wait for it if need be."""
        stream = self._stream
        item = stream.take_nowait()
        if item is None:
            item = self._wait(None)
        if stream.__class__ is not RemoteStream and stream.backpressure:  # type: ignore[union-attr]
            process().streams.took(stream)
        return item if type(item) is ObjectRef else ObjectRef(item)

    def _wait(self, deadline: float | None) -> Any:
        stream = self._stream
        while True:
            over = stream.is_over
            item = stream.take_nowait()
            if item is not None:
                return item
            if over:
                raise StopIteration
            if not process().wait_for([stream.waitable()], 1, deadline):
                return None

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef[R]:
        """Return the next reference, or a nil one if there is none within `timeout_s`."""
        item = self._wait(None if timeout_s in (None, -1) else time.monotonic() + timeout_s)
        if item is None:
            return ObjectRef.nil()
        return self._took(item)

    def _took(self, item: Any) -> ObjectRef[R]:
        if isinstance(self._stream, Streaming) and self._stream.backpressure:
            process().streams.took(self._stream)
        return item if isinstance(item, ObjectRef) else ObjectRef(item)

    async def __anext__(self) -> ObjectRef[R]:
        """Return the reference of the next item, without blocking the loop."""
        stream = self._stream
        while True:
            over = stream.is_over
            item = stream.take_nowait()
            if item is not None:
                return self._took(item)
            if over:
                raise StopAsyncIteration
            await ObjectRef(stream.waitable())

    def completed(self) -> ObjectRef[Any]:
        """Return a reference that is ready when the call has ended; `get` of it raises its error."""
        if self._ref is None:
            self._ref = ObjectRef(self._stream)  # type: ignore[arg-type]
        return self._ref

    def next_ready(self) -> bool:
        """Whether `next` would return (or end) without waiting."""
        return bool(self._stream.waitable().state)

    def is_finished(self) -> bool:
        """Whether the call has ended and every reference was taken."""
        stream = self._stream
        return stream.is_over and not getattr(stream, "arrived", None)

    def task_id(self) -> str:
        """Return the id of the call, in hexadecimal."""
        return self._stream.object_id()[:24].hex()

    def call(self) -> Result:
        """Return the call's result; for zactor's own use."""
        if isinstance(self._stream, RemoteStream):
            return self.completed()._result
        return self._stream

    def waitable(self) -> Result:
        """Return what `wait` waits for: the next item."""
        return self._stream.waitable()

    def send(self, value: Any) -> Any:
        """Not supported."""
        raise NotImplementedError("Gen.send is not supported.")

    def throw(self, *args: Any) -> Any:
        """Not supported."""
        raise NotImplementedError("Gen.throw is not supported.")

    def close(self) -> None:
        """Not supported; drop the generator, or cancel it."""
        raise NotImplementedError("Gen.close is not supported.")

    def __del__(self) -> None:
        stream = self._stream
        if type(stream) is RemoteStream or stream.is_over:
            return
        if self._ref is not None and self._ref._guard is not None:
            return  # others may have it: the end of the last of them is noticed
        runtime = processes.current()
        if runtime is not None:
            runtime.streams.drop_soon(stream)

    def __reduce__(self) -> Any:
        if not is_collecting():
            raise TypeError(
                "cannot pickle an ObjectRefGenerator: it can be passed to actors and tasks, not "
                "stored as bytes"
            )
        ref = self.completed()
        return _load_generator, (ref, list(_owner_of(ref)))

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._stream.object_id().hex()})"


def _owner_of(ref: ObjectRef[Any]) -> Address:
    runtime = process()
    owner: Address = getattr(ref._result, "owner", None) or runtime.post.address
    return owner


def _load_generator(ref: ObjectRef[Any], owner: list[Any]) -> ObjectRefGenerator[Any]:
    runtime = process()
    result = ref._result
    if isinstance(result, Streaming):
        return ObjectRefGenerator(result, ref)
    return ObjectRefGenerator(RemoteStream(runtime, ref, Address._make(owner)), ref)


def generator_of(result: Any, returns: Any) -> Any:
    """Return what `.remote()` of a call that yields returns."""
    return ObjectRef(result) if returns == "dynamic" else ObjectRefGenerator(result)


def is_generator(value: Any) -> bool:
    """Whether a value is an ObjectRefGenerator."""
    return isinstance(value, ObjectRefGenerator)


def waitable(generator: ObjectRefGenerator[Any]) -> Result:
    """Return what `wait` waits for: the next item."""
    return generator.waitable()
