"""What a driver shows of its workers' output: each line with its origin in front, repeated ones folded.

Lines come from all nodes of the cluster, so that what many workers say is said once, wherever they
are. Printing is done on the thread for callbacks: a terminal that does not keep up holds up
nothing else.

Invariants
    T1  Each line is shown once or counted in a fold, in the order in which it came.
    T2  A stream that is closed, or takes no such characters, loses lines, never its program.
    T3  No timer runs while nothing is held back.
"""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from zactor.runtime.nodes.output import Line
    from zactor.runtime.process import Process

FOLD_WINDOW = 5.0
"""Seconds for which equal lines of other workers are counted and not shown."""

FOLD_TEXTS = 1000
PATIENCE = 1.0  # seconds that the last lines may take to be printed
SHOWN = 12  # digits of a node's id


class Fold:
    """Counts the same line from many workers. The first is shown, and the count at the end.

    Lines that one worker repeats are all shown: they are its own doing.
    """

    __slots__ = ("_seen", "_window")

    def __init__(self, window: float = FOLD_WINDOW) -> None:
        self._window = window
        # text -> [when first seen, workers that said it, how often it was held back, the last line]
        self._seen: OrderedDict[str, list[Any]] = OrderedDict()

    def push(self, lines: list[Line], now: float) -> list[Line]:
        """Take lines; return those to show, with the counts that are due before them."""
        shown = self.flush(now)
        for line in lines:
            text = line[5]
            seen = self._seen.get(text)
            if seen is None:
                if text.strip():
                    self._seen[text] = [now, {line[0]}, 0, line]
                shown.append(line)
                continue
            seen[1].add(line[0])
            if len(seen[1]) == 1:
                shown.append(line)
            else:
                seen[2] += 1
                seen[3] = line
        while len(self._seen) > FOLD_TEXTS:
            shown.extend(_counted(*self._seen.popitem(last=False)))
        return shown

    def flush(self, now: float, *, everything: bool = False) -> list[Line]:
        """Return the counts whose window has passed."""
        shown: list[Line] = []
        while self._seen:
            text, seen = next(iter(self._seen.items()))
            if not everything and now < seen[0] + self._window:
                break
            del self._seen[text]
            shown.extend(_counted(text, seen))
        return shown

    def next_deadline(self) -> float | None:
        """Return when a count is due; None while nothing is held back."""
        held = [seen[0] for seen in self._seen.values() if seen[2]]
        return held[0] + self._window if held else None


def _counted(text: str, seen: list[Any]) -> list[Line]:
    _, _, count, line = seen
    if not count:
        return []
    note = f"{text} [repeated {count}x across cluster]" if count > 1 else text
    return [[*line[:5], note]]


def show(
    lines: list[Line], stdout: TextIO | None, stderr: TextIO | None, home: bytes = b""
) -> None:
    """Print lines of workers, each with its origin in front: `(Counter pid=17)`.

    Of workers on other nodes than `home`, the driver's own, the node is said as well.
    """
    for stream, number in ((stdout, 1), (stderr, 2)):
        texts = [_shown(line, home) for line in lines if line[4] == number]
        if not texts or stream is None:
            continue
        text = "".join(texts)
        with suppress(OSError, ValueError):  # T2
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()


def _shown(line: Line, home: bytes) -> str:
    _, label, pid, node, _, text = line
    where = f", node={node.hex()[:SHOWN]}" if home and node and node != home else ""
    return f"({label} pid={pid}{where}) {text}\n"


class Terminal:
    """The output of a job's workers, at its driver."""

    def __init__(self, process: Process, *, folds: bool) -> None:
        """Prepare. `folds`: what many workers say at the same time is shown once, with a count."""
        self._process = process
        self._fold = Fold() if folds else None
        self._has_timer = False  # for counts that are held back

    def take(self, lines: list[Line]) -> None:
        """Show lines, soon. On the leader."""
        self._process.reception.call_soon(partial(self._show, lines))

    def _show(self, lines: list[Line]) -> None:
        fold = self._fold
        if fold is not None:
            now = time.monotonic()
            lines = fold.push(lines, now)
            due = fold.next_deadline()
            if due is not None and not self._has_timer:
                self._has_timer = True
                self._process.post.call_later(max(0.0, due - now), self._due)
        if lines:
            show(lines, sys.stdout, sys.stderr, self._process.post.address.node)

    def _due(self) -> None:
        self._has_timer = False
        self.take([])  # counts come before what is pushed

    def finish(self) -> None:
        """Show what is held back, and wait for all of it to be printed."""
        done = Event()
        self._process.reception.call_soon(self._show_counts)
        self._process.reception.call_soon(done.set)
        done.wait(PATIENCE)

    def _show_counts(self) -> None:
        if self._fold is not None:
            held = self._fold.flush(0.0, everything=True)
            show(held, sys.stdout, sys.stderr, self._process.post.address.node)
