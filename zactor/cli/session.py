"""What the command line asks of a cluster: the only module of it that speaks to one.

Attaches as a tool: it owns no job that actors belong to, and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from zactor.cli.main import EXIT_NO_CLUSTER, EXIT_NOT_FOUND

__all__ = ["EXIT_NOT_FOUND", "EXIT_NO_CLUSTER", "Session", "address_option", "attached"]

address_option = click.option(
    "-a",
    "--address",
    envvar="ZACTOR_ADDRESS",
    metavar="FILE",
    help="The cluster: its file, or 'auto' (default) for the latest of this machine.",
)
