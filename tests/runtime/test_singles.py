"""Calls that go to an actor each: many streams' calls and replies in one flat group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.runtime.ends import End, until
from zactor.core.calls import Result
from zactor.exceptions import RemoteProtocolError
from zactor.wire import batches
from zactor.wire.codec import CALLS

ACTORS = [b"actor" + bytes([at]) * 7 for at in range(12)]


class Pair:
    """A caller, a callee that hosts twelve actors, and what came from one to the other."""

    def __init__(self, directory: Any, **options: Any) -> None:
        self.caller = End(directory, "caller")
        self.callee = End(directory, "callee", **options)
        for actor in ACTORS:
            self.callee.host(lambda payload: payload, actor=actor)
        self.streams = [self.caller.stream(self.callee.address, actor=each) for each in ACTORS]
        self.groups: list[Any] = []
        self.callee.post.on_kind(CALLS, self._received, batches.is_calls)
        self.caller.get([self.caller.call(self.streams[0], 0, b"hello")])
        self.peer: Any = self.caller.post.peers[self.callee.post.process_id]
        until(lambda: self.peer.was_welcome)
        self.groups.clear()

    def _received(self, peer: Any, body: Any, frames: Any) -> None:
        assert batches.is_calls(body)
        self.groups += body
        self.callee.callee.calls_received(peer, body, frames)

    def send(self, numbers: list[int]) -> list[Result]:
        """Have calls to the actors with these numbers leave together, in this order.

        At -1 another thread takes the number of a call that goes elsewhere.
        """
        caller = self.caller.caller
        results = []
        with caller.lock:
            outgoing = self.streams[0].outgoing
            for at, number in enumerate(numbers):
                if number < 0:
                    next(self.streams[0].numbers)
                    continue
                stream = self.streams[number]
                result = Result(stream, next(stream.numbers), 0, b"%d" % at, None, 0)
                outgoing.gathered.append(result)
                results.append(result)
            outgoing.flush()
        return results

    def close(self) -> None:
        self.caller.close()
        self.callee.close()


@pytest.fixture
def pair(tmp_path: Any) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def test_calls_to_an_actor_each_travel_in_one_group(pair: Pair) -> None:
    for _ in range(3):
        sent = pair.send(list(range(12)))
        assert pair.caller.get(sent) == [b"%d" % at for at in range(12)]
    assert [group[0] for group in pair.groups] == [None] * 3
    first, second = pair.groups[:2]
    assert [type(channel) for channel in first[2][::4]] == [int] + [list] * 11  # definitions
    assert second[2][::4] == list(range(12))
    assert all(stream.single is None and not stream.pending for stream in pair.streams)
    for stream in pair.streams:
        stream.check()


def test_a_stream_with_others_unsettled_keeps_its_order_among_them(pair: Pair) -> None:
    with pair.callee.callee.lock:  # nothing is replied to for now
        first = pair.send(list(range(12)))
        second = pair.send(list(range(12)))
        third = pair.send([0, 0, *range(12), 5, 5])
    assert pair.caller.get([*first, *second, *third]) == [
        *(b"%d" % at for at in range(12)),
        *(b"%d" % at for at in range(12)),
        *(b"%d" % at for at in range(16)),
    ]
    for host in pair.callee.hosts:
        assert [seq for seq, _ in host.ran] == sorted(seq for seq, _ in host.ran)
    for stream in pair.streams:
        stream.check()
        assert not stream.pending


def test_who_has_not_said_that_it_takes_them_is_sent_none(tmp_path: Any) -> None:
    pair = Pair(tmp_path, features={batches.SINGLES: False})
    try:
        sent = pair.send(list(range(12)))
        assert pair.caller.get(sent) == [b"%d" % at for at in range(12)]
        assert len(pair.groups) == 12
        assert all(group[0] is not None for group in pair.groups)
    finally:
        pair.close()


def test_a_group_ends_where_another_thread_took_a_number(pair: Pair) -> None:
    sent = pair.send([0, 1, 2, 3, 4, 5, -1, 6, 7, 8, 9, 10, 11])
    assert pair.caller.get(sent) == [b"%d" % at for at in range(13) if at != 6]
    first, second = pair.groups
    assert (first[0], second[0]) == (None, None)
    assert second[1] == first[1] + 7
    assert [result.number for result in sent[5:7]] == [first[1] + 5, second[1]]


def test_replies_of_what_was_never_called_are_refused_and_the_link_goes_on(pair: Pair) -> None:
    with pytest.raises(RemoteProtocolError):
        pair.caller.caller.replies_received(pair.peer, [[None, [99, 1, 0, 5]]], ())
    pair.caller.caller.replies_received(
        pair.peer, [[None, [0, 77, 0, 5]]], ()
    )  # settled long ago
    sent = pair.send(list(range(12)))
    assert len(pair.caller.get(sent)) == 12
