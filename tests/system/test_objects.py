"""Objects on a real cluster: large arguments, and values that are lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zactor
from tests.system.daemons import PATIENCE, wait_until
from zactor import exceptions
from zactor.runtime import current as processes

numpy = pytest.importorskip("numpy")

pytestmark = [pytest.mark.system]

COUNT = 50_000  # float64: more than travels in a reply


class Keeper:
    """Keeps what it gets."""

    kept: Any = None

    def keep(self, value: Any) -> None:
        self.kept = value

    def keep_ones(self) -> list[Any]:
        self.kept = zactor.put(numpy.ones(COUNT))
        return [self.kept]

    def sum(self) -> float:
        return float(self.kept.sum())

    def sum_of_reference(self) -> float:
        return float(zactor.get(self.kept[0]).sum())

    def echo(self, value: Any) -> Any:
        return value

    def pid(self) -> int:
        return os.getpid()


@zactor.remote
def full(value: float) -> Any:
    return numpy.full(COUNT, value)


@zactor.remote
def plus(array: Any, value: float) -> Any:
    return array + value


@zactor.remote
def total(array: Any) -> float:
    return float(array.sum())


def lose_everything(ref: Any) -> None:
    """Delete the segments of this test's cluster, as the death of a machine does."""
    zactor.wait([ref], timeout=PATIENCE)
    place = ref._result.value
    prefix = "-".join(place[0].split("-")[:-2])
    for path in Path(os.environ["ZACTOR_SHM_DIR"]).glob(f"{prefix}-*"):
        path.unlink(missing_ok=True)


@pytest.fixture
def keeper(cluster: None) -> Iterator[Any]:
    return zactor.remote(Keeper).remote()


def test_a_large_argument_is_a_view_of_shared_memory(keeper: Any) -> None:
    array = numpy.arange(COUNT)
    assert zactor.get(keeper.keep.remote(array)) is None
    for number in range(10):  # whose segments are used again meanwhile
        zactor.get(keeper.echo.remote(numpy.full(COUNT, number)))
    assert zactor.get(keeper.sum.remote()) == array.sum()
    assert (zactor.get(keeper.echo.remote(array)) == array).all()


def test_large_arguments_by_name_and_beside_references(keeper: Any) -> None:
    ref = full.remote(2)
    assert zactor.get(plus.remote(ref, value=numpy.ones(COUNT)))[0] == 3
    assert zactor.get(plus.remote(value=ref, array=numpy.ones(COUNT)))[0] == 3
    inner = zactor.put(1)
    nested = zactor.get(keeper.echo.remote([inner, numpy.ones(COUNT)]))
    assert zactor.get(nested[0]) == 1
    assert len(zactor.get(keeper.echo.remote("x" * (2 << 20)))) == 2 << 20


def test_a_lost_value_of_a_task_is_made_again(keeper: Any) -> None:
    first = full.remote(1)
    last = plus.remote(plus.remote(first, 1), 1)
    lose_everything(last)
    assert zactor.get(last)[0] == 3
    assert zactor.get(first)[0] == 1


def test_a_lost_argument_is_made_again(keeper: Any) -> None:
    ref = full.remote(1)
    lose_everything(ref)
    assert zactor.get(total.remote(ref)) == COUNT
    zactor.get(keeper.keep.remote([ref]))
    lose_everything(ref)
    assert zactor.get(keeper.sum_of_reference.remote()) == COUNT


def test_values_made_again_leave_nothing(keeper: Any) -> None:
    objects: Any = processes.current().objects  # type: ignore[union-attr]

    def kept() -> int:
        objects.store.look()
        return (
            objects.references.stats().owned
            + len(objects._places)
            + objects.recovery.lineage.stats().records
        )

    before = kept()
    first = full.remote(1)
    last = plus.remote(first, 1)
    lose_everything(last)
    del first
    assert zactor.get(last)[0] == 2
    del last
    wait_until(lambda: kept() <= before)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda keeper: zactor.put(numpy.ones(COUNT)), "PUT"),
        (lambda keeper: keeper.echo.remote(numpy.ones(COUNT)), "RETRIES_DISABLED"),
        (lambda keeper: full.options(max_retries=0).remote(1), "RETRIES_DISABLED"),
    ],
    ids=["put", "actor", "no retries"],
)
def test_what_cannot_be_made_again_says_why(keeper: Any, make: Any, reason: str) -> None:
    ref = make(keeper)
    lose_everything(ref)
    with pytest.raises(exceptions.ObjectReconstructionFailedError) as caught:
        zactor.get(ref)
    assert caught.value.reason == reason
    with pytest.raises(exceptions.ObjectLostError):
        zactor.get(total.remote(ref))


def test_a_value_is_made_again_as_often_as_its_task_may_run(keeper: Any) -> None:
    ref = full.options(max_retries=1).remote(1)
    lose_everything(ref)
    assert zactor.get(ref)[0] == 1
    lose_everything(ref)
    with pytest.raises(exceptions.ObjectReconstructionFailedError) as caught:
        zactor.get(ref)
    assert caught.value.reason == "MAX_ATTEMPTS"


def test_what_a_dead_process_owned_is_lost_at_once(keeper: Any) -> None:
    (ref,) = zactor.get(keeper.keep_ones.remote())
    pid = zactor.get(keeper.pid.remote())
    threading.Timer(0.05, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(exceptions.OwnerDiedError):
        while True:
            zactor.get(ref, timeout=PATIENCE)


class Maker:
    """Owns values, and hands out references to them inside other values."""

    def make(self, count: int) -> list[Any]:
        return [zactor.put(number) for number in range(count)]

    def owned(self) -> int:
        return int(processes.current().objects.references.stats().owned)  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [10, 5_000], ids=["inline", "stored"])
def test_a_value_read_again_has_the_same_references(cluster: None, count: int) -> None:
    maker = zactor.remote(Maker).remote()
    ref = maker.make.remote(count)
    first = zactor.get(ref)
    kept = first[1]
    second = zactor.get(ref)
    assert second is not first
    assert second[1] is kept
    assert zactor.get(second[-1]) == count - 1

    del first, second
    assert zactor.get(ref)[1] is kept  # nobody but the value had the others meanwhile


@pytest.mark.parametrize("count", [10, 5_000], ids=["inline", "stored"])
def test_references_of_a_value_that_was_read_go_with_the_value(
    cluster: None, count: int
) -> None:
    maker = zactor.remote(Maker).remote()
    objects = processes.current().objects  # type: ignore[union-attr]
    before = set(objects.loaded)
    ref = maker.make.remote(count)
    one = zactor.get(zactor.get(ref)[3:4])
    survivor = zactor.get(ref)[7]
    del ref

    wait_until(
        lambda: zactor.get(maker.owned.remote()) <= 1, what="the references are given up"
    )
    assert (one, zactor.get(survivor)) == ([3], 7)
    assert objects.loaded.keys() - before == {survivor.binary()}


def test_a_wait_that_is_over_leaves_nothing_at_what_it_did_not_wait_for(keeper: Any) -> None:
    event = zactor.remote(Gate).options(max_concurrency=2).remote()
    pending = [event.wait.remote(), keeper.echo.remote(1)]
    assert zactor.wait(pending, num_returns=1)[0] == pending[1:]
    assert not pending[0]._result.waiters
    zactor.get(event.open.remote())
    assert zactor.get(pending) == [None, 1]


class Gate:
    """Closed until it is opened."""

    def __init__(self) -> None:
        self._opened = threading.Event()

    def wait(self) -> None:
        self._opened.wait(PATIENCE)

    def open(self) -> None:
        self._opened.set()
