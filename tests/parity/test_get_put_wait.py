"""`get`, `put` and `wait`: their arguments, their order and their time (2.3)."""

import time

from tests.parity.table import Table, error_of, gate_at

table = Table("2.3 get / put / wait")


@table.row("put then get.", gives={"a": 1})
def put_and_get(ray):
    return ray.get(ray.put({"a": 1}))


@table.row("get of a list keeps its order.", gives=[2, 0, 1])
def get_keeps_the_order_of_a_list(ray):
    refs = [ray.put(i) for i in range(3)]
    return ray.get([refs[2], refs[0], refs[1]])


@table.row("get of an empty list.", gives=[])
def get_of_an_empty_list(ray):
    return ray.get([])


@table.row("get of the same reference twice.", gives=[1, 1])
def get_of_a_reference_twice_in_a_list(ray):
    ref = ray.put(1)
    return ray.get([ref, ref])


@table.row("get again gives the same value.", gives=(5, 5))
def get_again(ray):
    @ray.remote
    def f():
        return 5

    ref = f.remote()
    return ray.get(ref), ray.get(ref)


@table.row("get: tuple: ValueError.", raises="ValueError")
def get_refuses_a_tuple(ray):
    ray.get((ray.put(1),))


@table.row("get of what is no reference: ValueError.", raises="ValueError")
def get_refuses_a_number(ray):
    ray.get(5)


@table.row("get of a list with something else in it: TypeError.", raises="TypeError")
def get_refuses_a_mixed_list(ray):
    ray.get([ray.put(1), 2])


@table.row("get of a nested list: TypeError.", raises="TypeError")
def get_refuses_a_nested_list(ray):
    ray.get([[ray.put(1)]])


@table.row("get: timeout is a keyword.", raises="TypeError")
def get_takes_its_timeout_by_name(ray):
    ray.get(ray.put(1), 5)


@table.row("get: timeout=0 polls.", raises="GetTimeoutError")
def get_polls(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def f():
        gate()

    ref = f.remote()
    try:
        ray.get(ref, timeout=0)
    finally:
        (tmp_path / "open").touch()


@table.row("get: timeout=0 gives what is there.", gives=1)
def get_polls_what_is_there(ray):
    ref = ray.put(1)
    return ray.get(ref, timeout=0)


@table.row("GetTimeoutError is a TimeoutError.", raises="TimeoutError")
def get_times_out(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def f():
        gate()

    ref = f.remote()
    try:
        ray.get(ref, timeout=0.1)
    finally:
        (tmp_path / "open").touch()


@table.row("GetTimeoutError is a RayError.", raises="RayError")
def a_timeout_is_one_of_our_errors(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def f():
        gate()

    ref = f.remote()
    try:
        ray.get(ref, timeout=0.05)
    finally:
        (tmp_path / "open").touch()


@table.row("A get that timed out can be repeated.", gives="late")
def get_after_a_timeout(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def f():
        gate()
        return "late"

    ref = f.remote()
    error_of(lambda: ray.get(ref, timeout=0.05))
    (tmp_path / "open").touch()
    return ray.get(ref, timeout=20)


@table.row("A timeout covers the whole list.", gives=True)
def the_timeout_covers_the_list(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote(num_cpus=0)
    def f():
        gate()

    refs = [f.remote() for _ in range(4)]
    start = time.monotonic()
    error_of(lambda: ray.get(refs, timeout=0.3))
    took = time.monotonic() - start
    (tmp_path / "open").touch()
    return 0.25 < took < 2


@table.row("A list raises the first error found at once.", gives=("ValueError", True))
def a_list_raises_at_once(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def slow():
        gate()

    @ray.remote
    def bad():
        raise ValueError("bad")

    slow_ref, bad_ref = slow.remote(), bad.remote()
    start = time.monotonic()
    try:
        ray.get([bad_ref, slow_ref], timeout=20)
    except ValueError:
        kind = "ValueError"
    took = time.monotonic() - start
    (tmp_path / "open").touch()
    return kind, took < 15


@table.row("put(ref): TypeError.", raises="TypeError")
def put_refuses_a_reference(ray):
    ray.put(ray.put(1))


@table.row("put of a list of references keeps them references.", gives=("ObjectRef", 1))
def put_of_a_list_of_references(ray):
    [inner] = ray.get(ray.put([ray.put(1)]))
    return type(inner).__name__, ray.get(inner)


@table.row("put of None.", gives=None)
def put_of_none(ray):
    return ray.get(ray.put(None))


@table.row("Two puts of one value are two references.", gives=False)
def two_puts_are_two_references(ray):
    return ray.put(1) == ray.put(1)


@table.row("put takes a snapshot.", gives=[1])
def put_takes_a_snapshot(ray):
    x = [1]
    ref = ray.put(x)
    x.append(2)
    return ray.get(ref)


@table.row("put of an array takes a snapshot.", gives=0.0, needs="numpy")
def put_takes_a_snapshot_of_an_array(ray):
    import numpy as np

    x = np.zeros(300_000)
    ref = ray.put(x)
    x[:] = 1
    return float(ray.get(ref).sum())


@table.row("put takes one value.", raises="TypeError")
def put_takes_one_value(ray):
    ray.put(1, 2)


@table.row("put inside a task, returned as a reference.", gives="inner")
def put_inside_a_task(ray):
    @ray.remote
    def f():
        return [ray.put("inner")]

    return ray.get(ray.get(f.remote())[0])


@table.row("put in an actor, fetched by another.", gives="kept")
def put_in_an_actor(ray):
    @ray.remote
    class A:
        def make(self):
            self.ref = ray.put("kept")
            return [self.ref]

    @ray.remote
    def read(refs):
        return ray.get(refs[0])

    a = A.remote()
    return ray.get(read.remote(ray.get(a.make.remote())))


@table.row("wait: (ready, rest), input order kept.", gives=([0, 1, 2], []))
def wait_keeps_the_order(ray):
    refs = [ray.put(i) for i in range(3)]
    ready, rest = ray.wait(refs, num_returns=3)
    return ray.get(ready), rest


@table.row("wait: num_returns=1 by default, though more are ready.", gives=(1, 2))
def wait_gives_one(ray):
    ready, rest = ray.wait([ray.put(i) for i in range(3)])
    return len(ready), len(rest)


@table.row("wait: at most num_returns even if more are ready.", gives=(2, 1))
def wait_gives_at_most_what_was_asked(ray):
    ready, rest = ray.wait([ray.put(i) for i in range(3)], num_returns=2)
    return len(ready), len(rest)


@table.row("wait: rest keeps the input order.", gives=True)
def wait_keeps_the_order_of_the_rest(ray):
    refs = [ray.put(i) for i in range(5)]
    ready, rest = ray.wait(refs, num_returns=2)
    return [r for r in refs if r in rest] == rest and [r for r in refs if r in ready] == ready


@table.row("wait returns as soon as num_returns are there.", gives=([1], 1))
def wait_returns_with_the_first(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def slow():
        gate()

    @ray.remote
    def fast():
        return 1

    ready, rest = ray.wait([slow.remote(), fast.remote()])
    out = ray.get(ready), len(rest)
    (tmp_path / "open").touch()
    return out


@table.row("wait: timeout, with what is ready by then.", gives=(1, 1))
def wait_with_a_timeout(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def slow():
        gate()

    ready, rest = ray.wait([ray.put(1), slow.remote()], num_returns=2, timeout=0.2)
    (tmp_path / "open").touch()
    return len(ready), len(rest)


@table.row("wait: timeout=0 polls.", gives=(0, 1))
def wait_polls(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def slow():
        gate()

    ready, rest = ray.wait([slow.remote()], timeout=0)
    (tmp_path / "open").touch()
    return len(ready), len(rest)


@table.row("wait: an error counts as ready.", gives=(1, "ValueError"))
def wait_counts_errors(ray):
    @ray.remote
    def bad():
        raise ValueError("bad")

    ready, _ = ray.wait([bad.remote()])
    try:
        ray.get(ready[0])
    except ValueError:
        return len(ready), "ValueError"


@table.row("wait: single ref: TypeError.", raises="TypeError")
def wait_refuses_a_single_reference(ray):
    ray.wait(ray.put(1))


@table.row("wait: a tuple is refused.", raises="TypeError")
def wait_refuses_a_tuple(ray):
    ray.wait((ray.put(1),))


@table.row("wait: what is no reference: TypeError.", raises="TypeError")
def wait_refuses_numbers(ray):
    ray.wait([1])


@table.row("wait: duplicates: ValueError.", raises="ValueError")
def wait_refuses_duplicates(ray):
    ref = ray.put(1)
    ray.wait([ref, ref])


@table.row("wait: num_returns <= 0: ValueError.", gives=["ValueError", "ValueError"])
def wait_refuses_no_returns(ray):
    refs = [ray.put(1)]
    return [error_of(lambda n=n: ray.wait(refs, num_returns=n)) for n in (0, -1)]


@table.row("wait: num_returns > len: ValueError.", raises="ValueError")
def wait_refuses_too_many_returns(ray):
    ray.wait([ray.put(1)], num_returns=2)


@table.row("wait: negative timeout: ValueError.", raises="ValueError")
def wait_refuses_a_negative_timeout(ray):
    ray.wait([ray.put(1)], timeout=-1)


@table.row("wait: [] gives ([], []).", gives=([], []))
def wait_for_nothing(ray):
    return ray.wait([])


@table.row("wait: options by name only.", raises="TypeError")
def wait_takes_its_options_by_name(ray):
    ray.wait([ray.put(1)], 1)


@table.row("wait: fetch_local=False.", gives=1)
def wait_without_fetching(ray):
    ready, _ = ray.wait([ray.put(1)], fetch_local=False)
    return len(ready)


@table.row("wait in a loop empties a list.", gives=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def wait_in_a_loop(ray):
    @ray.remote
    def f(i):
        return i

    pending, out = [f.remote(i) for i in range(10)], []
    while pending:
        ready, pending = ray.wait(pending)
        out += ray.get(ready)
    return sorted(out)


@table.row("wait on 500 references.", gives=(500, 0))
def wait_on_many(ray):
    refs = [ray.put(i) for i in range(500)]
    ready, rest = ray.wait(refs, num_returns=500, timeout=30)
    return len(ready), len(rest)


@table.row("wait and get from several threads at once.", gives=[0, 1, 2, 3, 4, 5])
def gets_from_threads(ray):
    from concurrent.futures import ThreadPoolExecutor

    @ray.remote(num_cpus=0)
    def f(i):
        return i

    def one(i):
        ref = f.remote(i)
        ray.wait([ref])
        return ray.get(ref)

    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(one, range(6)))


@table.row("get of 1,000 small values at once.", gives=499500)
def get_many(ray):
    return sum(ray.get([ray.put(i) for i in range(1000)]))


@table.row("Two waiters on one reference both get it.", gives=["v", "v"])
def two_waiters(ray, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    gate = gate_at(tmp_path / "open")

    @ray.remote
    def f():
        gate()
        return "v"

    ref = f.remote()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(ray.get, ref) for _ in range(2)]
        (tmp_path / "open").touch()
        return [f.result(timeout=20) for f in futures]


@table.row("ObjectStoreFullError is there to be caught.", gives=True)
def the_full_store_has_an_error(ray):
    return issubclass(ray.exceptions.ObjectStoreFullError, ray.exceptions.RayError)


@table.row(
    "A value larger than the store's free memory is spilled or evicted.", gives=8, needs="numpy"
)
def more_than_the_store_holds(ray):
    import numpy as np

    refs = [ray.put(np.full(5_000_000, i, dtype=np.int64)) for i in range(8)]
    return sum(int(ray.get(ref)[-1]) == i for i, ref in enumerate(refs))


test_get_put_wait = table.test()
