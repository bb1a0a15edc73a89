"""`zactor status` and `zactor list`: what a cluster consists of.

Does not change anything. What a row holds is described in docs/reference/state.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from zactor.cli import output, session
from zactor.cli.main import Failure

# Kind -> the columns that people see; --json has all fields.
COLUMNS: dict[str, tuple[str, ...]] = {
    "actors": ("id", "class_name", "name", "namespace", "state", "node", "pid", "restarts"),
    "nodes": ("id", "state", "hostname", "resources", "available", "labels"),
    "workers": ("id", "state", "pid", "node", "job", "actors"),
    "jobs": ("id", "state", "pid", "namespace", "entrypoint"),
    "groups": ("id", "name", "state", "strategy", "bundles"),
}


@click.command()
@session.address_option
@output.json_option
def status(address: str | None, as_json: bool) -> None:
    """Show a cluster: its nodes, resources and actors."""
    with session.attached(address) as cluster:
        summary = cluster.query("status")
        nodes = cluster.query("nodes")
    if as_json:
        output.print_json({**summary, "nodes": nodes})
        return
    out = output.console()
    for title, value in _lines(summary):
        out.print(f"{title:<12} {value}", markup=False)
    out.print()
    output.print_rows(nodes, COLUMNS["nodes"])


def _lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for key, value in summary.items():
        if isinstance(value, Mapping):
            text = ", ".join(f"{name}: {output.amount(name, n)}" for name, n in value.items())
        else:
            text = output.shown(key, value)
        lines.append((key.replace("_", " "), text or "-"))
    return lines


@click.command("list")
@click.argument("kind", type=click.Choice(list(COLUMNS)))
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only rows whose KEY is VALUE (or KEY!=VALUE). May be repeated.",
)
@click.option("--limit", default=100, show_default=True, help="At most so many rows.")
@session.address_option
@output.json_option
def list_(
    kind: str, filters: tuple[str, ...], limit: int, address: str | None, as_json: bool
) -> None:
    """List the actors, nodes, workers, jobs or placement groups of a cluster."""
    wanted = [_parsed(text) for text in filters]
    with session.attached(address) as cluster:
        rows = cluster.query(kind)
    rows = [row for row in rows if all(_passes(row, *condition) for condition in wanted)]
    total, rows = len(rows), rows[:limit]
    if as_json:
        output.print_json(rows)
        return
    output.print_rows(rows, COLUMNS[kind])
    if total > limit:
        click.echo(f"{total - limit} more; --limit {total} shows all", err=True)


def _parsed(text: str) -> tuple[str, bool, str]:
    key, found, value = text.partition("=")
    if not found or not key.rstrip("!"):
        raise Failure(f"--filter takes KEY=VALUE or KEY!=VALUE, not {text!r}", exit_code=2)
    return key.removesuffix("!"), not key.endswith("!"), value


def _passes(row: Mapping[str, Any], key: str, equal: bool, value: str) -> bool:
    found = output.plain(row.get(key))
    return (str(found).lower() == value.lower()) == equal


def find(rows: Sequence[Mapping[str, Any]], which: str, what: str) -> Mapping[str, Any]:
    """Return the row that is meant by an id, the beginning of one, a name or a pid.

    Raises:
        Failure: None or several are.
    """
    exact = [row for row in rows if which in (row.get("name"), str(row.get("pid") or ""))]
    found = exact or [row for row in rows if output.plain(row.get("id", "")).startswith(which)]
    if not found:
        raise Failure(f"no {what} {which!r}", session.EXIT_NOT_FOUND)
    if len(found) > 1:
        ids = ", ".join(output.plain(row["id"]) for row in found[:5])
        raise Failure(f"{which!r} could be {len(found)} {what}s: {ids}")
    return found[0]
