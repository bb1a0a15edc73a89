"""One file per engine: how it is started, and how it does the rows it can do."""

from __future__ import annotations

import importlib
import importlib.metadata
import socket
from typing import Any, Protocol

from bench.work import CannotDo, Row, Setting, Work

MODULES = {
    "zactor": "bench.engines.ray_api",
    "ray": "bench.engines.ray_api",
    "pyzmq": "bench.engines.pyzmq",
    "pyzmq x32": "bench.engines.pyzmq",
    "memcpy": "bench.engines.memcpy",
    "xoscar": "bench.engines.xoscar",
    "dask": "bench.engines.dask",
    "thespian": "bench.engines.thespian",
    "pykka": "bench.engines.pykka",
    "multiprocessing": "bench.engines.processes",
    "concurrent.futures": "bench.engines.futures",
}
QUICK = ("zactor", "pyzmq", "pyzmq x32", "memcpy")  # what --quick runs unless told otherwise


class Engine(Protocol):
    """What the host asks of an engine."""

    def versions(self) -> dict[str, str]:
        """Say which packages in which versions; raise CannotDo if they are not installed."""

    def api(self, row: Row) -> Any:
        """Return what the work of the row gets as its first argument."""

    def work(self, row: str) -> Work:
        """Return how the row is done; raise CannotDo if there is no way."""

    def start(self, session: str, setting: Setting) -> None:
        """Start the engine; raise CannotDo if it has no such session."""

    def stop(self) -> None:
        """Undo `start`."""


def load(name: str) -> Engine:
    """Return the engine called `name`, not started and nothing imported yet."""
    try:
        return importlib.import_module(MODULES[name]).make(name)
    except ModuleNotFoundError as error:
        raise CannotDo(f"{error.name} is not installed") from None


def free_port() -> int:
    """Return a TCP port of the loopback that nobody uses now, for engines that want to be told."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def versions_of(*packages: str) -> dict[str, str]:
    """Return the installed versions without importing anything."""
    try:
        return {package: importlib.metadata.version(package) for package in packages}
    except importlib.metadata.PackageNotFoundError as error:
        raise CannotDo(f"{error.name} is not installed") from None


class Simple:
    """An engine whose works need nothing started: a table of them, and a reason for the rest."""

    def __init__(
        self,
        packages: tuple[str, ...],
        works: dict[str, Work],
        otherwise: str,
        reasons: dict[str, str] | None = None,
    ) -> None:
        self.packages = packages
        self.works = works
        self.otherwise = otherwise
        self.reasons = reasons or {}

    def versions(self) -> dict[str, str]:
        """See Engine."""
        return versions_of(*self.packages)

    def api(self, row: Row) -> Any:
        """See Engine."""
        return None

    def work(self, row: str) -> Work:
        """See Engine."""
        if row in self.works:
            return self.works[row]
        raise CannotDo(self.reasons.get(row, self.otherwise))

    def start(self, session: str, setting: Setting) -> None:
        """See Engine."""

    def stop(self) -> None:
        """See Engine."""
