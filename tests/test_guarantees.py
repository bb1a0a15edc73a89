"""The guarantees, one by one, on a real cluster. Numbers are those of docs/guarantees.md.

Those about links, the store and sockets are proved where those are tested alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import zactor
from zactor import exceptions

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.usefixtures("cluster")]


class Recorder:
    """Remembers what it was called with, in order."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, number: int, payload: Any = None) -> int:
        self.seen.append(number)
        return number

    def all(self) -> list[Any]:
        return self.seen


class Diary:
    """Writes every run of a call to a file, which outlives it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._append("start")

    def _append(self, text: str) -> None:
        with open(self.path, "a") as file:
            file.write(f"{text}\n")

    def note(self, number: int) -> int:
        self._append(str(number))
        return number

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def pid(self) -> int:
        return os.getpid()

    def nap(self, seconds: float) -> None:
        self._append("nap")
        time.sleep(seconds)


def diary(tmp_path: Path, **options: Any) -> tuple[Any, Path]:
    path = tmp_path / "diary"
    return zactor.remote(Diary).options(**options).remote(str(path)), path


def until(condition: Any, timeout: float = 20.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        threading.Event().wait(0.005)
    return found


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


# -- G1: serial ---------------------------------------------------------------------------------


def test_a_plain_actor_runs_one_call_at_a_time() -> None:  # G1.1
    @zactor.remote
    class Careful:
        def __init__(self) -> None:
            self.inside = self.most = 0

        def enter(self) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.001)
            self.inside -= 1

        def peak(self) -> int:
            return self.most

    @zactor.remote
    def caller(actor: Any) -> None:
        zactor.get([actor.enter.remote() for _ in range(20)])

    careful = Careful.remote()
    zactor.get([caller.remote(careful) for _ in range(3)])
    assert zactor.get(careful.peak.remote()) == 1


def test_async_methods_interleave_only_where_they_await() -> None:  # G1.2
    @zactor.remote
    class Account:
        def __init__(self) -> None:
            self.balance = 0
            self.together = self.most = 0

        async def add(self) -> None:
            self.together += 1
            self.most = max(self.most, self.together)
            before = self.balance
            sum(range(1000))  # nobody gets in between here
            self.balance = before + 1
            await asyncio.sleep(0.01)
            self.together -= 1

        async def state(self) -> tuple[int, int]:
            return self.balance, self.most

    account = Account.remote()
    zactor.get([account.add.remote() for _ in range(200)])
    balance, most = zactor.get(account.state.remote())
    assert balance == 200
    assert most > 1


def test_at_most_max_concurrency_calls_run_at_a_time() -> None:  # G1.3
    class Crowd:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.inside = self.most = 0

        @zactor.method(concurrency_group="few")
        def enter_few(self) -> int:
            return self._enter()

        def enter(self) -> int:
            return self._enter()

        def _enter(self) -> int:
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            time.sleep(0.02)
            with self.lock:
                self.inside -= 1
            return self.most

    many = zactor.remote(max_concurrency=3, concurrency_groups={"few": 2})(Crowd).remote()
    assert max(zactor.get([many.enter.remote() for _ in range(12)])) == 3
    few = zactor.remote(concurrency_groups={"few": 2})(Crowd).remote()
    assert max(zactor.get([few.enter_few.remote() for _ in range(12)])) == 2


# -- G2: order ----------------------------------------------------------------------------------


def test_calls_start_in_the_order_submitted() -> None:  # G2.1
    recorder = zactor.remote(Recorder).remote()
    for number in range(5000):
        recorder.note.remote(number)
    assert zactor.get(recorder.all.remote()) == list(range(5000))


def test_order_holds_between_small_calls_and_large_ones() -> None:  # G2.3
    recorder = zactor.remote(Recorder).remote()
    sizes = {0: 2_000_000, 3: 200_000, 6: 20_000}
    for number in range(100):
        recorder.note.remote(number, b"x" * sizes.get(number % 10, 0))
    assert zactor.get(recorder.all.remote()) == list(range(100))


def test_order_between_threads_is_that_of_their_synchronisation() -> None:  # G2.4
    recorder = zactor.remote(Recorder).remote()
    lock, submitted = threading.Lock(), []

    def submit(thread: int) -> None:
        for number in range(300):
            with lock:
                submitted.append((thread, number))
                recorder.note.remote((thread, number))

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert zactor.get(recorder.all.remote()) == submitted


@zactor.remote
def later(value: Any, gate: str) -> Any:
    while not os.path.exists(gate):
        time.sleep(0.002)
    return value


def test_a_call_whose_argument_is_not_ready_holds_back_later_ones(
    tmp_path: Path,
) -> None:  # G2.5
    recorder = zactor.remote(Recorder).remote()
    gate = tmp_path / "gate"
    recorder.note.remote(0)
    recorder.note.remote(later.remote(1, str(gate)))
    last = recorder.note.remote(2)
    assert zactor.wait([last], timeout=0.2) == ([], [last])
    gate.touch()
    zactor.get(last)
    assert zactor.get(recorder.all.remote()) == [0, 1, 2]


def test_order_holds_across_a_restart(tmp_path: Path) -> None:  # G2.6
    actor, path = diary(tmp_path, max_restarts=-1, max_task_retries=-1)
    pid = zactor.get(actor.pid.remote())
    refs = [actor.note.remote(number) for number in range(3000)]
    until(lambda: len(lines(path)) > 100)
    os.kill(pid, signal.SIGKILL)
    assert zactor.get(refs) == list(range(3000))
    lives = path.read_text().split("start\n")[1:]
    assert len(lives) == 2
    for life in lives:
        numbers = [int(text) for text in life.split()]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_async_actors_start_ready_calls_in_order_and_do_not_wait_for_others(
    tmp_path: Path,
) -> None:  # G2.7
    @zactor.remote
    class Async:
        def __init__(self) -> None:
            self.seen: list[int] = []

        async def note(self, number: int) -> None:
            self.seen.append(number)
            await asyncio.sleep(0)

        async def all(self) -> list[int]:
            return self.seen

    actor = Async.remote()
    gate = tmp_path / "gate"
    late = actor.note.remote(later.remote(-1, str(gate)))
    zactor.get([actor.note.remote(number) for number in range(500)])
    gate.touch()
    zactor.get(late)
    assert zactor.get(actor.all.remote()) == [*range(500), -1]


# -- G3, G4: outcomes ---------------------------------------------------------------------------


def test_every_call_settles_once_when_its_actor_is_killed(tmp_path: Path) -> None:  # G3.1
    actor, path = diary(tmp_path)
    pid = zactor.get(actor.pid.remote())
    refs = [actor.note.remote(number) for number in range(2000)]
    until(lambda: len(lines(path)) > 50)
    os.kill(pid, signal.SIGKILL)
    outcomes: dict[str, int] = {}
    for number, ref in enumerate(refs):
        try:
            assert zactor.get(ref, timeout=20) == number
            outcome = "value"
        except exceptions.ActorDiedError as error:
            outcome = error.executed
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        with pytest.raises(exceptions.ActorDiedError) if outcome != "value" else _nothing():
            assert zactor.get(ref) == number  # the same again
    assert sum(outcomes.values()) == 2000
    assert outcomes.get("unknown", 0) <= 1
    ran = len(lines(path)) - 1
    assert ran - outcomes["value"] - outcomes.get("yes", 0) in (0, 1)


class _nothing:  # noqa: N801 - reads as a sentence
    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        pass


def test_a_death_ends_every_wait_at_once(tmp_path: Path) -> None:  # G3.2
    actor, path = diary(tmp_path)
    pid = zactor.get(actor.pid.remote())
    ref = actor.nap.remote(60)
    until(lambda: "nap" in lines(path))
    threading.Timer(0.05, os.kill, (pid, signal.SIGKILL)).start()
    began = time.monotonic()
    with pytest.raises(exceptions.ActorDiedError):
        zactor.get(ref, timeout=20)
    assert time.monotonic() - began < 2


INTERRUPTED = """
import os, signal, threading, time
import zactor

@zactor.remote
class Echo:
    def echo(self, x):
        return x

zactor.init(num_cpus=1)
echo = Echo.remote()
zactor.get(echo.echo.remote(0))
refs, interrupts = [], 0
stop = threading.Event()

def interrupt():
    while not stop.wait(0.01):
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
deadline = time.monotonic() + 2
while time.monotonic() < deadline:
    try:
        while time.monotonic() < deadline:
            made = [echo.echo.remote(i) for i in range(100)]
            refs.append(made)
            zactor.get(made)
    except KeyboardInterrupt:
        interrupts += 1
while True:
    try:
        stop.set()
        time.sleep(0.1)
        break
    except KeyboardInterrupt:
        pass
for made in refs:
    assert zactor.get(made, timeout=20) == list(range(100))
print("settled", interrupts > 20)
zactor.shutdown()
"""


def test_interrupts_lose_no_outcome(program: Any) -> None:  # G3.4
    done = program.run(source=INTERRUPTED)
    assert done.stdout == "settled True\n", done.stdout + done.stderr


class OwnError(Exception):
    """An error of the user's."""


def test_a_users_exception_is_caught_as_its_own_class_and_as_a_task_error() -> None:  # G3.5
    @zactor.remote
    def fail() -> None:
        raise LookupError("not there")

    for kind in (LookupError, exceptions.TaskError):
        with pytest.raises(kind, match="not there") as caught:
            zactor.get(fail.remote())
    assert "in fail" in str(caught.value)
    assert type(caught.value.cause) is LookupError


def test_a_result_that_cannot_be_pickled_is_an_error_that_says_it_ran() -> None:  # G3.6
    @zactor.remote
    class Odd:
        def lock(self) -> Any:
            return {"a": threading.Lock()}

    odd = Odd.remote()
    with pytest.raises(Exception, match="lock") as caught:
        zactor.get(odd.lock.remote())
    assert getattr(caught.value, "executed", None) == "yes"
    with pytest.raises(exceptions.ZactorError):
        zactor.get(odd.lock.remote())  # the actor goes on


def test_errors_about_actors_say_whether_the_call_ran(tmp_path: Path) -> None:  # G4.1
    actor, _ = diary(tmp_path)
    zactor.get(actor.pid.remote())
    zactor.kill(actor)
    with pytest.raises(exceptions.ActorDiedError) as caught:
        zactor.get(actor.note.remote(1))
    assert caught.value.executed == "no"


def test_queued_calls_did_not_run_and_only_the_running_one_is_unknown(
    tmp_path: Path,
) -> None:  # G4.2, G4.3
    actor, path = diary(tmp_path)
    running = actor.crash.remote()
    queued = [actor.note.remote(number) for number in range(50)]
    said = []
    for ref in (running, *queued):
        with pytest.raises(exceptions.ActorDiedError) as caught:
            zactor.get(ref)
        said.append(caught.value.executed)
    assert said == ["unknown"] + ["no"] * 50
    assert lines(path) == ["start"]


def test_calls_that_had_not_arrived_did_not_run(tmp_path: Path) -> None:  # G4.2
    actor, path = diary(tmp_path, name="stopped")
    pid = zactor.get(actor.pid.remote())

    @zactor.remote
    def calls_it_first() -> list[Any]:  # a caller that it has not heard of
        os.kill(pid, signal.SIGSTOP)
        other = zactor.get_actor("stopped")
        refs = [other.note.remote(number) for number in range(20)]
        zactor.wait(refs, timeout=0.1)
        os.kill(pid, signal.SIGKILL)
        said = []
        for ref in refs:
            with pytest.raises(exceptions.ActorDiedError) as caught:
                zactor.get(ref)
            said.append(caught.value.executed)
        return said

    assert zactor.get(calls_it_first.remote()) == ["no"] * 20
    assert lines(path) == ["start"]


# -- G5: delivery -------------------------------------------------------------------------------


def test_a_call_runs_at_most_once_by_default(tmp_path: Path) -> None:  # G5.1
    actor, path = diary(tmp_path, max_restarts=-1)
    for _ in range(3):
        pid = until(lambda: _pid(actor))
        refs = [actor.note.remote(number) for number in range(300)]
        zactor.wait(refs, num_returns=20)
        os.kill(pid, signal.SIGKILL)
        for ref in refs:
            try:
                zactor.get(ref, timeout=20)
            except exceptions.ActorError:
                pass
        until(lambda pid=pid: _pid(actor) not in (None, pid))
    for life in path.read_text().split("start\n"):
        numbers = life.split()
        assert len(numbers) == len(set(numbers))


def _pid(actor: Any) -> int | None:
    try:
        return zactor.get(actor.pid.remote(), timeout=20)
    except exceptions.ActorError:
        return None


def test_with_retries_a_call_is_sent_again_after_a_crash(tmp_path: Path) -> None:  # G5.2
    path = tmp_path / "tally"

    @zactor.remote(max_restarts=-1, max_task_retries=2)
    class Stubborn:
        def work(self, crashes: int) -> int:
            with open(path, "a") as file:
                file.write("x")
            runs = path.stat().st_size
            if runs <= crashes:
                os._exit(1)
            return runs

    assert zactor.get(Stubborn.remote().work.remote(2), timeout=30) == 3
    path.unlink()
    with pytest.raises(exceptions.ActorError):
        zactor.get(Stubborn.remote().work.remote(5), timeout=30)
    assert path.stat().st_size == 3


def test_retries_for_exceptions_happen_in_place() -> None:  # G5.5
    @zactor.remote
    class Flaky:
        def __init__(self) -> None:
            self.seen: list[str] = []

        @zactor.method(max_task_retries=3, retry_exceptions=[OSError])
        def flaky(self) -> None:
            self.seen.append("flaky")
            if len(self.seen) < 3:
                raise OSError("again")

        def plain(self) -> None:
            self.seen.append("plain")

        def all(self) -> list[str]:
            return self.seen

    flaky = Flaky.remote()
    zactor.get([flaky.flaky.remote(), flaky.plain.remote()])
    assert zactor.get(flaky.all.remote()) == ["flaky", "flaky", "flaky", "plain"]


# -- G7: isolation, stops and names -------------------------------------------------------------


def test_a_crash_touches_no_other_actor(tmp_path: Path) -> None:  # G7.1
    victim, _ = diary(tmp_path)
    others = [zactor.remote(Recorder).remote() for _ in range(3)]
    zactor.get([other.note.remote(1) for other in others])
    with pytest.raises(exceptions.ActorDiedError):
        zactor.get(victim.crash.remote())
    assert zactor.get([other.note.remote(2) for other in others]) == [2, 2, 2]
    assert zactor.get([other.all.remote() for other in others]) == [[1, 2]] * 3


def test_an_actor_is_restarted_as_often_as_it_may_be(tmp_path: Path) -> None:  # G7.3
    actor, path = diary(tmp_path, max_restarts=2)
    for _ in range(3):
        until(lambda: _pid(actor))
        with pytest.raises(exceptions.ActorError):
            zactor.get(actor.crash.remote(), timeout=20)
    with pytest.raises(exceptions.ActorDiedError):
        zactor.get(actor.pid.remote(), timeout=20)
    assert lines(path).count("start") == 3


def test_a_constructor_that_raises_is_not_tried_again(tmp_path: Path) -> None:  # G7.3
    tally = tmp_path / "tally"

    @zactor.remote(max_restarts=5)
    class Broken:
        def __init__(self) -> None:
            with open(tally, "a") as file:
                file.write("x")
            raise ValueError("cannot be")

        def ping(self) -> None:
            pass

    with pytest.raises(exceptions.ActorDiedError, match="cannot be") as caught:
        zactor.get(Broken.remote().ping.remote(), timeout=20)
    assert caught.value.executed == "no"
    assert tally.read_text() == "x"


def test_a_killed_actors_name_is_free_when_kill_returns() -> None:  # G7.4
    for _ in range(10):
        actor = zactor.remote(Recorder).options(name="one-name").remote()
        zactor.kill(actor)


def test_of_many_that_want_one_actor_one_makes_it() -> None:  # G7.5
    @zactor.remote(num_cpus=0.5)
    def ask() -> tuple[str, int]:
        made = zactor.remote(Recorder).options(
            name="the-one", get_if_exists=True, lifetime="detached"
        )
        actor = made.remote()
        zactor.get(actor.note.remote(1))
        return actor._actor_id.hex(), len(zactor.get(actor.all.remote()))

    answers = zactor.get([ask.remote() for _ in range(6)])
    assert len({actor_id for actor_id, _ in answers}) == 1
    assert max(count for _, count in answers) == 6
    zactor.kill(zactor.get_actor("the-one"))


# -- G8: references -----------------------------------------------------------------------------


@zactor.remote
class Relay:
    def pass_on(self, refs: list[Any], to: Any) -> Any:
        return to.keep.remote(refs)  # and drops them at once

    def keep(self, refs: list[Any]) -> list[Any]:
        self.kept = refs
        return refs

    def read(self) -> Any:
        return zactor.get(self.kept[0])


def test_references_and_handles_pass_through_third_parties() -> None:  # G8.1
    first, second = Relay.remote(), Relay.remote()
    value = bytes(300_000)
    kept = zactor.get(first.pass_on.remote([zactor.put(value)], second))
    back = zactor.get(kept)[0]
    assert zactor.get(back) == value
    del back, kept
    assert zactor.get(second.read.remote()) == value
    assert (
        zactor.get(zactor.remote(Recorder).remote().note.remote(7)) == 7
    )  # nobody holds the handle


def test_a_value_lives_while_a_reference_to_it_does() -> None:  # G8.2
    numpy = pytest.importorskip("numpy")

    @zactor.remote
    class Maker:
        def make(self, number: int) -> Any:
            return numpy.full((500, 1000), number, dtype=numpy.uint8)

        def mean(self, array: Any) -> float:
            return float(array.mean())

    maker, reader = Maker.remote(), Maker.remote()
    for _ in range(20):  # each round's segments are those that the round before has freed
        refs = [maker.make.remote(number) for number in range(4)]
        for _ in range(2):
            assert zactor.get([reader.mean.remote(ref) for ref in refs]) == [0, 1, 2, 3]
        assert [int(zactor.get(ref)[0, 0]) for ref in refs] == [0, 1, 2, 3]


def test_what_is_changed_later_is_not_changed_elsewhere() -> None:  # G8.3
    recorder = zactor.remote(Recorder).remote()
    values = [1, 2, 3]
    ref = zactor.put(values)
    recorder.note.remote(0, values)
    noted = recorder.note.remote(values)
    values.clear()
    assert zactor.get(noted) == [1, 2, 3]
    assert zactor.get(ref) == [1, 2, 3]


def test_arrays_come_without_a_copy_and_read_only() -> None:  # G8.4
    numpy = pytest.importorskip("numpy")
    ref = zactor.put(numpy.arange(1_000_000))
    one, two = zactor.get(ref), zactor.get(ref)
    assert not one.flags.writeable
    assert numpy.shares_memory(one, two) or one is two
    kept = one.copy()
    del ref, two
    for _ in range(3):
        zactor.put(numpy.zeros(1_000_000, dtype=int))
    assert (one == kept).all()
