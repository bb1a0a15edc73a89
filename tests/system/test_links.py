"""What the links promise to a real program: Ctrl-C, forks, threads, loops, and processes that are idle."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import zactor

UNIT = float(os.environ.get("ZACTOR_TEST_UNIT", "1"))

pytestmark = pytest.mark.system

INTERRUPTED = """
import os, random, signal, subprocess, sys, time
import zactor

count, seed = int(sys.argv[1]), int(sys.argv[2])
# Sends one SIGINT at a random moment after each byte, until the pipe is closed.
SENDER = '''
import os, random, signal, sys, time
choose = random.Random(int(sys.argv[2]))
while sys.stdin.buffer.read(1):
    time.sleep(choose.choice((0, 1e-4, 1e-3, 3e-3)) * choose.random())
    os.kill(int(sys.argv[1]), signal.SIGINT)
'''

@zactor.remote
class Counter:
    def __init__(self): self.seen = []
    def note(self, value): self.seen.append(value); return value
    def echo(self, value): return value
    def all_seen(self): return self.seen

@zactor.remote
def double(value): return 2 * value

zactor.init(num_cpus=1)
counter = Counter.remote()
zactor.get(counter.echo.remote(0))
zactor.get(double.remote(1))
sender = subprocess.Popen(
    [sys.executable, "-c", SENDER, str(os.getpid()), str(seed)],
    stdin=subprocess.PIPE, start_new_session=True,
)
choose = random.Random(seed)
refs, submitted, arrived, late = [], 0, 0, 0.0

def work():
    global submitted
    kind = choose.randrange(6)
    if kind == 0:
        submitted += 1
        refs.append((0, submitted - 1, counter.note.remote(submitted - 1)))
        zactor.get(refs[-1][2])
    elif kind == 1:
        for _ in range(20):
            submitted += 1
            refs.append((0, submitted - 1, counter.note.remote(submitted - 1)))
    elif kind == 2:
        zactor.wait([ref for _, _, ref in refs[-5:]] or [counter.echo.remote(1)], timeout=0.001)
    elif kind == 3:
        refs.append((1, submitted, double.remote(submitted)))
    elif kind == 4:
        zactor.get(counter.echo.remote(zactor.put([1, 2, 3])))
    else:
        sum(range(300))
    if len(refs) > 300:
        check()

def check():
    # Each of them settles, with its own value.
    while refs:
        kind, value, ref = refs[-1]
        try:
            assert zactor.get(ref, timeout=20) == value * (2 if kind else 1)
        except zactor.exceptions.GetTimeoutError:
            print("NOT SETTLED", kind, value); os._exit(3)
        refs.pop()

for k in range(count):
    sent = time.monotonic()
    try:
        os.write(sender.stdin.fileno(), b"x")
        while time.monotonic() - sent < 10:
            work()
        print("NO INTERRUPT"); os._exit(4)
    except KeyboardInterrupt:
        arrived += 1
        late = max(late, time.monotonic() - sent)
signal.signal(signal.SIGINT, signal.SIG_IGN)
sender.stdin.close(); sender.wait()
check()
seen = zactor.get(counter.all_seen.remote(), timeout=20)
assert seen == sorted(set(seen)), "doubled or out of order"
assert zactor.get(double.remote(4), timeout=20) == 8
zactor.shutdown()
print(f"ok {arrived} {late:.3f}")
"""


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
def test_every_call_settles_and_every_interrupt_arrives(program: Any, count: int) -> None:
    done = program.run(
        str(count), "1", source=INTERRUPTED, timeout=50.0 if count < 1_000 else 250.0
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"ok {count} ")
    assert "internal error" not in done.stderr, done.stderr


def statuses(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep, ever."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text()
        total += int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


@zactor.remote
class Actor:
    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> int:
        self.value += 1
        return self.value

    def echo(self, value: Any) -> Any:
        return value

    def slow(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def actor(cluster: Any) -> Any:
    made = Actor.remote()
    zactor.get(made.echo.remote(0))
    return made


@pytest.mark.slow
def test_a_reply_does_not_wait_for_a_slow_method_behind_it(actor: Any) -> None:
    late = []
    for _ in range(40):
        started = time.perf_counter()
        fast, slow = actor.increment.remote(), actor.slow.remote(0.05)
        zactor.get(fast)
        late.append(time.perf_counter() - started)
        zactor.get(slow)
    late.sort()
    # 2 ms is what is promised, and measured in bench/run.py; a test machine may be busy.
    assert late[len(late) // 2] < 0.010 * UNIT


@pytest.mark.slow
def test_replies_are_taken_while_the_main_thread_computes(actor: Any) -> None:
    refs = [actor.increment.remote() for _ in range(40_000)]  # more than a stream's credit
    ends = time.monotonic() + 2 * UNIT
    while time.monotonic() < ends:
        sum(range(1_000))
    ready, _ = zactor.wait(refs, num_returns=len(refs), timeout=0)
    assert len(ready) == len(refs)
    assert zactor.get(refs[-1]) == 40_000


@pytest.mark.slow
def test_nothing_ticks_in_a_driver_or_worker_that_is_idle(actor: Any) -> None:
    pids = [os.getpid(), zactor.get(actor.pid.remote())]
    pause = threading.Event()
    pause.wait(0.5)
    before = [statuses(pid) for pid in pids]
    pause.wait(3.0)
    woken = [statuses(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]
    assert max(woken) <= 6, woken


def test_threads_share_a_handle(actor: Any) -> None:
    failures: list[Any] = []

    def work(name: int) -> None:
        try:
            for k in range(100):
                refs = [actor.echo.remote((name, k, i)) for i in range(5)]
                assert zactor.get(refs) == [(name, k, i) for i in range(5)]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_loops_come_and_go(actor: Any) -> None:
    async def main(n: int) -> list[int]:
        return await asyncio.gather(*(actor.echo.remote(k) for k in range(n)))

    for n in (1, 50, 3):
        assert asyncio.run(main(n)) == list(range(n))
        started = time.monotonic()
        assert (
            zactor.get(actor.echo.remote(7)) == 7
        )  # the loop that was closed is in nobody's way
        assert time.monotonic() - started < 1 * UNIT

    async def wait_for_it() -> Any:
        return await actor.slow.remote(0.05)

    async def leave() -> None:
        task = asyncio.ensure_future(wait_for_it())
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(leave())  # it is cancelled, and its loop closed, before the reply comes
    assert zactor.get(actor.echo.remote(8)) == 8


def test_callbacks_of_futures_may_wait_for_other_results(actor: Any) -> None:
    got: list[Any] = []
    done = threading.Event()

    def then(future: Any) -> None:
        got.append((future.result(), zactor.get(actor.echo.remote("inner"))))
        done.set()

    actor.echo.remote("outer").future().add_done_callback(then)
    assert done.wait(10 * UNIT)
    assert got == [("outer", "inner")]


def test_arguments_beyond_the_bound_raise_until_results_are_taken(actor: Any) -> None:
    from zactor.runtime.current import current

    caller: Any = current().caller  # type: ignore[union-attr]
    limit, caller.max_payload, caller.payload = caller.max_payload, 2 << 20, 0
    refs = []
    try:
        block = actor.slow.remote(0.3)
        with pytest.raises(zactor.exceptions.PendingCallsLimitExceeded):
            for _ in range(1_000):
                refs.append(actor.echo.remote(bytes(50_000)))
        assert 10 < len(refs) < 100
        zactor.get([block, *refs])
        deadline = time.monotonic() + 10 * UNIT
        while True:
            try:
                assert zactor.get(actor.echo.remote(bytes(50_000))) == bytes(50_000)
                break
            except zactor.exceptions.PendingCallsLimitExceeded:
                assert time.monotonic() < deadline
    finally:
        caller.max_payload = limit
    assert zactor.get([actor.increment.remote() for _ in range(100)]) == list(range(1, 101))


FORKED = """
import multiprocessing, os, sys, time
import zactor

@zactor.remote
class Counter:
    def __init__(self): self.value = 0
    def increment(self): self.value += 1; return self.value

def child():
    try:
        zactor.get(counter.increment.remote())
    except zactor.exceptions.ZactorError as error:
        assert "forked" in str(error), error
        os._exit(7)
    os._exit(8)

zactor.init(num_cpus=1)
counter = Counter.remote()
assert zactor.get(counter.increment.remote()) == 1
pending = [counter.increment.remote() for _ in range(1000)]
pid = os.fork()
if not pid:
    child()
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
pid = os.fork()
if not pid:
    sys.exit(5)  # with finalizers and exit handlers
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
assert zactor.get(pending) == list(range(2, 1002))
process = multiprocessing.get_context("fork").Process(target=lambda: None)
process.start(); process.join(); assert process.exitcode == 0
assert zactor.get(counter.increment.remote()) == 1002
zactor.shutdown()
print("ok")
"""


def test_a_fork_of_the_program_cannot_use_its_parents_session_nor_harm_it(program: Any) -> None:
    done = program.run(source=FORKED)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


ENDING = """
import atexit, threading, time
import zactor

@zactor.remote
class Counter:
    def increment(self): return 1
    def slow(self): time.sleep(60)

class Late:
    def __del__(self):
        try:
            handle.increment.remote()
        except BaseException as error:
            print("refused", flush=True)
        else:
            print("taken", flush=True)

zactor.init(num_cpus=1)
handle = Counter.remote()
zactor.get(handle.increment.remote())
atexit.register(lambda: handle.increment.remote())
def wait():
    try:
        zactor.get(handle.slow.remote())
    except BaseException as error:
        print(type(error).__name__, flush=True)
threading.Thread(target=wait, daemon=True).start()
time.sleep(0.2)
late = Late()
print("end", flush=True)
"""


def test_calls_while_the_interpreter_ends_do_not_hang_it(program: Any) -> None:
    done = program.run(source=ENDING, timeout=20)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("end\n")
    assert "internal error" not in done.stderr


CLOSING = """
import threading, time
import zactor

@zactor.remote
class Sleeper:
    def sleep(self): time.sleep(60)

zactor.init(num_cpus=1)
handle = Sleeper.remote()
said = []
def wait():
    try:
        zactor.get(handle.sleep.remote())
    except zactor.exceptions.ZactorError as error:
        said.append(error)
threads = [threading.Thread(target=wait) for _ in range(4)]
for thread in threads: thread.start()
time.sleep(0.3)
started = time.monotonic()
zactor.shutdown()
for thread in threads: thread.join(5)
assert len(said) == 4, said
assert time.monotonic() - started < 5
zactor.init(num_cpus=1)
assert zactor.get(zactor.put(1)) == 1
zactor.shutdown()
print("ok")
"""


def test_threads_that_wait_hear_of_the_end_of_the_session(program: Any) -> None:
    done = program.run(source=CLOSING)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
