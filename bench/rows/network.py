"""Calls and bytes over TCP with CURVE, over ipc, and through the broker's relay.

The session of the row says how the engine is started; the work is the same in each.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from bench.rows import microbenchmark
from bench.work import GIGABYTE, Group, Measure, Rate, Row, Setting

GROUP = Group("network")

Works = Iterator[Rate | Measure]

BULK = 64 * 2**20


def _bulk(api: Any, _: Setting) -> Works:
    import numpy as np

    @api.remote(num_cpus=0)
    class Source:
        def __init__(self) -> None:
            self.array = np.ones(BULK, dtype=np.uint8)

        def fetch(self) -> Any:
            return self.array

    source = Source.remote()
    api.get(source.fetch.remote())
    yield Rate.each(lambda: api.get(source.fetch.remote()), BULK / GIGABYTE)


for _label, _session in (("ipc", "plain"), ("tcp+CURVE", "tcp")):
    GROUP.add(
        Row(f"calls over {_label}, sync", "one call at a time", session=_session),
        microbenchmark.actor_sync,
    )
    GROUP.add(
        Row(f"calls over {_label}, async", "1,000 calls outstanding", session=_session),
        microbenchmark.actor_async,
    )
    GROUP.add(
        Row(
            f"bulk over {_label}",
            "an actor's method returns 64 MiB of numpy",
            unit="GB/s",
            session=_session,
        ),
        _bulk,
    )
for _label, _work in (
    ("sync", microbenchmark.actor_sync),
    ("async", microbenchmark.actor_async),
):
    GROUP.add(
        Row(
            f"relayed calls, {_label}",
            "each call and each reply goes through the broker",
            session="relay",
        ),
        functools.partial(_work),
    )
