"""Sockets for tcp: what has arrived is told of, whatever else the socket was used for meanwhile."""

from __future__ import annotations

import errno
import select
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from tests.runtime.ends import until
from zactor.transport import network
from zactor.transport.context import close_context, context
from zactor.transport.curve import AllowList, Keys, make_keys
from zactor.transport.network import LARGE, ReceivingSocket, SendingSocket


class Ends:
    """An inbox, and a connection to it whose name there is `route`."""

    def __init__(self, keys: Keys) -> None:
        self.allowed = AllowList(context(), {keys.client_public})
        self.inbox = ReceivingSocket()
        self.endpoint = self.inbox.bind_tcp("127.0.0.1", keys)
        self.outbox = SendingSocket(self.endpoint, keys)
        assert self.outbox.send(b"hello", ())
        self.route, first, _ = until(self.inbox.receive)
        assert first == b"hello"
        assert self.inbox.receive() is None  # from here on its descriptor tells

    def close(self) -> None:
        self.outbox.close(linger=0)
        self.inbox.close()
        self.allowed.close()
        close_context()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends(make_keys())
    yield made
    made.close()


def is_readable(fd: int, seconds: float = 10.0) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def drained(receive: Callable[[], Any]) -> list[Any]:
    found = []
    while (arrived := receive()) is not None:
        found.append(arrived)
    return found


def test_what_has_arrived_is_told_though_the_inbox_was_sent_over_since(ends: Ends) -> None:
    told: list[int] = []
    ends.inbox.on_arrival = lambda: told.append(1)
    assert ends.inbox.send(ends.route, (b"nothing here yet",))
    assert not told
    ends.outbox.send(b"one", ())
    assert is_readable(ends.inbox.fd)
    threading.Event().wait(0.02)  # who sends without a pause does not look at what has come
    assert ends.inbox.send(ends.route, (b"answer",))
    assert told or is_readable(ends.inbox.fd, 0)
    assert not ends.inbox.send(b"nobody", (b"answer",))
    assert told or is_readable(ends.inbox.fd, 0)
    assert [first for _, first, _ in drained(ends.inbox.receive)] == [b"one"]


def test_what_has_come_back_is_told_though_the_connection_was_used_since(ends: Ends) -> None:
    told: list[int] = []
    ends.outbox.on_arrival = lambda: told.append(1)
    assert ends.outbox.receive() is None
    uses: list[Callable[[], bool]] = [
        ends.outbox.is_connected,
        lambda: ends.outbox.send(b"more", ()),
    ]
    for use in uses:
        told.clear()
        ends.inbox.send(ends.route, (b"answer",))
        assert is_readable(ends.outbox.fd)
        assert use()
        assert told or is_readable(ends.outbox.fd, 0)
        assert drained(ends.outbox.receive) == [(b"answer", [])]


def test_an_inbox_that_is_closed_sends_nothing(ends: Ends) -> None:
    ends.inbox.close()
    assert not ends.inbox.send(ends.route, (b"late",))


def test_frames_of_any_size_arrive_as_they_were_sent(ends: Ends) -> None:
    sizes = [0, 1, 65_536, LARGE - 1, LARGE, 3 * LARGE]
    frames = [bytes([at]) * size for at, size in enumerate(sizes)]
    for sent in (frames, frames[::-1], frames[-1:]):
        ends.outbox.send(b"first", sent)
        _, first, arrived = until(ends.inbox.receive)
        assert (first, arrived) == (b"first", sent)
        assert all(memoryview(frame).readonly for frame in arrived)
        assert all(type(frame) is bytes for frame in arrived if len(frame) < LARGE)


def test_a_large_frame_is_not_copied_and_let_go_when_it_has_left(ends: Ends) -> None:
    frame = b"x" * LARGE
    free = sys.getrefcount(frame)
    ends.outbox.send(b"first", [frame])
    _, _, arrived = until(ends.inbox.receive)
    until(lambda: sys.getrefcount(frame) == free)
    copy = arrived[0]
    del arrived
    ends.outbox.send(b"first", [b"y" * LARGE])
    until(ends.inbox.receive)
    assert copy == frame  # what was received stays, whoever else is gone


def test_what_the_sender_may_still_change_is_copied(ends: Ends) -> None:
    changing = bytearray(b"x" * LARGE)
    ends.outbox.send(b"first", [changing])  # type: ignore[list-item]
    changing[:] = b"y" * LARGE
    _, _, arrived = until(ends.inbox.receive)
    assert arrived == [b"x" * LARGE]


def test_a_connection_for_which_there_is_no_socket_left_is_an_error_of_the_system(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    small: zmq.Context[Any] = zmq.Context()
    small.set(zmq.MAX_SOCKETS, 1)
    taken = small.socket(zmq.DEALER)
    monkeypatch.setattr(network, "context", lambda: small)
    with pytest.raises(OSError, match="tcp://127.0.0.1") as caught:
        SendingSocket(ends.endpoint, None)
    assert caught.value.errno == errno.EMFILE
    taken.close(0)
    small.term()
