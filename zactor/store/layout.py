"""How a value lies in a segment: an index, the pickled payload, its out-of-band buffers.

    bytes 0-127   magic, object id, process id of the owner, bytes in use, payload length, count
                  of buffers; the rest zero
    from 128      (offset, length) of each buffer, 8 bytes each
    then          payload, buffers; each starts at a multiple of 64 bytes

A segment that holds no object has zeros for its object id. All numbers are little-endian. The
same bytes make up a spilled value's file and what nodes send each other.
"""

from __future__ import annotations

import struct

from zactor.named import NamedTuple

MAGIC = b"zactor\x00\x01"
HEADER_SIZE = 128
ALIGNMENT = 64
_HEADER = struct.Struct("<8s28s12sQQI")
_OBJECT_AT = 8
NO_OBJECT = bytes(28)


class Header(NamedTuple):
    """The start of a segment."""

    object_id: bytes
    owner: bytes
    size: int  # bytes in use, from the start of the file
    payload: int
    buffers: int


class Plan(NamedTuple):
    """Where the pieces of a value go."""

    head: bytes  # header and table
    payload_at: int
    buffers_at: list[int]
    size: int


def plan(object_id: bytes, owner: bytes, payload: int, buffers: list[int]) -> Plan:
    """Lay out a value whose payload and buffers have these lengths."""
    payload_at = _aligned(HEADER_SIZE + 16 * len(buffers))
    at = payload_at + payload
    table: list[int] = []
    offsets = []
    for length in buffers:
        at = _aligned(at)
        offsets.append(at)
        table += (at, length)
        at += length
    header = _HEADER.pack(MAGIC, object_id, owner, at, payload, len(buffers))
    head = header.ljust(HEADER_SIZE, b"\0") + struct.pack(f"<{len(table)}Q", *table)
    return Plan(head, payload_at, offsets, at)


def read_header(data: bytes) -> Header | None:
    """Parse the first bytes of a segment; None if it is not one."""
    if len(data) < _HEADER.size:
        return None
    magic, object_id, owner, size, payload, buffers = _HEADER.unpack_from(data)
    header = Header(object_id, owner, size, payload, buffers)
    fits = HEADER_SIZE + 16 * buffers + payload <= size
    return header if magic == MAGIC and fits else None


def clear_object() -> tuple[int, bytes]:
    """Offset and bytes that turn a segment into one without an object."""
    return _OBJECT_AT, NO_OBJECT


def pieces(header: Header, table: bytes) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """(offset, length) of the payload, and of each buffer.

    Raises:
        ValueError: The table points outside of the value.
    """
    numbers = struct.unpack(f"<{2 * header.buffers}Q", table)
    spans = list(zip(numbers[::2], numbers[1::2], strict=True))
    if any(offset + length > header.size for offset, length in spans):
        raise ValueError("a segment's table points outside of it")
    return (_aligned(HEADER_SIZE + 16 * header.buffers), header.payload), spans


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
