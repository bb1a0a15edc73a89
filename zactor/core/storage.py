"""The store of one machine, as its node keeps account of it: what is where, and what goes first.

Processes write their values themselves, to segments they ask room for here. The node gives room
while there is some; when there is not, it takes back what costs least, and oldest first:

    1. warm segments, which processes keep for their next value,
    2. copies pulled from other nodes, which can be pulled again,
    3. values that are on disk already and were brought back to be read,
    4. other values, which it moves to disk,

and when nothing is left that nobody is looking at, it refuses; only what is on disk already, and finds no
room to come back, is looked at there. What somebody looks at is found out
by trying (`store.segments`): a segment in use is left alone and tried again a little later.

A value that is asked for on this machine is answered with the segment it is in, after it was
brought back from disk, or pulled from the node that has it: once, however many ask.

Who owns an object says when it is freed; the process that made its segment is told, and keeps it
warm or deletes it. A process's death frees what it only had reserved or kept warm, and all that it
owned; values it made for other owners stay.

Does no I/O: what `drain` returns is done by `store.spill`, which calls back (`took`, `spilled`,
`placed`, `chunk_written`, `inspected`, `answered`).

Invariants
    N1  What is reserved never exceeds the capacity (see `core.room`).
    N2  Every request is answered exactly once: with a segment, or with an error.
    N3  A spilled value's file is forgotten exactly when the object is; disk use is bounded.
    N4  A segment is at one step at a time; what happens to its object meanwhile is applied after it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from zactor.core.pulls import CHUNK, Pulls
from zactor.core.room import (
    COPY,
    FILLED,
    FILLING,
    INSPECTING,
    PRIMARY,
    RESERVED,
    RESTORED,
    SPILLING,
    TAKING,
    WARM,
    Room,
    Segment,
)
from zactor.core.storage_effects import (
    Ask,
    Effect,
    Forget,
    Inspect,
    ReadChunk,
    Remove,
    Reply,
    ReplyFile,
    Restore,
    Spill,
    StorageStats,
    Take,
    Tell,
    Watch,
    WriteChunk,
)
from zactor.core.stored import Asker, Disk, StoredObject, Want, is_sane, lost
from zactor.wire.messages import (
    FreeSegment,
    LocateSegment,
    ReadSegment,
    ReserveSegment,
    SegmentFilled,
)

RETRY = 0.05
"""Seconds until what was in use is tried again, while somebody waits for room."""


class Storage:
    """The account of one machine's store."""

    def __init__(
        self,
        node: bytes,
        process: bytes,
        prefix: str,
        capacity: int,
        *,
        spill_limit: int = 0,
        patience: float = 1.0,
        copy_seconds: float = 60.0,
    ) -> None:
        """Start empty.

        Args:
            node: Id of this node.
            process: Process id of this node, for the segments it makes itself.
            prefix: What the names of this cluster's segments begin with.
            capacity: Bytes of shared memory.
            spill_limit: Bytes of disk; 0 for no spilling.
            patience: How long a request for room may wait for what is in use.
            copy_seconds: How long a pulled copy that nobody asks for is kept.
        """
        self._node = node
        self._process = process
        self._patience = patience
        self._copy_seconds = copy_seconds
        self._room = Room(prefix, capacity)
        self._pulls = Pulls()
        self._objects: dict[bytes, StoredObject] = {}
        self._homes: dict[str, StoredObject] = {}
        self._disk = Disk(spill_limit)
        self._wants: deque[Want] = deque()  # served in order
        self._makers: dict[
            bytes, Any
        ] = {}  # living processes that have made segments -> address
        self._watched: dict[bytes, None] = {}
        self._retry_at: float | None = None
        self._counts = dict.fromkeys(("taken", "spills", "restores", "pulls", "refused"), 0)
        self._effects: list[Effect] = []

    # -- what processes and nodes say -------------------------------------------------------------

    def receive(self, peer: bytes, address: Any, message: Any, now: float) -> None:
        """Handle a message about the store; what is malformed is refused or ignored."""
        if not is_sane(message):
            request = getattr(message, "request", None)
            if type(request) is int:
                self._reply(Asker(peer, address, request), lost(b""))
            return
        match message:
            case ReserveSegment(request, size):
                self._makers[peer] = address
                asker = Asker(peer, address, request)
                self._wants.append(Want(size, now + self._patience, asker=asker))
            case SegmentFilled():
                self._filled(peer, message, now)
            case FreeSegment(name, keep, object_id):
                self._freed(peer, name, object_id, keep=keep)
            case LocateSegment():
                self._locate(Asker(peer, address, message.request), message, now)
            case ReadSegment():
                self._read(Asker(peer, address, message.request), message)
        self._serve(now)

    def process_lost(self, process: bytes, now: float) -> None:
        """A process is dead: a client of ours, or the owner of something here."""
        self._watched.pop(process, None)
        self._wants = deque(
            want for want in self._wants if want.asker is None or want.asker.peer != process
        )
        self._makers.pop(process, None)
        for known in list(self._objects.values()):
            known.waiters = [asker for asker in known.waiters if asker.peer != process]
            if known.owner == process:
                self._end(known, by=process)
        for segment in list(self._room.segments.values()):
            if segment.maker == process and segment.state in (RESERVED, WARM):
                self._inspect(segment)
        self._serve(now)

    # -- what came of effects ---------------------------------------------------------------------

    def took(self, name: str, ok: bool, now: float) -> None:
        """The outcome of `Take`."""
        segment = self._room.segments[name]
        self._room.going_ends(segment)
        self._counts["taken"] += ok
        self._step_ended(segment, is_gone=ok, now=now)

    def spilled(self, name: str, ok: bool, now: float, *, is_disk_full: bool = False) -> None:
        """The outcome of `Spill`."""
        segment = self._room.segments[name]
        self._room.going_ends(segment)
        if is_disk_full:
            self._disk.is_full_now()
        self._counts["spills"] += ok
        known = self._object_in(segment)
        if ok and known is not None and known.object_id == segment.leaving:
            known.is_spilled = True
        else:
            self._disk.give(segment.spilling)
            if ok:  # freed meanwhile
                self._effects.append(Forget(name))
        segment.spilling = 0
        self._step_ended(segment, is_gone=ok, now=now)

    def placed(self, name: str, ok: bool, now: float) -> None:
        """The outcome of `Restore`."""
        segment = self._room.segments[name]
        self._counts["restores"] += ok
        self._filling_ended(segment, self._object_in(segment), ok=ok, now=now)

    def chunk_written(self, name: str, ok: bool, now: float) -> None:
        """The outcome of `WriteChunk`."""
        segment = self._room.segments.get(name)
        if segment is None:
            return  # the pull has failed already
        known = self._object_in(segment)
        pull = self._pulls.get(segment.object_id)
        if known is None or pull is None or pull.segment != name:
            return
        if not ok or self._pulls.written(pull):
            self._counts["pulls"] += ok
            self._pulls.stop(pull.object_id)
            self._filling_ended(segment, known, ok=ok, now=now)

    def inspected(
        self, name: str, object_id: bytes, owner: bytes, size: int, now: float
    ) -> None:
        """The outcome of `Inspect`: the whole value that is in the segment, or b""."""
        segment = self._room.segments[name]
        is_wanted = object_id not in (b"", segment.freed) and owner != segment.maker
        if is_wanted and not segment.is_doomed:
            segment.state = RESERVED
            self._filled(segment.maker, SegmentFilled(name, object_id, size, owner), now)
        else:
            self._remove(segment)
        self._serve(now)

    def answered(self, token: int, ok: bool, value: Any, now: float) -> None:
        """Another node's answer to an `Ask`."""
        outcome = self._pulls.answered(token, ok, value)
        if outcome is None:
            return
        pull, offset, chunk = outcome
        known = self._objects[pull.object_id]
        if not chunk:
            self._pulls.stop(pull.object_id)
            self._filling_ended(self._room.segments.get(pull.segment), known, ok=False, now=now)
        elif pull.segment:
            write = WriteChunk(pull.segment, pull.object_id, offset, pull.size, chunk)
            self._effects.append(write)
        else:
            pull.first = chunk
            known.size = pull.size
            self._wants.append(Want(pull.size, now + self._patience, pull=pull))
            self._serve(now)

    # -- time -------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Try again what was in use; let go of copies that nobody asked for."""
        if self._retry_at is not None and now >= self._retry_at:
            self._try_anew()
            self._serve(now)
        for name in self._room.listed(COPY):
            known = self._objects[self._room.segments[name].object_id]
            if known.used_at + self._copy_seconds > now:
                break
            known.used_at = now  # in case it is in use
            self._start(self._room.segments[name], TAKING)

    def next_deadline(self) -> float | None:
        """When `tick` is due."""
        deadlines = [] if self._retry_at is None else [self._retry_at]
        for name in self._room.listed(COPY)[:1]:
            known = self._objects[self._room.segments[name].object_id]
            deadlines.append(known.used_at + self._copy_seconds)
        return min(deadlines, default=None)

    def limit(self, capacity: int, now: float) -> None:
        """Change the capacity: /dev/shm has less room than it had, or more again."""
        self._room.capacity = capacity
        self._serve(now)

    def drain(self) -> list[Effect]:
        """What is to be done, in order."""
        for token, pull, offset in self._pulls.to_ask:
            message = ReadSegment(0, pull.home, offset, CHUNK)
            self._effects.append(Ask(token, pull.address, message))
        self._pulls.to_ask.clear()
        effects, self._effects = self._effects, []
        return effects

    def used(self) -> int:
        """Bytes of shared memory that are reserved."""
        return self._room.used

    def segments(self) -> list[str]:
        """The names of all segments on this machine."""
        return list(self._room.segments)

    def stats(self) -> StorageStats:
        """Count what is where."""
        segments = self._room.segments
        return StorageStats(
            capacity=self._room.capacity,
            used=self._room.used,
            warm=sum(segments[name].size for name in self._room.listed(WARM)),
            filled=sum(segment.size for segment in segments.values() if segment.object_id),
            spilled=self._disk.used,
            objects=len(self._objects),
            waiting=len(self._wants) + sum(len(k.waiters) for k in self._objects.values()),
            **self._counts,
        )

    def check(self) -> None:
        """Assert N1 to N4."""
        self._room.check()
        segments = self._room.segments
        on_disk = sum(known.size for known in self._objects.values() if known.is_spilled)
        set_aside = sum(segment.spilling for segment in segments.values())
        disk = self._disk
        assert disk.used == on_disk + set_aside, ("N3", disk.used, on_disk, set_aside)
        assert disk.used <= disk.limit, "N3"
        assert len(self._homes) == len(self._objects), "N4"
        for object_id, known in self._objects.items():
            assert self._homes[known.home] is known, "N4"
            segment = None if known.segment is None else segments[known.segment]
            assert segment is None or segment.object_id == object_id, "N4"
            assert segment is None or segment.state != FILLED or not known.waiters, "N2"
            assert segment is not None or known.is_spilled or known.is_moving, "N2"
            assert segment is not None or known.is_moving or not known.waiters, "N2"
        for segment in segments.values():
            assert segment.state != FILLED or self._object_in(segment) is not None, "N4"

    # -- inside: room -----------------------------------------------------------------------------

    def _serve(self, now: float) -> None:
        """Give room to those who wait, in order; make some; or refuse."""
        room = self._room
        while self._wants:
            want = self._wants[0]
            if room.has(want.size):
                self._wants.popleft()
                self._grant(want)
                continue
            if want.size <= room.capacity:
                if self._reclaim(room.used + want.size - room.capacity):
                    return
                if want.restore is None and now < want.deadline:
                    self._retry_at = min(now + RETRY, want.deadline)
                    return
            self._wants.popleft()
            self._refuse(want)
        self._try_anew()

    def _try_anew(self) -> None:
        self._retry_at = None
        self._room.in_use.clear()
        self._disk.try_anew()

    def _reclaim(self, needed: int) -> bool:
        """Start to take back that many bytes; False if nothing is going, nor can go."""
        for segment, table in self._room.victims():
            if self._room.going >= needed:
                break
            if table != PRIMARY:
                self._start(segment, TAKING)
            elif self._disk.has(self._objects[segment.object_id].size):
                self._start(segment, SPILLING)
        return self._room.going > 0

    def _start(self, segment: Segment, state: str) -> None:
        self._room.going_begins(segment, state)
        if state == TAKING:
            freed = b"" if segment.object_id else segment.freed
            self._effects.append(Take(segment.name, segment.object_id, freed))
        else:
            segment.leaving = segment.object_id
            segment.spilling = self._objects[segment.object_id].size
            self._disk.take(segment.spilling)
            self._effects.append(Spill(segment.name, segment.object_id, segment.name))

    def _grant(self, want: Want) -> None:
        if want.asker is not None:
            segment = self._room.new(want.asker.peer, want.size, RESERVED)
            self._effects.append(Reply(*want.asker, ok=True, value=segment.name))
            return
        known = self._wanted(want)
        if known is None:
            return  # freed while it waited
        segment = self._room.new(self._process, want.size, FILLING)
        segment.object_id = known.object_id
        known.segment = segment.name
        pull = want.pull
        if pull is None:
            self._effects.append(Restore(segment.name, known.home))
            return
        pull.segment = segment.name
        write = WriteChunk(segment.name, known.object_id, 0, pull.size, pull.first)
        self._effects.append(write)
        pull.first = b""
        self._pulls.ask_more(pull)

    def _wanted(self, want: Want) -> StoredObject | None:
        """The object that a restore or a pull is for, if it is still that."""
        if want.pull is not None:
            is_current = self._pulls.get(want.pull.object_id) is want.pull
            return self._objects[want.pull.object_id] if is_current else None
        assert want.restore is not None
        is_current = self._objects.get(want.restore.object_id) is want.restore
        return want.restore if is_current else None

    def _refuse(self, want: Want) -> None:
        if want.restore is not None:
            if self._wanted(want) is not None:
                self._show_file(want.restore)
            return
        self._counts["refused"] += 1
        error = self._full(want.size)
        if want.asker is not None:
            self._reply(want.asker, error)
            return
        known = self._wanted(want)
        if known is not None:
            self._pulls.stop(known.object_id)
            self._fail(known, error)

    def _full(self, size: int) -> list[Any]:
        is_disk_full = self._disk.is_full and size <= self._room.capacity
        why = "the disk for spilled values is full too" if is_disk_full else "all is in use"
        if size > self._room.capacity:
            why = "and the store never holds so much"
        taken = f"{self._room.used} of {self._room.capacity} are taken"
        fields = {"size": size, "capacity": self._room.capacity, "node_id": self._node.hex()}
        kind = "OutOfDiskError" if is_disk_full else "ObjectStoreFullError"
        return [kind, f"{size} bytes do not fit: {taken}, {why}", fields]

    # -- inside: segments and objects -------------------------------------------------------------

    def _object_in(self, segment: Segment) -> StoredObject | None:
        known = self._objects.get(segment.object_id)
        return known if known is not None and known.segment == segment.name else None

    def _filled(self, peer: bytes, message: SegmentFilled, now: float) -> None:
        name, object_id, size, owner = message
        segment = self._room.segments.get(name)
        if segment is None or segment.maker != peer or segment.is_doomed:
            return  # taken back before its maker filled it again, or nonsense
        if segment.object_id == object_id or segment.state in (FILLING, INSPECTING):
            return
        earlier = self._object_in(segment)
        if earlier is not None:  # its end was not worth a message of its own
            self._free(earlier, keep=True)
        if object_id in self._objects:
            self._end(self._objects[object_id], by=b"")  # a copy of what was made again here
        known = self._objects[object_id] = StoredObject(object_id, owner, size, name, now)
        self._homes[name] = known
        known.maker = peer
        known.segment = name
        segment.object_id = object_id
        segment.freed = b""
        if owner != peer and owner not in self._watched:
            self._watched[owner] = None
            self._effects.append(Watch(owner))
        if segment.state in (RESERVED, WARM):  # else who takes it finds out, and fails
            segment.state = FILLED
            self._room.enlist(name, PRIMARY)

    def _freed(self, peer: bytes, name: str, object_id: bytes, *, keep: bool) -> None:
        known = self._homes.get(name)
        segment = self._room.segments.get(name)
        is_makers = segment is not None and segment.maker == peer
        if known is not None and object_id not in (b"", known.object_id):
            return  # of a value that was in there before
        if known is not None and not is_makers:
            self._end(known, by=peer)
            return
        if known is not None:
            if segment is not None:
                segment.freed = (
                    known.object_id
                )  # in case its maker dies before it is written over
            self._free(known, keep=keep and known.segment == name)
            segment = self._room.segments.get(name)
        if segment is None:
            return
        if not is_makers and segment.maker in self._makers:
            # Its word about what is in it is still on the way.
            self._tell(segment.maker, name, object_id)
        elif segment.state not in (RESERVED, WARM):
            segment.is_doomed = not (keep and is_makers)
        elif keep and is_makers:
            segment.state = WARM
            self._room.enlist(name, WARM)
        else:
            self._remove(segment)

    def _end(self, known: StoredObject, *, by: bytes) -> None:
        """Nobody holds the object any more, says `by`; its segment's maker should know."""
        segment = None
        if known.segment == known.home:
            segment = self._room.segments[known.home]
        is_told = known.maker != by and known.maker in self._makers
        # If its maker died just now, something else may be in the segment: that is looked at then.
        is_kept = segment is not None and (is_told or known.maker == by)
        if segment is not None and is_kept:
            segment.freed = known.object_id
        self._free(known, keep=is_kept)
        if is_told:
            self._tell(known.maker, known.home, known.object_id)

    def _tell(self, maker: bytes, name: str, object_id: bytes) -> None:
        message = FreeSegment(name, True, object_id)
        self._effects.append(Tell(maker, self._makers[maker], message))

    def _inspect(self, segment: Segment) -> None:
        """The last words of a dead process may not have reached us: what it wrote is kept."""
        self._room.unlist(segment.name)
        segment.state = INSPECTING
        self._effects.append(Inspect(segment.name))

    def _free(self, known: StoredObject, *, keep: bool = False) -> None:
        """The object is no more: so are its file, its segment (unless kept) and what waits for it."""
        del self._objects[known.object_id]
        del self._homes[known.home]
        is_pulled = self._pulls.get(known.object_id) is not None
        self._pulls.stop(known.object_id)
        for asker in known.waiters:
            self._reply(asker, lost(known.object_id))
        if known.is_spilled:
            self._disk.give(known.size)
            self._effects.append(Forget(known.home))
        segment = None if known.segment is None else self._room.segments[known.segment]
        if segment is None:
            return
        segment.object_id = b""
        if segment.state == FILLED and keep:
            self._room.unlist(segment.name)
            segment.state = RESERVED
        elif segment.state == FILLED or (segment.state == FILLING and is_pulled):
            self._remove(segment)
        else:
            segment.is_doomed = not keep

    def _remove(self, segment: Segment) -> None:
        self._room.remove(segment)
        self._effects.append(Remove(segment.name))

    def _step_ended(self, segment: Segment, *, is_gone: bool, now: float) -> None:
        """A segment was taken, or could not be: put it where it belongs now (N4)."""
        known = self._object_in(segment)
        if is_gone:
            self._room.remove(segment)
            if known is not None:
                known.segment = None
                if known.waiters:
                    self._bring(known, now)
                elif not known.is_spilled:
                    self._free(known)
        elif segment.is_doomed:
            self._remove(segment)
        elif known is None and segment.maker not in self._makers:
            self._inspect(segment)
        elif known is None:
            segment.state = WARM
            self._room.enlist(segment.name, WARM)
            self._room.in_use[segment.name] = None
        else:
            self._room.in_use[segment.name] = None
            self._rest(segment, known)
        self._serve(now)

    def _filling_ended(
        self, segment: Segment | None, known: StoredObject | None, *, ok: bool, now: float
    ) -> None:
        """A restore or a pull is over."""
        if known is not None and segment is not None and ok:
            known.is_moving = False
            known.used_at = now
            self._rest(segment, known)
        else:
            if segment is not None:
                self._remove(segment)
            if known is not None:
                known.segment = None
                if known.is_spilled:  # but could not be written to memory
                    self._show_file(known)
                else:
                    self._fail(known, lost(known.object_id))
        self._serve(now)

    def _rest(self, segment: Segment, known: StoredObject) -> None:
        """The object is in memory, and may go; tell who waits."""
        segment.state = FILLED
        table = COPY if known.is_copy else RESTORED if known.is_spilled else PRIMARY
        self._room.enlist(segment.name, table)
        for asker in known.waiters:
            self._effects.append(Reply(*asker, ok=True, value=segment.name))
        known.waiters.clear()

    # -- inside: finding --------------------------------------------------------------------------

    def _locate(self, asker: Asker, message: LocateSegment, now: float) -> None:
        _, object_id, name, node, address = message
        known = self._objects.get(object_id)
        if known is not None and known.home != name and name in self._room.segments:
            known = None  # it was made again, after what we know of was lost
        if known is None:
            if name in self._room.segments:
                # Its maker's word is still on the way; the asker looks for itself.
                self._effects.append(Reply(*asker, ok=True, value=name))
                return
            if node == self._node or not address or name in self._homes:
                self._reply(asker, lost(object_id))
                return
            known = self._objects[object_id] = StoredObject(object_id, b"", 0, name, now)
            self._homes[name] = known
            known.is_copy = True
            known.address = address
        known.waiters.append(asker)
        known.used_at = now
        segment = None if known.segment is None else self._room.segments[known.segment]
        if segment is None:
            self._bring(known, now)
        elif segment.state == FILLED:
            self._rest(segment, known)  # at the young end

    def _read(self, asker: Asker, message: ReadSegment) -> None:
        _, name, offset, length = message
        known = self._homes.get(name)
        if (known is None and name not in self._room.segments) or offset < 0 or length <= 0:
            self._reply(asker, lost(b""))
            return
        here = name if known is None or known.segment is None else known.segment
        self._effects.append(ReadChunk(*asker, here, name, offset, min(length, CHUNK)))

    def _bring(self, known: StoredObject, now: float) -> None:
        """Have the object in memory: from disk, or from the node that has it."""
        if known.is_moving:
            return
        if not known.is_copy and not known.is_spilled:
            self._fail(known, lost(known.object_id))
            return
        known.is_moving = True
        if known.is_copy:
            self._pulls.start(known.object_id, known.home, known.address)
        else:
            self._wants.append(Want(known.size, now + self._patience, restore=known))

    def _show_file(self, known: StoredObject) -> None:
        """There is no room for it in memory: who asks looks at it on the disk."""
        known.is_moving = False
        for asker in known.waiters:
            self._effects.append(ReplyFile(*asker, known.home))
        known.waiters.clear()

    def _fail(self, known: StoredObject, error: list[Any]) -> None:
        """Nobody gets the object now; unless it is on disk, it is forgotten."""
        known.is_moving = False
        for asker in known.waiters:
            self._reply(asker, error)
        known.waiters.clear()
        if not known.is_spilled:
            self._free(known)

    def _reply(self, asker: Asker, error: list[Any]) -> None:
        self._effects.append(Reply(*asker, ok=False, value=error))
