"""Calls, arguments and results: what travels, and in what shape (2.2, 2.3)."""

import gc
import os
import time

from tests.parity.table import Table, error_of, is_gone, wait_until

table = Table("2.3 Arguments and results")

ECHOED = {
    "none": None,
    "true": True,
    "a_large_int": 2**200,
    "a_float": 1.5,
    "a_complex": 1 + 2j,
    "text": "zażółć \U0001f600",
    "bytes": b"\x00\xff",
    "a_bytearray": bytearray(b"abc"),
    "a_tuple": (1, (2, [3])),
    "a_list": [1, [2, {"three": 3}]],
    "a_dict": {"a": 1, 2: "b", (3, 4): None},
    "a_set": {1, 2, 3},
    "a_frozenset": frozenset({1, 2}),
    "a_range": range(3),
    "a_slice": slice(1, 2),
    "an_ellipsis": ...,
    "a_type": int,
    "a_large_bytes": b"x" * 1_000_000,
    "a_large_list": list(range(20_000)),
}


def enter_echoes():
    for name, value in ECHOED.items():

        def make(value=value):
            def program(ray):
                return echo(ray, value)

            return program

        program = make()
        program.__name__ = f"{name}_is_echoed"
        table.row("Arguments and results are equal copies.", gives=value)(program)


def echo(ray, value):
    @ray.remote
    def f(x):
        return x

    return ray.get(f.remote(value))


enter_echoes()


@table.row("Dates, decimals, fractions, paths and UUIDs travel.", gives=True)
def standard_library_values(ray):
    import datetime as dt
    import decimal
    import fractions
    import pathlib
    import uuid

    values = [
        dt.datetime(2020, 1, 2, tzinfo=dt.UTC),
        dt.timedelta(seconds=3),
        decimal.Decimal("1.10"),
        fractions.Fraction(1, 3),
        pathlib.PurePosixPath("/a/b"),
        uuid.UUID(int=5),
    ]
    return echo(ray, values) == values


@table.row("An argument is copied: the caller's is not changed.", gives=([1], [1, 2]))
def arguments_are_copied(ray):
    @ray.remote
    def grow(x):
        x.append(2)
        return x

    mine = [1]
    theirs = ray.get(grow.remote(mine))
    return mine, theirs


@table.row("An argument is as it was when .remote() returned.", gives=[1])
def arguments_are_snapshots(ray, tmp_path):
    from tests.parity.table import gate_at

    gate = gate_at(tmp_path / "open")

    @ray.remote
    class A:
        def wait(self):
            gate()

        def read(self, x):
            return x

    a = A.remote()
    a.wait.remote()
    mine = [1]
    ref = a.read.remote(mine)
    mine.append(2)
    (tmp_path / "open").touch()
    return ray.get(ref)


@table.row("A result is as it was when the method returned.", gives=[[1], [1, 2]])
def results_are_snapshots(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.items = [1]

        def read(self):
            return self.items

        def grow(self):
            self.items.append(2)

    a = A.remote()
    first = a.read.remote()
    a.grow.remote()
    return ray.get([first, a.read.remote()])


@table.row("Each get of a large list gives a copy of its own.", gives=[1, 2])
def two_gets_do_not_share_a_list(ray):
    ref = ray.put([1, 2])
    first = ray.get(ref)
    first.append(3)
    return ray.get(ref)


@table.row("A large numpy array comes back equal.", gives=True, needs="numpy")
def a_large_array(ray):
    import numpy as np

    @ray.remote
    def double(x):
        return 2 * x

    return bool((ray.get(double.remote(np.arange(300_000))) == 2 * np.arange(300_000)).all())


@table.row(
    "numpy arrays come back zero-copy read-only.", gives=(False, "ValueError"), needs="numpy"
)
def arrays_are_read_only(ray):
    import numpy as np

    x = ray.get(ray.put(np.zeros(500_000)))

    def write():
        x[0] = 1

    return bool(x.flags.writeable), error_of(write)


@table.row("numpy arguments are read-only in the call.", gives=(False, 0.0), needs="numpy")
def array_arguments_are_read_only(ray):
    import numpy as np

    @ray.remote
    def f(x):
        return bool(x.flags.writeable), float(x.sum())

    return ray.get(f.remote(ray.put(np.zeros(500_000))))


@table.row("A copy of a numpy result may be written.", gives=1.0, needs="numpy")
def a_copy_of_an_array_is_writable(ray):
    import numpy as np

    x = ray.get(ray.put(np.zeros(500_000))).copy()
    x[0] = 1
    return float(x.sum())


@table.row("Two gets of one array share its memory.", gives=True, needs="numpy")
def two_gets_share_the_memory_of_an_array(ray):
    import numpy as np

    ref = ray.put(np.zeros(500_000))
    return bool(np.shares_memory(ray.get(ref), ray.get(ref)))


@table.row("An array stays valid after its reference is gone.", gives=True, needs="numpy")
def an_array_outlives_its_reference(ray):
    import numpy as np

    ref = ray.put(np.ones(500_000))
    x = ray.get(ref)
    del ref
    more = [ray.put(np.zeros(500_000)) for _ in range(5)]
    return bool((x == 1).all()) and len(more) == 5


@table.row("Structures of arrays, strided and of all kinds, travel.", gives=True, needs="numpy")
def arrays_of_all_kinds(ray):
    import numpy as np

    values = {
        "strided": np.arange(100)[::3],
        "fortran": np.asfortranarray(np.arange(12).reshape(3, 4)),
        "bool": np.array([True, False]),
        "text": np.array(["a", "bc"]),
        "empty": np.zeros((0, 3)),
        "scalar": np.float32(1.5),
        "nothing": np.array(5),
    }

    @ray.remote
    def f(x):
        return x

    out = ray.get(f.remote(values))
    return all(
        np.array_equal(out[k], v) and np.asarray(out[k]).dtype == np.asarray(v).dtype
        for k, v in values.items()
    )


@table.row(
    "An argument that cannot be pickled is a TypeError at the client.", raises="TypeError"
)
def an_unpicklable_argument(ray):
    import threading

    @ray.remote
    def f(x):
        return 1

    f.remote(threading.Lock())


@table.row("A put value that cannot be pickled is a TypeError.", raises="TypeError")
def an_unpicklable_value(ray):
    import threading

    ray.put(threading.Lock())


@table.row("A closure that cannot be pickled is a TypeError.", raises="TypeError")
def an_unpicklable_closure(ray):
    import threading

    lock = threading.Lock()

    @ray.remote
    def f():
        return lock

    f.remote()


@table.row(
    "A result that cannot be pickled is the call's error.", raises=("TypeError", "RayTaskError")
)
def an_unpicklable_result(ray):
    @ray.remote
    def f():
        import threading

        return threading.Lock()

    ray.get(f.remote())


@table.row("An actor goes on after a result that cannot be pickled.", gives=2)
def an_actor_survives_an_unpicklable_result(ray):
    @ray.remote
    class A:
        def lock(self):
            import threading

            return threading.Lock()

        def two(self):
            return 2

    a = A.remote()
    error_of(lambda: ray.get(a.lock.remote()))
    return ray.get(a.two.remote())


@table.row("__reduce__ of the user's class is honoured.", gives=("rebuilt", 5))
def reduce_is_honoured(ray):
    def rebuild(value):
        made = Custom(value)
        made.how = "rebuilt"
        return made

    class Custom:
        how = "made"

        def __init__(self, value):
            self.value = value

        def __reduce__(self):
            return rebuild, (self.value,)

    out = echo(ray, Custom(5))
    return out.how, out.value


@table.row("__getstate__ and __setstate__ are honoured.", gives=(1, "set"))
def getstate_and_setstate_are_honoured(ray):
    class Custom:
        def __init__(self):
            self.keep, self.drop = 1, lambda: 2

        def __getstate__(self):
            return {"keep": self.keep}

        def __setstate__(self, state):
            self.keep = state["keep"]
            self.how = "set"

    out = echo(ray, Custom())
    return out.keep, out.how


@table.row("One object twice in an argument is one object in the call.", gives=True)
def identity_within_an_argument(ray):
    @ray.remote
    def same(pair):
        return pair[0] is pair[1]

    x = [1]
    return ray.get(same.remote((x, x)))


@table.row("A structure that contains itself travels.", gives=True)
def a_cyclic_argument(ray):
    x = []
    x.append(x)
    out = echo(ray, x)
    return out[0] is out


@table.row("Functions and classes are values.", gives=[6, "C"])
def functions_and_classes_as_values(ray):
    class C:
        pass

    @ray.remote
    def f(fn, cls):
        return [fn(5), cls.__name__]

    return ray.get(f.remote(lambda x: x + 1, C))


@table.row("Many arguments at once.", gives=4950)
def a_hundred_arguments(ray):
    @ray.remote
    def total(*args):
        return sum(args)

    return ray.get(total.remote(*range(100)))


@table.row("Many references as arguments.", gives=1225)
def fifty_references_as_arguments(ray):
    @ray.remote
    def total(*args):
        return sum(args)

    return ray.get(total.remote(*[ray.put(i) for i in range(50)]))


@table.row("1,000 calls of one actor in a row.", gives=list(range(1, 1001)))
def a_thousand_calls(ray):
    @ray.remote
    class Counter:
        value = 0

        def more(self):
            self.value += 1
            return self.value

    c = Counter.remote()
    return ray.get([c.more.remote() for _ in range(1000)])


@table.row("500 tasks in a row.", gives=[i * i for i in range(500)])
def five_hundred_tasks(ray):
    @ray.remote
    def square(x):
        return x * x

    return ray.get([square.remote(i) for i in range(500)])


@table.row("Calls run elsewhere: not in the caller's process.", gives=True)
def calls_run_in_other_processes(ray):
    import os

    @ray.remote
    def pid():
        return os.getpid()

    @ray.remote
    class A:
        def pid(self):
            return os.getpid()

    return os.getpid() not in ray.get([pid.remote(), A.remote().pid.remote()])


@table.row("Each actor has a process of its own.", gives=3)
def each_actor_has_a_process(ray):
    @ray.remote
    class A:
        def pid(self):
            import os

            return os.getpid()

    actors = [A.remote() for _ in range(3)]
    return len(set(ray.get([a.pid.remote() for a in actors])))


@table.row("Output printed by a call does not disturb it.", gives="done")
def printing_in_a_call(ray):
    @ray.remote
    def f():
        import sys

        print("to standard output")
        print("to standard error", file=sys.stderr)
        return "done"

    return ray.get(f.remote())


@table.row("The working directory of a worker is the driver's.", gives=True)
def the_working_directory(ray):
    import os

    @ray.remote
    def f():
        return os.getcwd()

    return ray.get(f.remote()) == os.getcwd()


@table.row("A worker imports what the driver can import.", gives="tests.parity.table")
def a_worker_has_the_drivers_path(ray):
    @ray.remote
    def f():
        import tests.parity.table

        return tests.parity.table.__name__

    return ray.get(f.remote())


# What tutorials and typical programs do.


@table.row("Map-reduce: words counted by tasks.", gives={"a": 3, "b": 2, "c": 1})
def map_reduce(ray):
    from collections import Counter

    @ray.remote
    def count(text):
        return Counter(text.split())

    @ray.remote
    def merge(*counts):
        total = Counter()
        for c in counts:
            total.update(c)
        return dict(total)

    return ray.get(merge.remote(*[count.remote(t) for t in ("a b", "a c", "b a")]))


@table.row("Tree-reduce: references feed the next level.", gives=136)
def tree_reduce(ray):
    @ray.remote
    def add(a, b):
        return a + b

    level = [ray.put(i) for i in range(1, 17)]
    while len(level) > 1:
        level = [add.remote(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return ray.get(level[0])


@table.row("Pi by Monte Carlo, with an actor that follows progress.", gives=(True, 4))
def monte_carlo_with_progress(ray):
    @ray.remote
    class Progress:
        def __init__(self):
            self.done = {}

        def report(self, task, n):
            self.done[task] = n

        def finished(self):
            return len(self.done)

    @ray.remote
    def sample(n, seed, progress):
        import random

        rng = random.Random(seed)
        inside = sum(rng.random() ** 2 + rng.random() ** 2 <= 1 for _ in range(n))
        ray.get(progress.report.remote(seed, n))
        return inside

    progress = Progress.remote()
    total = sum(ray.get([sample.remote(5000, seed, progress) for seed in range(4)]))
    return abs(4 * total / 20000 - 3.14159) < 0.1, ray.get(progress.finished.remote())


@table.row("A parameter server and its workers.", gives=[6.0, 6.0], needs="numpy")
def a_parameter_server(ray):
    import numpy as np

    @ray.remote
    class Server:
        def __init__(self, size):
            self.weights = np.zeros(size)

        def push(self, gradient):
            self.weights = self.weights + gradient

        def pull(self):
            return self.weights

    @ray.remote
    def work(server, steps):
        for _ in range(steps):
            weights = ray.get(server.pull.remote())
            ray.get(server.push.remote(np.ones_like(weights)))

    server = Server.remote(2)
    ray.get([work.remote(server, 2) for _ in range(3)])
    return ray.get(server.pull.remote()).tolist()


@table.row("Synchronous parameter updates by references.", gives=[4.0], needs="numpy")
def a_synchronous_parameter_server(ray):
    import numpy as np

    @ray.remote
    class Server:
        weights = np.zeros(1)

        def apply(self, *gradients):
            self.weights = self.weights + np.sum(gradients, axis=0)
            return self.weights

    @ray.remote
    class Worker:
        def gradient(self, weights):
            return np.ones(1) + 0 * weights

    server, workers = Server.remote(), [Worker.remote() for _ in range(2)]
    weights = server.apply.remote(np.zeros(1))
    for _ in range(2):
        weights = server.apply.remote(*[w.gradient.remote(weights) for w in workers])
    return ray.get(weights).tolist()


@table.row("A pipeline: references handed from actor to actor.", gives=[3, 5, 7])
def a_pipeline_of_actors(ray):
    @ray.remote
    class Stage:
        def __init__(self, fn):
            self.fn = fn

        def run(self, x):
            return self.fn(x)

    double, add = Stage.remote(lambda x: 2 * x), Stage.remote(lambda x: x + 1)
    return ray.get([add.run.remote(double.run.remote(i)) for i in (1, 2, 3)])


@table.row("A chain of tasks.", gives=20)
def a_chain_of_tasks(ray):
    @ray.remote
    def more(x):
        return x + 1

    ref = ray.put(0)
    for _ in range(20):
        ref = more.remote(ref)
    return ray.get(ref)


@table.row("A pool by hand: wait, and give the free one more work.", gives=[0, 1, 4, 9, 16, 25])
def a_pool_by_hand(ray):
    @ray.remote
    class Worker:
        def square(self, x):
            return x * x

    free = [Worker.remote() for _ in range(2)]
    todo, running, results = list(range(6)), {}, []
    while todo or running:
        while free and todo:
            worker = free.pop()
            running[worker.square.remote(todo.pop())] = worker
        [ready], _ = ray.wait(list(running))
        free.append(running.pop(ready))
        results.append(ray.get(ready))
    return sorted(results)


@table.row("A supervisor makes its workers inside itself.", gives=[0, 10, 20])
def a_supervisor_of_actors(ray):
    @ray.remote
    class Worker:
        def __init__(self, i):
            self.i = i

        def work(self):
            return self.i * 10

    @ray.remote
    class Supervisor:
        def __init__(self, n):
            self.workers = [Worker.remote(i) for i in range(n)]

        def run(self):
            return ray.get([w.work.remote() for w in self.workers])

    return ray.get(Supervisor.remote(3).run.remote())


@table.row("Nested tasks: more waiting parents than processors.", gives=36)
def nested_tasks_do_not_starve(ray):
    @ray.remote
    def child(x):
        return x

    @ray.remote
    def parent(i):
        return sum(ray.get([child.remote(i) for _ in range(1)]))

    return sum(ray.get([parent.remote(i) for i in range(9)]))


@table.row("Nested tasks, three deep, each holding all it can.", gives=27)
def three_levels_of_tasks(ray):
    @ray.remote
    def leaf():
        return 1

    @ray.remote
    def middle():
        return sum(ray.get([leaf.remote() for _ in range(3)]))

    @ray.remote
    def top():
        return sum(ray.get([middle.remote() for _ in range(3)]))

    return sum(ray.get([top.remote() for _ in range(3)]))


@table.row("A task that needs every processor waits for a child that does.", gives="child")
def a_waiting_task_gives_its_processors_away(ray):
    @ray.remote(num_cpus=8)
    def child():
        return "child"

    @ray.remote(num_cpus=8)
    def parent():
        return ray.get(child.remote())

    return ray.get(parent.remote(), timeout=40)


@table.row("A task sends calls to an actor it was given.", gives=10)
def tasks_share_an_actor(ray):
    @ray.remote
    class Counter:
        value = 0

        def more(self):
            self.value += 1
            return self.value

    @ray.remote
    def use(counter):
        return ray.get(counter.more.remote())

    counter = Counter.remote()
    return max(ray.get([use.remote(counter) for _ in range(10)]))


@table.row("Async actors that ask each other all at once.", gives=[3, 2, 1])
def actors_that_know_each_other(ray):
    @ray.remote
    class Node:
        def __init__(self, i):
            self.i, self.peers = i, []

        async def meet(self, peers):
            self.peers = peers

        async def value(self):
            return self.i

        async def total(self):
            return sum([await p.value.remote() for p in self.peers])

    nodes = [Node.remote(i) for i in range(3)]
    for i, node in enumerate(nodes):
        ray.get(node.meet.remote([n for j, n in enumerate(nodes) if j != i]))
    return ray.get([n.total.remote() for n in nodes])


@table.row("Ring of actors: a token goes round.", gives=6)
def a_token_ring(ray):
    @ray.remote
    class Node:
        def link(self, following):
            self.following = following

        def take(self, token, hops):
            if hops == 0:
                return token
            return ray.get(self.following.take.remote(token + 1, hops - 1))

    # Two rounds would lead back to a waiting actor: one hop less than the ring is long.
    nodes = [Node.remote() for _ in range(4)]
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        ray.get(node.link.remote(following))
    return ray.get(nodes[0].take.remote(3, 3))


@table.row(
    "max_calls: a worker that is used up stays while what it owns is needed.",
    gives=[[0] * 4, True],
)
def a_used_up_worker_stays_while_it_is_needed(ray):
    @ray.remote
    def inner():
        time.sleep(0.3)
        return 0

    @ray.remote(max_calls=1, max_retries=0)
    def outer():
        return os.getpid(), inner.remote()

    found = ray.get([outer.remote() for _ in range(4)], timeout=60)
    pids = [pid for pid, _ in found]
    values = ray.get([ref for _, ref in found], timeout=60)
    del found
    gc.collect()
    return [values, wait_until(lambda: all(is_gone(pid) for pid in pids))]


@table.row("A definition that captures too much is refused.", gives=["ValueError"] * 2)
def a_definition_that_is_too_large(ray):
    large = b"x" * (96 << 20)

    @ray.remote
    def f():
        return len(large)

    @ray.remote
    class A:
        def m(self):
            return len(large)

    return [error_of(f.remote), error_of(A.remote)]


test_calls_and_results = table.test()
