"""Streams of items: what the parity rows do not cover."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

import zactor
from zactor.exceptions import (
    ActorDiedError,
    StreamingGeneratorReplayInconsistentError,
    TaskCancelledError,
)

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(30)]


def until(condition: Any, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@zactor.remote
class Producer:
    def ticks(self, path: str) -> Any:
        while True:
            with open(path, "ab") as file:
                file.write(b".")
            yield 1
            time.sleep(0.01)

    def numbers(self, count: int) -> Any:
        yield from range(count)

    @zactor.method(_generator_backpressure_num_objects=1)
    def one_by_one(self, count: int) -> Any:
        yield from range(count)

    def mixed(self) -> Any:
        yield 1
        yield zactor.put("inner")
        yield "text"
        yield b"x" * 300_000
        yield None

    def ping(self) -> str:
        return "pong"


@zactor.remote
class AsyncProducer:
    def __init__(self) -> None:
        self.closed = False

    async def numbers(self, count: int) -> Any:
        try:
            for number in range(count):
                yield number
        finally:
            self.closed = True

    async def slow(self) -> Any:
        try:
            while True:
                yield 1
                await asyncio.sleep(0.01)
        finally:
            self.closed = True

    def plain(self, count: int) -> Any:
        yield from range(count)

    async def is_closed(self) -> bool:
        return self.closed


@zactor.remote
class Consumer:
    def total(self, generator: Any) -> int:
        return sum(zactor.get(ref) for ref in generator)

    def first(self, generators: list[Any]) -> Any:
        self.kept = generators[0]
        return zactor.get(next(self.kept))

    def rest(self) -> list[Any]:
        return [zactor.get(ref) for ref in self.kept]

    def die_consuming(self, producer: Any, path: str) -> None:
        next(producer.ticks.remote(path))
        os._exit(1)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_many_items_come_in_order() -> None:
    producer = Producer.remote()
    assert [zactor.get(ref) for ref in producer.numbers.remote(20_000)] == list(range(20_000))
    assert zactor.get(producer.ping.remote()) == "pong"


def test_items_of_all_kinds_keep_their_order() -> None:
    values = [zactor.get(ref) for ref in Producer.remote().mixed.remote()]
    assert values[0] == 1
    assert zactor.get(values[1]) == "inner"
    assert values[2:] == ["text", b"x" * 300_000, None]


def test_items_outlive_the_generator() -> None:
    refs = list(Producer.remote().mixed.remote())
    assert zactor.get(zactor.get(refs[1])) == "inner"


def test_async_and_plain_generators_of_an_async_actor() -> None:
    actor = AsyncProducer.remote()
    both = [actor.numbers.remote(3_000), actor.plain.remote(3_000)]
    assert [sum(zactor.get(list(each))) for each in both] == [4_498_500] * 2


def test_a_dropped_async_generator_is_closed() -> None:
    actor = AsyncProducer.remote()
    generator = actor.slow.remote()
    next(generator)
    del generator
    assert until(lambda: zactor.get(actor.is_closed.remote()))


def test_a_cancelled_async_generator_raises_last() -> None:
    actor = AsyncProducer.remote()
    generator = actor.slow.remote()
    next(generator)
    zactor.cancel(generator)
    with pytest.raises(TaskCancelledError):
        for ref in generator:
            zactor.get(ref)
    assert until(lambda: zactor.get(actor.is_closed.remote()))


def test_back_pressure_of_one() -> None:
    assert [zactor.get(r) for r in Producer.remote().one_by_one.remote(50)] == list(range(50))


def test_cancel_under_back_pressure() -> None:
    producer = Producer.remote()
    generator = producer.one_by_one.remote(50)
    assert zactor.get(next(generator)) == 0
    time.sleep(0.1)
    zactor.cancel(generator)
    with pytest.raises(TaskCancelledError):
        for ref in generator:
            zactor.get(ref)
    assert zactor.get(producer.ping.remote()) == "pong"


def test_a_consumer_that_dies_ends_the_producer(tmp_path: Path) -> None:
    producer, consumer = Producer.remote(), Consumer.remote()
    with pytest.raises(ActorDiedError):
        zactor.get(consumer.die_consuming.remote(producer, str(tmp_path / "n")))
    assert zactor.get(producer.ping.remote(), timeout=10) == "pong"


def test_a_generator_dropped_before_it_ran_does_not_run(tmp_path: Path) -> None:
    producer = Producer.remote()
    first = producer.ticks.remote(str(tmp_path / "first"))
    next(first)
    second = producer.ticks.remote(str(tmp_path / "second"))
    del second
    del first
    assert zactor.get(producer.ping.remote(), timeout=10) == "pong"
    assert size(tmp_path / "second") == 0


def test_a_generator_is_passed_on_by_itself() -> None:
    producer, consumer = Producer.remote(), Consumer.remote()
    assert zactor.get(consumer.total.remote(producer.numbers.remote(200)), timeout=10) == 19_900


def test_a_generator_passed_on_is_shared() -> None:
    producer, consumer = Producer.remote(), Consumer.remote()
    generator = producer.numbers.remote(6)
    assert zactor.get(next(generator)) == 0
    assert zactor.get(consumer.first.remote([generator])) == 1
    assert zactor.get(next(generator)) == 2
    del generator
    assert zactor.get(consumer.rest.remote()) == [3, 4, 5]


def test_dropping_a_generator_that_was_passed_on_ends_it(tmp_path: Path) -> None:
    producer, consumer = Producer.remote(), Consumer.remote()
    zactor.get(consumer.first.remote([producer.ticks.remote(str(tmp_path / "n"))]))
    assert size(tmp_path / "n") > 0
    zactor.kill(consumer)
    assert zactor.get(producer.ping.remote(), timeout=10) == "pong"


def test_a_rerun_that_yields_less_is_noticed(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    @zactor.remote(max_retries=1)
    def shrinking() -> Any:
        if marker.exists():
            return
        yield 1
        yield 2
        marker.touch()
        time.sleep(0.2)  # so that both items leave
        os._exit(1)

    generator = shrinking.remote()
    assert [zactor.get(next(generator)), zactor.get(next(generator))] == [1, 2]
    with pytest.raises(StreamingGeneratorReplayInconsistentError):
        zactor.get(next(generator))
    with pytest.raises(StopIteration):
        next(generator)


def test_wait_and_anext_with_a_generator_that_was_passed_on() -> None:
    @zactor.remote
    class Waiting:
        async def run(self, generators: list[Any]) -> list[int]:
            return [await ref async for ref in generators[0]]

    producer = Producer.remote()
    assert zactor.get(
        Waiting.remote().run.remote([producer.numbers.remote(5)]), timeout=10
    ) == [0, 1, 2, 3, 4]


def test_a_threaded_actors_generators_run_side_by_side() -> None:
    producer = Producer.options(max_concurrency=3).remote()
    first, second = producer.numbers.remote(1_000), producer.numbers.remote(1_000)
    assert sum(zactor.get(list(second))) + sum(zactor.get(list(first))) == 999_000


@pytest.mark.parametrize("size", [1, 300_000])
def test_a_generator_under_back_pressure_that_runs_again_hears_what_was_taken(
    tmp_path: Path, size: int
) -> None:
    @zactor.remote(max_retries=1, _generator_backpressure_num_objects=1)
    def crashes_once(path: str) -> Any:
        for number in range(4):
            if number == 2 and not os.path.exists(path):
                with open(path, "w"):
                    os._exit(1)
            yield bytes([number]) * size

    items = crashes_once.remote(str(tmp_path / "crashed"))
    assert [zactor.get(ref, timeout=10)[0] for ref in items] == [0, 1, 2, 3]
