"""Networks of their own for the "machines" of a test: real interfaces, which can be cut.

Needs the right to make network namespaces (root); tests that use them are skipped without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SUBNETS = 1 << 14  # of four addresses each, below 10.213


def _reserve() -> tuple[int, int]:
    """Return the number of a subnet that no test run on this machine uses, and what holds it."""
    directory = Path(tempfile.gettempdir(), f"zactor-test-networks-{os.getuid()}")
    directory.mkdir(mode=0o700, exist_ok=True)
    for attempt in range(SUBNETS):
        number = (os.getpid() * 8 + attempt) % SUBNETS
        held = os.open(directory / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
        else:
            return number, held
    raise RuntimeError("every subnet for tests is in use")


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True, timeout=10)


class Network:
    """A network namespace, joined to the test's own by a cable.

    Attributes:
        name: Of the namespace.
        host: The test's address at the cable.
        guest: The namespace's address.
    """

    def __init__(self) -> None:
        number, self._held = _reserve()
        self.name = f"zt{number}"
        self._cable = f"zc{number}"
        subnet = f"10.213.{number >> 6}"
        self.host = f"{subnet}.{(number & 63) * 4 + 1}"
        self.guest = f"{subnet}.{(number & 63) * 4 + 2}"
        self._remove()  # what a run that was killed has left
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        ip("netns", "add", self.name)
        ip("link", "add", self._cable, "type", "veth", "peer", "name", "z0", "netns", self.name)
        ip("addr", "add", f"{self.host}/30", "dev", self._cable)
        ip("link", "set", self._cable, "up")
        for argv in (
            ("addr", "add", f"{self.guest}/30", "dev", "z0"),
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
        self._remove()
        os.close(self._held)

    def _remove(self) -> None:
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
                made.append(Network())
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces: {error.stderr.decode().strip()}")
        yield made
    finally:
        for network in made:
            network.close()
