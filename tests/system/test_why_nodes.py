"""What a result waits for, when a node is silent or gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zactor
from tests.conftest import segments
from tests.system.test_why import chain_with, kinds, wait_at
from tests.system.waiting import wait_for
from zactor.exceptions import TaskUnschedulableError
from zactor.options.scheduling import NodeAffinitySchedulingStrategy
from zactor.testing import Cluster

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[str]:
    """Give a path; what waits for it goes on at the end of the test."""
    path = tmp_path / "gate"
    yield str(path)
    path.touch()


@zactor.remote(num_cpus=0)
class Source:
    def pid(self) -> int:
        return os.getpid()

    def work(self, gate: str) -> None:
        wait_at(gate)

    def length(self, refs: list[Any]) -> int:
        return len(zactor.get(refs[0]))


@pytest.fixture
def two_nodes() -> Iterator[Cluster]:
    with Cluster(settings={"lease": 20.0}) as made:
        made.add_node(num_cpus=2)
        made.add_node(num_cpus=2, resources={"far": 1})
        zactor.init(made.address)
        yield made
        zactor.shutdown()


@zactor.remote(num_cpus=0, max_retries=3)
def make(first: str, gate: str) -> Any:
    if Path(first).exists():
        wait_at(gate)
    Path(first).touch()
    return np.ones(1 << 20)


def test_a_value_that_is_made_again_leads_to_its_task(
    two_nodes: Cluster, tmp_path: Path, gate: str
) -> None:
    before = segments()
    ref = make.options(resources={"far": 0.1}).remote(str(tmp_path / "first"), gate)
    zactor.wait([ref], fetch_local=False)
    assert "stored at node" in str(zactor.why(ref))
    made = segments() - before
    two_nodes.nodes[1].process.kill()  # and what its tasks had stored is made again at once
    assert kinds(chain_with(ref, "resource", "far")) == ["rebuilt", "worker", "resource"]
    wait_for(lambda: not made & segments())  # until then, who is on the same machine finds it
    length = Source.remote().length.remote([ref])
    said = chain_with(length, "resource", "far")
    assert kinds(said) == ["running", "waits", "borrowed", "rebuilt", "worker", "resource"]
    two_nodes.add_node(num_cpus=2, resources={"far": 1})
    assert kinds(chain_with(ref, "running")) == ["rebuilt", "running"]
    Path(gate).touch()
    assert zactor.get(length) == 1 << 20


def test_a_node_that_is_silent_is_named(two_nodes: Cluster, gate: str) -> None:
    source = Source.options(resources={"far": 0.1}).remote()
    pid = zactor.get(source.pid.remote())
    work = source.work.remote(gate)
    wait_for(lambda: zactor.why(work).chain[-1].kind == "running")
    silent = [pid, two_nodes.nodes[1].pid]
    for each in silent:
        os.kill(each, signal.SIGSTOP)
    try:
        said = zactor.why(work, timeout=1.0)
        assert "nor does its node" in str(said)
        wait_for(lambda: zactor.why(work, timeout=1.0).chain[-1].kind == "lost", 15)
        assert "has not been heard of for" in str(zactor.why(work))
    finally:
        for each in silent:
            os.kill(each, signal.SIGCONT)
    assert wait_for(lambda: zactor.why(work).chain[-1].kind == "running")


@zactor.remote(max_retries=3)
def wait_long(started: str, gate: str) -> None:
    Path(started).touch()
    wait_at(gate)


def test_a_task_that_can_be_placed_no_more_says_whether_it_may_have_run(
    two_nodes: Cluster, tmp_path: Path, gate: str
) -> None:
    far = two_nodes.nodes[1]
    there = NodeAffinitySchedulingStrategy(far.node_id, soft=False)
    pinned = wait_long.options(num_cpus=2, scheduling_strategy=there)
    ran = pinned.remote(str(tmp_path / "ran"), gate)
    waited = pinned.remote(str(tmp_path / "waited"), gate)
    wait_for((tmp_path / "ran").exists)

    two_nodes.kill(far)

    said = []
    for ref in (ran, waited):
        with pytest.raises(TaskUnschedulableError) as caught:
            zactor.get(ref, timeout=40)
        said.append(caught.value.executed)
    assert said == ["unknown", "no"]
