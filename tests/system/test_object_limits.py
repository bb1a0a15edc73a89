"""Objects where room is short, and where a machine is lost with what it had."""

from __future__ import annotations

from typing import Any

import pytest

import zactor
from tests.system.daemons import PATIENCE, Machines
from zactor import exceptions

numpy = pytest.importorskip("numpy")

pytestmark = [pytest.mark.system, pytest.mark.slow]


@zactor.remote
def full(value: float) -> Any:
    return numpy.full(50_000, value)


def test_three_times_the_store_is_put_and_read_back() -> None:
    zactor.init(object_store_memory=80 << 20, log_to_driver=False)
    try:
        refs = [zactor.put(numpy.full(1 << 20, number)) for number in range(30)]  # 8 MiB each
        for number, ref in enumerate(refs):
            array = zactor.get(ref)
            assert array[0] == array[-1] == number
        held = []
        with pytest.raises(exceptions.ObjectStoreFullError):
            while True:
                held.append(zactor.get(zactor.put(numpy.ones(1 << 20))))
    finally:
        zactor.shutdown()


def test_a_value_on_a_node_that_dies_is_made_again_on_another(world: Machines) -> None:
    world.broker()
    world.node("--resources", "a=10")
    far = world.node("--resources", "b=10", "--resources", "once=1", machine="far")
    world.init()
    ref = full.options(scheduling_strategy="SPREAD").remote(7)
    refs = [ref] + [full.options(scheduling_strategy="SPREAD").remote(7) for _ in range(7)]
    zactor.wait(refs, num_returns=8, timeout=PATIENCE)
    far.kill()
    for each in refs:
        assert zactor.get(each, timeout=PATIENCE)[0] == 7


def test_values_that_take_turns_in_little_room_are_not_lost() -> None:
    zactor.init(object_store_memory=20 << 20, num_cpus=3, log_to_driver=False)

    @zactor.remote(max_retries=0)
    def firsts(refs: list[Any], at: int) -> list[float]:
        return [
            float(zactor.get(refs[(at + step) % len(refs)])[0]) for step in range(len(refs))
        ]

    try:
        refs = [zactor.put(numpy.full(1 << 20, number)) for number in range(8)]  # 8 MiB each
        found = zactor.get([firsts.remote(refs, at) for at in (0, 3, 6)], timeout=60)
        for at, numbers in zip((0, 3, 6), found, strict=True):
            assert numbers == [(at + step) % 8 for step in range(8)]
    finally:
        zactor.shutdown()


def test_what_is_on_disk_can_be_held_and_read_when_the_store_is_full_of_what_is_held() -> None:
    zactor.init(object_store_memory=40 << 20, num_cpus=1, log_to_driver=False)
    try:
        refs = [zactor.put(numpy.full(1 << 20, number)) for number in range(12)]  # 8 MiB each
        held = [zactor.get(ref) for ref in refs]  # 96 MiB
        assert [float(array[-1]) for array in held] == list(range(12))
        assert not any(array.flags.writeable for array in held)
        del refs
        assert [float(array[0]) for array in held] == list(range(12))
    finally:
        zactor.shutdown()


def test_what_finds_no_room_on_this_machine_is_read_from_the_other(world: Machines) -> None:
    world.broker()
    world.node("--object-store-memory", str(20 << 20))
    world.node("--resources", "far=1", machine="far")
    world.init()
    made = [full.options(resources={"far": 0.1}).remote(number) for number in range(3)]
    blocks = [zactor.get(zactor.put(numpy.ones(1 << 20))) for _ in range(2)]
    huge = zactor.remote(lambda: numpy.full(3 << 20, 5.0)).options(resources={"far": 0.1})
    assert zactor.get(huge.remote(), timeout=PATIENCE)[-1] == 5.0  # 24 MiB
    assert [float(array[0]) for array in zactor.get(made, timeout=PATIENCE)] == [0, 1, 2]
    assert len(blocks) == 2
