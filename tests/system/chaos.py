"""Processes killed at random under load of every kind, over and over, on a seed.

Each round starts a cluster, loads it with tasks, actors, nested calls, objects and streams, kills one
process by SIGKILL in the middle of it, and checks that every call settles in time, that errors are of the
right class and say whether the call ran, that the cluster works again, and that nothing is left.

`test_chaos.py` runs a few rounds; many are run by hand:

    python -m tests.system.chaos --rounds 200 --seed 1 [--kind worker]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zactor
from tests.conftest import UNIT
from tests.system.daemons import Machines, machines, query, wait_until
from zactor import exceptions

KINDS = ("worker", "fork server", "node", "broker", "driver", "cluster")
SETTLES = 20.0 * UNIT  # a node's death is known after its lease
LARGE = 300_000  # bytes: more than travels inside a message

# What a call may end with when a process under it was killed. All others are bugs.
EXPECTED = (
    exceptions.ActorDiedError,
    exceptions.ActorUnavailableError,
    exceptions.WorkerCrashedError,
    exceptions.ObjectLostError,  # with OwnerDiedError and those that cannot be made again
    exceptions.NodeDiedError,
    exceptions.TaskCancelledError,
    exceptions.SessionLostError,
    exceptions.LocalNodeDiedError,
    exceptions.ActorUnschedulableError,
    exceptions.TaskUnschedulableError,
)


@zactor.remote(max_retries=2)
def add(left: Any, right: int) -> Any:
    return left + right


@zactor.remote(max_retries=0)
def once(value: int) -> int:
    return value


@zactor.remote(max_retries=2)
def large(value: int) -> bytes:
    return bytes([value % 256]) * LARGE


@zactor.remote(max_retries=2)
def size(value: bytes) -> int:
    return len(value)


@zactor.remote(max_retries=1)
def nested(value: int) -> int:
    return sum(zactor.get([add.remote(value, 1), add.remote(value, 2)]))


@zactor.remote(max_retries=2)
def items(count: int) -> Iterator[Any]:
    for number in range(count):
        yield bytes([number]) * (LARGE if number % 3 == 0 else 10)


@zactor.remote(num_cpus=0)
class Counting:
    """Counts, asks others, yields."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, value: int) -> int:
        self.count += 1
        return value + 1

    def ask(self, other: Any, value: int) -> int:
        asked: int = zactor.get(other.add.remote(value))
        return asked + 1

    def large(self, value: int) -> bytes:
        return bytes([value % 256]) * LARGE

    def items(self, count: int) -> Iterator[int]:
        yield from range(count)


class Load:
    """Threads that call, each in its own way, and remember what was wrong."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._make_actors()
        ways = [
            self._tasks, self._once, self._nested, self._objects, self._streams, self._actors,
            self._restarting, self._asking, self._handed_on,
        ]  # fmt: skip
        self._threads = [
            threading.Thread(target=self._run, args=(way,), daemon=True) for way in ways
        ]
        for thread in self._threads:
            thread.start()

    def _make_actors(self) -> None:
        self.plain = Counting.remote()
        self.again = Counting.options(max_restarts=-1, max_task_retries=-1).remote()
        self.shared = Counting.options(isolation="shared", max_restarts=-1).remote()

    def _run(self, way: Callable[[int], None]) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                way(number)
                self.done[way.__name__] += 1
            except EXPECTED as error:
                self._look_at(way, error)
                self._stop.wait(0.01)
            except exceptions.TaskError as error:
                cause: Any = error.cause
                if isinstance(cause, EXPECTED):
                    self._look_at(way, cause)
                else:
                    self.wrong.append(f"{way.__name__}: {traceback.format_exc()}")
                self._stop.wait(0.01)
            except BaseException:  # noqa: BLE001 - it is what is looked for
                self.wrong.append(f"{way.__name__}: {traceback.format_exc()}")
                self._stop.wait(0.1)

    def _look_at(self, way: Callable[[int], None], error: Any) -> None:
        self.done[f"{way.__name__} {type(error).__name__}"] += 1
        executed = getattr(error, "executed", "no")
        if executed not in ("no", "yes", "unknown"):
            self.wrong.append(f"{way.__name__}: executed={executed!r} of {error!r}")
        if not str(error).strip():
            self.wrong.append(f"{way.__name__}: {type(error)} without a text")

    def _equal(self, found: Any, expected: Any) -> None:
        if found != expected:
            raise AssertionError(f"{str(found)[:50]} is not {str(expected)[:50]}")

    # -- the ways

    def _tasks(self, number: int) -> None:
        refs = [add.remote(number, each) for each in range(20)]
        self._equal(zactor.get(refs, timeout=SETTLES), [number + each for each in range(20)])

    def _once(self, number: int) -> None:
        self._equal(zactor.get(once.remote(number), timeout=SETTLES), number)

    def _nested(self, number: int) -> None:
        ref = nested.remote(number)
        try:
            self._equal(zactor.get(ref, timeout=SETTLES), 2 * number + 3)
        except exceptions.GetTimeoutError as error:
            raise AssertionError(f"{error} hangs: {zactor.why(ref)}") from None

    def _objects(self, number: int) -> None:
        made = large.remote(number)
        put = size.remote(zactor.put(b"x" * LARGE))
        self._equal(zactor.get(made, timeout=SETTLES)[:1], bytes([number % 256]))
        self._equal(zactor.get(put, timeout=SETTLES), LARGE)

    def _streams(self, number: int) -> None:
        for at, ref in enumerate(items.remote(7)):
            value = zactor.get(ref, timeout=SETTLES)
            self._equal(value[:1], bytes([at]))
        self._equal(
            [
                zactor.get(ref, timeout=SETTLES)
                for ref in self.again.items.options(num_returns="streaming").remote(5)
            ],
            list(range(5)),
        )

    def _actors(self, number: int) -> None:
        plain = self.plain
        try:
            refs = [plain.add.remote(each) for each in range(50)]
            self._equal(zactor.get(refs, timeout=SETTLES), list(range(1, 51)))
            self._equal(
                zactor.get(plain.large.remote(number), timeout=SETTLES)[:1],
                bytes([number % 256]),
            )
        except exceptions.ActorDiedError:
            self.plain = Counting.remote()
            raise

    def _restarting(self, number: int) -> None:
        refs = [self.again.add.remote(each) for each in range(20)]
        self._equal(zactor.get(refs, timeout=SETTLES), list(range(1, 21)))

    def _asking(self, number: int) -> None:
        self._equal(
            zactor.get(self.again.ask.remote(self.shared, number), timeout=SETTLES), number + 2
        )

    def _handed_on(self, number: int) -> None:
        ref = large.remote(number)
        length = size.remote(ref)
        self._equal(zactor.get(length, timeout=SETTLES), LARGE)
        self._equal(len(zactor.get(zactor.put([ref]), timeout=SETTLES)), 1)
        self._equal(zactor.get(ref, timeout=SETTLES)[:1], bytes([number % 256]))

    # -- its end

    def stop(self) -> None:
        """End the load; every call must have settled."""
        self._stop.set()
        deadline = time.monotonic() + 2 * SETTLES
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
            if thread.is_alive():
                frame = sys._current_frames().get(thread.ident or 0)
                stack = "".join(traceback.format_stack(frame)[-6:])
                self.wrong.append(f"a thread hangs:\n{stack}")

    def check(self) -> None:
        """Fail if anything was wrong."""
        hangs = [text for text in self.wrong if "GetTimeoutError" in text or "hangs" in text]
        assert not self.wrong, "\n".join([*hangs[:2], *self.wrong[:3], str(dict(self.done))])


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def command(pid: int) -> str:
    """Return the command line of a process; "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """Return the pids of all processes below one."""
    try:
        mine = children(pid)
    except OSError:
        return []
    return mine + [each for child in mine for each in descendants(child)]


def kill(pid: int) -> bool:
    """Kill a process, if it is there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


PROGRAM = """
import sys
import zactor
from tests.system.chaos import Load
zactor.init(*sys.argv[1:2]{options})
load = Load({seed})
print("up", flush=True)
"""


def round_with_daemons(seed: int, kind: str, world: Machines) -> None:
    """Kill a worker, fork server, node, broker or other driver of a cluster of daemons."""
    chance = random.Random(seed)
    broker = world.broker()
    nodes = [world.node(cpus=2), world.node(cpus=2)]
    world.init()
    load = Load(seed)
    victim_driver = None
    if kind == "driver":
        source = PROGRAM.format(options="", seed=seed)
        victim_driver = world.program(source + "\nimport threading; threading.Event().wait()\n")
    wait_until(lambda: load.done["_tasks"] > 2 and load.done["_restarting"] > 2, SETTLES)
    threading.Event().wait(chance.random() * 0.5)
    if kind == "worker":
        workers = [
            pid for node in nodes for server in children(node.pid) for pid in children(server)
        ]
        for pid in chance.sample(workers, min(len(workers), chance.randint(1, 3))):
            kill(pid)
    elif kind == "fork server":
        kill(chance.choice(children(chance.choice(nodes).pid)))
    elif kind == "node":
        chance.choice(nodes).kill()
        nodes.append(world.node(cpus=2))
    elif kind == "broker":
        broker.kill()
        threading.Event().wait(chance.random() * 0.5)
        world.broker()
    else:
        assert victim_driver is not None
        victim_driver.kill()
    before = load.done["_tasks"], load.done["_restarting"], load.done["_nested"]
    wait_until(
        lambda: (
            all(
                load.done[way] > least + 2
                for way, least in zip(("_tasks", "_restarting", "_nested"), before, strict=True)
            )
            or load.wrong
        ),
        2 * SETTLES,
        f"it goes on after that: {dict(load.done)}",
    )
    load.stop()
    load.check()
    if victim_driver is not None:
        running = [job for job in query("jobs") if job["status"] == "RUNNING"]
        assert len(running) == 1, running
    zactor.shutdown()


def round_embedded(seed: int, kind: str, world: Machines) -> None:
    """Kill the embedded cluster of a program, or the program."""
    chance = random.Random(seed)
    daemon = world.program(
        PROGRAM.format(options="[:0], num_cpus=2", seed=seed, waits=False)
        + """
import threading
while not load.wrong and not any("DiedError" in way and "LocalNode" in way for way in load.done):
    threading.Event().wait(0.05)
load.stop()
print("wrong", [text[-700:] for text in load.wrong[:2]]) if load.wrong else print("fine")
sys.stdout.flush()
"""
    )
    threading.Event().wait(0.3 + chance.random())
    clusters = [pid for pid in children(daemon.pid) if "zactor" in command(pid)]
    assert clusters, command(daemon.pid)
    if kind == "cluster":
        kill(clusters[0])
        assert daemon.process.stdout is not None
        said = daemon.process.stdout.readline().strip()
        assert said == "fine", said
        daemon.process.wait(SETTLES)
    else:
        below = descendants(daemon.pid)
        daemon.kill()
        wait_until(lambda: not any(command(pid) for pid in below), SETTLES, "all of it ends")


def run(seed: int, kind: str) -> None:
    """Run one round. What it leaves behind fails it."""
    with machines() as world:
        embedded = kind == "cluster" or (kind == "driver" and seed % 2)
        (round_embedded if embedded else round_with_daemons)(seed, kind, world)


def main() -> None:
    """Run many rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--kind", choices=KINDS)
    given = parser.parse_args()
    from tests import conftest

    conftest.pytest_configure(None)
    try:
        for number in range(given.rounds):
            seed = given.seed + number
            kind = given.kind or KINDS[seed % len(KINDS)]
            began = time.monotonic()
            try:
                run(seed, kind)
                said = "fine"
            except BaseException:
                print(f"seed {seed} ({kind}) FAILED", flush=True)  # noqa: T201
                raise
            print(f"seed {seed} ({kind}): {said}, {time.monotonic() - began:.1f} s", flush=True)  # noqa: T201
    finally:
        conftest.pytest_unconfigure(None)


if __name__ == "__main__":
    main()
