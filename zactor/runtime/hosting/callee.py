"""How calls come in and replies leave: the callee's half of the data plane.

`Callee.calls_received` (on the leader) takes each call once and puts it into the mailbox of its
host; the host runs it wherever its kind of actor runs (see `hosts`) and hands the reply to
`gather`. Replies gather per peer and leave together: at the latest before the next method that may be slow.

Owned by: intakes and mailboxes are filled by the leader; `lock` guards gathered and kept replies.
"""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

from zactor.core.intake import LOOK_AT_KEPT, Intake
from zactor.exceptions import RemoteProtocolError, SerializationError, to_wire
from zactor.ids import row_tag
from zactor.runtime.links.interrupts import protect_module
from zactor.transport.limits import MAX_MESSAGE
from zactor.wire import batches
from zactor.wire.codec import CALLS, CANCEL, REPLIES, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zactor.runtime.hosting.progress import ProgressPage
    from zactor.runtime.hosting.turns import Turns
    from zactor.runtime.links.peer import Peer
    from zactor.runtime.links.post import Post


EXPECT_SECONDS = 10.0  # how long calls wait for an actor that the node has not named yet
OVER_KEPT = 10_000
LOOK_AT = 16_384  # calls and replies of one stream from which on its bounds are looked at
MAX_FRAME = MAX_MESSAGE - (1 << 20)  # of a value; the peer's socket refuses larger messages


class Callee:
    """All calls that come to this process."""

    def __init__(self, post: Post, progress: ProgressPage | None = None) -> None:
        self.post = post
        self.progress = progress
        self.hosts: dict[bytes, Any] = {}  # by actor id; tasks: by this process's id
        # By actor: its only one, or all of them by caller and number. In many actors it is one.
        self._intakes: dict[bytes, Intake | dict[tuple[bytes, int], Intake]] = {}
        self.hosts_many = False  # actors: progress rows say whose they are
        self.turns: Turns | None = None  # what runs them, if they are many
        self.lock = threading.RLock()
        self._expected: dict[bytes, Expected] = {}
        self._over: dict[tuple[bytes, int], None] = {}  # lives that have ended here
        self.replying: list[Peer] = []  # peers with gathered replies
        self.task_mean = 0  # microseconds that tasks took here lately; told with their replies
        self.oldest = 0.0  # perf_counter of the oldest gathered reply; 0.0: none
        post.on_kind(CALLS, self.calls_received, batches.is_calls)
        # Told of a result of ours that another process wants cancelled: `(object id, flags)`.
        self.cancel_shared: Callable[[bytes, int], None] = lambda object_id, flags: None
        post.on_kind(CANCEL, self.cancel_received, batches.is_cancel)

    # -- in ------------------------------------------------------------------------------------

    def calls_received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:
        """Put the calls of a CALLS message into their mailboxes. On the leader."""
        channels = peer.channels
        for group in body:
            if group[0] is None:
                self._singles_received(peer, group[1], group[2], frames)
                continue
            channel, seq, number, floor, calls = group[:5]
            if type(channel) is int:
                try:
                    intake = channels[channel]
                except IndexError:
                    raise RemoteProtocolError(f"channel {channel} was not defined") from None
            else:
                intake = self._define(peer, channel, seq)
            if floor > intake.floor:
                with self.lock:  # another thread may be keeping a reply of it
                    intake.settled_below(floor)
            arrived = len(calls) >> 1
            if seq == intake.next_seq:
                intake.next_seq = seq + arrived
                if intake.unfinished + len(intake.kept) > LOOK_AT and intake.is_full:
                    self._refuse_run(intake, seq, arrived)
                    continue
                intake.unfinished += arrived
            else:
                taken = intake.take(seq, arrived)
                if taken < 0:
                    raise RemoteProtocolError(f"call {seq} came before call {intake.next_seq}")
                self._repeat(intake, seq)
                if taken == arrived:
                    continue
                seq, number, calls = seq + taken, number + taken, calls[2 * taken :]
            intake.host.put(
                (intake, seq, number, calls, frames, group[5] if len(group) > 5 else None)
            )

    def _singles_received(
        self, peer: Peer, number: int, flat: list[Any], frames: Sequence[bytes]
    ) -> None:
        """Put calls, the only one of their stream each, into their mailboxes."""
        if self.turns is not None:
            others = self.turns.take_singles(peer, number, flat, self._define)
        else:
            parts = iter(flat)
            rows = zip(parts, parts, parts, parts, strict=True)
            others = [(row[0], row[1], number + at, *row[2:]) for at, row in enumerate(rows)]
        groups = [[row[0], row[1], row[2], row[1], row[3:]] for row in others]
        if groups:
            self.calls_received(peer, groups, frames)

    def _define(self, peer: Peer, definition: list[Any], seq: int) -> Intake:
        caller, actor, life, number, _version = definition[:5]
        key = number
        host = self.hosts.get(actor)
        if host is None and (actor, life) not in self._over:
            host = self._expect(actor, life)
        elif host is None or host.life != life:
            host = Nowhere(self, actor, life)
            key = -1 - number
        intake = self._intake(actor, caller, key)
        if intake is None:
            if peer.channels and peer.channels[-1].caller == caller:
                caller = peer.channels[-1].caller  # the same bytes, once
            intake = Intake(caller, getattr(host, "id", actor), number, seq)
            intake.host = host
            self._keep_intake(intake, key)
            if self.progress is not None:
                tag = row_tag(actor) if self.hosts_many else 0
                intake.row = self.progress.add(caller, number | tag)
        intake.peer = peer
        intake.channel = len(peer.channels)
        peer.channels.append(intake)
        return intake

    def _intake(self, actor: bytes, caller: bytes, key: int) -> Intake | None:
        found = self._intakes.get(actor)
        if type(found) is Intake:
            return found if found.caller == caller and found.number == key else None
        return found.get((caller, key)) if found else None  # type: ignore[union-attr]

    def _keep_intake(self, intake: Intake, key: int) -> None:
        kept = self._intakes.get(intake.actor)
        if kept is None and key == intake.number:
            self._intakes[intake.actor] = intake
            return
        if kept is None or type(kept) is Intake:
            only, kept = kept, {}
            if only is not None:
                kept[only.caller, only.number] = only
            self._intakes[intake.actor] = kept
        kept[intake.caller, key] = intake  # type: ignore[index]

    def intakes_of(self, actor: bytes) -> list[Intake]:
        """Return the streams that have come to an actor here."""
        found = self._intakes.get(actor)
        if found is None:
            return []
        return [found] if type(found) is Intake else list(found.values())  # type: ignore[union-attr]

    def _refuse_run(self, intake: Intake, seq: int, calls: int) -> None:
        """The mailbox or the replies' cache is full: the calls are answered so, in their places."""
        flat: list[Any] = []
        for at in range(seq, seq + calls):
            flat += (at, batches.BUSY, None)
        with self.lock:
            self.group_of(intake).extend(flat)
        self.flush()

    def _repeat(self, intake: Intake, seq: int) -> None:
        again = intake.replies_from(seq)
        if again:
            with self.lock:
                self.group_of(intake).extend(again)
            self.flush()

    def cancel_received(self, peer: Peer, body: Any, frames: Sequence[bytes]) -> None:  # noqa: ARG002
        """Pass a cancel on to the host. On the leader."""
        channel, seq, flags = body[:3]
        if channel == batches.NO_CHANNEL:
            self.cancel_shared(seq, flags)
            return
        intake = peer.channels[channel] if 0 <= channel < len(peer.channels) else None
        if intake is None:
            raise RemoteProtocolError(f"channel {channel} was not defined")
        intake.host.cancel(intake, seq, flags)

    def _expect(self, actor: bytes, life: int) -> Expected:
        # Callers hear of a place from the broker, we of the actor from our node: either may be
        # first.
        expected = self._expected.get(actor)
        if expected is None:
            expected = self._expected[actor] = Expected(life)
            self.post.call_later(EXPECT_SECONDS, lambda: self._not_come(actor, expected))
        return expected

    def _not_come(self, actor: bytes, expected: Expected) -> None:
        if self._expected.get(actor) is expected:
            self.refuse(actor, expected.life)

    def adopt(self, actor: bytes, host: Any) -> None:
        """An actor is hosted here from now on. Any thread."""
        self.hosts[actor] = host
        expected = self._expected.pop(actor, None)
        if expected is not None:
            expected.hand_over(host)
            for intake in self.intakes_of(actor):
                if intake.host is expected:
                    intake.host = host
            expected.hand_over(host)  # what came in between

    def refuse(self, actor: bytes, life: int, *, is_dead: bool = False) -> None:
        """The actor's life here is over: calls that come are answered so. Any thread.

        `is_dead`: it ended itself, and will not live again.
        """
        self._over[actor, life] = None
        while len(self._over) > OVER_KEPT:
            del self._over[next(iter(self._over))]
        host = self.hosts.pop(actor, None) or self._expected.pop(actor, None)
        nowhere = Nowhere(self, actor, life, is_dead=is_dead)
        for intake in self.intakes_of(actor):
            intake.host = nowhere
        self._intakes.pop(actor, None)
        if isinstance(host, Expected):
            host.hand_over(nowhere)

    def rows_of(self, actor: bytes) -> list[Any]:
        """Return the progress of an actor that is over in a process that lives."""
        if self.progress is None:
            return []
        words = self.progress.words
        rows = []
        for intake in self.intakes_of(actor):
            if intake.row and not self.progress.is_spare(intake.row):
                started, finished = words[intake.row], words[intake.row + 1]
                rows.append([intake.caller, intake.number, started, finished])
        return rows

    # -- out -----------------------------------------------------------------------------------

    def group_of(self, intake: Intake) -> list[Any]:
        """Return the flat list that the intake's next replies gather in. Under `lock`."""
        peer: Peer = intake.peer
        replies = peer.replies
        if replies and replies[-1][0] == intake.channel:
            flat: list[Any] = replies[-1][1]
            return flat
        if not replies:
            self.replying.append(peer)
        flat = []
        replies.append([intake.channel, flat])
        return flat

    def gather(self, intake: Intake, flat: list[Any]) -> None:
        """Gather the replies `[seq, status, value, ...]`; any thread. The list is the callee's."""
        with self.lock:
            group = self.group_of(intake)
            group += flat
            intake.unfinished -= len(flat) // 3
            intake.keep(flat)
            if not self.oldest:
                self.oldest = perf_counter()

    def gather_singles(self, peer: Peer, singles: list[Any]) -> None:
        """Gather replies `[channel, seq, status, value, ...]` that their intakes keep already."""
        with self.lock:
            replies = peer.replies
            if not replies:
                self.replying.append(peer)
            if not peer.takes_singles:
                replies += [
                    [singles[at], singles[at + 1 : at + 4]] for at in range(0, len(singles), 4)
                ]
            elif replies and replies[-1][0] is None:
                replies[-1][1].extend(singles)
            else:
                replies.append([None, singles])
            if not self.oldest:
                self.oldest = perf_counter()

    def reply(self, intake: Intake, seq: int, status: int, value: Any) -> None:
        """Gather one reply; any thread. It leaves with the next `flush`."""
        with self.lock:
            self.group_of(intake).extend((seq, status, value))
            intake.keep([seq, status, value])
            intake.unfinished -= 1
            if not self.oldest:
                self.oldest = perf_counter()

    def tell(self, intake: Intake, seq: int, status: int) -> None:
        """Say something of a call that goes on, at once; any thread."""
        with self.lock:
            self.group_of(intake).extend((seq, status, None))
            self.flush()

    def reply_with_frames(
        self, intake: Intake, seq: int, status: int, value: Any, frames: Sequence[bytes]
    ) -> None:
        """Send one reply whose value has payload frames, after all that was gathered."""
        size = max(map(len, frames))
        if size > MAX_FRAME:
            self.reply(intake, seq, batches.ERROR, _too_large(size))
            return
        with self.lock:
            self.flush()
            intake.unfinished -= 1
            extras = {batches.Y_FRAMES: len(frames)}
            if status & batches.EXTRA:
                value, more = value
                extras |= more
            flat = [seq, status | batches.EXTRA, [value, extras]]
            with intake.peer.lock:
                intake.peer.transmit(REPLIES, [[intake.channel, flat]], frames)

    def flush(self) -> None:
        """Send the gathered replies."""
        with self.lock:
            self.oldest = 0.0
            replying = self.replying
            while replying:
                peer = replying.pop()
                groups = peer.replies
                peer.replies = []
                if self.task_mean:
                    for group in groups:
                        group.append(self.task_mean)
                with peer.lock:
                    try:
                        peer.transmit(REPLIES, groups)
                    except _UNPACKABLE:
                        peer.transmit(REPLIES, [_packable(group) for group in groups])
                    link = peer.link
                for group in groups:
                    if group[0] is None:
                        continue  # none of them keeps more than that one
                    intake: Intake = peer.channels[group[0]]
                    if len(intake.kept) >= 3 * LOOK_AT_KEPT:
                        intake.carried(link.sent, link.acked)


_UNPACKABLE = (TypeError, ValueError, OverflowError, RecursionError)


def _packable(group: list[Any]) -> list[Any]:
    """Return a group of replies with an error in place of each that msgpack cannot carry."""
    flat = group[1]
    width = 3 if group[0] is not None else 4
    for at in range(width - 3, len(flat), width):
        try:
            pack(flat[at : at + 3])
        except _UNPACKABLE as error:
            text = f"the result cannot be sent: {error!r}"
            wire = to_wire(SerializationError(text, executed="yes"))
            flat[at + 1 : at + 3] = [batches.ERROR, wire]
    return group


def _too_large(size: int) -> list[Any]:
    return to_wire(
        SerializationError(
            f"a result of {size:,} bytes is too large to be sent back by itself ({MAX_FRAME:,} at "
            "the most): put() it and return the reference",
            executed="yes",
        )
    )


class Expected:
    """Keeps the calls to an actor that this process has not been told to host yet."""

    def __init__(self, life: int) -> None:
        self.life = life
        self._runs: list[Any] = []

    def put(self, run: Any) -> None:
        """Keep a run."""
        self._runs.append(run)

    def cancel(self, intake: Intake, seq: int, flags: int) -> None:  # noqa: ARG002
        """A call that waits here is not to run."""
        intake.cancel(seq)

    def hand_over(self, host: Any) -> None:
        """Give what was kept to the host that has come."""
        runs, self._runs = self._runs, []
        for run in runs:
            host.put(run)


class Nowhere:
    """The host of calls to an actor that is not, or no longer, here: each is answered so."""

    def __init__(
        self, callee: Callee, actor: bytes, life: int, *, is_dead: bool = False
    ) -> None:
        self.callee = callee
        self.actor = actor
        self.is_dead = is_dead
        self.over = life  # the life that the calls were meant for
        self.life = -1

    def put(self, run: tuple[Any, ...]) -> None:
        """Answer every call of the run: it did not run."""
        intake, seq, _, calls = run[:4]
        status: int = batches.NOT_HERE
        value: Any = self.over
        if self.is_dead:
            text = "it has ended itself, or was stopped in order"
            fields = {"actor_id": self.actor.hex(), "executed": "no"}
            status, value = batches.ERROR, ["ActorDiedError", text, fields]
        for at in range(len(calls) // 2):
            self.callee.reply(intake, seq + at, status, value)
        self.callee.flush()

    def cancel(self, intake: Intake, seq: int, flags: int) -> None:
        """Nothing of what came here runs."""


protect_module(__name__)
