"""The errors: their tree, their texts, and how a user's own travel (2.9)."""

import pickle

from tests.parity.table import SUBJECT, Table, error_named, error_of

table = Table("2.9 Exceptions")

# Each error and what it is a kind of, by Ray's names.
TREE = [
    ("RayError", "Exception"),
    ("RayTaskError", "RayError"),
    ("TaskCancelledError", "RayError"),
    ("WorkerCrashedError", "RayError"),
    ("RayActorError", "RayError"),
    ("ActorDiedError", "RayActorError"),
    ("ActorUnavailableError", "RayActorError"),
    ("RaySystemError", "RayError"),
    ("ObjectStoreFullError", "RayError"),
    ("OutOfDiskError", "RayError"),
    ("OutOfMemoryError", "RayError"),
    ("NodeDiedError", "RayError"),
    ("ObjectLostError", "RayError"),
    ("ObjectFetchTimedOutError", "ObjectLostError"),
    ("ReferenceCountingAssertionError", "ObjectLostError"),
    ("ObjectFreedError", "ObjectLostError"),
    ("OwnerDiedError", "ObjectLostError"),
    ("ObjectReconstructionFailedError", "ObjectLostError"),
    ("GetTimeoutError", "RayError"),
    ("GetTimeoutError", "TimeoutError"),
    ("RuntimeEnvSetupError", "RayError"),
    ("TaskPlacementGroupRemoved", "RayError"),
    ("ActorPlacementGroupRemoved", "RayError"),
    ("PendingCallsLimitExceeded", "RayError"),
    ("TaskUnschedulableError", "RayError"),
    ("ActorUnschedulableError", "RayError"),
    ("ObjectRefStreamEndOfStreamError", "RayError"),
    ("StreamingGeneratorReplayInconsistentError", "RayError"),
    ("ActorAlreadyExistsError", "ValueError"),
    ("ActorAlreadyExistsError", "RayError"),
    ("ActorHandleNotFoundError", "RayError"),
    ("AsyncioActorExit", "RayError"),
    ("UnserializableException", "RayError"),
    ("OufOfBandObjectRefSerializationException", "RayError"),
]


def enter_tree():
    for name, parent in TREE:

        def make(name=name, parent=parent):
            def program(ray):
                return issubclass(error_named(ray, name), error_named(ray, parent))

            return program

        program = make()
        program.__name__ = f"{name}_is_a_{parent}"
        table.row("The tree of exceptions.", gives=True)(program)


enter_tree()


@table.row("zactor's names are the same classes as Ray's.", gives=[True] * 4, only="zactor")
def the_two_names_of_an_error(ray):
    e = ray.exceptions
    return [
        e.ZactorError is e.RayError,
        e.TaskError is e.RayTaskError,
        e.ActorError is e.RayActorError,
        issubclass(e.DeadlockError, e.ZactorError),
    ]


@table.row("A user exception is a subclass of both.", gives=(True, True))
def of_both_classes(ray):
    class Own(Exception):
        pass

    @ray.remote
    def f():
        raise Own("text")

    try:
        ray.get(f.remote())
    except Own as error:
        return isinstance(error, ray.exceptions.RayTaskError), isinstance(error, Own)


@table.row("... with .cause, the original.", gives=("ValueError", ("a", 1)))
def the_cause_is_the_original(ray):
    @ray.remote
    def f():
        raise ValueError("a", 1)

    try:
        ray.get(f.remote())
    except ray.exceptions.RayTaskError as error:
        return type(error.cause).__name__, error.cause.args


@table.row(
    "Caught as the user's class, its args are the user's (Ray: the cause alone).",
    gives=[("x", 2), ("x", 2)],
    only="zactor",
)
def the_args_of_an_error(ray):
    @ray.remote
    def f():
        raise ValueError("x", 2)

    try:
        ray.get(f.remote())
    except ValueError as error:
        return [error.args, error.cause.args]


@table.row("The remote traceback is in the text.", gives=[True, True, True])
def the_text_has_the_remote_traceback(ray):
    @ray.remote
    def outer_name():
        def inner_name():
            raise ValueError("what happened")

        inner_name()

    try:
        ray.get(outer_name.remote())
    except ValueError as error:
        return [part in str(error) for part in ("inner_name", "what happened", "ValueError")]


@table.row("Attributes of the user's exception are there.", gives=(404, "not found"))
def attributes_of_the_exception(ray):
    class HttpError(Exception):
        def __init__(self, code, text):
            super().__init__(code, text)
            self.code, self.text = code, text

    @ray.remote
    def f():
        raise HttpError(404, "not found")

    try:
        ray.get(f.remote())
    except HttpError as error:
        return error.code, error.text


@table.row("args of the user's exception are there.", gives=("k",))
def args_of_the_exception(ray):
    @ray.remote
    def f():
        raise KeyError("k")

    try:
        ray.get(f.remote())
    except KeyError as error:
        return error.cause.args


@table.row("A hierarchy of the user's own classes is caught by its base.", gives="base")
def a_users_hierarchy(ray):
    class Base(Exception):
        pass

    class Derived(Base):
        pass

    @ray.remote
    class A:
        def m(self):
            raise Derived("text")

    try:
        ray.get(A.remote().m.remote())
    except Base:
        return "base"


@table.row("An exception that needs constructor arguments travels.", gives=True)
def an_exception_with_an_odd_constructor(ray):
    class Odd(Exception):
        def __init__(self, a, *, b):
            super().__init__(f"{a} and {b}")

    @ray.remote
    def f():
        raise Odd(1, b=2)

    try:
        ray.get(f.remote())
    except Exception as error:
        return isinstance(error, ray.exceptions.RayError) and "1 and 2" in str(error)


@table.row("An exception that cannot be pickled is still told.", gives=True)
def an_unpicklable_exception(ray):
    class Bad(Exception):
        def __init__(self, text):
            super().__init__(text)
            import threading

            self.lock = threading.Lock()

    @ray.remote
    def f():
        raise Bad("told anyway")

    try:
        ray.get(f.remote())
    except Exception as error:
        return isinstance(error, ray.exceptions.RayError) and "told anyway" in str(error)


@table.row("raise ... from ...: the text names both.", gives=[True, True])
def a_chained_exception(ray):
    @ray.remote
    def f():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    try:
        ray.get(f.remote())
    except ValueError as error:
        return ["first" in str(error), "second" in str(error)]


@table.row("Through nested tasks the class stays.", raises="ZeroDivisionError")
def an_exception_through_nested_tasks(ray):
    @ray.remote
    def inner():
        return 1 / 0

    @ray.remote
    def outer():
        return ray.get(inner.remote())

    ray.get(outer.remote())


@table.row("Through nested tasks both functions are in the text.", gives=[True, True])
def the_text_of_nested_tasks(ray):
    @ray.remote
    def inner_one():
        return 1 / 0

    @ray.remote
    def outer_one():
        return ray.get(inner_one.remote())

    try:
        ray.get(outer_one.remote())
    except ZeroDivisionError as error:
        return ["inner_one" in str(error), "outer_one" in str(error)]


@table.row("Caught inside the outer task as the user's class.", gives="caught")
def an_exception_caught_remotely(ray):
    @ray.remote
    def inner():
        raise ValueError

    @ray.remote
    def outer():
        try:
            ray.get(inner.remote())
        except ValueError:
            return "caught"

    return ray.get(outer.remote())


@table.row("Each get raises it anew.", gives=["ValueError"] * 2)
def an_exception_raised_twice(ray):
    @ray.remote
    def f():
        raise ValueError

    ref = f.remote()
    return [error_of(lambda: ray.get(ref)) for _ in range(2)]


@table.row("An exception returned is a value, not an error.", gives=("ValueError", ("x",)))
def an_exception_returned(ray):
    @ray.remote
    def f():
        return ValueError("x")

    out = ray.get(f.remote())
    return type(out).__name__, out.args


@table.row("An exception put is a value, not an error.", gives="KeyError")
def an_exception_put(ray):
    return type(ray.get(ray.put(KeyError("x")))).__name__


@table.row("StopIteration raised by a function is an error.", gives=True)
def stop_iteration_as_an_error(ray):
    @ray.remote
    def f():
        raise StopIteration

    return error_of(lambda: ray.get(f.remote())) != "none"


@table.row("AssertionError, with its text.", raises="AssertionError", match="one is not two")
def an_assertion(ray):
    @ray.remote
    def f():
        assert 1 == 2, "one is not two"

    ray.get(f.remote())


@table.row("ExceptionGroup travels.", gives=True)
def an_exception_group(ray):
    @ray.remote
    def f():
        raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])

    try:
        ray.get(f.remote())
    except Exception as error:
        return isinstance(error, ray.exceptions.RayTaskError) and "several" in str(error)


@table.row("The repr of an actor is in the error's text.", gives=True)
def the_repr_of_an_actor(ray):
    @ray.remote
    class A:
        def __repr__(self):
            return "Nightingale(7)"

        def bad(self):
            raise ValueError

    try:
        ray.get(A.remote().bad.remote())
    except ValueError as error:
        return "Nightingale(7)" in str(error)


@table.row("The text names the function that failed and its process.", gives=[True, True])
def the_text_names_where(ray):
    @ray.remote
    def special_name():
        raise ValueError

    try:
        ray.get(special_name.remote())
    except ValueError as error:
        return ["special_name" in str(error), "pid=" in str(error)]


@table.row("A TaskError pickles and is of both classes again.", gives=[True, True])
def a_task_error_pickles(ray):
    @ray.remote
    def f():
        raise ValueError("x")

    try:
        ray.get(f.remote())
    except ValueError as error:
        again = pickle.loads(ray.cloudpickle.dumps(error))
        return [isinstance(again, ValueError), isinstance(again, ray.exceptions.RayTaskError)]


@table.row("A TaskError can be passed on as an argument.", gives="ValueError")
def a_task_error_as_an_argument(ray):
    @ray.remote
    def f():
        raise ValueError("x")

    @ray.remote
    def kind(errors):
        return type(errors[0].cause).__name__

    try:
        ray.get(f.remote())
    except ValueError as error:
        return ray.get(kind.remote([error]))


@table.row("Re-raised by a caller's own task, the class stays.", raises="KeyError")
def an_error_reraised(ray):
    @ray.remote
    def f():
        raise KeyError("x")

    @ray.remote
    def g():
        try:
            ray.get(f.remote())
        except KeyError as error:
            raise error

    ray.get(g.remote())


@table.row("ActorDiedError pickles.", gives=True)
def a_dead_actors_error_pickles(ray):
    import os

    @ray.remote
    class A:
        def die(self):
            os._exit(1)

    try:
        ray.get(A.remote().die.remote())
    except ray.exceptions.ActorDiedError as error:
        again = pickle.loads(pickle.dumps(error))
        return isinstance(again, ray.exceptions.ActorDiedError)


@table.row("A dead actor's error names its class.", gives=True)
def a_dead_actors_error_names_its_class(ray):
    import os

    @ray.remote
    class Nightingale:
        def die(self):
            os._exit(1)

    try:
        ray.get(Nightingale.remote().die.remote())
    except ray.exceptions.ActorDiedError as error:
        return "Nightingale" in str(error)


@table.row("PendingCallsLimitExceeded at submit is catchable as a RayError.", gives=True)
def too_many_pending_calls(ray):
    e = ray.exceptions
    return issubclass(e.PendingCallsLimitExceeded, e.RayError) and SUBJECT in {"ray", "zactor"}


@table.row(
    "An infeasible actor's calls wait; a bounded get times out.", raises="GetTimeoutError"
)
def an_actor_nobody_can_place(ray):
    @ray.remote(resources={"unobtainable": 1})
    class A:
        def m(self):
            return 1

    ray.get(A.remote().m.remote(), timeout=1)


FAILED_ARGUMENT = "At least one of the input arguments for this task could not be computed"


@table.row(
    "A call whose argument failed raises an error of its own, which is of the first one's class.",
    gives=("ValueError", True, True, ["outermost", "middle", "first"]),
)
def a_failed_argument_of_a_call(ray):
    @ray.remote
    def first():
        raise ValueError("why")

    @ray.remote
    def middle(value):
        return value

    @ray.remote
    def outermost(value):
        return value

    try:
        ray.get(outermost.remote(middle.remote(first.remote())))
    except ValueError as error:
        text = str(error)
        names = sorted(
            ("first", "middle", "outermost"), key=lambda name: text.index(f"::{name}()")
        )
        return (
            type(error.cause).__name__,
            isinstance(error, ray.exceptions.RayTaskError),
            text.count(FAILED_ARGUMENT) == 2,
            names,
        )


@table.row(
    "An argument that was lost with its actor makes a task's error of the actor's.",
    gives=(True, True, "ActorDiedError", True),
)
def an_argument_lost_with_its_actor(ray):
    @ray.remote
    class A:
        def m(self):
            return 1

    @ray.remote
    def dependent(value):
        return value

    actor = A.remote()
    ray.kill(actor)
    try:
        ray.get(dependent.remote(actor.m.remote()))
    except ray.exceptions.RayActorError as error:
        return (
            isinstance(error, ray.exceptions.ActorDiedError),
            isinstance(error, ray.exceptions.RayTaskError),
            type(error.cause).__name__,
            FAILED_ARGUMENT in str(error),
        )


@table.row(
    "An argument that was cancelled makes a task's error of the cancellation.",
    gives=(True, "TaskCancelledError"),
)
def an_argument_that_was_cancelled(ray):
    @ray.remote(num_cpus=10_000)
    def never():
        return 1

    @ray.remote
    def dependent(value):
        return value

    argument = never.remote()
    result = dependent.remote(argument)
    ray.cancel(argument)
    try:
        ray.get(result)
    except ray.exceptions.TaskCancelledError as error:
        return isinstance(error, ray.exceptions.RayTaskError), type(error.cause).__name__


@table.row(
    "A failed argument of a constructor is an error of the constructor.",
    gives=[("ActorDiedError", True, True)] * 2,
)
def a_failed_argument_of_a_constructor(ray):
    @ray.remote
    def bad():
        raise ValueError("why")

    @ray.remote
    class Constructed:
        def __init__(self, value):
            self.value = value

        def m(self):
            return 1

    outcomes = []
    for options in {}, {"name": "constructed of nothing"}:
        try:
            ray.get(Constructed.options(**options).remote(bad.remote()).m.remote())
        except ray.exceptions.ActorDiedError as error:
            text = str(error)
            outcomes.append(
                (
                    type(error).__name__,
                    "Constructed.__init__" in text and FAILED_ARGUMENT in text,
                    "ValueError: why" in text,
                )
            )
    return outcomes


@table.row("get_if_exists ignores the arguments, failed ones too, if it exists.", gives=5)
def failed_arguments_of_one_that_exists(ray):
    @ray.remote
    def bad():
        raise ValueError("why")

    @ray.remote
    class Kept:
        def __init__(self, value):
            self.value = value

        def m(self):
            return self.value

    options = {"name": "kept with its value", "get_if_exists": True}
    kept = Kept.options(**options).remote(5)
    ray.get(kept.m.remote())
    return ray.get(Kept.options(**options).remote(bad.remote()).m.remote())


@table.row("A generator whose argument failed yields that error alone.", gives=[True])
def a_failed_argument_of_a_generator(ray):
    @ray.remote
    def bad():
        raise ValueError("why")

    @ray.remote
    def some(value):
        yield value

    found = []
    for ref in some.remote(bad.remote()):
        try:
            ray.get(ref)
        except ValueError as error:
            found.append("some()" in str(error) and FAILED_ARGUMENT in str(error))
    return found


@table.row(
    "A result that cannot be pickled is an error of the task, and a TypeError.",
    gives=[(True, True, True)] * 6,
)
def results_that_cannot_be_pickled(ray):
    import threading

    @ray.remote
    def one():
        return threading.Lock()

    @ray.remote(num_returns=2)
    def two():
        return 1, threading.Lock()

    @ray.remote
    def some():
        yield threading.Lock()

    @ray.remote
    class Plain:
        def m(self):
            return threading.Lock()

    @ray.remote
    class Async:
        async def m(self):
            return threading.Lock()

        async def some(self):
            yield threading.Lock()

    plain, other = Plain.remote(), Async.remote()
    refs = [one.remote(), two.remote()[1], next(some.remote())]
    refs += [plain.m.remote(), other.m.remote(), next(other.some.remote())]
    found = []
    for ref in refs:
        try:
            ray.get(ref)
        except TypeError as error:
            is_task_error = isinstance(error, ray.exceptions.RayTaskError)
            found.append(
                (is_task_error, isinstance(error.cause, TypeError), "serialize" in str(error))
            )
    return found


@table.row("One of Ray's own errors, raised by a generator, is a task's.", gives=[True, True])
def an_error_of_rays_in_a_generator(ray):
    @ray.remote
    def some():
        yield 1
        raise ray.exceptions.GetTimeoutError("late")

    @ray.remote
    class Async:
        async def some(self):
            yield 1
            raise ray.exceptions.GetTimeoutError("late")

    actor = Async.remote()
    found = []
    for items in some.remote(), actor.some.remote():
        try:
            ray.get(list(items))
        except ray.exceptions.GetTimeoutError as error:
            found.append(isinstance(error, ray.exceptions.RayTaskError))
    return found


@table.row(
    "The error of a call whose argument failed says that it was not run.",
    gives=("no", "no", "yes"), only="zactor",
)  # fmt: skip
def a_call_with_a_failed_argument_was_not_run(ray):
    @ray.remote(max_retries=0)
    def bad(how):
        import os

        if how == "crash":
            os._exit(1)
        raise ValueError("why")

    @ray.remote
    def dependent(value):
        return value

    found = []
    for ref in (
        dependent.remote(bad.remote("")),
        dependent.remote(bad.remote("crash")),
        bad.remote(""),
    ):
        try:
            ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            found.append(error.executed)
    return tuple(found)


test_exceptions = table.test()
