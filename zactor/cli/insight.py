"""`zactor logs`, `zactor stack` and `zactor why`: what actors print, do and wait for.

Does not stop or slow what it looks at.
"""

from __future__ import annotations

import re
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from zactor.api import stacks
from zactor.cli import output, reads, session
from zactor.cli.main import EXIT_NOT_FOUND, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping


_IS_REF = re.compile("[0-9a-fA-F]{56}")  # an object id


@click.command()
@click.argument("which", metavar="ACTOR|WORKER")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is printed.")
@click.option("--err", is_flag=True, help="Standard error instead of standard output.")
@click.option("--tail", type=click.IntRange(min=0), default=None, help="Only the last lines.")
@session.address_option
def logs(which: str, follow: bool, err: bool, tail: int | None, address: str | None) -> None:
    """Show what an actor's (or worker's) process has printed."""
    pause = threading.Event()
    with session.attached(address) as cluster:
        row = _worker_of(cluster, which)
        text, offset = cluster.read_log(row, stream=2 if err else 1, offset=0)
        if tail is not None:
            text = "".join(text.splitlines(keepends=True)[-tail:] if tail else [])
        while True:
            sys.stdout.write(text)
            sys.stdout.flush()
            if not follow and not text:
                return
            if not text:
                pause.wait(0.2)
            text, offset = cluster.read_log(row, stream=2 if err else 1, offset=offset)


def _worker_of(cluster: session.Session, which: str) -> Mapping[str, Any]:
    """Return the row of the actor, or else of the worker, that is meant."""
    rows = cluster.query("actors")
    living = [row for row in rows if row["state"] != "DEAD"]
    of_class = [row for row in living if which == row["class_name"]]
    if len(of_class) == 1:
        found: Mapping[str, Any] = of_class[0]
        return found
    for candidates in (living, rows):
        try:
            return reads.find(candidates, which, "actors")
        except Failure as failure:
            if failure.exit_code != EXIT_NOT_FOUND:
                raise
    return reads.find(cluster.query("workers"), which, "workers")


@click.command()
@click.argument("which", metavar="[ACTOR|WORKER]", required=False)
@click.option(
    "--all", "is_full", is_flag=True, help="Every thread, and zactor's own frames too."
)
@session.address_option
@output.json_option
def stack(which: str | None, is_full: bool, address: str | None, as_json: bool) -> None:
    """Show what the actors run now: their Python stacks, also of those that hang."""
    with session.attached(address) as cluster:
        rows = cluster.stacks(_worker_of(cluster, which) if which else None)
    if as_json:
        output.print_json(rows)
        return
    out = output.console()
    for row in rows:
        title = f"{row.get('label') or 'worker'} pid={row.get('pid')}"
        text = str(row.get("stack", ""))
        lines = text.rstrip().splitlines() if is_full else stacks.of_user(text)
        out.print(title, style="bold", markup=False)
        out.print("\n".join(lines or ["  idle: no code of yours runs"]) + "\n", markup=False)


@click.command()
@click.argument("which", metavar="ACTOR|REF")
@session.address_option
@output.json_option
def why(which: str, address: str | None, as_json: bool) -> None:
    """Say what ACTOR waits for or does, or why REF (`ref.hex()`) is not ready: a chain of causes."""
    with session.attached(address) as cluster:
        if _IS_REF.fullmatch(which):
            chain = cluster.why_result(bytes.fromhex(which))
        else:
            row = _worker_of(cluster, which)
            chain = [{"kind": "state", "text": _state(row)}, *_causes(cluster, row)]
    if as_json:
        output.print_json(chain)
        return
    for depth, cause in enumerate(chain):
        click.echo("  " * depth + cause["text"])


def _state(row: Mapping[str, Any]) -> str:
    name = f" {row['name']!r}" if row.get("name") else ""
    what = f"{row.get('class_name') or 'worker'}{name}"
    restarts = row.get("num_restarts")
    text = f"{what} is {row.get('state', 'alive').lower()}, pid {row.get('pid') or 'none'}"
    return text + (f", restarted {restarts} times" if restarts else "")


def _causes(cluster: session.Session, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what comes after its state: of an actor the chain, of other workers where they are."""
    if "actor_id" in row:
        return cluster.why_actor(bytes.fromhex(row["actor_id"]))
    for dump in cluster.stacks(row):
        places = stacks.places(str(dump["stack"]))
        if places:
            return [{"kind": "running", "text": f"it is at {places[0]}", "stack": places}]
    return [{"kind": "idle", "text": "it is idle: no code of yours runs"}]
