"""References: what they can do, where they can go, and how long their values live (2.3)."""

import asyncio
import concurrent.futures
import pickle

from tests.parity.table import Table, error_of, gate_at

table = Table("2.3 ObjectRef")


@table.row("Top-level ref args are replaced by their value.", gives=(int, 3))
def a_reference_argument_is_its_value(ray):
    @ray.remote
    def f(x):
        return type(x), x

    return ray.get(f.remote(ray.put(3)))


@table.row("Keyword ref args are replaced by their value.", gives=4)
def a_keyword_reference_is_its_value(ray):
    @ray.remote
    def f(*, x):
        return x + 1

    return ray.get(f.remote(x=ray.put(3)))


@table.row("Ref args of a constructor are replaced by their value.", gives=6)
def a_constructor_reference_is_its_value(ray):
    @ray.remote
    class A:
        def __init__(self, x):
            self.x = x

        def read(self):
            return self.x

    return ray.get(A.remote(ray.put(6)).read.remote())


@table.row("Ref args of a method are replaced by their value.", gives=7)
def a_method_reference_is_its_value(ray):
    @ray.remote
    class A:
        def m(self, x, y):
            return x + y

    return ray.get(A.remote().m.remote(ray.put(3), y=ray.put(4)))


@table.row("The result of a call is an argument of the next before it is there.", gives=9)
def an_unfinished_result_as_an_argument(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def slow():
        gate()
        return 8

    @ray.remote
    def more(x):
        return x + 1

    ref = more.remote(slow.remote())
    (tmp_path / "open").touch()
    return ray.get(ref)


@table.row("Refs nested in a list arrive as refs.", gives=("ObjectRef", 3))
def a_nested_reference_stays_a_reference(ray):
    @ray.remote
    def f(xs):
        return type(xs[0]).__name__, ray.get(xs[0])

    return ray.get(f.remote([ray.put(3)]))


@table.row("Refs nested in a dict arrive as refs.", gives=[1, 2])
def references_in_a_dict(ray):
    @ray.remote
    def f(d):
        return ray.get([d["a"], d["b"][0]])

    return ray.get(f.remote({"a": ray.put(1), "b": [ray.put(2)]}))


@table.row("Refs inside the user's objects arrive as refs.", gives=5)
def a_reference_in_an_object(ray):
    class Box:
        def __init__(self, ref):
            self.ref = ref

    @ray.remote
    def f(box):
        return ray.get(box.ref)

    return ray.get(f.remote(Box(ray.put(5))))


@table.row("A ref returned inside a list lives on in the caller.", gives="inner")
def a_reference_returned(ray):
    @ray.remote
    def f():
        return [ray.put("inner")]

    outer = f.remote()
    [inner] = ray.get(outer)
    del outer
    return ray.get(inner)


@table.row("A ref returned as such is a ref: get gives the ref.", gives="deep")
def a_result_that_is_a_reference(ray):
    @ray.remote
    def inner():
        return "deep"

    @ray.remote
    def outer():
        return inner.remote()

    return ray.get(ray.get(outer.remote()))


@table.row("A ref captured in a closure can be fetched.", gives=11)
def a_reference_in_a_closure(ray):
    ref = ray.put(10)

    @ray.remote
    def f():
        return ray.get(ref) + 1

    return ray.get(f.remote())


@table.row("A ref captured in a closure is pinned until the job ends.", gives=10)
def a_closure_pins_its_reference(ray):
    import gc

    def make():
        ref = ray.put(10)

        @ray.remote
        def f():
            return ray.get(ref)

        assert ray.get(f.remote()) == 10
        return f

    f = make()
    gc.collect()
    return ray.get(f.remote())


@table.row("A ref kept in an actor outlives the caller's.", gives="kept")
def a_reference_kept_in_an_actor(ray):
    import gc

    @ray.remote
    class Keeper:
        def keep(self, refs):
            self.refs = refs

        def read(self):
            return ray.get(self.refs[0])

    keeper, ref = Keeper.remote(), ray.put("kept")
    ray.get(keeper.keep.remote([ref]))
    del ref
    gc.collect()
    return ray.get(keeper.read.remote())


@table.row("A ref handed on by a third party that drops it at once works.", gives="there")
def a_reference_handed_on(ray):
    @ray.remote
    class Keeper:
        def keep(self, refs):
            self.refs = refs

        def read(self):
            return ray.get(self.refs[0])

    @ray.remote
    def hand_on(keeper):
        ray.get(keeper.keep.remote([ray.put("there")]))

    keeper = Keeper.remote()
    # The value is owned by the worker of the task, which lives on.
    ray.get(hand_on.remote(keeper))
    return ray.get(keeper.read.remote())


@table.row("An argument's ref may be dropped at once.", gives=1)
def a_dropped_argument(ray):
    @ray.remote
    def f(x):
        return x

    return ray.get(f.remote(ray.put(1)))


@table.row("A structure of 10,000 refs.", gives=10000)
def ten_thousand_references(ray):
    @ray.remote
    def f(refs):
        return len(refs)

    refs = [ray.put(i) for i in range(10000)]
    return ray.get(f.remote(refs))


@table.row("A structure of 1,000 refs is fetched in the call.", gives=499500)
def a_thousand_references_fetched(ray):
    @ray.remote
    def f(refs):
        return sum(ray.get(refs))

    return ray.get(f.remote([ray.put(i) for i in range(1000)]))


@table.row("Equal and of one hash when of one id.", gives=(True, True, 1))
def references_are_equal_by_id(ray):
    ref = ray.put(1)

    @ray.remote
    def back(refs):
        return refs

    [again] = ray.get(back.remote([ref]))
    return ref == again, hash(ref) == hash(again), len({ref, again})


@table.row(".hex() and .binary() name it.", gives=True)
def hex_and_binary(ray):
    ref = ray.put(1)
    return ref.hex() == ref.binary().hex() and ref.hex() in repr(ref)


@table.row(".task_id() and .job_id().", gives=(True, True))
def the_ids_of_a_reference(ray):
    @ray.remote
    def f():
        return ray.get_runtime_context().get_task_id()

    ref = f.remote()
    same_job = ref.job_id().hex() == ray.get_runtime_context().get_job_id()
    return ref.task_id().hex() == ray.get(ref), same_job


@table.row("repr says ObjectRef(...).", gives=True)
def the_repr_of_a_reference(ray):
    ref = ray.put(1)
    return repr(ref).startswith("ObjectRef(") and repr(ref) == str(ref)


@table.row("Awaitable.", gives=5)
def a_reference_is_awaitable(ray):
    async def main():
        return await ray.put(5)

    return asyncio.run(main())


@table.row("asyncio.gather over refs.", gives=[0, 1, 2])
def references_in_gather(ray):
    @ray.remote
    def f(i):
        return i

    async def main():
        return await asyncio.gather(*[f.remote(i) for i in range(3)])

    return asyncio.run(main())


@table.row("asyncio.wait_for over a ref times out.", gives="TimeoutError")
def a_reference_in_wait_for(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def f():
        gate()

    async def main():
        await asyncio.wait_for(f.remote(), timeout=0.1)

    kind = error_of(lambda: asyncio.run(main()))
    (tmp_path / "open").touch()
    return kind


@table.row("asyncio.wait over the tasks of refs.", gives=(1, 1))
def references_in_asyncio_wait(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def slow():
        gate()

    @ray.remote
    def fast():
        return 1

    async def main():
        tasks = [asyncio.wrap_future(r.future()) for r in (slow.remote(), fast.remote())]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        (tmp_path / "open").touch()
        return len(done), len(rest)

    return asyncio.run(main())


@table.row("Awaiting a failed call raises the user's error.", raises="KeyError")
def awaiting_a_failed_call(ray):
    @ray.remote
    def f():
        raise KeyError("k")

    async def main():
        await f.remote()

    asyncio.run(main())


@table.row(".future() is a concurrent.futures.Future.", gives=(True, 3))
def a_concurrent_future(ray):
    future = ray.put(3).future()
    return isinstance(future, concurrent.futures.Future), future.result(timeout=20)


@table.row(".future() carries the error.", raises="ZeroDivisionError")
def a_concurrent_future_with_an_error(ray):
    @ray.remote
    def f():
        return 1 / 0

    f.remote().future().result(timeout=20)


@table.row("concurrent.futures.wait and as_completed take .future().", gives=[0, 1, 2])
def concurrent_futures_of_references(ray):
    @ray.remote
    def f(i):
        return i

    futures = [f.remote(i).future() for i in range(3)]
    return sorted(x.result() for x in concurrent.futures.as_completed(futures, timeout=20))


@table.row("Cancelling the local future doesn't cancel the task.", gives=6)
def cancelling_a_local_future(ray, tmp_path):
    gate = gate_at(tmp_path / "open")

    @ray.remote
    def f():
        gate()
        return 6

    ref = f.remote()

    async def main():
        task = asyncio.ensure_future(wait(ref))
        await asyncio.sleep(0.05)
        task.cancel()

    async def wait(ref):
        return await ref

    asyncio.run(main())
    (tmp_path / "open").touch()
    return ray.get(ref)


@table.row("as_future works with a running loop.", gives=2)
def as_future_in_a_loop(ray):
    async def main():
        return await ray.put(2).as_future()

    return asyncio.run(main())


@table.row("Pickling a ref outside of Ray pins the object.", gives="pinned")
def a_pickled_reference(ray):
    import gc

    data = ray.cloudpickle.dumps(ray.put("pinned"))
    gc.collect()
    return ray.get(pickle.loads(data), timeout=10)


@table.row("Pickling by pickle itself pins it as well.", gives="pinned", only="zactor")
def a_reference_pickled_plainly(ray):
    import gc

    data = pickle.dumps(ray.put("pinned"))
    gc.collect()
    return ray.get(pickle.loads(data), timeout=10)


@table.row(
    "A nil reference has a name, and is equal to another.", gives=["ff" * 28, True, True, False]
)
def a_nil_reference(ray):
    nil = ray.ObjectRef.nil()
    found = repr(nil).removeprefix("ObjectRef(").removesuffix(")")
    return [found, nil.is_nil(), nil == ray.ObjectRef.nil(), ray.put(1).is_nil()]


@table.row("A ref stored in a ref: fetched in two steps.", gives=1)
def a_reference_to_a_reference(ray):
    outer = ray.put([ray.put([ray.put(1)])])
    return ray.get(ray.get(ray.get(outer)[0])[0])


@table.row(
    "An upstream error is propagated without running the dependent.", gives=("ValueError", 0)
)
def an_upstream_error_is_passed_on(ray, tmp_path):
    from tests.parity.table import count_at, tally_at

    tally = tally_at(tmp_path / "n")

    @ray.remote
    def bad():
        raise ValueError("up")

    @ray.remote
    def dependent(x):
        tally()
        return x

    try:
        ray.get(dependent.remote(bad.remote()))
    except ValueError:
        return "ValueError", count_at(tmp_path / "n")


@table.row(
    "An upstream error passes through a chain and an actor.", raises="ValueError", match="up"
)
def an_upstream_error_passes_through_a_chain(ray):
    @ray.remote
    def bad():
        raise ValueError("up")

    @ray.remote
    def step(x):
        return x

    @ray.remote
    class A:
        def m(self, x):
            return x

    a = A.remote()
    ray.get(a.m.remote(step.remote(step.remote(bad.remote()))))


@table.row("An error upstream of an actor's call leaves the actor as it was.", gives=1)
def an_actor_survives_an_upstream_error(ray):
    @ray.remote
    def bad():
        raise ValueError("up")

    @ray.remote
    class A:
        def m(self, x):
            return x

    a = A.remote()
    error_of(lambda: ray.get(a.m.remote(bad.remote())))
    return ray.get(a.m.remote(1))


@table.row(
    "An error upstream of a constructor: the actor is not made.",
    raises=("RayError", "ValueError"),
)
def an_error_upstream_of_a_constructor(ray):
    @ray.remote
    def bad():
        raise ValueError("up")

    @ray.remote
    class A:
        def __init__(self, x):
            pass

        def m(self):
            return 1

    ray.get(A.remote(bad.remote()).m.remote())


@table.row(
    "A ref is not iterable, not callable and has no value of its own.", gives=["TypeError"] * 2
)
def a_reference_is_opaque(ray):
    ref = ray.put([1])
    return [error_of(lambda: list(ref)), error_of(lambda: ref())]


@table.row("A large value passed through two actors by reference.", gives=True, needs="numpy")
def a_large_value_through_two_actors(ray):
    import numpy as np

    @ray.remote
    class Maker:
        def make(self):
            return np.arange(400_000)

    @ray.remote
    class User:
        def total(self, x):
            return int(x.sum())

    return (
        ray.get(User.remote().total.remote(Maker.remote().make.remote()))
        == 400_000 * 399_999 // 2
    )


@table.row("The type of a ref is ray.ObjectRef.", gives=True)
def the_type_of_a_reference(ray):
    return isinstance(ray.put(1), ray.ObjectRef)


@table.row("The value of a task whose worker is gone stays with its owner.", gives=3)
def a_result_outlives_its_actor(ray):
    @ray.remote
    class A:
        def m(self):
            return 3

    a = A.remote()
    ref = a.m.remote()
    ray.wait([ref])
    ray.kill(a)
    return ray.get(ref)


@table.row("Values owned by a dead worker: OwnerDiedError.", raises="OwnerDiedError")
def a_value_whose_owner_died(ray):
    @ray.remote
    class A:
        def make(self):
            return [ray.put("mine")]

    a = A.remote()
    [ref] = ray.get(a.make.remote())
    ray.kill(a)
    import time

    time.sleep(1)
    ray.get(ref, timeout=20)


test_object_refs = table.test()
