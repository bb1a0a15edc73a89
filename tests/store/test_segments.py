"""Values in shared memory: what was got stays as it was, and warm segments are used again."""

from __future__ import annotations

import gc
import os
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zactor.exceptions import ObjectStoreFullError
from zactor.store import layout
from zactor.store.segment import size_class
from zactor.store.segments import SegmentMissingError, remove_segments
from zactor.wire.messages import FreeSegment, SegmentFilled

np = pytest.importorskip("numpy")

A, B, C = b"a" * 28, b"b" * 28, b"c" * 28


def values(count, of=1):
    return np.full(count, of, dtype=np.uint8)


def test_a_value_comes_back_as_it_was_with_its_buffers_aligned(shm, make_pool):
    writer, reader = make_pool(shm), make_pool(shm)
    arrays = [np.arange(n, dtype=np.float64) for n in (0, 1, 1000, 300_000)]
    buffers = []
    payload = pickle.dumps(arrays, protocol=5, buffer_callback=buffers.append)

    stored = writer.put(A, payload, buffers)

    for pool in (writer, reader):
        value = pool.get(stored.name, A)
        back = pickle.loads(value.payload, buffers=value.buffers)
        assert all(np.array_equal(one, other) for one, other in zip(arrays, back, strict=True))
        assert all(array.ctypes.data % 64 == 0 for array in back if array.size)
        assert not any(array.flags.writeable for array in back if array.size)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 200_000), max_size=12), seed=st.integers())
def test_any_shape_of_value_survives_the_first_and_the_second_writing(sizes, seed):
    from tests.store.conftest import OWNER
    from zactor.store.segments import SegmentPool

    names = iter(f"zactor-hypothesis-{os.getpid()}-{i}" for i in range(100))
    pool = SegmentPool(OWNER, lambda size: next(names))
    randoms = random.Random(seed)
    try:
        for object_id in (A, B, C):
            parts = [randoms.randbytes(size) for size in sizes]
            payload = randoms.randbytes(randoms.randrange(100_000))
            stored = pool.put(object_id, payload, parts)
            value = pool.get(stored.name, object_id)
            assert bytes(value.payload) == payload
            assert [bytes(part) for part in value.buffers] == parts
            del value
            pool.free(stored.name)
    finally:
        pool.close()


def test_what_was_got_never_changes_when_its_segment_could_be_used_again(shm, make_pool):  # S1
    pool = make_pool(shm)
    stored = pool.put(A, b"", [values(1 << 20, of=1)])
    seen = np.frombuffer(pool.get(stored.name, A).buffers[0], dtype=np.uint8)

    pool.free(stored.name)
    other = pool.put(B, b"", [values(1 << 20, of=2)])

    assert other.name != stored.name
    assert (seen == 1).all()
    del seen
    assert pool.drain_unmapped() == [A]
    assert pool.put(C, b"", [values(1 << 20, of=3)]).name == stored.name


def test_what_another_process_looks_at_is_not_used_again_though_it_was_freed(
    shm, make_pool
):  # S1
    maker, reader = make_pool(shm), make_pool(shm)
    stored = maker.put(A, b"", [values(1 << 20, of=1)])
    maker.drain()
    seen = reader.get(stored.name, A).buffers[0]

    maker.free(stored.name)  # against the protocol: the reader holds it

    assert maker.drain() == [FreeSegment(stored.name, keep=True)]
    other = maker.put(B, b"", [values(1 << 20, of=2)]).name
    assert other != stored.name
    assert bytes(seen[:3]) == b"\1\1\1"
    del seen
    reader.drain_unmapped()
    assert maker.put(C, b"", [values(1 << 20, of=3)]).name == stored.name
    assert maker.stats().warm == 0


def test_of_freed_segments_that_others_look_at_only_some_are_kept(shm, make_pool):
    maker, reader = make_pool(shm), make_pool(shm)
    seen = []
    for number in range(70):
        stored = maker.put(bytes([number]) * 28, b"", [values(1 << 16)])
        seen.append(reader.get(stored.name, bytes([number]) * 28))
        maker.free(stored.name)
    assert maker.stats().warm == 64
    del seen
    reader.drain_unmapped()
    for number in range(64):
        maker.put(bytes([number]) * 28, b"", [values(1 << 16)])
    assert maker.stats().warm == 0


def test_a_late_word_does_not_free_what_is_in_the_segment_by_then(shm, make_pool):
    pool = make_pool(shm)
    first = pool.put(A, b"", [values(1 << 20, of=1)])
    assert pool.free(first.name, A)
    second = pool.put(B, b"", [values(1 << 20, of=2)])
    assert second.name == first.name

    assert pool.free(first.name, A)

    third = pool.put(C, b"", [values(1 << 20, of=3)])
    assert third.name != second.name
    assert bytes(pool.get(second.name, B).buffers[0][:2]) == b"\2\2"


def test_a_freed_segment_is_warm_for_the_next_value_that_fits(shm, make_pool):
    pool = make_pool(shm)
    names = []
    for size in (1 << 20, 4 << 20):
        names.append(pool.put(A, b"", [values(size)]).name)
    for name in names:
        pool.free(name)

    assert pool.put(A, b"", [values(900_000)]).name == names[0]  # best fit
    assert pool.put(A, b"", [values(3 << 20)]).name == names[1]
    assert pool.stats().warm == 0


def test_a_warm_segment_grows_within_its_class(shm, make_pool):
    pool = make_pool(shm)
    size = size_class(8 << 20)
    name = pool.put(A, b"", [values(size - (size >> 4))]).name
    pool.free(name)

    grown = values(size - 4096, of=7)
    stored = pool.put(B, b"", [grown])

    assert stored.name == name
    assert bytes(pool.get(name, B).buffers[0]) == grown.tobytes()


def test_a_small_value_does_not_occupy_a_huge_segment(shm, make_pool):
    pool = make_pool(shm)
    name = pool.put(A, b"", [values(16 << 20)]).name
    pool.free(name)

    assert pool.put(B, b"", [values(100_000)]).name != name


def test_the_node_hears_of_what_stays_and_not_of_what_came_and_went(shm, make_pool):
    pool = make_pool(shm)
    name, size = pool.put(A, b"", [values(1 << 20)])
    assert pool.drain() == [SegmentFilled(name, A, size, b"owner-of-12b")]
    pool.free(name)
    assert pool.drain() == [FreeSegment(name, keep=True)]

    for object_id in (A, B, C):
        pool.free(pool.put(object_id, b"", [values(1 << 20)]).name)

    assert pool.drain() == []


def test_an_owner_other_than_the_maker_is_told(shm, make_pool):
    pool = make_pool(shm)
    pool.put(A, b"", [values(1 << 20)], owner=b"somebodyelse")
    assert pool.drain()[0].owner == b"somebodyelse"


def test_another_object_in_the_segment_is_missing(shm, make_pool):
    writer, reader = make_pool(shm), make_pool(shm)
    name = writer.put(A, b"x").name

    for pool in (writer, reader):
        with pytest.raises(SegmentMissingError):
            pool.get(name, B)
    assert bytes(reader.get(name, A).payload) == b"x"
    writer.free(name)  # not allowed by the reader's view, so deleted by the node
    for pool in (writer, reader):
        with pytest.raises(SegmentMissingError):
            pool.get("zactor-test-none", A)
    with pytest.raises(SegmentMissingError):
        reader.get("../../etc/passwd", A)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 4096])
def test_a_file_that_is_no_segment_is_missing(shm, make_pool, content):
    (shm / "zactor-rubbish").write_bytes(content)
    with pytest.raises(SegmentMissingError):
        make_pool(shm).get("zactor-rubbish", A)


def test_a_segment_that_the_node_took_back_is_not_written_to(shm, make_pool):
    pool = make_pool(shm)
    name = pool.put(A, b"", [values(1 << 20)]).name
    pool.free(name)
    path = shm / name
    with path.open("r+b") as file:
        path.unlink()
        file.truncate(0)

    stored = pool.put(B, b"", [values(1 << 20, of=2)])

    assert stored.name != name
    assert bytes(pool.get(stored.name, B).buffers[0][:2]) == b"\2\2"


def test_what_is_idle_goes(shm, make_pool, clock):  # S3
    writer, reader = make_pool(shm, idle_seconds=10.0), make_pool(shm, idle_seconds=10.0)
    kept = writer.put(A, b"", [values(1 << 20)]).name
    freed = writer.put(B, b"", [values(1 << 20)]).name
    reader.get(kept, A)
    view = reader.get(freed, B)
    del view
    assert reader.drain_unmapped() == [A, B]
    writer.free(freed)
    writer.drain()
    clock.now += 9.0
    writer.trim(clock.now)
    assert writer.stats().warm == 1

    clock.now = writer.next_deadline()
    writer.trim(clock.now)
    reader.trim(clock.now)

    assert writer.drain() == [FreeSegment(freed, keep=False)]
    assert [path.name for path in shm.iterdir()] == [kept]
    assert writer.stats().warm == reader.stats().attached == 0
    assert writer.next_deadline() is None
    assert reader.stats().attached_bytes == 0


def test_warm_and_attached_segments_are_bounded(shm, make_pool):  # S3
    writer = make_pool(shm, warm_limit=3 << 20)
    reader = make_pool(shm, attached_limit=2 << 20)
    names = [writer.put(A, b"", [values(1 << 20)]).name for _ in range(6)]
    for name in names:
        reader.get(name, A)
    reader.drain()
    assert reader.stats().attached_bytes <= 2 << 20

    for name in names:
        writer.free(name)

    assert writer.stats().warm_bytes <= 3 << 20
    gone = [message.name for message in writer.drain() if not message.keep]
    assert len(gone) == 4  # each takes a little over 1 MiB
    assert not any((shm / name).exists() for name in gone)


def test_an_attached_segment_is_mapped_once_for_all_who_look(shm, make_pool):
    writer, reader = make_pool(shm), make_pool(shm)
    name = writer.put(A, b"x").name
    first = reader.get(name, A)
    second = reader.get(name, A)
    assert (first.is_new_view, second.is_new_view) == (True, False)
    del first
    assert reader.drain_unmapped() == []
    part = second.payload[:1]
    del second
    assert reader.drain_unmapped() == []
    del part
    assert reader.drain_unmapped() == [A]
    assert reader.get(name, A).is_new_view


def test_many_segments_do_not_use_up_descriptors(shm, make_pool, monkeypatch):
    monkeypatch.setattr("zactor.store.segments._MOST_OPEN_FILES", 10)
    pool = make_pool(shm)
    before = len(os.listdir("/proc/self/fd"))
    names = [pool.put(A, b"%d" % i).name for i in range(50)]
    assert len(os.listdir("/proc/self/fd")) - before <= 10
    for i, name in enumerate(names):
        assert bytes(pool.get(name, A).payload) == b"%d" % i
        pool.free(name)
    assert pool.stats().filled == 0


def test_a_full_file_system_is_an_error_and_never_a_signal(small_shm, make_pool):  # S2
    pool = make_pool(small_shm)
    big = values(3 << 20)
    name = pool.put(A, b"", [big]).name

    with pytest.raises(ObjectStoreFullError):
        pool.put(B, b"", [values(2 << 20)])

    assert pool.drain()[-1] == FreeSegment("zactor-test-1", keep=False)
    assert len(list(small_shm.iterdir())) == 1
    pool.free(name)
    assert pool.put(B, b"", [big]).name == name
    pool.free(name)
    filler = small_shm / "filler"
    filler.write_bytes(bytes(700 << 10))
    with pytest.raises(ObjectStoreFullError):  # a warm segment that cannot grow
        pool.put(C, b"", [values((3 << 20) + (400 << 10))])
    filler.unlink()


def test_a_refusal_of_the_node_reaches_who_puts(shm, make_pool):
    pool = make_pool(shm)

    def refuse(size):
        raise ObjectStoreFullError(size=size)

    pool._reserve = refuse
    with pytest.raises(ObjectStoreFullError):
        pool.put(A, b"", [values(1 << 20)])
    assert pool.drain() == []


def test_buffers_that_are_not_contiguous_are_refused_and_fortran_order_is_kept(shm, make_pool):
    pool = make_pool(shm)
    array = np.arange(12.0).reshape(3, 4)
    with pytest.raises(BufferError):
        pool.put(A, b"", [array[:, ::2]])
    name = pool.put(A, b"", [np.asfortranarray(array)]).name
    back = np.frombuffer(pool.get(name, A).buffers[0]).reshape(3, 4, order="F")
    assert np.array_equal(back, array)


def test_views_outlive_the_pool(shm, make_pool):
    pool = make_pool(shm)
    array = np.frombuffer(
        pool.get(pool.put(A, b"", [values(1 << 20, of=5)]).name, A).buffers[0]
    )
    pool.close()
    gc.collect()
    assert array.tobytes() == b"\5" * (1 << 20)
    assert not list(shm.iterdir())


KILLED = """
import sys, os, signal, threading
sys.path.insert(0, os.getcwd())
from zactor.store.segments import SegmentPool
from zactor.store import segments, memory
names = iter(f"zactor-test-{i}" for i in range(100))
pool = SegmentPool(b"owner-of-12b", lambda size: next(names), directory=sys.argv[1])
first = pool.put(b"a" * 28, b"", [b"1" * (8 << 20)], owner=b"x" * 12)
if sys.argv[2] == "warm":
    pool.free(first.name)
calls = []
def die(*args):
    calls.append(args)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
real_pwrite, real_write = os.pwrite, memory.Mapping.write
os.pwrite = lambda *args: (die(), real_pwrite(*args))[1]
memory.Mapping.write = lambda *args: (die(), real_write(*args))[1]
pool.put(b"b" * 28, b"payload", [b"2" * (2 << 20)] * 4, owner=b"x" * 12)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fresh", "warm"])
def test_a_writer_killed_midway_leaves_no_half_value(shm, kind):
    command = [sys.executable, "-c", KILLED, str(shm), kind]
    done = subprocess.run(command, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL

    headers = {
        path.name: layout.read_header(path.read_bytes()[: layout.HEADER_SIZE])
        for path in shm.iterdir()
    }

    held = [header.object_id for header in headers.values() if header is not None]
    if kind == "warm":
        assert held in ([layout.NO_OBJECT], [])
    else:
        assert held == [A]
    assert sorted(remove_segments("zactor-test-", str(shm))) == sorted(headers)
    assert not list(shm.iterdir())


def test_only_our_own_files_can_be_swept(shm):
    (shm / "zactor-aa-1").touch()
    (shm / "zactor-bb-1").touch()
    assert remove_segments("zactor-aa-", str(shm)) == ["zactor-aa-1"]
    with pytest.raises(ValueError, match="precious"):
        remove_segments("precious", str(shm))
    assert [path.name for path in Path(shm).iterdir()] == ["zactor-bb-1"]


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 1 << 20, (1 << 30) + 1, 123_456_789])
def test_size_classes_waste_an_eighth_at_most(size):
    assert size <= size_class(size) <= max(size * 9 // 8 + 1, 1 << 16, size + (1 << 16))
    assert size_class(size_class(size)) == size_class(size)
