"""Where the microseconds of a call go, on both sides: `python -m bench.micro.profile`.

First the calls are timed undisturbed, with the CPU time each side takes for them, user and kernel.
Then the same calls run under the profiler on both sides, and the functions are listed by their own
time. The profiler makes small functions look dearer than they are: read its list as an order, and
take the sums from the first part.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import os
import pstats
import resource
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import zactor

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = 25


class Usage(NamedTuple):
    """CPU seconds of this process so far, and how often it gave the core away."""

    user: float
    kernel: float
    switches: int

    @classmethod
    def now(cls) -> Usage:
        """Look."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(used.ru_utime, used.ru_stime, used.ru_nvcsw)

    def since(self, before: Usage, calls: int) -> str:
        """Say what one of `calls` took."""
        user, kernel = (self.user - before.user) / calls, (self.kernel - before.kernel) / calls
        switches = (self.switches - before.switches) / calls
        return (
            f"{user * 1e6:6.1f} us user, {kernel * 1e6:6.1f} us kernel, {switches:.2f} switches"
        )


class Probe:
    """An actor that can look at itself. Its methods run in its worker's main thread."""

    def __init__(self) -> None:
        self.profile = cProfile.Profile()
        self.before = Usage(0, 0, 0)

    def small_value(self) -> bytes:
        return b"ok"

    def small_value_arg(self, _x: Any) -> bytes:
        return b"ok"

    def pin(self, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})

    def start_counting(self) -> None:
        self.before = Usage.now()

    def counted(self, calls: int) -> str:
        return Usage.now().since(self.before, calls)

    def start_profile(self) -> None:
        self.profile.enable()

    def profiled(self) -> str:
        self.profile.disable()
        return listing(self.profile)


def listing(profile: cProfile.Profile) -> str:
    """Return the functions by their own time."""
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(LINES)
    return "\n".join(line for line in text.getvalue().splitlines() if line.strip())


def work(probe: Any, kind: str, calls: int) -> Callable[[], None]:
    """Return what is measured."""
    method = probe.small_value

    def sync() -> None:
        for _ in range(calls):
            zactor.get(method.remote())

    def many() -> None:
        for _ in range(calls // 1000):
            zactor.get([method.remote() for _ in range(1000)])

    def with_argument() -> None:
        for _ in range(calls // 1000):
            zactor.get([probe.small_value_arg.remote(i) for i in range(1000)])

    return {"sync": sync, "async": many, "arg": with_argument}[kind]


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser("python -m bench.micro.profile", description=__doc__)
    parser.add_argument("kind", nargs="?", default="sync", choices=["sync", "async", "arg"])
    parser.add_argument("--calls", type=int)
    parser.add_argument("--one-core", action="store_true", help="both sides on one core")
    options = parser.parse_args()
    calls = options.calls or {"sync": 10_000}.get(options.kind, 100_000)
    zactor.init()
    probe = zactor.remote(num_cpus=0)(Probe).remote()
    if options.one_core:
        cpu = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpu})
        zactor.get(probe.pin.remote(cpu))
    run = work(probe, options.kind, calls)
    run()
    zactor.get(probe.start_counting.remote())
    before, start = Usage.now(), time.perf_counter()
    run()
    elapsed, after = time.perf_counter() - start, Usage.now()
    callee = zactor.get(probe.counted.remote(calls))
    print(
        f"{options.kind}: {elapsed / calls * 1e6:.1f} us a call, {calls / elapsed:,.0f} calls/s"
    )
    print(f"caller  {after.since(before, calls)}")
    print(f"callee  {callee}")
    zactor.get(probe.start_profile.remote())
    profile = cProfile.Profile()
    profile.runcall(run)
    there = zactor.get(probe.profiled.remote())
    print(f"\n-- caller, {calls:,} calls\n{listing(profile)}")
    print(f"\n-- callee, {calls:,} calls\n{there}")
    zactor.shutdown()


if __name__ == "__main__":
    main()
