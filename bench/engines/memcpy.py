"""memcpy: what the machine does with the same bytes. The ceiling of rows that move bulk."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

from bench.engines import Simple
from bench.rows.data import SIZES
from bench.rows.network import BULK
from bench.work import GIGABYTE, Measure, Rate, Setting

Works = Iterator[Rate | Measure]


def _copies(size: int, *, untouched: bool = False) -> Rate:
    """Copy `size` bytes to warm pages.

    An untouched source is what rows have that put `np.zeros`: all its pages are the kernel's one
    page of zeros, which stays in the cache, and the copy is about twice as fast for it.
    """
    import numpy as np

    make = np.zeros if untouched else np.ones
    source = make(size, dtype=np.uint8)
    target = np.empty_like(source)
    np.copyto(target, source)  # maps the target's pages
    return Rate.each(lambda: np.copyto(target, source))


def put_gigabytes(_api: Any, setting: Setting) -> Works:
    size = setting.pick(100, 25) * 2**20 * 8
    yield Rate(_copies(size, untouched=True).many, size / GIGABYTE)


def first_put(_api: Any, setting: Setting) -> Works:
    # Warm pages on purpose: how far a first put stays behind them is the row's question.
    size = setting.pick(100, 25) * 2**20 * 8
    copies = _copies(size)

    def once() -> float:
        start = time.perf_counter()
        copies.many(1)
        return size / GIGABYTE / (time.perf_counter() - start)

    yield Measure(once)


def _copier(size: int, connection: Any) -> None:
    copies = _copies(size, untouched=True)
    connection.send(None)
    while (rounds := connection.recv()) is not None:
        copies.many(rounds)
        connection.send(None)


def multi_put_gigabytes(_api: Any, setting: Setting) -> Works:
    size = setting.pick(10, 2) * 2**20 * 8
    fork = multiprocessing.get_context("fork")
    pipes = [fork.Pipe() for _ in range(setting.cpus)]
    copiers = [
        fork.Process(target=_copier, args=(size, theirs), daemon=True) for _, theirs in pipes
    ]
    for copier in copiers:
        copier.start()
    ours = [mine for mine, _ in pipes]
    for pipe in ours:
        pipe.recv()

    def once() -> None:  # 10 tasks of 10 puts, shared out over the processes
        for pipe in ours:
            pipe.send(100 // len(ours))
        for pipe in ours:
            pipe.recv()

    yield Rate.each(once, 100 // len(ours) * len(ours) * size / GIGABYTE)
    for pipe in ours:
        pipe.send(None)
    for copier in copiers:
        copier.join()


def _argument(_api: Any, _setting: Setting, *, size: int) -> Works:
    yield _copies(size)


def bulk(_api: Any, _setting: Setting) -> Works:
    yield Rate(_copies(BULK).many, BULK / GIGABYTE)


def make(_name: str) -> Simple:
    """Return the engine."""
    works = {
        "single client put gigabytes": put_gigabytes,
        "single client put gigabytes, a process's first": first_put,
        "multi client put gigabytes": multi_put_gigabytes,
        "client: put gigabytes": put_gigabytes,
        "bulk over ipc": bulk,
        "bulk over tcp+CURVE": bulk,
    }
    for label, (size, _) in SIZES.items():
        works[f"calls with {label} of numpy"] = functools.partial(_argument, size=size)
    return Simple(("numpy",), works, "only copies bytes")
