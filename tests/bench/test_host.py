"""Tests of the process an engine lives in, and of the harness around it."""

import json
import os
import sys

import pytest

from bench import engines
from bench.harness import Harness, Method, _rotated
from bench.host import Host, serve
from bench.main import main, parse
from bench.work import CannotDo, Case, Measure, Rate, Row, Setting

SETTING = {"quick": True, "cpus": 1, "seconds": 0.01, "folder": "/nowhere", "token": "t"}
ROW = "1:1 actor calls sync"


class Stub(engines.Simple):
    """An engine with one row, which notes what is done with it."""

    def __init__(self, work):
        super().__init__((), {ROW: work}, "only one row")
        self.notes = []

    def start(self, session, setting):
        self.notes.append(("start", session))

    def stop(self):
        self.notes.append("stop")


@pytest.fixture
def make_host(monkeypatch):
    def make(work):
        monkeypatch.setattr(engines, "load", lambda _: Stub(work))
        return Host("stub")

    return make


def prepared(host):
    host.handle({"do": "prepare", "row": ROW, "setting": dict(SETTING)})
    return host


def test_a_rate_is_rounds_times_count_over_time(make_host):
    rounds = []

    def work(_api, _setting):
        yield Rate(rounds.append, count=10)

    host = prepared(make_host(work))
    host.handle({"do": "warm", "seconds": 0.001, "goal": 0.001})
    rounds.clear()
    sample = host.handle({"do": "run", "seconds": 0.005})["sample"]

    assert 0 < sample <= sum(rounds) * 10 / 0.005


def test_a_measure_is_its_own_sample(make_host):
    def work(_api, setting):
        assert isinstance(setting, Setting)
        yield Measure(lambda: {"p50": 1.0})

    assert prepared(make_host(work)).handle({"do": "run", "seconds": 1})["sample"] == {
        "p50": 1.0
    }


def test_what_stands_after_the_yield_is_done_at_teardown(make_host):
    done = []

    def work(_api, _setting):
        yield Measure(lambda: 1.0)
        done.append(True)

    host = prepared(make_host(work))
    assert not done
    host.handle({"do": "teardown"})
    host.handle({"do": "teardown"})

    assert done == [True]


def test_the_engine_is_started_once_for_rows_of_one_session(make_host):
    def work(_api, _setting):
        yield Measure(lambda: 1.0)

    host = prepared(prepared(make_host(work)))
    host.handle({"do": "stop"})

    assert host.engine.notes == [("start", "plain"), "stop"]


def test_hello_says_which_rows_it_cannot_do(make_host):
    answer = make_host(lambda *_: iter(())).handle({"do": "hello"})

    assert ROW not in answer["reasons"]
    assert answer["reasons"]["1:1 actor calls async"] == "only one row"


def test_errors_are_answers(make_host):
    def work(_api, _setting):
        raise CannotDo("no gears")
        yield

    commands = [{"do": "prepare", "row": ROW, "setting": SETTING}, {"do": "run", "seconds": 1}]

    first, second = _answers(make_host(work), commands)

    assert first == {"cannot": "no gears"}
    assert "failed" in second


def _answers(host, commands):
    theirs, ours = os.pipe()
    answers, their_answers = os.pipe()
    with os.fdopen(ours, "w") as outgoing:
        outgoing.writelines(json.dumps(command) + "\n" for command in commands)
    serve(host, theirs, their_answers)
    with os.fdopen(answers) as incoming:
        return [json.loads(text) for text in incoming]


def test_the_first_turn_goes_round():
    assert [_rotated(["a", "b", "c"], i)[0] for i in range(4)] == ["a", "b", "c", "a"]


def test_a_budget_becomes_shorter_samples_and_then_none(tmp_path):
    harness = Harness(["zactor"], {}, [0], Method(budget=1000.0), tmp_path)
    assert harness._share(10).seconds == 1.0
    assert harness._share(10_000).seconds == pytest.approx(0.02)
    harness.method.budget = 0.0
    assert harness._share(10) is None


def test_rows_without_time_left_say_so(tmp_path):
    harness = Harness(["zactor"], {}, [0], Method(budget=0.0), tmp_path)
    harness.cannot["zactor"] = {}

    [(_, outcomes)] = harness.run([Case("g", Row("a", "about"), "unpinned")], lambda *_: None)

    assert outcomes["zactor"].cannot == "left out: no time left"


def test_an_unknown_engine_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["--engines", "zactor,abacus"])

    assert "no engine 'abacus'" in capsys.readouterr().err


def test_quick_measures_no_peers_unless_told_to():
    assert parse(["--quick"]).names == list(engines.QUICK)
    assert "ray" in parse([]).names
    assert parse(["--quick", "--engines", "ray, zactor"]).names == ["ray", "zactor"]


def test_a_pattern_that_matches_nothing_is_an_error(capsys):
    assert main(["--rows", "no such row"]) == 2
    assert "no row matches" in capsys.readouterr().err


@pytest.mark.system
@pytest.mark.slow
def test_a_real_run_measures_saves_and_leaves_nothing(tmp_path, capsys):
    pytest.importorskip("numpy")
    file = tmp_path / "run.json"

    status = main(
        [
            "--engines",
            "memcpy,thespian",
            "--python",
            f"thespian={sys.executable}",
            "--rows",
            "100 KiB",
            "--seconds",
            "0.01",
            "--repetitions",
            "2",
            "--json",
            str(file),
        ]
    )

    [line] = json.loads(file.read_text())["lines"]
    assert status == 0
    assert len(line["engines"]["memcpy"]["samples"]) == 2
    assert "100 KiB" in capsys.readouterr().out
