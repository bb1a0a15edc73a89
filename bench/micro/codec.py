"""Messages to bytes and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack

from bench.micro import Piece
from zactor.ids import PROCESS_ID_SIZE
from zactor.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE, DESTINATION = b"s" * PROCESS_ID_SIZE, b"d" * PROCESS_ID_SIZE


def calls(count: int, argument: bytes | None = None) -> list[object]:
    """Return a CALLS body of one group."""
    return [[0, 1, 1, 1, [3, argument] * count]]


def replies(count: int) -> list[object]:
    """Return a REPLIES body of one group."""
    flat: list[object] = []
    for seq in range(count):
        flat += (seq, 0, b"ok")
    return [[0, flat]]


def pieces() -> Iterator[Piece]:
    """Pack and unpack envelopes of 1 and of 64 calls."""
    for count in (1, 64):
        for name, body in (
            ("calls", calls(count)),
            ("calls with 40 B of arguments", calls(count, bytes(40))),
            ("replies", replies(count)),
        ):
            kind = codec.REPLIES if name == "replies" else codec.CALLS
            envelope = [codec.VERSION, kind, SOURCE, DESTINATION, 1, 0, body]
            packed = msgpack.packb(envelope)
            label = f"codec: %s an envelope of {count} {name}, per call"
            yield Piece(label % "pack", lambda e=envelope: codec.pack(e), count)
            yield Piece(label % "unpack", lambda p=packed: codec.unpack_envelope(p), count)
