"""A program for type checkers; test_typing.py reads what they say of it, and nothing runs it.

`# -> text` is what the checker must reveal; `# error` is a line it must object to. A line that
neither is said of must be fine. `# mypy: error` is for mypy alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import reveal_type

import zactor
from zactor import ActorClass, ActorHandle, ObjectRef


# -- functions -------------------------------------------------------------------------------------
@zactor.remote
def length(text: str, times: int = 1) -> int:
    return len(text) * times


@zactor.remote(num_cpus=2)
def halve(number: int) -> float:
    return number / 2


@zactor.remote
def count(upto: int) -> Iterator[str]:
    yield from map(str, range(upto))


@zactor.remote(num_returns=2)
def split(number: int) -> tuple[int, int]:
    return number, number


ref = length.remote("a")
reveal_type(ref)  # -> ObjectRef[int]
reveal_type(zactor.get(ref))  # -> int
reveal_type(zactor.get([ref, ref]))  # -> list[int]
reveal_type(zactor.get(length.remote("a", times=2), timeout=1.0))  # -> int
length.remote(1)  # error
length.remote("a", 2, 3)  # error
length.remote(text="a", time=2)  # error
length.remote()  # error
length("a").bit_length()
wrong: str = zactor.get(ref)  # error

reveal_type(halve.remote(ref))  # -> ObjectRef[float]
reveal_type(length.remote("a", ref))  # -> ObjectRef[int]
reveal_type(halve.options(num_cpus=1, name="h").remote(3))  # -> ObjectRef[float]
halve.options(num_cpus=1).remote("3")  # error
reveal_type(halve.options(num_returns=2).remote(3))  # -> Any
for item in count.remote(3):
    reveal_type(item)  # -> ObjectRef[str]
reveal_type(count.options(name="c").remote(3))  # -> ObjectRefGenerator[str]
count.remote("3")  # error
first, second = split.remote(3)
split.remote("3")  # error

# -- references ------------------------------------------------------------------------------------
put = zactor.put({"a": 1})
reveal_type(put)  # -> ObjectRef[dict[str, int]]
done, rest = zactor.wait([ref, length.remote("b")], num_returns=1, timeout=3)
reveal_type(done)  # -> list[ObjectRef[int]]
zactor.wait([ref], num_return=1)  # error
zactor.get(3)  # error
reveal_type(ref.future().result())  # -> int


async def awaits() -> None:
    reveal_type(await ref)  # -> int
    reveal_type(await ref.as_future())  # -> int


# -- actors whose methods are known ----------------------------------------------------------------
@zactor.remote
class Counter(zactor.Actor):
    def __init__(self, start: int, name: str = "") -> None:
        self.value = start
        self.name = name

    @zactor.method
    def add(self, by: int, *, log: bool = False) -> int:
        self.value += by
        return self.value

    @zactor.method(concurrency_group="io")
    async def fetch(self, where: str) -> bytes:
        return where.encode()

    @zactor.method
    def items(self) -> Iterator[int]:
        yield self.add(1)  # within the class it is a plain method

    @zactor.method
    async def stream(self, size: int) -> AsyncIterator[bytes]:
        yield await self.fetch("x" * size)

    @zactor.method(num_returns=2)
    def pair(self, left: int) -> tuple[int, str]:
        reveal_type(self.add(left))  # -> int
        return left, ""

    def undecorated(self) -> int:
        return 1


counter = Counter.remote(1, name="c")
reveal_type(counter)  # -> Counter
Counter.remote("1")  # error
Counter.remote()  # error
Counter.remote(1, nme="c")  # error
reveal_type(Counter.remote(ref))  # -> Counter
reveal_type(Counter.options(name="c", num_cpus=1).remote(1))  # -> Counter
Counter.options(name="c").remote("1")  # error

reveal_type(counter.add.remote(1))  # -> ObjectRef[int]
reveal_type(zactor.get(counter.add.remote(1, log=True)))  # -> int
reveal_type(zactor.get([counter.add.remote(i) for i in range(3)]))  # -> list[int]
reveal_type(counter.add.remote(counter.add.remote(1)))  # -> ObjectRef[int]
reveal_type(counter.add.options(timeout=3.0).remote(1))  # -> ObjectRef[int]
reveal_type(counter.add.options(num_returns=0).remote(1))  # -> Any
counter.add.remote("1")  # error
counter.add.remote(1, True)  # error
counter.add.remote()  # error
counter.ad.remote(1)  # error
counter.undecorated.remote()  # error
reveal_type(zactor.get(counter.fetch.remote("here")))  # -> bytes
for number in counter.items.remote():
    reveal_type(zactor.get(number))  # -> int
reveal_type([zactor.get(part) for part in counter.stream.remote(3)])  # -> list[bytes]
left, right = counter.pair.remote(1)
counter.pair.remote("1")  # error
zactor.get(counter.__ray_ready__.remote())
zactor.kill(counter)
counter.add(3)


def uses(handle: Counter) -> ObjectRef[int]:
    return handle.add.remote(1)


uses(counter)
named: Counter = zactor.get_actor("c")
reveal_type(named.add.remote(1))  # -> ObjectRef[int]


# -- actors of classes that know nothing of zactor -------------------------------------------------
class Plain:
    def __init__(self, size: int) -> None: ...

    def grow(self, by: int) -> int:
        return by


RemotePlain = zactor.remote(Plain)
plain = RemotePlain.remote(3)
reveal_type(plain)  # -> ActorHandle[Plain]
RemotePlain.remote("3")  # error
RemotePlain.options(name="p").remote("3")  # error
reveal_type(zactor.remote(num_cpus=1)(Plain).remote(3))  # -> ActorHandle[Plain]
reveal_type(plain.grow.remote(1))  # -> Any
zactor.kill(plain)


def takes(handle: ActorHandle[Plain], makes: ActorClass[Plain]) -> None:
    reveal_type(makes.remote(1, 2, 3))  # -> ActorHandle[Plain]


takes(plain, RemotePlain)


@zactor.remote
class Decorated:
    def __init__(self, size: int) -> None: ...


Decorated.remote("3")  # error
Decorated.remote(3)  # mypy: error
