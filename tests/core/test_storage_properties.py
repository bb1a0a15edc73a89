"""The account of a store under any order of events: N1 to N4 hold, and nothing is left.

The model is the machine's surroundings: files with an object in them and lookers at them, processes
whose messages arrive late, a helper that does the effects one by one, and another node.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zactor.core.pulls import CHUNK
from zactor.core.storage import Storage
from zactor.core.storage_effects import (
    Ask,
    Forget,
    Inspect,
    ReadChunk,
    Remove,
    Reply,
    ReplyFile,
    Restore,
    Spill,
    Take,
    Tell,
    Watch,
    WriteChunk,
)
from zactor.wire.messages import FreeSegment, LocateSegment, ReserveSegment, SegmentFilled

NODE, FAR = b"node", b"far-node"
PROCESSES = [b"p%d" % i for i in range(3)]
SIZES = st.integers(1, 5).map(lambda n: n * CHUNK)
picks = st.integers(0, 1 << 30)


class StoreWorld(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.machine = Storage(
            NODE,
            b"me",
            "zactor-",
            12 * CHUNK,
            spill_limit=10 * CHUNK,
            patience=0.5,
            copy_seconds=5.0,
        )
        self.files: dict[str, bytes] = {}  # what is in shared memory: object or b""
        self.lookers: dict[str, int] = {}
        self.disk: dict[str, bytes] = {}
        self.jobs: deque[Any] = deque()
        self.asks: list[Ask] = []
        self.inboxes: dict[bytes, deque[Any]] = {process: deque() for process in PROCESSES}
        self.alive = list(PROCESSES)
        self.reserved: dict[bytes, list[tuple[str, int]]] = {
            process: [] for process in PROCESSES
        }
        self.filled: dict[
            str, tuple[bytes, bytes, int, bytes]
        ] = {}  # name: maker object size owner
        self.warm: dict[bytes, list[tuple[str, int]]] = {process: [] for process in PROCESSES}
        self.over: dict[
            str, bytes
        ] = {}  # filled with what is freed, and its maker has not heard
        self.sizes: dict[str, int] = {}
        self.open: dict[int, tuple[bytes, str, bytes]] = {}  # request -> process, kind, object
        self.far: dict[bytes, tuple[str, int]] = {}  # objects elsewhere -> home there, size
        self.serial = 0

    def number(self) -> int:
        self.serial += 1
        return self.serial

    # -- the machine's effects --------------------------------------------------------------------

    def apply(self) -> None:
        for effect in self.machine.drain():
            if isinstance(effect, Reply):
                self.answered(effect)
            elif isinstance(effect, ReplyFile):
                process, kind, _ = self.open.pop(effect.request)  # N2
                assert (process, kind) == (effect.peer, "locate")
                # It is there, unless its removal is queued behind something newer.
                assert effect.home in self.disk
            elif isinstance(effect, Ask):
                self.asks.append(effect)
            elif not isinstance(effect, Watch) or effect.process not in self.alive:
                self.jobs.append(effect)

    def answered(self, reply: Reply) -> None:
        process, kind, object_id = self.open.pop(
            reply.request
        )  # N2: a second answer is a KeyError
        assert process == reply.peer
        if not reply.ok:
            kinds = ("ObjectStoreFullError", "OutOfDiskError", "ObjectLostError")
            assert reply.value[0] in kinds
        elif kind == "reserve":
            if process in self.alive:
                self.reserved[process].append((reply.value, int.from_bytes(object_id, "big")))
                self.sizes[reply.value] = int.from_bytes(object_id, "big")
        else:
            # What was answered is there, or its removal is queued behind something newer.
            assert reply.value in self.files or any(
                getattr(job, "name", "") == reply.value for job in self.jobs
            )

    def do(self, job: Any) -> None:
        match job:
            case Take(name, object_id) | Spill(name, object_id):
                held = self.files.get(name)
                ok = held is None or (held == object_id and not self.lookers.get(name))
                if isinstance(job, Spill):
                    ok = ok and held is not None
                    if ok:
                        assert job.home not in self.disk
                        self.disk[job.home] = object_id
                if ok:
                    self.files.pop(name, None)
                done = self.machine.spilled if isinstance(job, Spill) else self.machine.took
                done(name, ok, self.now)
            case Restore(name, home):
                assert home in self.disk  # N3
                self.files[name] = self.disk[home]
                self.machine.placed(name, True, self.now)
            case WriteChunk(name, object_id, offset):
                ok = name in self.files or offset == 0
                if ok:
                    self.files[name] = object_id
                self.machine.chunk_written(name, ok, self.now)
            case Inspect(name):
                _, object_id, size, owner = self.filled.get(name, (b"", b"", 0, b""))
                found = self.files.get(name, b"")
                if found and found == object_id:
                    self.machine.inspected(name, object_id, owner, size, self.now)
                else:
                    self.machine.inspected(name, b"", b"", 0, self.now)
            case Remove(name):
                self.files.pop(name, None)
            case Forget(home):
                del self.disk[home]  # N3: it is there, and only once
            case Tell(process, _, FreeSegment(name)):
                if process in self.alive:
                    self.maker_hears(process, name)
            case Watch(process):
                self.machine.process_lost(process, self.now)
            case ReadChunk():
                pass
        self.apply()

    def hear(self, process: bytes) -> None:
        """Deliver one message of a process."""
        message = self.inboxes[process].popleft()
        self.machine.receive(process, None, message, self.now)
        self.apply()

    # -- rules ------------------------------------------------------------------------------------

    @rule(pick=picks, size=SIZES)
    def reserve(self, pick: int, size: int) -> None:
        process = self.alive[pick % len(self.alive)]
        request = self.number()
        self.open[request] = (process, "reserve", size.to_bytes(8, "big"))
        self.inboxes[process].append(ReserveSegment(request, size))

    @rule(pick=picks, owner=picks, less=st.integers(0, CHUNK - 1))
    def fill(self, pick: int, owner: int, less: int) -> None:
        process = self.alive[pick % len(self.alive)]
        slots = self.warm[process] or self.reserved[process]
        if not slots:
            return
        name, capacity = slots.pop()
        was_warm = name in self.files
        if was_warm and self.files[name] != b"":
            return
        if not was_warm and name in self.filled:
            return  # the node took it back
        object_id = b"object%d" % self.number()
        size = capacity - less
        whose = self.alive[owner % len(self.alive)]
        self.files[name] = object_id
        self.filled[name] = (process, object_id, size, whose)
        self.inboxes[process].append(SegmentFilled(name, object_id, size, whose))

    @rule(pick=picks, is_kept=st.booleans(), is_told=st.booleans())
    def free(self, pick: int, is_kept: bool, is_told: bool) -> None:
        names = [name for name, entry in self.filled.items() if entry[1]]
        if not names:
            return
        name = names[pick % len(names)]
        maker, object_id, _, owner = self.filled[name]
        self.filled[name] = (maker, b"", 0, b"")
        self.over[name] = object_id
        if owner != maker or maker not in self.alive:
            self.inboxes[owner].append(FreeSegment(name, keep=False))
        else:
            self.maker_frees(maker, name, is_kept=is_kept, is_told=is_told)

    def maker_frees(self, maker: bytes, name: str, *, is_kept: bool, is_told: bool) -> None:
        object_id = self.over.pop(name)
        if self.files.get(name) == object_id and not self.lookers.get(name) and is_kept:
            self.files[name] = b""
            self.warm[maker].append((name, self.sizes[name]))
            if is_told:
                self.inboxes[maker].append(FreeSegment(name, keep=True))
        else:
            self.inboxes[maker].append(FreeSegment(name, keep=False))

    def maker_hears(self, maker: bytes, name: str) -> None:
        """Of a segment that it has, or had; what it filled anew meanwhile is another matter."""
        if name in self.over:
            self.maker_frees(maker, name, is_kept=True, is_told=True)
        elif self.filled.get(name, (b"", b""))[1] == b"" and name not in dict(self.warm[maker]):
            self.inboxes[maker].append(FreeSegment(name, keep=False))

    @rule(pick=picks, who=picks)
    def locate(self, pick: int, who: int) -> None:
        names = [name for name, entry in self.filled.items() if entry[1]]
        if names:
            name = names[pick % len(names)]
            self.ask(who, self.filled[name][1], name, NODE)

    @rule(pick=picks, who=picks, is_new=st.booleans(), size=SIZES)
    def locate_far(self, pick: int, who: int, is_new: bool, size: int) -> None:
        if is_new or not self.far:
            number = self.number()
            self.far[b"far%d" % number] = (f"zactor-far-{number}", size - 1)
        object_id = list(self.far)[pick % len(self.far)]
        self.ask(who, object_id, self.far[object_id][0], FAR)

    def ask(self, who: int, object_id: bytes, name: str, node: bytes) -> None:
        process = self.alive[who % len(self.alive)]
        request = self.number()
        self.open[request] = (process, "locate", object_id)
        self.inboxes[process].append(LocateSegment(request, object_id, name, node, [1]))

    @rule(pick=picks, is_looked_at=st.booleans())
    def look(self, pick: int, is_looked_at: bool) -> None:
        names = [name for name, held in self.files.items() if held]
        if names:
            name = names[pick % len(names)]
            self.lookers[name] = int(is_looked_at)

    @rule(pick=picks)
    def message_arrives(self, pick: int) -> None:
        senders = [process for process, inbox in self.inboxes.items() if inbox]
        if senders:
            self.hear(senders[pick % len(senders)])

    @rule(count=st.integers(1, 5))
    def helper_works(self, count: int) -> None:
        for _ in range(min(count, len(self.jobs))):
            self.do(self.jobs.popleft())

    @precondition(lambda self: self.asks)
    @rule(pick=picks, fails=st.integers(0, 9))
    def other_node_answers(self, pick: int, fails: int) -> None:
        ask = self.asks.pop(pick % len(self.asks))
        size = next(size for home, size in self.far.values() if home == ask.message.name)
        payload = bytes(min(CHUNK, size - ask.message.offset))
        self.machine.answered(ask.token, fails > 0, [size, payload], self.now)
        self.apply()

    @rule(seconds=st.sampled_from([0.01, 0.06, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        deadline = self.machine.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.machine.tick(self.now)
            self.apply()

    @precondition(lambda self: len(self.alive) > 1)
    @rule(pick=picks)
    def process_dies(self, pick: int) -> None:
        process = self.alive.pop(pick % len(self.alive))
        while self.inboxes[process]:
            self.hear(process)  # its inbox is drained before its death is applied
        self.open = {r: entry for r, entry in self.open.items() if entry[0] != process}
        for name, (maker, _, size, owner) in list(self.filled.items()):
            if owner == process:
                self.over[name] = self.filled[name][1]
                self.filled[name] = (maker, b"", 0, b"")
        self.machine.process_lost(process, self.now)
        self.apply()

    @invariant()
    def invariants_hold(self) -> None:
        self.machine.check()

    def teardown(self) -> None:
        """When all is answered and freed, nothing is left in memory or on disk."""
        self.lookers.clear()
        self.settle()
        assert not self.open, "N2"
        for process in self.alive[1:]:
            self.alive.remove(process)
            self.machine.process_lost(process, self.now)
        self.apply()
        self.settle()
        for name, (maker, object_id, _, _) in self.filled.items():
            if object_id:
                self.over.pop(name, None)
                self.files.pop(name, None) if maker == self.alive[0] else None
                self.machine.receive(
                    self.alive[0], None, FreeSegment(name, keep=False), self.now
                )
        for home, _ in self.far.values():
            self.machine.receive(self.alive[0], None, FreeSegment(home, keep=False), self.now)
        self.machine.process_lost(self.alive[0], self.now)
        self.apply()
        self.settle()
        stats = self.machine.stats()
        assert (stats.used, stats.spilled, stats.objects, stats.waiting) == (0, 0, 0, 0), stats
        assert not self.disk

    def settle(self) -> None:
        for _ in range(200):
            for process in self.alive:
                while self.inboxes[process]:
                    self.hear(process)
            while self.jobs:
                self.do(self.jobs.popleft())
            while self.asks:
                self.other_node_answers(0, 1)
            self.machine.check()
            deadline = self.machine.next_deadline()
            if deadline is None and not (self.jobs or self.asks):
                break
            self.now = max(self.now, deadline or 0.0)
            self.machine.tick(self.now)
            self.apply()


TestStoreWorld = StoreWorld.TestCase
TestStoreWorld.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
