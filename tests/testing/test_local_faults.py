"""Faults on demand: what callers see, and what is left of the actor."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import pytest

import zactor
from tests.testing.actors import Counter, double
from zactor.exceptions import (
    ActorDiedError,
    ActorError,
    ActorUnavailableError,
    OwnerDiedError,
    WorkerCrashedError,
)
from zactor.testing import local


def _error(ref: Any) -> Any:
    with pytest.raises(zactor.exceptions.ZactorError) as caught:
        zactor.get(ref)
    return caught.value


def test_a_call_whose_actor_crashes_before_it_runs() -> None:
    with local() as world:
        counter = Counter.remote()
        world.crash_next(counter, "increment", executed="no")
        first, second = counter.increment.remote(), counter.increment.remote()
        assert isinstance(_error(first), ActorDiedError)
        assert _error(first).executed == "no"
        assert _error(second).executed == "no"
        assert world.faults == []


def test_a_call_whose_actor_crashes_after_it_ran() -> None:
    with local() as world:
        counter = Counter.remote()
        world.crash_next(counter, ran=True)
        ref, behind = counter.increment.remote(), counter.increment.remote()
        assert (_error(ref).executed, _error(behind).executed) == ("unknown", "no")


def test_an_actor_that_is_restarted_begins_anew() -> None:
    with local() as world:
        counter = Counter.options(max_restarts=1).remote(10)
        assert zactor.get(counter.increment.remote()) == 11
        world.crash_next(counter)
        assert isinstance(_error(counter.increment.remote()), ActorUnavailableError)
        time.sleep(1.0)
        assert zactor.get(counter.increment.remote()) == 11
        world.crash(counter)
        assert isinstance(_error(counter.increment.remote()), ActorDiedError)


def test_a_call_that_may_be_sent_again_is() -> None:
    with local() as world:
        counter = Counter.options(max_restarts=-1, max_task_retries=1).remote()
        world.crash_next(counter, "increment", ran=True)
        assert zactor.get(counter.increment.remote()) == 1
        world.crash_next(counter, "increment", ran=True)
        world.crash_next(counter, "increment", ran=True)
        assert isinstance(_error(counter.increment.remote()), ActorUnavailableError)


def test_a_lost_reply_leaves_the_actor_alive() -> None:
    with local() as world:
        counter = Counter.remote()
        world.lose_next(counter, "increment", ran=True)
        world.lose_next(counter, "increment", executed="no")
        errors = [_error(counter.increment.remote()) for _ in range(2)]
        assert [error.executed for error in errors] == ["unknown", "no"]
        assert all(isinstance(error, ActorUnavailableError) for error in errors)
        assert zactor.get(counter.increment.remote()) == 2


def test_a_fault_for_any_actor_of_a_class() -> None:
    with local() as world:
        world.crash_next(Counter, "__init__")
        dead, alive = Counter.remote(), Counter.remote()
        outcomes = [isinstance(_outcome(each), ActorDiedError) for each in (dead, alive)]
        assert sorted(outcomes) == [False, True]


def _outcome(counter: Any) -> Any:
    try:
        return zactor.get(counter.increment.remote())
    except ActorError as error:
        return error


def test_a_task_whose_worker_crashes() -> None:
    with local() as world:
        world.crash_next(double)
        assert zactor.get(double.remote(4)) == 8  # it was run again
        world.crash_next(double, ran=True)
        error = _error(double.options(max_retries=0).remote(4))
        assert isinstance(error, WorkerCrashedError)
        assert error.executed == "unknown"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"ran": True, "executed": "no"}, "would be a lie"),
        ({"ran": False, "executed": "yes"}, "would be a lie"),
        ({"executed": "perhaps"}, "executed is 'no', 'yes' or 'unknown'"),
    ],
)
def test_a_fault_does_not_lie(arguments: dict[str, Any], text: str) -> None:
    with local() as world, pytest.raises(ValueError, match=text):
        world.crash_next(Counter, **arguments)


def test_faults_for_what_cannot_have_them() -> None:
    with local() as world:
        with pytest.raises(TypeError, match="an actor's handle"):
            world.crash_next(3)
        with pytest.raises(ValueError, match="use crash_next"):
            world.lose_next(Counter, "__init__")
        counter = Counter.remote()
        world.settle()
        world.kill(counter)
        with pytest.raises(ValueError, match="is DEAD"):
            world.crash(counter)


def test_a_killed_method_runs_no_further() -> None:
    ended: list[str] = []

    class Tidy:
        def wait(self) -> None:
            try:
                time.sleep(1000.0)
                ended.append("slept")
            except BaseException:
                zactor.put(1)  # a dead process can ask for nothing
                ended.append("asked")
                raise

    with local() as world:
        tidy = zactor.remote(Tidy).remote()
        ref = tidy.wait.remote()
        world.advance(1.0)
        world.kill(tidy)
        assert _error(ref).executed == "unknown"
        world.advance(2000.0)
    assert ended == []


@pytest.mark.parametrize("how", ["exit", "sigkill", "sys.exit", "from outside"])
def test_programs_that_crash_what_they_take_for_a_process(how: str) -> None:
    class Fragile:
        def pid(self) -> int:
            return os.getpid()

        def crash(self, how: str) -> None:
            if how == "exit":
                os._exit(3)
            if how == "sys.exit":
                sys.exit(3)
            os.kill(os.getpid(), signal.SIGKILL)

    with local():
        fragile = zactor.remote(Fragile).options(max_restarts=1).remote()
        pid = zactor.get(fragile.pid.remote())
        assert pid != os.getpid()
        if how == "from outside":
            os.kill(pid, 0)
            os.kill(pid, signal.SIGKILL)
        else:
            assert isinstance(_error(fragile.crash.remote(how)), ActorUnavailableError)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        time.sleep(1.0)
        assert zactor.get(fragile.pid.remote()) != pid


def test_what_a_dead_actor_owned_is_lost_and_its_actors_die() -> None:
    class Owner:
        def make(self) -> list[Any]:
            self.counter = Counter.remote()
            return [zactor.put("mine"), self.counter]

    with local() as world:
        owner = zactor.remote(Owner).remote()
        ref, counter = zactor.get(owner.make.remote())
        assert zactor.get(ref) == "mine"
        world.kill(owner)
        assert isinstance(_error(ref), OwnerDiedError)
        error = _error(counter.increment.remote())
        assert isinstance(error, ActorDiedError)
        assert "its owner, Owner#1, is dead" in str(error)


def test_calls_that_wait_for_their_arguments_fail_with_their_actor() -> None:
    with local() as world:
        slow, sum_up = Counter.remote(), Counter.remote()
        late = slow.nap.remote(100.0)
        ref = sum_up.nap.remote(late)
        behind = sum_up.increment.remote()
        world.advance(1.0)
        world.kill(sum_up)
        assert [_error(each).executed for each in (ref, behind)] == ["no", "no"]
        assert zactor.get(late) == 0


def test_calls_wait_for_a_constructor_that_crashes_at_first() -> None:
    with local() as world:
        world.crash_next(Counter, "__init__")
        counter = Counter.options(max_restarts=1).remote(5)
        assert zactor.get(counter.increment.remote()) == 6


def test_a_handle_s_end_ends_the_actor_after_its_calls() -> None:
    with local() as world:
        counter = Counter.options(name="one").remote()
        ref = counter.nap.remote(5.0)
        del counter
        world.advance(1.0)
        assert zactor.get_actor("one") is not None
        assert zactor.get(ref) == 0
        world.settle()
        with pytest.raises(ValueError, match="Failed to look up actor"):
            zactor.get_actor("one")
