"""`@remote` on functions and classes, and the methods of the classes (2.2)."""

# ruff: noqa: UP028 - Ray's actors stream from `yield`, and not from `yield from range(...)`.

import dataclasses
import enum
import typing

from tests.parity.table import Table, error_of, tally_at

table = Table("2.2 @ray.remote")


@table.row("On a function: .remote() gives a reference to its result.", gives=(3, "ObjectRef"))
def a_function_becomes_remote(ray):
    @ray.remote
    def add(a, b):
        return a + b

    ref = add.remote(1, 2)
    return ray.get(ref), type(ref).__name__


@table.row("On a class: .remote() gives a handle.", gives=[1, 2, 3])
def a_class_becomes_an_actor_class(ray):
    @ray.remote
    class Counter:
        def __init__(self):
            self.value = 0

        def increment(self):
            self.value += 1
            return self.value

    counter = Counter.remote()
    return ray.get([counter.increment.remote() for _ in range(3)])


@table.row("Keywords only: options in brackets.", gives=7)
def options_stand_in_brackets(ray):
    @ray.remote(num_cpus=1, max_retries=0)
    def seven():
        return 7

    return ray.get(seven.remote())


@table.row(
    "Bare, or keywords only: brackets without options are an error.",
    raises=("AssertionError", "TypeError"),
)
def empty_brackets_are_refused(ray):
    @ray.remote()
    def f():
        pass


@table.row(
    "Bare, or keywords only: a positional option is an error.",
    raises=("AssertionError", "TypeError"),
)
def positional_options_are_refused(ray):
    @ray.remote(1)
    def f():
        pass


@table.row("Only functions and classes can be remote.", raises=("TypeError", "AssertionError"))
def a_number_cannot_be_remote(ray):
    ray.remote(5)


@table.row("ray.remote can be called as a function.", gives=16)
def remote_wraps_a_function_without_a_decorator(ray):
    def square(x):
        return x * x

    return ray.get(ray.remote(square).remote(4))


@table.row("ray.remote(**options) gives a decorator that can be kept.", gives=[2, 3])
def the_decorator_with_options_is_reusable(ray):
    small = ray.remote(num_cpus=0.5)

    def one_more(x):
        return x + 1

    class Holder:
        def value(self):
            return 3

    return [ray.get(small(one_more).remote(1)), ray.get(small(Holder).remote().value.remote())]


@table.row("A lambda can be remote.", gives=10)
def a_lambda_can_be_remote(ray):
    return ray.get(ray.remote(lambda x: x * 2).remote(5))


@table.row(
    "Calling a remote function directly is a TypeError.", raises="TypeError", match="remote"
)
def a_remote_function_is_not_called_directly(ray):
    @ray.remote
    def f():
        return 1

    f()


@table.row(
    "Calling an actor class directly is a TypeError.", raises="TypeError", match="remote"
)
def an_actor_class_is_not_called_directly(ray):
    @ray.remote
    class A:
        pass

    A()


@table.row(
    "Subclassing an actor class is ActorClassInheritanceException.",
    raises=("TypeError",),
    match="Inheriting from actor classes is not currently supported",
)
def an_actor_class_is_not_subclassed(ray):
    @ray.remote
    class A:
        pass

    class B(A):
        pass


@table.row(
    "ActorClassInheritanceException is found in ray.actor.",
    raises="actor.ActorClassInheritanceException",
)
def the_inheritance_error_has_its_own_class(ray):
    @ray.remote
    class A:
        pass

    class B(A):
        pass


@table.row("Base it on a plain class instead.", gives=("base", "derived", 5))
def an_actor_class_can_inherit_from_a_plain_class(ray):
    class Base:
        def __init__(self, start):
            self.start = start

        def first(self):
            return "base"

        def second(self):
            return "base"

    @ray.remote
    class Derived(Base):
        def __init__(self, start):
            super().__init__(start + 1)

        def second(self):
            return "derived"

        def value(self):
            return self.start

    a = Derived.remote(4)
    return tuple(ray.get([a.first.remote(), a.second.remote(), a.value.remote()]))


@table.row("An inherited constructor is used.", gives=(9, 2))
def an_inherited_constructor_is_used(ray):
    class Base:
        def __init__(self, a, b=2):
            self.pair = (a, b)

    @ray.remote
    class Derived(Base):
        def read(self):
            return self.pair

    return ray.get(Derived.remote(9).read.remote())


@table.row("A mixin of several plain classes works.", gives=["left", "right", "own"])
def several_plain_bases(ray):
    class Left:
        def left(self):
            return "left"

    class Right:
        def right(self):
            return "right"

    @ray.remote
    class Both(Left, Right):
        def own(self):
            return "own"

    b = Both.remote()
    return ray.get([b.left.remote(), b.right.remote(), b.own.remote()])


@table.row("One plain class can be made remote twice, with other options.", gives=["x", "x"])
def one_class_two_actor_classes(ray):
    class Plain:
        def name(self):
            return "x"

    small = ray.remote(num_cpus=0)(Plain).remote()
    large = ray.remote(num_cpus=1)(Plain).remote()
    return ray.get([small.name.remote(), large.name.remote()])


@table.row("async def function: ValueError.", raises="ValueError", match="[aA]sync")
def an_async_function_is_refused(ray):
    @ray.remote
    async def f():
        return 1

    f.remote()


@table.row("Keyword arguments and defaults reach the function.", gives=[(1, 2, 3), (1, 5, 3)])
def keywords_and_defaults_of_a_function(ray):
    @ray.remote
    def f(a, b=2, *, c=3):
        return a, b, c

    return ray.get([f.remote(1), f.remote(1, b=5)])


@table.row("*args and **kwargs reach the function.", gives=((1, 2), {"x": 3, "y": 4}))
def variadic_arguments_of_a_function(ray):
    @ray.remote
    def f(*args, **kwargs):
        return args, kwargs

    return ray.get(f.remote(1, 2, x=3, y=4))


@table.row("Keyword arguments and defaults reach the constructor.", gives=(1, 20, 3))
def keywords_and_defaults_of_a_constructor(ray):
    @ray.remote
    class A:
        def __init__(self, a, b=2, *, c=3):
            self.all = (a, b, c)

        def read(self):
            return self.all

    return ray.get(A.remote(1, b=20).read.remote())


@table.row("Keyword arguments and defaults reach a method.", gives=[(1, 2, ()), (1, 7, ("z",))])
def keywords_and_defaults_of_a_method(ray):
    @ray.remote
    class A:
        def m(self, a, b=2, *rest):
            return a, b, rest

    a = A.remote()
    return ray.get([a.m.remote(1), a.m.remote(1, 7, "z")])


@table.row("A call that does not fit the signature fails at the client.", raises="TypeError")
def a_missing_argument_of_a_function_fails_at_submit(ray):
    @ray.remote
    def f(a, b):
        return a + b

    f.remote(1)


@table.row("A call that does not fit the signature fails at the client.", raises="TypeError")
def an_unknown_keyword_of_a_function_fails_at_submit(ray):
    @ray.remote
    def f(a):
        return a

    f.remote(1, z=2)


@table.row("Too many arguments fail at the client.", raises="TypeError")
def too_many_arguments_of_a_function_fail_at_submit(ray):
    @ray.remote
    def f(a):
        return a

    f.remote(1, 2)


@table.row("A constructor call that does not fit fails at the client.", raises="TypeError")
def a_missing_argument_of_a_constructor_fails_at_submit(ray):
    @ray.remote
    class A:
        def __init__(self, a):
            pass

    A.remote()


@table.row("A method call that does not fit fails at the client.", raises="TypeError")
def a_missing_argument_of_a_method_fails_at_submit(ray):
    @ray.remote
    class A:
        def m(self, a):
            return a

    A.remote().m.remote()


@table.row("Unknown method on handle: AttributeError at the client.", raises="AttributeError")
def an_unknown_method_is_an_attribute_error(ray):
    @ray.remote
    class A:
        pass

    A.remote().nothing.remote()


@table.row("Calling the method without .remote: TypeError.", raises="TypeError", match="remote")
def a_method_is_not_called_directly(ray):
    @ray.remote
    class A:
        def m(self):
            return 1

    A.remote().m()


@table.row(
    "Attributes of the instance are not attributes of the handle.", raises="AttributeError"
)
def state_is_not_read_through_the_handle(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.value = 1

    A.remote().value


@table.row("Static methods are callable on the handle.", gives=[5, 6])
def static_methods(ray):
    @ray.remote
    class A:
        @staticmethod
        def add(a, b):
            return a + b

        def own(self):
            return A_plain_add(3, 3)

    def A_plain_add(a, b):
        return a + b

    a = A.remote()
    return ray.get([a.add.remote(2, 3), a.own.remote()])


@table.row("Class methods are callable on the handle.", gives=["A", 4])
def class_methods(ray):
    @ray.remote
    class A:
        factor = 2

        @classmethod
        def name(cls):
            return cls.__name__

        @classmethod
        def double(cls, x):
            return cls.factor * x

    a = A.remote()
    return ray.get([a.name.remote(), a.double.remote(2)])


@table.row("Class attributes are those of the class in the worker.", gives=[1, 2])
def class_attributes_live_in_the_worker(ray):
    @ray.remote
    class A:
        count = 0

        def more(self):
            type(self).count += 1
            return type(self).count

    a = A.remote()
    return ray.get([a.more.remote(), a.more.remote()])


@table.row("A property is read by a method, not through the handle.", gives=11)
def a_property_is_used_inside(ray):
    @ray.remote
    class A:
        @property
        def eleven(self):
            return 11

        def read(self):
            return self.eleven

    return ray.get(A.remote().read.remote())


@table.row("Methods call each other as plain methods.", gives=8)
def methods_call_each_other_plainly(ray):
    @ray.remote
    class A:
        def double(self, x):
            return 2 * x

        def quadruple(self, x):
            return self.double(self.double(x))

    return ray.get(A.remote().quadruple.remote(2))


@table.row("Dunder methods can be called through the handle.", gives=[3, "item 4"])
def special_methods_are_remote_methods(ray):
    @ray.remote
    class A:
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return f"item {i}"

    a = A.remote()
    return ray.get([a.__len__.remote(), a.__getitem__.remote(4)])


@table.row("A class with __call__ is called by its name.", gives=6)
def call_is_a_remote_method(ray):
    @ray.remote
    class A:
        def __call__(self, x):
            return x + 1

    return ray.get(A.remote().__call__.remote(5))


@table.row("@ray.method(num_returns=2).", gives=[1, 2])
def a_method_declares_two_returns(ray):
    @ray.remote
    class A:
        @ray.method(num_returns=2)
        def two(self):
            return 1, 2

    return ray.get(list(A.remote().two.remote()))


@table.row("@ray.method is bare or takes known options.", gives=4)
def a_bare_method_decorator(ray):
    @ray.remote
    class A:
        @ray.method
        def four(self):
            return 4

    return ray.get(A.remote().four.remote())


@table.row(
    "@ray.method with an unknown option.", raises=("ValueError", "AssertionError", "TypeError")
)
def an_unknown_method_option(ray):
    class A:
        @ray.method(no_such_option=2)
        def m(self):
            pass


@table.row("@ray.method(num_returns=0) gives nothing to wait for.", gives=(None, 1))
def a_method_without_returns(ray):
    @ray.remote
    class A:
        value = 0

        @ray.method(num_returns=0)
        def more(self):
            self.value += 1

        def read(self):
            return self.value

    a = A.remote()
    return a.more.remote(), ray.get(a.read.remote())


@table.row("@ray.method marks a method of a plain base class as well.", gives=["a", "b"])
def a_method_decorator_in_a_plain_base(ray):
    class Base:
        @ray.method(num_returns=2)
        def two(self):
            return "a", "b"

    @ray.remote
    class A(Base):
        pass

    return ray.get(list(A.remote().two.remote()))


@table.row("__ray_ready__ is True once constructed.", gives=True)
def ready_is_true_once_constructed(ray):
    @ray.remote
    class A:
        pass

    return ray.get(A.remote().__ray_ready__.remote())


@table.row("__ray_ready__ fails as the constructor failed.", raises="ActorDiedError")
def ready_fails_with_the_constructor(ray):
    @ray.remote
    class A:
        def __init__(self):
            raise ValueError("no")

    ray.get(A.remote().__ray_ready__.remote())


@table.row("__ray_call__(fn, *a) runs fn(self, *a).", gives=[5, 15])
def call_runs_a_function_on_the_instance(ray):
    @ray.remote
    class A:
        def __init__(self):
            self.value = 5

    a = A.remote()

    def add(self, more, times=1):
        self.value += more * times
        return self.value

    return ray.get(
        [a.__ray_call__.remote(lambda self: self.value), a.__ray_call__.remote(add, 5, times=2)]
    )


@table.row(
    "__ray_terminate__ is graceful: after queued work.", gives=([0, 1, 2], "ActorDiedError")
)
def terminate_comes_after_queued_calls(ray):
    @ray.remote
    class A:
        def m(self, i):
            return i

    a = A.remote()
    refs = [a.m.remote(i) for i in range(3)]
    a.__ray_terminate__.remote()
    first = ray.get(refs)
    late = a.m.remote(9)
    return first, error_of(lambda: ray.get(late))


@table.row("__ray_shutdown__ runs on __ray_terminate__.", gives=True)
def the_shutdown_hook_runs_on_terminate(ray, tmp_path):
    from tests.parity.table import count_at, wait_until

    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        def __ray_shutdown__(self):
            tally()

    a = A.remote()
    ray.get(a.__ray_ready__.remote())
    a.__ray_terminate__.remote()
    return wait_until(lambda: count_at(tmp_path / "n") == 1)


@table.row("__ray_shutdown__ runs when the last handle goes.", gives=True)
def the_shutdown_hook_runs_when_the_last_handle_goes(ray, tmp_path):
    from tests.parity.table import count_at, wait_until

    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        def __ray_shutdown__(self):
            tally()

    a = A.remote()
    ray.get(a.__ray_ready__.remote())
    del a
    return wait_until(lambda: count_at(tmp_path / "n") == 1)


@table.row("__ray_shutdown__ does not run on ray.kill.", gives=0)
def the_shutdown_hook_does_not_run_on_kill(ray, tmp_path):
    from tests.parity.table import count_at, is_gone, wait_until

    tally = tally_at(tmp_path / "n")

    @ray.remote
    class A:
        def pid(self):
            import os

            return os.getpid()

        def __ray_shutdown__(self):
            tally()

    a = A.remote()
    pid = ray.get(a.pid.remote())
    ray.kill(a)
    assert wait_until(lambda: is_gone(pid))
    return count_at(tmp_path / "n")


@table.row("Closures over plain values travel with the function.", gives=42)
def closures_over_values(ray):
    factor = 6

    @ray.remote
    def f(x):
        return factor * x

    return ray.get(f.remote(7))


@table.row("Closures over other remote functions work.", gives=9)
def closures_over_remote_functions(ray):
    @ray.remote
    def square(x):
        return x * x

    @ray.remote
    def f(x):
        return ray.get(square.remote(x))

    return ray.get(f.remote(3))


@table.row("A remote function can call itself.", gives=55)
def recursion_through_the_cluster(ray):
    @ray.remote(num_cpus=0.1)
    def fib(n):
        if n < 2:
            return n
        return sum(ray.get([fib.remote(n - 1), fib.remote(n - 2)]))

    def fib_local(n):
        return n if n < 2 else fib_local(n - 1) + fib_local(n - 2)

    assert ray.get(fib.remote(4)) == fib_local(4)
    return fib_local(10)


@table.row("A remote function can be an argument.", gives=8)
def a_remote_function_as_an_argument(ray):
    @ray.remote
    def double(x):
        return 2 * x

    @ray.remote
    def apply(fn, x):
        return ray.get(fn.remote(x))

    return ray.get(apply.remote(double, 4))


@table.row("An actor class can be an argument.", gives="made")
def an_actor_class_as_an_argument(ray):
    @ray.remote
    class A:
        def name(self):
            return "made"

    @ray.remote
    def make(cls):
        return ray.get(cls.remote().name.remote())

    return ray.get(make.remote(A))


@table.row("Dataclasses and enums defined locally travel both ways.", gives=("RED", 3, True))
def local_dataclasses_and_enums(ray):
    class Colour(enum.Enum):
        RED = 1

    @dataclasses.dataclass
    class Point:
        x: int
        colour: Colour

    @ray.remote
    def move(p):
        return Point(p.x + 1, p.colour)

    out = ray.get(move.remote(Point(2, Colour.RED)))
    return out.colour.name, out.x, isinstance(out, Point)


@table.row("Named tuples arrive as named tuples.", gives=(1, "b"))
def named_tuples(ray):
    class Pair(typing.NamedTuple):
        a: int
        b: str

    @ray.remote
    def f(p):
        return p

    out = ray.get(f.remote(Pair(1, "b")))
    return out.a, out.b


@table.row("functools.partial over a remote's body works as an argument.", gives=7)
def partials_as_arguments(ray):
    import functools

    @ray.remote
    def call(fn):
        return fn(4)

    return ray.get(call.remote(functools.partial(lambda a, b: a + b, 3)))


@table.row("A generator method streams.", gives=[0, 1, 2])
def a_generator_method_streams(ray):
    @ray.remote
    class A:
        def count(self, n):
            for i in range(n):
                yield i

    return [ray.get(r) for r in A.remote().count.remote(3)]


@table.row(
    "A remote function is picklable and shared by name of its class.", gives="RemoteFunction"
)
def the_type_of_a_remote_function(ray):
    @ray.remote
    def f():
        pass

    return type(f).__name__


@table.row("The decorator keeps the original function reachable for tests.", gives=5)
def the_plain_function_is_reachable(ray):
    @ray.remote
    def f(x):
        return x + 1

    return f._function(4)


@table.row("A class without a constructor takes no arguments.", raises="TypeError")
def a_class_without_a_constructor(ray):
    @ray.remote
    class A:
        pass

    A.remote(1)


@table.row("repr of a handle names the class.", gives=True)
def the_repr_of_a_handle_names_the_class(ray):
    @ray.remote
    class Nightingale:
        pass

    return "Nightingale" in repr(Nightingale.remote())


test_remote_decorator = table.test()
