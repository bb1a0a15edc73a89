"""What zactor has set itself to reach, as data: shown beside each line it applies to.

A goal is a ratio against an engine of the same run, or against another row of zactor's own, or
without either a figure.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A goal for one line."""

    against: str  # an engine; "" for an absolute figure, or where `row` says what against
    least: float
    aim: float
    less_is_better: bool = False
    row: str = ""  # the label of another line that zactor's figure is held against

    def met(self, value: float) -> bool:
        """Whether the least is reached."""
        return value <= self.least if self.less_is_better else value >= self.least

    def aim_met(self, value: float) -> bool:
        """Whether the aim is reached."""
        return value <= self.aim if self.less_is_better else value >= self.aim

    def __str__(self) -> str:
        if self.row:
            return f"{self.least:g}/{self.aim:g}x '{self.row}'"
        if not self.against:
            return f"{self.least:g}/{self.aim:g}"
        return f"{self.least:g}/{self.aim:g}x {self.against}"


def _ray(least: float, aim: float) -> Target:
    return Target("ray", least, aim)


def _own(least: float, aim: float) -> Target:
    return Target("", least, aim, less_is_better=True)


def _row(label: str, least: float, aim: float) -> Target:
    return Target("", least, aim, row=label)


TARGETS: dict[str, tuple[Target, ...]] = {
    "1:1 actor calls sync": (_ray(8, 12), Target("xoscar", 1.5, 2)),
    "1:1 actor calls sync [one core]": (Target("pyzmq", 0.65, 0.8),),
    "1:1 actor calls sync [one core each]": (Target("pyzmq", 0.85, 0.95),),
    "1:1 actor calls async": (
        _ray(40, 60),
        Target("xoscar", 10, 20),
        Target("pykka", 1.5, 3),
    ),
    "1:1 actor calls concurrent": (_ray(20, 40),),
    "1:n actor calls async": (_ray(30, 50),),
    "n:n actor calls async": (_ray(30, 50),),
    "n:n actor calls with arg async": (_ray(30, 60),),
    "1:1 async-actor calls sync": (_ray(8, 12),),
    "1:1 async-actor calls async": (_ray(15, 30),),
    "1:1 async-actor calls with args async": (_ray(15, 30),),
    "1:n async-actor calls async": (_ray(15, 30),),
    "n:n async-actor calls async": (_ray(15, 30),),
    "single client tasks sync": (_ray(8, 15),),
    "single client tasks async": (_ray(20, 40),),
    "multi client tasks async": (_ray(20, 40),),
    "single client get calls (Plasma Store)": (_ray(10, 20),),
    "single client put calls (Plasma Store)": (_ray(40, 80),),
    "multi client put calls (Plasma Store)": (_ray(40, 80),),
    "single client put gigabytes": (_ray(1, 1), Target("memcpy", 0.75, 0.9)),
    "multi client put gigabytes": (_ray(1, 1), Target("memcpy", 0.75, 0.9)),
    "single client put gigabytes, a process's first": (Target("memcpy", 0.15, 0.15),),
    "single client get object containing 10k refs": (_ray(5, 10),),
    "single client wait 1k refs": (_ray(8, 15),),
    "placement group create/removal": (_ray(5, 10),),
    "start to first call": (_ray(20, 30), _own(0.3, 0.15)),
    "20 actors created and called": (_ray(40, 60), _own(0.15, 0.1)),
    "1,000 actors created and called": (_own(5, 4),),
    "PSS per actor at 1,000": (_own(4, 3),),
    "idle cluster PSS": (_own(80, 60),),
    "idle CPU with 100 actors": (_own(0.5, 0.1),),
    "100 tasks of 50 ms": (_own(1.1, 1.03),),
    "calls over 100 actors": (Target("pyzmq", 0.6, 0.9),),
    "control plane CPU per 1,000 direct calls": (_own(0.05, 0.01),),
    "reply with a slow method behind worst": (_own(2, 1),),
    "100,000 shared actors created and called": (_own(10, 6),),
    "PSS per shared actor at 100,000": (_own(2, 1.5),),
    "calls over 10,000 shared actors": (_row("calls over 1 shared actor", 0.8, 0.95),),
    "one get on 100,000 refs": (_row("one get on 1,000 refs", 0.8, 0.95),),
    "one wait on 100,000 refs": (_row("one wait on 1,000 refs", 0.8, 0.95),),
    "calls over tcp+CURVE, sync": (_row("calls over ipc, sync", 0.6, 0.8),),
    "calls over tcp+CURVE, async": (_row("calls over ipc, async", 0.6, 0.8),),
    "bulk over tcp+CURVE": (Target("pyzmq", 0.7, 0.9),),
}


def of(label: str) -> tuple[Target, ...]:
    """Return the goals of a line."""
    return TARGETS.get(label, ())
