"""Finding actors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.rows.startup import counter
from bench.work import Group, Measure, Rate, Setting

GROUP = Group("directory")

Works = Iterator[Rate | Measure]


@GROUP.row("get_actor by name", "one look-up at a time, 10 names", unit="look-ups/s")
def by_name(api: Any, _: Setting) -> Works:
    actor = counter(api)
    named = [actor.options(name=f"bench-{i}").remote() for i in range(10)]
    api.get([each.increment.remote() for each in named])

    def many(rounds: int) -> None:
        for i in range(rounds):
            api.get_actor(f"bench-{i % 10}")

    yield Rate(many)
    for each in named:
        api.kill(each)
