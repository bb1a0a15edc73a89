"""The order calls run in, and how many run at once (2.5)."""

import asyncio
import time

from tests.parity.table import Table, error_of, gate_at

table = Table("2.5 Ordering and concurrency")


@table.row("Sync actor: order of submission per submitter.", gives=True)
def calls_run_in_the_order_submitted(ray):
    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        def add(self, i):
            self.seen.append(i)

        def read(self):
            return self.seen

    log = Log.remote()
    for i in range(200):
        log.add.remote(i)
    return ray.get(log.read.remote()) == list(range(200))


@table.row("Sync actor: one call at a time.", gives=1)
def calls_run_one_at_a_time(ray):
    @ray.remote
    class A:
        running = most = 0

        def work(self):
            self.running += 1
            self.most = max(self.most, self.running)
            time.sleep(0.01)
            self.running -= 1

        def read(self):
            return self.most

    @ray.remote(num_cpus=0)
    def use(a):
        ray.get([a.work.remote() for _ in range(3)])

    a = A.remote()
    ray.get([use.remote(a) for _ in range(3)])
    return ray.get(a.read.remote())


@table.row(
    "A call whose args aren't ready holds later ones of the same submitter.",
    gives=["slow", "fast"],
)
def an_unready_argument_holds_the_queue(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def slow():
        gate()
        return "slow"

    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        def add(self, x):
            self.seen.append(x)
            return self.seen

    log = Log.remote()
    log.add.remote(slow.remote())
    last = log.add.remote("fast")
    (tmp_path / "open").touch()
    return ray.get(last)


@table.row("No order across submitters: another's call passes one that waits.", gives="other")
def submitters_do_not_hold_each_other(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def slow():
        gate()

    @ray.remote
    class A:
        def m(self, x):
            return x

    @ray.remote
    def other(a):
        return ray.get(a.m.remote("other"))

    a = A.remote()
    a.m.remote(slow.remote())
    out = ray.get(other.remote(a), timeout=20)
    (tmp_path / "open").touch()
    return out


@table.row("Out of order: a call whose args are ready passes one that waits.", gives="fast")
def out_of_order_passes_unready_calls(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def slow():
        gate()

    @ray.remote(allow_out_of_order_execution=True)
    class A:
        def m(self, x):
            return x

    a = A.remote()
    a.m.remote(slow.remote())
    out = ray.get(a.m.remote("fast"), timeout=20)
    (tmp_path / "open").touch()
    return out


@table.row("The constructor ends before the first call.", gives="made")
def the_constructor_comes_first(ray):
    @ray.remote
    class A:
        def __init__(self):
            time.sleep(0.2)
            self.state = "made"

        def read(self):
            return self.state

    return ray.get(A.remote().read.remote())


@table.row(".remote() does not wait for the constructor.", gives=True)
def creation_does_not_block(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    class A:
        def __init__(self):
            gate()

        def m(self):
            return 1

    start = time.monotonic()
    a = A.remote()
    ref = a.m.remote()
    took = time.monotonic() - start
    (tmp_path / "open").touch()
    return ray.get(ref) == 1 and took < 5


@table.row("Handles to one actor in one process share the order.", gives=True)
def copies_of_a_handle_share_the_order(ray):
    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        def add(self, i):
            self.seen.append(i)

        def read(self):
            return self.seen

    @ray.remote
    def use(handles):
        for i in range(40):
            handles[i % 2].add.remote(i)
        return ray.get(handles[0].read.remote())

    log = Log.remote()
    return ray.get(use.remote([log, log])) == list(range(40))


@table.row("max_concurrency=n: n at a time in threads.", gives=3)
def a_threaded_actor_runs_n_at_once(ray):
    @ray.remote(max_concurrency=3)
    class A:
        def __init__(self):
            import threading

            self.barrier = threading.Barrier(3)

        def meet(self):
            self.barrier.wait(timeout=20)
            return 1

    a = A.remote()
    return sum(ray.get([a.meet.remote() for _ in range(3)]))


@table.row("max_concurrency=n: not more than n.", gives=2)
def a_threaded_actor_runs_no_more_than_n(ray):
    @ray.remote(max_concurrency=2)
    class A:
        def __init__(self):
            import threading

            self.lock, self.running, self.most = threading.Lock(), 0, 0

        def work(self):
            with self.lock:
                self.running += 1
                self.most = max(self.most, self.running)
            time.sleep(0.05)
            with self.lock:
                self.running -= 1

        def read(self):
            return self.most

    a = A.remote()
    ray.get([a.work.remote() for _ in range(8)])
    return ray.get(a.read.remote())


@table.row("A threaded actor can wait for a call to itself.", gives=5)
def a_threaded_actor_calls_itself(ray):
    @ray.remote(max_concurrency=2)
    class A:
        def outer(self):
            me = ray.get_runtime_context().current_actor
            return ray.get(me.inner.remote())

        def inner(self):
            return 5

    return ray.get(A.remote().outer.remote(), timeout=20)


@table.row("A plain actor calls itself without waiting.", gives=[1, 2])
def a_plain_actor_calls_itself(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.seen = []

        def first(self):
            self.seen.append(1)
            ray.get_runtime_context().current_actor.second.remote()

        def second(self):
            self.seen.append(2)

        def read(self):
            return self.seen

    a = A.remote()
    ray.get(a.first.remote())
    time.sleep(0.2)
    return ray.get(a.read.remote())


@table.row(
    "A get that leads back to the waiting actor: DeadlockError (Ray hangs).",
    raises="DeadlockError",
    only="zactor",
)
def waiting_for_oneself_is_a_deadlock(ray):
    @ray.remote
    class A:
        def outer(self):
            me = ray.get_runtime_context().current_actor
            return ray.get(me.inner.remote())

        def inner(self):
            return 5

    ray.get(A.remote().outer.remote(), timeout=20)


@table.row(
    "Two actors that wait for each other: DeadlockError (Ray hangs).",
    raises="DeadlockError",
    only="zactor",
)
def waiting_in_a_ring_is_a_deadlock(ray):
    @ray.remote
    class A:
        def ask(self, other, me):
            return ray.get(other.answer.remote(me))

        def answer(self, asker):
            return ray.get(asker.value.remote())

        def value(self):
            return 1

    a, b = A.remote(), A.remote()
    ray.get(a.ask.remote(b, a), timeout=20)


@table.row("Concurrency groups run beside each other.", gives=["io", "default"])
def groups_run_beside_each_other(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote(concurrency_groups={"io": 1})
    class A:
        @ray.method(concurrency_group="io")
        def read(self):
            return "io"

        def work(self):
            gate()
            return "default"

    a = A.remote()
    held = a.work.remote()
    first = ray.get(a.read.remote(), timeout=20)
    (tmp_path / "open").touch()
    return [first, ray.get(held)]


@table.row("A group runs as many at once as it declares.", gives=2)
def a_group_runs_what_it_declares(ray):
    @ray.remote(concurrency_groups={"pair": 2})
    class A:
        def __init__(self):
            import threading

            self.barrier = threading.Barrier(2)

        @ray.method(concurrency_group="pair")
        def meet(self):
            self.barrier.wait(timeout=20)
            return 1

    a = A.remote()
    return sum(ray.get([a.meet.remote() for _ in range(2)]))


@table.row("A call chooses its group by options.", gives="beside")
def a_call_chooses_its_group(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote(concurrency_groups={"io": 1})
    class A:
        def work(self, wait):
            if wait:
                gate()
            return "beside"

    a = A.remote()
    a.work.remote(wait=True)
    out = ray.get(a.work.options(concurrency_group="io").remote(wait=False), timeout=20)
    (tmp_path / "open").touch()
    return out


@table.row("Undeclared methods go to the default group (max_concurrency).", gives=2)
def the_default_group_has_max_concurrency(ray):
    @ray.remote(concurrency_groups={"io": 1}, max_concurrency=2)
    class A:
        def __init__(self):
            import threading

            self.barrier = threading.Barrier(2)

        def meet(self):
            self.barrier.wait(timeout=20)
            return 1

    a = A.remote()
    return sum(ray.get([a.meet.remote() for _ in range(2)]))


@table.row("Concurrency groups of an async actor.", gives=[1, 2])
def groups_of_an_async_actor(ray):
    @ray.remote(concurrency_groups={"io": 1, "compute": 2})
    class A:
        def __init__(self):
            self.running = {"io": 0, "compute": 0}
            self.most = dict(self.running)

        async def _work(self, group):
            import asyncio

            self.running[group] += 1
            self.most[group] = max(self.most[group], self.running[group])
            await asyncio.sleep(0.05)
            self.running[group] -= 1

        @ray.method(concurrency_group="io")
        async def io(self):
            await self._work("io")

        @ray.method(concurrency_group="compute")
        async def compute(self):
            await self._work("compute")

        async def read(self):
            return [self.most["io"], self.most["compute"]]

    a = A.remote()
    ray.get([a.io.remote() for _ in range(3)] + [a.compute.remote() for _ in range(6)])
    return ray.get(a.read.remote())


@table.row(
    "A retried call keeps its place (Ray's run out of order).",
    gives=[1, 1, 2, 3],
    only="zactor",
)
def a_retry_keeps_its_place(ray):
    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        def add(self, i):
            self.seen.append(i)
            if self.seen == [1]:
                raise ValueError

        def read(self):
            return self.seen

    log = Log.remote()
    log.add.options(max_task_retries=2, retry_exceptions=True).remote(1)
    log.add.remote(2)
    log.add.remote(3)
    return ray.get(log.read.remote())


@table.row("Calls from many threads of one driver all run.", gives=(80, 80))
def calls_from_many_threads(ray):
    from concurrent.futures import ThreadPoolExecutor

    @ray.remote
    class Counter:
        value = 0

        def more(self):
            self.value += 1
            return self.value

    c = Counter.remote()
    with ThreadPoolExecutor(8) as pool:
        out = list(pool.map(lambda _: ray.get(c.more.remote()), range(80)))
    return len(set(out)), max(out)


@table.row("Each thread's calls keep their order.", gives=True)
def each_threads_calls_keep_their_order(ray):
    from concurrent.futures import ThreadPoolExecutor

    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        def add(self, who, i):
            self.seen.append((who, i))

        def read(self):
            return self.seen

    log = Log.remote()

    def send(who):
        for i in range(30):
            log.add.remote(who, i)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    seen = ray.get(log.read.remote())
    return all([i for w, i in seen if w == who] == list(range(30)) for who in range(4))


@table.row("Tasks run beside each other.", gives=True)
def tasks_run_in_parallel(ray):
    @ray.remote
    def nap():
        time.sleep(0.5)

    ray.get([nap.remote() for _ in range(4)])
    start = time.monotonic()
    ray.get([nap.remote() for _ in range(4)])
    return time.monotonic() - start < 1.7


@table.row("Actors run beside each other.", gives=True)
def actors_run_in_parallel(ray):
    @ray.remote
    class A:
        def nap(self):
            time.sleep(0.5)

    actors = [A.remote() for _ in range(4)]
    ray.get([a.__ray_ready__.remote() for a in actors])
    start = time.monotonic()
    ray.get([a.nap.remote() for a in actors])
    return time.monotonic() - start < 1.7


@table.row(
    "One user exception does not disturb the calls queued behind.", gives=[1, "ValueError", 3]
)
def an_error_does_not_disturb_the_queue(ray):
    @ray.remote
    class A:
        def m(self, x):
            if x == 2:
                raise ValueError
            return x

    a = A.remote()
    refs = [a.m.remote(i) for i in (1, 2, 3)]

    def outcome(ref):
        try:
            return ray.get(ref)
        except ValueError:
            return "ValueError"

    return [outcome(ref) for ref in refs]


@table.row("Threads of an actor may call and get.", gives=3)
def threads_inside_an_actor(ray):
    @ray.remote
    def three():
        return 3

    @ray.remote
    class A:
        def m(self):
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(1) as pool:
                return pool.submit(lambda: ray.get(three.remote())).result()

    return ray.get(A.remote().m.remote())


@table.row("max_concurrency of a call is not an option of the call.", raises="TypeError")
def concurrency_is_not_an_option_of_a_call(ray):
    @ray.remote
    class A:
        def m(self):
            return 1

    A.remote().m.options(max_concurrency=2).remote()


@table.row(
    "A method of an async actor that blocks keeps only its own group waiting.", gives="ok"
)
def a_blocked_group_of_an_async_actor(ray, tmp_path):
    gate = gate_at(tmp_path / "gate")

    @ray.remote(concurrency_groups={"health": 1})
    class A:
        async def work(self):
            gate()  # blocks the loop that it runs in

        @ray.method(concurrency_group="health")
        def check(self):
            return "ok"

    a = A.remote()
    work = a.work.remote()
    answer = ray.get(a.check.remote(), timeout=20)
    (tmp_path / "gate").touch()
    ray.get(work, timeout=20)
    return answer


@table.row("Each group of an async actor has a loop and a thread of its own.", gives=[True] * 4)
def each_group_has_a_loop(ray):
    @ray.remote(concurrency_groups={"io": 2, "compute": 2})
    class A:
        def __init__(self):
            self.loop = asyncio.get_event_loop()

        def place(self):
            import threading

            return threading.get_ident(), id(asyncio.get_event_loop()) == id(self.loop)

        @ray.method(concurrency_group="io")
        async def io(self):
            return self.place()

        @ray.method(concurrency_group="io")
        def also_io(self):
            return self.place()

        @ray.method(concurrency_group="compute")
        async def compute(self):
            return self.place()

        async def default(self):
            return self.place()

    a = A.remote()
    io, also_io, compute, default = ray.get(
        [a.io.remote(), a.also_io.remote(), a.compute.remote(), a.default.remote()]
    )
    chosen = ray.get(a.io.options(concurrency_group="compute").remote())
    return [io == also_io, io[0] != compute[0] != default[0], chosen == compute, default[1]]


@table.row("A method in a group of an async actor awaits references.", gives=[4, [0, 1, 2]])
def a_group_awaits(ray):
    @ray.remote(concurrency_groups={"io": 4})
    class A:
        async def default(self, x):
            return x + 1

        @ray.method(concurrency_group="io")
        async def ask(self, other, x):
            return await other.default.remote(x)

        @ray.method(concurrency_group="io")
        async def count(self, n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i

    a, b = A.remote(), A.remote()
    items = [ray.get(ref) for ref in a.count.options(num_returns="streaming").remote(3)]
    return [sum(ray.get([a.ask.remote(b, 0) for _ in range(4)], timeout=20)), items]


@table.row("A group of no size is refused.", gives=True, only="zactor")
def a_group_of_no_size(ray):
    @ray.remote
    class A:
        def m(self):
            return 1

    class B:
        pass

    return (
        error_of(lambda: ray.remote(concurrency_groups={"io": 0})(B).remote()) == "ValueError"
    )


test_ordering_concurrency = table.test()
