"""References of an in-process world: all of them in one table, which Python's own counting empties.

A reference that is pickled is entered under its object id; where it is unpickled, the same result is found
again. What a process has made is lost when that process dies, as it would be.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING, PICKLED, Result
from zactor.exceptions import ObjectFreedError, OwnerDiedError, to_wire
from zactor.runtime.calls.streaming import Streaming
from zactor.runtime.objects.objects import Put
from zactor.wire.messages import Address

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zactor.runtime.inprocess.world import World
    from zactor.runtime.objects.objects import Guard


MOST_LOADED = 10_000  # references of earlier loads that are remembered


class Kept:
    """Lives as long as somebody has an ObjectRef that was shown to others."""

    __slots__ = ("__weakref__", "_dropped", "owner", "result")

    def __init__(self, result: Result, owner: bytes, dropped: deque[Any]) -> None:
        self.result = result
        self.owner = owner
        self._dropped = dropped

    def __del__(self, streaming: type = Streaming) -> None:
        # Its own name for the class: at the program's end the module has forgotten it.
        if isinstance(self.result, streaming):
            self._dropped.append(self.result)


class Holder:
    """Lives as long as somebody has a handle that keeps the actor."""

    __slots__ = ("__weakref__", "_released", "actor")

    def __init__(self, actor: bytes, released: deque[bytes]) -> None:
        self.actor = actor
        self._released = released

    def __del__(self) -> None:
        self._released.append(self.actor)


class LocalObjects:
    """All references of a world. Python's own counting says when the last one is gone."""

    store: Any = None
    recovery: Any = None

    def __init__(self, world: World) -> None:
        self._world = world
        self.settled_calls: deque[bytes] = deque(maxlen=0)
        self._kept: weakref.WeakValueDictionary[bytes, Kept] = weakref.WeakValueDictionary()
        self._holders: weakref.WeakValueDictionary[bytes, Holder] = (
            weakref.WeakValueDictionary()
        )
        self._for_ever: list[Any] = []
        self.loaded: dict[bytes, weakref.ref[Any]] = {}

    def show(self, result: Result) -> tuple[Any, Address]:
        """Enter an object whose reference is being pickled; return its guard and its owner."""
        object_id = result.object_id()
        found = self._kept.get(object_id)
        if found is None:
            owner = self._world.scheduler.current.process.id
            found = self._kept[object_id] = Kept(result, owner, self._world.dropped_streams)
        return found, self._world.address(found.owner)

    def receive(self, object_id: bytes, owner: Any) -> tuple[Result, Any]:  # noqa: ARG002
        """Return the result and guard behind a reference that was unpickled."""
        found = self._kept.get(object_id)
        if found is None:
            text = f"object {object_id.hex()} has been freed: nobody held a reference any more"
            return Put(b"", 0, ERROR, ObjectFreedError(text)), None
        return found.result, found

    def shared(self, object_id: bytes) -> Result | None:
        """Return the result of an object that was shown."""
        found = self._kept.get(object_id)
        return found.result if found is not None else None

    def tidy(self) -> None:
        """Forget the references of earlier loads now and then: there are others if they are needed."""
        if len(self.loaded) > MOST_LOADED:
            self.loaded.clear()

    def own_actor(self, actor: bytes) -> Guard:
        """An actor was created; it lives while its handles do."""
        found: Any = Holder(actor, self._world.released)
        self._holders[actor] = found
        return found  # type: ignore[no-any-return]

    def guard(self, object_id: bytes, owner: Any) -> Any:  # noqa: ARG002
        """Return what keeps an actor; None if nothing does any more."""
        return self._holders.get(object_id)

    def hold_value(self, result: Result, inner: Sequence[Any]) -> None:
        """A value contains references: they live while it does."""
        ids = [object_id for object_id, _ in inner]
        result.guard = [self._kept.get(each) or self._holders.get(each) for each in ids]

    def keep_for_ever(self, guard: Any) -> None:
        """A reference was pickled by the user: nobody can tell when the bytes are gone."""
        self._for_ever.append(guard)

    def plain(self, owner: Address) -> tuple[Any, ...]:
        """Return an address as it is pickled."""
        return tuple(owner)

    def rows(self, refs: Iterable[Any]) -> list[Any]:
        """Return references as a call carries them."""
        return [list(ref) for ref in refs]

    def learn(self, rows: Iterable[Any]) -> list[Any]:  # noqa: ARG002
        """References are followed by Python alone."""
        return []

    def wire_value(self, result: Result) -> tuple[int, Any, Any, Sequence[bytes]]:
        """Return `(status, value, rows, frames)` of a settled result, as a call carries it."""
        state, value = result.state, result.value
        if state == ERROR:
            value = to_wire(value)
        elif state == PICKLED and type(value) is tuple:
            return state - 1, value[0], None, value[1]
        return state - 1, value, None, ()

    def owner_died(self, process: bytes) -> None:
        """What a dead process owned is lost."""
        for object_id, kept in list(self._kept.items()):
            if kept.owner != process:
                continue
            error = OwnerDiedError(f"the owner of object {object_id.hex()} is dead")
            result = kept.result
            if result.state == PENDING:
                result.settle(ERROR, error)
            else:
                result.state, result.value = ERROR, error

    def want(self, result: Result) -> None:
        """Values are where they are wanted."""

    def want_all(self, results: Iterable[Result]) -> None:
        """The same."""

    def watch_end(self, result: Result) -> None:
        """There is no store."""

    def call_leaves(self, call: bytes, refs: Iterable[Any]) -> None:
        """The call's pin holds them."""

    def call_arrives(self, call: bytes, peer: bytes, refs: Iterable[Any]) -> None:
        """The same."""

    def call_finishes(self, call: bytes, peer: bytes, refs: Sequence[Any]) -> bool:  # noqa: ARG002
        """Nothing is to be confirmed."""
        return False
