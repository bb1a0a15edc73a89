"""The machine's store on the node's loop: requests are answered, deaths are told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.driven_loop import DrivenLoop
from zactor.runtime.links.post import Post
from zactor.runtime.nodes.node_store import NodeStore
from zactor.runtime.nodes.storage import StorageShell
from zactor.wire.messages import LocateSegment, ReserveSegment, SegmentFilled, WatchProcess

OWNER = b"owner" + bytes(7)


class Stored:
    """A store whose node, clients and broker are this process."""

    def __init__(self, tmp_path: Path) -> None:
        self.shm = tmp_path / "shm"
        self.shm.mkdir()
        os.mkdir(tmp_path / "s", 0o700)
        self.loop = DrivenLoop()
        self.post = Post(b"process-node", str(tmp_path / "s"), node=b"n" * 12, machine=b"m")
        self.loop.drive(self.post)
        self.here = {OWNER}
        self.asked: list[bytes] = []
        self.dead: list[Any] | None = None
        self.post.on(WatchProcess, self._watch)
        shell = StorageShell(
            b"n" * 12, b"process-node", "zactor-x-", capacity=1 << 20, shm=str(self.shm),
            spill_dir=str(tmp_path / "spill"), patience=0.1,
        )  # fmt: skip
        self.store = NodeStore(
            self.loop, self.post, shell, is_here=self.here.__contains__,
            broker=lambda: self.post.address,
        )  # fmt: skip

    def _watch(self, peer: bytes, address: Any, message: WatchProcess) -> None:
        self.asked.append(message.process)
        self.post.answer(address, message.request, self.dead)

    def ask(self, message: Any) -> Any:
        future = self.post.request(self.post.address, message)
        self.loop.until(future.done)
        return future.result()

    def close(self) -> None:
        self.store.close()
        self.post.close(0)
        self.loop.close()


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    found = Stored(tmp_path)
    yield found
    found.close()


def test_room_is_given_and_refused_when_there_is_none(stored: Stored) -> None:
    assert stored.ask(ReserveSegment(0, 600_000)).startswith("zactor-x-")
    with pytest.raises(Exception, match="store"):
        stored.ask(ReserveSegment(0, 600_000))
    assert stored.store.load()


def test_what_is_nowhere_is_lost(stored: Stored) -> None:
    with pytest.raises(Exception, match=r"lost|not"):
        stored.ask(
            LocateSegment(0, b"o" * 28, "zactor-x-gone", b"n" * 12, list(stored.post.address))
        )


def test_a_dead_process_gives_its_room_back(stored: Stored) -> None:
    stored.ask(ReserveSegment(0, 600_000))
    stored.store.process_died(b"process-node")
    assert stored.ask(ReserveSegment(0, 600_000))


def test_the_broker_is_asked_about_owners_elsewhere(stored: Stored) -> None:
    stranger = b"stranger" + bytes(4)
    for owner in (OWNER, stranger):
        name = stored.ask(ReserveSegment(0, 1000))
        filled = SegmentFilled(name, b"o" * 16 + owner, 900, owner)
        stored.post.send(stored.post.address, filled)
    stored.loop.until(lambda: stored.asked)
    assert stored.asked == [stranger]
