"""Stack dumps: asked for one after the other, and taken when they are whole."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.driven_loop import DrivenLoop
from zactor.runtime.insight import stacks
from zactor.runtime.insight.stacks import StackDumps

HEAD = "Current thread (most recent call first):\n"
WHOLE = HEAD + '  File "a.py", line 1 in search\n'


class FakeWorker:
    """Writes its dump in pieces, one a look; None is a look at which it does not run."""

    page = 1

    def __init__(self, *pieces: str) -> None:
        self.pieces = list(pieces)
        self.requests = 0

    def request_stack(self) -> None:
        self.requests += 1

    def is_dumping(self) -> bool:
        return len(self.pieces) > 1

    def read_stack(self) -> str:
        return self.pieces.pop(0) if len(self.pieces) > 1 else self.pieces[0]


@pytest.fixture
def loop() -> DrivenLoop:
    return DrivenLoop()


@pytest.fixture
def dumps(loop: DrivenLoop) -> StackDumps:
    return StackDumps(loop)


def dump_soon(dumps: StackDumps, done: list[Any], *workers: Any) -> None:
    dumps.request(lambda: list(workers), done.append)


def dump(loop: DrivenLoop, dumps: StackDumps, *workers: Any) -> list[str]:
    found: list[Any] = []
    dump_soon(dumps, found, *workers)
    loop.until(lambda: found)
    return [text for _, text in found[0]]


def test_a_worker_that_is_interrupted_in_the_middle_is_awaited(
    loop: DrivenLoop, dumps: StackDumps
) -> None:
    worker = FakeWorker("", HEAD, HEAD, HEAD, HEAD, WHOLE)
    assert dump(loop, dumps, worker) == [WHOLE]


def test_one_that_never_finishes_is_taken_as_it_is(
    loop: DrivenLoop, dumps: StackDumps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "POLLS", 5)
    worker = FakeWorker(*[HEAD] * 100)
    assert dump(loop, dumps, worker, FakeWorker(WHOLE)) == [HEAD, WHOLE]


def test_dumps_come_one_after_the_other(loop: DrivenLoop, dumps: StackDumps) -> None:
    worker = FakeWorker("", WHOLE)
    done: list[Any] = []
    for _ in range(2):
        dump_soon(dumps, done, worker)
    assert worker.requests == 1
    loop.until(lambda: len(done) == 2)
    assert worker.requests == 2
