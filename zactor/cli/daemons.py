"""`zactor broker` and `zactor node`: the daemons, in the foreground.

Does not daemonize and writes no pid file: what runs services does both better. What the daemons
do stands in `runtime`; here are their options.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


class Pairs(click.ParamType):
    """`a=1,b=2`, or a JSON object."""

    name = "pairs"

    def __init__(self, *, numbers: bool) -> None:
        self._numbers = numbers

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the dictionary that the text stands for."""
        if not isinstance(value, str):
            return value
        try:
            if value.lstrip().startswith("{"):
                pairs = json.loads(value)
            else:
                pairs = dict(part.split("=", 1) for part in value.split(",") if part)
            return {str(key): self._value(item) for key, item in pairs.items()}
        except (ValueError, TypeError):
            kind = "numbers" if self._numbers else "texts"
            self.fail(f"{value!r} is neither 'a=1,b=2' nor a JSON object of {kind}", param, ctx)

    def _value(self, item: Any) -> Any:
        if self._numbers:
            return float(item)
        if not isinstance(item, str):
            raise TypeError(item)
        return item


@click.command()
@click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default=True,
    metavar="HOST[:PORT]",
    help="Where others reach it. The default is this machine only; port 0 is any free one.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("cluster.zactor"),
    show_default=True,
    help="The cluster file to write: its address and keys, mode 0600.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Keep the directory in this file, and go on with it after a restart.",
)
def broker(listen: str, path: Path, state: Path | None) -> None:
    """Run the broker of a cluster, in the foreground, until it is stopped.

    It writes the cluster file, which nodes and programs join by. Whoever has the file can run code
    on the cluster.
    """
    host, _, port = listen.rpartition(":") if ":" in listen else (listen, "", "0")
    if not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{listen!r} is not HOST[:PORT]", param_hint="--listen")
    raise NotImplementedError((host, int(port), path, state))


@click.command()
@click.option(
    "--join",
    envvar="ZACTOR_ADDRESS",
    required=True,
    metavar="FILE",
    help="The cluster file that the broker wrote.",
)
@click.option("--num-cpus", type=click.FloatRange(min=0), default=None, help="Default: all.")
@click.option("--num-gpus", type=click.FloatRange(min=0), default=None, help="Default: all.")
@click.option("--memory", type=click.IntRange(min=0), default=None, help="Bytes for actors.")
@click.option(
    "--object-store-memory", type=click.IntRange(min=1 << 20), default=None, help="Bytes."
)
@click.option(
    "--resources", type=Pairs(numbers=True), default=None, help="Like camera=1,disk=2."
)
@click.option("--labels", type=Pairs(numbers=False), default=None, help="Like zone=a,kind=big.")
@click.option(
    "--preload", multiple=True, metavar="MODULE", help="Import it before workers fork."
)
def node(join: str, preload: tuple[str, ...], **options: Any) -> None:
    """Run this machine's node of a cluster, in the foreground, until it is stopped."""
    raise NotImplementedError((join, preload, options))
