"""Links under faults: nothing is lost, doubled or out of order, and it flows again soon after."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.runtime.ends import UNIT, End, until
from zactor.runtime.links.relay import Relay
from zactor.runtime.links.routing import Routing
from zactor.testing.proxy import Faults, Proxy
from zactor.wire import batches

SEEDS = (1, 2, 3)
TRANSPORTS = ("direct", "relay")


class Pair:
    """A caller and a callee with a proxy in front of each inbox, and of the relay's if there is one."""

    def __init__(
        self, directory: Any, seed: int, faults: Faults = Faults(), transport: str = "direct"
    ) -> None:
        self.seen: list[Any] = []
        self.caller, self.callee = End(directory, "caller"), End(directory, "callee")
        self.ends = [self.caller, self.callee]
        if transport == "relay":
            self.broker = End(directory, "broker")
            Relay(self.broker.post, node_of=lambda node: None)
            self.ends.append(self.broker)
        self.proxies = []
        for end in self.ends:
            path = f"{directory}/proxy-{end.post.process_id.hex()}"
            proxy = Proxy(end.address.ipc, path, faults=faults, seed=seed)
            self.proxies.append(proxy)
            end.behind(proxy)
        if transport == "relay":
            for end in self.ends[:2]:
                Routing(
                    end.post,
                    broker=lambda: self.broker.address,
                    node=lambda: None,
                    transport="relay",
                )
        self.host = self.callee.host(self.note, self.echo)
        self.stream = self.caller.stream(self.callee.address)

    def note(self, payload: Any) -> int:
        self.seen.append(payload)
        return len(self.seen)

    def echo(self, payload: Any, buffers: Any = None) -> Any:
        self.seen.append(payload)
        return (b"", [bytes(buffer) for buffer in buffers]) if buffers else payload

    def each(self, what: str) -> None:
        for proxy in self.proxies:
            getattr(proxy, what)()

    def close(self) -> None:
        for end in self.ends:
            end.close()
        for proxy in self.proxies:
            proxy.close()


@pytest.fixture
def pair(tmp_path: Any) -> Iterator[Any]:
    made: list[Pair] = []

    def make(*args: Any, **options: Any) -> Pair:
        made.append(Pair(tmp_path, *args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_links_cut_under_sixty_thousand_calls_lose_double_and_invert_nothing(
    pair: Any, seed: int, transport: str
) -> None:
    link = pair(seed, transport=transport)
    total = 60_000
    stops = threading.Event()
    choose = random.Random(seed)

    def cut() -> None:
        while not stops.wait(choose.uniform(0.005, 0.03)):
            choose.choice(link.proxies).cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        results = [link.caller.call(link.stream, 0, number(k)) for k in range(total)]
        values = link.caller.get(results)
    finally:
        stops.set()
        cutter.join()
    assert values == list(range(1, total + 1))
    assert link.seen == [number(k) for k in range(total)]
    assert sum(proxy.connected for proxy in link.proxies) > 4


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_faults_of_all_kinds_lose_double_and_invert_nothing(
    pair: Any, seed: int, transport: str
) -> None:
    link = pair(seed, Faults(cut=0.01, truncate=0.01, double=0.1, delay=0.002), transport)
    total = 20_000
    values = link.caller.get(
        [link.caller.call(link.stream, 0, number(k)) for k in range(total)]
    )
    assert values == list(range(1, total + 1))
    assert link.seen == [number(k) for k in range(total)]
    for fault in ("cut", "truncate", "double"):
        assert sum(proxy.faults_done[fault] for proxy in link.proxies) > 0
    doubled = sum(end.post.counters["duplicates"] for end in (link.caller, link.callee))
    assert doubled > 0


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("seconds", [0.05, 0.5, 2.0])
def test_it_flows_again_within_200_ms_of_healing(
    pair: Any, seconds: float, transport: str
) -> None:
    link = pair(0, transport=transport)
    link.caller.get([link.caller.call(link.stream)])
    link.each("part")
    waiting = [link.caller.call(link.stream) for _ in range(1_000)]
    with pytest.raises(AssertionError):
        link.caller.get(waiting, seconds / UNIT)
    link.each("heal")
    healed = time.monotonic()
    link.caller.get(waiting)
    assert time.monotonic() - healed < 0.2 * UNIT


def test_a_link_that_stalls_goes_on_where_it_was(pair: Any) -> None:
    link = pair(0)
    link.caller.get([link.caller.call(link.stream)])
    link.each("stall")
    waiting = [link.caller.call(link.stream) for _ in range(100)]
    with pytest.raises(AssertionError):
        link.caller.get(waiting, 0.1 / UNIT)
    link.each("heal")
    link.caller.get(waiting)
    assert len(link.seen) == 101


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_order_holds_over_threads_sizes_and_cuts(pair: Any, seed: int) -> None:
    link = pair(seed, Faults(cut=0.005, double=0.05))
    threads, calls = 6, 1_500
    choose = random.Random(seed)
    large = bytes(300_000)
    failures: list[Any] = []

    def submit(name: int, sizes: list[int]) -> None:
        results = []
        for k, size in enumerate(sizes):
            tag = bytes([name]) + number(k)
            if size == 2:
                payload: Any = [tag, {batches.X_FRAMES: [2]}]
                results.append(
                    link.caller.call(link.stream, 1, payload, [large, memoryview(b"end")])
                )
            else:
                results.append(link.caller.call(link.stream, 1, tag + bytes(size * 5_000)))
        try:
            values = link.caller.get(results)
            for k, (value, size) in enumerate(zip(values, sizes, strict=True)):
                if size == 2:
                    assert [len(frame) for frame in value[1]] == [len(large), 3]
                else:
                    assert value[1:5] == number(k)
        except BaseException as error:
            failures.append(error)

    plans = [choose.choices([0, 1, 2], [90, 9, 1], k=calls) for _ in range(threads)]
    made = [
        threading.Thread(target=submit, args=(name, plan)) for name, plan in enumerate(plans)
    ]
    for thread in made:
        thread.start()
    for thread in made:
        thread.join()
    assert not failures
    tags = [seen[0] if type(seen) is list else seen[:5] for seen in link.seen]
    for name in range(threads):
        mine = [tag for tag in tags if tag[0] == name]
        assert mine == [bytes([name]) + number(k) for k in range(calls)]


def test_memory_is_flat_while_nothing_is_acknowledged_and_calls_go_on_when_it_is(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zactor.core import link as links

    monkeypatch.setattr(links, "MAX_MESSAGES", 8)
    link = pair(0)
    link.caller.get([link.caller.call(link.stream)])
    link.each("stall")
    waiting = []
    for k in range(3_000):
        waiting.append(link.caller.call(link.stream, 0, number(k)))
        if k % 10 == 0:
            link.caller.flush()
    peer = link.caller.post.peers[link.callee.post.process_id]
    assert len(peer.link.unacked) <= 8
    assert len(link.stream.held) > 1_000
    link.each("heal")
    link.caller.get(waiting)
    assert link.seen[1:] == [number(k) for k in range(3_000)]
    until(lambda: link.stream.is_open)


def test_credit_bounds_what_is_sent_and_order_holds(pair: Any) -> None:
    link = pair(0)
    link.stream.credit = 100
    values = link.caller.get([link.caller.call(link.stream) for _ in range(5_000)])
    assert values == list(range(1, 5_001))
