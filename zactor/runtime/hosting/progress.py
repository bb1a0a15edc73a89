"""The progress page: what a worker was running when it died, for its node to read.

A small memory file shared by a worker and its node. One row a stream: who calls, and the highest
seqs started and finished. The worker writes two words a call (47 ns each); the node reads
it once, after the worker's death. So calls that were queued behind a crash are known not to have
run, and the call that kills its actor again and again is known by name.

Layout, in 8-byte words: word 0 is the number of rows used; row r (from 1) is at word 5 * r:
caller id (2 words), stream number, started, finished.
"""

from __future__ import annotations

import mmap
from typing import Any

PAGE_SIZE = 64 << 10
ROW_WORDS = 5
MAX_ROWS = PAGE_SIZE // (8 * ROW_WORDS) - 1


class ProgressPage:
    """The worker's side. `add` returns where a stream's `started` word is; `finished` is the next.

    Word positions past the last row all lead to a spare one: streams beyond `MAX_ROWS` have no
    row, and after a crash their calls are reported as "unknown".
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, PAGE_SIZE)
        self.words = memoryview(self._map).cast("Q")
        self._rows = 0

    @staticmethod
    def is_spare(at: int) -> bool:
        """Whether this is the place of the streams that have no row."""
        return at >= MAX_ROWS * ROW_WORDS

    def add(self, caller: bytes, number: int) -> int:
        """Give a stream its row; return the index of its `started` word."""
        if self._rows >= MAX_ROWS:
            return MAX_ROWS * ROW_WORDS + 3
        self._rows += 1
        at = self._rows * ROW_WORDS
        self._map[at * 8 : at * 8 + 16] = caller
        self.words[at + 2] = number
        self.words[at + 3] = self.words[at + 4] = 0
        self.words[0] = self._rows
        return at + 3


def read_progress(page: Any) -> list[list[Any]]:
    """Return the rows `[caller id, stream number, started, finished]` of a dead worker's page."""
    with memoryview(page) as raw, raw.cast("Q") as words:
        rows = []
        for row in range(1, min(words[0], MAX_ROWS - 1) + 1):
            at = row * ROW_WORDS
            caller = bytes(raw[at * 8 : at * 8 + 16])
            rows.append([caller, words[at + 2], words[at + 3], words[at + 4]])
        return rows
