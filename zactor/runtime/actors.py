"""Actors as their callers see them: where each lives now, and what becomes of calls when it does not.

A view follows the actor's entry in the directory, which the broker pushes. While the actor has a
place, its streams lead there; when a life ends, the calls that had left are settled or sent again.

Owned by the leader, except `stream`, which any thread may ask for (under the caller's lock).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, Result, Stream
from zactor.exceptions import ActorDiedError, ActorUnavailableError, from_wire
from zactor.serde.exceptions import revive
from zactor.wire import batches
from zactor.wire.messages import (
    MOVED,
    ActorChanged,
    ActorsMoved,
    Address,
    ReleaseActor,
    WatchActor,
)

if TYPE_CHECKING:
    from zactor.runtime.caller import Identity
    from zactor.runtime.process import Process

NEVER_CREATED = -1
NETWORK_PATIENCE = 2.0  # seconds that a worker has to bind tcp when another machine wants it to


class ActorView:
    """One actor, as this process sees it."""

    __slots__ = (
        "ends", "entry", "failure", "id", "is_alive", "is_dead", "is_watched", "life", "pin", "place",
        "strays", "streams",
        "waits_network", "wants_network",
    )  # fmt: skip

    def __init__(self, actor: bytes) -> None:
        self.id = actor
        self.entry: dict[str, Any] = {"id": actor, "state": "PENDING", "life": 0, "revision": 0}
        self.streams: list[Stream] = []
        self.place: Address | None = None
        self.life = 0
        self.failure: BaseException | None = None
        self.is_dead = False
        self.ends = 0  # what was said of it and is not applied yet (see `apply_ends`)
        self.is_alive = False
        self.is_watched = False
        self.wants_network = False  # asked for a place that other machines can connect to
        self.waits_network = -1  # the life that was waited for long enough
        self.strays: list[
            Result
        ] = []  # came to where the actor was; the directory will say more
        self.pin: Any = None  # at its creator: the arguments of the constructor, for restarts

    @property
    def label(self) -> str:
        """What texts call it: class, name, id."""
        name = f" {self.entry['name']!r}" if self.entry.get("name") else ""
        return f"{self.entry.get('class_name') or 'actor'}{name} ({self.id.hex()})"


class ActorViews:
    """All actors this process knows."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._views: dict[bytes, ActorView] = {}
        self._ended: deque[tuple[ActorView, dict[str, Any], list[Any]]] = deque()
        process.post.on(ActorChanged, self._changed)
        process.post.on(ActorsMoved, self._moved)
        process.caller.special[batches.NOT_HERE] = self._not_here
        process.reception.housekeeping.append((self._ended, self.apply_ends))

    def view(self, actor: bytes, entry: dict[str, Any] | None = None) -> ActorView:
        """Return the view of an actor; `entry` is what is known of it, if anything."""
        found = self._views.get(actor)
        if found is None:
            with self._process.caller.lock:
                found = self._views.setdefault(actor, ActorView(actor))
        if entry is not None and entry.get("revision", 0) >= found.entry.get("revision", 0):
            self._update(found, entry, [])
        return found

    def watch(self, view: ActorView) -> None:
        """Follow the actor's entry, from its present state on."""
        if view.is_watched:
            return
        view.is_watched = True
        self._ask(view, network=False)

    def broker_moved(self) -> None:
        """The broker was started again: it does not know who watches what."""
        for view in list(self._views.values()):
            if view.is_watched and not view.is_dead:
                self._ask(view, network=view.wants_network)

    def _ask(self, view: ActorView, *, network: bool) -> None:
        view.wants_network = network
        request = WatchActor(0, view.id, network)
        future = self._process.post.request(self._process.broker, request)

        def answered(done: Any) -> None:
            error = done.exception()
            if error is None and done.result() is not None:
                if done.result()["revision"] >= view.entry.get("revision", 0):
                    self._update(view, done.result(), [])
            else:
                self._fail_view(view, self._unknown(view, error))

        future.add_done_callback(answered)

    def _unknown(self, view: ActorView, error: BaseException | None) -> Exception:
        return ActorDiedError(
            f"{view.label} is not known to this cluster: its handle comes from another session, "
            f"or it died long ago{f' ({error})' if error else ''}",
            actor_id=view.id.hex(),
            executed="no",
        )

    def stream(self, view: ActorView, identity: Identity, number: int = 0) -> Stream:
        """Return the stream of `identity` to the actor, made on first use."""
        key = (view.id, number)
        found = identity.streams.get(key)
        if found is not None:
            return found
        with self._process.caller.lock:
            found = identity.streams.get(key)
            if found is None:
                found = Stream(identity.caller, view.id, number, identity.numbers)
                found.target = view
                found.identity = identity
                view.streams.append(found)
                identity.streams[key] = found
                if view.place is not None:
                    self._lead(found, view)
        self.watch(view)
        return found

    def leave(self, identity: Identity) -> None:
        """A caller is gone: forget its streams. What is in flight on them settles unseen."""
        with self._process.caller.lock:
            streams, identity.streams = identity.streams, {}
            for stream in streams.values():
                if stream in stream.target.streams:
                    stream.target.streams.remove(stream)

    def _lead(self, stream: Stream, view: ActorView) -> None:
        caller = self._process.caller
        assert view.place is not None
        caller.make_way(stream, caller.outgoing(view.place), view.life)

    # -- the directory's word ------------------------------------------------------------------

    def _changed(self, peer: bytes, address: Address, message: ActorChanged) -> None:  # noqa: ARG002
        view = self._views.get(message.entry["id"])
        if view is not None and message.entry["revision"] > view.entry.get("revision", 0):
            self._update(view, message.entry, message.progress)

    def _moved(self, peer: bytes, address: Address, message: ActorsMoved) -> None:  # noqa: ARG002
        views = self._views
        for row in message.rows:
            view = views.get(row[0])
            if view is not None and row[1] > view.entry.get("revision", 0):
                self._update(view, {**view.entry, **dict(zip(MOVED, row, strict=False))}, [])

    def _update(self, view: ActorView, entry: dict[str, Any], progress: list[Any]) -> None:
        view.entry = entry
        state = entry["state"]
        if (
            state in ("DEAD", "RESTARTING")
            or (view.place is not None and entry["life"] != view.life)
            or view.ends
        ):
            # What the dead worker sent may still be in the inbox: applied once that is empty,
            # and before anything that was said of the actor later.
            view.ends += 1
            self._ended.append((view, entry, progress))
            self._process.reception.wake()
        elif entry.get("address"):
            self._placed(view, entry)

    def _placed(self, view: ActorView, entry: dict[str, Any]) -> None:
        if view.is_dead:
            return  # for this process: its session may be over while the actor is not
        place = Address._make(entry["address"])
        if view.place == place and view.life == entry["life"]:
            return
        if self._needs_network(place) and view.waits_network != entry["life"]:
            if not view.wants_network:
                self._ask(view, network=True)
                self._process.post.call_later(
                    NETWORK_PATIENCE, lambda: self._place_anyway(view, entry["life"])
                )
            return  # its address is told again, with an endpoint
        if (
            view.place is not None
            and view.life == entry["life"]
            and view.place.process == place.process
        ):
            view.place = place  # it can be reached over the network too, now
            self._process.post.peer(place)
            return
        view.place = place
        view.life = entry["life"]
        view.is_alive = True
        for stream in view.streams:
            self._lead(stream, view)

    def _place_anyway(self, view: ActorView, life: int) -> None:
        """It got no endpoint that this machine can connect to: then by the relay."""
        view.waits_network = life
        if view.place is None and view.entry["life"] == life and view.entry.get("address"):
            self._placed(view, view.entry)

    def _needs_network(self, place: Address) -> bool:
        """Whether the process there could not be connected to, and can be told to change that."""
        return (
            not place.tcp
            and place.machine != self._process.post.address.machine
            and self._process.post.keys is not None
        )

    def apply_ends(self) -> None:
        """Settle what the ends of lives leave behind. On the leader, when the inbox is empty."""
        while self._ended:
            view, entry, progress = self._ended.popleft()
            view.ends -= 1
            state = entry["state"]
            if state in ("DEAD", "RESTARTING") or (
                view.place is not None and entry["life"] != view.life
            ):
                self._life_ended(view, entry, progress)
            if state == "DEAD":
                self._fail_view(view, self.death(view))
            elif state == "RESTARTING":
                self._unplaced(view)
            elif entry.get("address"):
                self._placed(view, entry)

    def _unplaced(self, view: ActorView) -> None:
        caller = self._process.caller
        for stream in view.streams:
            with caller.lock:
                caller.make_way(stream, None, view.life)
                waiting, stream.held = list(stream.held), type(stream.held)()
                for result in waiting:
                    # One that had left before has paid for this attempt.
                    if result.retries or hasattr(result, "seq"):
                        stream.held.append(result)
                    else:
                        result.settle(ERROR, self.unavailable(view, "no"))

    def _life_ended(self, view: ActorView, entry: dict[str, Any], progress: list[Any]) -> None:
        view.place = None
        view.is_alive = False
        rows = {(bytes(row[0]), row[1]): (row[2], row[3]) for row in progress}
        goes_on = entry["state"] != "DEAD"
        caller = self._process.caller
        for stream in list(view.streams):
            started, finished = rows.get((stream.caller, stream.number), (-1, -1))
            with caller.lock:
                caller.make_way(stream, None, view.life)
                pending = stream.take_pending()
            strays = [result for result in view.strays if result.stream is stream]
            if strays:
                pending = sorted(pending + strays, key=lambda result: result.seq)
            again = []
            for result in pending:
                is_stray = result in strays
                executed = "no" if is_stray else _executed(result.seq, started, finished)
                if goes_on and result.retries:
                    if result.retries > 0 and not is_stray:
                        result.retries -= 1
                    again.append(result)
                elif goes_on:
                    result.settle(ERROR, self.unavailable(view, executed))
                else:
                    result.settle(ERROR, self.death(view, executed))
            if again:
                caller.send_again(stream, again)
        view.strays.clear()

    def _not_here(
        self,
        peer: Any,
        stream: Stream,
        seq: int,
        life: int,
        extras: Any,
        frames: Any,  # noqa: ARG002
    ) -> int:
        """A call came to a process that its actor has left. On the leader."""
        result = stream.pending.pop(seq, None)
        if result is None:
            return 0
        view: ActorView = stream.target
        if view.is_dead:
            result.settle(ERROR, self.death(view))
        elif view.place is not None and view.life == life:
            view.strays.append(result)  # until its end is known here too
        elif result.retries:
            self._process.caller.send_again(stream, [result])
        else:
            result.settle(ERROR, self.unavailable(view, "no"))
        return 1

    # -- errors --------------------------------------------------------------------------------

    def unavailable(self, view: ActorView, executed: str) -> Exception:
        """The error of a call whose actor's process died, and which may live again."""
        return ActorUnavailableError(
            f"{_text(view.entry)}, and is being restarted",
            **_naming(view),
            executed=executed,
        )

    def death(self, view: ActorView, executed: str = "no") -> Exception:
        """The error of a call to an actor that is gone for good."""
        if view.failure is not None:
            return view.failure  # type: ignore[return-value]
        cause = view.entry.get("cause") or {}
        error = cause.get("error")
        if cause.get("kind") in ("environment", "unschedulable") and error:
            return from_wire(error)
        died = ActorDiedError(
            _text(view.entry),
            **_naming(view),
            actor_init_failed=cause.get("kind") == "constructor",
            cause=error if cause.get("kind") == "constructor" else None,
            executed="no" if cause.get("kind") == "constructor" else executed,
        )
        return revive(died)

    def _fail_view(self, view: ActorView, error: BaseException) -> None:
        view.is_dead = True
        view.place = None
        caller = self._process.caller
        for stream in view.streams:
            with caller.lock:
                stream.failure = error
                caller.make_way(stream, None, view.life)
                left: list[Result] = stream.take_pending() + list(stream.held)
                stream.held.clear()
            for result in left:
                result.settle(ERROR, error)

    def fail(self, view: ActorView, error: BaseException) -> None:
        """The actor never came to be."""
        view.failure = error
        self._fail_view(view, error)

    def fail_all(self, error: Exception) -> None:
        """Nothing more can be heard of any actor."""
        for view in list(self._views.values()):
            self._fail_view(view, error)

    def refuse(self, result: Result) -> bool:
        """Settle a call that cannot be sent because its actor is dead or restarting.

        Returns:
            Whether it was refused.
        """
        view: ActorView = result.stream.target
        if self._process.is_over is not None:
            result.settle(ERROR, self._process.is_over)
        elif view.is_dead:
            result.settle(ERROR, self.death(view))
        elif view.entry["state"] == "RESTARTING" and not result.retries:
            result.settle(ERROR, self.unavailable(view, "no"))
        else:
            return False
        return True

    def released(self, actor: bytes) -> None:
        """The last handle of an actor of ours is gone."""
        self._process.tell(ReleaseActor(actor))


def _naming(view: ActorView) -> dict[str, Any]:
    entry = view.entry
    return {
        "actor_id": view.id.hex(),
        "class_name": entry.get("class_name") or "",
        "name": entry.get("name") or "",
        "namespace": (entry.get("namespace") or "") if entry.get("name") else "",
    }


def _executed(seq: int, started: int, finished: int) -> str:
    """Did the call run? As far as the dead worker's progress page tells."""
    if started < 0:
        return "unknown"
    if seq <= finished:
        return "yes"
    return "unknown" if seq <= started else "no"


def _text(entry: dict[str, Any]) -> str:
    cause = entry.get("cause") or {}
    text = str(cause.get("text") or cause.get("kind") or "died, for no known cause")
    return text if text.startswith(("it ", "its ")) else f"it {text}"
