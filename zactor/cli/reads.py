"""`zactor status`, `zactor list` and `zactor summary`: what a cluster consists of, and what it does.

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
    "placement-groups": "placement_group_id",
}
TABLES = {"placement-groups": "groups", "groups": "groups"}  # where it is not the kind itself
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
    "placement-groups": {
        "placement_group_id": "id",
        "name": "name",
        "state": "state",
        "strategy": "strategy",
        "pending_reason": "waits for",
    },
    "tasks": {
        "task_id": "id",
        "name": "name",
        "state": "state",
        "actor_id": "actor",
        "owner_pid": "called by pid",
        "worker_pid": "runs in pid",
        "start_time_ms": "since",
        "error_type": "error",
    },
    "objects": {
        "object_id": "id",
        "object_size": "size",
        "is_stored": "stored",
        "task_status": "state",
        "reference_type": "reference",
        "pid": "pid",
        "call_site": "made by",
    },
    "events": {
        "timestamp": "when",
        "severity": "severity",
        "event_type": "type",
        "message": "message",
    },
}
COLUMNS["groups"] = COLUMNS["placement-groups"]


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
    return lines + _refusals(summary)


def _refusals(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say who has turned strangers or garbage away, if anybody has."""
    counted = [("the broker", summary["links"])]
    counted += [
        (f"node {node['node_id'][:12]}", node.get("load", {}).get("links", {}))
        for node in summary["nodes"]
    ]
    lines = []
    for who, links in counted:
        strangers, messages = links.get("strangers", 0), links.get("refused", 0)
        if strangers or messages:
            text = (
                f"{strangers} connections without the keys, {messages} messages or connections"
            )
            lines.append(("refused", f"by {who}: {text} that made no sense"))
    return lines


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {state.lower()}" for state, n in states.items() if n) or "none"


@click.command("list")
@click.argument("kind", metavar="KIND", type=click.Choice(list(COLUMNS)))
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only rows whose KEY is VALUE (or KEY!=VALUE). May be repeated.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=10_000),
    default=100,
    show_default=True,
    help="At most so many rows.",
)
@session.address_option
@output.json_option
def list_(
    kind: str, filters: tuple[str, ...], limit: int, address: str | None, as_json: bool
) -> None:
    """List what there is of a KIND: actors, nodes, workers, jobs, placement-groups; tasks (calls of
    actors too) and objects, of all programs and workers; or events, what happened lately."""
    wanted = [_parsed(text) for text in filters]
    with session.attached(address) as cluster:
        rows, missing, is_cut = cluster.rows(TABLES.get(kind, kind), wanted, limit)
    if as_json:
        output.print_json(rows)
    else:
        output.print_rows(rows, COLUMNS[kind])
    if is_cut:
        click.echo(f"there are more than {limit}; --limit shows more", err=True)
    _tell_missing(kind, missing)


def _tell_missing(kind: str, missing: list[str]) -> None:
    if missing:
        from zactor.api.surveys import missing_text

        click.echo(f"warning: {missing_text(kind, missing)}", err=True)


@click.command()
@click.argument("kind", type=click.Choice(["tasks", "actors", "objects"]))
@session.address_option
@output.json_option
def summary(kind: str, address: str | None, as_json: bool) -> None:
    """Count tasks (and calls of actors) by name, actors by class, or objects by how they were made."""
    from zactor.api.state import SUMMARIES

    with session.attached(address) as cluster:
        rows, missing, is_cut = cluster.rows(kind, [], 10_000)
    counted = SUMMARIES[kind](rows)["cluster"]
    if as_json:
        output.print_json(counted)
    else:
        _print_summary(kind, counted)
    if is_cut:
        click.echo("only the first 10,000 were counted", err=True)
    _tell_missing(kind, missing)


def _print_summary(kind: str, counted: Mapping[str, Any]) -> None:
    rows = []
    for name, entry in counted["summary"].items():
        states = entry.get("state_counts") or entry.get("task_state_counts") or {}
        row = {"name": name, "count": sum(states.values()), "states": _counts(states)}
        if kind == "objects":
            row["size"] = output.size(entry["total_size_mb"] * (1 << 20))
        rows.append(row)
    titles = ["name", "count", "states", *(["size"] if kind == "objects" else [])]
    output.print_rows(rows, {title: title for title in titles})


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
