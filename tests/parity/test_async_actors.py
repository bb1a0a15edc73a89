"""Actors with `async def` methods (2.2, 2.5)."""

# ruff: noqa: ASYNC110, ASYNC251 - the programs under test wait and sleep as users' programs do.

import asyncio
import time

from tests.parity.table import Table, error_of

table = Table("2.5 Async actors")


def make_signal(ray):
    """An actor on which others wait until it is sent."""

    @ray.remote(num_cpus=0)
    class Signal:
        def __init__(self):
            self.event = asyncio.Event()

        async def send(self):
            self.event.set()

        async def wait(self):
            await self.event.wait()

    return Signal.remote()


@table.row("A coroutine method's result is its value.", gives=3)
def a_coroutine_method(ray):
    @ray.remote
    class A:
        async def add(self, a, b):
            return a + b

    return ray.get(A.remote().add.remote(1, 2))


@table.row("Calls interleave at await.", gives=["both"] * 2)
def coroutines_interleave(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.here = 0
            self.full = asyncio.Event()

        async def meet(self):
            self.here += 1
            if self.here == 2:
                self.full.set()
            await self.full.wait()
            return "both"

    a = A.remote()
    return ray.get([a.meet.remote() for _ in range(2)], timeout=20)


@table.row("Between awaits nothing else runs.", gives=100)
def coroutines_do_not_preempt(ray):
    @ray.remote
    class A:
        value = 0

        async def more(self):
            before = self.value
            time.sleep(0)
            self.value = before + 1

        async def read(self):
            return self.value

    a = A.remote()
    ray.get([a.more.remote() for _ in range(100)])
    return ray.get(a.read.remote())


@table.row("All run on one loop in one thread.", gives=(1, 1))
def one_loop_and_one_thread(ray):
    @ray.remote
    class A:
        async def where(self):
            import threading

            return threading.get_ident(), id(asyncio.get_running_loop())

    a = A.remote()
    seen = ray.get([a.where.remote() for _ in range(5)])
    return len({t for t, _ in seen}), len({loop for _, loop in seen})


@table.row("max_concurrency: 1000 by default.", gives=100)
def a_hundred_calls_wait_at_once(ray):
    @ray.remote
    class A:
        here = 0

        async def meet(self):
            self.here += 1
            while self.here < 100:
                await asyncio.sleep(0.01)
            return 1

    a = A.remote()
    return sum(ray.get([a.meet.remote() for _ in range(100)], timeout=40))


@table.row("max_concurrency bounds how many interleave.", gives=2)
def concurrency_of_coroutines_is_bounded(ray):
    @ray.remote(max_concurrency=2)
    class A:
        running = most = 0

        async def work(self):
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.02)
            self.running -= 1

        async def read(self):
            return self.most

    a = A.remote()
    ray.get([a.work.remote() for _ in range(8)])
    return ray.get(a.read.remote())


@table.row("max_concurrency=1: one after the other.", gives=1)
def coroutines_one_at_a_time(ray):
    @ray.remote(max_concurrency=1)
    class A:
        running = most = 0

        async def work(self):
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.02)
            self.running -= 1
            return self.most

    a = A.remote()
    return max(ray.get([a.work.remote() for _ in range(4)]))


@table.row("Start in the order submitted (Ray gives none).", gives=True, only="zactor")
def coroutines_start_in_order(ray):
    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        async def add(self, i):
            self.seen.append(i)

        async def read(self):
            return self.seen

    log = Log.remote()
    ray.get([log.add.remote(i) for i in range(50)])
    return ray.get(log.read.remote()) == list(range(50))


@table.row("Plain methods of an async actor run on its loop.", gives=[True, 2])
def plain_methods_of_an_async_actor(ray):
    @ray.remote
    class A:
        async def loop(self):
            import threading

            self.thread = threading.get_ident()

        def same(self):
            import threading

            return self.thread == threading.get_ident()

        def two(self):
            return 2

    a = A.remote()
    ray.get(a.loop.remote())
    return ray.get([a.same.remote(), a.two.remote()])


@table.row("await ref inside a method.", gives=6)
def awaiting_a_reference_inside(ray):
    @ray.remote
    def five():
        return 5

    @ray.remote
    class A:
        async def m(self):
            return 1 + await five.remote()

    return ray.get(A.remote().m.remote())


@table.row("asyncio.gather of refs inside a method.", gives=[0, 1, 2])
def gathering_references_inside(ray):
    @ray.remote
    def f(i):
        return i

    @ray.remote
    class A:
        async def m(self):
            return await asyncio.gather(*[f.remote(i) for i in range(3)])

    return ray.get(A.remote().m.remote())


@table.row("An async actor awaits a call to itself.", gives=4)
def an_async_actor_awaits_itself(ray):
    @ray.remote
    class A:
        async def outer(self):
            me = ray.get_runtime_context().current_actor
            return await me.inner.remote()

        async def inner(self):
            return 4

    return ray.get(A.remote().outer.remote(), timeout=20)


@table.row("A blocking get in an async actor only warns.", gives=5)
def a_blocking_get_in_an_async_actor(ray):
    @ray.remote
    def five():
        return 5

    @ray.remote
    class A:
        async def m(self):
            return ray.get(five.remote())

    return ray.get(A.remote().m.remote(), timeout=30)


@table.row("asyncio.wait_for inside a method.", gives="timed out")
def wait_for_inside(ray):
    @ray.remote
    class A:
        async def m(self):
            try:
                await asyncio.wait_for(asyncio.sleep(10), timeout=0.05)
            except TimeoutError:
                return "timed out"

    return ray.get(A.remote().m.remote())


@table.row("asyncio.timeout around a ref inside a method.", gives="timed out")
def timeout_around_a_reference(ray):
    signal = make_signal(ray)

    @ray.remote
    class A:
        async def m(self, signal):
            try:
                async with asyncio.timeout(0.1):
                    await signal.wait.remote()
            except TimeoutError:
                return "timed out"

    return ray.get(A.remote().m.remote(signal), timeout=20)


@table.row("Background tasks go on between calls.", gives=True)
def background_tasks(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.ticks = 0

        async def start(self):
            self.task = asyncio.ensure_future(self.run())

        async def run(self):
            while True:
                self.ticks += 1
                await asyncio.sleep(0.005)

        async def read(self):
            return self.ticks

    a = A.remote()
    ray.get(a.start.remote())
    first = ray.get(a.read.remote())
    time.sleep(0.2)
    return ray.get(a.read.remote()) > first


@table.row("asyncio.Lock, Queue and Event made in the constructor work.", gives=[1, 2, 3])
def primitives_made_in_the_constructor(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.lock, self.queue = asyncio.Lock(), asyncio.Queue()

        async def put(self, x):
            async with self.lock:
                await self.queue.put(x)

        async def get(self):
            return await self.queue.get()

    a = A.remote()
    waiting = [a.get.remote() for _ in range(3)]
    for i in (1, 2, 3):
        a.put.remote(i)
    return sorted(ray.get(waiting, timeout=20))


@table.row(
    "The constructor has a running loop's thread: get_event_loop works in it.", gives=True
)
def the_constructor_may_ask_for_the_loop(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.loop = asyncio.get_event_loop()

        async def same(self):
            return self.loop is asyncio.get_running_loop()

    return ray.get(A.remote().same.remote())


@table.row("A signal actor holds tasks until it is sent.", gives=([], 3))
def tasks_wait_for_a_signal(ray):
    signal = make_signal(ray)

    @ray.remote(num_cpus=0)
    def wait(signal):
        ray.get(signal.wait.remote())
        return 1

    refs = [wait.remote(signal) for _ in range(3)]
    early, _ = ray.wait(refs, timeout=0.3)
    ray.get(signal.send.remote())
    return early, sum(ray.get(refs))


@table.row("An exception of a coroutine is the call's error.", raises="KeyError")
def an_exception_of_a_coroutine(ray):
    @ray.remote
    class A:
        async def bad(self):
            await asyncio.sleep(0)
            raise KeyError("k")

    ray.get(A.remote().bad.remote())


@table.row("An exception leaves the async actor alive.", gives=[True, 1])
def an_async_actor_survives_an_exception(ray):
    @ray.remote
    class A:
        async def bad(self):
            raise KeyError("k")

        async def one(self):
            return 1

    a = A.remote()
    return [error_of(lambda: ray.get(a.bad.remote())) != "none", ray.get(a.one.remote())]


@table.row("A class with one async method is an async actor.", gives=[1, 2])
def one_async_method_is_enough(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.event = asyncio.Event()

        async def wait(self):
            await self.event.wait()
            return 1

        def open(self):
            self.event.set()
            return 2

    a = A.remote()
    waiting = a.wait.remote()
    second = ray.get(a.open.remote(), timeout=20)
    return [ray.get(waiting, timeout=20), second]


@table.row("An inherited async method makes an async actor.", gives=[1, 1])
def an_inherited_async_method(ray):
    class Base:
        here = 0

        async def meet(self):
            self.here += 1
            while self.here < 2:
                await asyncio.sleep(0.01)
            return 1

    @ray.remote
    class A(Base):
        pass

    a = A.remote()
    return ray.get([a.meet.remote(), a.meet.remote()], timeout=20)


@table.row("An async actor restarts.", gives=True)
def an_async_actor_restarts(ray):
    import os

    from tests.parity.table import wait_until

    @ray.remote(max_restarts=1, max_task_retries=-1)
    class A:
        async def pid(self):
            return os.getpid()

    @ray.remote
    def end(pid):
        os.kill(pid, 9)

    a = A.remote()
    first = ray.get(a.pid.remote())
    ray.get(end.remote(first))
    return wait_until(lambda: ray.get(a.pid.remote()) != first)


@table.row("A call made by the driver inside asyncio.", gives=[1, 2, 3])
def an_async_driver(ray):
    @ray.remote
    class Counter:
        value = 0

        async def more(self):
            self.value += 1
            return self.value

    async def main():
        c = Counter.remote()
        return [await c.more.remote() for _ in range(3)]

    return asyncio.run(main())


@table.row("run_in_executor inside a method.", gives=7)
def an_executor_inside(ray):
    @ray.remote
    class A:
        async def m(self):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, lambda: 7)

    return ray.get(A.remote().m.remote())


@table.row("uvloop or not, asyncio.sleep keeps time.", gives=True)
def sleeping_in_a_coroutine(ray):
    @ray.remote
    class A:
        async def nap(self):
            start = time.monotonic()
            await asyncio.sleep(0.1)
            return time.monotonic() - start

    return 0.08 < ray.get(A.remote().nap.remote()) < 2


@table.row("contextvars are a call's own.", gives=[1, 2])
def context_variables(ray):
    import contextvars

    @ray.remote
    class A:
        def __init__(self):
            self.var = contextvars.ContextVar("var", default=0)

        async def m(self, x):
            self.var.set(x)
            await asyncio.sleep(0.05)
            return self.var.get()

    a = A.remote()
    return ray.get([a.m.remote(1), a.m.remote(2)])


@table.row("async def __init__ runs to its end before the first method.", gives=7)
def an_async_constructor(ray):
    import asyncio

    @ray.remote
    class A:
        async def __init__(self, value):
            self.value = None
            await asyncio.sleep(0.05)
            self.value = value

        async def get(self):
            return self.value

    return ray.get(A.remote(7).get.remote(), timeout=20)


test_async_actors = table.test()
