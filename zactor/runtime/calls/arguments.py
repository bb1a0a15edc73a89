"""Arguments on their way out: pickled, with their references found and waited for.

References that are arguments of their own are replaced by their values: the call is held until
these are here (a failed one settles the call, which never runs: `dependents`). Small immutable
values that are here already take the reference's place at once, and the call is as plain as if they had
been passed: 4 us where a slot of its own takes 40. References inside other values travel as
references, and are pinned until the call is settled.

Large arguments are written to shared memory as one object that the call alone holds: what travels is
its place, and the callee's arrays are views of it. It needs no reference messages, since it goes when
the call is settled, and a view keeps its bytes whatever becomes of the object.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, NATIVE, PENDING, USER_ERROR, Result
from zactor.core.calls import STORED as STORED_STATE
from zactor.exceptions import ObjectStoreFullError
from zactor.runtime.calls.dependents import settle_dependent
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.calls.unhandled import handled
from zactor.runtime.calls.values import LARGE
from zactor.runtime.objects.objects import Put
from zactor.serde.values import dumps_args
from zactor.wire.batches import STORED, X_FRAMES, X_REFS, X_SLOTS, X_STORED

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Sequence

    from zactor.runtime.offered import Offered

LARGE_ARGUMENTS = 1 << 20
"""Bytes from which arguments go to the store; with buffers, which need no unpickling, from `LARGE`."""


SMALL = 4096
"""Bytes up to which a value is pickled anew for each call it is an argument of."""


def known_value(ref: ObjectRef[Any]) -> Any:
    """Return the value of a reference if it is here, small and immutable; else the reference."""
    result = ref._result
    if result.state != NATIVE:
        return ref
    value = result.value
    if type(value) in _SIZED and len(value) > SMALL:
        return ref
    return value


_SIZED = frozenset((bytes, str))


def with_known_values(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return arguments with values in place of references; None if one has no such value."""
    filled = []
    for value in args:
        if isinstance(value, ObjectRef):
            known = known_value(value)
            if known is value:
                return None
            filled.append(known)
        else:
            filled.append(value)
    return tuple(filled)


def encode(
    process: Offered,
    result: Result,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    extras: dict[int, Any] | None,
    name: str,
    parameters: Sequence[str] = (),
    *,
    pickled: Any = None,
    stores: bool = True,
) -> list[Result]:
    """Set the result's payload, frames and pin; return the results it has to wait for.

    Args:
        process: This process.
        result: The call.
        args: Positional arguments.
        kwargs: Arguments by name.
        extras: What travels with the call besides.
        name: Of the function, for errors.
        parameters: Its parameters' names, for errors.
        pickled: The arguments as `dumps_args` made them, if that was done; none is a reference then.
        stores: Whether large arguments may go to the store.

    Raises:
        SerializationError: An argument cannot be pickled.
    """
    awaited: list[Result] = []
    slots: list[Any] = []
    pins: list[Any] = []
    args, kwargs = _take_references(args, kwargs, slots, pins)
    if slots:
        awaited = [ref._result for ref in pins]  # noqa: SLF001
    if pickled is not None:
        payload, buffers, refs = pickled
    elif args or kwargs:
        payload, buffers, refs = dumps_args(args, kwargs, name, parameters)
    else:
        payload, buffers, refs = None, (), ()
    stored = None
    if stores and payload is not None and (buffers or len(payload) > LARGE_ARGUMENTS):
        stored = _store(process, payload, buffers)
    if not slots and not buffers and not refs and stored is None:
        result.payload = payload if extras is None else [payload, extras]
        return awaited
    extras = extras or {}
    if stored is not None:
        pins.append(ObjectRef(stored))
        extras[X_STORED] = [stored.value, stored.object_id()]
        payload = None
    elif buffers:
        # A copy: what the user does to an array after `.remote()` must not show in the call.
        result.frames = [bytes(buffer) for buffer in buffers]
        extras[X_FRAMES] = len(buffers)
    if slots:
        extras[X_SLOTS] = slots
    if refs:
        pins.extend(refs)
        extras[X_REFS] = refs
    result.pin = [result.pin, *pins]
    result.payload = [payload, extras]
    return awaited


def _take_references(
    args: tuple[Any, ...], kwargs: dict[str, Any], slots: list[Any], pins: list[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments without references; note where those were whose values are not known."""

    def taken(slot: Any, value: Any) -> Any:
        if not isinstance(value, ObjectRef):
            return value
        known = known_value(value)
        if known is not value:
            return known
        slots.append(slot)
        pins.append(value)
        return None

    if any(isinstance(value, ObjectRef) for value in args):
        args = tuple([taken(at, value) for at, value in enumerate(args)])
    if any(isinstance(value, ObjectRef) for value in kwargs.values()):
        kwargs = {key: taken(key, value) for key, value in kwargs.items()}
    return args, kwargs


def are_here(awaited: Sequence[Result]) -> bool:
    """Whether all these have values: the call can be completed now."""
    return all(result.state not in _UNUSABLE for result in awaited)


_UNUSABLE = frozenset((PENDING, USER_ERROR, ERROR))


def _store(process: Offered, payload: bytes, buffers: Sequence[Any]) -> Put | None:
    """Write large arguments to shared memory; None if they are to travel with the call."""
    store = process.objects.store
    size = len(payload) + sum(map(len, buffers))
    if size <= LARGE or store is None or not store.writes:
        return None
    identity = process.identity
    stored = Put(identity.caller, next(identity.numbers), STORED_STATE, None)
    try:
        stored.value = store.write(stored.object_id(), process.id, payload, buffers)
    except ObjectStoreFullError:
        return None
    process.objects.watch_end(stored)
    return stored


def complete(process: Offered, result: Result) -> bool:
    """Put the values of its awaited references into a call that is about to leave.

    It may be released once this is done. A call without extras is complete as it is.

    Returns:
        False if one of them is an error: the call is settled with it.
    """
    if type(result.payload) is not list:
        return True
    extras = result.payload[1]
    slots = extras.get(X_SLOTS)
    refs = [ref for ref in extras.get(X_REFS, ()) if not isinstance(ref, list)]
    contained: list[tuple[bytes, bytes]] = []
    objects = process.objects
    if slots is not None and slots and not isinstance(slots[0], list):
        named = result.pin[1 : 1 + len(slots)]
        values = [ref._result for ref in named]  # noqa: SLF001
        for value in values:
            if value.state in (USER_ERROR, ERROR):
                handled(value)
                settle_dependent(process, result, value)
                result.waiting = 0
                return False
        filled = []
        for slot, ref, value in zip(slots, named, values, strict=True):
            status, data, _, frames = objects.wire_value(value)
            row = [slot, status, [data, list(frames)] if frames else data]
            if status == STORED:
                row.append(value.object_id())
            filled.append(row)
            if value.inner:
                contained.extend(value.inner)
            if status == STORED:  # the callee maps it, so it must be held until it has
                contained.append(ref.reference(process))
        extras[X_SLOTS] = filled
    contained += references_of(process, refs)
    if contained:
        extras[X_REFS] = objects.rows(contained)
        objects.call_leaves(result.object_id(), contained)
        result.pin.append(SettledCall(objects.settled_calls, result.object_id()))
    elif refs:
        del extras[X_REFS]  # handles that hold nothing
    result.waiting = 0
    return True


def references_of(process: Offered, refs: Sequence[Any]) -> list[tuple[bytes, bytes]]:
    """Return `(object id, owner)` of references and handles; weak handles hold nothing."""
    named = (ref.reference(process) for ref in refs)
    return [each for each in named if each is not None]


class SettledCall:
    """In a call's pin: its end tells that the call was settled, however that came about."""

    __slots__ = ("_settled_calls", "call", "is_told")

    def __init__(self, settled_calls: deque[bytes], call: bytes) -> None:
        self._settled_calls = settled_calls
        self.call = call
        self.is_told = False

    def __del__(self) -> None:
        if not self.is_told:
            self._settled_calls.append(self.call)


class Awaited:
    """Waits for a call's argument references, then lets it go.

    The call keeps `waiting` until it is complete: who releases held calls runs on other threads, and
    must not take one whose arguments are all here but not in it yet.
    """

    __slots__ = ("_left", "_lock", "_process", "_ready", "_result")

    def __init__(
        self,
        result: Result,
        awaited: int,
        ready: Callable[[Result], None],
        process: Offered,
    ) -> None:
        self._result = result
        self._process = process
        self._left = awaited
        self._lock = threading.Lock()
        self._ready = ready

    def settled(self, dependency: Result) -> None:
        """One of them is here. On the leader, or on the thread that submits."""
        result = self._result
        if result.state != PENDING:
            self._process.awaiting.pop(result, None)
            return
        if dependency.state in (USER_ERROR, ERROR):
            self._process.awaiting.pop(result, None)
            handled(dependency)
            settle_dependent(self._process, result, dependency)
            result.waiting = 0
            self._ready(result)
            return
        self.one_less()

    def one_less(self) -> None:
        """There is one less to wait for."""
        with self._lock:
            self._left -= 1
            is_last = not self._left
        if is_last:
            self._process.awaiting.pop(self._result, None)
            if self._result.state == PENDING:
                self._ready(self._result)


def wait_for_arguments(
    process: Offered,
    result: Result,
    awaited: list[Result],
    ready: Callable[[Result], None],
) -> None:
    """Call `ready(result)` once every awaited result is settled, or one has failed."""
    result.waiting = 1
    # One more than there are, so that it cannot become ready before all have been asked.
    if awaited and result.stream is not None:
        process.awaiting[result] = None
    waiter = Awaited(result, len(awaited) + 1, ready, process)
    process.objects.want_all(awaited)
    for each in awaited:
        each.add_waiter(waiter)
    waiter.one_less()
