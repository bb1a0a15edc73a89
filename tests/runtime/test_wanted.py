"""Values of borrowed objects: what is asked of one owner, and answered, travels together."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from zactor.core.calls import ERROR, NATIVE, PENDING, PICKLED, Result
from zactor.exceptions import ObjectLostError
from zactor.runtime.objects.objects import Borrowed, Put
from zactor.runtime.objects.wanted import MOST_ASKED, STATUS_OF, Wanted
from zactor.wire.codec import OBJECT_VALUE, OBJECT_WANTED, pack, unpackb
from zactor.wire.messages import Address


class Process:
    """A process as far as wanted values go; what it sends is handled at the other at `deliver`."""

    def __init__(self, name: bytes) -> None:
        self.post = self
        self.id = name
        self.address = Address(name, b"", b"", "", "")
        self.lock = contextlib.nullcontext()
        self.other: Any = None
        self.handlers: dict[int, Any] = {}
        self.sent: list[tuple[int, bytes, Any]] = []
        self.shared: dict[bytes, Result] = {}
        self.borrowed: dict[bytes, Borrowed] = {}
        self.told: list[Any] = []
        self.wanted = Wanted(self, self)

    def on_kind(self, kind: int, handler: Any, check: Any = None) -> None:
        self.handlers[kind] = handler

    def peer(self, address: Address) -> Any:
        assert address.process == self.other.id
        return SimpleNamespace(id=address.process, lock=self.lock, transmit=self.transmit)

    def transmit(self, kind: int, body: Any, frames: Any = ()) -> None:
        self.sent.append((kind, pack(body), frames))

    def deliver(self) -> int:
        """Hand on what was sent; return how many messages that were."""
        sent, self.sent = self.sent, []
        for kind, body, frames in sent:
            self.other.handlers[kind](self.other.peer(self.address), unpackb(body), frames)
        return len(sent)

    # -- what `Objects` does ---------------------------------------------------------------------

    def watch(self, process: bytes) -> None:
        self.told.append(("watch", process))

    def want(self, result: Result) -> None:
        self.told.append(("want", result))

    def found(self, object_id: bytes, lost: Any) -> Result:
        if object_id not in self.shared:
            raise ObjectLostError(f"object {object_id.hex()} is gone")
        return self.shared[object_id]

    def wire_value(self, result: Result) -> Any:
        frames: Any = ()
        value = result.value
        if type(value) is tuple:
            value, frames = value
        rows = [[each, []] for each, _ in result.inner] if result.inner else None
        return STATUS_OF[result.state], value, rows, frames

    def awaited(self, object_id: bytes) -> Borrowed | None:
        return self.borrowed.get(object_id)

    def value_leaves(self, call: bytes, peer: bytes, refs: Any) -> None:
        self.told.append(("leaves", call))

    def value_arrives(self, reply: bytes, peer: bytes, result: Any, rows: Any) -> None:
        self.told.append(("arrives", reply))

    def learn(self, rows: Any) -> Any:
        return [(row[0], b"") for row in rows]

    def keep_inner(self, object_id: bytes, inner: Any) -> None:
        self.told.append(("keeps", object_id))

    # -- for tests -------------------------------------------------------------------------------

    def has(self, object_id: bytes, state: int = NATIVE, value: Any = None) -> Result:
        made = self.shared[object_id] = Put(b"", 0, state, value)
        return made

    def borrows(self, object_id: bytes) -> Borrowed:
        made = self.borrowed[object_id] = Borrowed(object_id, self.other.address)
        return made


@pytest.fixture
def ends() -> tuple[Process, Process]:
    owner, borrower = Process(b"owner"), Process(b"borrower")
    owner.other, borrower.other = borrower, owner
    return owner, borrower


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_many_values_of_one_owner_take_a_few_messages_each_way(ends: Any) -> None:
    owner, borrower = ends
    count = 3 * MOST_ASKED
    for number in range(count):
        owner.has(name(number), value=number)
    results = [borrower.borrows(name(number)) for number in range(count)]
    borrower.wanted.ask_all(results)
    borrower.wanted.ask_all(results)  # nobody asks twice
    assert borrower.deliver() == 3
    assert owner.deliver() <= 4
    assert [result.value for result in results] == list(range(count))
    assert set(borrower.told) == {("watch", b"owner")}


def test_gathered_values_leave_in_messages_of_bounded_size(ends: Any) -> None:
    owner, borrower = ends
    for number in range(100):
        owner.has(name(number), PICKLED, bytes([number]) * 20_000)
    results = [borrower.borrows(name(number)) for number in range(100)]
    borrower.wanted.ask_all(results)
    borrower.deliver()
    assert max(len(body) for _, body, _ in owner.sent) < 100_000
    owner.deliver()
    assert [result.value for result in results] == [bytes([n]) * 20_000 for n in range(100)]


def test_each_has_its_own_outcome_at_its_own_time(ends: Any) -> None:
    owner, borrower = ends
    owner.has(b"there", value=1)
    late = owner.has(b"late", PENDING)
    results = {what: borrower.borrows(what) for what in (b"late", b"gone", b"there")}
    borrower.wanted.ask_all(results.values())
    borrower.deliver()
    owner.deliver()
    assert results[b"there"].value == 1
    assert results[b"gone"].state == ERROR
    assert isinstance(results[b"gone"].value, ObjectLostError)
    assert results[b"late"].state == PENDING
    assert ("want", late) in owner.told  # whoever has it is asked in turn
    late.settle(NATIVE, 2)
    owner.deliver()
    assert results[b"late"].value == 2


def test_values_with_frames_or_references_travel_alone(ends: Any) -> None:
    owner, borrower = ends
    owner.has(b"frames", PICKLED, (b"pickle", [b"frame"]))
    owner.has(b"refs", PICKLED, b"pickle").inner = [(b"inner", b"x")]
    owner.has(b"plain", value=3)
    results = [borrower.borrows(what) for what in (b"frames", b"refs", b"plain")]
    borrower.wanted.ask_all(results)
    borrower.deliver()
    assert [(kind, list(frames)) for kind, _, frames in owner.sent] == [
        (OBJECT_VALUE, [b"frame"]),
        (OBJECT_VALUE, []),
        (OBJECT_VALUE, []),
    ]
    owner.deliver()
    assert [result.value for result in results] == [(b"pickle", [b"frame"]), b"pickle", 3]
    assert owner.told == [
        ("want", owner.shared[b"frames"]),
        ("want", owner.shared[b"refs"]),
        ("leaves", b"refs"),
    ]
    assert ("arrives", b"refs") in borrower.told
    assert ("keeps", b"refs") in borrower.told


def test_an_answer_that_nobody_waits_for_is_dropped_and_the_others_are_taken(ends: Any) -> None:
    owner, borrower = ends
    for what in (b"dropped", b"kept"):
        owner.has(what, value=4)
    results = [borrower.borrows(what) for what in (b"dropped", b"kept")]
    borrower.wanted.ask_all(results)
    del borrower.borrowed[b"dropped"]
    borrower.deliver()
    owner.deliver()
    assert [result.state for result in results] == [PENDING, NATIVE]


def test_threads_that_want_the_same_get_it(ends: Any) -> None:
    owner, borrower = ends
    for number in range(200):
        owner.has(name(number), value=number)
    results = [borrower.borrows(name(number)) for number in range(200)]
    threads = [
        threading.Thread(target=borrower.wanted.ask_all, args=(results,)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(kind == OBJECT_WANTED for kind, _, _ in borrower.sent)
    borrower.deliver()
    owner.deliver()
    assert [result.value for result in results] == list(range(200))
