"""How far a run is: a bar on a terminal, now and then a line elsewhere.

Drawn only when told to, between measurements: a bar that refreshes itself would be a neighbour.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

WIDTH = 28


class Progress:
    """A bar over `total` steps."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total = total
        self.stream = stream or sys.stderr
        self.is_terminal = self.stream.isatty()
        self._started = time.monotonic()
        self._last_step = -1

    def at(self, step: int, text: str) -> None:
        """Show that `step` steps are done and what is being done."""
        elapsed = time.monotonic() - self._started
        if self.is_terminal:
            filled = WIDTH * step // max(1, self.total)
            bar = "#" * filled + "." * (WIDTH - filled)
            print(
                f"\r\x1b[K[{bar}] {step}/{self.total} {elapsed:4.0f} s  {text[:80]}",
                end="",
                file=self.stream,
                flush=True,
            )
        elif step != self._last_step:
            print(f"{step}/{self.total} {elapsed:.0f} s  {text}", file=self.stream, flush=True)
        self._last_step = step

    def end(self) -> None:
        """Remove the bar."""
        if self.is_terminal:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
