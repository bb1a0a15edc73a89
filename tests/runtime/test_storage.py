"""The store of a machine with real files: full, spilled, pulled, left behind."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zactor.core.pulls import CHUNK
from zactor.core.storage_effects import Ask, Reply, Tell, Watch
from zactor.exceptions import ObjectStoreFullError, from_wire
from zactor.runtime.nodes.storage import StorageShell
from zactor.store.segments import SegmentMissingError, SegmentPool
from zactor.wire.messages import FreeSegment, LocateSegment, ReserveSegment

MIB = 1 << 20


class Machine:
    """A node's store and the processes of its machine, without a network."""

    def __init__(
        self, name: bytes, shm: Path, spill: Path, others: dict[bytes, Machine], **kwargs: Any
    ) -> None:
        self.name = name
        self.shm = shm
        self.now = 0.0
        self.shell = StorageShell(
            name,
            b"proc-" + name,
            f"zactor-{name.decode()}-",
            shm=str(shm),
            spill_dir=str(spill),
            **kwargs,
        )
        self.others = others
        others[name] = self
        self.replies: dict[int, Reply] = {}
        self.watched: list[bytes] = []
        self.told: list[Any] = []
        self.serial = 0

    def act(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                self.replies[effect.request] = effect
            elif isinstance(effect, Tell):
                self.told.append((effect.peer, effect.message))
            elif isinstance(effect, Watch):
                self.watched.append(effect.process)
            elif isinstance(effect, Ask):
                other = self.others[effect.address[0]]
                reply = other.request(b"proc-" + self.name, effect.message)
                self.act(self.shell.answered(effect.token, reply.ok, reply.value, self.now))

    def say(self, process: bytes, message: Any) -> None:
        self.act(self.shell.receive(process, None, message, self.now))

    def run_until(self, done: Callable[[], bool]) -> None:
        for _ in range(1000):
            if done():
                return
            deadline = self.shell.next_deadline()
            if select.select([self.shell.fileno()], [], [], 0 if deadline else 0.01)[0]:
                self.act(self.shell.collect(self.now))
            elif deadline is not None:
                self.now = max(self.now, deadline)
                self.act(self.shell.tick(self.now))
        raise AssertionError("nothing came")

    def request(self, process: bytes, message: Any) -> Reply:
        self.serial += 1
        request = self.serial
        self.say(process, message._replace(request=request))
        self.run_until(lambda: request in self.replies)
        return self.replies.pop(request)

    def pool(self, process: bytes) -> SegmentPool:
        def reserve(size: int) -> str:
            reply = self.request(process, ReserveSegment(0, size))
            if not reply.ok:
                raise from_wire(reply.value)
            return reply.value

        return SegmentPool(process, reserve, directory=str(self.shm))

    def flush(self, process: bytes, pool: SegmentPool) -> None:
        for message in pool.drain():
            self.say(process, message)

    def read(self, pool: SegmentPool, name: str, object_id: bytes, node: bytes = b"") -> Any:
        """What a process does to get a value."""
        try:
            return pool.get(name, object_id)
        except SegmentMissingError:
            where = node or self.name
            reply = self.request(pool._owner, LocateSegment(0, object_id, name, where, [where]))
            if not reply.ok:
                raise from_wire(reply.value) from None
            return pool.get(reply.value, object_id)


@pytest.fixture
def make_machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    machines: dict[bytes, Machine] = {}
    home = Path(f"/dev/shm/test-zactor-{os.getpid()}")
    home.mkdir(mode=0o700)

    def make(name: bytes = b"one", shm: Path | None = None, **kwargs: Any) -> Machine:
        if shm is None:
            shm = home / name.decode()
            shm.mkdir()
        spill = tmp_path / f"spill-{name.decode()}"
        # In tests the "address" of a node is its name.
        return Machine(name, shm, spill, machines, **kwargs)

    yield make
    for machine in machines.values():
        machine.shell.close()
    left = [file.name for file in home.glob("*/*")]
    shutil.rmtree(home)
    assert not left
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("spill")]


def object_id(number: int) -> bytes:
    return b"%028d" % number


P, Q = b"process-P-12", b"process-Q-12"


def test_three_times_the_store_is_put_and_read_back(make_machine, tmp_path):
    machine = make_machine(capacity=8 * MIB)
    pool, reader = machine.pool(P), machine.pool(Q)
    stored = []
    for number in range(24):
        stored.append(pool.put(object_id(number), b"", [bytes([number]) * MIB]))
        machine.flush(P, pool)

    stats = machine.shell.stats()
    assert stats.spills >= 16
    assert stats.used <= 8 * MIB
    for number, (name, _) in enumerate(stored):
        value = machine.read(reader, name, object_id(number))
        assert bytes(value.buffers[0]) == bytes([number]) * MIB
        del value
        reader.drain()
    assert machine.shell.stats().restores >= 16

    for name, _ in stored:
        pool.free(name)
    machine.flush(P, pool)
    machine.run_until(lambda: not list((tmp_path / "spill-one").iterdir()))
    stats = machine.shell.stats()
    assert (stats.spilled, stats.objects, stats.filled) == (0, 0, 0)
    pool.close()
    reader.close()


def test_a_store_full_of_what_is_looked_at_refuses_and_then_goes_on(make_machine):
    machine = make_machine(capacity=8 * MIB, patience=0.2)
    pool = machine.pool(P)
    seen = []
    for number in range(6):
        stored = pool.put(object_id(number), b"", [bytes([number]) * MIB])
        machine.flush(P, pool)
        seen.append(machine.read(pool, stored.name, object_id(number)).buffers[0])

    with pytest.raises(ObjectStoreFullError) as caught:
        pool.put(object_id(99), b"", [bytes(4 * MIB)])
    assert caught.value.capacity == 8 * MIB
    with pytest.raises(ObjectStoreFullError):
        pool.put(object_id(99), b"", [bytes(9 * MIB)])  # never fits

    assert all(bytes(view[:1]) == bytes([number]) for number, view in enumerate(seen))
    view = None
    seen.clear()
    del view
    pool.drain()
    pool.put(object_id(99), b"", [bytes(4 * MIB)])
    pool.close()


def test_a_full_tmpfs_spills_before_it_refuses(make_machine, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(small)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a tmpfs here")
    try:
        machine = make_machine(shm=small, capacity=64 * MIB)
        pool = machine.pool(P)
        stored = []
        for number in range(10):
            stored.append(pool.put(object_id(number), b"", [bytes([number]) * MIB]))
            machine.flush(P, pool)
        assert machine.shell.stats().spills >= 5
        for number, (name, _) in enumerate(stored):
            value = machine.read(pool, name, object_id(number))
            assert bytes(value.buffers[0]) == bytes([number]) * MIB
            del value
            pool.drain()
        pool.close()
        machine.shell.close()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_warm_segments_go_before_values_and_without_asking_their_process(make_machine):
    machine = make_machine(capacity=8 * MIB)
    idle, busy = machine.pool(P), machine.pool(Q)
    kept = idle.put(object_id(1), b"", [bytes(MIB)])
    freed = [idle.put(object_id(n), b"", [bytes(2 * MIB)]).name for n in (2, 3)]
    for name in freed:
        idle.free(name)
    machine.flush(P, idle)

    busy.put(object_id(4), b"", [bytes(5 * MIB)])

    assert machine.shell.stats().spills == 0
    assert idle.get(kept.name, object_id(1)).buffers[0].nbytes == MIB
    again = idle.put(object_id(5), b"", [b"\5" * MIB])
    assert again.name not in freed
    assert bytes(idle.get(again.name, object_id(5)).buffers[0][:1]) == b"\5"
    idle.close()
    busy.close()


def test_a_value_is_pulled_from_another_node_in_chunks_and_once(make_machine):
    one, two = make_machine(b"one"), make_machine(b"two")
    maker, reader, second = one.pool(P), two.pool(Q), two.pool(b"process-R-12")
    content = os.urandom(9 * MIB + 12345)
    name, size = maker.put(object_id(1), b"", [content])
    one.flush(P, maker)
    asks = []
    act = two.act

    def count(effects: list[Any]) -> None:
        asks.extend(effect for effect in effects if isinstance(effect, Ask))
        act(effects)

    two.act = count
    for pool in (reader, second):
        assert bytes(two.read(pool, name, object_id(1), b"one").buffers[0]) == content

    assert len(asks) == -(-size // CHUNK)
    assert two.shell.stats().pulls == 1
    for pool in (maker, reader, second):
        pool.close()


def test_a_spilled_value_is_pulled_from_the_disk_of_the_other_node(make_machine):
    one, two = make_machine(b"one", capacity=4 * MIB), make_machine(b"two")
    maker, reader = one.pool(P), two.pool(Q)
    content = os.urandom(3 * MIB)
    name, _ = maker.put(object_id(1), b"", [content])
    one.flush(P, maker)
    maker.put(object_id(2), b"", [content])
    assert one.shell.stats().spills == 1

    assert bytes(two.read(reader, name, object_id(1), b"one").buffers[0]) == content

    assert one.shell.stats().restores == 0
    maker.close()
    reader.close()


def test_a_value_that_is_nowhere_is_lost(make_machine):
    make_machine(b"one")
    two = make_machine(b"two")
    reader = two.pool(Q)
    for node in (b"one", b"two"):
        with pytest.raises(Exception, match="value is not"):
            two.read(reader, "zactor-one-ff-1", object_id(1), node)
    reader.close()


def test_a_result_that_its_owner_freed_leaves_its_segment_warm_for_the_next(make_machine):
    machine = make_machine(capacity=64 * MIB)
    worker = machine.pool(P)
    first = worker.put(object_id(1), b"", [bytes(MIB)], owner=Q)
    machine.flush(P, worker)

    machine.say(Q, FreeSegment(first.name, keep=False))
    for peer, message in machine.told:
        assert peer == P
        assert worker.free(message.name)
    machine.flush(P, worker)

    assert machine.shell.stats().warm > 0
    assert worker.put(object_id(2), b"", [bytes(MIB)], owner=Q).name == first.name
    worker.close()


def test_what_a_dead_process_leaves_is_freed_and_what_it_made_for_others_stays(make_machine):
    machine = make_machine(capacity=64 * MIB)
    dead, alive = machine.pool(P), machine.pool(Q)
    own = dead.put(object_id(1), b"", [bytes(MIB)])
    result = dead.put(object_id(2), b"", [b"\2" * MIB], owner=Q)
    warm = dead.put(object_id(3), b"", [bytes(MIB)])
    dead.free(warm.name)
    machine.flush(P, dead)
    unsaid = dead.put(object_id(4), b"", [b"\4" * 2 * MIB], owner=Q)  # its last words are lost
    assert machine.request(P, ReserveSegment(0, MIB)).ok
    assert machine.watched == [Q]

    machine.act(machine.shell.process_lost(P, 0.0))
    kept = {result.name, unsaid.name}
    machine.run_until(lambda: {path.name for path in machine.shm.iterdir()} == kept)

    assert machine.shell.stats().objects == 2
    for stored, number in ((result, 2), (unsaid, 4)):
        value = machine.read(alive, stored.name, object_id(number))
        assert bytes(value.buffers[0][:2]) == bytes([number]) * 2
        del value
    alive.drain()
    machine.act(machine.shell.process_lost(Q, 0.0))
    machine.run_until(lambda: not list(machine.shm.iterdir()))
    assert machine.shell.stats().used == 0
    assert own.name not in kept
    dead._segments.clear()
    alive.close()
