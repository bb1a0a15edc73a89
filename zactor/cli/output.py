"""How the command line shows things: tables for people, JSON for programs.

In a terminal tables have colour and lines; elsewhere they are plain columns. With `--json`,
standard output holds one JSON document and nothing else.

Does not fetch anything.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

OWN_LABEL = ".io/node-id"  # every node has one: no news
SHORT = 12  # digits of an id that are shown; --json has all of them

STATE_STYLES = {
    "ALIVE": "green",
    "BUSY": "green",
    "IDLE": "cyan",
    "PENDING": "yellow",
    "STARTING": "yellow",
    "RESTARTING": "yellow",
    "RUNNING": "green",
    "FAILED": "red",
    "DRAINING": "yellow",
    "SUSPECT": "yellow",
    "DEAD": "red",
    "LOST": "red",
}


def console(*, stderr: bool = False) -> Console:
    """Return a console for the stream: plain when it is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(stderr=stderr, highlight=False)
    # Wide, since a pipe has no edge at which to wrap.
    return Console(stderr=stderr, highlight=False, no_color=True, width=200, soft_wrap=True)


def plain(value: Any) -> Any:
    """Return `value` as JSON can say it: ids as hex, tuples as lists, keys as strings."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _key(key: Any) -> str:
    return key.hex() if isinstance(key, bytes) else str(key)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(plain(value), indent=2))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Print a table with these columns (key of the row -> title); absent values stay empty."""
    out = console()
    if not out.is_terminal:
        for line in _plain_table(rows, columns):
            click.echo(line)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in columns.values():
        table.add_column(title.upper(), overflow="fold")
    for row in rows:
        table.add_row(
            *(_styled(title, shown(key, row.get(key))) for key, title in columns.items())
        )
    out.print(table)


def _plain_table(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> Iterable[str]:
    cells = [[title.upper() for title in columns.values()]]
    cells += [[shown(key, row.get(key)) for key in columns] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for row in cells:
        yield "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()


def _styled(title: str, text: str) -> Text:
    return Text(text, style=STATE_STYLES.get(text.upper(), "") if title == "state" else "")


def shown(column: str, value: Any) -> str:
    """Return one cell as text."""
    if value is None or value == "" or value == b"":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        value = value.hex()
    if column == "actors" and isinstance(value, list):
        return ", ".join(str(item)[:SHORT] for item in value) or "-"
    if column in ("task_id", "object_id"):
        return str(value)  # their beginnings are those of the caller's id
    if column == "object_size":
        return size(value)
    if column in ("timestamp", "start_time_ms"):
        return moment(value / 1000 if column.endswith("_ms") else value)
    if column.endswith("_id"):
        return str(value)[:SHORT]
    if column == "labels":
        value = {name: text for name, text in value.items() if not name.endswith(OWN_LABEL)}
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {amount(name, n)}" for name, n in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(shown("", item) for item in value) or "-"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def moment(seconds: float) -> str:
    """Return a time of day of this machine's zone; with its date, if that is not today."""
    when = time.localtime(seconds)
    is_today = when[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", when)


def amount(name: str, value: Any) -> str:
    """Return a quantity of a resource: memory in GiB, everything else as a number."""
    if isinstance(value, int | float) and "memory" in name:
        return size(value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def size(count: float) -> str:
    """Return a number of bytes for reading."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""
