"""Every error: that it pickles, crosses the wire, and says what a user has to know."""

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from zactor import exceptions
from zactor.exceptions import (
    ActorAlreadyExistsError,
    ActorDiedError,
    ActorError,
    ActorUnavailableError,
    DeadlockError,
    GetTimeoutError,
    InternalError,
    ObjectReconstructionFailedError,
    TaskCancelledError,
    TaskError,
    WorkerCrashedError,
    ZactorError,
    ZactorSystemError,
    from_wire,
    to_wire,
)
from zactor.exceptions.wire import CLASSES

ALL = list(CLASSES.values())
TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\nValueError: boom'


def sample(default: Any) -> Any:
    """Return a value of the field's kind that differs from its default."""
    if default in ("no", "yes", "unknown"):
        return "yes" if default == "no" else "no"
    kinds: list[tuple[type, Any]] = [
        (bool, True), (int, 7), (float, 0.5), (str, "text"), (tuple, ("a", "b"))
    ]  # fmt: skip
    return next((value for kind, value in kinds if isinstance(default, kind)), None)


def filled(cls: type[ZactorError]) -> ZactorError:
    fields = {name: sample(default) for name, default in cls._fields.items()}
    if cls is TaskError:
        fields.pop("executed")
        fields["cause"] = ValueError("boom")
        return TaskError(**fields)
    return cls("what happened", **fields)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_every_error_pickles_and_copies_with_its_fields(cls, again):  # X1
    error = filled(cls)
    error.add_note("a note")
    error.extra = [1]

    back = again(error)

    assert type(back) is cls
    assert str(back) == str(error)
    assert back.__notes__ == ["a note"]
    assert back.extra == [1]
    for name in cls._fields:
        assert repr(getattr(back, name)) == repr(getattr(error, name))


@pytest.mark.parametrize("cls", ALL)
def test_every_error_pickles_empty(cls):
    back = pickle.loads(pickle.dumps(cls()))
    assert type(back) is cls
    assert str(back) == str(cls())


@pytest.mark.parametrize("cls", CLASSES.values())
def test_every_error_crosses_the_wire(cls):  # X2
    import msgpack

    error = filled(cls)
    kind, text, fields = msgpack.unpackb(msgpack.packb(to_wire(error)))

    back = from_wire([kind, text, fields])

    assert type(back) is cls
    for name in cls._fields:
        if name != "cause":
            assert getattr(back, name) == getattr(error, name)
    assert back.message == error.message


@pytest.mark.parametrize("cls", ALL)
def test_every_error_has_a_docstring_and_comes_from_the_public_module(cls):
    assert cls.__doc__
    assert cls.__module__ == "zactor.exceptions"
    assert getattr(exceptions, cls.__name__) is cls
    assert cls.__name__ in exceptions.__doc__


def test_the_public_names_are_sorted_and_exist():
    names = [n for n in exceptions.__all__ if n[0].isupper()]
    assert names == sorted(names)
    assert all(hasattr(exceptions, name) for name in exceptions.__all__)
    assert set(CLASSES) < set(exceptions.__all__)


BUILTINS = [
    ("GetTimeoutError", TimeoutError),
    ("DeadlineExceededError", TimeoutError),
    ("ActorAlreadyExistsError", ValueError),
    ("ActorHandleNotFoundError", ValueError),
    ("ActorClassInheritanceError", TypeError),
    ("SerializationError", TypeError),
    ("DefinitionError", ImportError),
    ("ReferenceCountingAssertionError", AssertionError),
    ("SessionLostError", ConnectionError),
    ("DeadlockError", RuntimeError),
]


@pytest.mark.parametrize(("name", "builtin"), BUILTINS)
def test_errors_inherit_the_builtins_people_catch(name, builtin):
    assert issubclass(getattr(exceptions, name), builtin)


RAY_NAMES = """RayError RayTaskError TaskCancelledError WorkerCrashedError LocalRayletDiedError
RayActorError ActorDiedError ActorUnavailableError RaySystemError AuthenticationError
UserCodeException ObjectStoreFullError OutOfDiskError OutOfMemoryError NodeDiedError
ObjectLostError ObjectFetchTimedOutError ReferenceCountingAssertionError ObjectFreedError
OwnerDiedError ObjectReconstructionFailedError GetTimeoutError RuntimeEnvSetupError
TaskPlacementGroupRemoved ActorPlacementGroupRemoved PendingCallsLimitExceeded
TaskUnschedulableError ActorUnschedulableError ObjectRefStreamEndOfStreamError
StreamingGeneratorReplayInconsistentError CrossLanguageError UnserializableException
ActorAlreadyExistsError ActorHandleNotFoundError AsyncioActorExit
OufOfBandObjectRefSerializationException""".split()


@pytest.mark.parametrize("name", RAY_NAMES)
def test_rays_names_are_there(name):
    assert issubclass(getattr(exceptions, name), ZactorError)


@pytest.mark.parametrize(
    "cls", [c for c in ALL if issubclass(c, ActorError) or c.__name__.startswith("Worker")]
)
@pytest.mark.parametrize(
    ("executed", "words"),
    [
        ("no", "was not executed"),
        ("yes", "was executed"),
        ("unknown", "may or may not have been"),
    ],
)
def test_what_is_said_of_actors_and_workers_says_whether_the_call_ran(cls, executed, words):
    assert words in str(cls("why", executed=executed))


def test_an_actors_death_says_who_where_and_why():
    error = ActorDiedError(
        "killed by signal 9", class_name="Counter", name="tally", namespace="shop",
        actor_id="ab12", pid=77, node_id="cd34", method="add", executed="no",
    )  # fmt: skip
    for part in ("Counter", "'tally'", "'shop'", "ab12", "77", "cd34", "add()", "signal 9"):
        assert part in str(error)
    assert "The actor died unexpectedly" in str(error)
    assert error.error_msg == str(error)


def test_a_constructor_that_raised_is_shown_with_its_traceback():
    cause = TaskError("Counter.__init__", TRACE, ValueError("boom"), actor_id="ab12")
    error = ActorDiedError(cause)
    assert error.actor_init_failed
    assert error.actor_id == "ab12"
    assert error.executed == "no"
    assert "raised in its creation task" in str(error)
    assert "ValueError: boom" in str(error)
    assert str(ActorDiedError.from_task_error(cause)) == str(error)


def test_a_constructors_error_may_still_be_as_it_came_over_the_wire():
    error = from_wire(to_wire(ActorDiedError(
        "x", cause=["constructor", "boom", {"exception": b"..."}], actor_init_failed=True
    )))  # fmt: skip
    assert "boom" in str(error)


def test_an_unreachable_actor_may_have_run_the_call():
    text = str(ActorUnavailableError("the node does not answer", class_name="Counter"))
    assert "is unavailable: the node does not answer" in text
    assert "may or may not have been executed" in text


WORDS = [
    (
        ActorAlreadyExistsError(name="tally", namespace="shop"),
        "The name tally (namespace=shop)",
    ),
    (TaskCancelledError(task_id="ab"), "Task: ab was cancelled"),
    (WorkerCrashedError(), "The worker died unexpectedly while executing this task."),
    (DeadlockError(chain=("a.f()", "b.g()")), "a.f()\n  waits for b.g()"),
    (ObjectReconstructionFailedError(reason="PUT"), "made by put()"),
    (ObjectReconstructionFailedError(reason="?"), "not known"),
    (ZactorSystemError("broken"), "System error: broken"),
    (InternalError("broken"), "a bug in zactor"),
    (GetTimeoutError(), "Get timed out"),
    (GetTimeoutError("mine"), "mine"),
    (exceptions.TaskUnschedulableError("no node"), "The task is not schedulable: no node"),
    (exceptions.ActorUnschedulableError("no node"), "The actor is not schedulable: no node"),
    (
        exceptions.RuntimeEnvSetupError("no pip"),
        "Failed to set up runtime environment.\nno pip",
    ),
    (exceptions.OwnerDiedError(object_ref_hex="ab"), "Failed to retrieve object ab"),
    (exceptions.ObjectLostError(call_site="x.py:3"), "created at: x.py:3"),
]


@pytest.mark.parametrize(("error", "words"), WORDS)
def test_texts_have_the_words_that_programs_match_on(error, words):
    assert words in str(error)


ALIASES = [
    (exceptions.RuntimeEnvSetupError("m"), "error_message", "m"),
    (exceptions.TaskUnschedulableError("m"), "error_message", "m"),
    (exceptions.ActorHandleNotFoundError("m"), "message", "m"),
    (ZactorSystemError("m"), "client_exc", "m"),
    (TaskCancelledError("m"), "error_message", "m"),
    (ActorDiedError(preempted=True), "preempted", True),
]


@pytest.mark.parametrize(("error", "name", "value"), ALIASES)
def test_rays_attributes_are_there(error, name, value):
    assert getattr(error, name) == value


@pytest.mark.parametrize(
    ("wire", "cls"),
    [
        (["NoSuchKind", "text", {}], ZactorSystemError),
        (["NameTaken", "text", {"name": "x", "new": 1}], ActorAlreadyExistsError),
        (["ObjectStoreFull", "text", {}], exceptions.ObjectStoreFullError),
        (["ObjectLost", "text", None], exceptions.ObjectLostError),
        (["constructor", "text", {"exception": b""}], ActorDiedError),
        (["environment", "text", {}], exceptions.RuntimeEnvSetupError),
        (["spawn", "text", {}], WorkerCrashedError),
        (["ZactorError", "text", {}], ZactorError),
    ],
)
def test_any_kind_on_the_wire_becomes_an_error(wire, cls):  # X2
    error = from_wire(wire)
    assert type(error) is cls
    assert "text" in str(error)


def test_a_foreign_exception_crosses_the_wire_as_text():
    assert str(from_wire(to_wire(KeyError("x")))) == "System error: KeyError: 'x'"


def test_a_users_subclass_crosses_the_wire_as_its_base():
    class MineError(WorkerCrashedError):
        limit: int = 3

    assert MineError(limit=4).limit == 4
    assert type(from_wire(to_wire(MineError("m")))) is WorkerCrashedError


def test_a_dual_crosses_the_wire_as_a_task_error():
    dual = TaskError("f", TRACE, ValueError("boom"), pid=3).as_instanceof_cause()
    back = from_wire(to_wire(dual))
    assert type(back) is TaskError
    assert (back.function_name, back.pid) == ("f", 3)


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match="no field 'colour'"):
        ActorError("m", colour="red")


# -- duals --------------------------------------------------------------------------------------


class PlainError(Exception):
    pass


class OddError(Exception):
    def __init__(self, a, *, b):
        super().__init__(f"{a}/{b}")
        self.a, self.b = a, b

    @property
    def both(self):
        return self.a, self.b


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        self.code = code


@dataclass(frozen=True)
class FrozenError(Exception):
    a: int


class ArgsError(Exception):
    @property
    def args(self):
        return ("mine",)


class NewError(Exception):
    def __new__(cls, a, b):
        return super().__new__(cls, a)

    def __init__(self, a, b):
        self.b = b


class Meta(type):
    pass


class MetaError(Exception, metaclass=Meta):
    pass


class CauseError(Exception):
    """Has attributes of the names a TaskError has."""

    def __init__(self):
        self.cause, self.pid, self.message = "mine", "mine", "mine"


class KeywordError(Exception):
    def __init_subclass__(cls, *, needed, **kwargs):
        super().__init_subclass__(**kwargs)


class PickyMeta(type):
    def __new__(mcs, name, bases, namespace):
        if any(isinstance(base, PickyMeta) for base in bases):
            raise TypeError("final")
        return super().__new__(mcs, name, bases, namespace)


class FinalError(Exception, metaclass=PickyMeta):
    pass


class GroupError(ExceptionGroup):
    def derive(self, excs):
        return GroupError(self.message, excs)


CAUSES = [
    PlainError("x"),
    OddError(1, b=2),
    SlottedError(3),
    FrozenError(4),
    ArgsError("other"),
    NewError(1, 2),
    MetaError("x"),
    KeyError("k"),
    FileNotFoundError(2, "no", "file"),
    UnicodeDecodeError("utf8", b"x", 0, 1, "why"),
    StopIteration(4),
    ImportError("m", name="n"),
    AttributeError("m", name="n"),
    SyntaxError("m", ("f", 1, 2, "t")),
    ExceptionGroup("g", [ValueError(1)]),
    GroupError("g", [ValueError(1), KeyError(2)]),
    ActorDiedError("x", actor_id="ab"),
    GetTimeoutError("late"),
]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda c: type(c).__name__)
def test_a_dual_is_a_task_error_and_the_users(cause):
    plain = TaskError("f", TRACE, cause, pid=3)

    dual = plain.as_instanceof_cause()

    assert isinstance(dual, TaskError)
    assert isinstance(dual, type(cause))
    assert type(dual).__name__ == f"TaskError({type(cause).__name__})"
    assert dual.cause is cause
    assert dual.args == cause.args
    assert str(dual) == str(plain)
    for name, value in vars(cause).items():
        assert getattr(dual, name) == value
    again = plain.make_dual_exception_instance()
    assert again is not dual
    assert type(again) is type(dual)
    with pytest.raises(TaskError):
        raise dual
    with pytest.raises(type(cause)):
        raise again


MEMBERS = [
    (OddError(1, b=2), "both", (1, 2)),
    (SlottedError(3), "code", 3),
    (FrozenError(4), "a", 4),
    (FileNotFoundError(2, "no", "file"), "filename", "file"),
    (FileNotFoundError(2, "no", "file"), "errno", 2),
    (UnicodeDecodeError("utf8", b"x", 0, 1, "why"), "reason", "why"),
    (StopIteration(4), "value", 4),
    (ImportError("m", name="n"), "name", "n"),
    (SyntaxError("m", ("f", 1, 2, "t")), "lineno", 1),
    (GroupError("g", [KeyError(2)]), "message", "g"),
    (CauseError(), "message", "mine"),
    (CauseError(), "pid", "mine"),
    (ActorDiedError("x", actor_id="ab"), "actor_id", "ab"),
]


@pytest.mark.parametrize(("cause", "name", "value"), MEMBERS)
def test_a_dual_has_the_users_attributes(cause, name, value):
    assert getattr(TaskError("f", TRACE, cause).as_instanceof_cause(), name) == value


@pytest.mark.parametrize("cause", CAUSES, ids=lambda c: type(c).__name__)
def test_a_dual_copies(cause):
    dual = TaskError("f", TRACE, cause).as_instanceof_cause()
    back = copy.copy(dual)
    assert type(back) is type(dual)
    assert str(back) == str(dual)


def test_a_dual_pickles():
    dual = TaskError("f", TRACE, KeyError("k"), pid=3).as_instanceof_cause()
    back = pickle.loads(pickle.dumps(dual))
    assert type(back) is type(dual)
    assert (back.args, back.pid, str(back)) == (("k",), 3, str(dual))


def test_the_notes_of_the_cause_are_on_the_dual():
    cause = ValueError("x")
    cause.add_note("mind the gap")
    assert TaskError("f", TRACE, cause).as_instanceof_cause().__notes__ == ["mind the gap"]


def test_a_dual_of_a_group_can_be_split():
    dual = TaskError(
        "f", TRACE, GroupError("g", [KeyError(1), ValueError(2)])
    ).as_instanceof_cause()
    try:
        raise dual
    except* KeyError as caught:
        assert [type(e) for e in caught.exceptions] == [KeyError]
    except* ValueError:
        pass


@pytest.mark.parametrize(
    "cause",
    [None, Exception("x"), TaskError("g"), ZactorError("x"), KeyboardInterrupt(), FinalError()],
)
def test_where_no_dual_can_be_made_the_task_error_itself_is_raised(cause):
    plain = TaskError("f", TRACE, cause)
    assert plain.as_instanceof_cause() is plain


def test_a_class_that_wants_keywords_of_its_subclasses_falls_back():
    class Picky(KeywordError, needed=1):
        pass

    plain = TaskError("f", TRACE, Picky())
    assert isinstance(plain.as_instanceof_cause(), TaskError)


@pytest.mark.parametrize("cause", [KeyboardInterrupt(), SystemExit(3), None])
def test_only_exceptions_make_duals(cause):
    with pytest.raises(TypeError):
        TaskError("f", TRACE, cause).make_dual_exception_instance()


def test_the_text_of_a_task_error_names_the_process():
    error = TaskError("f", TRACE, None, pid=3, ip="10.0.0.1", actor_repr="C(1)", actor_id="ab")
    first, *rest = str(error).split("\n")
    assert first == "zactor::f() (pid=3, ip=10.0.0.1, actor_id=ab, repr=C(1))"
    assert rest[-1] == "ValueError: boom"
    assert str(TaskError("f", "no header")).startswith("zactor::f() (pid=0)\nno header")
