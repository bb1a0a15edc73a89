"""Who holds which object: the reference table of one process.

Every object (and every actor, whose handles are references to it) has one owner process. The
owner keeps the *set* of processes that hold it. A process enters that set and leaves it only by
its own messages (`Hold`, `Drop`), which travel on one ordered link, so that no message of a third
party can overtake them. What is in between, while a reference travels, is held by the one who
passes it on:

- A *call* pins the references in its arguments until it is settled. A callee that keeps some of
  them, and has not heard from their owners yet, says so in its reply (`unconfirmed`); then the
  pin lasts until its `Confirmed`. References owned by the caller itself need no such wait: the
  callee's `Hold` precedes its reply on the same link.
- A *value* (a reply, a streamed item) pins the references in it at its sender until the receiver,
  which asks its owners as soon as it sees the header, says `Taken`.
- A *stored value* holds the references in it while it lives (`inner`). Who unpickles it keeps it
  held until the owners of what came out of it have answered (`via`, or `cached`).

Does not know values, does not send, and takes no locks: the shell calls it from one thread at a
time. Two rules for the shell: what `drain` returned is put on the links before anything that was
made later (a reply must not overtake the `Hold` of its call), and `call_finished` comes after
`value_sent`. An object never shown to another process, with no references inside, is not entered
at all: it has exactly one local reference, and `drop_local` says False for it.

Invariants
    R1  An entry's pins are the calls, values, stored values and pending holds that name it.
    R2  An entry without local references, pins and holders is about to go, or its `Hold` is
        unanswered. So there is at most one `Hold` in flight for an object, and an answer can be
        told from the answer to an earlier one.
    R3  Only an owned entry has holders; only an unanswered one has waiters.
    R4  After `lost(p)` nothing waits for p, and p holds nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from zactor.ids import OBJECT_ID_SIZE
from zactor.named import NamedTuple
from zactor.wire.references import Confirmed, Drop, Gone, Held, Hold, ReferenceMessage, Taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Ref: TypeAlias = tuple[bytes, bytes]
"""(object id, process id of its owner)."""

# How many lost processes are remembered, so that what still names them is lost at once. Later
# ones are found out by the link that cannot be made.
LOST_PEERS_KEPT = 4096

_OWNED, _ASKING, _HELD, _LOST = "owned", "asking", "held", "lost"


class Send(NamedTuple):
    """Put these on the link to `peer`, in this order."""

    peer: bytes
    messages: list[ReferenceMessage]


class Free(NamedTuple):
    """Nobody holds this object of ours any more: forget its value."""

    object_id: bytes


class ActorReleased(NamedTuple):
    """Nobody holds a handle of this actor of ours any more."""

    actor: bytes


class Released(NamedTuple):
    """We do not hold this object of somebody else any more: forget what is cached of it."""

    object_id: bytes


class Lost(NamedTuple):
    """This object of somebody else is gone while we hold it: `owner_died`, or freed before we were
    entered because whoever gave it to us died."""

    object_id: bytes
    owner: bytes
    owner_died: bool


Effect: TypeAlias = Send | Free | ActorReleased | Released | Lost


class OwnershipStats(NamedTuple):
    """What `zactor status` shows of a process's references."""

    owned: int
    borrowed: int
    asking: int
    lost: int
    calls: int
    values: int
    ignored: int


_NOBODY: Mapping[bytes, None] = MappingProxyType({})


class _Entry:
    __slots__ = ("holders", "inner", "local", "owner", "pins", "state", "waiters")

    def __init__(self, owner: bytes, state: str) -> None:
        self.owner = owner
        self.state = state
        self.local = 0  # Python references and mapped views in this process
        self.pins = 0  # calls, values, stored values and pending holds that need it
        # Most entries never have any of these, and there may be a hundred thousand: 180 bytes less.
        self.holders = _NOBODY  # processes that said Hold and not yet Drop
        self.inner: Sequence[
            bytes
        ] = ()  # objects named inside the value; leave when it is freed
        self.waiters: Sequence[
            tuple[str, bytes]
        ] = ()  # what goes on once the owner has answered

    def wait(self, kind: str, key: bytes) -> None:
        """Have something go on once the owner has answered."""
        if not self.waiters:
            self.waiters = []
        self.waiters.append((kind, key))  # type: ignore[attr-defined]


class _Count:
    """Something at `peer` that goes on when `waiting` owners have answered."""

    __slots__ = ("peer", "replies", "waiting")

    def __init__(self, peer: bytes, reply: bytes) -> None:
        self.peer = peer
        self.replies = [
            reply
        ]  # ids to name then: of the call, or of the value as often as it came
        self.waiting = 0


class References:
    """The reference table of the process `me`."""

    def __init__(self, me: bytes) -> None:
        self._me = me
        self._entries: dict[bytes, _Entry] = {}
        self._idle: dict[bytes, None] = {}  # entries to look at in `drain`: maybe nobody's
        self._calls: dict[bytes, list[bytes]] = {}  # our calls -> what they pin; until settled
        self._unconfirmed: dict[bytes, bytes] = {}  # settled, pinned until Confirmed from peer
        self._early: dict[bytes, bytes] = {}  # Confirmed came before its reply was handed in
        self._running: dict[
            bytes, tuple[bytes, list[bytes]]
        ] = {}  # calls to us -> caller, refs
        self._owing: dict[bytes, _Count] = {}  # finished calls whose caller waits for Confirmed
        # (peer, reply) of values sent, until Taken -> what they pin, once for each time it was sent
        self._values: dict[tuple[bytes, bytes], deque[list[bytes]]] = {}
        self._taking: dict[bytes, _Count] = {}  # values whose sender waits for Taken
        self._held_by: dict[bytes, dict[bytes, None]] = {}  # holder -> our objects
        self._owned_by: dict[bytes, dict[bytes, None]] = {}  # owner -> objects we borrow
        self._dead: dict[bytes, None] = {}
        self._out: dict[bytes, list[ReferenceMessage]] = {}
        self._effects: list[Effect] = []
        self._ignored = 0

    # -- local references -----------------------------------------------------------------------

    def own(self, object_id: bytes, inner: Iterable[Ref] = ()) -> None:
        """Enter an object of ours that is about to be shown to others, or that has references inside.

        Until now it has exactly one Python reference, or one whose end `drop_local` has not been
        told yet: that is the one counted. Later calls only add `inner`.
        """
        entry = self._entries.get(object_id)
        if entry is None:
            entry = self._entries[object_id] = _Entry(self._me, _OWNED)
            entry.local = 1
        self._contain(entry, inner)

    def knows(self, object_id: bytes) -> bool:
        """Whether the object is in the table."""
        return object_id in self._entries

    def is_dead(self, peer: bytes) -> bool:
        """Whether `lost` was said of a process."""
        return peer in self._dead

    def cached(self, object_id: bytes, inner: Iterable[Ref]) -> None:
        """The value of an object of somebody else is kept here, with these references inside.

        They are held while the object is. Who keeps no values says `via` when it unpickles them.
        """
        entry = self._entries.get(object_id)
        if entry is not None and not entry.inner:
            self._contain(entry, inner)

    def export(self, object_id: bytes, owner: bytes) -> None:
        """A reference is being pickled: enter the object if it is ours and not entered yet."""
        if owner == self._me and object_id not in self._entries:
            self.own(object_id)

    def add_local(self, object_id: bytes, owner: bytes, *, via: bytes | None = None) -> None:
        """A Python reference came to be, by unpickling. `via` is the object whose value it was in."""
        entry = self._entry(object_id, owner)
        entry.local += 1
        if entry.state is not _ASKING or via is None:
            return
        outer = self._entries.get(via)
        # The owner of both hears our Hold before it can hear our Drop of the outer one.
        if outer is not None and outer.owner != owner and via != object_id:
            outer.pins += 1
            entry.wait("unpin", via)

    def add_known(self, object_id: bytes) -> bool:
        """`add_local` of an object that is held already, if it is: then there is nothing to drain."""
        entry = self._entries.get(object_id)
        if entry is None or (entry.state is not _HELD and entry.state is not _OWNED):
            return False
        entry.local += 1
        return True

    def drop_local(self, object_id: bytes) -> bool:
        """A Python reference or a mapped view is gone.

        Returns:
            False if the object was never entered: it was ours alone, and this was its only one.
        """
        entry = self._entries.get(object_id)
        if entry is None:
            return False
        entry.local -= 1
        self._touch(object_id, entry)
        return True

    def mapped(self, object_id: bytes, owner: bytes) -> None:
        """A view of the object's memory was handed out; it counts as a local reference."""
        self.export(object_id, owner)
        self._entry(object_id, owner).local += 1

    unmapped = drop_local

    # -- calls ------------------------------------------------------------------------------------

    def pin_call(self, call: bytes, refs: Iterable[Ref]) -> None:
        """A call leaves with these references in its arguments (and its handle): hold them until
        it is settled. To be called once per call, however often it is sent."""
        pinned = self._calls.setdefault(call, [])
        for ref in refs:
            self.export(*ref)
            self._pin(ref)
            pinned.append(ref[0])

    def call_settled(
        self, call: bytes, peer: bytes = b"", *, unconfirmed: bool = False
    ) -> None:
        """The call has its outcome: the reply of `peer` with its flag, or none will come."""
        pinned = self._calls.pop(call, None)
        if self._early.pop(call, None) == peer:
            unconfirmed = False
        if pinned is None:
            return
        if unconfirmed and peer not in self._dead:
            self._calls[call] = pinned
            self._unconfirmed[call] = peer
        else:
            self._unpin_all(pinned)

    def call_received(self, call: bytes, caller: bytes, refs: Iterable[Ref]) -> None:
        """A call arrived; its references are held here until it has finished."""
        held = [ref[0] for ref in refs if self._pin(ref) is not None]
        if call in self._running:  # a retry of a call that still runs
            self._running[call][1].extend(held)
        else:
            self._running[call] = (caller, held)

    def call_finished(self, call: bytes) -> bool:
        """The call is over, all that it keeps is held or pinned.

        Returns:
            The reply's `unconfirmed` flag.
        """
        caller, refs = self._running.pop(call, (b"", []))
        self._unpin_all(refs)
        if caller in self._dead:
            return False
        owing = None
        for object_id in dict.fromkeys(refs):
            entry = self._entries[object_id]
            if entry.state is _ASKING and entry.owner != caller and (entry.local or entry.pins):
                if owing is None:
                    owing = self._owing[call] = _Count(caller, call)
                owing.waiting += 1
                entry.wait("confirm", call)
        return owing is not None

    # -- values with references in them -----------------------------------------------------------

    def value_sent(self, reply: bytes, peer: bytes, refs: Iterable[Ref]) -> None:
        """A reply (or an item) leaves with these references inside: hold them until it is taken."""
        refs = list(refs)
        for ref in refs:
            self.export(*ref)
        if refs and peer not in self._dead:
            pinned = [ref[0] for ref in refs if self._pin(ref) is not None]
            self._values.setdefault((peer, reply), deque()).append(pinned)

    def value_received(self, reply: bytes, peer: bytes, refs: Iterable[Ref]) -> None:
        """A value arrived with these references inside, wanted or not. If it is kept, it is entered
        by `own(object, inner=refs)` before the next `drain`."""
        refs = dict.fromkeys(refs)
        if not refs:
            return
        taking = self._taking.get(peer + reply)
        if taking is not None:  # the same value again: both are taken when the first is
            taking.replies.append(reply)
        else:
            taking = _Count(peer, reply)
        for ref in refs:
            entry = self._entry(*ref)
            self._idle[ref[0]] = None  # nobody may want it
            # What the sender owns needs no wait: it hears the Hold before the Taken.
            if entry.state is _ASKING and entry.owner != peer:
                taking.waiting += 1
                entry.wait("take", peer + reply)
        if taking.waiting:
            self._taking[peer + reply] = taking
        else:
            self._send(peer, Taken(reply))

    # -- peers ------------------------------------------------------------------------------------

    def receive(self, peer: bytes, message: ReferenceMessage) -> None:
        """Handle one message of `peer`, in the order of its link."""
        if peer in self._dead:
            self._ignored += 1
            return
        match message:
            case Hold(object_id):
                self._hold(peer, object_id)
            case Drop(object_id):
                self._drop(peer, object_id)
            case Held(object_id) | Gone(object_id):
                entry = self._entries.get(object_id)
                if entry is None or entry.state is not _ASKING or entry.owner != peer:
                    self._ignored += 1
                elif type(message) is Held:
                    self._answered(object_id, entry, _HELD)
                else:
                    self._entry_lost(object_id, entry, owner_died=False)
            case Confirmed(call):
                self._confirmed(peer, call)
            case Taken(reply):
                self._taken(peer, reply)

    def lost(self, peer: bytes) -> None:
        """The process is dead: what it held is released, what it owned is lost (R4).

        Calls to it stay pinned until they are settled: they may be tried again elsewhere.
        """
        if peer in self._dead:
            return
        if len(self._dead) >= LOST_PEERS_KEPT:
            del self._dead[next(iter(self._dead))]
        self._dead[peer] = None
        self._out.pop(peer, None)
        for object_id in self._held_by.pop(peer, ()):
            entry = self._entries[object_id]
            self._holds_no_more(entry, peer)
            self._touch(object_id, entry)
        for object_id in list(self._owned_by.get(peer, ())):
            self._entry_lost(object_id, self._entries[object_id], owner_died=True)
        for call in [call for call, who in self._unconfirmed.items() if who == peer]:
            del self._unconfirmed[call]
            self._unpin_all(self._calls.pop(call))
        for key in [key for key in self._values if key[0] == peer]:
            for pinned in self._values.pop(key):
                self._unpin_all(pinned)
        for table in (self._owing, self._taking):
            for owed in [key for key, count in table.items() if count.peer == peer]:
                del table[owed]  # its waiters find nothing
        for call in [call for call, who in self._early.items() if who == peer]:
            del self._early[call]

    def drain(self) -> list[Effect]:
        """Decide about everything that nobody may hold any more; return what is to be done."""
        while self._idle:
            object_id = next(iter(self._idle))
            del self._idle[object_id]
            entry = self._entries.get(object_id)
            if (
                entry is None
                or entry.local
                or entry.pins
                or entry.holders
                or entry.state is _ASKING
            ):
                continue  # an unanswered Hold is waited for (R2)
            del self._entries[object_id]
            self._unpin_all(entry.inner)
            if entry.state is _OWNED:
                is_object = len(object_id) == OBJECT_ID_SIZE
                self._effects.append(Free(object_id) if is_object else ActorReleased(object_id))
                continue
            self._forget(self._owned_by, entry.owner, object_id)
            if entry.state is _HELD:
                self._send(entry.owner, Drop(object_id))
            self._effects.append(Released(object_id))
        effects: list[Effect] = [Send(peer, batch) for peer, batch in self._out.items()]
        effects += self._effects
        self._out, self._effects = {}, []
        return effects

    # -- what is known ----------------------------------------------------------------------------

    def is_lost(self, object_id: bytes) -> bool:
        """Whether this object of somebody else is known to be gone."""
        entry = self._entries.get(object_id)
        return entry is not None and entry.state is _LOST

    def holders(self, object_id: bytes) -> list[bytes]:
        """The processes that hold this object of ours."""
        entry = self._entries.get(object_id)
        return [] if entry is None else list(entry.holders)

    def stats(self) -> OwnershipStats:
        """Count what is held, for humans."""
        states = Counter(entry.state for entry in self._entries.values())
        return OwnershipStats(
            owned=states[_OWNED],
            borrowed=states[_HELD],
            asking=states[_ASKING],
            lost=states[_LOST],
            calls=len(self._calls),
            values=len(self._values),
            ignored=self._ignored,
        )

    def check(self) -> None:
        """Assert R1 to R4."""
        pins: Counter[bytes] = Counter()
        for pinned in self._calls.values():
            pins.update(pinned)
        for _, refs in self._running.values():
            pins.update(refs)
        for sent in self._values.values():
            for pinned in sent:
                pins.update(pinned)
        for entry in self._entries.values():
            pins.update(entry.inner)
            pins.update(key for kind, key in entry.waiters if kind == "unpin")
        for object_id, entry in self._entries.items():
            assert entry.pins == pins[object_id], ("R1", object_id, entry.pins, pins[object_id])
            assert entry.local >= 0, ("R1", object_id, entry.local)
            is_free = not (entry.local or entry.pins or entry.holders)
            assert not is_free or object_id in self._idle or entry.state is _ASKING, "R2"
            is_owned = entry.state is _OWNED
            assert is_owned == (entry.owner == self._me and entry.state is not _LOST), "R3"
            assert is_owned or not entry.holders, "R3"
            assert entry.state is _ASKING or not entry.waiters, "R3"
            for peer in entry.holders:
                assert object_id in self._held_by[peer], "R4"
        assert not pins.keys() - self._entries.keys(), "R1"
        assert not (self._dead.keys() & self._held_by.keys()), "R4"
        assert not any(peer in self._dead for peer in self._unconfirmed.values()), "R4"

    # -- inside -----------------------------------------------------------------------------------

    def _entry(self, object_id: bytes, owner: bytes) -> _Entry:
        entry = self._entries.get(object_id)
        if entry is not None:
            return entry
        if owner == self._me or owner in self._dead:
            # Ours, but freed: the reference came back by a way nobody told us of.
            entry = self._entries[object_id] = _Entry(owner, _LOST)
            self._effects.append(Lost(object_id, owner, owner_died=owner != self._me))
        else:
            entry = self._entries[object_id] = _Entry(owner, _ASKING)
            self._send(owner, Hold(object_id))
        self._owned_by.setdefault(owner, {})[object_id] = None
        return entry

    def _pin(self, ref: Ref) -> _Entry:
        entry = self._entry(*ref)
        entry.pins += 1
        return entry

    def _contain(self, entry: _Entry, inner: Iterable[Ref]) -> None:
        added = [ref[0] for ref in inner if self._pin(ref) is not None]
        if added:
            entry.inner = [*entry.inner, *added]

    def _unpin_all(self, objects: Iterable[bytes]) -> None:
        for object_id in objects:
            entry = self._entries[object_id]
            entry.pins -= 1
            self._touch(object_id, entry)

    def _touch(self, object_id: bytes, entry: _Entry) -> None:
        if not (entry.local or entry.pins or entry.holders):
            self._idle[object_id] = None

    def _send(self, peer: bytes, message: ReferenceMessage) -> None:
        if peer not in self._dead:
            self._out.setdefault(peer, []).append(message)

    @staticmethod
    def _forget(index: dict[bytes, dict[bytes, None]], peer: bytes, object_id: bytes) -> None:
        objects = index.get(peer)
        if objects is not None:
            objects.pop(object_id, None)
            if not objects:
                del index[peer]

    def _hold(self, peer: bytes, object_id: bytes) -> None:
        entry = self._entries.get(object_id)
        if entry is None or entry.state is not _OWNED:
            self._send(peer, Gone(object_id))
            return
        if not entry.holders:
            entry.holders = {}
        entry.holders[peer] = None  # type: ignore[index]
        self._held_by.setdefault(peer, {})[object_id] = None
        self._send(peer, Held(object_id))

    def _drop(self, peer: bytes, object_id: bytes) -> None:
        entry = self._entries.get(object_id)
        if entry is None or peer not in entry.holders:
            self._ignored += 1
            return
        self._holds_no_more(entry, peer)
        self._forget(self._held_by, peer, object_id)
        self._touch(object_id, entry)

    @staticmethod
    def _holds_no_more(entry: _Entry, peer: bytes) -> None:
        del entry.holders[peer]  # type: ignore[attr-defined]
        if not entry.holders:
            entry.holders = _NOBODY

    def _confirmed(self, peer: bytes, call: bytes) -> None:
        if call in self._unconfirmed:
            if self._unconfirmed[call] == peer:
                del self._unconfirmed[call]
                self._unpin_all(self._calls.pop(call))
        elif call in self._calls:
            self._early[call] = peer
        else:
            self._ignored += 1

    def _taken(self, peer: bytes, reply: bytes) -> None:
        sent = self._values.get((peer, reply))
        if sent is None:
            self._ignored += 1
            return
        self._unpin_all(sent.popleft())
        if not sent:
            del self._values[peer, reply]

    def _entry_lost(self, object_id: bytes, entry: _Entry, *, owner_died: bool) -> None:
        if entry.state is not _LOST:
            if entry.local or entry.pins:
                self._effects.append(Lost(object_id, entry.owner, owner_died=owner_died))
            self._answered(object_id, entry, _LOST)

    def _answered(self, object_id: bytes, entry: _Entry, state: str) -> None:
        """The owner has answered, or never will: let go on what waited for that."""
        entry.state = state
        waiters, entry.waiters = entry.waiters, ()
        for kind, key in waiters:
            if kind == "unpin":
                self._unpin_all((key,))
                continue
            table = self._owing if kind == "confirm" else self._taking
            count = table.get(key)
            if count is None:
                continue
            count.waiting -= 1
            if not count.waiting:
                del table[key]
                for name in count.replies:
                    self._send(
                        count.peer, Confirmed(name) if kind == "confirm" else Taken(name)
                    )
        self._touch(object_id, entry)
