"""What a machine has to give."""

from __future__ import annotations

import os

import pytest

from zactor.config import Config
from zactor.runtime import machine


def test_cpus_and_memory_are_found() -> None:
    found = machine.detect_resources(Config())
    assert 1 <= found["CPU"] <= len(os.sched_getaffinity(0))
    assert found["memory"] > 1 << 20


def test_what_the_user_says_goes_before_what_is_found() -> None:
    overrides = {"CPU": 7, "GPU": None, "memory": 5, "special": 2}
    found = machine.detect_resources(Config(), overrides=overrides)
    assert (found["CPU"], found["memory"], found["special"]) == (7.0, 5.0, 2.0)


@pytest.mark.parametrize(
    ("visible", "count"),
    [("0,1", 2), ("", 0), ("-1", 0), ("0,-1,1", 1), ("GPU-abc, GPU-def", 2)],
)
def test_gpus_are_counted_as_cuda_counts_them(visible: str, count: int) -> None:
    assert machine.gpu_count({"CUDA_VISIBLE_DEVICES": visible}) == count


def test_a_quota_bounds_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machine, "_read", lambda path: "150000 100000\n" if "cpu" in path else ""
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert machine.cpu_count() == 2.0


def test_a_kill_for_memory_is_noticed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = ["oom 1\noom_kill 1\n"]
    monkeypatch.setattr(machine, "_read", lambda path: text[0] if "events" in path else "")
    pressure = machine.MemoryPressure()
    assert not pressure.has_killed()
    text[0] = "oom_kill 2\n"
    assert pressure.has_killed()
    assert not pressure.has_killed()
    assert machine.store_capacity(Config(store_bytes=5)) == 5


@pytest.mark.parametrize(
    ("node_sees", "numbers", "seen"),
    [
        (None, [0, 2], "0,2"),
        ("4,GPU-abc", [1], "GPU-abc"),
        ("4, 5", [0, 1], "4,5"),
        ("4,5", [], "4,5"),
        (None, [], None),
    ],
)
def test_a_worker_sees_the_gpus_it_was_given(
    node_sees: str | None, numbers: list[int], seen: str | None
) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "of the task before"}
    chosen = machine.use_gpus(environ, node_sees, numbers)
    assert environ.get("CUDA_VISIBLE_DEVICES") == seen
    assert chosen == (seen.split(",") if numbers and seen else [])
