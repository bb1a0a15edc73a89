"""What a row is, and what an engine does for it.

A row is a name, a unit and a sentence. An engine that can do the row has a *work*: a generator
function that prepares (creates actors, connects sockets), yields one `Rate` or `Measure`, and
cleans up when it is resumed. The harness decides how long and how often; a work never does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UNPINNED = "unpinned"
ONE_CORE = "one core"
ONE_CORE_EACH = "one core each"
BUSY_NEIGHBOUR = "one core, busy neighbour"

GIGABYTE = 1024 * 1024 * 1000  # as Ray's program counts: 100 Mi numbers of 8 bytes are 0.8

ONE_AT_A_TIME = (ONE_CORE, ONE_CORE_EACH, UNPINNED)


class CannotDo(Exception):  # noqa: N818 - an answer, not an error
    """The engine has no way to do this row; the text says why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a work may know about the run it is part of."""

    quick: bool = False
    cpus: int = 2
    seconds: float = 1.0  # length of one sample, for works that pace themselves
    folder: Path = Path("/tmp")
    token: str = ""  # marks this engine's processes, see `bench.proc`

    def pick(self, full: Any, quick: Any) -> Any:
        """Return the size for a full run, or the one for `--quick`."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Rate:
    """Work that is repeated for a while: `many(n)` does n rounds of `count` units each."""

    many: Callable[[int], object]
    count: float = 1

    @classmethod
    def each(cls, once: Callable[[], object], count: float = 1) -> Rate:
        """Make one from a function that does a single round."""

        def many(rounds: int) -> None:
            for _ in itertools.repeat(None, rounds):
                once()

        return cls(many, count)


@dataclass(frozen=True, slots=True)
class Measure:
    """Work that measures itself: one call of `once` is one sample.

    It returns a number, or one per part of the row.
    """

    once: Callable[[], float | dict[str, float]]


Work = Callable[[Any, Setting], Iterator[Rate | Measure]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the benchmark; with several placements or parts, one line for each."""

    name: str
    about: str  # what is done, in one sentence
    unit: str = "calls/s"
    less_is_better: bool = False
    parts: tuple[str, ...] = ()
    placements: tuple[str, ...] = (UNPINNED,)
    # How the engine is started for it, see `bench.engines.ray_api`. With "none" it is not even
    # imported, and a sample is the time the work takes to its yield, import included.
    session: str = "plain"
    fresh: bool = False  # every sample in a new process of the engine
    warm: bool = True  # whether a sample is thrown away first
    quick: bool = True  # whether `--quick` has it

    @property
    def labels(self) -> list[str]:
        """Every label of the row's lines."""
        return [
            self.label(where, part) for where in self.placements for part in self.parts or ("",)
        ]

    def label(self, placement: str = UNPINNED, part: str = "") -> str:
        """The text that stands in the table and that `--rows` is matched with."""
        label = f"{self.name} {part}" if part else self.name
        return label if placement == UNPINNED else f"{label} [{placement}]"


@dataclass(slots=True)
class Group:
    """Rows that belong together, with the work for engines that have Ray's API."""

    title: str
    rows: list[Row] = field(default_factory=list)
    works: dict[str, Work] = field(default_factory=dict)

    def add(self, row: Row, work: Work | None = None) -> None:
        """Enter a row, and how `zactor` and `ray` do it."""
        if any(row.name == other.name for other in self.rows):
            raise ValueError(f"two rows are called {row.name!r}")
        self.rows.append(row)
        if work is not None:
            self.works[row.name] = work

    def row(self, name: str, about: str, **options: Any) -> Callable[[Work], Work]:
        """Enter a row, done by the decorated work."""

        def enter(work: Work) -> Work:
            self.add(Row(name, about, **options), work)
            return work

        return enter


@dataclass(frozen=True, slots=True)
class Case:
    """A row in one placement: what is measured in one go."""

    group: str
    row: Row
    placement: str


def select(groups: list[Group], pattern: str, *, quick: bool) -> list[Case]:
    """Choose the cases of which at least one label matches `pattern`, in the order entered."""
    wanted = re.compile(pattern)
    return [
        Case(group.title, row, placement)
        for group in groups
        for row in group.rows
        for placement in row.placements
        if (row.quick or not quick)
        and any(wanted.search(row.label(placement, part)) for part in row.parts or ("",))
    ]
