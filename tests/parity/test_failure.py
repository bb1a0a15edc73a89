"""What fails, how it shows, what is tried again, and what a restart brings (2.6)."""

import os
import time

from tests.parity.table import Table, count_at, error_of, tally_at, wait_until

table = Table("2.6 Failure")


@table.row("A user's exception is a RayTaskError.", raises="RayTaskError")
def an_exception_is_a_task_error(ray):
    @ray.remote
    def f():
        raise ValueError("bad")

    ray.get(f.remote())


@table.row("A user's exception is of the user's class too.", raises="ValueError", match="bad")
def an_exception_is_of_the_users_class(ray):
    @ray.remote
    def f():
        raise ValueError("bad")

    ray.get(f.remote())


@table.row("A worker that dies: WorkerCrashedError.", raises="WorkerCrashedError")
def a_task_whose_worker_dies(ray):
    @ray.remote(max_retries=0)
    def f():
        os._exit(1)

    ray.get(f.remote())


@table.row("A worker killed by a signal: WorkerCrashedError.", raises="WorkerCrashedError")
def a_task_whose_worker_is_killed(ray):
    @ray.remote(max_retries=0)
    def f():
        os.kill(os.getpid(), 9)

    ray.get(f.remote())


@table.row("max_retries: run again after a crash.", gives=(3, 3))
def a_crashed_task_is_run_again(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=2)
    def f():
        run = tally()
        if run < 3:
            os._exit(1)
        return run

    return ray.get(f.remote()), count_at(tmp_path / "n")


@table.row("max_retries=0: run once.", gives=("WorkerCrashedError", 1))
def a_task_without_retries_runs_once(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=0)
    def f():
        tally()
        os._exit(1)

    ref = f.remote()
    return error_of(lambda: ray.get(ref)), count_at(tmp_path / "n")


@table.row("max_retries: 3 by default, so four runs.", gives=("WorkerCrashedError", 4))
def a_task_is_retried_three_times(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    def f():
        tally()
        os._exit(1)

    ref = f.remote()
    return error_of(lambda: ray.get(ref)), count_at(tmp_path / "n")


@table.row("max_retries=-1: for ever.", gives=6)
def a_task_is_retried_for_ever(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=-1)
    def f():
        run = tally()
        if run < 6:
            os._exit(1)
        return run

    return ray.get(f.remote())


@table.row("Retries are for system failures only: an exception is not retried.", gives=1)
def an_exception_is_not_retried(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=3)
    def f():
        tally()
        raise ValueError

    error_of(lambda: ray.get(f.remote()))
    return count_at(tmp_path / "n")


@table.row("retry_exceptions=True: exceptions are retried.", gives=3)
def an_exception_is_retried_when_asked(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=5, retry_exceptions=True)
    def f():
        run = tally()
        if run < 3:
            raise ValueError
        return run

    return ray.get(f.remote())


@table.row("retry_exceptions: retries end; the last error is raised.", gives=("ValueError", 3))
def retries_of_exceptions_end(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=2, retry_exceptions=True)
    def f():
        tally()
        raise ValueError

    try:
        ray.get(f.remote())
    except ValueError:
        return "ValueError", count_at(tmp_path / "n")


@table.row("retry_exceptions=[...]: those classes are retried.", gives=2)
def listed_exceptions_are_retried(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=5, retry_exceptions=[KeyError, ValueError])
    def f():
        run = tally()
        if run < 2:
            raise ValueError
        return run

    return ray.get(f.remote())


@table.row("retry_exceptions=[...]: others are not.", gives=1)
def unlisted_exceptions_are_not_retried(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_retries=5, retry_exceptions=[KeyError])
    def f():
        tally()
        raise ValueError

    error_of(lambda: ray.get(f.remote()))
    return count_at(tmp_path / "n")


@table.row("retry_exceptions=[...]: subclasses of those are retried.", gives=2)
def subclasses_of_listed_exceptions_are_retried(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    class Own(ValueError):
        pass

    @ray.remote(max_retries=5, retry_exceptions=[ValueError])
    def f():
        run = tally()
        if run < 2:
            raise Own
        return run

    return ray.get(f.remote())


@table.row("retry_exceptions by options.", gives=2)
def retrying_by_options(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    def f():
        run = tally()
        if run < 2:
            raise ValueError
        return run

    return ray.get(f.options(max_retries=1, retry_exceptions=True).remote())


@table.row("Actor calls: at most once.", gives=("ActorDiedError", 1))
def an_actor_call_runs_at_most_once(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        def m(self):
            tally()
            os._exit(1)

    a = A.remote()
    return error_of(lambda: ray.get(a.m.remote())), count_at(tmp_path / "n")


@table.row("ActorDiedError is a RayActorError.", raises="RayActorError")
def a_dead_actors_call_is_an_actor_error(ray):
    @ray.remote
    class A:
        def m(self):
            os._exit(1)

    ray.get(A.remote().m.remote())


@table.row("Every later call fails too.", gives=["ActorDiedError"] * 3)
def calls_after_death_fail(ray):
    @ray.remote
    class A:
        def die(self):
            os._exit(1)

        def m(self):
            return 1

    a = A.remote()
    refs = [a.die.remote(), a.m.remote()]
    out = [error_of(lambda ref=ref: ray.get(ref)) for ref in refs]
    return [*out, error_of(lambda: ray.get(a.m.remote()))]


@table.row(
    "max_restarts: constructed again with the original args; state is lost.", gives=(5, True, 5)
)
def a_restart_constructs_again(ray):
    @ray.remote(max_restarts=1, max_task_retries=1)
    class A:
        def __init__(self, start):
            self.value = start

        def more(self):
            self.value += 1

        def read(self):
            return self.value

        def pid(self):
            return os.getpid()

        def die_once(self, pid):
            if os.getpid() == pid:
                os._exit(1)

    a = A.remote(5)
    before = ray.get(a.read.remote())
    ray.get([a.more.remote(), a.more.remote()])
    pid = ray.get(a.pid.remote())
    ray.get(a.die_once.remote(pid))
    return before, ray.get(a.pid.remote()) != pid, ray.get(a.read.remote())


@table.row("max_restarts=0 by default.", raises="ActorDiedError")
def no_restart_by_default(ray):
    @ray.remote
    class A:
        def die(self):
            os._exit(1)

        def m(self):
            return 1

    a = A.remote()
    a.die.remote()
    ray.get(a.m.remote())


@table.row("Restarts are counted; then the actor is dead.", gives=[2, "ActorDiedError"])
def restarts_are_counted(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_restarts=1)
    class A:
        def __init__(self):
            tally()

        def die(self):
            os._exit(1)

    a = A.remote()

    def is_dead():
        return error_of(lambda: ray.get(a.die.remote())) == "ActorDiedError"

    assert wait_until(is_dead)
    return [count_at(tmp_path / "n"), error_of(lambda: ray.get(a.die.remote()))]


@table.row("max_restarts=-1: for ever.", gives=5)
def restarts_for_ever(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_restarts=-1, max_task_retries=-1)
    class A:
        def m(self):
            run = tally()
            if run < 5:
                os._exit(1)
            return run

    return ray.get(A.remote().m.remote(), timeout=50)


@table.row("max_task_retries: sent again after a crash.", gives=2)
def a_call_is_sent_again_after_a_crash(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_restarts=1, max_task_retries=1)
    class A:
        def m(self):
            run = tally()
            if run == 1:
                os._exit(1)
            return run

    return ray.get(A.remote().m.remote())


@table.row(
    "Without retries the call that met the crash fails: unavailable or died.",
    gives=(True, "back"),
)
def a_call_that_met_a_crash_fails(ray):
    @ray.remote(max_restarts=1)
    class A:
        def die(self):
            os._exit(1)

        def m(self):
            return "back"

    a = A.remote()
    kind = error_of(lambda: ray.get(a.die.remote()))

    def is_back():
        return error_of(lambda: ray.get(a.m.remote())) == "none"

    assert wait_until(is_back)
    return kind in {"ActorUnavailableError", "ActorDiedError"}, ray.get(a.m.remote())


@table.row("ActorUnavailableError is a RayActorError.", gives=True)
def unavailable_is_an_actor_error(ray):
    e = ray.exceptions
    return issubclass(e.ActorUnavailableError, e.RayActorError)


@table.row("max_task_retries with retry_exceptions on a method.", gives=3)
def exceptions_of_a_method_are_retried(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        @ray.method(max_task_retries=5, retry_exceptions=[ValueError])
        def m(self):
            run = tally()
            if run < 3:
                raise ValueError
            return run

    return ray.get(A.remote().m.remote())


@table.row(
    "Retries after exceptions and after crashes are counted together.",
    gives=[("KeyError", 3)] * 3 + [("ActorUnavailableError", 3)] * 3,
    only="zactor",  # in Ray, each attempt while the actor restarts counts too
)
def retries_of_both_kinds_are_of_one_number(ray, tmp_path):
    import asyncio
    import os

    def run(path, actions):
        action = actions[tally_at(path)() - 1]
        if action == "exit":
            os._exit(1)
        raise KeyError(action)

    class Plain:
        def m(self, path, actions):
            run(path, actions)

    class Async:
        async def m(self, path, actions):
            await asyncio.sleep(0)
            run(path, actions)

    found = []
    for at, actions in enumerate([("raise", "exit", "raise"), ("raise", "raise", "exit")]):
        for kind, options in ("plain", {}), ("threaded", {"max_concurrency": 2}), ("async", {}):
            path = tmp_path / f"{kind}{at}"
            cls = ray.remote(Async if kind == "async" else Plain)
            actor = cls.options(max_restarts=1, **options).remote()
            method = actor.m.options(max_task_retries=2, retry_exceptions=True)
            error = error_of(lambda: ray.get(method.remote(path, actions), timeout=30))  # noqa: B023
            found.append((error.removeprefix("RayTaskError(").strip(")"), count_at(path)))
    return found


@table.row(
    "So are those of a task.", gives=[("RETRIED", 3), ("LAST", 3)],
)  # fmt: skip
def retries_of_a_task_of_both_kinds(ray, tmp_path):
    import os

    @ray.remote(max_retries=2, retry_exceptions=True)
    def f(path, actions):
        action = actions[tally_at(path)() - 1]
        if action == "exit":
            os._exit(1)
        raise KeyError(action)

    found = []
    for at, actions in enumerate([("raise", "exit", "raise"), ("raise", "raise", "exit")]):
        path = tmp_path / str(at)
        try:
            ray.get(f.remote(path, actions), timeout=30)
        except KeyError:
            found.append(("RETRIED", count_at(path)))
        except ray.exceptions.WorkerCrashedError:
            found.append(("LAST", count_at(path)))
    return found


@table.row("max_task_retries without retry_exceptions: exceptions are not retried.", gives=1)
def exceptions_of_a_method_are_not_retried_by_default(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_task_retries=5)
    class A:
        def m(self):
            tally()
            raise ValueError

    a = A.remote()
    error_of(lambda: ray.get(a.m.remote()))
    return count_at(tmp_path / "n")


@table.row(
    "Exception in __init__: ActorDiedError at the first call.",
    raises="ActorDiedError",
    match="no luck",
)
def a_failed_constructor(ray):
    @ray.remote
    class A:
        def __init__(self):
            raise ValueError("no luck")

        def m(self):
            return 1

    ray.get(A.remote().m.remote())


@table.row("Exception in __init__: never restarted.", gives=1)
def a_failed_constructor_is_not_tried_again(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_restarts=3)
    class A:
        def __init__(self):
            tally()
            raise ValueError("no luck")

        def m(self):
            return 1

    a = A.remote()
    error_of(lambda: ray.get(a.m.remote()))
    time.sleep(0.3)
    return count_at(tmp_path / "n")


@table.row("Exception in __init__: actor_init_failed is set.", gives=True)
def a_failed_constructor_is_marked(ray):
    @ray.remote
    class A:
        def __init__(self):
            raise ValueError("no luck")

        def m(self):
            return 1

    try:
        ray.get(A.remote().m.remote())
    except ray.exceptions.ActorDiedError as error:
        return bool(error.actor_init_failed)


@table.row("ActorDiedError names the actor by id.", gives=True)
def a_dead_actor_is_named(ray):
    @ray.remote
    class A:
        def m(self):
            os._exit(1)

    a = A.remote()
    try:
        ray.get(a.m.remote())
    except ray.exceptions.ActorDiedError as error:
        return error.actor_id == a._actor_id.hex()


@table.row("A constructor that dies is restarted within max_restarts.", gives=2)
def a_constructor_that_dies_is_restarted(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_restarts=2)
    class A:
        def __init__(self):
            self.run = tally()
            if self.run == 1:
                os._exit(1)

        def m(self):
            return self.run

    return ray.get(A.options(max_task_retries=-1).remote().m.remote(), timeout=30)


@table.row("A crash in one actor never touches another.", gives=7)
def a_crash_touches_no_other_actor(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.value = 7

        def die(self):
            os._exit(1)

        def read(self):
            return self.value

    a, b = A.remote(), A.remote()
    error_of(lambda: ray.get(a.die.remote()))
    return ray.get(b.read.remote())


@table.row("Many tasks with a worker dying among them all end.", gives=30)
def tasks_survive_dying_workers(ray, tmp_path):
    tallies = [tally_at(tmp_path / str(i)) for i in range(30)]

    @ray.remote(max_retries=3)
    def f(i):
        if i % 10 == 5 and tallies[i]() == 1:
            os._exit(1)
        return 1

    return sum(ray.get([f.remote(i) for i in range(30)], timeout=50))


@table.row("A user's SystemError-like BaseException does not hang the caller.", gives=True)
def a_base_exception_in_a_task(ray):
    class Own(BaseException):
        pass

    @ray.remote(max_retries=0)
    def f():
        raise Own

    return error_of(lambda: ray.get(f.remote(), timeout=20)) not in {"none", "GetTimeoutError"}


@table.row("A constructor that crashes is tried again; calls wait meanwhile.", gives=(3, 3))
def a_call_waits_for_a_constructor_that_crashes(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_restarts=3)
    class A:
        def __init__(self):
            self.run = tally()
            if self.run < 3:
                os._exit(1)

        def m(self):
            return self.run

    return ray.get(A.remote().m.remote(), timeout=30), count_at(tmp_path / "n")


@table.row(
    "Retries after a crash and for exceptions are of one number.", gives=["ValueError", 3]
)
def retries_of_both_kinds(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote(max_restarts=1)
    class A:
        @ray.method(max_task_retries=2, retry_exceptions=True)
        def m(self):
            if tally() == 1:
                os._exit(1)
            raise ValueError

    return [
        error_of(lambda: ray.get(A.remote().m.remote(), timeout=30)),
        count_at(tmp_path / "n"),
    ]


@table.row(
    "retry_exceptions of an async stream: as often as it may be.", gives=["ValueError", 3]
)
def retries_of_an_async_stream(ray, tmp_path):
    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        @ray.method(num_returns="streaming", max_task_retries=2, retry_exceptions=True)
        async def m(self):
            tally()
            yield 1
            raise ValueError

    a = A.remote()
    refs = list(a.m.remote())
    return [error_of(lambda: ray.get(refs[-1], timeout=30)), count_at(tmp_path / "n")]


@table.row(
    "The text says what the actor died of.",
    gives="The actor is dead because its worker process has died",
)
def the_text_names_the_kind_of_death(ray):
    @ray.remote
    class A:
        def die(self):
            os._exit(1)

        def m(self):
            return 1

    a = A.remote()
    error_of(lambda: ray.get(a.die.remote()))
    text = "The actor is dead because its worker process has died"
    try:
        ray.get(a.m.remote())
    except ray.exceptions.RayActorError as error:
        return text if text in str(error) else str(error)


@table.row(
    "executed says whether the call ran: queued behind a crash, no.", gives="no", only="zactor"
)
def a_call_behind_a_crash_did_not_run(ray):
    @ray.remote
    class A:
        def die(self):
            time.sleep(0.3)
            os._exit(1)

        def m(self):
            return 1

    a = A.remote()
    ray.get(a.__ray_ready__.remote())
    a.die.remote()
    ref = a.m.remote()
    try:
        ray.get(ref)
    except ray.exceptions.RayActorError as error:
        return error.executed


test_failure = table.test()
