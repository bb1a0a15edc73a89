# /// script
# requires-python = ">=3.11"
# dependencies = ["zactor"]
# ///
"""An async actor: many calls wait at once, inside one process and one thread.

`async def` methods interleave at their `await`s, so a hundred calls that wait for something else
take hardly longer than one. A reference can be awaited too, by the driver as by an actor.

Expected output:

    100 calls that wait 0.1 s each, done together: True
    at most 100 at a time: 100
    a semaphore inside the actor: at most 10 at a time: 10
    awaited in the driver: ['page 0', 'page 1', 'page 2']
"""

import asyncio
import time

import zactor


@zactor.remote
class Fetcher:
    def __init__(self) -> None:
        self.running = self.peak = 0
        self.gate = asyncio.Semaphore(10)

    async def fetch(self, number: int) -> str:
        self.running += 1
        self.peak = max(self.peak, self.running)
        await asyncio.sleep(0.1)  # waiting for a server would go here
        self.running -= 1
        return f"page {number}"

    async def fetch_politely(self, number: int) -> str:
        async with self.gate:
            return await self.fetch(number)

    async def take_peak(self) -> int:
        peak, self.peak = self.peak, 0
        return peak


async def gather(fetcher: zactor.actor.ActorHandle) -> list[str]:
    return list(await asyncio.gather(*(fetcher.fetch.remote(n) for n in range(3))))


def main() -> None:
    zactor.init(num_cpus=1)

    fetcher = Fetcher.remote()
    zactor.get(fetcher.take_peak.remote())
    start = time.perf_counter()
    zactor.get([fetcher.fetch.remote(number) for number in range(100)])
    took = time.perf_counter() - start
    print("100 calls that wait 0.1 s each, done together:", took < 2)
    print("at most 100 at a time:", zactor.get(fetcher.take_peak.remote()))

    zactor.get([fetcher.fetch_politely.remote(number) for number in range(30)])
    peak = zactor.get(fetcher.take_peak.remote())
    print("a semaphore inside the actor: at most 10 at a time:", peak)
    print("awaited in the driver:", asyncio.run(gather(fetcher)))

    zactor.shutdown()


if __name__ == "__main__":
    main()
