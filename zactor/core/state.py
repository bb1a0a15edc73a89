"""Where the broker keeps what must outlive it: a small ordered map with revisions.

The interface is what etcd, SQLite and a dict can all give: get, range, a transaction on a
revision, watch from a revision, leases. Values are plain (None, bool, int, float, str, bytes,
list, dict) and must not be changed after they were handed over.

Does not decide anything, and knows no clock: leases end when `expire(now)` is called.

Invariants
    S1  `revision` rises with each transaction and never falls.
    S2  A transaction that names `after` is applied only if no other came in between, whole or
        not at all: a broker that was replaced cannot write.
    S3  What `watch` returns is every change since the revision named, in order, or an error.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from zactor.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class StaleError(Exception):
    """The transaction was refused: somebody else has written since."""


class CompactedError(Exception):
    """Changes since that revision are no longer known: read the range again."""


class Item(NamedTuple):
    """A value and the revision that wrote it."""

    value: Any
    revision: int


class Change(NamedTuple):
    """One write. `value` None deletes; with `lease` the key goes when the lease ends."""

    key: bytes
    value: Any
    lease: int = 0


class Event(NamedTuple):
    """A change that was made: `value` is None if the key was deleted."""

    key: bytes
    value: Any
    revision: int


class State(Protocol):
    """What the broker asks of its store. Implementations share one contract test."""

    @property
    def revision(self) -> int:
        """The revision of the last transaction; 0 if there was none."""

    def get(self, key: bytes) -> Item | None:
        """Return what is under `key`, or None."""

    def range(self, prefix: bytes) -> Iterator[tuple[bytes, Item]]:
        """Yield all keys that begin with `prefix`, in order."""

    def transact(
        self,
        changes: Sequence[Change],
        *,
        after: int | None = None,
        revision: int | None = None,
        expect: Mapping[bytes, int] | None = None,
    ) -> int:
        """Apply all `changes` under one new revision and return it.

        `after` must be the present revision, if given; `expect` names keys and the revision
        each must have (0: absent). `revision` asks for a number greater than the next one.

        Raises:
            StaleError: `after` or `expect` does not hold. Nothing was changed.
        """

    def watch(self, prefix: bytes, since: int) -> list[Event]:
        """Return the changes under `prefix` after revision `since`, oldest first.

        Raises:
            CompactedError: They are no longer all known.
        """

    def grant(self, seconds: float, now: float) -> int:
        """Return a new lease that ends at `now + seconds` unless renewed."""

    def renew(self, lease: int, seconds: float, now: float) -> bool:
        """Move the end of a lease; False if it has ended."""

    def expire(self, now: float) -> list[bytes]:
        """End the leases whose time has come, delete their keys and return those."""

    def close(self) -> None:
        """Let go of files. Nothing may be called afterwards."""


class MemoryState:
    """`State` in memory: for embedded clusters and tests. Watches reach `history` changes back."""

    def __init__(self, history: int = 1024) -> None:
        self._items: dict[
            bytes, Item
        ] = {}  # sorted when asked: writes are what there are many of
        self._events: deque[Event] = deque(maxlen=history)
        self._compacted = 0  # changes up to this revision may be missing from `_events`
        self._revision = 0
        self._leases: dict[int, float] = {}  # lease -> its end
        self._leased: dict[int, dict[bytes, None]] = {}  # lease -> keys that go with it
        self._lease_of: dict[bytes, int] = {}
        self._last_lease = 0

    @property
    def revision(self) -> int:
        """Return the revision of the last transaction."""
        return self._revision

    def get(self, key: bytes) -> Item | None:
        """Return what is under `key`."""
        return self._items.get(key)

    def range(self, prefix: bytes) -> Iterator[tuple[bytes, Item]]:
        """Yield what is under `prefix`, in order."""
        for key in sorted(key for key in self._items if key.startswith(prefix)):
            yield key, self._items[key]

    def transact(
        self,
        changes: Sequence[Change],
        *,
        after: int | None = None,
        revision: int | None = None,
        expect: Mapping[bytes, int] | None = None,
    ) -> int:
        """Apply all changes, or none."""
        if after is not None and after != self._revision:
            raise StaleError(f"revision is {self._revision}, not {after}")
        for key, wanted in (expect or {}).items():
            item = self._items.get(key)
            if (item.revision if item else 0) != wanted:
                raise StaleError(f"{key!r} is at {item.revision if item else 0}, not {wanted}")
        self._revision = max(self._revision + 1, revision or 0)
        for change in changes:
            self._apply(change)
        return self._revision

    def _apply(self, change: Change) -> None:
        key, value, lease = change
        old = self._lease_of.pop(key, 0)
        if old:
            self._leased[old].pop(key, None)
        if value is None:
            self._items.pop(key, None)
        else:
            self._items[key] = Item(value, self._revision)
            if lease:
                self._leased[lease][key] = None
                self._lease_of[key] = lease
        events = self._events
        if len(events) == events.maxlen:
            # `history` 0 is fine too: nothing is ever known.
            self._compacted = events[0].revision if events else self._revision
        events.append(Event(key, value, self._revision))

    def watch(self, prefix: bytes, since: int) -> list[Event]:
        """Return the changes since a revision."""
        if since < self._compacted:
            raise CompactedError(f"known from revision {self._compacted} on, not from {since}")
        return [e for e in self._events if e.revision > since and e.key.startswith(prefix)]

    def grant(self, seconds: float, now: float) -> int:
        """Return a new lease."""
        self._last_lease += 1
        self._leases[self._last_lease] = now + seconds
        self._leased[self._last_lease] = {}
        return self._last_lease

    def renew(self, lease: int, seconds: float, now: float) -> bool:
        """Move the end of a lease."""
        if lease not in self._leases:
            return False
        self._leases[lease] = now + seconds
        return True

    def expire(self, now: float) -> list[bytes]:
        """End leases, with their keys."""
        gone = [lease for lease, end in self._leases.items() if end <= now]
        keys = [key for lease in gone for key in self._leased[lease]]
        if keys:
            self.transact([Change(key, None) for key in keys])
        for lease in gone:
            del self._leases[lease], self._leased[lease]
        return keys

    def close(self) -> None:
        """Nothing to let go of."""


class ForgetfulState(MemoryState):
    """For a broker that is never started again on its state: actors are not written to it."""

    forgets = True
