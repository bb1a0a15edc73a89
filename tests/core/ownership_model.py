"""A simulated world of processes that share references, for `test_ownership_schedules`.

Each process is a `References` machine inside a tiny shell. Processes are joined by raw channels
that double, delay and reorder; a link on each channel restores the order by number, as the real
one does. The world knows the truth (who has which Python reference, what each living value
contains) and asserts it against every effect.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from zactor.core.ownership import Free, Lost, References, Released, Send

if TYPE_CHECKING:
    from random import Random


class Channel:
    """One direction of a link over a channel that doubles and reorders."""

    def __init__(self) -> None:
        self.raw: list[tuple[int, Any]] = []
        self.stash: dict[int, Any] = {}
        self.sent = 0
        self.expected = 0
        self.cut: int | None = None  # set when the sender died: what arrives of it
        self.cutter = b""


class Process:
    """One process: its machine, and what its Python program has."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.machine = References(name)
        self.refs: Counter[tuple[bytes, bytes]] = Counter()  # Python references
        self.finalized: deque[tuple[bytes, bytes]] = deque()  # dropped, machine not yet told
        self.values: dict[
            bytes, list[tuple[bytes, bytes]]
        ] = {}  # own objects and what is inside
        self.running: list[tuple[bytes, bytes, list[tuple[bytes, bytes]]]] = []
        self.calls: dict[bytes, tuple[bytes, bytes | None]] = {}  # call -> callee, result's id
        self.fetching: Counter[tuple[bytes, bytes]] = Counter()
        self.is_alive = True
        self.knows_dead: set[bytes] = set()


class World:
    """Runs one seeded schedule; `step` until bored, then `finish`."""

    def __init__(
        self, random: Random, size: int, *, deaths: bool, double: bool = False
    ) -> None:
        self.random = random
        self.double = double
        self.deaths = deaths
        self.processes = [Process(b"P%d" % i) for i in range(size)]
        self.by_name = {process.name: process for process in self.processes}
        self.channels = {
            (a.name, b.name): Channel()
            for a in self.processes
            for b in self.processes
            if a is not b
        }
        # Some links are far slower than others: that is what lets a third party overtake.
        self.paces = {key: random.choice((0.02, 1.0, 1.0, 1.0)) for key in self.channels}
        self.keeps_values = random.random() < 0.5  # as `cached`, else by `via`
        self.eagerness = random.choice((0, 0, 2, 5))  # how much a program drops at a time
        self.serial = 0
        self.ever_held: dict[bytes, set[bytes]] = {}
        self.dead: set[bytes] = set()
        self.freed: set[bytes] = set()

    # -- plumbing ---------------------------------------------------------------------------------

    def new_id(self, kind: bytes, size: int = 28) -> bytes:
        self.serial += 1
        return (kind + b"%d" % self.serial).ljust(size, b".")

    def send(self, source: Process, target: bytes, payload: Any) -> None:
        channel = self.channels[source.name, target]
        if target in self.dead:
            return
        item = (channel.sent, payload)
        channel.sent += 1
        channel.raw.append(item)
        if self.random.random() < 0.15:
            channel.raw.append(item)

    def flush(self, process: Process) -> None:
        """Drain the machine; check its effects against the truth."""
        for effect in process.machine.drain():
            if type(effect) is Send:
                self.send(process, effect.peer, ("refs", effect.messages))
            elif type(effect) is Free:
                self.free(process, effect.object_id)
            elif type(effect) is Lost:
                self.assert_excused(effect.object_id, process, "lost")
                for ref in list(process.refs):
                    if ref[0] == effect.object_id:
                        assert ref[1] == effect.owner
            elif type(effect) is Released:
                assert not any(
                    ref[0] == effect.object_id for ref in process.refs if process.refs[ref]
                )

    def assert_excused(self, object_id: bytes, process: Process, what: str) -> None:
        """Only a death may take an object from under a reference: its owner's, or a holder's."""
        culprits = self.ever_held.get(object_id, set()) & self.dead
        assert culprits, f"{object_id!r} {what} at {process.name!r} though nobody died"

    def free(self, owner: Process, object_id: bytes) -> None:
        assert object_id not in self.freed, "freed twice"
        self.freed.add(object_id)
        del owner.values[object_id]
        ref = (object_id, owner.name)
        for process in self.processes:
            if not process.is_alive or process.machine.is_lost(object_id):
                continue
            if process.refs[ref] or process.fetching[ref]:
                self.assert_excused(object_id, process, "freed under a reference")
            for outer, inner in process.values.items():
                if ref in inner:
                    self.assert_excused(object_id, process, f"freed inside {outer!r}")

    def note(self, process: Process, ref: tuple[bytes, bytes]) -> None:
        self.ever_held.setdefault(ref[0], {ref[1]}).add(process.name)

    def gain(
        self, process: Process, ref: tuple[bytes, bytes], via: bytes | None = None
    ) -> None:
        process.machine.add_local(*ref, via=via)
        process.refs[ref] += 1
        self.note(process, ref)

    def lose(self, process: Process, ref: tuple[bytes, bytes]) -> None:
        process.refs[ref] -= 1
        if not process.refs[ref]:
            del process.refs[ref]
        process.finalized.append(ref)

    def tell_finalized(self, process: Process) -> None:
        while process.finalized:
            object_id, owner = process.finalized.popleft()
            if not process.machine.drop_local(object_id):
                assert owner == process.name, "a borrowed object was not entered"
                assert not process.refs[object_id, owner]
                self.free(process, object_id)

    def reaches(self, refs: list[tuple[bytes, bytes]], target: bytes) -> bool:
        todo, seen = [ref[0] for ref in refs], set()
        while todo:
            object_id = todo.pop()
            if object_id == target:
                return True
            if object_id not in seen:
                seen.add(object_id)
                for process in self.processes:
                    todo += [ref[0] for ref in process.values.get(object_id, ())]
        return False

    # -- what programs do -------------------------------------------------------------------------

    def pick_refs(self, process: Process, most: int) -> list[tuple[bytes, bytes]]:
        refs = list(process.refs)
        return (
            [self.random.choice(refs) for _ in range(self.random.randint(0, most))]
            if refs
            else []
        )

    def create(self, process: Process) -> None:
        inner = self.pick_refs(process, 2) if self.random.random() < 0.5 else []
        object_id = self.new_id(process.name + b"o")
        process.values[object_id] = inner
        process.refs[object_id, process.name] += 1
        self.note(process, (object_id, process.name))
        for ref in inner:
            process.machine.export(*ref)
        if inner:
            process.machine.own(object_id, inner)

    def call(self, process: Process) -> None:
        callee = self.random.choice([p for p in self.processes if p is not process])
        if callee.name in process.knows_dead:
            return
        refs = self.pick_refs(process, 3)
        call = self.new_id(b"call", 12)
        result = self.new_id(process.name + b"r")
        process.calls[call] = (callee.name, result)
        process.values[result] = []
        process.refs[result, process.name] += 1
        self.note(process, (result, process.name))
        process.machine.pin_call(call, refs)
        for ref in refs:
            if self.random.random() < 0.5 and process.refs[ref]:
                self.lose(process, ref)  # hands it on and drops it at once
        self.flush(process)
        self.send(process, callee.name, ("call", call, refs))

    def finish_call(self, process: Process) -> None:
        call, caller, refs = process.running.pop(self.random.randrange(len(process.running)))
        contained = self.pick_refs(process, 2) if self.random.random() < 0.6 else []
        for ref in contained:
            process.machine.export(*ref)
        if contained:
            process.machine.value_sent(call, caller, contained)
        for ref in refs:
            if self.random.random() < 0.6 and process.refs[ref]:
                self.lose(process, ref)  # else it stores it
        if self.random.random() < 0.8:
            self.tell_finalized(process)
        unconfirmed = process.machine.call_finished(call)
        self.flush(process)
        self.send(process, caller, ("reply", call, contained, unconfirmed))

    def fetch(self, process: Process) -> None:
        foreign = [
            ref
            for ref in process.refs
            if ref[1] != process.name
            and ref[1] not in process.knows_dead
            and not process.machine.is_lost(ref[0])
        ]
        # What has something inside of a third process is where the difficulty is.
        nested = [ref for ref in foreign if self.by_name[ref[1]].values.get(ref[0])]
        if foreign:
            ref = self.random.choice(nested or foreign)
            process.machine.add_local(*ref)
            process.fetching[ref] += 1
            self.flush(process)
            self.send(process, ref[1], ("fetch", ref))

    def drop(self, process: Process) -> None:
        refs = list(process.refs)
        for _ in range(min(len(refs), 1 + self.eagerness)):
            ref = self.random.choice(refs)
            if process.refs[ref]:
                self.lose(process, ref)

    def die(self, process: Process) -> None:
        process.is_alive = False
        self.dead.add(process.name)
        for (source, target), channel in self.channels.items():
            if source == process.name:
                channel.cut = self.random.randint(channel.expected, channel.sent)
                channel.raw = [item for item in channel.raw if item[0] < channel.cut]
                channel.stash = {n: p for n, p in channel.stash.items() if n < channel.cut}
            elif target == process.name:
                channel.raw.clear()

    # -- what arrives -----------------------------------------------------------------------------

    def deliver(self, key: tuple[bytes, bytes]) -> bool:
        """Let one raw item of a channel arrive, or the news of its sender's death."""
        channel, process = self.channels[key], self.by_name[key[1]]
        if not process.is_alive:
            return False
        if channel.raw:
            raw = channel.raw
            number, payload = raw.pop(self.random.randrange(min(len(raw), 4)))
            if number >= channel.expected:
                channel.stash[number] = payload
            while channel.expected in channel.stash:
                self.arrived(process, key[0], channel.stash.pop(channel.expected))
                channel.expected += 1
            return True
        if channel.cut is not None and key[0] not in process.knows_dead:
            assert channel.expected == channel.cut
            self.heard_of_death(process, key[0])
            return True
        return False

    def heard_of_death(self, process: Process, name: bytes) -> None:
        process.knows_dead.add(name)
        process.machine.lost(name)
        for call in [call for call, (callee, _) in process.calls.items() if callee == name]:
            del process.calls[call]
            process.machine.call_settled(call)
        for ref in [ref for ref in process.fetching if ref[1] == name]:
            for _ in range(process.fetching.pop(ref)):
                process.machine.drop_local(ref[0])
        self.flush(process)

    def arrived(self, process: Process, peer: bytes, payload: tuple[Any, ...]) -> None:
        kind, *rest = payload
        getattr(self, "on_" + kind)(process, peer, *rest)
        if self.random.random() < 0.7:
            self.flush(process)

    def on_refs(self, process: Process, peer: bytes, messages: list[Any]) -> None:
        for message in messages:
            process.machine.receive(peer, message)
            if self.double:
                process.machine.receive(peer, message)

    def on_call(self, process: Process, peer: bytes, call: bytes, refs: list[Any]) -> None:
        process.machine.call_received(call, peer, refs)
        for ref in refs:
            self.gain(process, ref)
        self.flush(process)
        process.running.append((call, peer, refs))

    def on_reply(
        self,
        process: Process,
        peer: bytes,
        call: bytes,
        contained: list[Any],
        unconfirmed: bool,
    ) -> None:
        _, result = process.calls.pop(call)
        assert result is not None
        # Cycles are the one thing that is documented to leak.
        is_wanted = result in process.values and not self.reaches(contained, result)
        if contained:
            for inner in contained:
                self.note(process, inner)
            if is_wanted:
                process.values[result] = contained
                process.machine.own(result, contained)
            process.machine.value_received(call, peer, contained)
        process.machine.call_settled(call, peer, unconfirmed=unconfirmed)
        if is_wanted and self.random.random() < 0.5:
            for inner in contained:
                self.gain(process, inner, via=result)

    def on_fetch(self, process: Process, peer: bytes, ref: tuple[bytes, bytes]) -> None:
        inner = process.values.get(ref[0])
        if inner is None:
            self.assert_excused(ref[0], process, "fetched after it was freed")
        elif inner and self.keeps_values:
            process.machine.value_sent(ref[0], peer, inner)
        self.send(process, peer, ("value", ref, inner))

    def on_value(
        self, process: Process, peer: bytes, ref: tuple[bytes, bytes], inner: Any
    ) -> None:
        if inner and self.keeps_values:
            process.machine.value_received(ref[0], peer, inner)
            process.machine.cached(ref[0], inner)
            for contained in inner:
                self.note(process, contained)
        if process.fetching[ref]:
            for contained in inner or ():
                self.gain(process, contained, via=None if self.keeps_values else ref[0])
            process.fetching[ref] -= 1
            process.machine.drop_local(ref[0])
            while inner and process.refs[ref] and self.random.random() < 0.9:
                self.lose(process, ref)  # keeps what was in it, not the object itself
            self.tell_finalized(process)

    # -- the schedule -----------------------------------------------------------------------------

    def step(self) -> None:
        random = self.random
        if random.random() < 0.6:
            key = random.choice(list(self.channels))
            if random.random() < self.paces[key]:
                self.deliver(key)
            return
        alive = [process for process in self.processes if process.is_alive]
        process = random.choice(alive)
        action = random.randrange(13)
        if action < 3:
            self.create(process)
        elif action < 6:
            self.call(process)
        elif action < 8:
            if process.running:
                self.finish_call(process)
        elif action < 10:
            self.fetch(process)
        elif action < 12:
            self.drop(process)
        elif self.deaths and len(alive) > 2 and random.random() < 0.3:
            self.die(process)
        else:
            self.tell_finalized(process)
            self.flush(process)

    def finish(self) -> None:
        """Finish every call, drop everything, deliver everything: nothing may be left."""
        alive = [process for process in self.processes if process.is_alive]
        quiet_rounds = 0
        while quiet_rounds < 2:
            quiet_rounds += 1
            for key in self.channels:
                while self.deliver(key):
                    quiet_rounds = 0
            for process in alive:
                while process.running:
                    self.finish_call(process)
                    quiet_rounds = 0
                for ref in list(process.refs):
                    for _ in range(process.refs[ref]):
                        self.lose(process, ref)
                self.tell_finalized(process)
                self.flush(process)
        for process in alive:
            process.machine.check()
            stats = process.machine.stats()
            assert stats[:6] == (0, 0, 0, 0, 0, 0), (process.name, stats)
            assert not process.values, "leaked"
