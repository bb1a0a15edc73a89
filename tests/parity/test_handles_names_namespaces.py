"""Handles, names, namespaces and detached actors (2.7)."""

import gc
import os
import pickle

from tests.parity.table import Table, error_of, is_gone, wait_until

table = Table("2.7 Handles")


def make_counter(ray):
    @ray.remote
    class Counter:
        def __init__(self, value=0):
            self.value = value

        def more(self):
            self.value += 1
            return self.value

        def pid(self):
            return os.getpid()

    return Counter


@table.row("A handle is passed to a task.", gives=1)
def a_handle_passed_to_a_task(ray):
    @ray.remote
    def use(counter):
        return ray.get(counter.more.remote())

    return ray.get(use.remote(make_counter(ray).remote()))


@table.row("A handle is passed inside a structure.", gives=[1, 2])
def a_handle_in_a_structure(ray):
    @ray.remote
    def use(box):
        return ray.get(box["counters"][0].more.remote())

    box = {"counters": [make_counter(ray).remote()]}
    return [ray.get(use.remote(box)), ray.get(use.remote(box))]


@table.row("A handle is captured in a closure.", gives=1)
def a_handle_in_a_closure(ray):
    counter = make_counter(ray).remote()

    @ray.remote
    def use():
        return ray.get(counter.more.remote())

    return ray.get(use.remote())


@table.row("A handle is put, and fetched.", gives=1)
def a_handle_in_the_store(ray):
    ref = ray.put(make_counter(ray).remote())
    return ray.get(ray.get(ref).more.remote())


@table.row("A handle is returned by the task that made the actor.", gives=[1, 2])
def a_handle_returned(ray):
    counter_class = make_counter(ray)

    @ray.remote
    def make():
        return counter_class.remote()

    counter = ray.get(make.remote())
    return ray.get([counter.more.remote(), counter.more.remote()])


@table.row("A handle is passed to another actor's constructor.", gives=1)
def a_handle_given_to_a_constructor(ray):
    @ray.remote
    class User:
        def __init__(self, counter):
            self.counter = counter

        def use(self):
            return ray.get(self.counter.more.remote())

    return ray.get(User.remote(make_counter(ray).remote()).use.remote())


@table.row("Copies passed in messages are strong.", gives=1)
def a_passed_handle_keeps_the_actor(ray):
    @ray.remote
    class Keeper:
        def keep(self, counter):
            self.counter = counter

        def use(self):
            return ray.get(self.counter.more.remote())

    keeper, counter = Keeper.remote(), make_counter(ray).remote()
    ray.get(keeper.keep.remote(counter))
    del counter
    gc.collect()
    return ray.get(keeper.use.remote())


@table.row("Equality and hash by actor id.", gives=(True, False, 1))
def handles_are_equal_by_id(ray):
    @ray.remote
    def back(handles):
        return handles

    counter_class = make_counter(ray)
    a, b = counter_class.remote(), counter_class.remote()
    [again] = ray.get(back.remote([a]))
    return a == again, a == b, len({a, again})


@table.row("Picklable.", gives=1)
def a_handle_is_picklable(ray):
    counter = make_counter(ray).remote()
    ray.get(counter.__ray_ready__.remote())
    again = pickle.loads(ray.cloudpickle.dumps(counter))
    return ray.get(again.more.remote())


@table.row("A bound method can be kept and called later.", gives=[1, 2])
def a_method_kept(ray):
    counter = make_counter(ray).remote()
    more = counter.more
    return ray.get([more.remote(), more.remote()])


@table.row("A handle has an actor id.", gives=True)
def the_id_of_a_handle(ray):
    counter = make_counter(ray).remote()
    return (
        counter._actor_id.hex() == counter._ray_actor_id.hex()
        and len(counter._actor_id.hex()) > 8
    )


@table.row("dir of a handle lists its methods.", gives=True)
def the_methods_of_a_handle(ray):
    return {"more", "pid"} <= set(dir(make_counter(ray).remote()))


@table.row("get_actor finds an actor by its name.", gives=1)
def an_actor_found_by_name(ray):
    counter = make_counter(ray).options(name="handles-found").remote()
    found = ray.get_actor("handles-found")
    return ray.get(found.more.remote()) if found == counter else None


@table.row("get_actor works in a task.", gives=1)
def an_actor_found_in_a_task(ray):
    counter = make_counter(ray).options(name="handles-in-task").remote()

    @ray.remote
    def use():
        return ray.get(ray.get_actor("handles-in-task").more.remote())

    value = ray.get(use.remote())
    return value if counter is not None else None


@table.row("get_actor: ValueError if none.", raises="ValueError")
def a_name_nobody_has(ray):
    ray.get_actor("handles-nobody")


@table.row("get_actor takes a string.", gives=True)
def a_name_is_a_string(ray):
    return error_of(lambda: ray.get_actor(5)) in {"ValueError", "TypeError"}


@table.row("get_actor('') : ValueError.", raises="ValueError")
def a_name_is_not_empty(ray):
    ray.get_actor("")


@table.row("get_actor finds an actor that still starts.", gives=1)
def an_actor_found_while_it_starts(ray):
    counter = make_counter(ray).options(name="handles-starting").remote()
    value = ray.get(ray.get_actor("handles-starting").more.remote())
    return value if counter is not None else None


@table.row("Weak: a handle of get_actor does not keep the actor.", gives=True)
def a_handle_by_name_is_weak(ray):
    counter = make_counter(ray).options(name="handles-weak").remote()
    pid = ray.get(counter.pid.remote())
    weak = ray.get_actor("handles-weak")
    del counter
    gc.collect()
    gone = wait_until(lambda: is_gone(pid))
    return gone and weak is not None


@table.row("A name is free again after its actor's end.", gives=True)
def a_name_is_free_again(ray):
    counter_class = make_counter(ray)
    counter = counter_class.options(name="handles-again").remote()
    ray.get(counter.more.remote())
    del counter
    gc.collect()
    made = []

    def is_free():
        action = lambda: made.append(counter_class.options(name="handles-again").remote())
        return error_of(action) == "none"

    return wait_until(is_free)


@table.row("After the actor's end get_actor raises ValueError.", gives=True)
def a_name_is_gone_with_its_actor(ray):
    counter = make_counter(ray).options(name="handles-gone").remote()
    ray.get(counter.more.remote())
    ray.kill(counter)
    return wait_until(lambda: error_of(lambda: ray.get_actor("handles-gone")) == "ValueError")


@table.row("A namespace is a scope of names.", gives=[0, 5, "ValueError"])
def namespaces_are_scopes(ray):
    counter_class = make_counter(ray)
    a = counter_class.options(name="same", namespace="handles-a").remote(-1)
    b = counter_class.options(name="same", namespace="handles-b").remote(4)
    found = [
        ray.get_actor("same", namespace="handles-a"),
        ray.get_actor("same", namespace="handles-b"),
    ]
    out = ray.get([h.more.remote() for h in found])
    del a, b
    return [*out, error_of(lambda: ray.get_actor("same"))]


@table.row("get_actor(namespace=) takes a string.", gives="TypeError")
def a_namespace_is_a_string(ray):
    return error_of(lambda: ray.get_actor("x", namespace=5))


@table.row("The driver's namespace is that of init.", gives=["parity", "parity"])
def the_namespace_of_the_driver(ray):
    @ray.remote
    def f():
        return ray.get_runtime_context().namespace

    return [ray.get_runtime_context().namespace, ray.get(f.remote())]


@table.row("util.list_named_actors lists names of this namespace.", gives=True)
def named_actors_are_listed(ray):
    counter = make_counter(ray).options(name="handles-listed").remote()
    ray.get(counter.more.remote())
    return "handles-listed" in ray.util.list_named_actors()


@table.row("util.list_named_actors(all_namespaces=True): name and namespace.", gives=True)
def named_actors_of_all_namespaces(ray):
    options = {"name": "handles-elsewhere", "namespace": "handles-c"}
    counter = make_counter(ray).options(**options).remote()
    ray.get(counter.more.remote())
    return options in ray.util.list_named_actors(all_namespaces=True)


@table.row("A detached actor outlives its handles.", gives=[1, 2])
def a_detached_actor_outlives_its_handles(ray):
    counter = make_counter(ray).options(name="handles-detached", lifetime="detached").remote()
    first = ray.get(counter.more.remote())
    del counter
    gc.collect()
    again = ray.get_actor("handles-detached")
    second = ray.get(again.more.remote())
    ray.kill(again)
    return [first, second]


@table.row("A detached actor outlives its creator.", gives=[1, 2])
def a_detached_actor_outlives_its_creator(ray):
    counter_class = make_counter(ray)

    @ray.remote
    class Maker:
        def make(self):
            c = counter_class.options(name="handles-orphan", lifetime="detached").remote()
            return ray.get(c.more.remote())

    maker = Maker.remote()
    first = ray.get(maker.make.remote())
    ray.kill(maker)
    again = ray.get_actor("handles-orphan")
    second = ray.get(again.more.remote())
    ray.kill(again)
    return [first, second]


@table.row("A name set with get_if_exists by many at once: one actor.", gives=(1, 5))
def get_if_exists_by_many(ray):
    counter_class = make_counter(ray)

    @ray.remote(num_cpus=0)
    def use():
        c = counter_class.options(
            name="handles-one", get_if_exists=True, lifetime="detached"
        ).remote()
        return ray.get([c.pid.remote(), c.more.remote()])

    seen = ray.get([use.remote() for _ in range(5)])
    ray.kill(ray.get_actor("handles-one"))
    return len({pid for pid, _ in seen}), max(value for _, value in seen)


@table.row("current_actor is a handle to oneself.", gives=(True, 1))
def the_current_actor(ray):
    @ray.remote
    class A:
        def me(self):
            return ray.get_runtime_context().current_actor

        def one(self):
            return 1

    a = A.remote()
    me = ray.get(a.me.remote())
    return me == a, ray.get(me.one.remote())


@table.row(
    "A handle does not go through a plain pickle after its cluster: errors say so.",
    gives=True,
    only="zactor",
)
def a_handle_through_plain_pickle(ray):
    counter = make_counter(ray).remote()
    return pickle.loads(pickle.dumps(counter)) == counter


@table.row("A handle's attributes cannot be taken for methods.", raises="AttributeError")
def no_method_of_that_name(ray):
    make_counter(ray).remote().moer.remote()


@table.row("The class of a handle is ray.actor.ActorHandle.", gives=True)
def the_type_of_a_handle(ray):
    return isinstance(make_counter(ray).remote(), ray.actor.ActorHandle)


@table.row("A method's handle knows its options only for that call.", gives=[[1, 2], (1, 2)])
def method_options_do_not_stick(ray):
    @ray.remote
    class A:
        def two(self):
            return 1, 2

    a = A.remote()
    return [ray.get(list(a.two.options(num_returns=2).remote())), ray.get(a.two.remote())]


@table.row("A name may hold spaces and other letters.", gives=1)
def unusual_names(ray):
    name = "an actor / with: żółć"
    counter = make_counter(ray).options(name=name).remote()
    value = ray.get(ray.get_actor(name).more.remote())
    return value if counter is not None else None


@table.row("A hundred handles in one argument.", gives=100)
def many_handles_in_one_argument(ray):
    counter = make_counter(ray).remote()

    @ray.remote
    def use(handles):
        return max(ray.get([h.more.remote() for h in handles]))

    return ray.get(use.remote([counter] * 100))


test_handles_names_namespaces = table.test()
