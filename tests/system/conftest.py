"""What the system tests get: machines with daemons on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.daemons import Machines, machines


@pytest.fixture
def world() -> Iterator[Machines]:
    """Give a fresh set of machines, and end all that was started there."""
    with machines() as made:
        yield made
