"""Ten thousand seeded schedules: nothing is freed early, nothing is left."""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.core.ownership_model import World

SEED = int(os.environ.get("ZACTOR_TEST_SEED", "0"))


def run(seed: int, *, deaths: bool, double: bool = False) -> None:
    random = Random(seed)
    world = World(random, random.randint(2, 4), deaths=deaths, double=double)
    try:
        for _ in range(random.randint(20, 400)):
            world.step()
        for process in world.processes:
            process.machine.check()
        world.finish()
    except Exception as error:
        error.add_note(f"ZACTOR_TEST_SEED={seed} deaths={deaths} double={double}")
        raise


@pytest.mark.parametrize("deaths", [False, True])
def test_a_few_schedules_free_nothing_early_and_leave_nothing(deaths: bool) -> None:
    for seed in range(SEED, SEED + 40):
        run(seed, deaths=deaths)


def test_doubled_reference_messages_change_nothing() -> None:
    for seed in range(SEED, SEED + 40):
        run(seed, deaths=bool(seed % 2), double=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(4))
def test_ten_thousand_schedules_free_nothing_early_and_leave_nothing(part: int) -> None:
    for seed in range(SEED + 2500 * part, SEED + 2500 * (part + 1)):
        run(seed, deaths=part >= 2, double=seed % 4 == 3)
