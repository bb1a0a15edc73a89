"""How the call rate holds with the number of actors and of callers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from bench import proc
from bench.rows.startup import RAY_WORKER_MIB, counter, dismiss, shared_counter, spawn
from bench.work import CannotDo, Group, Measure, Rate, Row, Setting

GROUP = Group("number of actors and callers")

Works = Iterator[Rate | Measure]

MANY = 1000
PROCESS_ACTORS = (1, 10, 100, 1000)
SHARED_ACTORS = (1, 10, 100, 1000, 10_000)
CALLERS = (1, 2, 4, 8, 16)


def over(n: int, kind: str = "") -> str:
    """Return the name of the row over n actors."""
    return f"calls over {n:,} {kind}actor{'s' if n > 1 else ''}"


def from_callers(n: int) -> str:
    """Return the name of the row with n callers."""
    return f"calls from {n} caller{'s' if n > 1 else ''}"


def _round_robin(api: Any, setting: Setting, *, n: int, make: Callable[[Any], Any]) -> Works:
    actor = make(api)
    if api.__name__ == "ray" and n > 100:
        raise CannotDo(f"{n:,} processes of {RAY_WORKER_MIB} MiB")
    actors = spawn(api, actor, n)
    turn = itertools.cycle(actors)
    calls = max(MANY, n) if not setting.quick else MANY
    yield Rate.each(
        lambda: api.get([next(turn).increment.remote() for _ in range(calls)]), calls
    )
    dismiss(api, actors)


for _n in PROCESS_ACTORS:
    GROUP.add(
        Row(over(_n), "1,000 calls outstanding, round robin", quick=_n in (1, 10)),
        functools.partial(_round_robin, n=_n, make=counter),
    )
for _n in SHARED_ACTORS:
    GROUP.add(
        Row(
            over(_n, "shared "),
            "1,000 calls outstanding (10,000 over 10,000), round robin",
            quick=_n in (1, 1000),
        ),
        functools.partial(_round_robin, n=_n, make=shared_counter),
    )


def _callers(api: Any, setting: Setting, *, n: int) -> Works:
    calls = setting.pick(1000, 200)

    @api.remote(num_cpus=0)
    class Caller:
        def __init__(self, server: Any) -> None:
            self.server = server

        def call(self, n: int) -> None:
            api.get([self.server.increment.remote() for _ in range(n)])

    server = counter(api).remote()
    callers = [Caller.remote(server) for _ in range(n)]
    api.get([caller.call.remote(1) for caller in callers])
    yield Rate.each(
        lambda: api.get([caller.call.remote(calls) for caller in callers]), n * calls
    )
    dismiss(api, [*callers, server])


for _n in CALLERS:
    GROUP.add(
        Row(
            from_callers(_n),
            "actors with 1,000 calls outstanding each to one actor",
            quick=_n in (1, 4),
        ),
        functools.partial(_callers, n=_n),
    )


@GROUP.row(
    "control plane CPU per 1,000 direct calls",
    "CPU of the processes that are neither the program nor a worker, while an actor is called",
    unit="ms",
    less_is_better=True,
)
def control_cpu(api: Any, setting: Setting) -> Works:
    actor = counter(api).remote()
    api.get(actor.increment.remote())
    calls = setting.pick(50, 5)

    def once() -> float:
        pids = control_processes(setting.token)
        if not pids:
            raise CannotDo("no process but the program and its workers found")
        before = proc.cpu_seconds(pids)
        for _ in range(calls):
            api.get([actor.increment.remote() for _ in range(MANY)])
        return (proc.cpu_seconds(pids) - before) * 1000 / calls

    yield Measure(once)


_CONTROL = ("zactor.runtime.cluster", "zactor.runtime.broker", "raylet/raylet", "gcs_server")


def control_processes(token: str) -> list[int]:
    """Return the engine's processes that run the control plane.

    Workers forked from one keep its command line, so of a parent and its children only the
    parent counts.
    """
    named = [
        pid for pid in proc.find(token) if any(part in proc.command(pid) for part in _CONTROL)
    ]
    return [pid for pid in named if proc.parent(pid) not in named]
