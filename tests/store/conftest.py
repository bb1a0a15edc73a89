"""Segments in a directory of the test's own, within /dev/shm: names do not clash, nothing is left."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zactor.store.segments import SegmentPool

OWNER = b"owner-of-12b"


@pytest.fixture
def shm() -> Iterator[Path]:
    directory = Path(f"/dev/shm/test-zactor-{os.getpid()}")
    directory.mkdir(mode=0o700)
    yield directory
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


@pytest.fixture
def small_shm(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB in memory."""
    directory = tmp_path / "shm"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("may not mount a tmpfs here")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_pool(clock: Clock) -> Iterator[Callable[..., SegmentPool]]:
    numbers = itertools.count()
    pools = []

    def make(directory: Path, **kwargs) -> SegmentPool:
        def reserve(size: int) -> str:
            return f"zactor-test-{next(numbers)}"

        pool = SegmentPool(OWNER, reserve, directory=str(directory), clock=clock, **kwargs)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()
