"""Shared-memory segments: bytes in and out, in one process."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from bench.micro import Piece
from zactor.store.segments import SegmentPool

if TYPE_CHECKING:
    from collections.abc import Iterator


def pieces() -> Iterator[Piece]:
    """Puts into warm segments, gets, and memcpy beside them."""
    directory = tempfile.mkdtemp(prefix="bench-micro-", dir="/dev/shm")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    names = count()
    pool = SegmentPool(
        os.urandom(16), lambda _: f"zactor-micro-{next(names)}", directory=directory
    )
    ids = count()
    for label, size in (("1 MiB", 2**20), ("100 MiB", 100 * 2**20)):
        array = np.ones(size, dtype=np.uint8)
        target = np.empty_like(array)

        def put(array: np.ndarray = array) -> None:
            stored = pool.put(next(ids).to_bytes(28, "big"), b"header", [array])
            pool.free(stored.name)

        yield Piece(f"store: put {label} into a warm segment", put, size=size)
        yield Piece(
            f"store: memcpy of {label}", lambda a=array, t=target: np.copyto(t, a), size=size
        )
        object_id = next(ids).to_bytes(28, "big")
        stored = pool.put(object_id, b"header", [array])
        yield Piece(f"store: get {label}", lambda s=stored, o=object_id: pool.get(s.name, o))
        pool.free(stored.name)
    pool.close()
