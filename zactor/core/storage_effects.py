"""What the account of a machine's store asks to be done, and what it counts.

`core.storage` makes these, `store.spill` does them. Each one that names a callback is answered by
exactly one call of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from zactor.named import NamedTuple

if TYPE_CHECKING:
    from zactor.wire.messages import FreeSegment, ReadSegment


class Reply(NamedTuple):
    """Answer the request of `peer`; `value` is an error as `[kind, text, fields]` unless `ok`."""

    peer: bytes
    address: Any
    request: int
    ok: bool
    value: Any


class ReplyFile(NamedTuple):
    """Answer the request of `peer` with the path of the file `home`, where its object is on disk."""

    peer: bytes
    address: Any
    request: int
    home: str


class Tell(NamedTuple):
    """Send `message` to a process of this machine: an object in one of its segments is freed."""

    peer: bytes
    address: Any
    message: FreeSegment


class Ask(NamedTuple):
    """Send `message` to another node; call `answered(token, ...)` with what comes."""

    token: int
    address: Any
    message: ReadSegment


class Watch(NamedTuple):
    """Call `process_lost` when this process, here or elsewhere, is dead; also if it is already."""

    process: bytes


class Take(NamedTuple):
    """Delete the segment if nobody uses it and it holds this object (b"": none); then `took`."""

    name: str
    object_id: bytes
    freed: bytes = b""  # or this one, which nobody holds any more


class Spill(NamedTuple):
    """Like `Take`, but write the object to the file `home` first; then `spilled`."""

    name: str
    object_id: bytes
    home: str


class Restore(NamedTuple):
    """Make the segment `name` from the file `home`; then `placed`."""

    name: str
    home: str


class WriteChunk(NamedTuple):
    """Write a piece of a pulled object, the first one to a new segment; then `chunk_written`."""

    name: str
    object_id: bytes
    offset: int
    size: int  # of the whole
    payload: bytes


class ReadChunk(NamedTuple):
    """Answer another node with `[size, bytes]` of an object: from the segment `name`, or else from the
    file `home`."""

    peer: bytes
    address: Any
    request: int
    name: str
    home: str
    offset: int
    length: int


class Inspect(NamedTuple):
    """See whether the segment of a dead process holds a whole value; then `inspected`."""

    name: str


class Remove(NamedTuple):
    """Delete the segment's file, whoever looks at it."""

    name: str


class Forget(NamedTuple):
    """Delete the file of a spilled object."""

    home: str


Effect: TypeAlias = (
    Reply
    | ReplyFile
    | Tell
    | Ask
    | Watch
    | Take
    | Spill
    | Restore
    | WriteChunk
    | ReadChunk
    | Inspect
    | Remove
    | Forget
)


class StorageStats(NamedTuple):
    """The store of one machine, for humans and `zactor status`."""

    capacity: int
    used: int
    warm: int
    filled: int
    spilled: int
    objects: int
    waiting: int
    taken: int
    spills: int
    restores: int
    pulls: int
    refused: int
