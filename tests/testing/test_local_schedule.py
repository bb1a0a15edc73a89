"""One seed, one schedule; many seeds, many schedules."""

from __future__ import annotations

import threading

import pytest

import zactor
from tests.testing.actors import Busy, Counter, Register, add_one, inside
from zactor.exceptions import TaskError
from zactor.testing import LocalWorld, each_seed, local


def _story(seed: int) -> tuple[str, int]:
    with local(seed=seed) as world:
        register = Register.remote()
        counters = [Counter.remote() for _ in range(3)]
        zactor.get([add_one.remote(register) for _ in range(4)])
        zactor.get([counter.increment.remote() for counter in counters * 3])
        return world.story(), zactor.get(register.read.remote())


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert _story(7) == _story(7)


def test_different_seeds_find_different_outcomes_of_a_race() -> None:
    stories = [_story(seed) for seed in range(12)]
    assert len({story for story, _ in stories}) > 6
    assert len({value for _, value in stories}) > 1


def test_each_seed_names_the_seed_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZACTOR_SEED", raising=False)
    tried = []

    @each_seed(50)
    def finds_the_lost_update(world: LocalWorld) -> None:
        tried.append(world.seed)
        register = Register.remote()
        zactor.get([add_one.remote(register) for _ in range(2)])
        assert zactor.get(register.read.remote()) == 2

    with pytest.raises(AssertionError) as caught:
        finds_the_lost_update()

    failing = tried[-1]
    assert any(f"ZACTOR_SEED={failing}" in note for note in caught.value.__notes__)

    monkeypatch.setenv("ZACTOR_SEED", str(failing))
    tried.clear()
    with pytest.raises(AssertionError):
        finds_the_lost_update()
    assert tried == [failing]


@each_seed(range(3), num_cpus=1)
def test_each_seed_leaves_other_parameters_to_pytest(
    world: LocalWorld, tmp_path: object
) -> None:
    assert tmp_path is not None
    assert zactor.cluster_resources()["CPU"] == 1


def test_calls_of_one_caller_start_in_order_whatever_the_seed() -> None:
    for seed in range(10):
        with local(seed=seed):
            counter = Counter.remote()
            refs = [counter.increment.remote() for _ in range(20)]
            assert zactor.get(refs) == list(range(1, 21))


def test_one_strand_runs_at_a_time() -> None:
    inside.clear()
    with local():
        actors = [Busy.remote() for _ in range(8)]
        zactor.get([actor.work.remote() for actor in actors * 4])
    assert len(inside) == 32  # of modules that can be imported, there is one in a process


def test_the_calls_of_a_plain_actor_run_in_one_thread() -> None:
    class Where:
        def __init__(self) -> None:
            self.idents = {threading.get_ident()}

        def here(self) -> int:
            self.idents.add(threading.get_ident())
            return len(self.idents)

    with local():
        actor = zactor.remote(Where).remote()
        others = [zactor.remote(Where).remote() for _ in range(3)]
        zactor.get([each.here.remote() for each in others])
        assert zactor.get([actor.here.remote() for _ in range(5)]) == [1] * 5


def test_threads_and_locks_of_user_code_belong_to_the_schedule() -> None:
    class Pool:
        def run(self) -> list[int]:
            lock, done = threading.Lock(), []

            def work(n: int) -> None:
                with lock:
                    zactor.get(zactor.put(n))
                    threading.Event().wait(1.0)
                    done.append(n)

            threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return done

    orders = set()
    for seed in range(8):
        with local(seed=seed) as world:
            orders.add(tuple(zactor.get(zactor.remote(Pool).remote().run.remote())))
            assert world.now >= 3.0
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len(orders) > 1


def test_a_lock_that_nobody_releases_is_a_deadlock() -> None:
    class Careless:
        def lock_twice(self) -> None:
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()

    with local(), pytest.raises(zactor.exceptions.DeadlockError, match="waits for a lock"):
        zactor.get(zactor.remote(Careless).remote().lock_twice.remote())


def test_a_circle_of_calls_is_refused_when_it_closes() -> None:
    with local():
        first, second = Counter.remote(), Counter.remote()
        with pytest.raises(TaskError) as caught:
            zactor.get(first.call.remote(second, "call", first, "increment"))
        error: BaseException = caught.value
        while getattr(error, "cause", None) is not None:
            error = error.cause
        assert isinstance(error, zactor.exceptions.DeadlockError)
        assert error.chain == (
            "Counter#2.call(), blocked in a get on Counter#1.increment(), which waits behind call()",
            "Counter#1.call(), blocked in a get on Counter#2.call()",
        )


def test_an_actor_that_waits_for_itself_is_refused() -> None:
    class Own:
        def ask_itself(self) -> int:
            own = zactor.get_runtime_context().current_actor
            return zactor.get(own.answer.remote())

        def answer(self) -> int:
            return 1

    with local(), pytest.raises(zactor.exceptions.DeadlockError):
        zactor.get(zactor.remote(Own).remote().ask_itself.remote())


def test_the_trace_tells_what_ran() -> None:
    with local() as world:
        counter = Counter.remote()
        zactor.get(counter.increment.remote())
        steps = [(step.who, step.what, step.call) for step in world.trace]
    assert steps == [
        ("Counter#1", "starts", "__init__"),
        ("Counter#1", "is up", ""),
        ("Counter#1", "starts", "increment"),
        ("Counter#1", "ends", "increment"),
    ]
