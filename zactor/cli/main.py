"""The entry point of the `zactor` command: finds the command and turns errors into exit codes.

Does not import a command before it is asked for, so that `zactor --help` answers at once.

Exit codes
    0    done
    1    it failed: the message says why
    2    the command line is wrong
    3    no cluster answers at the address
    4    there is no such actor, node, worker or job
    70   a bug in zactor; ZACTOR_DEBUG=1 shows the traceback
    130  interrupted
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

EXIT_FAILED = 1
EXIT_NO_CLUSTER = 3
EXIT_NOT_FOUND = 4
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

# Command -> where it is, and its line in the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("zactor.cli.demo:demo", "Show what zactor does, on a cluster of its own."),
    "broker": ("zactor.cli.daemons:broker", "Run a broker: the one of a cluster."),
    "node": ("zactor.cli.daemons:node", "Run this machine's node of a cluster."),
    "status": ("zactor.cli.reads:status", "Show a cluster: nodes, resources, actors."),
    "list": ("zactor.cli.reads:list_", "List actors, tasks, objects, nodes, events ..."),
    "summary": ("zactor.cli.reads:summary", "Count tasks, actors or objects by state."),
    "kill": ("zactor.cli.actions:kill", "End an actor now."),
    "stop": ("zactor.cli.actions:stop", "Stop the clusters of this machine, or one node."),
    "logs": ("zactor.cli.insight:logs", "Show what an actor or worker printed."),
    "stack": ("zactor.cli.insight:stack", "Show the Python stacks of running actors."),
    "why": ("zactor.cli.insight:why", "Say what an actor waits for, or does."),
}


# What programs for Ray's command line ask for, and where that is here.
ELSEWHERE = {
    "debug": "zactor stack, or zactor why",
    "get": "zactor list KIND --filter KEY=VALUE --json",
    "kill-actor": "zactor kill",
    "memory": "zactor list objects",
    "start": "zactor broker, and zactor node --join FILE on the other machines",
    "timeline": "zactor.timeline(filename) in the program",
}


class Failure(click.ClickException):
    """The command cannot do what was asked; the message is all that the user sees."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


class Commands(click.Group):
    """The group of all commands, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant; of an unknown one, say what might be."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            similar = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = ELSEWHERE.get(name) or (f"zactor {similar[0]}" if similar else "")
            if hint:
                ctx.fail(f"No such command {name!r}. Try: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; every error becomes one line and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            _leave_quietly()
        except Exception as error:  # a user is told, and sees no traceback
            if os.environ.get("ZACTOR_DEBUG"):
                raise
            raise explained(error) from error


def explained(error: BaseException) -> Failure:
    """Return the failure that tells a user about `error`."""
    from zactor import exceptions

    text = str(error).strip() or type(error).__name__
    if isinstance(error, ConnectionError):
        return Failure(text, EXIT_NO_CLUSTER)
    if isinstance(error, exceptions.ZactorError | OSError | TimeoutError | ValueError):
        return Failure(text)
    where = f"{type(error).__name__}: {text}"
    return Failure(f"a bug in zactor: {where} (ZACTOR_DEBUG=1 shows the traceback)", EXIT_BUG)


def _leave_quietly() -> NoReturn:
    # `zactor list actors | head`: whoever read is gone, and Python would complain at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(EXIT_FAILED)


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from importlib import metadata

        try:
            version = metadata.version("zactor")
        except metadata.PackageNotFoundError:
            version = "not installed"
        click.echo(f"zactor {version}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Distributed actors for Python, over ZeroMQ.

    Start with `zactor demo`. A program that calls zactor.init() needs no command at all; broker
    and node are for clusters that outlive programs or span machines.
    """
