"""The process one engine lives in: it waits for a command, does it, answers.

`python -m bench.host ENGINE --commands FD --answers FD`. Commands and answers are lines of JSON
on pipes of their own, so that what engines print goes where it does no harm. The process sleeps
in a read while other engines are measured.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import engines, rows
from bench.work import CannotDo, Measure, Rate, Row, Setting

if TYPE_CHECKING:
    from collections.abc import Iterator


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Host:
    """One engine, at most one row of it prepared."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.session = ""  # "" while the engine is not started
        self.preparing: Iterator[Rate | Measure] | None = None
        self.work: Rate | Measure | None = None
        self.step = 1  # rounds between two looks at the clock

    def handle(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one command."""
        return getattr(self, f"do_{command.pop('do')}")(**command) or {}

    def do_hello(self) -> dict[str, Any]:
        """Say what is installed; importing it is left to the first row that needs it."""
        return {
            "versions": self.engine.versions(),
            "python": sys.version.split()[0],
            "reasons": self._reasons(),
        }

    @functools.cached_property
    def engine(self) -> engines.Engine:
        """The engine; CannotDo if what it needs is not installed."""
        return engines.load(self.name)

    def _reasons(self) -> dict[str, str]:
        reasons = {}
        for group in rows.GROUPS:
            for row in group.rows:
                try:
                    self.engine.work(row.name)
                except CannotDo as reason:
                    reasons[row.name] = str(reason)
        return reasons

    def do_prepare(self, row: str, setting: dict[str, Any]) -> None:
        """Start the engine as the row wants it, and prepare the row."""
        setting["folder"] = Path(setting["folder"])
        wanted = rows.find(row)
        if wanted.session == "none":
            self.work = Measure(lambda: self._from_nothing(wanted, Setting(**setting)))
            return
        work = self.engine.work(row)
        self._start(wanted, Setting(**setting))
        self.preparing = work(self.engine.api(wanted), Setting(**setting))
        self.work = next(self.preparing)
        self.step = 1

    def _from_nothing(self, row: Row, setting: Setting) -> float:
        # Importing the engine is part of what is timed, so nothing may have touched it before.
        start = time.perf_counter()
        self.preparing = self.engine.work(row.name)(self.engine.api(row), setting)
        next(self.preparing)
        return time.perf_counter() - start

    def _start(self, row: Row, setting: Setting) -> None:
        if row.session in ("none", self.session):
            return
        if self.session:
            self.engine.stop()
            self.session = ""
        try:
            self.engine.start(row.session, setting)
        except BaseException:
            self.engine.stop()  # what was started of it
            raise
        self.session = row.session

    def do_warm(self, seconds: float, goal: float) -> dict[str, Any]:
        """Work for a while, and find how many rounds make a tenth of a sample of `goal` s."""
        if isinstance(self.work, Measure):
            self.work.once()
            return {}
        start, rounds, step = time.perf_counter(), 0, 1
        while (elapsed := time.perf_counter() - start) < seconds or not rounds:
            self.work.many(step)
            rounds += step
            if elapsed < seconds / 10:
                step *= 2
        elapsed = time.perf_counter() - start
        self.step = max(1, int(rounds * goal / elapsed / 10))
        return {}

    def do_run(self, seconds: float) -> dict[str, Any]:
        """Take one sample."""
        if isinstance(self.work, Measure):
            return {"sample": self.work.once()}
        start, rounds = time.perf_counter(), 0
        while True:
            self.work.many(self.step)
            rounds += self.step
            elapsed = time.perf_counter() - start
            if elapsed >= seconds:
                return {"sample": rounds * self.work.count / elapsed}

    def do_teardown(self) -> None:
        """Forget the row; the engine stays."""
        preparing, self.preparing, self.work = self.preparing, None, None
        if preparing is not None:
            next(preparing, None)  # what stands after a work's yield is its clean-up
        del preparing
        gc.collect()

    def do_stop(self) -> None:
        """Stop the engine."""
        self.do_teardown()
        if self.session:
            self.engine.stop()
            self.session = ""


def serve(host: Host, commands: int, answers: int) -> None:
    """Answer commands until there are no more."""
    with os.fdopen(commands) as incoming, os.fdopen(answers, "w") as outgoing:
        for line in incoming:
            try:
                answer = host.handle(json.loads(line))
            except CannotDo as reason:
                answer = {"cannot": str(reason)}
            except Exception as error:
                traceback.print_exc()
                answer = _failure(error)
            print(json.dumps(answer), file=outgoing, flush=True)


def _failure(error: Exception) -> dict[str, str]:
    if isinstance(error, ModuleNotFoundError) and error.name == "numpy":
        return {"cannot": "numpy is not installed"}
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return {"failed": _COLOUR.sub("", text)}


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("--commands", type=int, required=True)
    parser.add_argument("--answers", type=int, required=True)
    options = parser.parse_args()
    for descriptor in (options.commands, options.answers):
        os.set_inheritable(descriptor, False)
    serve(Host(options.engine), options.commands, options.answers)


if __name__ == "__main__":
    main()
