"""Calls with options: signatures, deadlines, concurrency groups, limits, futures."""

import asyncio
import concurrent.futures
import threading
import time
from typing import Any

import pytest

import zactor
from tests.system.daemons import PATIENCE
from zactor.api import values
from zactor.exceptions import DeadlineExceededError, PendingCallsLimitExceeded, TaskError
from zactor.runtime.links.reception import Waiter

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(30)]


class Plain:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value


@zactor.remote
class Counter(Plain):
    kind = "counter"

    def __repr__(self) -> str:
        return f"Counter<{self.value}>"

    def __call__(self, x: int) -> int:
        return self.value + x

    @staticmethod
    def twice(x: int) -> int:
        return 2 * x

    @classmethod
    def name(cls) -> str:
        return cls.kind

    @property
    def doubled(self) -> int:
        return 2 * self.value

    def read_doubled(self) -> int:
        return self.doubled

    def mixed(self, a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> Any:
        return [a, b, list(rest), c, more]

    def only(self, *, key: int) -> int:
        return key

    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def fail(self) -> None:
        raise ValueError("no")

    def ask(self, other: Any, seconds: float) -> float:
        value: float = zactor.get(other.sleep.remote(seconds))
        return value


class Loud(Exception):
    pass


@zactor.remote
class Flaky:
    def __init__(self) -> None:
        self.runs = 0

    @zactor.method(max_task_retries=3, retry_exceptions=[Loud])
    def third_time(self) -> int:
        self.runs += 1
        if self.runs < 3:
            raise Loud
        return self.runs

    @zactor.method(max_task_retries=3, retry_exceptions=[KeyError])
    def never(self) -> None:
        self.runs += 1
        raise Loud

    def plain(self) -> int:
        self.runs += 1
        if self.runs < 2:
            raise Loud
        return self.runs

    def count(self) -> int:
        return self.runs


@zactor.remote(concurrency_groups={"io": 2, "cpu": 1})
class Grouped:
    @zactor.method(concurrency_group="io")
    def wait_for(self, path: str) -> str:
        import os

        while not os.path.exists(path):
            time.sleep(0.01)
        return threading.current_thread().name

    @zactor.method(concurrency_group="cpu")
    def quick(self) -> str:
        return threading.current_thread().name

    def default(self) -> str:
        return threading.current_thread().name


def test_inherited_static_class_and_call_methods() -> None:
    counter = Counter.remote(5)
    assert zactor.get(counter.add.remote(2)) == 7
    assert zactor.get(counter.add.remote(amount=3)) == 10
    assert zactor.get(counter.__call__.remote(1)) == 11
    assert zactor.get(counter.twice.remote(4)) == 8
    assert zactor.get(counter.name.remote()) == "counter"
    assert zactor.get(counter.read_doubled.remote()) == 20


def test_signatures_are_checked_where_the_call_is_made() -> None:
    counter = Counter.remote()
    assert zactor.get(counter.mixed.remote(1, 2, 3, c=4, d=5)) == [1, 2, [3], 4, {"d": 5}]
    assert zactor.get(counter.only.remote(key=1)) == 1
    for bad in (
        lambda: counter.add.remote(1, 2),
        lambda: counter.add.remote(nothing=1),
        lambda: counter.mixed.remote(),
        lambda: counter.mixed.remote(a=1, b=2),
        lambda: counter.only.remote(1),
        lambda: counter.only.remote(),
        lambda: counter.twice.remote(),
        lambda: counter.name.remote(1),
    ):
        with pytest.raises(TypeError):
            bad()


def test_the_actors_repr_is_in_its_errors() -> None:
    counter = Counter.remote(3)
    zactor.get(counter.__ray_ready__.remote())
    with pytest.raises(ValueError, match="no") as caught:
        zactor.get(counter.fail.remote())
    assert isinstance(caught.value, TaskError)
    assert "Counter<3>" in str(caught.value)


def test_exceptions_are_retried_in_place() -> None:
    flaky = Flaky.remote()
    assert zactor.get(flaky.third_time.remote()) == 3
    flaky = Flaky.remote()
    with pytest.raises(Loud):
        zactor.get(flaky.never.remote())
    assert zactor.get(flaky.count.remote()) == 1
    flaky = Flaky.remote()
    call = flaky.plain.options(max_task_retries=1, retry_exceptions=True)
    assert zactor.get(call.remote()) == 2


def test_concurrency_groups_do_not_wait_for_each_other(tmp_path: Any) -> None:
    actor = Grouped.remote()
    path = str(tmp_path / "open")
    waiting = [actor.wait_for.remote(path) for _ in range(2)]
    assert "cpu" in zactor.get(actor.quick.remote(), timeout=5)
    assert zactor.get(actor.default.remote(), timeout=5)
    moved = actor.default.options(concurrency_group="cpu").remote()
    assert "cpu" in zactor.get(moved, timeout=5)
    (tmp_path / "open").touch()
    assert all("io" in name for name in zactor.get(waiting))


def test_an_undeclared_group_is_refused() -> None:
    actor = Grouped.remote()
    with pytest.raises(ValueError, match="nowhere"):
        actor.default.options(concurrency_group="nowhere").remote()

    class Wrong:
        @zactor.method(concurrency_group="nowhere")
        def f(self) -> None: ...

    with pytest.raises(ValueError, match="nowhere"):
        zactor.remote(concurrency_groups={"io": 1})(Wrong).remote()


def test_a_full_mailbox_raises_or_waits() -> None:
    counter = Counter.options(max_pending_calls=1).remote()
    zactor.get(counter.__ray_ready__.remote())
    busy = counter.sleep.remote(0.3)
    with pytest.raises(PendingCallsLimitExceeded):
        counter.add.remote()
    waited = counter.add.options(on_full="wait").remote()
    assert zactor.get(busy) == 0.3
    assert zactor.get(waited) == 1


def test_a_deadline_settles_the_callers_reference() -> None:
    counter = Counter.remote()
    zactor.get(counter.__ray_ready__.remote())
    started = time.monotonic()
    busy = counter.sleep.remote(1.0)
    late = counter.add.options(timeout=0.2).remote()
    with pytest.raises(DeadlineExceededError) as caught:
        zactor.get(late)
    assert time.monotonic() - started < 0.8
    assert caught.value.executed in ("no", "unknown")
    zactor.get(busy)
    assert zactor.get(counter.add.remote()) == 1  # the late one never ran


def test_a_deadline_is_inherited_by_child_calls() -> None:
    first, second = Counter.remote(), Counter.remote()
    zactor.get([first.__ray_ready__.remote(), second.__ray_ready__.remote()])
    busy = second.sleep.remote(1.0)
    call = first.ask.options(timeout=0.3).remote(second, 0.0)
    with pytest.raises(DeadlineExceededError):
        zactor.get(call)
    started = time.monotonic()
    zactor.get(first.add.remote())  # its get of the child ended at the deadline as well
    assert time.monotonic() - started < 0.6
    zactor.get(busy)


def test_a_task_has_a_deadline_too() -> None:
    @zactor.remote(timeout=0.2)
    def slow() -> None:
        time.sleep(1)

    with pytest.raises(DeadlineExceededError):
        zactor.get(slow.remote())


def test_a_call_within_its_deadline_is_as_any_other() -> None:
    counter = Counter.remote()
    assert zactor.get([counter.add.options(timeout=10).remote() for _ in range(3)]) == [1, 2, 3]


def test_futures_of_the_standard_library() -> None:
    counter = Counter.remote()
    futures = [counter.add.remote().future() for _ in range(3)]
    done, _ = concurrent.futures.wait(futures, timeout=10)
    assert sorted(future.result() for future in done) == [1, 2, 3]
    with pytest.raises(ValueError):
        counter.fail.remote().future().result(10)


def test_asyncio_in_a_driver(caplog: Any, capfd: Any) -> None:
    counter = Counter.remote()

    async def main() -> Any:
        values = await asyncio.gather(*[counter.add.remote() for _ in range(3)])
        one = await asyncio.wait_for(counter.add.remote(), 5)
        future = counter.add.remote().as_future()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(counter.sleep.remote(0.5), 0.1)
        ignored = counter.fail.remote().as_future()
        await asyncio.sleep(0.1)
        del ignored
        return values, one, await future

    assert asyncio.run(main()) == ([1, 2, 3], 4, 5)
    import gc

    gc.collect()
    assert "never retrieved" not in caplog.text + capfd.readouterr().err


def test_asyncio_in_a_thread_with_a_loop_of_its_own() -> None:
    counter = Counter.remote()
    found: list[int] = []

    async def main() -> None:
        found.extend(await asyncio.gather(*[counter.add.remote() for _ in range(5)]))

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(10)
    assert found == [1, 2, 3, 4, 5]


def test_futures_inside_actors() -> None:
    @zactor.remote
    class Inner:
        async def run(self, counter: Any) -> Any:
            loop = asyncio.get_running_loop()
            wrapped = await asyncio.wrap_future(counter.add.remote().future())
            gathered = await asyncio.gather(counter.add.remote(), counter.add.remote())
            blocking = await loop.run_in_executor(
                None, lambda: zactor.get(counter.add.remote())
            )
            return wrapped, gathered, blocking

    assert zactor.get(Inner.remote().run.remote(Counter.remote()), timeout=10) == (1, [2, 3], 4)


class Sleeper:
    """Answers late, or fails."""

    def echo(self, value: int) -> int:
        return value

    def fail(self) -> None:
        raise KeyError("failed")

    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)  # noqa: TID251 - it is what the method is for
        return seconds


@pytest.fixture
def sleeper(cluster: None) -> Any:
    return zactor.remote(Sleeper).options(num_cpus=0).remote()


@pytest.mark.system
def test_a_get_of_many_waits_for_all_of_them_in_order(
    sleeper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "TOGETHER", 7)
    refs = [sleeper.sleep.remote(0.05), *(sleeper.echo.remote(i) for i in range(100))]
    assert zactor.get(refs, timeout=PATIENCE) == [0.05, *range(100)]


@pytest.mark.system
@pytest.mark.parametrize("position", [1, 5, 20, 99])
def test_a_get_of_many_raises_an_error_that_is_known_before_the_rest(
    sleeper: Any, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "TOGETHER", 10)
    other = zactor.remote(Sleeper).options(num_cpus=0).remote()
    refs = [other.sleep.remote(PATIENCE), *(sleeper.echo.remote(i) for i in range(100))]
    refs[position] = sleeper.fail.remote()
    started = time.monotonic()
    with pytest.raises(KeyError):
        zactor.get(refs, timeout=PATIENCE)
    assert time.monotonic() - started < PATIENCE / 2
    assert not any(isinstance(each, Waiter) for each in refs[0]._result.waiters)
    zactor.kill(other)


@pytest.mark.system
def test_a_get_of_many_that_times_out_leaves_no_waiters(sleeper: Any) -> None:
    refs = [sleeper.echo.remote(1), sleeper.sleep.remote(0.3), sleeper.echo.remote(2)]
    with pytest.raises(zactor.exceptions.GetTimeoutError):
        zactor.get(refs, timeout=0.02)
    assert not any(ref._result.waiters for ref in refs)
    assert zactor.get(refs) == [1, 0.3, 2]


@pytest.mark.system
def test_a_get_of_many_names_what_is_no_reference(sleeper: Any) -> None:
    number: Any = 3
    with pytest.raises(TypeError, match="item 2 is a <class 'int'>"):
        zactor.get([sleeper.echo.remote(1), sleeper.echo.remote(2), number])


def test_a_handle_that_holds_nothing_can_be_an_argument(cluster: None) -> None:
    @zactor.remote
    class Named:
        def own(self, other: Any) -> str:
            me = zactor.get_runtime_context().current_actor
            name: str = zactor.get(other.name_of.remote(me), timeout=10)
            return name

        def name(self) -> str:
            return "named"

        def name_of(self, other: Any) -> str:
            name: str = zactor.get(other.name.remote(), timeout=10)
            return name

    named, other = (
        Named.options(name="handle-argument", max_concurrency=2).remote(),
        Named.remote(),
    )
    assert zactor.get(other.name_of.remote(zactor.get_actor("handle-argument"))) == "named"
    assert zactor.get(named.own.remote(other)) == "named"
