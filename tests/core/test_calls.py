"""Calls at their caller: one outcome each, and their order."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.core import calls
from zactor.core.calls import NATIVE, PENDING, Result, Stream, payload_size, spend_retry
from zactor.ids import split_object_id
from zactor.wire.batches import X_RETRY


class Listener:
    def __init__(self) -> None:
        self.heard: list[Result] = []

    def settled(self, result: Result) -> None:
        self.heard.append(result)


@pytest.fixture
def stream() -> Stream:
    return Stream(b"c" * 16, b"a" * 12, 0, count(1))


def call(stream: Stream, number: int = 0, payload: object = None) -> Result:
    return Result(stream, number or next(stream.numbers), 0, payload, "pin", 0)


def test_a_result_tells_each_who_waits_once(stream: Stream) -> None:
    result, first, second = call(stream), Listener(), Listener()
    result.add_waiter(first)
    result.add_waiter(second)

    result.settle(NATIVE, 5)

    assert first.heard == second.heard == [result]
    assert (result.state, result.value, result.pin, result.waiters) == (NATIVE, 5, None, None)
    late = Listener()
    result.add_waiter(late)
    assert late.heard == [result]


def test_a_waiter_that_gave_up_is_not_told(stream: Stream) -> None:
    result, gone = call(stream), Listener()
    result.remove_waiter(gone)
    result.add_waiter(gone)
    result.remove_waiter(gone)
    result.remove_waiter(gone)
    result.settle(NATIVE, 5)
    assert gone.heard == []


def test_a_waiter_that_comes_while_the_result_is_settled_is_told_once(stream: Stream) -> None:
    """Either by who settles or by itself: whoever takes it out of the list."""

    class Meddler(list):
        def append(self, waiter: Listener) -> None:
            super().append(waiter)
            result.state = NATIVE
            calls.tell(result)

    result, waiter = call(stream), Listener()
    result.waiters = Meddler()
    result.add_waiter(waiter)
    assert waiter.heard == [result]


def test_telling_ends_when_another_thread_took_the_last_waiter(stream: Stream) -> None:
    class Emptied(list):
        def __bool__(self) -> bool:
            return True

    result = call(stream)
    result.waiters = Emptied()
    calls.tell(result)
    assert result.waiters is None


def test_an_outcome_is_named_by_its_call_and_index(stream: Stream) -> None:
    result = call(stream, 17)
    result.index = 3
    assert split_object_id(result.object_id()) == (b"c" * 16, 17, 3)


def test_an_only_call_stands_for_itself_until_there_are_several(stream: Stream) -> None:
    assert not stream.pending
    assert stream.floor() == 1
    only = stream.single = call(stream)
    only.seq, stream.next_seq = 1, 2
    assert stream.pending == {1: only}
    assert stream.floor() == 1  # C3
    assert stream.unsettled() == 1
    stream.check()

    second = call(stream)
    stream.sent(2, second)
    stream.next_seq = 3
    assert stream.single is None
    assert list(stream.pending.items()) == [(1, only), (2, second)]
    stream.check()

    assert stream.take_pending() == [only, second]
    assert stream.floor() == 3
    stream.single = third = call(stream)
    third.seq = 3
    assert stream.take_pending() == [third]
    assert not stream.pending


def test_what_streams_without_calls_share_stays_empty(stream: Stream) -> None:
    with pytest.raises(TypeError):
        stream.pending[1] = call(stream)


def test_the_floor_is_the_lowest_call_not_settled(stream: Stream) -> None:
    assert stream.floor() == 1
    for seq in (1, 2, 3):
        stream.sent(seq, call(stream))
        stream.next_seq = seq + 1
    del stream.pending[2]
    assert stream.floor() == 1  # C3
    del stream.pending[1]
    assert stream.floor() == 3
    assert stream.unsettled() == 1
    stream.check()
    assert len(stream.take_pending()) == 1
    assert stream.floor() == 4
    assert stream.pending == {}


@given(st.permutations(range(1, 9)), st.integers(0, 8))
def test_what_is_put_back_comes_to_its_place(order: list[int], split: int) -> None:
    stream = Stream(b"c" * 16, b"a" * 12, 0, count(1))
    for number in order[:split]:
        stream.hold(call(stream, number))
    back = sorted(order[split:])
    if back:
        stream.put_back([call(stream, number) for number in back])
    assert [result.number for result in stream.held] == sorted(order)  # C4
    stream.check()


def test_what_is_put_back_before_all_others_stays_in_order(stream: Stream) -> None:
    stream.hold(call(stream, 5))
    stream.put_back([call(stream, 3), call(stream, 4)])
    assert [result.number for result in stream.held] == [3, 4, 5]


def test_the_size_of_arguments_counts_pickles_and_frames(stream: Stream) -> None:
    assert payload_size(call(stream)) == 0
    assert payload_size(call(stream, payload=b"12345")) == 5
    assert payload_size(call(stream, payload=[b"123", {}])) == 3
    assert payload_size(call(stream, payload=[None, {}])) == 0
    framed = call(stream, payload=[b"123", {1: 2}])
    framed.frames = [b"12345678", memoryview(b"90")]
    assert payload_size(framed) == 13


def test_a_stream_that_is_open_holds_nothing(stream: Stream) -> None:
    stream.is_open = True
    with pytest.raises(AssertionError):
        stream.check()
    stream.outgoing = object()
    stream.check()
    assert call(stream).state == PENDING


def test_a_waiter_that_fails_takes_no_other_with_it(stream: Stream) -> None:
    class Failing:
        def settled(self, result: Result) -> None:
            raise RuntimeError("its loop is closed")

    result, first, last = call(stream), Listener(), Listener()
    for waiter in (first, Failing(), last):
        result.add_waiter(waiter)
    with pytest.raises(RuntimeError):
        result.settle(NATIVE, 5)
    assert first.heard == last.heard == [result]


def test_errors_are_told_to_who_watches_for_any(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watcher:
        told = 0

        def error_settled(self) -> None:
            self.told += 1

    watcher = Watcher()
    monkeypatch.setattr(calls, "error_watchers", [watcher])
    call(stream).settle(NATIVE, 5)
    assert watcher.told == 0
    call(stream).settle(calls.ERROR, ValueError())
    assert watcher.told == 1


def test_retries_after_a_crash_and_in_place_are_of_one_number() -> None:
    result = Result(None, 1, 0, ["pickled", {X_RETRY: [2, True], 1: 2}], None, 2)
    first = result.payload
    spend_retry(result)
    assert result.retries == 1
    assert result.payload == ["pickled", {X_RETRY: [1, True], 1: 2}]
    assert first == ["pickled", {X_RETRY: [2, True], 1: 2}]  # other calls share it


def test_endless_retries_are_not_spent() -> None:
    result = Result(None, 1, 0, ["pickled", {X_RETRY: [-1, True]}], None, -1)
    spend_retry(result)
    assert result.retries == -1
    assert result.payload[1][X_RETRY] == [-1, True]
