"""What a result waits for, where it is neither a plain call nor on a healthy node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zactor
from tests.system.test_why import chain_with, kinds, wait_at
from zactor.api.why import why_result
from zactor.runtime.current import current
from zactor.util.scheduling_strategies import PlacementGroupSchedulingStrategy

pytestmark = pytest.mark.system


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[str]:
    """Give a path; what waits for it goes on at the end of the test."""
    path = tmp_path / "gate"
    yield str(path)
    path.touch()


@zactor.remote(num_cpus=0)
class Source:
    @zactor.method(num_returns="streaming", _generator_backpressure_num_objects=2)
    def items(self) -> Iterator[int]:
        yield from range(10)

    @zactor.method(num_returns="streaming")
    def late(self, gate: str) -> Iterator[int]:
        wait_at(gate)
        yield 1

    def answer(self) -> int:
        return 1

    def work(self, gate: str) -> None:
        wait_at(gate)


@zactor.remote(num_cpus=0)
class AsyncSource:
    @zactor.method(num_returns="streaming", _generator_backpressure_num_objects=2)
    async def items(self) -> Any:
        for number in range(10):
            yield number


@zactor.remote(num_cpus=0)
class Sink:
    async def take(self, items: Any) -> None:
        async for item in items:
            await item


@zactor.remote(num_returns=2)
def pair(*given: Any) -> tuple[int, int]:
    return 1, 2


@zactor.remote
def stream(gate: str) -> Iterator[int]:
    wait_at(gate)
    yield 1


@pytest.mark.parametrize("kind", [Source, AsyncSource])
def test_a_generator_that_its_consumer_holds_up_says_so(cluster: None, kind: Any) -> None:
    source = kind.remote()
    items = source.items.remote()
    said = chain_with(items.completed(), "consumer")
    assert kinds(said) == ["running", "consumer"]
    assert "has yielded 2 items, of which its consumer has taken 0" in str(said)
    assert said.chain[0].fields["place"].endswith(" in items")
    assert "2 items are here" in str(zactor.why(items))


def test_a_generator_is_asked_about_itself(cluster: None, gate: str) -> None:
    said = chain_with(Source.remote().late.remote(gate), "running", "wait_at")
    assert said.chain[-1].fields["place"].endswith(" in wait_at")
    assert chain_with(stream.remote(gate), "running").chain[-1].text.startswith("task stream()")
    assert kinds(chain_with(stream.options(resources={"moon": 1}).remote(gate), "resource"))


def test_who_takes_from_anothers_stream_leads_to_its_producer(cluster: None, gate: str) -> None:
    taken = Sink.remote().take.remote(Source.remote().late.remote(gate))
    said = chain_with(taken, "running", "Source.late()")
    assert kinds(said) == ["running", "waits", "borrowed", "running"]


def test_tasks_with_several_results_are_explained_like_others(cluster: None, gate: str) -> None:
    for ref in pair.options(resources={"moon": 1}).remote():
        assert kinds(chain_with(ref, "resource", "no node ever could"))[0] == "worker"
    awaited = pair.remote(Source.remote().work.remote(gate))[1]
    assert kinds(chain_with(awaited, "running")) == ["argument", "running"]


def test_a_placement_group_that_is_not_reserved_is_the_cause(cluster: None) -> None:
    group = zactor.util.placement_group([{"CPU": 1, "venus": 1}], name="far")
    inside = PlacementGroupSchedulingStrategy(group)
    actor = Source.options(scheduling_strategy=inside).remote()
    for ref in (
        group.ready(),
        pair.options(scheduling_strategy=inside).remote()[0],
        actor.answer.remote(),
    ):
        said = chain_with(ref, "resource", "venus")
        assert "placement group far is not reserved yet" in said.chain[-1].text
    zactor.util.remove_placement_group(group)


def test_who_holds_what_is_missing_is_named(cluster: None) -> None:
    total = zactor.cluster_resources()["CPU"]
    holder = Source.options(num_cpus=total, name="greedy").remote()
    zactor.get(holder.answer.remote())
    said = chain_with(Source.options(num_cpus=1).remote().answer.remote(), "resource")
    assert f"held by Source greedy ({total:g} CPU)" in said.chain[-1].text
    zactor.kill(holder)


def test_a_tool_is_told_how_a_call_has_ended(cluster: None) -> None:
    @zactor.remote(max_retries=0)
    def crash() -> None:
        os._exit(3)

    runtime = current()
    assert runtime is not None
    ref = crash.remote()
    zactor.wait([ref])
    # The command asks for a result whose reference it does not have.
    said = why_result(runtime, ref.binary())
    assert said.is_ready
    assert "WORKER_DIED" in str(said)
    assert "exited with code 3" in str(said)
