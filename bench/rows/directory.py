"""Finding actors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from bench.rows.startup import counter
from bench.work import CannotDo, Group, Measure, Rate, Setting

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


class _Ids:
    """Ids that count."""

    def __init__(self) -> None:
        self.last = 0

    def new_id(self) -> bytes:
        """Return the next one."""
        self.last += 1
        return self.last.to_bytes(12, "big")


class _Broker:
    """zactor's broker without its process: its machine, a client of it, and n named actors."""

    def __init__(self, n: int) -> None:
        from zactor.core.broker import BrokerMachine
        from zactor.core.broker_config import BrokerConfig
        from zactor.core.state import MemoryState
        from zactor.wire import messages

        self.messages = messages
        self.client = b"client".ljust(12)
        self.address = messages.Address(self.client, b"", b"m", "ipc:///nowhere", "")
        self.requests = itertools.count(1)
        ids = _Ids()
        self.machine = BrokerMachine(MemoryState(), ids, BrokerConfig())
        answer = self.ask(messages.Attach, "driver", list(self.address), "bench", {})
        for i in range(n):
            spec = {
                "id": ids.new_id(),
                "job": answer["job"],
                "owner": self.client,
                "class_key": b"key",
                "class_name": "Counter",
                "name": f"actor-{i}",
                "placing": {},
            }
            self.ask(messages.CreateActor, spec)

    def ask(self, kind: Any, *fields: Any) -> Any:
        """Have the machine handle a request, and return its answer."""
        self.machine.receive(self.client, self.address, kind(next(self.requests), *fields), 1.0)
        for effect in self.machine.drain():
            message = getattr(effect, "message", None)  # a Report has none
            if type(message) is self.messages.Answer:
                if not message.ok:
                    raise RuntimeError(f"the broker refused: {message.value}")
                return message.value
        raise RuntimeError("the broker did not answer")


@GROUP.row(
    "directory look-ups, 1,000,000 entries",
    "the broker's own work for a look-up by name, without the sockets around it",
    unit="look-ups/s",
)
def among_a_million(api: Any, setting: Setting) -> Works:
    if api.__name__ == "ray":
        raise CannotDo("its directory cannot be filled without starting actors")
    n = setting.pick(1_000_000, 10_000)
    broker = _Broker(n)
    names = itertools.cycle([f"actor-{i * 7919 % n}" for i in range(10_000)])
    find = broker.messages.FindActor

    def once() -> None:
        if broker.ask(find, next(names), "bench") is None:
            raise RuntimeError("an actor that was entered is not found")

    yield Rate.each(once)
