"""What a node's machine asks of its shell, and the small facts that go with it.

The effects are put into effect in the order in which they are drained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.named import NamedTuple

if TYPE_CHECKING:
    from zactor.core.worker_pool import Worker

_SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM", 24: "SIGXCPU",
    31: "SIGSYS",
}  # fmt: skip


class NodeLimits(NamedTuple):
    """What the machine needs of the configuration."""

    spare_workers: int = 2
    idle_workers: int = 64
    idle_worker: float = 60.0
    shutdown_hook: float = 30.0
    exit_grace: float = 3.0
    start_timeout: float = 60.0


class Spawn(NamedTuple):
    """Start a worker under this process id, in this runtime environment."""

    process: bytes
    env: str
    environment: dict[str, Any]


class ToWorker(NamedTuple):
    """Send a message on the worker's control lane."""

    process: bytes
    message: list[Any]


class Kill(NamedTuple):
    """Send the worker a signal, as soon as it has a pid."""

    process: bytes
    signal: int


class ToBroker(NamedTuple):
    """Send a message to the broker."""

    message: Any


class SetLabel(NamedTuple):
    """From now on the worker's output goes to `job`'s driver, under this label."""

    process: bytes
    label: str
    job: bytes


class DropJob(NamedTuple):
    """Nobody reads the job's output any more."""

    job: bytes


class Report(NamedTuple):
    """Something a human should know."""

    text: str


class End(NamedTuple):
    """All workers are dead: end the node."""

    reason: str


Effect = Spawn | ToWorker | Kill | ToBroker | SetLabel | DropJob | Report | End


class NodeStats(NamedTuple):
    """How many workers there are, by use, and of how much else."""

    workers: int
    starting: int
    spare: int
    leased: int
    idle: int
    hosting: int
    actors: int
    ending: int


def env_key(environment: dict[str, Any] | None) -> str:
    """Return what is equal for equal runtime environments; "" for none."""
    return _canonical(environment) if environment else ""


def _canonical(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{" + ",".join(f"{key!r}:{_canonical(value[key])}" for key in sorted(value)) + "}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_canonical, value)) + "]"
    return repr(value)


def cause_of_death(worker: Worker, kind: str, code: int, *, oom: bool) -> dict[str, Any]:
    """Return why the worker is dead, as `WorkerDied` says it.

    `kind` and `code` are what its parent saw; `oom`, whether the kernel killed for want of memory
    just then. `during` is there when no actor's constructor had returned.
    """
    if worker.killed:
        cause: dict[str, Any] = {"kind": "killed", "code": code, "text": worker.killed}
    elif kind == "signal" and oom:
        cause = {"kind": "oom", "code": code, "text": "was killed, it seems for want of memory"}
    elif kind == "signal":
        cause = {
            "kind": "signal",
            "code": code,
            "text": f"was ended by {_SIGNALS.get(code, code)}",
        }
    elif kind == "exit":
        cause = {"kind": "exit", "code": code, "text": f"exited with code {code}"}
    else:
        cause = {"kind": "exit", "code": code, "text": "ended; how is not known"}
    if worker.actors and len(worker.unready) == len(worker.actors):
        cause["during"] = "constructor"
    return cause
