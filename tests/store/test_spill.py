"""Files of the store: what is used is left alone, what is moved is whole on one side or the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zactor.store import layout
from zactor.store.segments import SegmentMissingError
from zactor.store.spill import Outcome, StoreFiles, default_capacity

A, B = b"a" * 28, b"b" * 28
OK, IN_USE = Outcome(ok=True), Outcome(ok=False)


@pytest.fixture
def files(shm: Path, tmp_path: Path) -> StoreFiles:
    return StoreFiles(str(shm), str(tmp_path / "spill"))


def test_a_spilled_value_comes_back_whole(shm, tmp_path, files, make_pool):
    pool = make_pool(shm)
    content = os.urandom(3 << 20)
    name = pool.put(A, b"payload", [content]).name

    assert files.spill(name, A, name) == OK
    assert not (shm / name).exists()
    with pytest.raises(SegmentMissingError):
        pool.get(name, A)
    assert files.restore("zactor-node-1", name) == OK

    value = make_pool(shm).get("zactor-node-1", A)
    assert (bytes(value.payload), bytes(value.buffers[0])) == (b"payload", content)
    files.forget(name)
    files.forget(name)
    assert not list((tmp_path / "spill").iterdir())
    assert files.restore("zactor-node-2", name) == IN_USE


def test_spilling_frees_memory_that_is_still_mapped(shm, files, make_pool):
    pool = make_pool(shm)
    name = pool.put(A, b"", [bytes(1 << 20)]).name
    pool.get(name, A)
    pool.drain()
    before = os.statvfs(shm).f_bfree

    assert files.spill(name, A, name) == OK

    assert os.statvfs(shm).f_bfree - before >= 200  # pages
    pool.free(name)
    assert [message.keep for message in pool.drain()] == [False]


def test_what_somebody_looks_at_is_left_alone(shm, files, make_pool):
    maker, reader = make_pool(shm), make_pool(shm)
    name = maker.put(A, b"x").name
    view = reader.get(name, A)

    assert files.take(name, A) == files.spill(name, A, name) == IN_USE

    assert bytes(view.payload) == b"x"
    del view
    reader.drain()
    assert files.take(name, A) == OK


def test_a_warm_segment_that_was_filled_again_is_left_alone(shm, files, make_pool):
    pool = make_pool(shm)
    name = pool.put(A, b"x").name
    assert files.take(name, b"") == files.take(name, B) == files.spill(name, B, name) == IN_USE
    pool.free(name)
    assert files.take(name, A) == IN_USE
    assert files.take(name, b"") == OK
    assert files.take(name, b"") == OK  # gone already
    assert files.spill(name, A, name) == IN_USE


def test_a_full_disk_leaves_the_value_in_memory(shm, small_shm, make_pool):
    files = StoreFiles(str(shm), str(small_shm / "spill"))
    name = make_pool(shm).put(A, b"", [bytes(8 << 20)]).name

    assert files.spill(name, A, name) == Outcome(ok=False, is_disk_full=True)

    assert make_pool(shm).get(name, A).buffers[0].nbytes == 8 << 20
    assert not list((small_shm / "spill").iterdir())


def test_a_full_memory_leaves_the_value_on_disk(small_shm, tmp_path, make_pool):
    files = StoreFiles(str(small_shm), str(tmp_path / "spill"))
    pool = make_pool(small_shm)
    name = pool.put(A, b"", [bytes(3 << 20)]).name
    files.spill(name, A, name)
    pool.put(B, b"", [bytes(3 << 20)])

    assert files.restore("zactor-node-1", name) == IN_USE

    assert not (small_shm / "zactor-node-1").exists()
    assert (tmp_path / "spill" / name).exists()


def test_chunks_are_read_from_memory_or_disk_and_written_in_any_order(shm, files, make_pool):
    content = os.urandom(5000)
    name, size = make_pool(shm).put(A, content)

    def read_all():
        return [files.read_chunk(name, name, offset, 2000) for offset in range(0, size, 2000)]

    from_memory = read_all()
    assert files.spill(name, A, name) == OK
    assert read_all() == from_memory
    assert all(chunk is not None and chunk[0] == size for chunk in from_memory)
    assert files.read_chunk(name, name, size, 1) is None
    assert files.read_chunk("zactor-none", "zactor-none", 0, 1) is None

    first, *rest = [chunk[1] for chunk in from_memory]
    copy = "zactor-copy"
    assert files.write_chunk(copy, B, 0, first) == IN_USE  # not the object that was asked for
    assert files.write_chunk(copy, A, 2000, rest[0]) == IN_USE  # its pull has failed
    assert files.write_chunk(copy, A, 0, first) == OK
    for index, chunk in reversed(list(enumerate(rest, 1))):
        assert files.write_chunk(copy, A, 2000 * index, chunk) == OK
    assert bytes(make_pool(shm).get(copy, A).payload) == content


def test_a_whole_value_of_a_dead_writer_is_recognised(shm, files, make_pool):
    pool = make_pool(shm)
    name = pool.put(A, b"x", owner=b"somebodyelse").name
    header = files.inspect(name)
    assert header is not None
    assert (header.object_id, header.owner) == (A, b"somebodyelse")
    os.truncate(shm / name, 64)
    assert files.inspect(name) is None
    pool.free(name)
    assert files.inspect(name) is files.inspect("zactor-none") is None


def test_removing_deletes_even_what_is_looked_at(shm, files, make_pool):
    maker, reader = make_pool(shm), make_pool(shm)
    name = maker.put(A, b"x" * 10_000).name
    view = reader.get(name, A).payload
    files.remove(name)
    files.remove(name)
    assert not list(shm.iterdir())
    assert bytes(view) == b"x" * 10_000


def test_names_from_elsewhere_cannot_leave_the_directory(files):
    for name in ("../zactor-x", "/etc/passwd", "zactor-/../../x"):
        with pytest.raises(ValueError, match=r"x|passwd"):
            files.remove(name)
        with pytest.raises(ValueError, match=r"x|passwd"):
            files.read_chunk("zactor-none", name, 0, 1)


def test_clearing_leaves_nothing(shm, tmp_path, files, make_pool):
    pool = make_pool(shm)
    names = [pool.put(A, b"x").name for _ in range(3)]
    files.spill(names[0], A, names[0])
    files.clear(names)
    assert not list(shm.iterdir())
    assert not (tmp_path / "spill").exists()


def test_the_default_capacity_is_within_memory(shm):
    assert 0 < default_capacity(str(shm)) <= os.sysconf("SC_PHYS_PAGES") * 4096 * 3 // 10


KILLED = """
import os, signal, sys
from zactor.store.spill import StoreFiles
real = os.sendfile
def die_halfway(target, source, at, count):
    real(target, source, at, count // 2)
    os.kill(os.getpid(), signal.SIGKILL)
os.sendfile = die_halfway
StoreFiles(sys.argv[1], sys.argv[2]).spill("zactor-test-0", b"a" * 28, "zactor-test-0")
"""


@pytest.mark.slow
def test_a_node_killed_while_it_spills_leaves_the_value_in_memory(
    shm, tmp_path, files, make_pool
):
    pool = make_pool(shm)
    name = pool.put(A, b"", [b"x" * (8 << 20)]).name

    command = [sys.executable, "-c", KILLED, str(shm), str(tmp_path / "spill")]
    done = subprocess.run(command, timeout=30, check=False)

    assert done.returncode == -signal.SIGKILL
    assert bytes(pool.get(name, A).buffers[0]) == b"x" * (8 << 20)
    assert files.restore("zactor-node-1", name) == IN_USE  # a part is not taken for the whole
    files.clear([])
    assert not (tmp_path / "spill").exists()


def test_a_header_that_lies_is_no_header():
    good = layout.plan(A, b"owner-of-12b", 100, [10, 20])
    assert layout.read_header(good.head) is not None
    assert layout.read_header(good.head[:40]) is None
    assert layout.read_header(b"x" + good.head[1:]) is None
    header = layout.read_header(good.head)
    assert header is not None
    with pytest.raises(ValueError, match="outside"):
        layout.pieces(header, b"\xff" * 32)
    huge = bytearray(good.head)
    huge[64:68] = b"\xff" * 4  # number of buffers
    assert layout.read_header(bytes(huge)) is None
