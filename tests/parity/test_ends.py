"""How actors end: `kill`, `exit_actor`, the last handle, the creator (2.6, 2.7)."""

import os
import time

from tests.parity.table import Table, count_at, error_of, gate_at, is_gone, tally_at, wait_until

table = Table("2.6 Ends of actors")


@table.row("ray.kill: at once; pending calls: ActorDiedError.", gives=["ActorDiedError"] * 3)
def kill_fails_pending_calls(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    class A:
        def wait(self):
            gate()

    a = A.remote()
    ray.get(a.__ray_ready__.remote())
    refs = [a.wait.remote() for _ in range(2)]
    time.sleep(0.2)
    ray.kill(a)
    refs.append(a.wait.remote())
    return [error_of(lambda ref=ref: ray.get(ref, timeout=20)) for ref in refs]


@table.row("ray.kill ends the process.", gives=True)
def kill_ends_the_process(ray):
    @ray.remote
    class A:
        def pid(self):
            return os.getpid()

    a = A.remote()
    pid = ray.get(a.pid.remote())
    ray.kill(a)
    return wait_until(lambda: is_gone(pid))


@table.row("ray.kill: no atexit.", gives=0)
def kill_runs_no_exit_handlers(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        def __init__(self):
            import atexit

            atexit.register(tally)

        def pid(self):
            return os.getpid()

    a = A.remote()
    pid = ray.get(a.pid.remote())
    ray.kill(a)
    assert wait_until(lambda: is_gone(pid))
    return count_at(tmp_path / "n")


@table.row("ray.kill(no_restart=True) by default: no restart.", raises="ActorDiedError")
def kill_forbids_restarts(ray):
    @ray.remote(max_restarts=5)
    class A:
        def m(self):
            return 1

    a = A.remote()
    ray.get(a.m.remote())
    ray.kill(a)
    ray.get(a.m.remote(), timeout=20)


@table.row("ray.kill(no_restart=False): restarted.", gives=True)
def kill_with_restart(ray):
    @ray.remote(max_restarts=1, max_task_retries=-1)
    class A:
        def pid(self):
            return os.getpid()

    a = A.remote()
    pid = ray.get(a.pid.remote())
    ray.kill(a, no_restart=False)
    assert wait_until(lambda: is_gone(pid))
    return ray.get(a.pid.remote(), timeout=20) != pid


@table.row("ray.kill frees the name.", gives="second")
def kill_frees_the_name(ray):
    @ray.remote
    class A:
        def __init__(self, which):
            self.which = which

        def read(self):
            return self.which

    a = A.options(name="failure-freed").remote("first")
    ray.get(a.read.remote())
    ray.kill(a)
    made = []

    def is_free():
        kind = error_of(lambda: made.append(A.options(name="failure-freed").remote("second")))
        return kind == "none"

    assert wait_until(is_free)
    return ray.get(made[0].read.remote())


@table.row("ray.kill twice is no error.", gives=None)
def kill_twice(ray):
    @ray.remote
    class A:
        pass

    a = A.remote()
    ray.kill(a)
    return ray.kill(a)


@table.row("ray.kill of what is no handle: ValueError.", gives=["ValueError"] * 2)
def kill_takes_a_handle(ray):
    return [error_of(lambda: ray.kill("name")), error_of(lambda: ray.kill(ray.put(1)))]


@table.row("exit_actor ends the actor; later calls fail.", gives="ActorDiedError")
def exit_actor_ends_the_actor(ray):
    @ray.remote
    class A:
        def leave(self):
            ray.actor.exit_actor()

        def m(self):
            return 1

    a = A.remote()
    a.leave.remote()
    return error_of(lambda: ray.get(a.m.remote(), timeout=20))


@table.row("The call that exits fails with a RayActorError.", raises="RayActorError")
def the_call_that_exits_fails(ray):
    @ray.remote
    class A:
        def leave(self):
            ray.actor.exit_actor()

    ray.get(A.remote().leave.remote(), timeout=20)


@table.row("exit_actor: atexit runs.", gives=True)
def exit_actor_runs_exit_handlers(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        def __init__(self):
            import atexit

            atexit.register(tally)

        def leave(self):
            ray.actor.exit_actor()

    a = A.remote()
    a.leave.remote()
    return wait_until(lambda: count_at(tmp_path / "n") == 1)


@table.row("exit_actor: not restarted.", gives=1)
def exit_actor_is_final(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_restarts=3)
    class A:
        def __init__(self):
            tally()

        def leave(self):
            ray.actor.exit_actor()

        def m(self):
            return 1

    a = A.remote()
    error_of(lambda: ray.get(a.leave.remote(), timeout=20))
    error_of(lambda: ray.get(a.m.remote(), timeout=20))
    return count_at(tmp_path / "n")


@table.row("exit_actor from a task that an async method has started.", gives="ActorDiedError")
def exit_actor_in_a_task_of_ones_own(ray):
    @ray.remote
    class A:
        async def leave(self):
            import asyncio

            self.task = asyncio.create_task(self.end())

        async def end(self):
            ray.actor.exit_actor()

        async def m(self):
            return 1

    a = A.remote()
    # Where the task is fast, its actor is gone before it has replied.
    error_of(lambda: ray.get(a.leave.remote(), timeout=20))
    wait_until(lambda: error_of(lambda: ray.get(a.m.remote(), timeout=20)) != "none")
    return error_of(lambda: ray.get(a.m.remote(), timeout=20))


@table.row("exit_actor from a group of an async actor.", gives=["ActorDiedError"] * 2)
def exit_actor_in_a_group(ray):
    @ray.remote(concurrency_groups={"io": 1})
    class A:
        @ray.method(concurrency_group="io")
        async def leave(self):
            ray.actor.exit_actor()

        async def m(self):
            return 1

    a = A.remote()
    return [
        error_of(lambda: ray.get(a.leave.remote(), timeout=20)),
        error_of(lambda: ray.get(a.m.remote(), timeout=20)),
    ]


@table.row("The last handle: calls in the groups of an async actor still run.", gives=[1, 2])
def the_last_handle_waits_for_groups(ray):
    @ray.remote(concurrency_groups={"io": 1})
    class A:
        @ray.method(concurrency_group="io")
        async def slow(self, x):
            import asyncio

            await asyncio.sleep(0.2)
            return x

    a = A.remote()
    refs = [a.slow.remote(1), a.slow.remote(2)]
    del a
    return ray.get(refs, timeout=20)


@table.row("exit_actor from an async method.", gives=True)
def exit_actor_in_a_coroutine(ray):
    @ray.remote
    class A:
        async def leave(self):
            ray.actor.exit_actor()

        async def m(self):
            return 1

    a = A.remote()
    a.leave.remote()

    def is_dead():
        return error_of(lambda: ray.get(a.m.remote(), timeout=20)) == "ActorDiedError"

    return wait_until(is_dead)


@table.row("exit_actor outside an actor: TypeError.", raises="TypeError")
def exit_actor_in_the_driver(ray):
    ray.actor.exit_actor()


@table.row("exit_actor in a task: TypeError.", raises="TypeError")
def exit_actor_in_a_task(ray):
    @ray.remote(max_retries=0)
    def f():
        ray.actor.exit_actor()

    ray.get(f.remote())


@table.row("sys.exit in a task is a failed worker.", raises="WorkerCrashedError")
def sys_exit_in_a_task(ray):
    @ray.remote(max_retries=0)
    def f():
        import sys

        sys.exit(1)

    ray.get(f.remote())


@table.row("sys.exit in a method ends the actor.", raises="ActorDiedError")
def sys_exit_in_a_method(ray):
    @ray.remote
    class A:
        def leave(self):
            import sys

            sys.exit(0)

    ray.get(A.remote().leave.remote())


@table.row("The actor dies when its last handle goes.", gives=True)
def an_actor_dies_with_its_last_handle(ray):
    import gc

    @ray.remote
    class A:
        def pid(self):
            return os.getpid()

    a = A.remote()
    pid = ray.get(a.pid.remote())
    del a
    gc.collect()
    return wait_until(lambda: is_gone(pid))


@table.row("... also in a program that does nothing else for a while.", gives=True)
def an_idle_program_drops_its_last_handle(ray):
    @ray.remote
    class A:
        def pid(self):
            return os.getpid()

    a = A.remote()
    pid = ray.get(a.pid.remote())
    time.sleep(0.5)  # all is quiet: nobody receives because of a call
    del a
    return wait_until(lambda: is_gone(pid))


@table.row("... and when an idle async actor forgets it.", gives=True)
def an_idle_async_actor_drops_its_last_handle(ray):
    import asyncio

    @ray.remote
    class A:
        def pid(self):
            return os.getpid()

    @ray.remote
    class Keeper:
        async def keep(self, handles):
            self.kept = handles

        async def forget_later(self):
            self.later = asyncio.get_running_loop().call_later(0.3, self.kept.clear)

    a = A.remote()
    pid = ray.get(a.pid.remote())
    keeper = Keeper.remote()
    ray.get(keeper.keep.remote([a]))
    del a
    ray.get(keeper.forget_later.remote())
    return wait_until(lambda: is_gone(pid))


@table.row("... after running queued calls.", gives=[0, 1, 2])
def queued_calls_run_before_the_actor_dies(ray):
    @ray.remote
    class A:
        def m(self, i):
            time.sleep(0.05)
            return i

    a = A.remote()
    refs = [a.m.remote(i) for i in range(3)]
    del a
    return ray.get(refs)


@table.row("A().method.remote() on a fresh handle works.", gives=1)
def a_call_on_a_handle_nobody_keeps(ray):
    @ray.remote
    class A:
        def m(self):
            return 1

    return ray.get(A.remote().m.remote())


@table.row("Non-detached actors die with their creator.", gives=True)
def actors_die_with_their_creator(ray):
    @ray.remote
    class Child:
        def pid(self):
            return os.getpid()

    @ray.remote
    class Parent:
        def __init__(self):
            self.child = Child.remote()

        def pid(self):
            return ray.get(self.child.pid.remote())

    parent = Parent.remote()
    pid = ray.get(parent.pid.remote())
    ray.kill(parent)
    return wait_until(lambda: is_gone(pid))


@table.row("An actor made by a task that kept no handle goes.", gives=True)
def an_actor_of_a_finished_task(ray):
    @ray.remote
    class Child:
        def pid(self):
            return os.getpid()

    @ray.remote
    def make():
        return ray.get(Child.remote().pid.remote())

    pid = ray.get(make.remote())
    return wait_until(lambda: is_gone(pid))


test_ends = table.test()
