"""Networks of their own for the "machines" of a test: real interfaces, which can be cut.

Needs the right to make network namespaces (root); tests that use them are skipped without it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

_numbers = itertools.count(1)


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True, timeout=10)


class Network:
    """A network namespace, joined to the test's own by a cable.

    Attributes:
        name: Of the namespace.
        host: The test's address at the cable.
        guest: The namespace's address.
    """

    def __init__(self, number: int) -> None:
        self.name = f"zt{os.getpid()}x{number}"
        self._cable = f"z{os.getpid() % 100000}x{number}"
        self.host = f"10.213.{number}.1"
        self.guest = f"10.213.{number}.2"
        ip("netns", "add", self.name)
        ip("link", "add", self._cable, "type", "veth", "peer", "name", "z0", "netns", self.name)
        ip("addr", "add", f"{self.host}/24", "dev", self._cable)
        ip("link", "set", self._cable, "up")
        for argv in (
            ("addr", "add", f"{self.guest}/24", "dev", "z0"),
            ("link", "set", "z0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", self.host),
        ):
            ip("-n", self.name, *argv)

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a command inside."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Pull the cable: nothing arrives, and nobody is told."""
        ip("link", "set", self._cable, "down")

    def heal(self) -> None:
        """Plug it in again."""
        ip("link", "set", self._cable, "up")

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", self._cable)
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "del", self.name)


@contextlib.contextmanager
def networks(count: int) -> Iterator[list[Network]]:
    """Make networks, or skip the test if this user must not."""
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` command")
    made: list[Network] = []
    try:
        try:
            for _ in range(count):
                made.append(Network(next(_numbers)))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces: {error.stderr.decode().strip()}")
        yield made
    finally:
        for network in made:
            network.close()
