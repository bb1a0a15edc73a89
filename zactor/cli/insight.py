"""`zactor logs`, `zactor stack` and `zactor why`: what actors print, do and wait for.

Does not stop or slow what it looks at.
"""

from __future__ import annotations

import re
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from zactor.api import stacks
from zactor.cli import output, reads, session
from zactor.cli.main import EXIT_NOT_FOUND, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping


IDLE = "  idle: no code of yours runs"
_IS_REF = re.compile("[0-9a-fA-F]{56}|[0-9a-fA-F]{48}")  # an object's id, or a task's
_ALIVE = ["is_alive", "=", "True"]
_FIRST_RESULT = "0" * 8  # what a task's id lacks of its first result's


@click.command()
@click.argument("which", metavar="ACTOR|WORKER")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is printed.")
@click.option("--err", is_flag=True, help="Standard error instead of standard output.")
@click.option("--tail", type=click.IntRange(min=0), default=None, help="Only the last lines.")
@session.address_option
def logs(which: str, follow: bool, err: bool, tail: int | None, address: str | None) -> None:
    """Show what an actor's (or worker's) process has printed; also of one that is dead.

    With --follow, what it prints from then on, also after a restart, until it is dead for good.
    """
    stream = 2 if err else 1
    with session.attached(address) as cluster:
        row: Mapping[str, Any] | None = _worker_of(cluster, which)
        kept = -1 if tail is None else tail
        while row is not None:
            present = row
            goes_on = partial(_lives, cluster, present) if follow else None
            for text in cluster.log(present, stream=stream, tail=kept, follow=goes_on):
                sys.stdout.write(text)
                sys.stdout.flush()
            row = _next_life(cluster, present) if follow else None
            kept = -1


def _again(cluster: session.Session, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the row of the same actor or worker as it is now; None if there is none any more."""
    if "actor_id" in row:
        rows = cluster.query("actors", id=bytes.fromhex(row["actor_id"]))
    else:
        rows = cluster.query("workers", filters=[["worker_id", "=", row["worker_id"]], _ALIVE])
    return rows[0] if rows else None


def _lives(cluster: session.Session, row: Mapping[str, Any]) -> bool:
    """Whether the process that a row is about lives still."""
    now = _again(cluster, row)
    return (
        now is not None and now["worker_id"] == row["worker_id"] and now.get("state") != "DEAD"
    )


def _next_life(cluster: session.Session, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the row of an actor once it lives in another process; None if it does not any more."""
    pause = threading.Event()
    while True:
        now = _again(cluster, row)
        if now is None or "actor_id" not in now or now["state"] == "DEAD":
            return None
        if now["worker_id"] and now["worker_id"] != row["worker_id"]:
            return now
        pause.wait(0.2)


def _worker_of(cluster: session.Session, which: str) -> Mapping[str, Any]:
    """Return the row of the actor, or else of the worker, that is meant."""
    rows = cluster.query("actors")
    living = [row for row in rows if row["state"] != "DEAD"]
    of_class = [row for row in living if which == row["class_name"]]
    if len(of_class) == 1:
        found: Mapping[str, Any] = of_class[0]
        return found
    # Of several dead ones of a name, the one that died last is meant.
    dead = {(row["ray_namespace"], row["name"]): row for row in rows if row["name"]}
    latest = [
        row for row in rows if not row["name"] or dead[row["ray_namespace"], row["name"]] is row
    ]
    for candidates in (living, latest):
        try:
            return reads.find(candidates, which, "actors")
        except Failure as failure:
            if failure.exit_code != EXIT_NOT_FOUND:
                raise
    return reads.find(cluster.query("workers", filters=[_ALIVE]), which, "workers")


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
        row = _worker_of(cluster, which) if which else None
        if row is not None and row.get("state") == "DEAD":
            raise Failure(f"{which} is dead: `zactor why {which}` says of what", EXIT_NOT_FOUND)
        rows = cluster.stacks(row)
    if as_json:
        output.print_json(rows)
        return
    out = output.console()
    for row in rows:
        title = f"{row.get('label') or 'worker'} pid={row.get('pid')}"
        text = str(row.get("stack", ""))
        lines = text.rstrip().splitlines() if is_full else stacks.of_user(text)
        out.print(title, style="bold", markup=False)
        if not lines:
            is_silent = not text.strip()
            lines = ["  no answer: it may be stopped" if is_silent else IDLE]
        out.print("\n".join(lines) + "\n", markup=False)


@click.command()
@click.argument("which", metavar="ACTOR|REF|TASK")
@session.address_option
@output.json_option
def why(which: str, address: str | None, as_json: bool) -> None:
    """Say what ACTOR waits for or does, or why REF (`ref.hex()`) or TASK is not ready: a chain of causes."""
    with session.attached(address) as cluster:
        if _IS_REF.fullmatch(which):
            chain = cluster.why_result(bytes.fromhex((which + _FIRST_RESULT)[:56]))
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
