"""What the demonstration prints when it is not in a terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from zactor.cli.demo.screen import Screen, bar, count, spark


def test_without_a_terminal_only_the_last_state_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(Console())
    screen.heading("Calls", "as fast as one can")
    with screen.view(("actor", "calls"), right=(1,)) as view:
        view.show([("Counter", "1")])
        view.show([("Counter", "1,000")], "a note")
    screen.summary([(True, "calls", "1,000"), (False, "crashes", "2 hung")])
    out = capsys.readouterr().out
    assert "   Counter  1,000\n   a note\n" in out
    assert "   ok   calls    1,000\n   FAIL crashes  2 hung\n" in out
    assert "\x1b" not in out


def test_a_quiet_screen_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(Console(), quiet=True)
    with screen.view(("a",)) as view:
        view.show([("1",)])
    screen.summary([(True, "a", "b")])
    assert capsys.readouterr().out == ""


def test_a_terminal_shows_live_tables(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(Console(force_terminal=True, width=80))
    with screen.view(("actor", "calls"), right=(1,)) as view:
        view.show([("Counter", "1")], "a note")
    screen.summary([(True, "calls", "all")])
    out = capsys.readouterr().out
    assert "Counter" in out
    assert "✓" in out
    assert "\x1b[" in out


def test_bars_and_sparks_stay_in_their_width() -> None:
    assert bar(0.5, 4) == "██░░"
    assert bar(7, 4) == "████"
    assert spark([], 3) == "   "
    assert spark([0, 1, 2], 3) == " ▄█"
    assert len(spark(range(100), 24)) == 24
    assert count(1234567.8) == "1,234,568"
