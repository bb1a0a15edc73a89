"""Actors as their callers see them: where each lives now, and what becomes of calls when it does not.

A view follows the actor's entry in the directory, which the broker pushes. While the actor has a
place, its streams lead there; when a life ends, the calls that had left are settled or sent again.

Owned by the leader, except `stream`, which any thread may ask for (under the caller's lock).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from zactor.core.calls import Result, Stream, spend_retry
from zactor.exceptions import ActorDiedError, ActorUnavailableError, from_wire
from zactor.serde.exceptions import revive
from zactor.wire import batches
from zactor.wire.messages import (
    MOVED,
    WHOLE,
    ActorChanged,
    ActorsMoved,
    Address,
    ReleaseActor,
    WatchActor,
)

if TYPE_CHECKING:
    from collections.abc import Container

    from zactor.runtime.calls.caller import Identity
    from zactor.runtime.process import Process

ADVICE = "It goes on waiting: `zactor status` shows what there is, `zactor node` adds more"
NETWORK_PATIENCE = 2.0  # seconds that a worker has to bind tcp when another machine wants it to


class SharedEntry:
    """An actor's entry, all of it but a `row` of fields shared with others of its kind.

    80 bytes and the row, where a dict of its own takes 700 and what it names as much again.
    """

    __slots__ = ("_kind", "_row")

    def __init__(self, kind: dict[str, Any], row: tuple[Any, ...]) -> None:
        self._kind = kind
        self._row = row

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or `default`."""
        at = _AT.get(name, len(self._row))
        return self._row[at] if at < len(self._row) else self._kind.get(name, default)

    def __getitem__(self, name: str) -> Any:
        at = _AT.get(name, len(self._row))
        return self._row[at] if at < len(self._row) else self._kind[name]

    def keys(self) -> list[str]:
        """Return the names of the fields."""
        return list(dict.fromkeys((*self._kind, *MOVED[: len(self._row)])))

    def moved(self, row: tuple[Any, ...]) -> SharedEntry:
        """Return the entry with another row."""
        return SharedEntry(self._kind, row)


_AT = {name: at for at, name in enumerate(MOVED)}
_PENDING_ROW = (0, "PENDING", 0)  # revision, state, life
_UNKNOWN: dict[str, Any] = {}  # what is known of an actor of which nothing is
INTERNED = 10_000


class ActorView:
    """One actor, as this process sees it."""

    __slots__ = (
        "ends", "entry", "failure", "id", "is_alive", "is_dead", "is_watched", "life", "pin", "place",
        "strays", "streams",
        "waits_network", "wants_network",
    )  # fmt: skip

    def __init__(self, actor: bytes) -> None:
        self.id = actor
        self.entry: Any = SharedEntry(_UNKNOWN, (actor, *_PENDING_ROW))
        self.streams: tuple[Stream, ...] = ()
        self.place: Address | None = None
        self.life = 0
        self.failure: BaseException | None = None
        self.is_dead = False
        self.ends = 0  # what was said of it and is not applied yet (see `apply_ends`)
        self.is_alive = False
        self.is_watched = False
        self.wants_network = False  # asked for a place that other machines can connect to
        self.waits_network = -1  # the life that was waited for long enough
        self.strays: tuple[Result, ...] = ()  # came to where the actor was; we shall hear more
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
        self._parts: dict[Any, Any] = {}  # of entries, to be shared by them
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

    def was_killed(self, actor: bytes) -> None:
        """This process has had an actor killed for good: none of its calls from now on runs.

        They are held until the news of the death arrive, which takes its own way.
        """
        view = self._views.get(actor)
        if view is None or view.is_dead:
            return
        self.watch(view)
        caller = self._process.caller
        with caller.lock:
            for stream in list(view.streams):
                caller.make_way(stream, None, view.life)

    def all(self) -> list[ActorView]:
        """Return the views of all actors known here."""
        return list(self._views.values())

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
        key = (view.id, number) if number else view.id  # a tuple takes 56 bytes
        found = identity.streams.get(key)
        if found is not None:
            return found
        with self._process.caller.lock:
            found = identity.streams.get(key)
            if found is None:
                found = Stream(identity.caller, view.id, number, identity.numbers)
                found.target = view
                found.identity = identity
                view.streams += (found,)
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
                target = stream.target
                target.streams = tuple(each for each in target.streams if each is not stream)

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
        # Calls wait for most of them: they leave together, not each in a message of its own.
        with self._process.caller.released_together():
            for row in message.rows:
                view = self._views.get(row[0])
                if view is not None and row[1] > view.entry.get("revision", 0):
                    known = view.entry
                    if type(known) is not SharedEntry:
                        known = SharedEntry(known, ())
                    self._update(view, known.moved(self._interned(view, row)), [])

    def _interned(self, view: ActorView, row: list[Any]) -> tuple[Any, ...]:
        """Return a row whose parts are those of other rows, where they are equal."""
        parts = self._parts
        if len(parts) > INTERNED:
            parts.clear()
        interned: list[Any] = [view.id, row[1]]
        for value in row[2 : len(MOVED)]:
            key = Address._make(value) if type(value) is list and value else value
            interned.append(parts.setdefault(key, key))
        return tuple(interned)

    def begin(self, view: ActorView, kind: dict[str, Any]) -> None:
        """An actor of a kind is about to be created with others: `kind` is what they share."""
        view.entry = SharedEntry(kind, (view.id, *_PENDING_ROW))
        view.is_watched = True

    def _update(self, view: ActorView, entry: Any, progress: list[Any]) -> None:
        view.entry = entry
        if _ends_life(view, entry) or view.ends:
            # What the dead worker sent may still be in the inbox: applied once that is empty,
            # and before anything that was said of the actor later.
            view.ends += 1
            self._ended.append((view, entry, progress))
            self._process.reception.wake()
        elif entry.get("address"):
            self._placed(view, entry)
        elif entry.get("pending_reason") and entry.get("owner") == self._process.id:
            reason = entry["pending_reason"]
            text = f"{view.label} waits for a place: {reason}. {ADVICE}"
            self._process.warn(text, about=reason)

    def _placed(self, view: ActorView, entry: Any) -> None:
        if view.is_dead:
            return  # for this process: its session may be over while the actor is not
        place = entry["address"]
        if type(place) is not Address:
            place = Address._make(place)
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
            if _ends_life(view, entry):
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
                for result in stream.take_held():
                    # One that had left before has paid for this attempt.
                    if result.retries or hasattr(result, "seq"):
                        stream.hold(result)
                    else:
                        self._process.caller.fail(result, self.unavailable(view, "no"))

    def _life_ended(self, view: ActorView, entry: Any, progress: list[Any]) -> None:
        view.place = None
        view.is_alive = False
        rows = {(bytes(row[0]), row[1]): (row[2], row[3]) for row in progress}
        goes_on = entry["state"] != "DEAD"
        never_began = entry["state"] in ("PENDING", "STARTING")  # no constructor has returned
        caller = self._process.caller
        for stream in list(view.streams):
            unknown = unseen(self._process, stream, rows)
            started, finished = rows.get((stream.caller, stream.number), unknown)
            with caller.lock:
                caller.make_way(stream, None, view.life)
                pending = stream.take_pending()
            strays = [result for result in view.strays if result.stream is stream]
            if strays:
                pending = sorted(pending + strays, key=lambda result: result.seq)
            again = []
            for result in pending:
                did_not_run = never_began or result in strays
                executed = "no" if did_not_run else _executed(result.seq, started, finished)
                if goes_on and (result.retries or never_began):
                    if not did_not_run:
                        spend_retry(result)
                    again.append(result)
                elif goes_on:
                    self._process.caller.fail(result, self.unavailable(view, executed))
                else:
                    self._process.caller.fail(result, self.death(view, executed))
            if again:
                caller.send_again(stream, again)
        view.strays = ()

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
            self._process.caller.fail(result, self.death(view))
        elif view.place is not None and view.life == life:
            view.strays += (result,)  # until its end is known here too
        elif result.retries:
            self._process.caller.send_again(stream, [result])
        else:
            self._process.caller.fail(result, self.unavailable(view, "no"))
        return 1

    # -- errors --------------------------------------------------------------------------------

    def unavailable(self, view: ActorView, executed: str) -> Exception:
        """The error of a call whose actor's process died, and which may live again."""
        return ActorUnavailableError(
            f"The actor is restarting: {_clause(view.entry)}",
            **naming(view),
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
            _reason(view.entry),
            **naming(view),
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
                if not stream.pending and not stream.held:
                    continue
                left: list[Result] = stream.take_pending() + stream.take_held()
            for result in left:
                self._process.caller.fail(result, error)

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
            self._process.caller.fail(result, self._process.is_over)
        elif view.is_dead:
            self._process.caller.fail(result, self.death(view))
        elif view.entry["state"] == "RESTARTING" and not result.retries:
            self._process.caller.fail(result, self.unavailable(view, "no"))
        else:
            return False
        return True

    def released(self, actor: bytes) -> None:
        """The last handle of an actor of ours is gone."""
        self._process.tell(ReleaseActor(actor))


def naming(view: ActorView) -> dict[str, Any]:
    """Return the fields of an error that name an actor."""
    entry = view.entry
    return {
        "actor_id": view.id.hex(),
        "class_name": entry.get("class_name") or "",
        "name": entry.get("name") or "",
        "namespace": (entry.get("namespace") or "") if entry.get("name") else "",
    }


def unseen(process: Process, stream: Stream, rows: Container[Any]) -> tuple[int, int]:
    """Return what is known of a stream that is not on a dead worker's progress page.

    Nothing of it had arrived, if the page is whole and the broker has passed on all of it that
    is this process's own (rows of actors are picked by where these are, which may just change).
    """
    is_own = stream.caller[:12] == process.id
    return (0, 0) if is_own and WHOLE[:2] in rows else (-1, -1)


def _executed(seq: int, started: int, finished: int) -> str:
    """Did the call run? As far as the dead worker's progress page tells."""
    if started < 0:
        return "unknown"
    if seq <= finished:
        return "yes"
    return "unknown" if seq <= started else "no"


def _ends_life(view: ActorView, entry: Any) -> bool:
    """Whether this word of the directory says that the life known here is over."""
    state = entry["state"]
    if state in ("DEAD", "RESTARTING"):
        return True
    return view.place is not None and (state == "PENDING" or entry["life"] != view.life)


# What a text of the directory begins with when the actor is its subject.
_VERBS = frozenset({"was", "exited", "ended", "died", "did"})


def _clause(entry: Any) -> str:
    """Say what became of the actor's last life, as a clause."""
    cause = entry.get("cause") or {}
    text = str(cause.get("text") or cause.get("kind") or "died, for no known cause")
    first = text.split(" ", 1)[0]
    if first in ("killed", "released"):
        return f"it was {text}"
    return f"it {text}" if first in _VERBS else text


# The beginnings of these texts are Ray's: programs look for them.
_DEATHS = {
    "exit": "The actor is dead because its worker process has died: ",
    "signal": "The actor is dead because its worker process has died: ",
    "oom": "The actor is dead because its worker process has died: ",
    "owner": "The actor is dead because its owner has died: ",
    "node": "The actor died because its node has died. What is known: ",
}


def _reason(entry: Any) -> str:
    """Say why the actor is dead."""
    kind = (entry.get("cause") or {}).get("kind")
    return _DEATHS.get(str(kind), "") + _clause(entry)
