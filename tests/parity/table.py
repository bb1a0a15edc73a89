"""The parity table: a rule of Ray Core, a program that shows it, and the outcome.

A row is a function taking the module under test (`ray`), decorated by the rule it shows and
by the outcome expected: a value (`gives=`) or an exception (`raises=`). A script row is the
same thing run as a program of its own, in `__main__`, with what it prints as the outcome.

Does not choose the module under test and does not start clusters: `conftest.py` does.

Functions and classes that run in a cluster are written inside the row, so that they travel
by value and no worker has to import these files.
"""

import ast
import dataclasses
import inspect
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_UNSET = object()

# What the module under test is, and what it calls the errors that carry Ray's name.
SUBJECT = os.environ.get("ZACTOR_PARITY", "zactor")
LOCAL = SUBJECT == "local"  # zactor, in an in-process world for each row
if LOCAL:
    SUBJECT = "zactor"


@dataclasses.dataclass(frozen=True)
class Row:
    """One rule, the program that shows it, and the outcome expected of it."""

    section: str
    rule: str
    program: Callable[..., Any]
    gives: Any = _UNSET
    raises: str | tuple[str, ...] | None = None
    match: str | None = None
    prints: str | None = None
    only: str | None = None
    needs: str | None = None

    @property
    def name(self) -> str:
        return self.program.__name__

    def check(self, ray: Any, tmp_path: Path) -> None:
        """Run the program on `ray` and compare with the outcome expected."""
        if self.needs is not None:
            pytest.importorskip(self.needs)
        if self.prints is not None:
            self._check_script(tmp_path)
            return
        arguments = [ray, tmp_path][: len(inspect.signature(self.program).parameters)]
        if self.raises is None:
            found = self.program(*arguments)
            report = f"{self.section} {self.rule}\n found {found!r}\n not {self.gives!r}"
            assert found == self.gives, report
            return
        names = (self.raises,) if isinstance(self.raises, str) else self.raises
        with pytest.raises(tuple(error_named(ray, n) for n in names)) as caught:
            self.program(*arguments)
        if self.match is not None:
            assert re.search(self.match, str(caught.value)), str(caught.value)

    def _check_script(self, tmp_path: Path) -> None:
        done = run_script(body_of(self.program), tmp_path)
        report = f"{self.section} {self.rule}\n{done.stdout}\n{done.stderr[-4000:]}"
        printed = [line for line in done.stdout.splitlines() if line.startswith("> ")]
        assert "\n".join(line[2:] for line in printed) == self.prints, report


class Table:
    """The rows of one test file."""

    def __init__(self, section: str) -> None:
        self.section = section
        self.rows: list[Row] = []

    def row(self, rule: str, **outcome: Any) -> Callable[[Callable[..., Any]], Row]:
        """Enter a program under the rule it shows."""

        def enter(program: Callable[..., Any]) -> Row:
            section = outcome.pop("section", self.section)
            row = Row(section, rule, program, **outcome)
            if row.prints is None and (row.raises is None) == (row.gives is _UNSET):
                raise TypeError(f"{row.name}: say either gives= or raises=")
            if any(row.name == other.name for other in self.rows):
                raise TypeError(f"{row.name}: two rows of this name")
            self.rows.append(row)
            return row

        return enter

    def script(self, rule: str, *, prints: str, **marks: Any) -> Callable[..., Row]:
        """Enter a program that runs alone, as a script; lines it says are its outcome."""
        return self.row(rule, prints=prints, **marks)

    def test(self) -> Callable[..., None]:
        """The test that runs every row, on the shared cluster unless they are scripts."""
        rows = pytest.mark.parametrize("row", list(self._params()))

        def test_row(row: Row, ray: Any, tmp_path: Path) -> None:
            row.check(ray, tmp_path)

        def test_script(row: Row, tmp_path: Path) -> None:
            row.check(None, tmp_path)

        return rows(test_script if self.rows[0].prints is not None else test_row)

    def _params(self) -> Iterator[Any]:
        for row in self.rows:
            marks = []
            if row.only not in (None, SUBJECT):
                marks.append(pytest.mark.skip(reason=f"a rule of {row.only} alone"))
            if row.prints is not None:
                marks.append(pytest.mark.timeout(120))
            yield pytest.param(row, id=row.name, marks=marks)


def error_named(ray: Any, name: str) -> type[BaseException]:
    """The exception class called `name` by Ray, a builtin or one of the subject's."""
    scope: Any = ray
    *parents, last = name.split(".")
    for parent in parents:
        scope = getattr(scope, parent)
    for place in (scope, ray.exceptions, __builtins__):
        found = place.get(last) if isinstance(place, dict) else getattr(place, last, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    raise LookupError(f"{SUBJECT} has no exception called {name}")


def error_of(action: Callable[[], Any]) -> str:
    """The class name of what `action` raises, or "none".

    Of an error that is of the user's class as well, the user's class.
    """
    try:
        action()
    except Exception as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, Exception) and isinstance(error, type(cause)):
            return type(cause).__name__
        return type(error).__name__
    return "none"


def wait_until(condition: Callable[[], Any], *, timeout: float = 20.0) -> bool:
    """Whether `condition` comes true within `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    """Whether no process of this id runs any more."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def tally_at(path: Path) -> Callable[[], int]:
    """A counter kept in a file: each call, from any process, counts one and says how many."""
    name = str(path)

    def tally() -> int:
        fd = os.open(name, os.O_CREAT | os.O_APPEND | os.O_RDWR)
        try:
            os.write(fd, b".")
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    return tally


def count_at(path: Path) -> int:
    """How often the counter at `path` was counted."""
    return path.stat().st_size if path.exists() else 0


def gate_at(path: Path) -> Callable[[], None]:
    """A gate kept in a file: a call waits, in any process, until `path` exists."""
    name = str(path)

    def pass_gate() -> None:
        end = time.monotonic() + 60
        while not os.path.exists(name):
            if time.monotonic() > end:
                raise TimeoutError(name)
            time.sleep(0.01)

    return pass_gate


def body_of(program: Callable[..., Any]) -> str:
    """The statements of `program`, as a script of their own."""
    source = textwrap.dedent(inspect.getsource(program))
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    first = function.body[0]
    lines = source.splitlines()[first.lineno - 1 :]
    if isinstance(first, ast.ClassDef | ast.FunctionDef) and first.decorator_list:
        lines = source.splitlines()[first.decorator_list[0].lineno - 1 :]
    return textwrap.dedent("\n".join(lines))


def run_script(body: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run `body` as `__main__`, with `ray` the module under test and `say` for its outcome."""
    header = textwrap.dedent(
        f"""
        import os, sys, time
        import {SUBJECT} as ray

        def say(*words):
            print(">", *words, flush=True)

        """
    )
    script = directory / "program.py"
    script.write_text(header + body + "\n")
    env = {k: v for k, v in os.environ.items() if k not in {"RAY_ADDRESS", "ZACTOR_ADDRESS"}}
    if SUBJECT == "ray":
        env["RAY_ADDRESS"] = "local"  # not the cluster of whoever else runs Ray here
    root = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), root]))
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=110,
        env=env,
        check=False,
    )
