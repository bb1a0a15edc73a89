"""`core.state.State` on SQLite: the store of a broker daemon.

One file in WAL mode. A transaction is on disk when `transact` returns (`synchronous=FULL`), or
safe from a killed process but not from a power cut (`NORMAL`, the default: 69,000 small
commits/s here instead of 5,400). The broker commits once per turn of its loop, not per message.

Does not share the file: a second broker on it is refused its writes by S2, not by locks alone.
Used from one thread.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgpack

from zactor.core.state import Change, CompactedError, Event, Item, StaleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, lease INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_lease ON items (lease) WHERE lease > 0;
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB, revision INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS events_revision ON events (revision);
CREATE TABLE IF NOT EXISTS leases (lease INTEGER PRIMARY KEY AUTOINCREMENT, ends REAL NOT NULL);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('revision', 0), ('compacted', 0), ('format', 1);
"""


class SqliteState:
    """A `State` in the file at `path`, made if it is not there.

    Raises:
        sqlite3.DatabaseError: The file is something else, or broken.
    """

    def __init__(
        self, path: str | Path, *, is_synced: bool = False, history: int = 1024
    ) -> None:
        self._history = history
        self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {'FULL' if is_synced else 'NORMAL'}")
        self._db.executescript(_SCHEMA)
        format_ = self._meta("format")
        if format_ != 1:
            self._db.close()
            raise sqlite3.DatabaseError(f"{path} has format {format_}; this zactor reads 1")

    @property
    def revision(self) -> int:
        """Return the revision of the last transaction."""
        return self._meta("revision")

    def get(self, key: bytes) -> Item | None:
        """Return what is under `key`."""
        row = self._db.execute(
            "SELECT value, revision FROM items WHERE key = ?", (key,)
        ).fetchone()
        return Item(_load(row[0]), row[1]) if row else None

    def range(self, prefix: bytes) -> Iterator[tuple[bytes, Item]]:
        """Yield what is under `prefix`, in order."""
        # Rows are fetched at once: the caller may write while it goes through them.
        rows = self._db.execute(
            "SELECT key, value, revision FROM items WHERE key >= ? ORDER BY key", (prefix,)
        )
        found = []
        for key, value, revision in rows:
            if not key.startswith(prefix):
                break
            found.append((key, value, revision))
        for key, value, revision in found:
            yield key, Item(_load(value), revision)

    def transact(
        self,
        changes: Sequence[Change],
        *,
        after: int | None = None,
        revision: int | None = None,
        expect: Mapping[bytes, int] | None = None,
    ) -> int:
        """Apply all changes, or none."""
        with self._transaction():
            present = self._meta("revision")
            if after is not None and after != present:
                raise StaleError(f"revision is {present}, not {after}")
            for key, wanted in (expect or {}).items():
                row = self._db.execute(
                    "SELECT revision FROM items WHERE key = ?", (key,)
                ).fetchone()
                if (row[0] if row else 0) != wanted:
                    raise StaleError(f"{key!r} is at {row[0] if row else 0}, not {wanted}")
            new = max(present + 1, revision or 0)
            self._write(changes, new)
        return new

    def _write(self, changes: Sequence[Change], revision: int) -> None:
        run = self._db.executemany
        dumped = [
            (c.key, None if c.value is None else _dump(c.value), c.lease) for c in changes
        ]
        # In order, so that of two changes of one key the later one stands.
        for key, value, lease in dumped:
            if value is None:
                self._db.execute("DELETE FROM items WHERE key = ?", (key,))
            else:
                self._db.execute(
                    "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)",
                    (key, value, revision, lease),
                )
        if self._history:
            run(
                "INSERT INTO events (key, value, revision) VALUES (?, ?, ?)",
                [(key, value, revision) for key, value, _ in dumped],
            )
        self._trim()
        self._db.execute("UPDATE meta SET number = ? WHERE name = 'revision'", (revision,))

    def _trim(self) -> None:
        (last,) = self._db.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()
        floor = last - self._history
        row = self._db.execute(
            "SELECT max(revision) FROM events WHERE number <= ?", (floor,)
        ).fetchone()
        if row[0] is not None:
            self._db.execute("DELETE FROM events WHERE number <= ?", (floor,))
            self._db.execute("UPDATE meta SET number = ? WHERE name = 'compacted'", row)

    def watch(self, prefix: bytes, since: int) -> list[Event]:
        """Return the changes since a revision."""
        known = self._meta("compacted")
        if since < known or (not self._history and since < self.revision):
            raise CompactedError(f"known from revision {known} on, not from {since}")
        rows = self._db.execute(
            "SELECT key, value, revision FROM events WHERE revision > ? ORDER BY number",
            (since,),
        )
        return [
            Event(key, None if value is None else _load(value), revision)
            for key, value, revision in rows
            if key.startswith(prefix)
        ]

    def grant(self, seconds: float, now: float) -> int:
        """Return a new lease."""
        cursor = self._db.execute("INSERT INTO leases (ends) VALUES (?)", (now + seconds,))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def renew(self, lease: int, seconds: float, now: float) -> bool:
        """Move the end of a lease."""
        cursor = self._db.execute(
            "UPDATE leases SET ends = ? WHERE lease = ?", (now + seconds, lease)
        )
        return cursor.rowcount == 1

    def expire(self, now: float) -> list[bytes]:
        """End leases, with their keys."""
        rows = self._db.execute(
            "SELECT i.key FROM leases l JOIN items i ON i.lease = l.lease"
            " WHERE l.ends <= ? ORDER BY l.lease, i.key",
            (now,),
        )
        keys = [row[0] for row in rows]
        if keys:
            self.transact([Change(key, None) for key in keys])
        self._db.execute("DELETE FROM leases WHERE ends <= ?", (now,))
        return keys

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _meta(self, name: str) -> int:
        row = self._db.execute("SELECT number FROM meta WHERE name = ?", (name,)).fetchone()
        number: int = row[0]
        return number

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _dump(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def _load(data: bytes) -> Any:
    return msgpack.unpackb(data, raw=False, strict_map_key=False)
