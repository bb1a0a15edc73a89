"""Whether an actor whose life ended gets another one, and when.

    how the life ended                        | ending set | restarts left | then
    ------------------------------------------+------------+---------------+----------------------------
    worker died (exit, signal, oom)           | no         | yes           | RESTARTING, counted
    worker died (exit, signal, oom)           | no         | no            | DEAD
    its node was lost                         | no         | yes / no      | RESTARTING, counted / DEAD
    kill(no_restart=False)                    | no         | yes / no      | RESTARTING, counted / DEAD
    kill(no_restart=True)                     | yes        | any           | DEAD
    released, owner died, job ended, group    | yes        | any           | DEAD
    exit_actor()                              | any        | any           | DEAD
    `__init__` raised                         | any        | any           | DEAD (actor_init_failed)
    runtime_env cannot be built               | any        | any           | DEAD
    no worker could be started there          | no         | any           | again elsewhere, not counted,
                                              |            |               | up to a number of attempts

A life that was killed by a user or went with its node is no sign of a fault in the actor: it is
followed by the next at once.

"restarts left" is `max_restarts == -1 or restarts < max_restarts`. The first restart within the
window is immediate; each further one waits twice as long as the one before, up to a limit, and
the wait forgets crashes older than the window. Pure functions and one small record.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zactor.core.broker_config import BrokerConfig

# Ends after which an actor stays dead, whatever it has left.
FINAL_KINDS = frozenset(
    {
        "constructor",
        "environment",
        "exited",
        "released",
        "owner",
        "job",
        "group",
        "unschedulable",
    }
)

# Ends of a worker that nobody wanted.
CRASHES = frozenset({"exit", "signal", "oom"})

# Ends that do not count for the back-off.
NO_FAULT_KINDS = frozenset({"killed", "node"})


def is_restarted(cause: dict[str, Any], *, max_restarts: int, restarts: int) -> bool:
    """Say whether a life that ended by `cause`, with no kill under way, is followed by another."""
    if cause.get("kind") in FINAL_KINDS:
        return False
    return max_restarts == -1 or restarts < max_restarts


def spawn_pause(attempts: int, config: BrokerConfig) -> float:
    """Return how long to wait before attempt number `attempts + 1` to start a worker."""
    if attempts <= 1:
        return 0.0
    return min(config.restart_pause, config.restart_step * 2.0 ** min(attempts - 2, 30))


class UnbegunDeaths:
    """Workers for one demand that died, one after another, before any of their tasks had begun."""

    __slots__ = ("_last", "_newest", "count")

    def __init__(self) -> None:
        self.count = 0
        self._last = 0.0
        self._newest = 0

    def died(self, lease: int, newest: int, now: float, config: BrokerConfig) -> None:
        """Enter such a death, of the worker of a lease; `newest` is the latest lease of all.

        Those that were asked for before the last one died count with it: they died of the same.
        """
        if lease > self._newest:
            if self._last <= now - config.restart_window:
                self.count = 0
            self.count += 1
            self._last = now
            self._newest = newest

    def worked(self) -> None:
        """One has run something."""
        self.count = 0


class CrashRecord:
    """When an actor crashed lately: how long to wait before it is started again."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=64)

    def crashed(self, now: float, config: BrokerConfig) -> float:
        """Enter a crash and return the pause before the restart."""
        times = self._times
        while times and times[0] <= now - config.restart_window:
            times.popleft()
        earlier = len(times)
        times.append(now)
        if not earlier:
            return 0.0
        return min(config.restart_pause, config.restart_step * 2.0 ** (earlier - 1))
