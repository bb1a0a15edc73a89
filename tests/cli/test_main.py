"""The command line as a whole: help, errors, exit codes."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from click.testing import CliRunner

from zactor.cli import main as cli
from zactor.cli import session
from zactor.exceptions import ZactorError


def run(*argv: str) -> Any:
    return CliRunner().invoke(cli.main, list(argv), prog_name="zactor")


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def attached(address: str | None) -> Any:
        raise error

    monkeypatch.setattr(session, "attached", attached)


def test_help_lists_every_command_without_importing_any(program: Any) -> None:
    source = """
import sys
from zactor.cli.main import main
try:
    main(["--help"])
except SystemExit:
    pass
print([name for name in ("rich", "zactor.cli.demo") if name in sys.modules])
"""
    done = program.run(source=source)
    assert done.stdout.endswith("[]\n")
    for name in cli.COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_has_help(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: zactor {name}" in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = run("dance")
    assert result.exit_code == 2
    assert "No such command 'dance'" in result.output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError("nobody listens at tcp://10.0.0.1:6400"), 3),
        (ZactorError("it is not so"), 1),
        (TimeoutError("no answer"), 1),
        (FileNotFoundError(2, "No such file or directory", "cluster.zactor"), 1),
        (KeyboardInterrupt(), 130),
        (KeyError("oops"), 70),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    fail_with(monkeypatch, error)
    result = run("status")
    assert result.exit_code == code
    assert "Traceback" not in result.output
    if not isinstance(error, KeyboardInterrupt):
        assert len(result.output.strip().splitlines()) == 1
        assert result.output.startswith("Error: ")


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZACTOR_DEBUG", "1")
    fail_with(monkeypatch, KeyError("oops"))
    assert isinstance(run("status").exception, KeyError)


def test_the_module_is_the_command(program: Any) -> None:
    done = program.run("-m", "zactor", "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("zactor ")


def test_the_exit_codes_are_distinct() -> None:
    codes = [value for name, value in vars(cli).items() if name.startswith("EXIT_")]
    assert len(set(codes)) == len(codes) == 5
    assert sys.modules["zactor.cli.main"] is cli


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("memory", "zactor list objects"),
        ("statsu", "zactor status"),
        ("start", "zactor broker"),
    ],
)
def test_an_unknown_command_says_what_may_be_meant(typed: str, meant: str) -> None:
    done = run(typed)
    assert done.exit_code == 2
    assert f"No such command '{typed}'. Try: {meant}" in done.output


def test_a_command_that_is_like_none_is_just_unknown() -> None:
    done = run("xyzzy")
    assert done.exit_code == 2
    assert "No such command 'xyzzy'." in done.output
    assert "Try: zactor" not in done.output
