"""Arguments on their way out, without a cluster: what holds an object, and for how long."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pickle import PickleBuffer
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from zactor.core.calls import ERROR, NATIVE, PENDING, PICKLED, STORED, USER_ERROR, Result
from zactor.runtime import current as processes
from zactor.runtime.calls.arguments import (
    SMALL,
    are_here,
    complete,
    encode,
    wait_for_arguments,
    with_known_values,
)
from zactor.runtime.calls.refs import ObjectRef
from zactor.runtime.objects.objects import Objects, Put
from zactor.wire.batches import X_FRAMES, X_SLOTS, X_STORED
from zactor.wire.messages import Address

ME = b"p" * 12
PLACE = ["zactor-test-1", 200_000, b"n", [b"n" * 12, b"", b"", "", ""]]


class Store:
    """Takes every value, and notes what is freed."""

    writes = True

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.freed: list[bytes] = []

    def write(self, object_id: bytes, owner: bytes, payload: Any, buffers: Any) -> Any:
        assert owner == ME
        self.written.append(object_id)
        return PLACE

    def object_freed(self, object_id: bytes, place: Any) -> None:
        assert place == PLACE
        self.freed.append(object_id)


@pytest.fixture
def process() -> Iterator[Any]:
    def ignore(*args: Any) -> None:
        pass

    address = Address(ME, b"n", b"m", "ipc://x", "")
    post = SimpleNamespace(on_kind=ignore, on=ignore, address=address, peers={})
    made = SimpleNamespace(
        id=ME, post=post, caller=SimpleNamespace(),
        reception=SimpleNamespace(housekeeping=[], gathered=ignore, wake_leader=ignore),
        identity=SimpleNamespace(caller=ME + bytes(4), numbers=iter(range(100, 200))),
    )  # fmt: skip
    made.pid = os.getpid()
    made.objects = Objects(made)
    made.objects.store = Store()
    processes.set_current(made)
    yield made
    processes.set_current(None)


def stored(process: Any, number: int) -> ObjectRef[Any]:
    put = Put(ME + bytes(4), number, STORED, PLACE)
    process.objects.watch_end(put)
    return ObjectRef(put)


def call(number: int) -> Result:
    return Result(SimpleNamespace(caller=ME + bytes(4)), number, 0, None, None, 0)


def test_a_stored_value_that_was_an_argument_lives_while_its_reference_does(
    process: Any,
) -> None:
    ref = stored(process, 1)
    for number in (2, 3):
        made = call(number)
        awaited = encode(process, made, (ref,), {}, None, "f")
        assert awaited == [ref._result]
        assert complete(process, made)
        assert made.payload[1][X_SLOTS] == [[0, 4, PLACE, ref.binary()]]
        made.settle(NATIVE, None)
        process.objects.sweep()
        assert process.objects.store.freed == []
    name = ref.binary()
    del ref, awaited
    process.objects.sweep()
    assert process.objects.store.freed == [name]


def test_a_call_holds_its_stored_argument_though_the_reference_is_dropped(process: Any) -> None:
    ref = stored(process, 1)
    made = call(2)
    encode(process, made, (ref,), {}, None, "f")
    complete(process, made)
    name = ref.binary()
    del ref
    process.objects.sweep()
    assert process.objects.store.freed == []
    made.settle(NATIVE, None)
    process.objects.sweep()
    assert process.objects.store.freed == [name]


def test_large_arguments_are_stored_until_the_call_is_settled(process: Any) -> None:
    store = process.objects.store
    made = call(2)
    assert encode(process, made, (PickleBuffer(bytes(300_000)),), {"a": 1}, None, "f") == []
    assert complete(process, made)
    payload, extras = made.payload
    assert payload is None
    assert made.frames is None
    assert extras == {X_STORED: [PLACE, store.written[0]]}
    process.objects.sweep()
    assert store.freed == []
    made.settle(NATIVE, None)
    process.objects.sweep()
    assert store.freed == store.written


def test_small_buffers_and_constructors_arguments_travel_with_the_call(process: Any) -> None:
    for size, stores in ((80_000, True), (300_000, False)):
        made = call(2)
        encode(process, made, (PickleBuffer(bytes(size)),), {}, None, "f", stores=stores)
        assert made.payload[1] == {X_FRAMES: 1}
        assert len(made.frames[0]) == size
    assert process.objects.store.written == []


def test_a_call_is_not_to_be_released_before_its_arguments_are_in_it() -> None:
    class Objects:
        def want(self, result: Result) -> None:
            """They are this process's own."""

    class Process:
        objects = Objects()
        awaiting: ClassVar[dict[Result, None]] = {}

    first, second = (Result(None, n, 0, None, None, 0) for n in (1, 2))
    call = Result(None, 3, 0, None, None, 0)
    seen: list[int] = []

    wait_for_arguments(
        Process(), call, [first, second], lambda result: seen.append(result.waiting)
    )
    first.settle(NATIVE, 1)
    assert not seen
    second.settle(NATIVE, 2)

    assert seen == [1]  # still waiting, while `ready` completes it


@pytest.mark.parametrize("value", [None, True, 7, 1.5, b"bytes", "text", "x" * SMALL], ids=repr)
def test_a_small_known_value_takes_its_references_place(process: Any, value: Any) -> None:
    ref: Any = ObjectRef(Put(ME + bytes(4), 1, NATIVE, value))
    assert with_known_values((1, ref)) == (1, value)
    made, plain = call(2), call(3)
    assert encode(process, made, (ref,), {"named": ref}, None, "f") == []
    encode(process, plain, (value,), {"named": value}, None, "f")
    assert made.payload == plain.payload


@pytest.mark.parametrize(
    ("state", "value"),
    [(PENDING, None), (NATIVE, "x" * (SMALL + 1)), (PICKLED, b"pickle"), (STORED, PLACE)],
    ids=["pending", "large", "pickled", "stored"],
)
def test_other_values_keep_a_slot_of_their_own(process: Any, state: int, value: Any) -> None:
    ref: Any = ObjectRef(Put(ME + bytes(4), 1, state, value))
    known: Any = ObjectRef(Put(ME + bytes(4), 1, NATIVE, 5))
    assert with_known_values((known, ref)) is None
    made = call(2)
    assert encode(process, made, (known, ref), {"named": ref}, None, "f") == [ref._result] * 2
    assert made.payload[1][X_SLOTS] == [1, "named"]
    assert are_here([ref._result]) == (state != PENDING)


def test_a_failed_argument_is_not_here(process: Any) -> None:
    assert not are_here([Put(b"", 1, NATIVE, 1), Put(b"", 2, ERROR, ValueError())])
    assert not are_here([Put(b"", 2, USER_ERROR, b"")])


def test_a_call_without_references_or_options_is_complete_as_it_is(process: Any) -> None:
    made = call(2)
    encode(process, made, (1,), {}, None, "f")
    assert complete(process, made)
    assert type(made.payload) is bytes
