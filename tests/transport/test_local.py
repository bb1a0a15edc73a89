"""Connections within the machine: with libzmq at the other end, with a peer that does not read, without descriptors."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from tests.transport.side import Side
from zactor.transport.limits import MAX_MESSAGE


@pytest.fixture
def path(tmp_path: Any) -> str:
    return f"{tmp_path}/inbox"


@pytest.fixture
def side() -> Iterator[Side]:
    made = Side()
    yield made
    made.close()


def test_messages_of_all_sizes_arrive_in_order(side: Side, path: str) -> None:
    listener = side.listen(path)
    made = side.connect(path)
    sent = []
    for size in (0, 1, 255, 256, 4_096, 4_097, 70_000, 3 << 20):
        for frames in ((), (b"f" * size,), (b"", b"g" * size)):
            sent.append([b"m" * size, *frames])
            with side.lock:
                assert made.send(b"m" * size, frames)
    side.until(lambda: len(side.heard) == len(sent))
    assert side.heard == sent
    made.close()
    side.until(lambda: not listener.connections)


def test_a_dealer_of_libzmq_is_heard(side: Side, path: str) -> None:
    listener = side.listen(path)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{path}")
        dealer.send_multipart([b"a", b"b" * 1_000, b"c" * 100_000])
        dealer.send(b"d")
        side.until(lambda: len(side.heard) == 2)
        (connection,) = listener.connections
        assert connection.send(b"back", (b"again",))
        assert dealer.poll(10_000)
        assert dealer.recv_multipart() == [b"back", b"again"]
    assert side.heard == [[b"a", b"b" * 1_000, b"c" * 100_000], [b"d"]]


@pytest.fixture
def other() -> Iterator[Side]:
    made = Side()
    yield made
    made.close()


def test_who_does_not_read_is_waited_for_without_blocking(
    side: Side, other: Side, path: str
) -> None:
    ours, theirs = side, other
    theirs.listen(path)
    made = ours.connect(path)
    started = time.monotonic()
    for k in range(2_000):
        assert made.send(k.to_bytes(4, "big") * 500, (b"x" * 8_000,))  # 20 MB in all
    assert time.monotonic() - started < 5
    assert made._unsent

    def both() -> bool:
        ours.turn()
        return len(theirs.heard) == 2_000

    theirs.until(both)
    assert [int.from_bytes(first[:4], "big") for first, _ in theirs.heard] == list(range(2_000))
    assert not made._unsent
    assert not made._is_blocked
    assert ours.turn() == 0  # nothing spins


def test_the_last_words_leave_before_the_connection_is_closed(
    side: Side, other: Side, path: str
) -> None:
    ours, theirs = side, other
    theirs.listen(path)
    made = ours.connect(path)
    made.send(b"x" * (8 << 20), ())
    reader = threading.Thread(target=theirs.until, args=(lambda: theirs.heard,))
    reader.start()
    made.close(linger=10)
    reader.join()
    assert len(theirs.heard[0][0]) == 8 << 20


def test_a_descriptor_above_a_thousand_is_as_good(side: Side, other: Side, path: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1_200:
        pytest.skip("fewer descriptors are allowed")
    taken = [os.dup(0) for _ in range(1_100)]
    try:
        other.listen(path)
        made = side.connect(path)
        assert made.fd > 1_024
        made.send(b"x" * (8 << 20), ())
        reader = threading.Thread(target=other.until, args=(lambda: other.heard,))
        reader.start()
        made.close(linger=10)
        reader.join()
    finally:
        for fd in taken:
            os.close(fd)


def test_the_end_of_the_other_side_is_told_once(side: Side, path: str) -> None:
    listener = side.listen(path)
    made = side.connect(path)
    made.send(b"x", ())
    side.until(lambda: side.heard)
    assert made.is_connected()
    listener.close()
    side.until(lambda: side.ended)
    assert not made.is_connected()
    assert not made.send(b"y", ())
    for _ in range(3):
        side.turn()
    assert side.ended == [""]
    made.close()
    assert made.fd == -1


def test_what_was_sent_before_the_end_is_heard(side: Side, path: str) -> None:
    side.listen(path)
    made = side.connect(path)
    for k in range(100):
        made.send(str(k).encode(), ())
    made.close()  # before anything was read, or even accepted
    side.until(lambda: len(side.heard) == 100)


def test_nobody_there_is_refused_with_the_path(side: Side, path: str) -> None:
    with pytest.raises(ConnectionRefusedError, match="nobody listens at .*inbox"):
        side.connect(path)


def test_a_path_that_is_too_long_is_told(side: Side, tmp_path: Any) -> None:
    with pytest.raises(OSError, match="cannot listen at .*too long"):
        side.listen(f"{tmp_path}/{'x' * 200}")


def test_a_dead_ones_socket_file_is_taken_over(side: Side, path: str) -> None:
    side.listen(path).close()
    assert os.path.exists(path)
    side.listen(path)
    side.connect(path).send(b"x", ())
    side.until(lambda: side.heard)


def test_a_stranger_is_cut_off_and_counted(side: Side, path: str) -> None:
    listener = side.listen(path)
    stranger = side.connect(path)
    stranger._socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    side.until(lambda: side.refused)
    assert not listener.connections
    stranger.close()
    large = side.connect(path)
    large.send(b"x", ())
    large._socket.sendall(b"\2" + (MAX_MESSAGE + 1).to_bytes(8, "big") + b"x" * 10)
    side.until(lambda: len(side.refused) == 2)
    assert "more than" in side.refused[1]
    large.close()


def test_without_descriptors_it_waits_and_goes_on(side: Side, path: str) -> None:
    listener = side.listen(path)
    clients = [side.connect(path) for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0) for _ in range(4)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
        side.turn()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert not listener.connections
    assert side.turn() == 0  # nothing spins meanwhile
    ((_, go_on),) = side.timers
    go_on()
    for client in clients:
        client.send(b"x", ())
    side.until(lambda: len(side.heard) == 3)
    for client in clients:
        client.close()
