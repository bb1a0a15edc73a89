"""Actors of an in-process world as their callers see them: the world says what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING, Result, Stream
from zactor.runtime.calls.actors import ActorView, ActorViews

if TYPE_CHECKING:
    from zactor.runtime.calls.caller import Identity
    from zactor.runtime.inprocess.world import World


class LocalViews(ActorViews):
    """Actors as their callers see them; the world says what becomes of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._views: dict[bytes, ActorView] = {}
        self.killed: dict[bytes, bool] = {}  # before they were created, and whether for good

    def was_killed(self, actor: bytes) -> None:
        """Nothing is left to be done: it is dead already."""

    def known(self, actor: bytes) -> ActorView | None:
        """Return the view of an actor, if there is one."""
        return self._views.get(actor)

    def view(self, actor: bytes, entry: dict[str, Any] | None = None) -> ActorView:
        """Return the view of an actor."""
        found = self._views.get(actor)
        if found is None:
            found = self._views[actor] = ActorView(actor)
            if entry is not None:
                found.entry = entry
        return found

    def watch(self, view: ActorView) -> None:
        """The world tells of every change."""

    def stream(self, view: ActorView, identity: Identity, number: int = 0) -> Stream:
        """Return the stream of `identity` to the actor, made on first use."""
        key = (view.id, number)
        found = identity.streams.get(key)
        if found is None:
            found = Stream(identity.caller, view.id, number, identity.numbers)
            found.target, found.identity = view, identity
            view.streams += (found,)
            identity.streams[key] = found
        return found

    def begin(self, view: ActorView, kind: dict[str, Any]) -> None:
        """An actor is about to be created; `kind` is what it shares with others."""
        view.entry = {**view.entry, **kind}
        view.is_watched = True

    def refuse(self, result: Result) -> bool:
        """Settle a call whose actor is dead or restarting. Return whether it was."""
        view: ActorView = result.stream.target
        if self._world.driver.is_over is not None:
            result.settle(ERROR, self._world.driver.is_over)
        elif view.is_dead:
            result.settle(ERROR, self.death(view))
        elif view.entry["state"] == "RESTARTING" and not result.retries:
            result.settle(ERROR, self.unavailable(view, "no"))
        else:
            return False
        return True

    def fail(self, view: ActorView, error: BaseException) -> None:
        """The actor never came to be."""
        view.failure = error
        self.bury(view, error)

    def bury(self, view: ActorView, error: BaseException) -> None:
        """Nothing is left to be expected of the actor."""
        view.is_dead = True
        for stream in view.streams:
            left = [*stream.take_pending(), *stream.take_held()]
            for result in left:
                if result.state == PENDING:
                    result.settle(ERROR, error)

    def released(self, actor: bytes) -> None:
        """The last handle of an actor is gone."""
        self._world.released.append(actor)
