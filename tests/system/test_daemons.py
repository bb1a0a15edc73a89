"""Broker and node daemons: joined by file, killed and started again, and gone without a trace."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import zactor
from tests.system.daemons import PATIENCE, Machines, cpus, query, wait_until
from zactor.runtime import current as processes

pytestmark = [pytest.mark.system, pytest.mark.slow]


@zactor.remote
class Counter:
    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> int:
        self.value += 1
        return self.value

    def pid(self) -> int:
        return os.getpid()


@zactor.remote
def task(x: int) -> int:
    return x + 1


def test_a_cluster_is_joined_by_file_by_auto_and_by_environment(
    world: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.broker()
    for path in (world.file, world.state):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    world.node(cpus=1)
    world.node("--resources", "special=2", cpus=1)
    monkeypatch.setenv("ZACTOR_ADDRESS", world.file)
    for address in (world.file, "auto", None):
        zactor.init(address)
        assert cpus("total") == 2
        assert zactor.get(task.remote(1), timeout=PATIENCE) == 2
        counter = Counter.options(resources={"special": 1}).remote()
        assert zactor.get(counter.increment.remote(), timeout=PATIENCE) == 1
        zactor.shutdown()


def test_a_file_that_is_not_ours_alone_is_refused(world: Machines) -> None:
    world.broker()
    os.chmod(world.file, 0o640)
    with pytest.raises(ConnectionError, match="chmod 600"):
        world.init()
    os.chmod(world.file, 0o600)
    if os.getuid() == 0:
        os.chown(world.file, 12345, 0)
        with pytest.raises(ConnectionError, match="belongs to another user"):
            world.init()


@pytest.mark.parametrize("machine", ["home", "far"])
def test_an_address_where_nobody_listens_fails_in_seconds_with_the_reason(
    world: Machines, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.broker(machine="home").kill()
    for name, value in world.environ(machine).items():
        monkeypatch.setenv(name, value)
    since = time.monotonic()
    with pytest.raises(ConnectionError, match="cannot be joined"):
        world.init()
    assert time.monotonic() - since < 6.0
    since = time.monotonic()
    node = subprocess.run(
        [sys.executable, "-m", "zactor", "node", "--join", world.file],
        capture_output=True, text=True, env=world.environ(machine), timeout=20,
    )  # fmt: skip
    assert node.returncode != 0
    assert "the broker cannot be reached" in node.stderr
    assert time.monotonic() - since < 9.0


def test_another_python_is_refused_with_the_reason(
    world: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.broker()
    other = (3, 7, 0, "final", 0)
    monkeypatch.setattr(sys, "version_info", other)
    with pytest.raises(ConnectionError, match=r"runs Python 3.* and the caller Python 3\.7"):
        world.init()


def test_another_wire_version_is_refused_with_the_reason(
    world: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.broker()
    import zactor.wire.codec
    from zactor.runtime.links import greetings, peer, post

    for module in (post, peer, greetings, zactor.wire.codec):
        monkeypatch.setattr(module, "VERSION", 2)
    with pytest.raises(ConnectionError, match="wire version 2"):
        world.init()


def load(handle: Any, counts: list[int], end: threading.Event) -> threading.Thread:
    """Call an actor and run tasks until told to stop; `counts` has how many, and the worst wait."""

    def calls() -> None:
        while not end.is_set():
            since = time.monotonic()
            zactor.get(handle.increment.remote(), timeout=PATIENCE)
            counts[0] += 1
            counts[1] = max(counts[1], int(1000 * (time.monotonic() - since)))
            counts[2] += len(zactor.get([task.remote(i) for i in range(5)], timeout=PATIENCE))

    thread = threading.Thread(target=calls)
    thread.start()
    return thread


def test_a_killed_broker_is_started_again_under_load(world: Machines) -> None:
    broker = world.broker()
    world.node(cpus=3)
    world.init(namespace="n")
    first = Counter.options(name="first", lifetime="detached").remote()
    zactor.get(first.increment.remote(), timeout=PATIENCE)
    counts, end = [0, 0, 0], threading.Event()
    thread = load(first, counts, end)
    wait_until(lambda: counts[0] > 20)
    broker.kill()
    without = counts[0]
    wait_until(lambda: counts[0] > without + 50, what="calls go on without a broker")
    second = Counter.remote()  # asked for while nobody can answer
    reply = second.increment.remote()
    world.broker()
    assert zactor.get(reply, timeout=PATIENCE) == 1
    again = zactor.get_actor("first")
    assert zactor.get(again.increment.remote(), timeout=PATIENCE) > without
    assert zactor.get(Counter.remote().increment.remote(), timeout=PATIENCE) == 1
    after = counts[2]
    wait_until(lambda: counts[2] > after + 20, what="tasks go on")
    end.set()
    thread.join()
    assert counts[1] < 3000
    del second, again
    # What was leased before the restart is given back, and nothing was counted twice.
    wait_until(lambda: cpus() == cpus("total"))


@pytest.mark.parametrize("with_nodes", [False, True], ids=["broker", "broker and nodes"])
def test_a_broker_that_stood_still_for_longer_than_a_lease_declares_nobody_lost(
    world: Machines, with_nodes: bool
) -> None:
    world.settings["ZACTOR_LEASE"] = "6"  # longer than a busy machine keeps a node from running
    broker = world.broker()
    nodes = [world.node("--resources", "a=1"), world.node("--resources", "b=1", machine="far")]
    world.init()
    counters = [Counter.options(resources={name: 1}).remote() for name in "ab"]
    before = zactor.get([each.pid.remote() for each in counters], timeout=PATIENCE)
    stopped = [broker, *(nodes if with_nodes else ())]
    for daemon in stopped:
        daemon.send(signal.SIGSTOP)
    threading.Event().wait(2 * float(world.settings["ZACTOR_LEASE"]))  # what is tested is time
    for daemon in stopped:
        daemon.send(signal.SIGCONT)
    wait_until(lambda: "did not run for" in world.log(), what="the broker notices")
    again = Counter.options(resources={"a": 0, "b": 0}).remote()
    assert zactor.get(again.increment.remote(), timeout=PATIENCE) == 1
    assert zactor.get([each.pid.remote() for each in counters], timeout=PATIENCE) == before
    assert "is gone" not in world.log()


def test_a_broker_that_is_killed_before_it_commits_has_acknowledged_nothing(
    world: Machines,
) -> None:
    when = world.base / "now"
    given = ("broker", "--file", world.file, "--state", world.state)
    script = str(Path(__file__).with_name("killed_broker.py"))
    broker = world.run(script, *given, KILL_WHEN=str(when))
    world.node(cpus=1)
    world.init()
    shared = Counter.options(isolation="shared", num_cpus=0)
    counters = [shared.remote() for _ in range(300)]
    zactor.get([counter.increment.remote() for counter in counters], timeout=PATIENCE)
    when.touch()
    broker.send(signal.SIGSTOP)
    del counters  # one-way messages, which nobody repeats once they are acknowledged
    post = processes.current().post  # type: ignore[union-attr]
    broker_peer = post.peers[processes.current().broker.process]  # type: ignore[union-attr]
    wait_until(lambda: len(broker_peer.link.unacked) >= 300)
    broker.send(signal.SIGCONT)  # it takes hundreds in one turn
    assert broker.process.wait(PATIENCE) == -signal.SIGKILL
    world.broker()
    alive = [["state", "=", "ALIVE"]]
    wait_until(lambda: not query("actors", filters=alive), what="all of them are released")


def test_what_dies_while_the_broker_is_away_is_known_after_it(world: Machines) -> None:
    broker = world.broker()
    world.node(cpus=2)
    world.init()
    stays = Counter.options(max_restarts=1).remote()
    goes = Counter.remote()
    stays_pid, goes_pid = zactor.get([stays.pid.remote(), goes.pid.remote()], timeout=PATIENCE)
    broker.kill()
    os.kill(stays_pid, signal.SIGKILL)
    os.kill(goes_pid, signal.SIGKILL)
    lost = goes.increment.remote()
    world.broker()
    with pytest.raises(zactor.exceptions.ActorDiedError):
        zactor.get(lost, timeout=PATIENCE)

    def answers() -> bool:
        try:
            return zactor.get(stays.pid.remote(), timeout=PATIENCE) != stays_pid
        except zactor.exceptions.ActorUnavailableError:
            return False

    wait_until(answers)


def test_a_broker_that_is_stopped_and_its_nodes_leave_nothing(world: Machines) -> None:
    broker = world.broker()
    node = world.node()
    world.init()
    zactor.get(Counter.remote().increment.remote(), timeout=PATIENCE)
    zactor.shutdown()
    assert node.stop() == 0
    assert broker.stop() == 0
    sessions = list(Path(os.environ["ZACTOR_TMPDIR"]).glob("*/lock"))
    assert not sessions


PROGRAM = """
import sys, time, zactor
import numpy as np
zactor.init(sys.argv[1], namespace="n")

@zactor.remote
class Actor:
    def work(self): time.sleep(3600)
    def big(self): return np.ones(500_000)

mine = Actor.remote()
kept = Actor.options(name="kept", lifetime="detached").remote()
big = zactor.get(mine.big.remote())
put = zactor.put(np.ones(500_000))
running = mine.work.remote()
print("ready", flush=True)
time.sleep(3600)
"""


def actors(state: str = "ALIVE") -> list[str]:
    rows = query("actors")
    return [row["name"] or row["class_name"] for row in rows if row["state"] == state]


def test_a_killed_driver_takes_what_is_its_own_with_it(world: Machines) -> None:
    world.broker()
    world.node()
    program = world.program(PROGRAM)
    world.init(namespace="n")
    wait_until(lambda: sorted(actors()) == ["Actor", "kept"])
    program.kill()
    wait_until(lambda: actors() == ["kept"], what="its actor ends")
    kept = zactor.get_actor("kept")
    assert zactor.get(kept.big.remote(), timeout=PATIENCE).sum() == 500_000
    zactor.kill(kept)


def test_after_all_was_killed_a_new_start_leaves_nothing(world: Machines) -> None:
    daemons = [world.broker(), world.node(), world.node()]
    daemons.append(world.program(PROGRAM))
    for daemon in daemons:
        daemon.send(signal.SIGKILL)
    for daemon in daemons:
        daemon.process.wait()
    sessions = Path(os.environ["ZACTOR_TMPDIR"])
    assert list(sessions.glob("*/lock"))
    world.file += "-new"
    world.state += "-new"
    broker = world.broker()
    wait_until(lambda: len(list(sessions.glob("*/lock"))) == 1, what="only the new one is left")
    assert broker.stop() == 0
    assert not list(sessions.glob("*/lock"))


def test_the_command_line_stops_the_daemons_of_this_machine(world: Machines) -> None:
    broker, node = world.broker(), world.node()
    world.init()
    assert zactor.get(Counter.remote().increment.remote(), timeout=PATIENCE) == 1
    zactor.shutdown()
    done = subprocess.run(
        [sys.executable, "-m", "zactor", "stop", "-a", world.file],
        capture_output=True, text=True, env=world.environ(), timeout=20,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (broker.process.wait(PATIENCE), node.process.wait(PATIENCE)) == (0, 0)
    assert not list(Path(os.environ["ZACTOR_TMPDIR"]).glob("*/lock"))


def test_a_killed_embedded_cluster_fails_everything_and_a_new_one_leaves_nothing() -> None:
    from zactor.api import session

    for is_killed in (True, False):
        zactor.init(num_cpus=2)
        counter = Counter.remote()
        zactor.get(counter.increment.remote(), timeout=PATIENCE)
        refs = [counter.increment.remote() for _ in range(1000)]
        refs += [task.remote(number) for number in range(100)]
        driver = session._driver
        assert driver is not None
        if is_killed:
            os.kill(driver.launched.pid, signal.SIGKILL)
            since = time.monotonic()
            for ref in refs:
                try:
                    zactor.get(ref, timeout=PATIENCE)
                except zactor.exceptions.GetTimeoutError:
                    pytest.fail("it hangs")
                except zactor.exceptions.ZactorError as error:
                    assert isinstance(
                        error,
                        zactor.exceptions.ActorDiedError | zactor.exceptions.LocalNodeDiedError,
                    )
            assert time.monotonic() - since < 3.0
        else:
            zactor.get(refs, timeout=PATIENCE)
        zactor.shutdown()
    wait_until(lambda: not list(Path(os.environ["ZACTOR_TMPDIR"]).glob("*/lock")))
