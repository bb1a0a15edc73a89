"""Parts of zactor alone, in one process and without sockets: `python -m bench.micro [REGEX]`.

Each file has functions that yield `Piece`s: something to run, and how many units one run is. What
is printed is nanoseconds (or GB/s) per unit, as median and spread of several runs. They say where
the microseconds of a row go; what users get is measured by `bench/run.py`.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, NamedTuple

from bench.statistic import median, spread

if TYPE_CHECKING:
    from collections.abc import Callable

REPETITIONS = 7
SECONDS = 0.05  # one repetition


class Piece(NamedTuple):
    """One thing to time."""

    name: str
    once: Callable[[], object]
    units: int = 1  # what one run does: calls of a batch, say
    size: int = 0  # bytes one unit moves; then GB/s are shown


class Timing(NamedTuple):
    """What came of it, in seconds per unit."""

    piece: Piece
    samples: list[float]

    def __str__(self) -> str:
        middle = median(self.samples)
        if self.piece.size:
            value = f"{self.piece.size / middle / 1e9:>12.2f} GB/s"
        else:
            value = f"{middle * 1e9:>12,.0f} ns  "
        return f"{self.piece.name:<58}{value} ±{spread(self.samples) * 100:.0f}%"


def measure(piece: Piece, seconds: float = SECONDS, repetitions: int = REPETITIONS) -> Timing:
    """Time a piece. The garbage collector stays on, as it is for users."""
    runs = 1
    while (elapsed := _time(piece.once, runs)) < seconds / 10:
        runs *= 2
    runs = max(1, int(runs * seconds / elapsed))
    gc.collect()
    return Timing(
        piece, [_time(piece.once, runs) / runs / piece.units for _ in range(repetitions)]
    )


def _time(once: Callable[[], object], runs: int) -> float:
    start = time.perf_counter()
    for _ in range(runs):
        once()
    return time.perf_counter() - start
