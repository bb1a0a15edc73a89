"""Every row there is, by group. To add one, enter it in a group's file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.rows import calls, data, directory, latency, microbenchmark, network, startup

if TYPE_CHECKING:
    from bench.work import Group, Row, Work

GROUPS: list[Group] = [
    microbenchmark.GROUP,
    startup.GROUP,
    latency.GROUP,
    calls.GROUP,
    data.GROUP,
    directory.GROUP,
    network.GROUP,
    microbenchmark.PLACEMENT_GROUPS,
    microbenchmark.CLIENT,
]

_ROWS: dict[str, Row] = {}
_WORKS: dict[str, Work] = {}
for _group in GROUPS:
    for _row in _group.rows:
        if _row.name in _ROWS:
            raise ValueError(f"two rows are called {_row.name!r}")
        _ROWS[_row.name] = _row
    _WORKS.update(_group.works)


def find(name: str) -> Row:
    """Return the row called `name`."""
    return _ROWS[name]


def ray_api_works() -> dict[str, Work]:
    """Return how an engine with Ray's API does each row."""
    return _WORKS
