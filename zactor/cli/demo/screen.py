"""What the demonstration looks like: headings, live tables in a terminal, plain lines elsewhere.

Draws only when it is told to; it has no thread, so that what is measured is not disturbed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich import box
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

BLOCKS = " ▁▂▃▄▅▆▇█"
FRAME = 0.1  # seconds between two pictures

Row = Sequence[str]


class View:
    """One live table; `due()` says when it is worth drawing again."""

    def __init__(self, live: Live | None, header: Row, right: frozenset[int]) -> None:
        self._live = live
        self._header = header
        self._right = right  # columns of numbers
        self._next = time.monotonic() + FRAME
        self._rows: list[Row] = []
        self._note = ""

    def due(self) -> bool:
        """Tell whether the next picture is due."""
        return time.monotonic() >= self._next

    def show(self, rows: Sequence[Row], note: str = "") -> None:
        """Draw these rows, with a line below them."""
        self._next = time.monotonic() + FRAME
        self._rows, self._note = list(rows), note
        if self._live is not None:
            self._live.update(self._table(), refresh=True)

    def lines(self) -> Iterator[str]:
        """Return the last picture as plain text."""
        cells = [list(self._header), *(list(row) for row in self._rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self._header))]
        for row in cells:
            parts = [
                cell.rjust(width) if i in self._right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            yield "   " + "  ".join(parts).rstrip()
        if self._note:
            yield "   " + self._note

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=True, caption=None, header_style="bold")
        for i, title in enumerate(self._header):
            table.add_column(title, justify="right" if i in self._right else "left")
        for row in self._rows:
            table.add_row(*(Text(cell) for cell in row))
        frame = Table.grid()
        frame.add_row(table)
        frame.add_row(Text("  " + self._note, style="dim"))
        return frame


class Screen:
    """The terminal, a file, or nowhere at all."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self.is_live = console.is_terminal and not quiet

    def say(self, text: str, style: str = "") -> None:
        """Print a line."""
        if self.quiet:
            return
        if self.is_live:
            self.console.print(Text(text, style=style))
        else:
            click.echo(text)

    def heading(self, title: str, text: str) -> None:
        """Begin a stage: its title, and a sentence about it."""
        self.say("")
        if self.is_live:
            self.console.print(Text.assemble((" " + title + " ", "bold reverse cyan")))
            self.console.print(Text("  " + text, style="dim"))
        else:
            self.say(title)
            self.say("   " + text)

    @contextmanager
    def view(self, header: Row, right: Sequence[int] = ()) -> Iterator[View]:
        """Show a table that changes; its last state stays."""
        if not self.is_live:
            view = View(None, header, frozenset(right))
            yield view
            for line in view.lines():
                self.say(line)
            return
        with Live(console=self.console, auto_refresh=False) as live:
            yield View(live, header, frozenset(right))

    def summary(self, rows: Sequence[tuple[bool, str, str]]) -> None:
        """Print what was shown, each line good or not."""
        self.heading("Summary", "what was measured just now, on this machine")
        width = max(len(what) for _, what, _ in rows)
        for good, what, text in rows:
            mark = "✓" if good else "✗"
            if self.is_live:
                color = "green" if good else "red"
                line = Text.assemble(
                    (f"  {mark} ", f"bold {color}"), (what.ljust(width), "bold"), "  ", text
                )
                self.console.print(line)
            else:
                self.say(f"   {'ok  ' if good else 'FAIL'} {what.ljust(width)}  {text}")


def spark(values: Sequence[float], width: int = 24) -> str:
    """Return the last values as a line of little columns."""
    recent = list(values)[-width:]
    top = max(recent, default=0.0) or 1.0
    return "".join(BLOCKS[min(8, round(8 * value / top))] for value in recent).rjust(width)


def bar(share: float, width: int = 16) -> str:
    """Return a bar that is full at 1."""
    filled = round(max(0.0, min(1.0, share)) * width)
    return "█" * filled + "░" * (width - filled)


def count(number: float) -> str:
    """Return a number with thousands set apart."""
    return f"{number:,.0f}"
