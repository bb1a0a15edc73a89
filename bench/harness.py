"""Who is measured when: engines take turns on each row, one awake at a time.

For every case all engines that can do it prepare and warm up. Then come the repetitions; in
each, every engine takes one sample, and who goes first moves on by one. An engine that is not
having its turn is frozen. Nothing here knows what a row does.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bench.remote import Neighbour, Remote, RowFailed, compile_ours
from bench.work import BUSY_NEIGHBOUR, UNPINNED, CannotDo, Case, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HURRY = 0.5  # seconds for a case below which it gets fewer samples
WAKING = 0.01  # seconds between thawing an engine and using it


@dataclass(slots=True)
class Method:
    """How a run is done."""

    repetitions: int = 5
    seconds: float = 1.0  # length of a sample
    warm_up: float = 0.5
    quick: bool = False
    budget: float | None = None  # seconds for the whole run; sizes of samples follow from it
    patience: float = 180.0  # seconds after which a command counts as hung


@dataclass(slots=True)
class Outcome:
    """What became of one engine in one case."""

    samples: list[float | dict[str, float]] = field(default_factory=list)
    cannot: str = ""
    failed: str = ""


@dataclass(slots=True)
class Share:
    """What one case may take."""

    repetitions: int
    seconds: float
    warm_up: float
    patience: float


Results = list[tuple[Case, dict[str, Outcome]]]


class Harness:
    """Runs cases on engines."""

    def __init__(
        self,
        engines: list[str],
        pythons: dict[str, str],
        cpus: list[int],
        method: Method,
        folder: Path,
    ) -> None:
        self.engines = engines
        self.pythons = pythons
        self.cpus = cpus
        self.method = method
        self.folder = folder
        self.hosts: dict[str, Remote] = {}
        self.missing: dict[str, str] = {}  # engine: why it takes no part
        self.versions: dict[str, dict[str, str]] = {}
        self.cannot: dict[str, dict[str, str]] = {}  # engine: row: why it has no way to do it
        self.left_behind: dict[str, int] = {}  # processes that outlived their engine's stop
        self.complaints: list[str] = []  # what failed, with the engine's last lines
        self._started = time.monotonic()
        self._fresh: Remote | None = None

    def greet(self) -> None:
        """Start every engine's process and learn its versions, or why it cannot take part."""
        for python in {self.pythons.get(engine, sys.executable) for engine in self.engines}:
            compile_ours(python)
        for engine in self.engines:
            try:
                answer = self._host(engine).ask("hello", patience=30.0)
            except (CannotDo, RowFailed, OSError) as reason:
                self.missing[engine] = str(reason)
                self._drop(engine)
            else:
                self.cannot[engine] = answer["reasons"]
                self.versions[engine] = {**answer["versions"], "python": answer["python"]}
                self.hosts[engine].freeze()

    def _host(self, engine: str) -> Remote:
        host = self.hosts.get(engine)
        if host is None or not host.is_running:
            if host is not None:
                host.end(kindly=False)
            host = self._new_host(engine)
            self.hosts[engine] = host
        host.thaw()
        return host

    def _new_host(self, engine: str) -> Remote:
        host = Remote(engine, self.pythons.get(engine, sys.executable), self.folder)
        try:
            host.start()
        except BaseException:
            host.end(kindly=False)
            raise
        return host

    def _drop(self, engine: str) -> None:
        host = self.hosts.pop(engine, None)
        if host is not None:
            host.end(kindly=False)

    def run(self, cases: list[Case], tell: Callable[[int, Case, str], None]) -> Results:
        """Measure every case; `tell(index, case, engine)` is called between measurements."""
        results: Results = []
        for index, case in enumerate(cases):
            share = self._share(len(cases) - index)
            outcomes = {
                engine: Outcome(cannot=self.cannot[engine].get(case.row.name, ""))
                for engine in self.engines
                if engine not in self.missing
            }
            results.append((case, outcomes))
            if all(outcome.cannot for outcome in outcomes.values()):
                continue
            if share is None:
                for outcome in outcomes.values():
                    outcome.cannot = outcome.cannot or "left out: no time left"
                continue
            measure = self._measure_fresh if case.row.fresh else self._measure

            def say(engine: str, index: int = index, case: Case = case) -> None:
                tell(index, case, engine)

            measure(case, outcomes, share, say)
        return results

    def _share(self, remaining: int) -> Share | None:
        method = self.method
        if method.budget is None:
            return Share(method.repetitions, method.seconds, method.warm_up, method.patience)
        left = method.budget - (time.monotonic() - self._started)
        if left <= 0:
            return None
        engines = max(1, len(self.engines) - len(self.missing))
        each = left / remaining
        repetitions = method.repetitions if each > HURRY else min(2, method.repetitions)
        # A half of a case's time goes into preparing it.
        seconds = each / 2 / engines / (repetitions + 1)
        seconds = min(method.seconds, max(0.02, seconds))
        return Share(repetitions, seconds, seconds, min(method.patience, 3.0 + left))

    # -- a case whose engines stay ----------------------------------------------------------

    def _measure(
        self, case: Case, outcomes: dict[str, Outcome], share: Share, say: Callable[[str], None]
    ) -> None:
        able = [engine for engine, outcome in outcomes.items() if not outcome.cannot]
        for engine in able:
            say(engine)
            self._turn(engine, outcomes[engine], lambda host: self._prepare(host, case, share))
        for repetition in range(share.repetitions):
            for engine in _rotated(able, repetition):
                outcome = outcomes[engine]
                if not outcome.cannot and not outcome.failed:
                    say(engine)
                    self._turn(engine, outcome, self._sampling(case, outcome, share))
        for engine in able:
            if engine in self.hosts:
                self._turn(engine, outcomes[engine], lambda host: self._put_away(host, case))

    def _prepare(self, host: Remote, case: Case, share: Share) -> None:
        host.ask(
            "prepare",
            patience=share.patience,
            row=case.row.name,
            setting=self._setting(host, share),
        )
        if case.placement != UNPINNED:
            host.place(case.placement, self.cpus)
        if case.row.warm:
            host.ask("warm", patience=share.patience, seconds=share.warm_up, goal=share.seconds)

    def _sampling(self, case: Case, outcome: Outcome, share: Share) -> Callable[[Remote], None]:
        def sample(host: Remote) -> None:
            with self._neighbour(case):
                outcome.samples.append(self._sample(host, share))

        return sample

    def _sample(self, host: Remote, share: Share) -> float | dict[str, float]:
        return host.ask("run", patience=share.patience, seconds=share.seconds)["sample"]

    def _put_away(self, host: Remote, case: Case) -> None:
        if case.placement != UNPINNED:
            host.place(UNPINNED, self.cpus)
        host.ask("teardown", patience=30.0)

    def _setting(self, host: Remote, share: Share) -> dict[str, Any]:
        setting = Setting(
            self.method.quick, len(self.cpus), share.seconds, self.folder, host.token
        )
        return {**asdict(setting), "folder": str(self.folder)}

    def _turn(self, engine: str, outcome: Outcome, do: Callable[[Remote], None]) -> None:
        """Wake the engine, have it do something, note what goes wrong, let it sleep again."""
        try:
            host = self._host(engine)
            time.sleep(WAKING)
            do(host)
        except CannotDo as reason:
            outcome.cannot = outcome.cannot or str(reason)
        except (RowFailed, OSError) as reason:
            outcome.failed = outcome.failed or str(reason)
            self._complain(engine, str(reason))
            self._drop(engine)
        if engine in self.hosts:
            self.hosts[engine].freeze()

    def _complain(self, engine: str, reason: str) -> None:
        tail = self.hosts[engine].tail() if engine in self.hosts else ""
        self.complaints.append(f"{engine}: {reason}\n{tail}")

    @contextlib.contextmanager
    def _neighbour(self, case: Case) -> Iterator[None]:
        if case.placement != BUSY_NEIGHBOUR:
            yield
            return
        neighbour = Neighbour(self.cpus[0], sys.executable)
        try:
            yield
        finally:
            neighbour.end()

    # -- a case that needs a new process for each sample ------------------------------------

    def _measure_fresh(
        self, case: Case, outcomes: dict[str, Outcome], share: Share, say: Callable[[str], None]
    ) -> None:
        repetitions = min(share.repetitions, 3)
        for repetition in range(repetitions):
            for engine in _rotated(list(outcomes), repetition):
                outcome = outcomes[engine]
                if outcome.cannot or outcome.failed:
                    continue
                say(engine)
                self._one_fresh(engine, case, outcome, share)

    def _one_fresh(self, engine: str, case: Case, outcome: Outcome, share: Share) -> None:
        host = Remote(engine, self.pythons.get(engine, sys.executable), self.folder)
        self._fresh = host
        try:
            host.start()
            self._prepare(host, case, share)
            outcome.samples.append(self._sample(host, share))
        except CannotDo as reason:
            outcome.cannot = str(reason)
        except (RowFailed, OSError) as reason:
            outcome.failed = str(reason)
            self.complaints.append(f"{engine}: {case.row.name}: {reason}\n{host.tail()}")
        finally:
            self._count_left(engine, host.end(kindly=not outcome.failed))
            self._fresh = None

    def _count_left(self, engine: str, left: int) -> None:
        if left:
            self.left_behind[engine] = self.left_behind.get(engine, 0) + left

    def end(self, *, kindly: bool = True) -> None:
        """End all engines."""
        if self._fresh is not None:
            self._fresh.end(kindly=False)
        for engine, host in self.hosts.items():
            self._count_left(engine, host.end(kindly=kindly))
        self.hosts.clear()


def _rotated(items: list[str], by: int) -> list[str]:
    by %= len(items) or 1
    return items[by:] + items[:by]
