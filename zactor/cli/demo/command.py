"""The command itself: a cluster is started, the stages run, and nothing is left behind."""

from __future__ import annotations

import time

import click

from zactor.cli import output
from zactor.cli.main import Failure


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=28.0,
    show_default=True,
    help="How long it may take, about.",
)
@click.option("--num-cpus", type=click.IntRange(min=1), default=4, show_default=True)
@output.json_option
def demo(seconds: float, num_cpus: int, as_json: bool) -> None:
    """Show what zactor does, on a cluster of its own: half a minute.

    Actors with a live call rate, references passed between actors, actors killed and restarted
    under load, several versions of a model served side by side, and a summary.
    """
    # The rest of zactor is imported late, so that the clock sees it.
    began = time.perf_counter()
    import zactor
    from zactor.cli.demo import actors, crash, stages
    from zactor.cli.demo.screen import Screen

    screen = Screen(output.console(), quiet=as_json)
    findings = stages.Findings()
    screen.say("zactor: distributed actors for Python, over ZeroMQ", "bold")
    zactor.init(address="local", num_cpus=num_cpus, log_to_driver=False)
    try:
        first = stages.remote(actors.Counter).remote()
        zactor.get(first.increment.remote())
        ready = time.perf_counter() - began
        findings.add(
            True,
            "start",
            f"{ready * 1e3:.0f} ms from nothing to the first answer of an actor",
            seconds=ready,
        )
        screen.say(
            f"   import, local cluster, first actor and its answer: {ready * 1e3:.0f} ms"
        )
        del first
        stages.calls(screen, seconds * 0.25, findings)
        stages.references(screen, seconds * 0.2, findings)
        crash.crashes(screen, seconds * 0.3, findings)
        stages.serving(screen, seconds * 0.25, findings)
    finally:
        stopping = time.perf_counter()
        zactor.shutdown()
        stopped = time.perf_counter() - stopping
    findings.add(
        True,
        "end",
        f"cluster stopped in {stopped * 1e3:.0f} ms, {time.perf_counter() - began:.0f} s in all",
        seconds=stopped,
    )
    screen.summary(findings.lines)
    if as_json:
        output.print_json(findings.figures)
    if not findings.is_good:
        raise Failure("something did not come out as it should: see the summary")
