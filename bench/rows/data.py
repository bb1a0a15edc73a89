"""Arguments, references and streams."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.work import GIGABYTE, Group, Measure, Rate, Row, Setting

GROUP = Group("arguments, references, streams")

Works = Iterator[Rate | Measure]

SIZES = {
    "1 KiB": (2**10, 100),
    "100 KiB": (100 * 2**10, 100),
    "1 MiB": (2**20, 20),
    "100 MiB": (100 * 2**20, 1),
}  # label: bytes, calls outstanding


@GROUP.row(
    "single client put gigabytes, a process's first",
    "one put of 800 MB as the first thing after init",
    unit="GB/s",
    fresh=True,
    warm=False,
)
def first_put(api: Any, setting: Setting) -> Works:
    import numpy as np

    size = setting.pick(100, 25) * 2**20
    array = np.ones(size, dtype=np.int64)

    def once() -> float:
        start = time.perf_counter()
        api.put(array)
        return size * 8 / GIGABYTE / (time.perf_counter() - start)

    yield Measure(once)


def _argument(api: Any, _: Setting, *, size: int, outstanding: int) -> Works:
    import numpy as np

    @api.remote(num_cpus=0)
    class Reader:
        def first(self, array: Any) -> int:
            return int(array[0])

    array = np.ones(size, dtype=np.uint8)
    reader = Reader.remote()
    api.get(reader.first.remote(array))
    yield Rate.each(
        lambda: api.get([reader.first.remote(array) for _ in range(outstanding)]), outstanding
    )


for _label, (_size, _outstanding) in SIZES.items():
    GROUP.add(
        Row(
            f"calls with {_label} of numpy",
            f"{_outstanding} outstanding; the actor reads the first byte",
        ),
        functools.partial(_argument, size=_size, outstanding=_outstanding),
    )


@GROUP.row(
    "reference through 8 actors",
    "each passes a nested ref on to the next, the last one gets it",
    unit="chains/s",
)
def chain(api: Any, _: Setting) -> Works:
    @api.remote(num_cpus=0)
    class Link:
        def __init__(self, following: Any) -> None:
            self.following = following

        def forward(self, boxed: list[Any]) -> Any:
            if self.following is None:
                return api.get(boxed[0])
            return api.get(self.following.forward.remote(boxed))

    links: list[Any] = [None]
    for _ in range(8):
        links.append(Link.remote(links[-1]))
    first = links[-1]
    api.get(first.forward.remote([api.put(1)]))
    yield Rate.each(lambda: api.get(first.forward.remote([api.put(1)])))
    del links[:]


def _fan_in(
    api: Any, setting: Setting, *, n: int, settle: Callable[[Any, list[Any]], object]
) -> Works:
    count = n if not setting.quick else min(n, 10_000)

    @api.remote(num_cpus=0)
    class Actor:
        def small_value(self) -> bytes:
            return b"ok"

    actors = [Actor.remote() for _ in range(4)]
    api.get([actor.small_value.remote() for actor in actors])

    def once() -> None:
        settle(api, [actors[i & 3].small_value.remote() for i in range(count)])

    yield Rate.each(once, count)


def _get(api: Any, refs: list[Any]) -> object:
    return api.get(refs)


def _wait(api: Any, refs: list[Any]) -> object:
    return api.wait(refs, num_returns=len(refs))


for _n in (1000, 10_000, 100_000):
    for _how, _settle in (("get", _get), ("wait", _wait)):
        GROUP.add(
            Row(
                f"one {_how} on {_n:,} refs",
                "results of calls to 4 actors, submitting included",
                unit="refs/s",
                quick=_n == 10_000,
            ),
            functools.partial(_fan_in, n=_n, settle=_settle),
        )


def _stream(api: Any, make: Any, count: int) -> Works:
    def once() -> None:
        for ref in make.remote(count):
            api.get(ref)

    yield Rate.each(once, count)


@GROUP.row(
    "streaming items from a task",
    "a generator task's items, each awaited in turn",
    unit="items/s",
)
def stream_task(api: Any, setting: Setting) -> Works:
    @api.remote(num_returns="streaming")
    def items(n: int) -> Iterator[int]:
        # Ray calls `send` on what `yield from` delegates to, which a range does not have.
        for i in range(n):  # noqa: UP028
            yield i

    yield from _stream(api, items, setting.pick(1000, 200))


@GROUP.row(
    "streaming items from an actor",
    "a generator method's items, each awaited in turn",
    unit="items/s",
)
def stream_actor(api: Any, setting: Setting) -> Works:
    @api.remote(num_cpus=0)
    class Source:
        def items(self, n: int) -> Iterator[int]:
            for i in range(n):  # noqa: UP028 - see above
                yield i

    source = Source.remote()
    yield from _stream(
        api, source.items.options(num_returns="streaming"), setting.pick(1000, 200)
    )
