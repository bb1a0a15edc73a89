"""Tests of what is made of a run: documents, tables, comparisons, pictures."""

import copy
import io
import xml.etree.ElementTree as ET

import pytest

from bench import document, plot, report
from bench.harness import Outcome
from bench.work import ONE_CORE, Case, Row

SYNC = Row("1:1 actor calls sync", "one call at a time", placements=(ONE_CORE,))
LATENCY = Row("latency", "half load", unit="ms", less_is_better=True, parts=("p50", "p99"))


def line(case=None, part="", **outcomes):
    return document.line(case or Case("g", SYNC, ONE_CORE), part, outcomes)


def samples(*values):
    return Outcome(samples=list(values))


def run(*lines, quick=False):
    return {
        "format": document.FORMAT,
        "machine": {"cpu": "abacus", "cpus": 2, "date": "today"},
        "method": {"repetitions": 3, "seconds": 1.0, "quick": quick},
        "engines": {"zactor": {"zactor": "1"}, "ray": {"ray": "2"}},
        "missing": {"dask": "dask is not installed"},
        "left behind": {},
        "lines": list(lines),
    }


def scaled(finished, factor, engines):
    new = copy.deepcopy(finished)
    for each in new["lines"]:
        for engine in engines:
            cell = each["engines"][engine]
            cell["samples"] = [value * factor for value in cell["samples"]]
            cell["median"] *= factor
    return new


def shown(finished):
    stream = io.StringIO()
    report.show(finished, stream)
    return stream.getvalue()


def test_a_part_takes_its_own_figure_from_each_sample():
    outcome = samples({"p50": 1.0, "p99": 9.0}, {"p50": 3.0, "p99": 7.0})

    made = line(Case("g", LATENCY, "unpinned"), "p99", zactor=outcome)

    assert made["label"] == "latency p99"
    assert made["engines"]["zactor"]["samples"] == [9.0, 7.0]
    assert made["engines"]["zactor"]["median"] == 8.0


def test_a_failure_hides_the_samples_taken_before_it():
    assert document.cell(Outcome(samples=[1.0], failed="boom"), "") == {"failed": "boom"}


def test_documents_survive_being_saved(tmp_path):
    finished = run(line(zactor=samples(1.0, 2.0), ray=Outcome(cannot="no way")))

    document.save(finished, tmp_path / "run.json")

    assert document.read(tmp_path / "run.json") == finished


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"format": 99}'])
def test_another_file_is_refused_with_its_name(tmp_path, text):
    (tmp_path / "old.json").write_text(text)

    with pytest.raises(ValueError, match=r"old\.json is not a result"):
        document.read(tmp_path / "old.json")


def test_losing_rows_are_shown_like_the_others():
    text = shown(run(line(zactor=samples(10.0), pykka=samples(40.0))))

    assert "40.0" in text
    assert "x0.25" in text


def test_where_less_is_better_the_ratio_is_turned_round():
    case = Case("g", LATENCY, "unpinned")
    outcome = {"p50": 2.0, "p99": 2.0}
    made = line(case, "p50", zactor=samples(outcome), ray=samples({"p50": 8.0, "p99": 8.0}))

    assert report.ahead(made, "ray") == 4.0


def test_a_row_an_engine_cannot_do_says_why():
    text = shown(run(line(zactor=samples(1.0), pykka=Outcome(cannot="threads"))))

    assert "threads" in text
    assert "dask is not installed" in text


def test_goals_are_told_only_where_the_other_engine_was_measured():
    reached = line(zactor=samples(70.0), pyzmq=samples(100.0))
    missed = line(zactor=samples(60.0), pyzmq=samples(100.0))

    assert report.goal(reached).startswith("ok 0.65/0.8x pyzmq")
    assert report.goal(missed).startswith("MISSED")
    assert report.goal(line(zactor=samples(60.0))) == ""


def test_a_goal_can_be_held_against_another_row():
    def calls(label, value):
        return line(Case("g", Row(label, "about"), "unpinned"), zactor=samples(value))

    over_one = calls("calls over 1 shared actor", 100.0)
    over_many = calls("calls over 10,000 shared actors", 90.0)

    assert "ok 0.8/0.95x 'calls over 1 shared actor'" in shown(run(over_one, over_many))
    slow = calls("calls over 10,000 shared actors", 79.0)
    assert "MISSED 0.8/0.95x" in shown(run(over_one, slow))
    assert "0.8/0.95x" not in shown(run(over_many))


def test_failures_are_zactors_own():
    finished = run(line(zactor=Outcome(failed="x"), ray=Outcome(failed="y")))

    assert report.failures(finished) == ["1:1 actor calls sync [one core]"]
    assert "FAILED: x" in shown(finished)


def test_a_narrow_terminal_gets_one_line_per_engine(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")

    text = shown(run(line(zactor=samples(1.0), ray=samples(2.0))))

    assert [words.split()[0] for words in text.splitlines() if words.startswith("    ")] == [
        "zactor",
        "ray",
    ]


def test_markdown_has_a_table_for_each_group():
    text = report.markdown(run(line(zactor=samples(1.0), ray=samples(2.0))))

    assert "### g" in text
    assert "| row | unit | zactor | ray | goal |" in text


def test_only_rows_beyond_noise_have_moved():
    old = run(line(zactor=samples(100.0, 101.0, 102.0)))

    assert report.compare(old, scaled(old, 1.01, ["zactor"]))[1:] == []
    assert "better by x1.50" in report.compare(old, scaled(old, 1.5, ["zactor"]))[1]
    assert "WORSE by x2.00" in report.compare(old, scaled(old, 0.5, ["zactor"]))[1]


def test_a_slower_machine_is_not_a_slower_zactor():
    rows = [Row(f"row {i}", "about") for i in range(3)]
    old = run(
        *[
            line(Case("g", row, "unpinned"), zactor=samples(100.0, 101.0), pyzmq=samples(200.0))
            for row in rows
        ]
    )

    text = report.compare(old, scaled(old, 0.5, ["zactor", "pyzmq"]))

    assert "the machine itself: x0.50" in text[1]
    assert len(text) == 2


def test_new_and_gone_lines_are_named():
    old = run(line(zactor=samples(1.0)))
    new = run(line(Case("g", Row("other", "about"), "unpinned"), zactor=samples(1.0)))

    assert report.compare(old, new)[1:] == [
        "other: new line",
        "1:1 actor calls sync [one core]: not in this run",
    ]


def test_a_row_that_fails_now_is_named():
    old, new = run(line(zactor=samples(1.0))), run(line(zactor=Outcome(failed="x")))

    assert report.compare(old, new)[1].endswith("-> failed")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.000123, "0.000123"),
        (0.5, "0.50"),
        (12.34, "12.3"),
        (1234567.8, "1,234,568"),
    ],
)
def test_figures_have_three_digits_that_mean_something(value, text):
    assert report.number(value) == text


def test_the_picture_is_wellformed_and_shows_who_is_ahead(tmp_path):
    finished = run(line(zactor=samples(100.0), ray=samples(10.0), pyzmq=samples(200.0)))

    plot.draw(finished, tmp_path / "run.svg")

    root = ET.parse(tmp_path / "run.svg").getroot()
    titles = [each.text for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["ray: x0.10 of zactor", "pyzmq: x2.00 of zactor"]


def test_the_picture_escapes_labels():
    row = Row("a < b & c", "about")

    assert "a &lt; b &amp; c" in plot.svg(
        run(line(Case("g", row, "unpinned"), zactor=samples(1.0)))
    )
