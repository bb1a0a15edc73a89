"""Lineage: how stored values were made, for as long as anything may need to make them again.

A *record* stands for one call and all the stored values that came of it: the one value of a plain
task, several (`num_returns`), or the items of a stream. It lives while one of these values does, or the
record of a call that took one of them as an argument. Records are bounded by the bytes that they keep: the
oldest are *evicted*, which leaves of them only that they were there, as long as one of their values is.

Does not know what a call is (`spec` is opaque), does not run anything and takes no locks.

Invariants
    L1  A record is known while, and only while, one of its values or of its descendants' records is.
    L2  `bytes` is the sum of the sizes of the records that are not evicted, and within the bound
        but for one record.
    L3  An evicted record keeps no spec, and no ancestors.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from zactor.ids import PUT_INDEX
from zactor.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

CALL = 24  # bytes of an object id that name the call


class LineageStats(NamedTuple):
    """What there is, and what was given up."""

    records: int
    bytes: int
    evicted: int  # ever


class Record:
    """How one call was made.

    Attributes:
        call: The call id.
        spec: What is needed to make it again; None once evicted.
        size: Bytes that the record keeps.
        parents: For each stored argument, how to have it again: a record, or what only the caller
            understands.
        retries: How often it may still be made again; -1: always.
        live: Indices of its values that somebody holds.
        children: Records that name it among their parents.
    """

    __slots__ = ("call", "children", "live", "parents", "retries", "size", "spec")

    def __init__(
        self, call: bytes, spec: Any, size: int, parents: dict[bytes, Any], retries: int
    ) -> None:
        self.call = call
        self.spec = spec
        self.size = size
        self.parents = parents
        self.retries = retries
        self.live: set[int] = set()
        self.children = 0

    @property
    def is_evicted(self) -> bool:
        """Whether it was given up to bound memory."""
        return self.spec is None

    @property
    def is_needed(self) -> bool:
        """Whether a value of its, or a record that descends from it, is there."""
        return bool(self.live or self.children)


class Lineage:
    """The records of what one process owns. See the module."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._records: OrderedDict[bytes, Record] = OrderedDict()
        self._evicted: dict[bytes, Record] = {}
        self._bytes = 0
        self._evictions = 0

    def find(self, object_id: bytes) -> Record | None:
        """Return the record of the call that made an object."""
        call = object_id[:CALL]
        return self._records.get(call) or self._evicted.get(call)

    def note(self, object_id: bytes, make: Callable[[], Record | None]) -> None:
        """A value of a call was stored. `make` makes the call's record, if it can be made again."""
        record = self.find(object_id)
        if record is None:
            record = make()
            if record is None:
                return
            self._records[record.call] = record
            self._bytes += record.size
            for parent in _ancestors(record):
                parent.children += 1
        record.live.add(int.from_bytes(object_id[CALL:], "big"))
        while self._bytes > self.most_bytes and len(self._records) > 1:
            self._evict(next(iter(self._records.values())))

    def forget(self, object_id: bytes) -> None:
        """A value is freed; what was made from it may still need the record."""
        record = self.find(object_id)
        if record is not None:
            record.live.discard(int.from_bytes(object_id[CALL:], "big"))
            self._look(record)

    def reason(self, object_id: bytes) -> str:
        """Say why there is no way to make an object again that has no record, or an evicted one."""
        if object_id[CALL:] == PUT_INDEX.to_bytes(4, "big"):
            return "PUT"
        return "RETRIES_DISABLED" if self.find(object_id) is None else "LINEAGE_EVICTED"

    def _look(self, record: Record) -> None:
        """Drop a record that nobody needs, and those that only it needed."""
        unneeded = [] if record.is_needed else [record]
        while unneeded:
            gone = unneeded.pop()
            self._evicted.pop(gone.call, None)
            if self._records.pop(gone.call, None) is not None:
                self._bytes -= gone.size
            unneeded += self._let_go(gone)

    def _let_go(self, record: Record) -> list[Record]:
        """Have a record let its parents go; return those that nobody needs any more."""
        parents = _ancestors(record)
        record.parents = {}
        for parent in parents:
            parent.children -= 1
        return [parent for parent in parents if not parent.is_needed]

    def _evict(self, record: Record) -> None:
        del self._records[record.call]
        self._evicted[record.call] = record
        self._bytes -= record.size
        self._evictions += 1
        record.spec = None
        for parent in self._let_go(record):
            self._look(parent)

    def stats(self) -> LineageStats:
        """Return what there is."""
        records = len(self._records) + len(self._evicted)
        return LineageStats(records, self._bytes, self._evictions)

    def check(self) -> None:
        """Assert the invariants."""
        known = [*self._records.values(), *self._evicted.values()]
        assert all(record.is_needed for record in known)  # L1
        children = dict.fromkeys((record.call for record in known), 0)
        for record in known:
            for parent in _ancestors(record):
                children[parent.call] += 1
        assert all(record.children == children[record.call] for record in known)  # L1
        assert self._bytes == sum(record.size for record in self._records.values())  # L2
        assert self._bytes <= self.most_bytes or len(self._records) == 1  # L2
        assert not any(r.spec or r.parents for r in self._evicted.values())  # L3


def _ancestors(record: Record) -> list[Record]:
    """Return the records among a record's parents, each once."""
    found = {id(each): each for each in record.parents.values() if isinstance(each, Record)}
    return list(found.values())
