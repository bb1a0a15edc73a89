"""What the links promise to a real program: Ctrl-C, forks, threads, loops, and processes that are idle."""

from __future__ import annotations

from typing import Any

import pytest

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
    done = program.run(str(count), "1", source=INTERRUPTED, timeout=50.0 if count < 1_000 else 250.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"ok {count} ")
    assert "internal error" not in done.stderr, done.stderr
