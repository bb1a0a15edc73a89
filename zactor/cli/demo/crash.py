"""The stage in which actors are killed under load, and every call still has an outcome.

Two services take the same calls and are killed in turn, with SIGKILL. One has no retries: the
calls that the crash hit fail, and say whether they ran. The other is retried: none fails.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter, deque
from contextlib import suppress
from typing import Any

import zactor
from zactor.cli.demo import actors
from zactor.cli.demo.screen import Screen, count
from zactor.cli.demo.stages import Findings, remote

WINDOW = 64  # calls outstanding at each service
HUNG = 10.0  # a call without an outcome for so long hangs


class Victim:
    """One service under load, and what became of its calls."""

    def __init__(self, label: str, retries: int) -> None:
        self.label = label
        cls = remote(actors.Service).options(max_restarts=-1, max_task_retries=retries)
        self.actor = cls.remote()
        self.process: int = zactor.get(self.actor.pid.remote())
        self.pending: deque[tuple[int, Any]] = deque()
        self.sent = self.answered = self.wrong = self.kills = 0
        self.failed: Counter[str] = Counter()  # by whether the call ran
        self.back_after: list[float] = []
        self._killed_at = 0.0
        self._probe: Any = None  # asks for the pid of the next life

    @property
    def is_down(self) -> bool:
        """Whether it was killed and has not answered since."""
        return self._probe is not None

    def kill(self) -> None:
        """Kill its process, in the middle of whatever it does."""
        self.kills += 1
        self._killed_at = time.perf_counter()
        with suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        self._probe = self.actor.pid.remote()

    def pump(self, *, more: bool) -> None:
        """Collect the outcomes that are there, and keep the window full."""
        self._look_for_next_life()
        if more and not (self.is_down and self.failed):
            while len(self.pending) < WINDOW:
                self.pending.append((self.sent, self.actor.work.remote(self.sent)))
                self.sent += 1
        refs = [ref for _, ref in self.pending]
        if not refs:
            return
        ready = set(zactor.wait(refs, num_returns=len(refs), timeout=0.005)[0])
        for _ in range(len(self.pending)):
            number, ref = self.pending.popleft()
            if ref in ready:
                self._settle(number, ref)
            else:
                self.pending.append((number, ref))

    def _settle(self, number: int, ref: Any) -> None:
        try:
            self.wrong += zactor.get(ref) != number * number
            self.answered += 1
        except zactor.exceptions.ActorError as error:
            self.failed[getattr(error, "executed", "unknown")] += 1

    def _look_for_next_life(self) -> None:
        if self._probe is None or not zactor.wait([self._probe], timeout=0)[0]:
            return
        try:
            process = zactor.get(self._probe)
        except zactor.exceptions.ActorError:
            process = self.process
        if process == self.process:  # the old life answered, or nobody did: ask again
            self._probe = self.actor.pid.remote()
            return
        self.process = process
        self.back_after.append(time.perf_counter() - self._killed_at)
        self._probe = None

    def row(self) -> tuple[str, ...]:
        """Return its line in the table."""
        back = (
            f"{1e3 * sum(self.back_after) / len(self.back_after):.0f}"
            if self.back_after
            else ""
        )
        return (
            self.label,
            "down" if self.is_down else f"pid {self.process}",
            count(self.kills),
            back,
            count(self.answered),
            count(self.failed["no"]),
            count(self.failed["yes"] + self.failed["unknown"]),
        )


def crashes(screen: Screen, seconds: float, findings: Findings) -> None:
    """Show actors that are killed under load: they come back, and no call hangs."""
    screen.heading(
        "Crashes",
        "two services under load, killed with SIGKILL again and again; each call settles",
    )
    victims = [Victim("at most once", 0), Victim("with retries", -1)]
    header = (
        "calls run",
        "process",
        "killed",
        "back ms",
        "answered",
        "did not run",
        "may have run",
    )
    kills = max(2, round(seconds))
    with screen.view(header, right=(2, 3, 4, 5, 6)) as view:
        started = time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            done = sum(victim.kills for victim in victims)
            victim = victims[done % 2]
            if (
                passed > seconds * (done + 0.5) / (kills + 1)
                and done < kills
                and not victim.is_down
            ):
                victim.kill()
            for victim in victims:
                victim.pump(more=True)
            if view.due():
                view.show([victim.row() for victim in victims])
        hung = _drain(victims)
        view.show([victim.row() for victim in victims], f"calls without an outcome: {hung}")

    wrong = sum(victim.wrong for victim in victims)
    lost = sum(victims[1].failed.values())
    back = [after for victim in victims for after in victim.back_after]
    failed = victims[0].failed
    findings.add(
        not hung and not wrong and not lost and len(back) == kills,
        "crashes",
        f"{kills} kills, back after {1e3 * sum(back) / max(1, len(back)):.0f} ms; {hung} calls hung, "
        f"{lost} lost with retries, {sum(failed.values())} without ({failed['no']} had not run)",
        kills=kills,
        restarts=len(back),
        hung=hung,
        wrong=wrong,
        back_after_seconds=back,
        failed_without_retries=dict(failed),
        failed_with_retries=lost,
    )


def _drain(victims: list[Victim]) -> int:
    """Wait for the last outcomes, and return how many calls have none."""
    deadline = time.perf_counter() + HUNG
    while time.perf_counter() < deadline:
        if not any(victim.pending or victim.is_down for victim in victims):
            break
        for victim in victims:
            victim.pump(more=False)
    return sum(len(victim.pending) for victim in victims)
