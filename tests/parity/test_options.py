"""Options: what they accept, what they refuse, and `.options()` (2.2)."""

from tests.parity.table import Table, error_of

table = Table("2.2 Options")


def refused_by_a_task(ray, **options):
    """What `ray.remote(**options)` on a function raises, at the decorator or at the call."""

    def f():
        return 1

    return error_of(lambda: ray.remote(**options)(f).remote())


def refused_by_an_actor(ray, **options):
    """What `ray.remote(**options)` on a class raises, at the decorator or at creation."""

    class A:
        pass

    return error_of(lambda: ray.remote(**options)(A).remote())


BAD_TASK_OPTIONS = [
    ("no_such_option", 1, "ValueError"),
    ("num_cpus", "1", "TypeError"),
    ("num_cpus", -1, "ValueError"),
    ("num_gpus", "1", "TypeError"),
    ("num_gpus", -1, "ValueError"),
    ("memory", "1", "TypeError"),
    ("memory", -1, "ValueError"),
    ("object_store_memory", -1, "ValueError"),
    ("resources", 1, "TypeError"),
    ("resources", {"CPU": 1}, "ValueError"),
    ("resources", {"GPU": 1}, "ValueError"),
    ("num_returns", -1, "ValueError"),
    ("num_returns", "many", "TypeError"),
    ("num_returns", 1.5, "TypeError"),
    ("max_calls", -1, "ValueError"),
    ("max_calls", 1.5, "TypeError"),
    ("max_retries", -2, "ValueError"),
    ("max_retries", "3", "TypeError"),
    ("retry_exceptions", 1, "TypeError"),
    ("retry_exceptions", [1], "ValueError"),
    ("retry_exceptions", ["ValueError"], "ValueError"),
    ("name", 1, "TypeError"),
    ("accelerator_type", 1, "TypeError"),
    ("scheduling_strategy", "NO_SUCH", "ValueError"),
    ("scheduling_strategy", 1, "TypeError"),
    ("runtime_env", 1, "TypeError"),
    ("runtime_env", {"no_such_field": 1}, "none"),
    ("label_selector", 1, "TypeError"),
    ("label_selector", {"k": 1}, "TypeError"),
    ("enable_task_events", 1, "TypeError"),
    ("max_restarts", 1, "ValueError"),
    ("max_concurrency", 1, "ValueError"),
    ("lifetime", "detached", "ValueError"),
    ("max_task_retries", 1, "ValueError"),
    ("max_pending_calls", 1, "ValueError"),
    ("namespace", "x", "ValueError"),
    ("get_if_exists", True, "ValueError"),
    ("_generator_backpressure_num_objects", 0, "ValueError"),
]

BAD_ACTOR_OPTIONS = [
    ("no_such_option", 1, "ValueError"),
    ("num_cpus", "1", "TypeError"),
    ("num_cpus", -1, "ValueError"),
    ("num_gpus", "1", "TypeError"),
    ("memory", -1, "ValueError"),
    ("resources", 1, "TypeError"),
    ("resources", {"CPU": 1}, "ValueError"),
    ("num_returns", 2, "ValueError"),
    ("max_calls", 1, "ValueError"),
    ("max_retries", 1, "ValueError"),
    ("retry_exceptions", True, "ValueError"),
    ("concurrency_groups", 1, "TypeError"),
    ("lifetime", "forever", "ValueError"),
    ("lifetime", 1, "TypeError"),
    ("max_concurrency", 0, "ValueError", "zactor"),
    ("max_concurrency", "2", "TypeError"),
    ("max_restarts", -2, "ValueError"),
    ("max_restarts", "1", "TypeError"),
    ("max_task_retries", -2, "ValueError"),
    ("max_task_retries", "1", "TypeError"),
    ("max_pending_calls", 0, "ValueError", "zactor"),
    ("max_pending_calls", "1", "TypeError"),
    ("name", 1, "TypeError"),
    ("name", "", "ValueError"),
    ("namespace", 1, "TypeError"),
    ("namespace", "", "ValueError"),
    ("get_if_exists", True, "ValueError"),
    ("get_if_exists", 1, "TypeError"),
    ("scheduling_strategy", "NO_SUCH", "ValueError"),
    ("allow_out_of_order_execution", 1, "TypeError"),
    ("enable_task_events", 1, "TypeError"),
]


def enter_bad_options():
    for kind, refused, rows in (
        ("task", refused_by_a_task, BAD_TASK_OPTIONS),
        ("actor", refused_by_an_actor, BAD_ACTOR_OPTIONS),
    ):
        for option, value, error, *only in rows:

            def program(ray, refused=refused, option=option, value=value):
                return refused(ray, **{option: value})

            text = "".join(c if c.isalnum() else "_" for c in str(value))
            program.__name__ = f"{kind}_{option}_{text}"
            # The default arguments are not for the table to fill in.
            program.__signature__ = one_argument(program)
            rule = (
                "Unknown option: ValueError; wrong type: TypeError; out of range: ValueError."
            )
            table.row(rule, gives=error, only=only[0] if only else None)(program)


def one_argument(program):
    import inspect

    signature = inspect.signature(program)
    return signature.replace(parameters=list(signature.parameters.values())[:1])


enter_bad_options()


@table.row(".options() refuses what the decorator refuses.", gives=["ValueError", "TypeError"])
def options_are_checked_on_a_function(ray):
    @ray.remote
    def f():
        pass

    return [
        error_of(lambda: f.options(no_such_option=1).remote()),
        error_of(lambda: f.options(num_cpus="1").remote()),
    ]


@table.row(".options() refuses what the decorator refuses.", gives=["ValueError", "TypeError"])
def options_are_checked_on_a_class(ray):
    @ray.remote
    class A:
        pass

    return [
        error_of(lambda: A.options(no_such_option=1).remote()),
        error_of(lambda: A.options(max_restarts="1").remote()),
    ]


@table.row("max_calls: decorator only.", raises="ValueError")
def max_calls_is_not_for_options(ray):
    @ray.remote
    def f():
        pass

    f.options(max_calls=1).remote()


@table.row("concurrency_groups: decorator only.", raises="ValueError")
def concurrency_groups_are_not_for_options(ray):
    @ray.remote
    class A:
        pass

    A.options(concurrency_groups={"io": 1}).remote()


@table.row(".options(): a new object, does not mutate.", gives=(1, 2, 1))
def options_do_not_change_the_function(ray):
    @ray.remote
    def f():
        return 1, 2

    two = f.options(num_returns=2)
    before = len(ray.get([f.remote()]))
    refs = two.remote()
    return before, len(refs), len(ray.get([f.remote()]))


@table.row(".options(name=) names one actor; the class stays as it was.", gives=(True, None))
def options_do_not_change_the_class(ray):
    @ray.remote
    class A:
        def name(self):
            return ray.get_runtime_context().get_actor_name()

    named = A.options(name="options-once").remote()
    plain = A.remote()
    return ray.get(named.name.remote()) == "options-once", ray.get(plain.name.remote()) or None


@table.row("num_returns: a tuple of refs, one each.", gives=[1, 2, 3])
def three_returns_are_three_refs(ray):
    @ray.remote(num_returns=3)
    def f():
        return 1, 2, 3

    a, b, c = f.remote()
    return ray.get([a, b, c])


@table.row("num_returns=0 returns None.", gives=None)
def no_returns(ray):
    @ray.remote(num_returns=0)
    def f():
        return None

    return f.remote()


@table.row("num_returns=1 gives the value as it is.", gives=(1, 2))
def one_return_of_a_tuple(ray):
    @ray.remote(num_returns=1)
    def f():
        return 1, 2

    return ray.get(f.remote())


@table.row("num_returns by options.", gives=[1, 2])
def returns_by_options(ray):
    @ray.remote
    def f():
        return [1, 2]

    return ray.get(list(f.options(num_returns=2).remote()))


@table.row(
    "Too few values for num_returns: every ref raises ValueError.", gives=["ValueError"] * 2
)
def too_few_values(ray):
    @ray.remote(num_returns=2, max_retries=0)
    def f():
        return (1,)

    def kind(ref):
        try:
            ray.get(ref)
        except ValueError:
            return "ValueError"

    return [kind(r) for r in f.remote()]


@table.row("A single value for num_returns=2 is an error.", gives=True)
def one_value_for_two_returns(ray):
    @ray.remote(num_returns=2)
    def f():
        return 1

    a, _ = f.remote()
    return error_of(lambda: ray.get(a)) != "none"


@table.row("num_returns by .options() on a method.", gives=["x", "y"])
def method_options_set_returns(ray):
    @ray.remote
    class A:
        def two(self):
            return "x", "y"

    a = A.remote()
    return ray.get(list(a.two.options(num_returns=2).remote()))


@table.row("An unknown option of a method call: TypeError.", raises="TypeError")
def method_options_are_checked(ray):
    @ray.remote
    class A:
        def m(self):
            return 1

    A.remote().m.options(no_such_option=1).remote()


@table.row(
    "A concurrency group the class does not declare: ValueError (Ray's actor crashes).",
    raises="ValueError",
    only="zactor",
)
def an_undeclared_concurrency_group(ray):
    @ray.remote
    class A:
        def m(self):
            return 1

    ray.get(A.remote().m.options(concurrency_group="none-such").remote())


@table.row("max_calls=1: a fresh worker for each run.", gives=2)
def max_calls_one_takes_a_new_worker_each_time(ray):
    @ray.remote(max_calls=1)
    def pid():
        import os

        return os.getpid()

    return len({ray.get(pid.remote()), ray.get(pid.remote())})


@table.row("Fractional resources to 0.0001.", gives=1)
def small_fractions_are_resources(ray):
    @ray.remote(num_cpus=0.0001, resources={"widget": 0.0001})
    def f():
        return 1

    return ray.get(f.remote())


@table.row("num_cpus=0 takes no processor.", gives=0.0)
def no_processor_is_taken(ray):
    @ray.remote(num_cpus=0)
    def f():
        return ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0)

    return ray.get(f.remote())


@table.row("Task: num_cpus=1 by default.", gives=1.0)
def a_task_takes_one_processor(ray):
    @ray.remote
    def f():
        return ray.get_runtime_context().get_assigned_resources().get("CPU")

    return ray.get(f.remote())


@table.row("Actor: 0 while running by default.", gives=0.0)
def an_actor_takes_no_processor_by_default(ray):
    @ray.remote
    class A:
        def cpus(self):
            return ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0)

    return ray.get(A.remote().cpus.remote())


@table.row(
    "If any resource is given, all are held for life.", gives={"CPU": 2.0, "widget": 1.0}
)
def an_actor_holds_what_it_asked_for(ray):
    @ray.remote(num_cpus=2, resources={"widget": 1})
    class A:
        def resources(self):
            return ray.get_runtime_context().get_assigned_resources()

    return ray.get(A.remote().resources.remote())


@table.row("Custom resources bound how many run at once.", gives=1)
def custom_resources_bound_parallelism(ray, tmp_path):
    path = str(tmp_path / "running")

    @ray.remote(num_cpus=0, resources={"widget": 2})
    def alone():
        import os
        import time

        fd = os.open(path, os.O_CREAT | os.O_EXCL)
        time.sleep(0.05)
        os.close(fd)
        os.unlink(path)
        return 1

    return max(ray.get([alone.remote() for _ in range(4)]))


@table.row("runtime_env env_vars reach a task.", gives="hello")
def environment_variables_of_a_task(ray):
    @ray.remote(runtime_env={"env_vars": {"PARITY_VARIABLE": "hello"}})
    def f():
        import os

        return os.environ["PARITY_VARIABLE"]

    return ray.get(f.remote())


@table.row("runtime_env env_vars reach an actor, and no other.", gives=["hello", None])
def environment_variables_of_an_actor(ray):
    @ray.remote
    class A:
        def read(self):
            import os

            return os.environ.get("PARITY_VARIABLE_2")

    env = {"env_vars": {"PARITY_VARIABLE_2": "hello"}}
    a, b = A.options(runtime_env=env).remote(), A.remote()
    return ray.get([a.read.remote(), b.read.remote()])


@table.row("env_vars values are strings.", gives="TypeError")
def environment_variables_are_strings(ray):
    return refused_by_a_task(ray, runtime_env={"env_vars": {"A": 1}})


@table.row("lifetime: None and non_detached are one.", gives=1)
def a_lifetime_of_non_detached(ray):
    @ray.remote(lifetime="non_detached")
    class A:
        def m(self):
            return 1

    return ray.get(A.remote().m.remote())


@table.row(
    "allow_out_of_order_execution=False on an async actor: ValueError.", raises="ValueError"
)
def order_cannot_be_asked_of_an_async_actor(ray):
    @ray.remote(allow_out_of_order_execution=False)
    class A:
        async def m(self):
            return 1

    A.remote()


@table.row("allow_out_of_order_execution=False on a threaded actor.", raises="ValueError")
def order_cannot_be_asked_of_a_threaded_actor(ray):
    @ray.remote(allow_out_of_order_execution=False, max_concurrency=2)
    class A:
        def m(self):
            return 1

    A.remote()


@table.row("allow_out_of_order_execution=True on a plain actor is taken.", gives=[0, 1, 2])
def order_can_be_given_up(ray):
    @ray.remote(allow_out_of_order_execution=True)
    class A:
        def m(self, i):
            return i

    a = A.remote()
    return ray.get([a.m.remote(i) for i in range(3)])


@table.row("scheduling_strategy DEFAULT and SPREAD.", gives=[1, 1, 1])
def named_scheduling_strategies(ray):
    @ray.remote
    def f():
        return 1

    names = [None, "DEFAULT", "SPREAD"]
    return ray.get([f.options(scheduling_strategy=n).remote() for n in names])


@table.row("label_selector picks nodes by label.", gives=1)
def a_label_selector_that_fits(ray):
    @ray.remote(label_selector={"zone": "north"})
    def f():
        return 1

    return ray.get(f.remote())


@table.row("label_selector: in(), !in() and ! are understood.", gives=[1, 1, 1])
def label_selector_operators(ray):
    @ray.remote
    def f():
        return 1

    texts = ["in(north, south)", "!in(east)", "!south"]
    refs = [f.options(label_selector={"zone": text}).remote() for text in texts]
    return ray.get(refs, timeout=20)


@table.row("A label nobody has: the task waits.", raises="GetTimeoutError")
def a_label_selector_nobody_fits(ray):
    @ray.remote(label_selector={"zone": "south"})
    def f():
        return 1

    ref = f.remote()
    try:
        return ray.get(ref, timeout=1)
    finally:
        ray.cancel(ref)


@table.row("A resource nobody has: the task waits.", raises="GetTimeoutError")
def a_resource_nobody_has(ray):
    @ray.remote(resources={"unobtainable": 1})
    def f():
        return 1

    ref = f.remote()
    try:
        return ray.get(ref, timeout=1)
    finally:
        ray.cancel(ref)


@table.row("A name of a task shows in its context.", gives="my-task")
def a_task_can_be_named(ray):
    @ray.remote
    def f():
        return ray.get_runtime_context().get_task_name()

    return ray.get(f.options(name="my-task").remote())


@table.row("max_pending_calls: over it, PendingCallsLimitExceeded at submit.", gives=(2, True))
def pending_calls_are_bounded(ray, tmp_path):
    from tests.parity.table import gate_at

    gate = gate_at(tmp_path / "open")

    @ray.remote(max_pending_calls=2)
    class A:
        def wait(self):
            gate()
            return 1

    a = A.remote()
    ray.get(a.__ray_ready__.remote())
    refs = [a.wait.remote() for _ in range(2)]
    refused = error_of(a.wait.remote) == "PendingCallsLimitExceeded"
    (tmp_path / "open").touch()
    return sum(ray.get(refs)), refused


@table.row("max_pending_calls is counted per handle.", gives=[1, 1, 1])
def pending_calls_are_counted_per_handle(ray, tmp_path):
    from tests.parity.table import gate_at

    gate = gate_at(tmp_path / "open")

    @ray.remote(max_pending_calls=2)
    class A:
        def wait(self):
            gate()
            return 1

    @ray.remote
    class B:
        def __init__(self, a):
            self.a = a

        def call(self):
            self.ref = self.a.wait.remote()
            return "sent"

        def result(self):
            return ray.get(self.ref)

    a = A.remote()
    ray.get(a.__ray_ready__.remote())
    b = B.remote(a)
    refs = [a.wait.remote() for _ in range(2)]
    assert ray.get(b.call.remote()) == "sent"
    (tmp_path / "open").touch()
    return ray.get([*refs, b.result.remote()])


@table.row("Name taken: ActorAlreadyExistsError, a ValueError.", gives=(True, True))
def a_name_is_taken_once(ray):
    @ray.remote
    class A:
        pass

    first = A.options(name="options-taken").remote()
    try:
        A.options(name="options-taken").remote()
    except ValueError as error:
        return type(error).__name__ == "ActorAlreadyExistsError", first is not None


@table.row("get_if_exists: args ignored if it exists.", gives=[1, 1, True])
def get_if_exists_gives_the_first(ray):
    @ray.remote
    class A:
        def __init__(self, value):
            self.value = value

        def read(self):
            return self.value

    a = A.options(name="options-once-only", get_if_exists=True).remote(1)
    b = A.options(name="options-once-only", get_if_exists=True).remote(2)
    return [ray.get(a.read.remote()), ray.get(b.read.remote()), a == b]


@table.row("Precedence of max_task_retries: call > method > options > class.", gives=[3, 2, 1])
def the_nearest_retry_option_wins(ray, tmp_path):
    from tests.parity.table import count_at, tally_at

    paths = [tmp_path / "call", tmp_path / "method", tmp_path / "options"]
    tallies = [tally_at(path) for path in paths]

    @ray.remote(max_task_retries=5)
    class A:
        @ray.method(max_task_retries=1, retry_exceptions=True)
        def declared(self, which):
            tallies[which]()
            raise ValueError

        @ray.method(retry_exceptions=True)
        def plain(self, which):
            tallies[which]()
            raise ValueError

    a = A.options(max_task_retries=0).remote()
    calls = [
        a.declared.options(max_task_retries=2).remote(0),
        a.declared.remote(1),
        a.plain.remote(2),
    ]
    for ref in calls:
        error_of(lambda ref=ref: ray.get(ref))
    return [count_at(path) for path in paths]


@table.row("fallback_strategy is a list of alternatives.", gives=1)
def a_fallback_strategy(ray):
    @ray.remote(
        label_selector={"zone": "south"},
        fallback_strategy=[{"label_selector": {"zone": "north"}}],
    )
    def f():
        return 1

    return ray.get(f.remote(), timeout=20)


@table.row("What counts take, in words that programs look for.", gives=[True] * 3)
def words_about_counts(ray):
    def f():
        pass

    class A:
        pass

    def said(make):
        try:
            make()
        except ValueError as error:
            return str(error)

    endless = "only accepts None, 0, -1 or a positive integer, where -1 represents infinity"
    return [
        "only accepts None, 0 or a positive integer"
        in said(lambda: ray.remote(max_calls=-1)(f)),
        endless in said(lambda: ray.remote(max_retries=-2)(f)),
        endless in said(lambda: ray.remote(max_restarts=-2)(A)),
    ]


test_options = table.test()
