"""Identities: what names a process, an actor, a caller, an object.

Ids are plain `bytes`, made by whoever creates the thing (so that creating it twice is the same
as once) and never used again. This module knows their sizes and how they are composed; it makes
none itself: random bytes come in from outside.

    process id  12 bytes, random           one run of one operating-system process
    node id     12 bytes, random           one run of one node
    actor id    12 bytes, random           one actor, through all its restarts
    job id       4 bytes                   one driver's session with a cluster
    caller id   16 bytes                   who calls: (12-byte id, 4-byte life)
    object id   28 bytes                   (caller id, 8-byte call number, 4-byte index)

A caller is logical: a driver's session, one life of an actor, or a worker that runs tasks.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESS_ID_SIZE = 12
CALLER_ID_SIZE = 16
OBJECT_ID_SIZE = 28

# The index of an object made by `put`, as opposed to the i-th return value of a call.
PUT_INDEX = 0xFFFFFFFF

_caller = Struct(">12sI")
_object = Struct(">16sQI")

pack_object_id = _object.pack
"""`(caller id, call number, index) -> object id`, bound here because `.remote()` runs it."""


class IdSource(Protocol):
    """Where new ids come from; injected, so that a simulation is repeatable."""

    def new_id(self) -> bytes:
        """Return 12 fresh bytes."""


def caller_id(identity: bytes, life: int) -> bytes:
    """Compose the caller id of one life of `identity`."""
    return _caller.pack(identity, life)


def split_caller_id(caller: bytes) -> tuple[bytes, int]:
    """Return `(identity, life)` of a caller id."""
    identity, life = _caller.unpack(caller)
    return identity, life


def split_object_id(object_id: bytes) -> tuple[bytes, int, int]:
    """Return `(caller id, call number, index)` of an object id."""
    caller, number, index = _object.unpack(object_id)
    return caller, number, index


def row_tag(actor: bytes) -> int:
    """Return what marks the rows of one actor in the progress page of a worker that hosts many.

    It stands above the 16 bits of the stream's number.
    """
    return int.from_bytes(actor[:6], "big") << 16


class _Id(bytes):
    """An id as users see it: bytes with a hexadecimal form.

    Attributes:
        size: How many bytes it has.
        draw: Where random bytes come from; set by who may ask the system for them.
    """

    __slots__ = ()

    size: ClassVar[int] = PROCESS_ID_SIZE
    draw: ClassVar[Callable[[int], bytes]]

    @classmethod
    def from_random(cls) -> _Id:
        """Return an id of nothing that exists, for tests."""
        return cls(_Id.draw(cls.size))

    @classmethod
    def nil(cls) -> _Id:
        """Return the id that names nothing."""
        return cls(cls.size)

    def binary(self) -> bytes:
        """Return the plain bytes."""
        return bytes(self)

    def is_nil(self) -> bool:
        """Whether it names nothing."""
        return not any(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    __str__ = __repr__

    @classmethod
    def from_hex(cls, text: str) -> _Id:
        """Return the id that `hex()` gave."""
        return cls(bytes.fromhex(text))


class ActorID(_Id):
    """The id of an actor."""


class NodeID(_Id):
    """The id of a node."""


class JobID(_Id):
    """The id of a job."""

    size = 4


class TaskID(_Id):
    """The id of a call or task: the first 24 bytes of its results' object ids."""

    size = 24


class WorkerID(_Id):
    """The id of a worker process."""


class ObjectID(_Id):
    """The id of an object."""

    size = OBJECT_ID_SIZE


class PlacementGroupID(_Id):
    """The id of a placement group."""


def draw_from(source: Callable[[int], bytes]) -> None:
    """Say where `from_random` takes its bytes from."""
    _Id.draw = staticmethod(source)
