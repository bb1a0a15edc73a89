"""What the account of a machine's store knows of an object, who asks for it, and what they may say.

Records only: `core.storage` says what happens to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from zactor.wire.messages import (
    FreeSegment,
    LocateSegment,
    ReadSegment,
    ReserveSegment,
    SegmentFilled,
)

if TYPE_CHECKING:
    from zactor.core.pulls import Pull


class StoredObject:
    """An object that is on this machine, or is being brought here."""

    __slots__ = (
        "address", "home", "is_copy", "is_moving", "is_spilled", "maker", "object_id", "owner",
        "segment", "size", "used_at", "waiters",
    )  # fmt: skip

    def __init__(
        self, object_id: bytes, owner: bytes, size: int, home: str, now: float
    ) -> None:
        self.object_id = object_id
        self.maker = b""  # process that made its home; b"" if that is elsewhere
        self.owner = owner  # b"" for copies: their owner is watched where they came from
        self.size = size
        self.home = home  # segment it was first written to, here or elsewhere; never changes
        self.segment: str | None = None  # where it is in memory here
        self.is_spilled = False  # and on disk
        self.is_moving = False  # a restore or a pull is under way, perhaps waiting for room
        self.is_copy = False  # another node has it
        self.address: Any = None  # of that node
        self.used_at = now
        self.waiters: list[Asker] = []  # who asked where it is


class Asker(NamedTuple):
    """A request that is to be answered once."""

    peer: bytes
    address: Any
    request: int


class Want(NamedTuple):
    """Room that is wanted, for one of three reasons."""

    size: int
    deadline: float
    asker: Asker | None = None  # a process that reserves,
    restore: StoredObject | None = None  # or what is to be brought from disk,
    pull: Pull | None = None  # or from another node


class Disk:
    """How many bytes are on disk, or set aside for what is on its way there; N3 of `core.storage`."""

    __slots__ = ("_is_full", "_is_over_limit", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit  # 0 for no spilling
        self.used = 0
        self._is_full = False  # it said so itself
        self._is_over_limit = (
            False  # something was left in memory that would be more than we may
        )

    def has(self, size: int) -> bool:
        """Say whether there is room; if not, that is remembered until `try_anew`."""
        if self._is_full:
            return False
        if self.used + size > self.limit:
            self._is_over_limit = self.limit > 0
            return False
        return True

    def take(self, size: int) -> None:
        """Set room aside."""
        self.used += size

    def give(self, size: int) -> None:
        """Something is not there, or not any more."""
        self.used -= size

    def is_full_now(self) -> None:
        """Something could not be written for want of room."""
        self._is_full = True

    def try_anew(self) -> None:
        """Forget what did not fit."""
        self._is_full = self._is_over_limit = False

    @property
    def is_full(self) -> bool:
        """Whether something did not fit lately."""
        return self._is_full or self._is_over_limit


_KINDS: dict[type, tuple[Any, ...]] = {
    ReserveSegment: (int, int),
    SegmentFilled: (str, bytes, int, bytes),
    FreeSegment: (str, bool, bytes),
    LocateSegment: (int, bytes, str, bytes, (list, tuple)),
    ReadSegment: (int, str, int, int),
}


def is_sane(message: Any) -> bool:
    """Whether the fields are of the right kinds, and no number is negative."""
    kinds = _KINDS.get(type(message))
    return kinds is not None and all(
        isinstance(field, kind) and (kind is not int or field >= 0)
        for field, kind in zip(message, kinds, strict=True)
    )


def lost(object_id: bytes) -> list[Any]:
    """Return the error that an object is not here."""
    text = "the value is not in the store of the machine that had it"
    return ["ObjectLostError", text, {"object_ref_hex": object_id.hex()}]
