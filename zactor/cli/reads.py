"""`zactor status` and `zactor list`: what a cluster consists of.

Does not change anything. What a row holds is described in docs/reference/state.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zactor.cli import output, session
from zactor.cli.main import EXIT_NOT_FOUND, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Kind -> the id of a row, and the columns that people see; --json has all fields.
IDS = {
    "actors": "actor_id",
    "nodes": "node_id",
    "workers": "worker_id",
    "jobs": "job_id",
    "groups": "placement_group_id",
}
COLUMNS: dict[str, dict[str, str]] = {
    "actors": {
        "actor_id": "id",
        "class_name": "class",
        "name": "name",
        "ray_namespace": "namespace",
        "state": "state",
        "node_id": "node",
        "pid": "pid",
        "num_restarts": "restarts",
    },
    "nodes": {
        "node_id": "id",
        "status": "state",
        "hostname": "hostname",
        "resources_total": "has",
        "resources_available": "free",
        "actors": "actors",
        "labels": "labels",
    },
    "workers": {
        "worker_id": "id",
        "worker_type": "type",
        "node_id": "node",
        "pid": "pid",
        "actors": "actors",
        "is_idle": "idle",
    },
    "jobs": {
        "job_id": "id",
        "status": "state",
        "pid": "pid",
        "namespace": "namespace",
        "entrypoint": "entrypoint",
        "actors": "actors",
    },
    "groups": {
        "placement_group_id": "id",
        "name": "name",
        "state": "state",
        "strategy": "strategy",
        "pending_reason": "waits for",
    },
}


@click.command()
@session.address_option
@output.json_option
def status(address: str | None, as_json: bool) -> None:
    """Show a cluster: its nodes, resources and actors."""
    with session.attached(address) as cluster:
        summary = cluster.query("status")
    if as_json:
        output.print_json(summary)
        return
    for title, text in _lines(summary):
        click.echo(f"{title:<11} {text}")
    click.echo()
    output.print_rows(summary["nodes"], COLUMNS["nodes"])


def _lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the head of the status: a title and a text each."""
    resources = summary["resources"]
    lines = [
        ("cluster", output.shown("", summary["cluster"].get("id"))),
        ("actors", _counts(summary["actors"])),
        ("workers", str(summary["workers"])),
        ("jobs", str(summary["jobs"])),
        ("has", output.shown("resources_total", resources["total"])),
        ("free", output.shown("resources_available", resources["available"])),
    ]
    for wanted in resources["waiting"]:
        need = output.shown("resources_total", wanted["resources"])
        lines.append(("waiting", f"{wanted['count']} for {need}"))
    return lines


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {state.lower()}" for state, n in states.items() if n) or "none"


@click.command("list")
@click.argument("kind", type=click.Choice(list(COLUMNS)))
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only rows whose KEY is VALUE (or KEY!=VALUE). May be repeated.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="At most so many rows.",
)
@session.address_option
@output.json_option
def list_(
    kind: str, filters: tuple[str, ...], limit: int, address: str | None, as_json: bool
) -> None:
    """List the actors, nodes, workers, jobs or placement groups of a cluster."""
    wanted = [_parsed(text) for text in filters]
    with session.attached(address) as cluster:
        rows = cluster.query(kind, filters=wanted, limit=limit + 1)
    if as_json:
        output.print_json(rows[:limit])
        return
    output.print_rows(rows[:limit], COLUMNS[kind])
    if len(rows) > limit:
        click.echo(f"there are more than {limit}; --limit shows more", err=True)


def _parsed(text: str) -> list[str]:
    key, found, value = text.partition("=")
    if not found or not key.rstrip("!"):
        raise click.UsageError(f"--filter takes KEY=VALUE or KEY!=VALUE, not {text!r}")
    return [key.removesuffix("!"), "!=" if key.endswith("!") else "=", value]


def find(rows: Sequence[Mapping[str, Any]], which: str, kind: str) -> Mapping[str, Any]:
    """Return the row that is meant by a name, a pid, an id or the beginning of one.

    Raises:
        Failure: None or several are.
    """
    key, what = IDS[kind], kind.removesuffix("s")
    if not which:
        raise Failure(f"which {what}?", EXIT_NOT_FOUND)
    found = [row for row in rows if which in (row.get("name"), str(row.get("pid")))]
    found = found or [row for row in rows if str(row[key]).startswith(which)]
    if not found:
        raise Failure(f"there is no {what} {which!r}", EXIT_NOT_FOUND)
    if len(found) > 1:
        ids = ", ".join(str(row[key]) for row in found[:5])
        raise Failure(f"{which!r} could be {len(found)} {kind}: {ids}")
    return found[0]
