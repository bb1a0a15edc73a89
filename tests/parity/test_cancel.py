"""Cancelling tasks and calls (2.6)."""

import asyncio
import os
import time

from tests.parity.table import Table, count_at, error_of, gate_at, tally_at, wait_until

table = Table("2.6 cancel")


def outcome(ray, ref, timeout=20):
    """The class name of the error that `get` raises."""
    return error_of(lambda: ray.get(ref, timeout=timeout))


@table.row("Pending: TaskCancelledError.", raises="TaskCancelledError")
def a_task_that_cannot_be_placed(ray):
    @ray.remote(resources={"unobtainable": 1})
    def f():
        return 1

    ref = f.remote()
    ray.cancel(ref)
    ray.get(ref, timeout=20)


@table.row("Pending: it never runs.", gives=("TaskCancelledError", 0))
def a_queued_task_never_runs(ray, tmp_path):
    gate, tally = gate_at(tmp_path / "open"), tally_at(tmp_path / "n")

    @ray.remote(num_cpus=0, resources={"widget": 2})
    def hold():
        gate()

    @ray.remote(num_cpus=0, resources={"widget": 2})
    def f():
        tally()

    held = hold.remote()
    time.sleep(0.2)
    ref = f.remote()
    ray.cancel(ref)
    kind = outcome(ray, ref)
    (tmp_path / "open").touch()
    ray.get(held)
    return kind, count_at(tmp_path / "n")


@table.row("Pending: those queued behind it run all the same.", gives=list(range(1, 20, 2)))
def cancelled_tasks_hold_up_no_others(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote(num_cpus=0, resources={"widget": 2})
    def f(i):
        gate()
        return i

    refs = [f.remote(i) for i in range(20)]
    time.sleep(0.2)
    for ref in refs[2::2]:
        ray.cancel(ref)
    (tmp_path / "open").touch()
    return ray.get(refs[1::2], timeout=20)


@table.row("Waiting for its arguments: TaskCancelledError.", raises="TaskCancelledError")
def a_task_that_waits_for_its_arguments(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def slow():
        gate()

    @ray.remote
    def f(x):
        return x

    ref = f.remote(slow.remote())
    ray.cancel(ref)
    try:
        ray.get(ref, timeout=20)
    finally:
        (tmp_path / "open").touch()


@table.row("A running task: interrupted.", raises="TaskCancelledError")
def a_running_task_is_interrupted(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    def f():
        tally()
        for _ in range(3000):
            time.sleep(0.01)

    ref = f.remote()
    assert wait_until(lambda: count_at(tmp_path / "n"))
    ray.cancel(ref)
    ray.get(ref, timeout=20)


@table.row("... which is a RayTaskError too, with the place where it was.", gives=[True] * 3)
def a_running_task_is_cancelled_somewhere(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    def f():
        tally()
        while True:
            time.sleep(0.05)

    ref = f.remote()
    wait_until(lambda: count_at(tmp_path / "n"))
    ray.cancel(ref)
    try:
        ray.get(ref, timeout=20)
    except ray.exceptions.TaskCancelledError as error:
        text = str(error)
        return [
            isinstance(error, ray.exceptions.RayTaskError),
            "was cancelled" in text,
            "time.sleep(0.05)" in text,
        ]


@table.row("... and so is what an async method or a generator raises.", gives=[True] * 3)
def running_methods_are_cancelled_somewhere(ray):
    @ray.remote
    class A:
        async def wait(self):
            await asyncio.sleep(60)

        async def stream(self):
            yield 1
            await asyncio.sleep(60)

    @ray.remote
    def stream():
        yield 1
        time.sleep(60)

    def is_both(take):
        try:
            take()
        except ray.exceptions.TaskCancelledError as error:
            return isinstance(error, ray.exceptions.RayTaskError)

    a = A.remote()
    ray.get(a.__ray_ready__.remote())
    ref = a.wait.remote()
    time.sleep(0.5)  # it runs
    ray.cancel(ref)
    found = [is_both(lambda: ray.get(ref, timeout=20))]
    for generator in (a.stream.remote(), stream.remote()):
        ray.get(next(generator))
        ray.cancel(generator)
        found.append(is_both(lambda generator=generator: ray.get(next(generator), timeout=20)))
    return found


@table.row("A running task sees KeyboardInterrupt and can clean up.", gives=True)
def a_running_task_can_clean_up(ray, tmp_path):
    tally, cleaned = tally_at(tmp_path / "n"), tally_at(tmp_path / "cleaned")

    @ray.remote
    def f():
        tally()
        try:
            for _ in range(3000):
                time.sleep(0.01)
        except KeyboardInterrupt:
            cleaned()
            raise

    ref = f.remote()
    assert wait_until(lambda: count_at(tmp_path / "n"))
    ray.cancel(ref)
    outcome(ray, ref)
    return wait_until(lambda: count_at(tmp_path / "cleaned") == 1)


@table.row(
    "A running task in one long sleep is interrupted too (Ray waits for the sleep's end).",
    raises="TaskCancelledError",
    only="zactor",
)
def a_sleeping_task_is_interrupted(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    def f():
        tally()
        time.sleep(50)

    ref = f.remote()
    assert wait_until(lambda: count_at(tmp_path / "n"))
    time.sleep(0.1)
    ray.cancel(ref)
    ray.get(ref, timeout=20)


@table.row("force: the worker is killed.", gives=True)
def force_kills_the_worker(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    def f():
        tally()
        while True:
            try:
                time.sleep(0.1)
            except KeyboardInterrupt:
                pass

    ref = f.remote()
    assert wait_until(lambda: count_at(tmp_path / "n"))
    ray.cancel(ref, force=True)
    return outcome(ray, ref) in {"WorkerCrashedError", "TaskCancelledError"}


@table.row("A cancelled task isn't retried.", gives=1)
def a_cancelled_task_is_not_retried(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=3, retry_exceptions=True)
    def f():
        tally()
        time.sleep(50)

    ref = f.remote()
    assert wait_until(lambda: count_at(tmp_path / "n"))
    time.sleep(0.1)
    ray.cancel(ref, force=True)
    outcome(ray, ref)
    time.sleep(0.3)
    return count_at(tmp_path / "n")


@table.row("Finished: no-op.", gives=5)
def a_finished_task_keeps_its_value(ray):
    @ray.remote
    def f():
        return 5

    ref = f.remote()
    ray.wait([ref])
    ray.cancel(ref)
    return ray.get(ref)


@table.row("Cancelling twice is no error.", gives="TaskCancelledError")
def cancel_twice(ray):
    @ray.remote(resources={"unobtainable": 1})
    def f():
        return 1

    ref = f.remote()
    ray.cancel(ref)
    ray.cancel(ref)
    return outcome(ray, ref)


@table.row("Dependents of a cancelled task fail.", gives=True)
def dependents_of_a_cancelled_task(ray):
    @ray.remote(resources={"unobtainable": 1})
    def f():
        return 1

    @ray.remote
    def g(x):
        return x

    ref = f.remote()
    dependent = g.remote(ref)
    ray.cancel(ref)
    return outcome(ray, dependent) in {"TaskCancelledError", "RayTaskError"}


@table.row("cancel of what is no reference: TypeError.", raises="TypeError")
def cancel_takes_a_reference(ray):
    ray.cancel(1)


@table.row("recursive=True: the children of a task are cancelled.", gives=True)
def children_are_cancelled(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(num_cpus=0, max_retries=0)
    def child():
        tally()
        for _ in range(3000):
            time.sleep(0.01)

    @ray.remote(num_cpus=0, max_retries=0)
    def parent(box):
        ref = child.remote()
        ray.get(box.put.remote([ref]))
        ray.get(ref)

    @ray.remote(num_cpus=0)
    class Box:
        def put(self, refs):
            self.refs = refs

        def has_refs(self):
            return hasattr(self, "refs")

        def is_cancelled(self):
            try:
                ray.get(self.refs[0], timeout=20)
            except ray.exceptions.TaskCancelledError:
                return True

    box = Box.remote()
    ref = parent.remote(box)
    assert wait_until(lambda: count_at(tmp_path / "n"))
    assert wait_until(lambda: ray.get(box.has_refs.remote()))
    ray.cancel(ref)
    return ray.get(box.is_cancelled.remote())


@table.row("recursive=False: the children go on.", gives=1)
def children_go_on_without_recursion(ray, tmp_path):
    gate, tally, done = (
        gate_at(tmp_path / "open"),
        tally_at(tmp_path / "n"),
        tally_at(tmp_path / "done"),
    )

    @ray.remote(num_cpus=0)
    def child():
        tally()
        gate()
        done()

    @ray.remote(num_cpus=0)
    def parent():
        ray.get(child.remote())

    ref = parent.remote()
    assert wait_until(lambda: count_at(tmp_path / "n"))
    ray.cancel(ref, recursive=False)
    outcome(ray, ref)
    (tmp_path / "open").touch()
    wait_until(lambda: count_at(tmp_path / "done"))
    return count_at(tmp_path / "done")


@table.row("An actor call with force: ValueError.", raises="ValueError")
def force_is_not_for_actor_calls(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    class A:
        def wait(self):
            gate()

    a = A.remote()
    ref = a.wait.remote()
    try:
        ray.cancel(ref, force=True)
    finally:
        (tmp_path / "open").touch()


@table.row(
    "A queued actor call: TaskCancelledError, and it never runs (Ray's may).",
    gives=("TaskCancelledError", 0, "next"),
    only="zactor",
)
def a_queued_actor_call(ray, tmp_path):
    gate, tally = gate_at(tmp_path / "open"), tally_at(tmp_path / "n")

    @ray.remote
    class A:
        def wait(self):
            gate()

        def m(self):
            tally()

        def following(self):
            return "next"

    a = A.remote()
    ray.get(a.__ray_ready__.remote())
    a.wait.remote()
    ref, following = a.m.remote(), a.following.remote()
    time.sleep(0.2)
    ray.cancel(ref)
    time.sleep(0.2)
    (tmp_path / "open").touch()
    return outcome(ray, ref), count_at(tmp_path / "n"), ray.get(following)


@table.row("A running sync method: only a flag, is_canceled().", gives=True)
def a_running_method_sees_a_flag(ray, tmp_path):
    tally, seen = tally_at(tmp_path / "n"), tally_at(tmp_path / "seen")

    @ray.remote
    class A:
        def work(self):
            ray.get_runtime_context().is_canceled()  # from now on it is asked for
            tally()
            for _ in range(2000):
                if ray.get_runtime_context().is_canceled():
                    seen()
                    return "stopped"
                time.sleep(0.01)

    a = A.remote()
    ref = a.work.remote()
    assert wait_until(lambda: count_at(tmp_path / "n"))
    ray.cancel(ref)
    return wait_until(lambda: count_at(tmp_path / "seen") == 1)


@table.row("... and its result is TaskCancelledError, whatever it returns.", gives=[True] * 3)
def what_a_cancelled_method_returns_is_dropped(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        def work(self, size):
            tally()
            while not ray.get_runtime_context().is_canceled():
                time.sleep(0.01)
            return b"stopped" * size

    a = A.remote()
    found = []
    for round, size in enumerate((1, 50_000), 1):
        before, ref, after = (
            a.__ray_ready__.remote(),
            a.work.remote(size),
            a.__ray_ready__.remote(),
        )
        assert wait_until(lambda round=round: count_at(tmp_path / "n") == round)
        ray.cancel(ref)
        ray.get([before, after], timeout=20)
        found.append(outcome(ray, ref) == "TaskCancelledError")

    @ray.remote
    class B:
        async def work(self):
            tally()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "stopped"

    ref = B.remote().work.remote()
    assert wait_until(lambda: count_at(tmp_path / "n") == 3)
    ray.cancel(ref)
    return [*found, outcome(ray, ref) == "TaskCancelledError"]


@table.row("is_canceled() is False by default.", gives=[False, False])
def is_canceled_is_false(ray):
    @ray.remote
    def f():
        return ray.get_runtime_context().is_canceled()

    @ray.remote
    class A:
        def m(self):
            return ray.get_runtime_context().is_canceled()

    return ray.get([f.remote(), A.remote().m.remote()])


@table.row("is_canceled() in an async actor: RuntimeError.", raises="RuntimeError")
def is_canceled_in_an_async_actor(ray):
    @ray.remote
    class A:
        async def m(self):
            return ray.get_runtime_context().is_canceled()

    ray.get(A.remote().m.remote())


@table.row("An async method: asyncio cancel.", gives=("TaskCancelledError", 1))
def a_coroutine_is_cancelled(ray, tmp_path):
    tally, cleaned = tally_at(tmp_path / "n"), tally_at(tmp_path / "cleaned")

    @ray.remote
    class A:
        async def work(self):
            tally()
            try:
                await asyncio.sleep(50)
            except asyncio.CancelledError:
                cleaned()
                raise

    a = A.remote()
    ref = a.work.remote()
    assert wait_until(lambda: count_at(tmp_path / "n"))
    ray.cancel(ref)
    kind = outcome(ray, ref)
    wait_until(lambda: count_at(tmp_path / "cleaned"))
    return kind, count_at(tmp_path / "cleaned")


@table.row(
    "A cancelled coroutine leaves the others of its actor alone.",
    gives=("TaskCancelledError", 2),
)
def other_coroutines_go_on(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        def __init__(self):
            self.event = asyncio.Event()

        async def wait(self):
            tally()
            await self.event.wait()
            return 1

        async def open(self):
            self.event.set()
            return 1

    a = A.remote()
    first, second = a.wait.remote(), a.wait.remote()
    assert wait_until(lambda: count_at(tmp_path / "n") == 2)
    ray.cancel(first)
    kind = outcome(ray, first)
    return kind, sum(ray.get([a.open.remote(), second]))


@table.row("A cancelled coroutine cancels the calls it awaits.", gives=True)
def awaited_calls_are_cancelled(ray, tmp_path):
    tally, cleaned = tally_at(tmp_path / "n"), tally_at(tmp_path / "cleaned")

    @ray.remote
    class Inner:
        async def work(self):
            tally()
            try:
                await asyncio.sleep(50)
            except asyncio.CancelledError:
                cleaned()
                raise

    @ray.remote
    class Outer:
        async def work(self, inner):
            await inner.work.remote()

    inner, outer = Inner.remote(), Outer.remote()
    ref = outer.work.remote(inner)
    assert wait_until(lambda: count_at(tmp_path / "n"))
    ray.cancel(ref)
    outcome(ray, ref)
    return wait_until(lambda: count_at(tmp_path / "cleaned") == 1)


@table.row("An actor goes on after a cancelled call.", gives=3)
def an_actor_survives_a_cancelled_call(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        async def work(self):
            tally()
            await asyncio.sleep(50)

        async def three(self):
            return 3

    a = A.remote()
    ref = a.work.remote()
    assert wait_until(lambda: count_at(tmp_path / "n"))
    ray.cancel(ref)
    outcome(ray, ref)
    return ray.get(a.three.remote())


@table.row("A worker goes on with other tasks after a cancelled one.", gives=list(range(20)))
def tasks_after_a_cancelled_one(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    def f():
        tally()
        time.sleep(50)

    @ray.remote
    def g(i):
        return i

    ref = f.remote()
    assert wait_until(lambda: count_at(tmp_path / "n"))
    time.sleep(0.1)
    ray.cancel(ref)
    outcome(ray, ref)
    return ray.get([g.remote(i) for i in range(20)])


@table.row("TaskCancelledError is a RayError.", gives=True)
def the_error_of_a_cancelled_task(ray):
    return issubclass(ray.exceptions.TaskCancelledError, ray.exceptions.RayError)


@table.row("Cancelling a put value is refused or without effect.", gives=1)
def cancelling_a_put_value(ray):
    ref = ray.put(1)
    error_of(lambda: ray.cancel(ref))
    return ray.get(ref)


@table.row("Cancel from another process that holds the ref.", gives=True)
def cancel_by_a_borrower(ray):
    @ray.remote(resources={"unobtainable": 1})
    def f():
        return 1

    @ray.remote
    def cancel(refs):
        ray.cancel(refs[0])

    ref = f.remote()
    ray.get(cancel.remote([ref]))
    return outcome(ray, ref) == "TaskCancelledError"


@table.row("Cancel reaches a call in a group of an async actor.", raises="TaskCancelledError")
def cancel_in_a_group(ray, tmp_path):
    mark = str(tmp_path / "running")

    @ray.remote(concurrency_groups={"io": 1})
    class A:
        @ray.method(concurrency_group="io")
        async def linger(self):
            open(mark, "w").close()
            await asyncio.sleep(60)

    a = A.remote()
    ref = a.linger.remote()
    wait_until(lambda: os.path.exists(mark))
    ray.cancel(ref)
    ray.get(ref, timeout=20)


test_cancel = table.test()
