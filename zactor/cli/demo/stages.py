"""The stages of the demonstration: calls, references, models; crashes are in `crash`.

Each takes the screen, the seconds it may take and the findings, and adds what it found. A stage
uses the public API only: what it does, any program can.
"""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import zactor
from zactor.cli.demo import actors, models
from zactor.cli.demo.screen import Screen, bar, count, spark


@dataclass
class Findings:
    """What came out: lines for the summary, figures for `--json`."""

    lines: list[tuple[bool, str, str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, good: bool, what: str, text: str, **figures: Any) -> None:
        """Add one line of the summary and its figures."""
        self.lines.append((good, what, text))
        self.figures[what] = {"good": good, **figures}

    @property
    def is_good(self) -> bool:
        """Whether everything came out as it should."""
        return all(good for good, _, _ in self.lines)


def remote(cls: type) -> Any:
    """Make an actor class of a plain one."""
    return zactor.remote(cls)


# -- calls --------------------------------------------------------------------------------------

COUNTERS = 4
BATCH = 100  # calls to one counter in one round
ROUNDS = 3  # rounds that are under way at once


def calls(screen: Screen, seconds: float, findings: Findings) -> None:
    """Show the call rate: one at a time, then with many outstanding, and that none was lost."""
    screen.heading(
        "Calls", f"{COUNTERS} actors, each in a process of its own, called as fast as one can"
    )
    began = time.perf_counter()
    counters = [remote(actors.Counter).remote() for _ in range(COUNTERS)]
    pids = zactor.get([counter.pid.remote() for counter in counters])
    created = time.perf_counter() - began

    alone = _one_at_a_time(counters[0], seconds / 4)
    made = [alone.made, *([0] * (COUNTERS - 1))]
    note = f"one at a time: {count(alone.rate)} calls/s"
    history: deque[float] = deque(maxlen=200)
    with screen.view(("actor", "pid", "calls", "calls/s", ""), right=(1, 2, 3)) as view:
        started = last = time.perf_counter()
        since, rate = 0, 0.0
        under_way: deque[list[Any]] = deque()
        while time.perf_counter() - started < seconds * 3 / 4:
            while len(under_way) < ROUNDS:
                refs = [c.increment.remote() for c in counters for _ in range(BATCH)]
                under_way.append(refs)
            since += len(zactor.get(under_way.popleft()))
            made = [n + BATCH for n in made]
            if view.due():
                now = time.perf_counter()
                rate, last, since = since / (now - last), now, 0
                history.append(rate)
                view.show(_call_rows(pids, made, rate, history), note)
        took = time.perf_counter() - started
        total = sum(made) - alone.made
        view.show(_call_rows(pids, made, total / took, history), note)
        for refs in under_way:
            zactor.get(refs)
            made = [n + BATCH for n in made]

    values = zactor.get([counter.increment.remote() for counter in counters])
    exact = [value - 1 for value in values] == made
    findings.add(
        exact,
        "calls",
        f"{count(total / took)} calls/s, {count(alone.rate)} one at a time; "
        + (f"all {count(sum(made))} counted" if exact else "the counts are wrong"),
        created_seconds=created,
        calls_per_second=total / took,
        one_at_a_time=alone.rate,
        calls=sum(made),
    )


def _call_rows(
    pids: list[int], made: list[int], rate: float, history: deque[float]
) -> list[tuple[str, ...]]:
    each = count(rate / COUNTERS)
    rows = [(f"Counter {i}", str(pids[i]), count(n), each, "") for i, n in enumerate(made)]
    return [*rows, ("together", "", count(sum(made)), count(rate), spark(history))]


@dataclass
class _Alone:
    made: int
    rate: float


def _one_at_a_time(counter: Any, seconds: float) -> _Alone:
    started = time.perf_counter()
    made = 0
    while (took := time.perf_counter() - started) < seconds or not made:
        zactor.get(counter.increment.remote())
        made += 1
    return _Alone(made, made / max(took, 1e-9))


# -- references ---------------------------------------------------------------------------------

SIZE = 4 << 20
IN_FLIGHT = 6
CHAIN = "Source → Filter → Filter → Sink"


def references(screen: Screen, seconds: float, findings: Findings) -> None:
    """Show big values that go from actor to actor, while the driver holds references only."""
    screen.heading(
        "References",
        f"{SIZE >> 20} MiB values go from actor to actor; this program only passes references on",
    )
    source = remote(actors.Source).remote()
    filters = [remote(actors.Filter).remote(shift) for shift in (1, 2)]
    sink = remote(actors.Sink).remote()
    expected: dict[int, int] = {}
    done = wrong = number = 0
    under_way: deque[tuple[int, Any]] = deque()
    history: deque[float] = deque(maxlen=200)
    header = ("chain", "values", "MB/s", "via driver", "")
    with screen.view(header, right=(1, 2)) as view:
        started = last = time.perf_counter()
        before = 0
        while time.perf_counter() - started < seconds or not done:
            while len(under_way) < IN_FLIGHT:
                ref = source.make.remote(number, SIZE)
                for step in filters:
                    ref = step.apply.remote(ref)
                under_way.append((number, sink.digest.remote(ref)))
                number += 1
            made, ref = under_way.popleft()
            wrong += zactor.get(ref) != _digest(made, expected)
            done += 1
            if view.due():
                now = time.perf_counter()
                rate = (done - before) * SIZE * 3 / (now - last) / 1e6
                before, last = done, now
                history.append(rate)
                view.show([(CHAIN, count(done), count(rate), "0 bytes", spark(history))])
        took = time.perf_counter() - started
        rate = done * SIZE * 3 / took / 1e6
        view.show([(CHAIN, count(done), count(rate), "0 bytes", spark(history))])
        for made, ref in under_way:
            wrong += zactor.get(ref) != _digest(made, expected)
            done += 1
    findings.add(
        not wrong,
        "references",
        f"{count(done)} values of {SIZE >> 20} MiB, {count(rate)} MB/s from actor to actor; "
        + (f"{wrong} arrived wrong" if wrong else "every byte checked"),
        values=done,
        megabytes_per_second=rate,
        wrong=wrong,
    )


def _digest(number: int, known: dict[int, int]) -> int:
    key = number % 251
    if key not in known:
        known[key] = actors.Sink().digest(bytes([(key + 3) % 256]) * SIZE)
    return known[key]


# -- models -------------------------------------------------------------------------------------

VERSIONS = {"v1": 0.70, "v2": 0.10, "v3": 0.20}
ABOUT = {"v1": "nearest centre", "v2": "nearest neighbours", "v3": "softmax regression"}
OUTSTANDING = 32


class _Served:
    """One version: what it has answered so far."""

    def __init__(self, version: str) -> None:
        self.version = version
        began = time.perf_counter()
        self.actor = remote(actors.Model).options(name=f"model-{version}").remote(version)
        self.ready = self.actor.predict.remote((0.0, 0.0, 0.0, 0.0))
        self.began = began
        self.warm_after = 0.0
        self.answered = self.right = 0
        self.latencies: deque[float] = deque(maxlen=1000)

    def row(self, seconds: float) -> tuple[str, ...]:
        """Return its line in the table."""
        middle = sorted(self.latencies)[len(self.latencies) // 2] if self.latencies else 0.0
        right = self.right / max(1, self.answered)
        return (
            self.version,
            ABOUT[self.version],
            f"{VERSIONS[self.version]:.0%}",
            count(self.answered),
            count(self.answered / max(seconds, 1e-9)),
            f"{middle * 1e3:.1f}",
            f"{right:.1%}",
            bar(VERSIONS[self.version]),
        )


def serving(screen: Screen, seconds: float, findings: Findings) -> None:
    """Show several versions of a model, side by side in warm actors, sharing the requests."""
    screen.heading(
        "Models", "three versions of a small model, trained once, kept warm, sharing requests"
    )
    served = {version: _Served(version) for version in VERSIONS}
    for one in served.values():
        zactor.get(one.ready)
        one.warm_after = time.perf_counter() - one.began
    data = models.samples(2000, seed=3)
    chance = random.Random(4)
    names, weights = list(VERSIONS), list(VERSIONS.values())
    pending: dict[Any, tuple[_Served, int, float]] = {}
    header = ("version", "kind", "share", "requests", "req/s", "p50 ms", "right", "")
    with screen.view(header, right=(2, 3, 4, 5, 6)) as view:
        started = time.perf_counter()
        while (now := time.perf_counter()) - started < seconds or pending:
            while len(pending) < OUTSTANDING and now - started < seconds:
                features, label = chance.choice(data)
                one = served[chance.choices(names, weights)[0]]
                ref = one.actor.predict.remote(features)
                pending[ref] = (one, label, time.perf_counter())
            zactor.wait(list(pending), num_returns=1)
            ready, _ = zactor.wait(list(pending), num_returns=len(pending), timeout=0)
            answers = zactor.get(ready)
            now = time.perf_counter()
            for ref, answer in zip(ready, answers, strict=True):
                one, label, sent = pending.pop(ref)
                one.answered += 1
                one.right += answer == label
                one.latencies.append(now - sent)
            if view.due():
                view.show([one.row(now - started) for one in served.values()])
        took = time.perf_counter() - started
        view.show([one.row(took) for one in served.values()])
    total = sum(one.answered for one in served.values())
    rights = {name: one.right / max(1, one.answered) for name, one in served.items()}
    findings.add(
        all(one.answered for one in served.values()),
        "models",
        f"{len(served)} versions, {count(total / took)} requests/s; right: "
        + ", ".join(f"{name} {right:.1%}" for name, right in rights.items()),
        requests_per_second=total / took,
        right=rights,
        warm_after_seconds={name: one.warm_after for name, one in served.items()},
    )
