"""Objects and references: values this process owns, and those it has references to.

A value that never leaves the process costs nothing here: its `Result` is held by its ObjectRefs
and goes with them. Once a reference is shown to another process (pickled), or comes from one, the
object is entered in the process's reference table (`core.ownership`), which decides who must keep
what alive; this shell feeds it and carries its messages.

The end of the last ObjectRef is seen by a `Guard`. Finalizers run anywhere, even inside our own
locks, so a guard only appends to a deque, and wakes whoever empties it (`sweep`): an idle program
that drops its last handle ends the actor now, and not when it next calls something.

Owned by: `lock` guards the table. Never taken by a finalizer.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from zactor.core.calls import ERROR, PENDING, PICKLED, STORED, Result
from zactor.core.ownership import ActorReleased, Free, Lost, References, Send
from zactor.exceptions import (
    GetTimeoutError,
    ObjectFreedError,
    ObjectLostError,
    OwnerDiedError,
    ZactorError,
    to_wire,
)
from zactor.ids import PUT_INDEX, pack_object_id
from zactor.runtime.calls.unhandled import handled
from zactor.runtime.links.interrupts import protected
from zactor.runtime.objects.wanted import STATUS_OF, Wanted
from zactor.wire import batches, references
from zactor.wire.codec import REFERENCES
from zactor.wire.messages import Address, ProcessDied, WatchProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zactor.runtime.links.peer import Peer
    from zactor.runtime.process import Process

Ref = tuple[bytes, bytes]
PLAIN_KEPT = 1_000


class Guard:
    """Lives as long as this process has an ObjectRef, a handle or a mapped view of an object.

    Its end is told by what it alone holds, and not by a finalizer of its own: weak references to it
    would still find it while that ran, in another thread, and whoever did would hold a dead guard.
    """

    __slots__ = ("__weakref__", "_end")

    def __init__(self, object_id: bytes, objects: Objects) -> None:
        self._end = _End(object_id, objects)


class _End:
    __slots__ = ("_object_id", "_objects")

    def __init__(self, object_id: bytes, objects: Objects) -> None:
        self._object_id = object_id
        self._objects = objects

    def __del__(self) -> None:
        self._objects.drop_soon(self._object_id)


class Borrowed(Result):
    """The value of an object that another process owns."""

    __slots__ = ("id", "is_wanted", "owner")

    def __init__(self, object_id: bytes, owner: Address) -> None:
        super().__init__(None, 0, 0, None, None, 0)
        self.id = object_id
        self.owner = owner
        self.is_wanted = False

    def object_id(self) -> bytes:
        """Return the object id."""
        return self.id


class Put(Result):
    """A value that was put: settled from the start."""

    __slots__ = ("caller",)

    def __init__(self, caller: bytes, number: int, state: int, value: Any) -> None:
        super().__init__(None, number, 0, None, None, 0)
        self.caller = caller
        self.index = PUT_INDEX
        self.value = value
        self.state = state

    def object_id(self) -> bytes:
        """Return the object id."""
        return pack_object_id(self.caller, self.number, PUT_INDEX)


class Objects:
    """The reference table of this process and the values it holds for others. See the module."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.lock = threading.RLock()
        self.references = References(process.id)
        self.dropped: deque[bytes] = deque()
        self.settled_calls: deque[bytes] = deque()  # calls with references that are settled
        self._shared: dict[bytes, Result] = {}  # ours, in the table
        self._borrowed: dict[bytes, Borrowed] = {}  # others', while we hold them
        self._guards: dict[bytes, weakref.ref[Guard]] = {}
        # References made by unpickling, for the next unpickling to find; see `refs.load_ref`.
        self.loaded: dict[bytes, weakref.ref[Any]] = {}
        self._actors: set[bytes] = set()  # object ids of the table that are actors of ours
        self._places: dict[bytes, Any] = {}  # where stored values of ours lie
        self._watched: set[bytes] = set()
        self._plain: dict[bytes, tuple[Any, ...]] = {}  # see `plain`
        self._addresses: dict[bytes, Address] = {}
        self._pinned_forever: list[Guard] = []
        self._asked_again: dict[
            bytes, Borrowed
        ] = {}  # others', whose owners look for the value
        self.recovery: Any = None  # set with the store: what makes lost values again
        self.store: Any = None  # set by whoever gives the process a shared-memory store
        self.unviewed: Any = ()  # views of the store that finalizers saw go
        post = process.post
        post.on_kind(REFERENCES, self._references_received)
        self._wanted = Wanted(process, self)
        post.on(ProcessDied, self._process_died)
        process.caller.on_special = self._reply_arrives
        process.reception.housekeeping.append((self.dropped, self.sweep))
        process.reception.housekeeping.append((self.settled_calls, self.sweep))

    # -- references shown and received ---------------------------------------------------------

    def guard(self, object_id: bytes, owner: Address) -> Guard:
        """Return the guard of an object in the table, entering it if it comes from elsewhere."""
        with self.lock:
            known = self._guards.get(object_id)
            found = known() if known is not None else None
            if found is None:
                found = Guard(object_id, self)
                self._guards[object_id] = weakref.ref(found)
                if self.references.add_known(object_id):
                    return found
                if owner.process == self._process.id:
                    self.references.export(object_id, owner.process)
                    self.references.add_local(object_id, owner.process)
                else:
                    self._addresses[owner.process] = owner
                    self.references.add_local(object_id, owner.process)
                    self._apply()
        return found

    def show(self, result: Result) -> tuple[Guard, Address]:
        """Enter an object whose reference is being pickled; return its guard and its owner.

        The guard is to be held by every ObjectRef of it from now on.
        """
        object_id = result.object_id()
        if isinstance(result, Borrowed):
            return self.guard(object_id, result.owner), result.owner
        handled(result)  # whom it is passed on to may ask for it
        with self.lock:
            if object_id not in self._shared:
                self._shared[object_id] = result
                guard = result.guard
                if guard is None:
                    guard = Guard(object_id, self)
                    # The table counts one local reference for an object it is shown: this guard.
                    self.references.own(object_id, result.inner or ())
                result.guard = None
                self._guards[object_id] = weakref.ref(guard)
                return guard, self._process.post.address
            return self.guard(object_id, self._process.post.address), self._process.post.address

    def is_shared(self, result: Result) -> bool:
        """Whether other processes may know of an object of ours."""
        return bool(self._shared) and result.object_id() in self._shared

    def plain(self, owner: Address) -> tuple[Any, ...]:
        """Return an owner's address as it is pickled: always the same tuple."""
        known = self._plain.get(owner.process)
        if known is None or known != owner:
            if len(self._plain) >= PLAIN_KEPT:
                self._plain.clear()
            known = self._plain[owner.process] = tuple(owner)
        return known

    def receive(self, object_id: bytes, owner: Any) -> tuple[Result, Guard | None]:
        """Return the result (and guard) behind a reference that was unpickled here."""
        with self.lock:
            is_mine = owner[0] == self._process.id
            result = (self._shared if is_mine else self._borrowed).get(object_id)
            known = self._guards.get(object_id)
            found = known() if known is not None else None
            if found is not None and result is not None:
                return result, found
            if not is_mine:
                if result is None:
                    address = self._addresses.get(owner[0])
                    if address is None:
                        address = self._addresses[owner[0]] = Address._make(owner)
                    result = Borrowed(object_id, address)
                    self._borrowed[object_id] = result
            elif result is None:
                gone = Put(b"", 0, ERROR, ObjectFreedError(_gone_text(object_id)))
                return gone, None
            address = self._addresses.get(owner[0]) or Address._make(owner)
            return result, self.guard(object_id, address)

    def drop_soon(self, object_id: bytes) -> None:
        """The last reference here is gone. For finalizers: takes no lock."""
        self.dropped.append(object_id)
        if (
            len(self.dropped) == 1
        ):  # whoever was woken for an earlier one has not come yet, else
            reception = self._process.reception
            reception.gathered()  # not a kick: a program that drops many has them swept together
            reception.wake_leader()

    def keep_for_ever(self, guard: Guard) -> None:
        """A reference was pickled outside of zactor: nobody can tell when its bytes are gone."""
        self._pinned_forever.append(guard)

    def hold_value(self, result: Result, inner: Sequence[Ref]) -> None:
        """A value of ours contains references: they live while it does."""
        result.inner = list(inner)
        with self.lock:
            object_id = result.object_id()
            is_known = self.references.knows(object_id)
            self.references.own(object_id, inner)
            if not is_known:
                result.guard = Guard(object_id, self)
            self._apply()

    def watch_end(self, result: Result) -> None:
        """Have the end of a stored value of ours noticed, though it was never shown."""
        with self.lock:
            object_id = result.object_id()
            if not self.references.knows(object_id):
                self.references.own(object_id)
                result.guard = Guard(object_id, self)
            earlier = self._places.get(object_id)
            self._places[object_id] = result.value
            if earlier is not None and list(earlier) != list(result.value):
                self.store.object_freed(object_id, earlier)  # it was made again

    def note_origin(self, result: Result, object_id: bytes) -> None:
        """A stored value has come of the call `result`: it may have to be made again."""
        if self.recovery is not None:
            self.recovery.note(result, object_id)

    def known(self) -> list[tuple[bytes, Result | None, Any]]:
        """Return `(object id, result, place)` of what is shared, borrowed or stored, for listings."""
        with self.lock:
            ids = {**self._shared, **self._borrowed, **dict.fromkeys(self._places)}
            return [
                (
                    each,
                    self._shared.get(each) or self._borrowed.get(each),
                    self._places.get(each),
                )
                for each in ids
            ]

    def shared(self, object_id: bytes) -> Result | None:
        """Return the result of an object of ours that others may know of."""
        return self._shared.get(object_id)

    def is_needed(self) -> bool:
        """Whether others hold references to what this process owns."""
        return bool(self._shared or self._places or self._actors)

    # -- calls and values with references in them ----------------------------------------------

    def learn(self, refs: Iterable[Any]) -> list[Ref]:
        """Take `[object id, owner address]` rows off the wire; return `(object id, owner)`."""
        learned = []
        for object_id, owner in refs:
            address = Address._make(owner)
            self._addresses.setdefault(address.process, address)
            learned.append((object_id, address.process))
        return learned

    def rows(self, refs: Iterable[Ref]) -> list[Any]:
        """Return what `learn` takes."""
        mine = self._process.post.address
        return [
            [object_id, list(mine if owner == mine.process else self._addresses[owner])]
            for object_id, owner in refs
        ]

    def call_leaves(self, call: bytes, refs: Iterable[Ref]) -> None:
        """A call's arguments contain references: they are held until it is settled."""
        with self.lock:
            self.references.pin_call(call, refs)
            self._apply()

    def call_settled(
        self, call: bytes, peer: bytes = b"", *, unconfirmed: bool = False
    ) -> None:
        """The call has its outcome."""
        with self.lock:
            self.references.call_settled(call, peer, unconfirmed=unconfirmed)
            self._apply()

    def call_arrives(self, call: bytes, peer: bytes, refs: Iterable[Ref]) -> None:
        """A call with references in its arguments is about to run here."""
        with self.lock:
            self.references.call_received(call, peer, refs)
            self._apply()

    def call_finishes(self, call: bytes, peer: bytes, refs: Sequence[Ref]) -> bool:
        """It has run, and its reply (with `refs` inside) is about to leave; is it unconfirmed?"""
        with self.lock:
            self.sweep()
            if refs:
                self.references.value_sent(call, peer, refs)
            unconfirmed = self.references.call_finished(call)
            self._apply()
        return unconfirmed

    def value_leaves(self, call: bytes, peer: bytes, refs: Sequence[Ref]) -> None:
        """A value with references inside is about to leave."""
        with self.lock:
            self.references.value_sent(call, peer, refs)
            self._apply()

    def value_arrives(
        self, reply: bytes, peer: bytes, result: Result | None, rows: Any
    ) -> None:
        """A value with references inside has arrived, wanted (`result`) or not."""
        refs = self.learn(rows)
        with self.lock:
            self.references.value_received(reply, peer, refs)
            if result is not None:
                self.hold_value(result, refs)
            self._apply()

    def _reply_arrives(
        self, peer: Peer, result: Result, status: int, value: Any, extras: dict[int, Any]
    ) -> None:
        """A reply of our call is about to settle `result`. On the leader."""
        call = result.object_id()
        rows = extras.get(batches.Y_REFS)
        if rows:
            self.value_arrives(call, peer.id, result, rows)
        if extras.get(batches.Y_UNCONFIRMED):
            result.pin[-1].is_told = True
            self.call_settled(call, peer.id, unconfirmed=True)
        if status == batches.STORED:
            result.value = value
            self.watch_end(result)
            self.note_origin(result, call)

    # -- actors --------------------------------------------------------------------------------

    def own_actor(self, actor: bytes) -> Guard:
        """An actor was created here: its handles are references to it, owned here."""
        with self.lock:
            self.references.own(actor)
            guard = Guard(actor, self)
            self._guards[actor] = weakref.ref(guard)
            self._actors.add(actor)
        return guard

    # -- the table's shell ---------------------------------------------------------------------

    def sweep_if_needed(self) -> None:
        """`sweep`, if finalizers left something."""
        if self.dropped or self.settled_calls:
            self.sweep()

    def tidy(self) -> None:
        """Tell all that finalizers saw go: this thread is about to have nothing to do."""
        if self.unviewed:
            self.store.look()
        elif self.dropped or self.settled_calls:
            self.sweep()

    def sweep(self) -> None:
        """Tell the table what finalizers saw go."""
        dropped, settled_calls = self.dropped, self.settled_calls
        if not dropped and not settled_calls:
            return
        with self.lock:
            while settled_calls:
                self.references.call_settled(settled_calls.popleft())
            while dropped:
                object_id = dropped.popleft()
                known = self._guards.get(object_id)
                if known is not None and known() is None:
                    del self._guards[object_id]
                    self.loaded.pop(object_id, None)
                self.references.drop_local(object_id)
            self._apply()

    def _apply(self) -> None:
        for effect in self.references.drain():
            match effect:
                case Send(peer, messages):
                    self._send(peer, messages)
                case Free(object_id):
                    self._free(object_id)
                case ActorReleased(actor):
                    self._actors.discard(actor)
                    self._process.actors.released(actor)
                case Lost(object_id):
                    self._lose(object_id, effect)
                case _:
                    self._borrowed.pop(effect.object_id, None)

    def _send(self, to: bytes, messages: Any) -> None:
        address = self._addresses.get(to)
        peer = self._process.post.peers.get(to)
        if peer is None and address is not None:
            peer = self._process.post.peer(address)
        if peer is None:
            return
        with peer.lock:
            peer.transmit(REFERENCES, references.pack(messages))

    def _free(self, object_id: bytes) -> None:
        if object_id in self._actors:
            self._actors.discard(object_id)
            self._process.actors.released(object_id)
            return
        result = self._shared.pop(object_id, None)
        place = self._places.pop(object_id, None)
        if self.recovery is not None:
            self.recovery.forget(object_id)
        if place is not None and self.store is not None:
            self.store.object_freed(object_id, place)
        if result is not None and hasattr(result, "arrived"):
            self._process.streams.drop(result)  # type: ignore[arg-type]
        del result

    def _lose(self, object_id: bytes, effect: Any) -> None:
        borrowed = self._borrowed.get(object_id)
        if borrowed is not None and borrowed.state == PENDING:
            error: ZactorError = (
                OwnerDiedError(f"the owner of object {object_id.hex()} is dead")
                if getattr(effect, "owner_died", True)
                else ObjectLostError(_gone_text(object_id))
            )
            borrowed.settle(ERROR, error)

    def _references_received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:  # noqa: ARG002
        with self.lock:
            self._addresses.setdefault(peer.id, peer.address)
            for message in references.unpack(body):
                self.references.receive(peer.id, message)
            self._apply()

    # -- values of borrowed objects ------------------------------------------------------------

    def want(self, result: Result) -> None:
        """Ask the owner for the value of a borrowed object, unless that was done."""
        if type(result) is Borrowed:
            self._wanted.ask_all((result,))

    def want_all(self, results: Iterable[Result]) -> None:
        """`want`, of many."""
        borrowed = [result for result in results if type(result) is Borrowed]
        if borrowed:
            self._wanted.ask_all(borrowed)

    def found(self, object_id: bytes, lost: Any) -> Result:
        """Return what has, or will have, a value that another process asks for.

        Args:
            object_id: Of an object of ours, as far as the other knows.
            lost: The place where it was not found, if that is why.

        Raises:
            ObjectLostError: It is gone, or cannot be made again.
        """
        result = self._shared.get(object_id)
        if result is None:
            raise ObjectLostError(_gone_text(object_id))
        if lost is not None and result.state == STORED:
            again: Result | None = self.recovery.make_again(object_id, lost)
            if again is not None:
                return again
            result.value = self._places[object_id]
        return result

    def awaited(self, object_id: bytes) -> Borrowed | None:
        """Return what waits for a value that its owner has sent."""
        return self._asked_again.pop(object_id, self._borrowed.get(object_id))

    def keep_inner(self, object_id: bytes, inner: Sequence[Ref]) -> None:
        """The value stays here, so what is in it has to."""
        with self.lock:
            self.references.cached(object_id, inner)
            self._apply()

    def wire_value(self, result: Result) -> tuple[int, Any, Any, Sequence[bytes]]:
        """Return `(status, value, contained reference rows, frames)` of a settled result."""
        state, value = result.state, result.value
        frames: Sequence[bytes] = ()
        if state == ERROR:
            value = to_wire(value)
        elif state == PICKLED and type(value) is tuple:
            value, frames = value
        elif state == STORED:  # it may have been made again, elsewhere
            value = self._places.get(result.object_id(), value)
        rows = self.rows(result.inner) if result.inner else None
        return STATUS_OF[state], value, rows, frames

    # -- values that are lost ------------------------------------------------------------------

    def place_of(self, object_id: bytes) -> Any:
        """Return where a stored value of ours should be, or None."""
        return self._places.get(object_id)

    def recover(self, result: Result, lost: Any, deadline: float | None = None) -> None:
        """A value is not at the place `lost`: have its owner find or make it, and wait for that.

        Raises:
            ObjectLostError: It cannot be had any more.
            GetTimeoutError: The deadline came first; it goes on being made.
        """
        object_id = result.object_id()
        if isinstance(result, Borrowed):
            again: Result | None = self._ask_again(result, lost)
        else:
            again = self.recovery.make_again(object_id, lost)
        if again is not None:
            if not self._process.wait_for([again], 1, deadline):
                raise GetTimeoutError(
                    "Get timed out: some object(s) not ready: a lost value is being made again"
                )
            self._take_over(result, again)
        else:
            result.value = self._places[object_id]

    def recover_argument(
        self, object_id: bytes, owner: bytes, lost: Any
    ) -> tuple[Result, Guard | None]:
        """`recover` for an argument of a call that runs here. Keep the guard while it is read."""
        address = self._process.post.address
        if owner != address.process:
            address = self._addresses[owner]
        result, guard = self.receive(object_id, address)
        self.recover(result, lost)
        return result, guard

    def _ask_again(self, result: Borrowed, lost: Any) -> Borrowed:
        with self.lock:
            asked = self._asked_again.get(result.id)
            if asked is not None:
                return asked
            asked = Borrowed(result.id, result.owner)
            asked.is_wanted = True
            if self.references.is_dead(result.owner.process):
                text = f"the owner of object {result.id.hex()} is dead"
                asked.settle(ERROR, OwnerDiedError(text))
                return asked
            self._asked_again[result.id] = asked
        self._wanted.ask(result.owner, [[result.id], list(lost)])
        return asked

    def made_again(self, object_id: bytes, again: Result) -> None:
        """A lost value of ours has been made again, or could not be. On the leader."""
        result = self._shared.get(object_id)
        if result is not None:
            self._take_over(result, again)

    @staticmethod
    def _take_over(result: Result, again: Result) -> None:
        result.inner = again.inner or result.inner
        result.value = again.value
        result.state = again.state

    def call_holds(self, call: bytes, object_id: bytes) -> bool:
        """Have a call that is run again hold a stored value of ours; False if that is freed."""
        with self.lock:
            if object_id not in self._places:
                return False
            self.references.pin_call(call, [(object_id, self._process.id)])
            return True

    def call_leaves_again(self, call: bytes, refs: Iterable[Ref]) -> None:
        """As `call_leaves`, of those that are still there."""
        me = self._process.id
        with self.lock:
            known = [ref for ref in refs if ref[1] != me or self.references.knows(ref[0])]
            self.references.pin_call(call, known)
            self._apply()

    # -- death ---------------------------------------------------------------------------------

    def watch(self, process: bytes) -> None:
        """Have the broker tell of a process's death; what it owns is lost then."""
        if process in self._watched or process == self._process.id:
            return
        self._watched.add(process)
        future = self._process.post.request(self._process.broker, WatchProcess(0, process))

        def answered(done: Any) -> None:
            if done.exception() is None and done.result() is not None:
                self._process.process_died(process)

        future.add_done_callback(answered)

    def broker_moved(self) -> None:
        """The broker was started again: it does not know who watches whom."""
        watched, self._watched = self._watched, set()
        for process in watched:
            self.watch(process)

    def _process_died(self, peer: bytes, address: Address, message: ProcessDied) -> None:  # noqa: ARG002
        self._process.process_died(message.process)

    def owner_died(self, process: bytes) -> None:
        """A process is dead: what it held is released, what it owned is lost."""
        with self.lock:
            self.references.lost(process)
            self._apply()
            asked_again = list(self._asked_again.values())
            for borrowed in [*self._borrowed.values(), *asked_again]:
                if borrowed.owner.process == process and borrowed.state == PENDING:
                    borrowed.settle(
                        ERROR,
                        OwnerDiedError(f"the owner of object {borrowed.id.hex()} is dead"),
                    )
                    self._asked_again.pop(borrowed.id, None)

    def fail_all(self, error: Exception) -> None:
        """No value will come any more."""
        for borrowed in [*self._borrowed.values(), *self._asked_again.values()]:
            if borrowed.state == PENDING:
                borrowed.settle(ERROR, error)


def _gone_text(object_id: bytes) -> str:
    return (
        f"object {object_id.hex()} is gone: every reference to it was dropped before this one "
        "was used (a reference that was stored as bytes does not keep its object)"
    )


protected(
    Objects.sweep,
    Objects._apply,  # noqa: SLF001
    Objects.guard,
    Objects.show,
    Objects.receive,
    Objects.hold_value,
    Objects.call_leaves,
    Objects.call_settled,
)
