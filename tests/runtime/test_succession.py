"""Handing over to a process that has taken another's place: nothing is forgotten or asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.runtime.ends import End, until
from zactor.runtime.links.succession import hand_over
from zactor.wire.messages import Address, FindActor, NodeUp, ReleaseActor, UnwatchActor


class Heard:
    """A broker, as far as this test knows: it notes what it hears, and answers if it is to."""

    def __init__(self, end: End, *, answers: bool) -> None:
        self.messages: list[Any] = []
        self._end = end
        self._answers = answers
        for kind in (FindActor, ReleaseActor, UnwatchActor, NodeUp):
            end.post.on(kind, self._take)

    def _take(self, peer: bytes, address: Address, message: Any) -> None:
        self.messages.append(message)
        if self._answers and hasattr(message, "request"):
            self._end.post.answer(address, message.request, "found")


@pytest.fixture
def ends(tmp_path: Any) -> Iterator[list[End]]:
    made = [End(tmp_path, name) for name in ("client", "old", "new")]
    yield made
    for end in reversed(made[1:]):
        end.reception.stop()
        for peer in list(end.post.peers.values()):
            peer.close()
        end.post.inbox.close()
    made[0].close()


def test_what_was_not_acknowledged_or_answered_goes_to_the_successor(ends: list[End]) -> None:
    client, old, new = ends
    before, after = Heard(old, answers=False), Heard(new, answers=True)
    asked = client.post.request(old.address, FindActor(0, "a", "n"))
    until(lambda: before.messages)
    old.reception.stop()  # it is killed: what comes now, it never takes
    told = [ReleaseActor(bytes([number]) * 12) for number in range(5)]
    for message in told:
        client.post.send(old.address, message)
    also = client.post.request(old.address, FindActor(0, "b", "n"))
    hand_over(client.post, old.address.process, new.address)
    assert asked.result(10) == also.result(10) == "found"
    later = UnwatchActor(b"z" * 12)
    client.post.send(old.address, later)  # somebody has not heard of it yet
    until(lambda: later in after.messages)
    ones = [message for message in after.messages if isinstance(message, ReleaseActor)]
    assert ones == told
    names = sorted(m.name for m in after.messages if isinstance(m, FindActor))
    assert names == ["a", "b"]  # each once


def test_how_a_node_stood_is_not_repeated(ends: list[End]) -> None:
    client, old, new = ends
    after = Heard(new, answers=True)
    old.reception.stop()
    stale = client.post.request(old.address, NodeUp(0, {}, []))
    client.post.send(old.address, ReleaseActor(b"a" * 12))
    hand_over(client.post, old.address.process, new.address)
    until(lambda: after.messages)
    assert not any(isinstance(message, NodeUp) for message in after.messages)
    assert not stale.done()
