"""ZMTP's framing: what is encoded is read back however it is cut up, and nonsense is refused."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zactor.transport.zmtp import (
    GREETING,
    MAPPED,
    READ,
    Decoder,
    ZmtpError,
    encode,
    header,
    opening,
)

FRAMES = st.lists(
    st.one_of(
        st.binary(max_size=300), st.sampled_from([b"x" * 255, b"y" * 256, b"z" * 70_000])
    ),
    min_size=1,
    max_size=4,
)
OPENING = opening(b"DEALER")


class Taken(list[Any]):
    """A decoder's messages, each as the list of its frames."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.decoder = Decoder(self.take, limit)

    def take(self, first: bytes, frames: Sequence[bytes]) -> None:
        self.append([first, *frames])

    def feed(self, data: bytes) -> None:
        """As a connection does that reads large frames to where they belong."""
        while data:
            target = self.decoder.target
            if target is None:
                self.decoder.feed(data[:READ])
                data = data[READ:]
            else:
                size = min(len(target), len(data))
                target[:size] = data[:size]
                self.decoder.filled(size)
                data = data[size:]


def message(*frames: bytes) -> bytes:
    first, *others = frames
    return b"".join(encode(first, others)) if others else header(len(first)) + first


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(1, 90_000), max_size=20))
def test_what_is_encoded_is_read_back_however_it_is_cut_up(
    messages: list[list[bytes]], cuts: list[int]
) -> None:
    data = OPENING + b"".join(message(*frames) for frames in messages)
    taken = Taken()
    at = 0
    for size in [*cuts, len(data)]:
        taken.feed(data[at : at + size])
        at += size
    assert list(taken) == messages


def test_byte_by_byte_is_as_good_as_at_once() -> None:
    taken = Taken()
    for byte in OPENING + message(b"one") + message(b"a", b"b" * 300, b""):
        taken.feed(bytes((byte,)))
    assert list(taken) == [[b"one"], [b"a", b"b" * 300, b""]]


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x00",
        b"GET / HTTP/1.1\r\n\r\n" + bytes(60),
        b"\xff" + bytes(8) + b"\x7f\x01\x05\0\0",
        GREETING[:12] + b"PLAIN".ljust(20, b"\0") + bytes(32),
        GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32),
        GREETING + message(b"before ready"),
        GREETING + b"\4\6\5ERROR",
        GREETING + b"\2" + (1 << 19).to_bytes(8, "big") + b"a large one before ready",
        OPENING + b"\x48\1x",
        OPENING + b"\2" + (1 << 30).to_bytes(8, "big") + b"x",
        OPENING + (b"\1\0" * 30_000),
    ],
    ids=[
        "zmtp 1",
        "http",
        "zmtp 2",
        "plain",
        "curve",
        "no ready",
        "error",
        "large, no ready",
        "flags",
        "a gigabyte",
        "frames without end",
    ],
)
def test_what_is_not_understood_or_too_much_is_refused(data: bytes) -> None:
    taken = Taken()
    with pytest.raises(ZmtpError):
        taken.feed(data)
    assert not taken


@pytest.mark.parametrize("size", [MAPPED - 1, MAPPED, 5 * MAPPED + 1])
def test_large_frames_are_read_back_as_bytes(size: int) -> None:
    frame = bytes(range(256)) * (size // 256) + bytes(size % 256)
    taken = Taken(limit=8 * MAPPED)
    for _ in range(2):
        taken.feed((b"" if taken else OPENING) + message(b"first", frame))
    assert list(taken) == [[b"first", frame]] * 2
    assert all(type(each) is bytes for frames in taken for each in frames)


def test_what_is_only_announced_takes_no_memory() -> None:
    before = memory()
    many = [Taken(limit=256 << 20) for _ in range(50)]
    for taken in many:
        taken.feed(OPENING + b"\2" + (200 << 20).to_bytes(8, "big") + b"the beginning")
    assert memory() - before < 32 << 20


def memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@settings(deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_garbage_raises_nothing_else(data: bytes, has_greeted: bool) -> None:
    taken = Taken(limit=100_000)
    try:
        taken.feed((OPENING if has_greeted else b"") + data)
    except ZmtpError:
        pass


def test_a_command_of_a_later_version_is_passed_over() -> None:
    taken = Taken()
    taken.feed(OPENING + b"\4\7\4PING\0\0" + message(b"x"))
    assert list(taken) == [[b"x"]]
