"""Lost values are made again: by tasks, generators and actors that may be run again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zactor
from tests.system.daemons import PATIENCE, wait_until
from zactor import exceptions
from zactor.config import Config
from zactor.runtime import current as processes

pytestmark = [pytest.mark.system, pytest.mark.slow]

COUNT = 50_000  # 400 kB: more than travels inside a message


@zactor.remote
def full(number: float) -> Any:
    return np.full(COUNT, number)


@zactor.remote
def plus(array: Any, value: Any) -> Any:
    return array + value


@zactor.remote
def total(array: Any) -> float:
    return float(array.sum())


@zactor.remote(num_returns=3)
def three(number: float) -> Any:
    return [np.full(COUNT, number), "small", np.full(COUNT, number + 1)]


@zactor.remote
def items(count: int) -> Iterator[Any]:
    for number in range(count):
        yield np.full(COUNT, number)


@zactor.remote(max_restarts=1, max_task_retries=2)
class Maker:
    def __init__(self) -> None:
        self.made = 0

    def full(self, number: float) -> Any:
        self.made += 1
        return np.full(COUNT, number)

    @zactor.method(num_returns=2)
    def two(self, array: Any) -> Any:
        return array + 1, array + 2

    def items(self, count: int) -> Iterator[Any]:
        for number in range(count):
            yield np.full(COUNT, number)

    def count(self) -> int:
        return self.made


def segment_of(ref: Any) -> Path:
    zactor.wait([ref], timeout=PATIENCE)
    return Path(Config.from_environment().shm_dir, ref._result.value[0])


def lose(*refs: Any) -> None:
    """Delete the segments of these values alone."""
    for ref in refs:
        segment_of(ref).unlink()


def lose_everything(ref: Any) -> None:
    """Delete the segments of this test's cluster, as the death of a machine does."""
    segment = segment_of(ref)
    prefix = "-".join(segment.name.split("-")[:-2])
    for path in segment.parent.glob(f"{prefix}-*"):
        path.unlink(missing_ok=True)


def first(ref: Any) -> float:
    return float(zactor.get(ref, timeout=PATIENCE)[0])


def kept() -> int:
    """Return how much this process remembers of objects of its own."""
    objects: Any = processes.current().objects  # type: ignore[union-attr]
    objects.store.look()
    objects.recovery.lineage.check()
    records: int = objects.recovery.lineage.stats().records
    return records + objects.references.stats().owned + len(objects._places)


def test_a_value_among_several_is_made_again(cluster: None) -> None:
    before = kept()
    left, small, right = three.remote(1)
    lose(right)
    assert first(right) == 2
    assert first(left) == 1
    lose_everything(left)
    assert zactor.get(total.remote(left), timeout=PATIENCE) == COUNT
    assert zactor.get(small) == "small"
    del left, right
    wait_until(lambda: kept() <= before)


def test_what_came_with_a_value_that_is_made_again_is_made_anew_and_leaves_nothing(
    cluster: None,
) -> None:
    before = kept()
    left, _, right = three.remote(1)
    lose(right)
    assert first(right) == 2
    assert first(left) == 1
    del left
    assert first(right) == 2
    del right
    wait_until(lambda: kept() <= before)


def test_an_item_of_a_generator_is_made_again(cluster: None) -> None:
    before = kept()
    refs = list(items.remote(5))
    lose(refs[3])
    assert first(refs[3]) == 3
    lose_everything(refs[0])
    assert [first(ref) for ref in refs] == [0, 1, 2, 3, 4]
    del refs
    wait_until(lambda: kept() <= before)


def test_a_generator_that_runs_again_ends_when_nobody_needs_more_of_it(
    cluster: None, tmp_path: Path
) -> None:
    @zactor.remote
    def noted(path: str) -> Iterator[Any]:
        for number in range(50):
            Path(path, str(time.monotonic_ns())).touch()
            yield np.full(COUNT, number)
            if number:
                time.sleep(0.02)

    generator = noted.remote(str(tmp_path))
    ref = next(generator)
    for other in generator:
        del other
    ran = len(list(tmp_path.iterdir()))
    lose(ref)
    assert first(ref) == 0
    assert ran == 50
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) < ran + 25


def test_a_dynamic_generators_items_are_made_again(cluster: None) -> None:
    refs = list(zactor.get(items.options(num_returns="dynamic").remote(3), timeout=PATIENCE))
    lose(refs[1], refs[2])
    assert [first(ref) for ref in refs] == [0, 1, 2]


def test_a_generator_that_yields_less_than_before_says_so(
    cluster: None, tmp_path: Path
) -> None:
    @zactor.remote
    def fewer(path: str) -> Iterator[Any]:
        was_here = Path(path).exists()
        Path(path).touch()
        for number in range(1 if was_here else 3):
            yield np.full(COUNT, number)

    refs = list(fewer.remote(str(tmp_path / "ran")))
    lose(refs[2])
    with pytest.raises(exceptions.StreamingGeneratorReplayInconsistentError):
        zactor.get(refs[2], timeout=PATIENCE)


def test_a_chain_of_lost_values_is_made_again(cluster: None) -> None:
    before = kept()
    chain = [full.remote(0)]
    for _ in range(8):
        chain.append(plus.remote(chain[-1], 1))
    lose_everything(chain[-1])
    assert first(chain[-1]) == 8
    assert first(chain[4]) == 4
    del chain
    wait_until(lambda: kept() <= before)


def test_a_long_chain_of_values_that_were_let_go_is_made_again(cluster: None) -> None:
    before = kept()
    last = full.remote(0)
    for _ in range(400):
        last = plus.remote(last, 1)
    lose_everything(last)
    assert first(last) == 400
    del last
    wait_until(lambda: kept() <= before)


def test_values_made_of_several_and_of_items_are_made_again(cluster: None) -> None:
    left, _, right = three.remote(1)
    *_, item = items.remote(3)
    total_of_all = plus.remote(plus.remote(left, right), item)
    lose_everything(total_of_all)
    del left, right, item, _
    assert first(total_of_all) == 1 + 2 + 2


def test_a_reference_inside_an_argument_is_made_again(cluster: None) -> None:
    @zactor.remote
    def inside(refs: list[Any]) -> Any:
        return zactor.get(refs[0]) + 1

    ref = full.remote(1)
    made = inside.remote([ref])
    lose_everything(made)
    del ref
    assert first(made) == 2


def test_results_of_an_actor_with_retries_are_made_again(cluster: None) -> None:
    actor = Maker.remote()
    ref = actor.full.remote(1)
    left, right = actor.two.remote(ref)
    refs = list(actor.items.options(num_returns="streaming").remote(3))
    lose_everything(right)
    assert (first(left), first(right), first(ref)) == (2, 3, 1)
    assert [first(ref) for ref in refs] == [0, 1, 2]
    assert zactor.get(actor.count.remote(), timeout=PATIENCE) == 2


def test_results_of_a_restarted_actor_are_made_again(cluster: None) -> None:
    actor = Maker.remote()
    ref = actor.full.remote(1)
    lose_everything(ref)
    pid = zactor.get(actor.__ray_call__.remote(lambda self: os.getpid()), timeout=PATIENCE)
    os.kill(pid, signal.SIGKILL)
    assert first(ref) == 1


def test_results_of_a_dead_actor_are_lost(cluster: None) -> None:
    actor = Maker.remote()
    ref = actor.full.remote(1)
    lose_everything(ref)
    zactor.kill(actor)
    with pytest.raises(exceptions.ObjectReconstructionFailedError) as caught:
        zactor.get(ref, timeout=PATIENCE)
    assert caught.value.reason == "ACTOR_DIED"
    assert "kill" in str(caught.value)


def test_without_retries_a_lost_value_is_an_error_at_once(cluster: None) -> None:
    actor = Maker.remote()
    refs = [
        full.options(max_retries=0).remote(1),
        three.options(max_retries=0).remote(1)[0],
        next(items.options(max_retries=0).remote(1)),
        actor.full.options(max_task_retries=0).remote(1),
    ]
    zactor.wait(refs, num_returns=len(refs), timeout=PATIENCE)
    for ref in refs:
        lose(ref)
        with pytest.raises(exceptions.ObjectLostError) as caught:
            zactor.get(ref, timeout=PATIENCE)
        assert caught.value.reason == "RETRIES_DISABLED"


def test_a_timeout_bounds_the_wait_for_what_is_made_again(
    cluster: None, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()

    @zactor.remote
    def slow(gate: str) -> Any:
        while not Path(gate).exists():
            time.sleep(0.01)
        return np.ones(COUNT)

    @zactor.remote
    def impatient(refs: list[Any]) -> str:
        try:
            zactor.get(refs, timeout=0.2)
        except exceptions.GetTimeoutError:
            return "timed out"
        return "was there"

    ref = slow.remote(str(gate))
    lose(ref)
    gate.unlink()
    for what in (ref, [ref]):
        began = time.monotonic()
        with pytest.raises(exceptions.GetTimeoutError):
            zactor.get(what, timeout=0.2)
        assert time.monotonic() - began < PATIENCE / 2
    assert zactor.get(impatient.remote([ref]), timeout=PATIENCE) == "timed out"
    gate.touch()
    assert first(ref) == 1


def test_what_was_evicted_from_the_lineage_is_lost_and_says_why(cluster: None) -> None:
    recovery = processes.current().objects.recovery  # type: ignore[union-attr]
    recovery.lineage.most_bytes = 20_000
    refs = [full.remote(number) for number in range(30)]
    lose_everything(refs[-1])
    assert first(refs[-1]) == 29
    with pytest.raises(exceptions.ObjectReconstructionFailedError) as caught:
        zactor.get(refs[0], timeout=PATIENCE)
    assert caught.value.reason == "LINEAGE_EVICTED"
    recovery.lineage.check()


def test_a_value_made_of_a_put_that_is_gone_names_it(cluster: None) -> None:
    put = zactor.put(np.ones(COUNT))
    made = plus.remote(put, 1)
    lose_everything(made)
    gone = put.hex()
    del put
    with pytest.raises(exceptions.ObjectReconstructionFailedError) as caught:
        zactor.get(made, timeout=PATIENCE)
    assert caught.value.reason == "PUT"
    assert gone in str(caught.value)


@zactor.remote
def gated(tally: str, gate: str) -> Any:
    """Wait, but not in the first run, until the gate is there."""
    with open(tally, "ab") as file:
        file.write(b".")
        file.flush()
        is_first = file.tell() == 1
    assert is_first or wait_until(lambda: os.path.exists(gate))
    return np.full(COUNT, 3.0)


def test_a_loop_that_awaits_what_is_made_again_goes_on(cluster: None, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def main() -> float:
        ref = gated.remote(str(tmp_path / "tally"), str(gate))
        await asyncio.wait([ref.as_future()])
        lose(ref)
        awaited = asyncio.ensure_future(ref.as_future())
        await asyncio.sleep(0)  # where it would have been read
        gate.touch()
        return float((await awaited)[0])

    assert asyncio.run(main()) == 3.0


def test_an_async_actor_answers_while_an_argument_is_made_again(
    cluster: None, tmp_path: Path
) -> None:
    @zactor.remote
    class Busy:
        async def take(self, array: Any) -> float:
            return float(array[0])

        async def ping(self) -> str:
            return "pong"

    gate = tmp_path / "gate"
    actor = Busy.remote()
    assert zactor.get(actor.ping.remote(), timeout=PATIENCE) == "pong"
    ref = gated.remote(str(tmp_path / "tally"), str(gate))
    lose(ref)
    taken = actor.take.remote(ref)
    try:
        assert zactor.get(actor.ping.remote(), timeout=10) == "pong"
    finally:
        gate.touch()
    assert zactor.get(taken, timeout=PATIENCE) == 3.0
