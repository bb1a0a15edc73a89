"""A few rounds of killing processes under load; `chaos.py` runs as many as one likes."""

from __future__ import annotations

import os

import pytest

from tests.system import chaos

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(180)]

SEED = int(os.environ.get("ZACTOR_TEST_SEED", "1"))


@pytest.mark.parametrize("kind", chaos.KINDS)
def test_a_process_that_is_killed_under_load_leaves_nobody_hanging_and_nothing_behind(
    kind: str,
) -> None:
    print(f"ZACTOR_TEST_SEED={SEED}")
    chaos.run(SEED, kind)
