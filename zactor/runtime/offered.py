"""What a process offers to `zactor.api`, and to the code here that works for it.

Two things offer it: `process.Process`, by sockets and threads, and `inprocess.process.LocalProcess`, which
runs a whole cluster within one process. Whoever is written against this runs on both; what is not named here
is nobody's business outside of `runtime`.

Types only; nothing is implemented here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import weakref
    from collections import deque
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from zactor.core.calls import Result, Stream
    from zactor.runtime.calls.actors import ActorView
    from zactor.runtime.calls.caller import Identity
    from zactor.runtime.calls.deadlines import Deadlines
    from zactor.runtime.links.reception import Waiter
    from zactor.wire.messages import Address


class OffersCalls(Protocol):
    """The caller's half of the data plane."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Guards streams and what is held on them."""

    def hold(self, result: Result) -> None:
        """Queue a call behind what is held on its stream, or send it."""

    def release(self, stream: Stream) -> None:
        """Let held calls go, as far as they can."""

    def note_name(self, result: Result, name: str) -> None:
        """Remember the name that a call was given, for listings."""

    def fail(self, result: Result, error: BaseException) -> None:
        """Settle a call with an error that was made here."""

    def note_failure(self, result: Result, state: int, value: Any) -> None:
        """Remember, for listings, that a call has failed."""

    def cancel_sent(self, stream: Stream, seq: int, flags: int) -> None:
        """Have a call cancelled where it is."""


class OffersActors(Protocol):
    """Actors as their callers see them."""

    def view(self, actor: bytes, entry: dict[str, Any] | None = None) -> ActorView:
        """Return the view of an actor."""

    def stream(self, view: ActorView, identity: Identity, number: int = 0) -> Stream:
        """Return the stream of calls of one caller to an actor."""

    def begin(self, view: ActorView, kind: dict[str, Any]) -> None:
        """An actor is about to be created; `kind` is what it shares with others."""

    def was_killed(self, actor: bytes) -> None:
        """This process has had an actor killed for good: none of its calls from now on runs."""

    def refuse(self, result: Result) -> bool:
        """Settle a call whose actor cannot take it."""

    def fail(self, view: ActorView, error: BaseException) -> None:
        """The actor never came to be."""


class OffersObjects(Protocol):
    """References and the values behind them."""

    store: Any
    settled_calls: deque[bytes]
    loaded: dict[bytes, weakref.ref[Any]]

    def show(self, result: Result) -> tuple[Any, Address]:
        """Enter an object whose reference is pickled; return its guard and owner."""

    def receive(self, object_id: bytes, owner: Any) -> tuple[Result, Any]:
        """Return result and guard behind a reference that was unpickled."""

    def guard(self, object_id: bytes, owner: Address) -> Any:
        """Return what keeps an object or actor alive."""

    def own_actor(self, actor: bytes) -> Any:
        """Return what keeps an actor alive that was created here."""

    def hold_value(self, result: Result, inner: Sequence[Any]) -> None:
        """A value contains references."""

    def keep_for_ever(self, guard: Any) -> None:
        """A reference was pickled outside of zactor."""

    def plain(self, owner: Address) -> tuple[Any, ...]:
        """Return an address as it is pickled."""

    def rows(self, refs: Iterable[Any]) -> list[Any]:
        """Return references as a call carries them."""

    def wire_value(self, result: Result) -> tuple[int, Any, Any, Sequence[bytes]]:
        """Return a settled result as a call carries it."""

    def call_leaves(self, call: bytes, refs: Iterable[Any]) -> None:
        """A call's arguments contain references."""

    def shared(self, object_id: bytes) -> Result | None:
        """Return the result of an object that others may know of."""

    def want(self, result: Result) -> None:
        """The value is waited for."""

    def want_all(self, results: Iterable[Result]) -> None:
        """`want`, of many."""

    def watch_end(self, result: Result) -> None:
        """The end of a stored value is to be noticed."""


class OffersTasks(Protocol):
    """Tasks that this process has submitted."""

    def queue(self, key: bytes, shape: dict[str, Any], identity: Identity) -> Any:
        """Return the queue of tasks of one shape."""

    def submit(self, result: Any) -> None:
        """Queue a task whose arguments are here."""

    def streams(self) -> list[Stream]:
        """Return the streams on which tasks run."""

    def waiting(self) -> list[Any]:
        """Return the tasks that have not left."""


class OffersDefinitions(Protocol):
    """Classes and functions."""

    def publish(self, definition: Any) -> bytes:
        """Return the key of a class or function."""

    def load(self, key: bytes) -> Any:
        """Return the class or function behind a key."""


class OffersStreams(Protocol):
    """Streams of items."""

    def took(self, result: Any) -> None:
        """An item was taken."""

    def pull(self, peer: Any, call: bytes) -> Result:
        """Ask the stream's owner for its next item."""

    def drop_soon(self, result: Any) -> None:
        """Nobody wants more. For finalizers."""


class OffersCreations(Protocol):
    """Shared actors that are about to be created."""

    def add(self, spec: dict[str, Any], actor: bytes, args: Any) -> None:
        """Have an actor created soon."""


class OffersGroups(Protocol):
    """Placement groups."""

    def create(self, spec: dict[str, Any]) -> None:
        """Have a group made."""

    def confirm(self, group: bytes) -> None:
        """Wait until it is known whether it could be made."""

    def remove(self, group: bytes) -> None:
        """Have a group given up."""

    def learn(self, entry: dict[str, Any]) -> None:
        """Take an entry that was answered."""

    def when_created(self, group: bytes, result: Result, kind: int, value: Any) -> None:
        """Settle a result once the group is reserved."""


class OffersPost(Protocol):
    """The post office."""

    @property
    def address(self) -> Address:
        """Where this process is reached."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have something done later."""

    def peer(self, address: Address) -> Any:
        """Return another process, to send to."""

    def request(self, to: Address, message: Any) -> Any:
        """Ask another process; return a future."""


class OffersReception(Protocol):
    """Who receives."""

    def attach(self, loop: Any) -> None:
        """Tasks of this loop wait for references."""

    def is_on(self, loop: Any) -> bool:
        """Whether results are settled on the loop's own thread."""

    def flush_soon(self, loop: Any) -> None:
        """Send what is gathered at the end of the loop's turn."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Have a user's callback run."""


class Offered(Protocol):
    """See the module."""

    id: bytes
    pid: int
    job: bytes
    namespace: str
    session: dict[str, Any]
    identity: Identity
    parent: Any
    running: Any
    is_worker: bool
    is_over: Exception | None
    awaiting: dict[Result, None]

    @property
    def broker(self) -> Address:
        """Where the broker is."""

    @property
    def node(self) -> Address | None:
        """Where this machine's node is."""

    @property
    def post(self) -> OffersPost:
        """Its post office."""

    @property
    def caller(self) -> OffersCalls:
        """Its calls."""

    @property
    def reception(self) -> OffersReception:
        """Who receives for it."""

    @property
    def definitions(self) -> OffersDefinitions:
        """Its classes and functions."""

    @property
    def objects(self) -> OffersObjects:
        """Its references."""

    @property
    def actors(self) -> OffersActors:
        """The actors it knows."""

    @property
    def tasks(self) -> OffersTasks:
        """Its tasks."""

    @property
    def streams(self) -> OffersStreams:
        """Its streams."""

    @property
    def creations(self) -> OffersCreations:
        """What it is about to create."""

    @property
    def groups(self) -> OffersGroups:
        """The placement groups it knows."""

    @property
    def deadlines(self) -> Deadlines:
        """The deadlines of its calls."""

    def wait_for(self, results: Sequence[Result], count: int, deadline: float | None) -> bool:
        """Wait until `count` of the pending results are settled; False if the deadline came."""

    def block_on(
        self, waiter: Waiter, deadline: float | None, needed: Sequence[Result] = ()
    ) -> None:
        """Wait until the waiter is done, or the deadline has come."""

    def look(self) -> None:
        """Take what has arrived, without waiting."""

    def flush(self) -> None:
        """Send all that was gathered."""

    def ask(self, message: Any, *, to: Address | None = None, timeout: float = ...) -> Any:
        """Send a request to the broker (or `to`) and wait for its answer."""

    def tell(self, message: Any) -> None:
        """Send a one-way message to the broker."""

    def inherited_session(self) -> dict[str, Any]:
        """Return what actors and tasks made here take over from the session."""

    def end(self, reason: Exception) -> None:
        """The session is over."""

    def end_actor(self) -> None:
        """End the actor that runs here, from whatever task of it asks."""

    def explain(self, result: Result) -> tuple[list[dict[str, Any]], Any]:
        """Return causes why a result is not there, and a lead to follow for more, or None."""
