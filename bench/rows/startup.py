"""What it costs to be there: starting, creating actors, their memory, being idle."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench import proc
from bench.work import CannotDo, Group, Measure, Rate, Row, Setting

GROUP = Group("starting, memory, idleness")

Works = Iterator[Rate | Measure]

REPLIED = Measure(lambda: 0.0)  # what a work yields whose time to the yield is the sample
MOST_KILLED = 10_000  # a kill waits for its answer
RAY_WORKER_MIB = 70  # PSS of one of Ray's idle workers, measured


def counter(api: Any, **options: Any) -> Any:
    """Return an actor class with one small method."""

    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def increment(self) -> int:
            self.value += 1
            return self.value

    return api.remote(**options or {"num_cpus": 0})(Counter)


def shared_counter(api: Any) -> Any:
    """Return the same as thousands to a worker, where the engine has that."""
    if api.__name__ == "ray":
        raise CannotDo("every actor is a process")
    return counter(api, num_cpus=0, isolation="shared")


def spawn(api: Any, actor: Any, n: int) -> list[Any]:
    """Create n actors and call each once."""
    actors = [actor.remote() for _ in range(n)]
    api.get([each.increment.remote() for each in actors])
    return actors


def dismiss(api: Any, actors: list[Any]) -> None:
    """Kill the actors; more than can be killed one by one are let go."""
    if len(actors) <= MOST_KILLED:
        for actor in actors:
            api.kill(actor)
    actors.clear()


@GROUP.row(
    "start to first call",
    "a fresh process: import, init, create an actor, get its first reply",
    unit="s",
    less_is_better=True,
    session="none",
    fresh=True,
    warm=False,
)
def start_to_first_call(load: Callable[[], Any], _: Setting) -> Works:
    api = load()
    api.init(**({"address": "local"} if api.__name__ == "ray" else {}))
    actor = counter(api).remote()
    api.get(actor.increment.remote())
    yield REPLIED
    api.shutdown()


def _created_and_called(api: Any, _: Setting, *, n: int, make: Callable[[Any], Any]) -> Works:
    actor = make(api)
    if api.__name__ == "ray" and n > 100:
        raise CannotDo(f"{n:,} processes of {RAY_WORKER_MIB} MiB")

    def once() -> float:
        start = time.perf_counter()
        actors = spawn(api, actor, n)
        elapsed = time.perf_counter() - start
        dismiss(api, actors)
        return elapsed

    yield Measure(once)


for _n in (20, 1000):
    GROUP.add(
        Row(
            f"{_n:,} actors created and called",
            "process actors; until each has replied once",
            unit="s",
            less_is_better=True,
            quick=_n < 1000,
        ),
        functools.partial(_created_and_called, n=_n, make=counter),
    )


GROUP.add(
    Row(
        "100,000 shared actors created and called",
        "thousands to a worker; until each has replied once",
        unit="s",
        less_is_better=True,
        fresh=True,
        warm=False,
        quick=False,
    ),
    functools.partial(_created_and_called, n=100_000, make=shared_counter),
)


def _creation_rate(
    api: Any, setting: Setting, *, n: tuple[int, int], make: Callable[[Any], Any]
) -> Works:
    count = setting.pick(*n)
    seconds = _created_and_called(api, setting, n=count, make=make)
    measure = next(seconds)
    yield Measure(lambda: count / measure.once())


GROUP.add(
    Row("actor creation, process", "created and called once, 50 at a time", unit="actors/s"),
    functools.partial(_creation_rate, n=(50, 10), make=counter),
)
GROUP.add(
    Row("actor creation, shared", "created and called once, 1,000 at a time", unit="actors/s"),
    functools.partial(_creation_rate, n=(1000, 100), make=shared_counter),
)


def _pss_per_actor(
    api: Any, setting: Setting, *, n: int, scale: int, make: Callable[[Any], Any]
) -> Works:
    actor = make(api)
    if api.__name__ == "ray" and n > 100:
        raise CannotDo(f"{n:,} processes of {RAY_WORKER_MIB} MiB")

    def once() -> float:
        before = proc.pss(proc.find(setting.token))
        actors = spawn(api, actor, n)
        after = proc.pss(proc.find(setting.token))
        dismiss(api, actors)
        return (after - before) / n / scale

    yield Measure(once)


for _n in (10, 100, 1000):
    GROUP.add(
        Row(
            f"PSS per actor at {_n:,}",
            "growth of all the engine's processes, per process actor",
            unit="MiB",
            less_is_better=True,
            fresh=True,
            warm=False,
            quick=_n < 100,
        ),
        functools.partial(_pss_per_actor, n=_n, scale=2**20, make=counter),
    )
GROUP.add(
    Row(
        "PSS per shared actor at 100,000",
        "growth of all the engine's processes, per actor",
        unit="KiB",
        less_is_better=True,
        fresh=True,
        warm=False,
        quick=False,
    ),
    functools.partial(_pss_per_actor, n=100_000, scale=2**10, make=shared_counter),
)


@GROUP.row(
    "idle cluster PSS",
    "all the engine's processes but the program's own, after init and a call",
    unit="MiB",
    less_is_better=True,
    fresh=True,
    warm=False,
)
def idle_pss(api: Any, setting: Setting) -> Works:
    import os

    actors = spawn(api, counter(api), 1)
    dismiss(api, actors)
    yield Measure(lambda: proc.pss(set(proc.find(setting.token)) - {os.getpid()}) / 2**20)


@GROUP.row(
    "idle CPU with 100 actors",
    "share of one core used by all the engine's processes",
    unit="%",
    less_is_better=True,
    warm=False,
    quick=False,
)
def idle_cpu(api: Any, setting: Setting) -> Works:
    actors = spawn(api, counter(api), 100)
    time.sleep(3)  # let caches and pools come to rest
    seconds = 10.0

    def once() -> float:
        pids = proc.find(setting.token)
        before = proc.cpu_seconds(pids)
        time.sleep(seconds)
        return (proc.cpu_seconds(pids) - before) / seconds * 100

    yield Measure(once)
    dismiss(api, actors)


@GROUP.row(
    "100 tasks of 50 ms",
    "until all have returned, against 50 ms x 100 / CPUs",
    unit="x ideal",
    less_is_better=True,
)
def tasks_of_50_ms(api: Any, setting: Setting) -> Works:
    n = setting.pick(100, 20)

    @api.remote
    def nap() -> None:
        time.sleep(0.05)

    def once() -> float:
        start = time.perf_counter()
        api.get([nap.remote() for _ in range(n)])
        return (time.perf_counter() - start) / (n * 0.05 / setting.cpus)

    yield Measure(once)
