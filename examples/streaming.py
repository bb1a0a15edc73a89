# /// script
# requires-python = ">=3.11"
# dependencies = ["zactor"]
# ///
"""A stream of results: a method with `yield` sends each value as soon as it has it.

The call returns a generator of references. The consumer works on the first results while the
producer still makes the next ones, and may drop the generator when it has seen enough.

Expected output:

    chapter 1 had come before the author was done: True
    chapter 1: once upon a time
    chapter 2: once upon a time
    chapter 3: once upon a time
    an async stream: 0 1 4 9 16
"""

import asyncio
import time

import zactor


@zactor.remote
class Author:
    def __init__(self) -> None:
        self.finished_at = 0.0

    def write(self, chapters: int):
        for number in range(1, chapters + 1):
            yield f"chapter {number}: once upon a time"
            time.sleep(0.1)  # thinking
        self.finished_at = time.monotonic()

    def when_finished(self) -> float:
        return self.finished_at


@zactor.remote
class Squares:
    async def count(self, n: int):
        for number in range(n):
            await asyncio.sleep(0)
            yield number * number


def main() -> None:
    zactor.init(num_cpus=2)

    author = Author.remote()
    chapters = author.write.options(num_returns="streaming").remote(3)
    first = zactor.get(next(chapters))
    seen_at = time.monotonic()  # one clock for all processes of a machine
    rest = [zactor.get(ref) for ref in chapters]
    finished_at = zactor.get(author.when_finished.remote())
    print("chapter 1 had come before the author was done:", seen_at < finished_at)
    print(first, *rest, sep="\n")

    squares = Squares.remote()
    stream = squares.count.options(num_returns="streaming").remote(5)
    print("an async stream:", *(zactor.get(ref) for ref in stream))

    zactor.shutdown()


if __name__ == "__main__":
    main()
