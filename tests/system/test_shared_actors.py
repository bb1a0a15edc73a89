"""`isolation="shared"`: many actors in one worker, each an actor like any other."""

import asyncio
import os
import time
from typing import Any

import pytest

import zactor
from tests.system.waiting import wait_for
from zactor.exceptions import ActorDiedError, ActorError, TaskCancelledError
from zactor.runtime import current as processes

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(60)]


@zactor.remote(isolation="shared")
class Cell:
    def __init__(self, value: int = 0) -> None:
        if value < 0:
            raise ValueError("no such value")
        self.value = value

    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value

    def where(self) -> int:
        return os.getpid()

    def caller(self) -> bytes:
        runtime = processes.current()
        assert runtime is not None
        return runtime.identity.caller

    def ask(self, others: list[Any]) -> int:
        if not others:
            return 1
        return 1 + zactor.get(others[0].ask.remote(others[1:]))

    def loop(self) -> None:
        while True:
            pass

    def exit(self) -> None:
        zactor.actor.exit_actor()

    def crash(self) -> None:
        os._exit(3)

    def leak(self, megabytes: int) -> int:
        self.kept = bytearray(megabytes << 20)
        return os.getpid()


@zactor.remote(isolation="shared")
class Room:
    def __init__(self) -> None:
        self.inside = 0

    async def stay(self, seconds: float) -> int:
        self.inside += 1
        await asyncio.sleep(seconds)
        return self.inside

    async def caller(self) -> bytes:
        await asyncio.sleep(0)
        runtime = processes.current()
        assert runtime is not None
        return runtime.identity.caller

    async def add(self, cell: Any) -> int:
        return await cell.add.remote()

    async def exit(self) -> None:
        zactor.actor.exit_actor()


def test_they_share_one_process_and_keep_their_own_state() -> None:
    cells = [Cell.remote(index) for index in range(300)]

    assert zactor.get([cell.add.remote(10) for cell in cells]) == [n + 10 for n in range(300)]
    assert len(set(zactor.get([cell.where.remote() for cell in cells]))) == 1
    assert zactor.get(cells[0].where.remote()) != os.getpid()


def test_each_is_a_caller_of_its_own() -> None:
    cells, rooms = [Cell.remote() for _ in range(3)], [Room.remote() for _ in range(3)]
    threaded = [Cell.options(max_concurrency=2).remote() for _ in range(3)]

    callers = zactor.get([actor.caller.remote() for actor in (*cells, *rooms, *threaded)])

    actors = [actor._actor_id.binary() for actor in (*cells, *rooms, *threaded)]
    assert [caller[:12] for caller in callers] == actors


def test_a_method_that_waits_lets_its_neighbours_run() -> None:
    cells = [Cell.remote() for _ in range(20)]

    assert zactor.get(cells[0].ask.remote(cells[1:])) == 20


def test_calls_run_in_order_and_errors_are_the_users() -> None:
    cell = Cell.remote()

    assert zactor.get([cell.add.remote() for _ in range(500)]) == list(range(1, 501))
    with pytest.raises(TypeError):
        zactor.get(cell.add.remote("x"))
    assert zactor.get(cell.add.remote()) == 501


def test_a_constructor_that_raises_ends_only_its_actor() -> None:
    bad, good = Cell.remote(-1), Cell.remote(1)

    with pytest.raises(ActorDiedError, match="no such value"):
        zactor.get(bad.add.remote())
    assert zactor.get(good.add.remote()) == 2


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 2}])
def test_one_is_killed_and_its_neighbours_are_not(options: dict[str, Any]) -> None:
    victim, other = Cell.options(**options).remote(), Cell.remote()
    zactor.get([victim.add.remote(), other.add.remote()])

    zactor.kill(victim)

    def refusal() -> ActorDiedError | None:
        try:
            zactor.get(victim.add.remote())
        except ActorDiedError as error:
            return error
        return None  # it was quicker than the order to end

    assert wait_for(refusal).executed in ("no", "unknown")
    assert zactor.get(other.add.remote()) == 2


def test_one_that_loops_holds_the_others_up_until_it_is_killed() -> None:
    looping, other = Cell.remote(), Cell.remote()
    zactor.get([looping.add.remote(), other.add.remote()])
    endless, waiting = looping.loop.remote(), other.add.remote()
    assert zactor.wait([waiting], timeout=0.3) == ([], [waiting])

    zactor.kill(looping)

    assert zactor.get(waiting) == 2
    with pytest.raises(ActorDiedError):
        zactor.get(endless)


def test_a_running_call_is_cancelled_and_the_next_one_is_not() -> None:
    cell = Cell.remote()
    zactor.get(cell.add.remote())
    endless, queued, kept = cell.loop.remote(), cell.add.remote(), cell.add.remote()
    zactor.wait([endless], timeout=0.1)

    zactor.cancel(queued)
    zactor.cancel(endless)

    for ref in (endless, queued):
        with pytest.raises(TaskCancelledError):
            zactor.get(ref)
    assert zactor.get(kept) == 2


@pytest.mark.parametrize("actor_class", [Cell, Cell.options(max_concurrency=2), Room])
def test_exit_actor_ends_one(actor_class: Any) -> None:
    leaving, other = actor_class.remote(), Cell.remote()

    with pytest.raises(ActorDiedError):
        zactor.get(leaving.exit.remote())
    assert zactor.get(other.add.remote()) == 1


def test_async_ones_interleave_on_one_loop() -> None:
    rooms, cell = [Room.remote() for _ in range(10)], Cell.remote()

    began = time.monotonic()
    zactor.get([room.stay.remote(0.2) for room in rooms for _ in range(5)])
    assert time.monotonic() - began < 1.5
    assert zactor.get([room.add.remote(cell) for room in rooms])[-1] == 10


def test_names_work_and_are_free_when_the_last_handle_is_gone() -> None:
    cell = Cell.options(name="cell").remote(4)
    assert zactor.get(zactor.get_actor("cell").add.remote()) == 5

    del cell

    def is_free() -> bool:
        try:
            zactor.get_actor("cell")
        except ValueError:
            return True
        return False

    wait_for(is_free)


def test_a_crash_takes_all_along_and_each_is_restarted_by_its_own_policy() -> None:
    phoenix = Cell.options(max_restarts=1, max_task_retries=1).remote(10)
    mortal, culprit = Cell.remote(), Cell.remote()
    before = zactor.get([phoenix.where.remote(), mortal.where.remote(), culprit.where.remote()])
    assert len(set(before)) == 1

    with pytest.raises(ActorDiedError) as error:
        zactor.get(culprit.crash.remote())
    assert error.value.executed == "unknown"
    with pytest.raises(ActorDiedError) as error:
        zactor.get(mortal.add.remote())
    assert error.value.executed == "no"
    assert zactor.get(phoenix.add.remote()) == 11
    assert zactor.get(phoenix.where.remote()) not in before


def test_only_the_running_call_of_a_crash_is_unknown() -> None:
    culprit, other = Cell.remote(), Cell.remote()
    zactor.get([culprit.add.remote(), other.add.remote()])
    crash = culprit.crash.remote()
    queued = [culprit.add.remote(), other.add.remote()]

    with pytest.raises(ActorDiedError) as error:
        zactor.get(crash)
    assert error.value.executed == "unknown"
    for ref in queued:
        with pytest.raises(ActorDiedError) as error:
            zactor.get(ref)
        assert error.value.executed == "no"


def test_kill_with_restart_gives_one_a_new_life() -> None:
    cell = Cell.options(max_restarts=1).remote(5)
    zactor.get(cell.add.remote())
    zactor.kill(cell, no_restart=False)

    def value() -> int:
        try:
            return zactor.get(cell.add.remote())
        except ActorError:
            return 0

    wait_for(
        lambda: value() == 6
    )  # the first of the new life; calls may be quicker than the kill


def test_memory_that_one_leaks_is_everybodys() -> None:
    leaking, other = Cell.remote(), Cell.remote()

    assert zactor.get(leaking.leak.remote(10)) == zactor.get(other.where.remote())


def test_thousands_are_created_called_and_released() -> None:
    cells = [Cell.remote(index) for index in range(3000)]
    assert sum(zactor.get([cell.add.remote() for cell in cells])) == sum(range(3001))
    probe = Cell.remote()
    pid = zactor.get(probe.where.remote())

    del cells

    assert zactor.get(probe.where.remote()) == pid


def test_calls_in_turn_over_many_run_in_order_whatever_some_of_them_do() -> None:
    cells = [Cell.remote() for _ in range(60)]
    zactor.get([cell.where.remote() for cell in cells])
    fails = cells[20].add.remote("no number")
    rounds = [[cell.add.remote() for cell in cells] for _ in range(20)]
    large = [cell.__zactor_call__.remote(lambda self: b"x" * 300_000) for cell in cells[:3]]
    for expected, refs in enumerate(rounds, start=1):
        assert zactor.get(refs) == [expected] * 60
    with pytest.raises(TypeError):
        zactor.get(fails)
    assert [len(value) for value in zactor.get(large)] == [300_000] * 3


def test_some_of_many_that_are_called_in_turn_end_and_the_others_go_on() -> None:
    cells = [Cell.remote() for _ in range(40)]
    zactor.get([cell.where.remote() for cell in cells])
    refs = [
        cell.exit.remote() if at % 4 == 0 else cell.add.remote()
        for at, cell in enumerate(cells)
    ]
    for at, ref in enumerate(refs):
        if at % 4 == 0:
            with pytest.raises(ActorDiedError):
                zactor.get(ref)
        else:
            assert zactor.get(ref) == 1
    rest = [cell for at, cell in enumerate(cells) if at % 4]
    assert zactor.get([cell.add.remote() for cell in rest]) == [2] * len(rest)


def test_some_of_many_that_are_called_in_turn_wait_and_are_cancelled() -> None:
    cells = [Cell.remote() for _ in range(30)]
    zactor.get([cell.where.remote() for cell in cells])
    chains = [cell.ask.remote(cells[at + 1 : at + 3]) for at, cell in enumerate(cells[:-2])]
    assert zactor.get(chains) == [3] * 28
    refs = [
        cell.loop.remote() if at == 10 else cell.add.remote() for at, cell in enumerate(cells)
    ]
    assert zactor.get(refs[:10], timeout=20) == [1] * 10
    zactor.cancel(refs[15])
    zactor.cancel(refs[10])
    with pytest.raises(TaskCancelledError):
        zactor.get(refs[10], timeout=20)
    with pytest.raises(TaskCancelledError) as cancelled:
        zactor.get(refs[15], timeout=20)
    assert cancelled.value.executed == "no"
    assert zactor.get(refs[16:], timeout=20) == [1] * 14
    assert zactor.get(cells[15].add.remote()) == 1
