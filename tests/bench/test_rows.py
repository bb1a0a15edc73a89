"""Tests of the registry: every row is there, once, and engines only claim rows that exist."""

import pytest

from bench import engines, rows, targets
from bench.work import ONE_AT_A_TIME, CannotDo, Group, Row, select

RAY_MICROBENCHMARK = """
single client get calls (Plasma Store)
single client put calls (Plasma Store)
multi client put calls (Plasma Store)
single client put gigabytes
single client tasks and get batch
multi client put gigabytes
single client get object containing 10k refs
single client wait 1k refs
single client tasks sync
single client tasks async
multi client tasks async
1:1 actor calls sync
1:1 actor calls async
1:1 actor calls concurrent
1:n actor calls async
n:n actor calls async
n:n actor calls with arg async
1:1 async-actor calls sync
1:1 async-actor calls async
1:1 async-actor calls with args async
1:n async-actor calls async
n:n async-actor calls async
placement group create/removal
client: get calls
client: tasks and get batch
client: put calls
client: tasks and put batch
client: put gigabytes
client: 1:1 actor calls sync
client: 1:1 actor calls async
client: 1:1 actor calls concurrent
""".strip().splitlines()

ALL = [row for group in rows.GROUPS for row in group.rows]
NEEDS_NOTHING = (
    "zactor",
    "ray",
    "pyzmq",
    "pyzmq x32",
    "memcpy",
    "multiprocessing",
    "concurrent.futures",
)


@pytest.mark.parametrize("name", RAY_MICROBENCHMARK)
def test_every_row_of_ray_microbenchmark_is_there_under_its_name(name):
    assert rows.find(name).name == name


def test_labels_are_unique():
    labels = [label for row in ALL for label in row.labels]

    assert len(labels) == len(set(labels))


def test_every_row_says_what_it_does():
    assert all(row.about and row.unit for row in ALL)


def test_rows_one_call_at_a_time_are_shown_in_three_placements():
    for name in (
        "1:1 actor calls sync",
        "1:1 async-actor calls sync",
        "single client tasks sync",
    ):
        assert set(ONE_AT_A_TIME) <= set(rows.find(name).placements)


def test_zactor_and_ray_have_a_work_for_every_row():
    works = rows.ray_api_works()

    assert [row.name for row in ALL if row.name not in works] == []


@pytest.mark.parametrize("name", NEEDS_NOTHING)
def test_an_engine_claims_only_rows_that_exist_and_says_why_not(name):
    engine = engines.load(name)
    for row in ALL:
        try:
            assert callable(engine.work(row.name))
        except CannotDo as reason:
            assert str(reason)
    for claimed in getattr(engine, "works", {}):
        assert rows.find(claimed)


def test_goals_are_for_lines_that_exist():
    labels = {label for row in ALL for label in row.labels}

    assert set(targets.TARGETS) <= labels
    assert {t.against for goals in targets.TARGETS.values() for t in goals} <= {
        "",
        *engines.MODULES,
    }
    assert {t.row for goals in targets.TARGETS.values() for t in goals} <= {"", *labels}


def test_a_name_can_be_entered_once():
    group = Group("g")
    group.add(Row("a", "about"))

    with pytest.raises(ValueError, match="two rows"):
        group.add(Row("a", "about"))


def test_selection_is_by_label_and_keeps_the_order():
    group = Group("g")
    group.add(Row("calls sync", "about", placements=ONE_AT_A_TIME))
    group.add(Row("memory", "about", quick=False, parts=("p50", "p99")))

    assert [case.placement for case in select([group], r"sync \[", quick=False)] == list(
        ONE_AT_A_TIME[:2]
    )
    assert [case.row.name for case in select([group], "p99", quick=False)] == ["memory"]
    assert select([group], "memory", quick=True) == []
