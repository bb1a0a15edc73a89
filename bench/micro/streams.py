"""The bookkeeping of links and streams, both sides."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from bench.micro import Piece
from zactor.core.calls import NATIVE, Result, Stream
from zactor.core.intake import Intake
from zactor.core.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLER, ACTOR = b"c" * 16, b"a" * 16
BATCH = 64


def _link() -> Piece:
    link = Link()
    seqs = count(1)

    def once() -> None:
        link.stamp((b"frame",), 1000)
        seq = next(seqs)
        link.arrived(seq, 1000)
        link.acknowledged(seq)

    return Piece("streams: link, a message kept, arrived and acknowledged", once)


def _intake() -> Piece:
    intake = Intake(CALLER, ACTOR, 1, 1)
    replies = [part for seq in range(BATCH) for part in (seq, NATIVE, None)]

    def once() -> None:
        first = intake.next_seq
        replies[::3] = range(first, first + BATCH)
        intake.take(first, BATCH)
        intake.keep([*replies])
        intake.settled_below(first + BATCH)

    return Piece("streams: intake, a batch of 64 taken and forgotten, per batch", once)


def _stream() -> Piece:
    numbers = count(1)
    stream = Stream(CALLER, ACTOR, 1, numbers)

    def once() -> None:
        pending = stream.expand()
        first = stream.next_seq
        for seq in range(first, first + BATCH):
            pending[seq] = Result(stream, next(numbers), 3, None, None, 0)
        stream.next_seq = first + BATCH
        stream.floor()
        for seq in range(first, first + BATCH):
            pending.pop(seq).settle(NATIVE, b"ok")

    return Piece("streams: caller, a result made, entered and settled", once, BATCH)


def pieces() -> Iterator[Piece]:
    """One piece each for link, intake and stream."""
    yield _link()
    yield _intake()
    yield _stream()
