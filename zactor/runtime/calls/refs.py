"""ObjectRef: what a user holds of a value that exists or will."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zactor.core.calls import PENDING, Result
from zactor.ids import JobID, TaskID
from zactor.runtime import current as processes
from zactor.serde.values import collect, loaded

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    from collections.abc import Callable, Generator

    from zactor.runtime.objects.objects import Guard
    from zactor.runtime.process import Process

R = TypeVar("R")


class ObjectRef(Generic[R]):
    """A reference to a value: the result of a call or task, or something that was put.

    It can be passed to calls (as an argument of its own it is replaced by its value before the
    call runs; inside other values it arrives as a reference), returned, stored, pickled, awaited.
    The value lives while a reference to it does, in any process. Two references are equal if they
    name the same object.
    """

    __slots__ = ("__weakref__", "_guard", "_result")

    _result: Result
    _guard: Guard | None

    def __init__(self, result: Result, guard: Guard | None = None) -> None:
        self._result = result
        self._guard = guard

    def binary(self) -> bytes:
        """Return the object id: 28 bytes, unique in the cluster."""
        return self._result.object_id()

    def hex(self) -> str:
        """Return the object id in hexadecimal."""
        return self._result.object_id().hex()

    def task_id(self) -> TaskID:
        """Return the id of the call that makes the value."""
        return TaskID(self.binary()[:24])

    def job_id(self) -> JobID:
        """Return the id of the job this process belongs to."""
        process = processes.current()
        return JobID(process.job if process is not None else b"")

    def future(self) -> concurrent.futures.Future[R]:
        """Return a `concurrent.futures.Future` of the value.

        Its callbacks run on a thread of zactor's. Cancelling it does not cancel the call.
        """
        from zactor.runtime.calls.futures import future_of

        return future_of(self)

    def _on_completed(self, callback: Callable[[Any], Any]) -> None:
        """Have `callback` called with the value or the error, on a thread of zactor's.

        Programs for Ray use it, which has it under this name; `future()` is the documented way.
        """

        def completed(done: concurrent.futures.Future[Any]) -> None:
            callback(done.exception() or done.result())

        self.future().add_done_callback(completed)

    def as_future(self, _internal: bool = False) -> asyncio.Future[R]:  # noqa: ARG002, FBT001, FBT002 - Ray's signature
        """Return an `asyncio.Future` of the value, for the running loop."""
        from zactor.runtime.calls.futures import asyncio_future_of

        return asyncio_future_of(self)

    def __await__(self) -> Generator[Any, None, R]:
        from zactor.runtime.calls.futures import asyncio_future_of

        return asyncio_future_of(self).__await__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectRef) and (
            self._result is other._result or self.binary() == other.binary()
        )

    def __hash__(self) -> int:
        return hash(self._result.object_id())

    def __repr__(self) -> str:
        return f"ObjectRef({self.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        process = processes.current()
        if process is None:
            raise RuntimeError("an ObjectRef cannot be pickled after shutdown")
        guard, owner = process.objects.show(self._result)
        self._guard = guard
        if not collect(self):
            process.objects.keep_for_ever(guard)
        # One tuple for all references of an owner: the pickler writes it once.
        return _load_ref, (self._result.object_id(), process.objects.plain(owner))

    def __copy__(self) -> ObjectRef[R]:
        return self

    def __deepcopy__(self, memo: Any) -> ObjectRef[R]:
        return self

    def is_ready(self) -> bool:
        """Whether the value (or error) is here."""
        return self._result.state != PENDING

    @classmethod
    def nil(cls) -> ObjectRef[Any]:
        """Return a reference to nothing."""
        return cls(_Nothing(None, 0, 0, None, None, 0))

    def is_nil(self) -> bool:
        """Whether this refers to nothing."""
        return isinstance(self._result, _Nothing)

    def reference(self, process: Process) -> tuple[bytes, bytes]:
        """Return `(object id, owner's process id)`; the object is in the table from now on."""
        guard, owner = process.objects.show(self._result)
        self._guard = guard
        return self._result.object_id(), owner.process

    def owner(self) -> bytes:
        """Return the process id of the value's owner."""
        process = processes.current()
        owner = getattr(self._result, "owner", None)
        if owner is not None:
            return bytes(owner.process)
        return process.id if process is not None else b""


class _Nothing(Result):
    """What a nil reference refers to."""

    __slots__ = ()

    def object_id(self) -> bytes:
        """Return the id that no object has."""
        return b"\xff" * 28


def _load_ref(object_id: bytes, owner: Any) -> ObjectRef[Any]:
    process = processes.current()
    if process is None:
        raise RuntimeError(
            f"a reference to object {object_id.hex()} was unpickled before zactor.init()"
        )
    objects = process.objects
    # The reference of an earlier load, if somebody has it still: 0.4 us, where a new one takes 2.5.
    known = objects.loaded.get(object_id)
    ref: ObjectRef[Any] | None = known() if known is not None else None
    if ref is None:
        result, guard = objects.receive(object_id, owner)
        ref = ObjectRef(result, guard)
        if guard is not None:
            objects.loaded[object_id] = weakref.ref(ref)
    if not loaded(ref) and ref._guard is not None:
        objects.keep_for_ever(ref._guard)
    return ref


ObjectID = ObjectRef  # its name of old, which Ray still has
