"""What a driver shows of its workers' output."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from zactor.runtime.insight.terminal import FOLD_TEXTS, FOLD_WINDOW, Fold, Terminal, show

HOME, OTHER = b"h" * 12, b"o" * 12


def line(worker: bytes, text: str, node: bytes = b"") -> list[Any]:
    return [worker, "A", 1, node, 1, text]


class FakeProcess:
    """Runs callbacks at once, and keeps timers."""

    def __init__(self) -> None:
        self.reception: Any = self
        self.post: Any = self
        self.address: Any = self
        self.node = HOME
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        callback()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((seconds, callback))


def test_a_line_of_many_workers_is_shown_once_and_counted() -> None:
    fold = Fold(window=5.0)
    assert fold.push([line(b"a", "hi"), line(b"b", "hi"), line(b"c", "hi")], 0.0) == [
        line(b"a", "hi")
    ]
    assert fold.push([line(b"a", "hi")], 1.0) == []
    assert fold.next_deadline() == 5.0
    assert fold.flush(4.9) == []
    assert fold.flush(5.0) == [line(b"a", "hi [repeated 3x across cluster]")]
    assert fold.next_deadline() is None
    assert fold.push([line(b"b", "hi")], 6.0) == [line(b"b", "hi")]


def test_lines_one_worker_repeats_and_empty_ones_are_all_shown() -> None:
    fold = Fold()
    lines = [line(b"a", "x"), line(b"a", "x"), line(b"a", ""), line(b"b", "")]
    assert fold.push(lines, 0.0) == lines


def test_folding_remembers_a_bounded_number_of_texts() -> None:
    fold = Fold()
    fold.push([line(b"a", "first"), line(b"b", "first")], 0.0)
    shown = fold.push([line(b"a", str(n)) for n in range(FOLD_TEXTS)], 0.0)
    assert shown[-1] == line(b"b", "first")
    assert len(shown) == FOLD_TEXTS + 1


def test_lines_are_shown_with_their_origin_in_front() -> None:
    out, err = io.StringIO(), io.StringIO()
    show([line(b"a", "x"), [b"b", "B", 2, b"", 2, "y"], line(b"a", "z")], out, err)
    assert out.getvalue() == "(A pid=1) x\n(A pid=1) z\n"
    assert err.getvalue() == "(B pid=2) y\n"


def test_a_stream_that_takes_nothing_is_survived() -> None:
    closed = io.StringIO()
    closed.close()
    show([line(b"a", "x")], closed, None)
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    show([line(b"a", "gr\u00fcn")], stream, None)
    assert raw.getvalue() == b"(A pid=1) gr\\xfcn\n"


def test_the_node_is_said_where_it_is_not_the_drivers_own() -> None:
    out = io.StringIO()
    show([line(b"a", "x", HOME), line(b"b", "y", OTHER)], out, None, HOME)
    assert out.getvalue() == f"(A pid=1) x\n(A pid=1, node={OTHER.hex()[:12]}) y\n"


def test_what_workers_on_many_nodes_say_is_shown_once_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    process: Any = FakeProcess()
    terminal = Terminal(process, folds=True)
    for number in range(5):  # a message each, as from five nodes
        terminal.take([line(bytes([number]), "ready", HOME)])
    assert capsys.readouterr().out == "(A pid=1) ready\n"
    [(seconds, due)] = process.timers  # T3
    assert 0 < seconds <= FOLD_WINDOW
    due()  # too early: it is set again
    assert len(process.timers) == 2
    terminal.finish()
    assert capsys.readouterr().out == "(A pid=1) ready [repeated 4x across cluster]\n"


def test_without_folding_all_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    process: Any = FakeProcess()
    terminal = Terminal(process, folds=False)
    terminal.take([line(b"a", "x", HOME), line(b"b", "x", HOME)])
    terminal.finish()
    assert capsys.readouterr().out == "(A pid=1) x\n(A pid=1) x\n"
    assert process.timers == []


def test_the_end_waits_for_what_is_being_printed_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process: Any = FakeProcess()
    process.call_soon = lambda callback: None  # a terminal that is stuck
    monkeypatch.setattr("zactor.runtime.insight.terminal.PATIENCE", 0.01)
    Terminal(process, folds=True).finish()
