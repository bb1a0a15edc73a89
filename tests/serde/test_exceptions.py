"""What user code raised, on its way: whatever it is, it arrives."""

import asyncio
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest

from zactor.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    TaskError,
    UnserializableException,
    from_wire,
    to_wire,
)
from zactor.serde import exceptions
from zactor.serde.exceptions import (
    describe,
    format_traceback,
    pack_exception,
    revive,
    unpack_exception,
    unpack_task_error,
)
from zactor.serde.pickling import collect, loaded

lock = threading.Lock()


def raised(error, cause=None):
    """Return the exception with a traceback of this file."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def sent(error, **where):
    payload, buffers, _ = pack_exception(raised(error), "f", **where)
    assert buffers == ()
    return unpack_exception(payload)


class PlainError(Exception):
    pass


class OddError(Exception):
    def __init__(self, a, *, b):
        super().__init__(f"{a}/{b}")
        self.a, self.b = a, b


class ForgetfulError(Exception):
    def __init__(self, a, b):
        pass


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        self.code = code


@dataclass(frozen=True)
class FrozenError(Exception):
    a: int


class ReducedError(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b

    def __reduce__(self):
        return ReducedError, (self.args[0], self.b)


class BadReduceError(Exception):
    def __reduce__(self):
        return BadReduceError, (1, 2, 3), {"no": "such"}, None, 7


class LiarError(Exception):
    """Pickles as something that is no exception."""

    def __reduce__(self):
        return str, ("hello",)


class LockedError(Exception):
    def __init__(self):
        super().__init__("locked", lock)
        self.lock = lock
        self.fine = 1


class MuteError(Exception):
    def __init__(self):
        self.lock = lock

    def __str__(self):
        raise ValueError("no str")

    __repr__ = __str__


class OsLikeError(OSError):
    def __init__(self, arg):
        self.arg = arg


class GroupError(ExceptionGroup):
    def derive(self, excs):
        return GroupError(self.message, excs)


class WrapError(Exception):
    def __init__(self, inner, *, why):
        super().__init__(why)
        self.inner = inner


ARRIVING = [
    PlainError("x"),
    OddError(1, b=2),
    ForgetfulError(1, 2),
    SlottedError(3),
    FrozenError(4),
    ReducedError(1, 2),
    BadReduceError("x"),
    OsLikeError("x"),
    KeyError("k"),
    OSError(2, "no", "file"),
    UnicodeDecodeError("utf8", b"x", 0, 1, "why"),
    StopIteration(3),
    ExceptionGroup("g", [ValueError(1), OddError(1, b=2)]),
    GroupError("g", [KeyError(1)]),
    WrapError(OddError(1, b=2), why="wrapped"),
    ActorDiedError("x", actor_id="ab"),
    GetTimeoutError("late"),
    TimeoutError("x"),
]


@pytest.mark.parametrize("error", ARRIVING, ids=lambda e: type(e).__name__)
def test_an_exception_arrives_as_its_own_class(error):
    back = sent(error)
    assert isinstance(back, TaskError)
    assert isinstance(back, type(error))
    assert type(back.cause) is type(error)
    assert repr(back.cause) == repr(error)
    assert str(back.cause) == str(error)
    for name, value in vars(error).items():
        assert repr(getattr(back, name)) == repr(value)
    assert back.executed == "yes"
    assert type(error).__name__ in str(back)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt("x"), SystemExit(3), asyncio.CancelledError()]
)
def test_what_is_no_exception_arrives_as_the_cause_alone(error):
    back = sent(error)
    assert type(back) is TaskError
    assert type(back.cause) is type(error)


def test_parts_that_cannot_be_pickled_arrive_as_text():  # E1
    back = sent(LockedError())
    assert isinstance(back, LockedError)
    assert back.args == ("locked", repr(lock))
    assert (back.lock, back.fine) == (repr(lock), 1)
    assert "attribute 'lock' of LockedError isn't serializable" in str(back)


def test_parts_within_a_group_that_cannot_be_pickled_arrive_as_text():  # E1
    back = sent(ExceptionGroup("g", [LockedError(), KeyError("k")]))
    assert isinstance(back, ExceptionGroup)
    assert [type(e) for e in back.exceptions] == [LockedError, KeyError]
    assert back.exceptions[0].lock == repr(lock)


def test_an_exception_that_cannot_be_printed_arrives():  # E1
    back = sent(MuteError())
    assert isinstance(back, MuteError)
    assert "MuteError" in str(back)


def test_a_class_that_cannot_be_pickled_arrives_as_text():  # E1
    class Stuck(Exception):
        held = lock

    back = sent(Stuck("what happened"))
    assert isinstance(back, UnserializableException)
    assert "Stuck" in str(back.cause)
    assert "what happened" in str(back)
    assert "isn't serializable" in str(back)


def test_exceptions_that_refer_to_each_other_arrive():  # E1
    a, b = KeyError("a"), KeyError("b")
    a.other, b.other = b, a
    back = sent(a)
    assert back.other.other.args == ("a",)
    c, d = OddError(1, b=2), OddError(3, b=4)
    c.other, d.other = d, c
    assert "1/2" in str(sent(c))


def test_something_that_pickles_as_no_exception_arrives_as_text():  # E2
    assert isinstance(sent(LiarError("x")), UnserializableException)


def test_a_class_the_reader_lacks_arrives_as_text(tmp_path):  # E2
    (tmp_path / "only_here.py").write_text("class OnlyHereError(Exception): pass\n")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from only_here import OnlyHereError\n"
        "from zactor.serde.exceptions import pack_exception\n"
        "sys.stdout.buffer.write(pack_exception(OnlyHereError('boom'), 'f', pid=3)[0])\n"
    )
    payload = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE, check=True, env=dict(os.environ, PYTHONPATH=os.getcwd()),
    ).stdout  # fmt: skip
    back = unpack_exception(payload)
    assert isinstance(back, UnserializableException)
    assert back.pid == 3
    for words in ("only_here.OnlyHereError: boom", "No module named 'only_here'"):
        assert words in str(back.cause)
    assert "boom" in str(back)


def test_the_process_is_named():
    back = sent(ValueError("x"), pid=7, ip="10.0.0.1", actor_repr="C(1)", actor_id="ab")
    assert str(back).startswith("zactor::f() (pid=7, ip=10.0.0.1, actor_id=ab, repr=C(1))\n")


def test_every_unpacking_makes_a_new_exception():
    payload, _, _ = pack_exception(raised(ValueError("x")))
    first, second = unpack_exception(payload), unpack_exception(payload)
    assert first is not second
    assert type(first) is type(second)
    assert type(unpack_task_error(payload)) is TaskError


def test_an_error_that_passes_through_several_calls_keeps_its_first_cause():  # E3
    error = OddError(1, b=2)
    for name in ("inner", "middle", "outer"):
        error = unpack_exception(pack_exception(raised(error), name)[0])
    assert type(error.cause) is OddError
    assert error.function_name == "outer"
    assert [f"zactor::{name}()" in str(error) for name in ("inner", "middle", "outer")] == [
        True
    ] * 3
    assert str(error).strip().endswith("OddError: 1/2")


def test_a_constructors_error_within_an_actors_error_arrives():
    inner = TaskError("C.__init__", "Traceback (x)\nboom", OddError(1, b=2))
    back = sent(ActorDiedError(inner))
    assert isinstance(back, ActorDiedError)
    assert type(back.cause.cause.cause) is OddError


def test_attributes_that_are_exceptions_are_rebuilt_too():
    back = sent(WrapError(OddError(1, b=2), why="w"))
    assert back.inner.b == 2


class Ref:
    def __reduce__(self):
        collect(self)
        return make_ref, ()


def make_ref():
    ref = Ref()
    loaded(ref)
    return ref


def test_references_in_an_exception_are_collected_and_loaded():
    payload, _, refs = pack_exception(raised(PlainError("x", Ref())))
    assert len(refs) == 1
    found = []
    unpack_exception(payload, found)
    assert len(found) == 1


def test_arrays_in_an_exception_arrive():
    import numpy as np

    back = sent(PlainError(np.arange(5000), np.arange(3)))
    assert [a.size for a in back.args] == [5000, 3]


# -- the traceback ------------------------------------------------------------------------------


def test_causes_and_contexts_are_in_the_text():
    text = format_traceback(raised(ValueError("second"), cause=raised(KeyError("first"))))
    assert "KeyError: 'first'" in text
    assert "direct cause" in text
    assert text.endswith("ValueError: second")


def test_frames_of_zactor_are_left_out(monkeypatch):
    monkeypatch.setattr(exceptions, "_OWN_FRAMES", os.path.dirname(pickle.__file__) + os.sep)
    try:
        pickle._dumps(lambda: 1)  # the Python one, which has frames
    except Exception as error:
        text = format_traceback(ExceptionGroup("g", [error]))
    assert "pickle.py" not in text
    assert "test_exceptions.py" in text


def test_frames_are_kept_if_there_are_no_others(monkeypatch):
    monkeypatch.setattr(exceptions, "_OWN_FRAMES", os.path.dirname(__file__) + os.sep)
    assert "test_exceptions.py" in format_traceback(raised(ValueError("x")))


def test_a_long_text_loses_its_middle():
    text = format_traceback(raised(ValueError("x" * 1_000_000)))
    assert len(text) < 210_000
    assert "characters left out" in text


def test_deep_recursion_is_printed_short():
    def deep(n):
        return deep(n + 1)

    try:
        deep(0)
    except RecursionError as error:
        text = format_traceback(error)
    assert "more times" in text
    assert isinstance(unpack_exception(pack_exception(RecursionError("x"))[0]), RecursionError)


# -- of a call whose argument failed -----------------------------------------------------------


class Unloadable(Exception):
    def __reduce__(self):
        return os._exit, (9,)


def test_a_failed_argument_is_passed_on_without_being_loaded():
    payload = pickle.dumps(
        ("f", "boom", (7, "", "", ""), (pickle.dumps(Unloadable()), []), "yes")
    )
    again = exceptions.repack_failed_argument(payload, "g")
    assert exceptions.text_of(again).endswith("TaskError: zactor::f() (pid=7)\nboom")


def test_it_keeps_the_first_cause_through_any_number_of_calls():
    payload, _, _ = pack_exception(raised(OddError(1, b=2)), "f", pid=7)
    for name in "gh":
        payload = exceptions.repack_failed_argument(payload, name)
    error = unpack_exception(payload)
    assert isinstance(error, OddError)
    assert (error.function_name, error.executed) == ("h", "no")
    heads = [line for line in str(error).splitlines() if "zactor::" in line]
    assert [head.rpartition("zactor::")[2] for head in heads] == [
        "h() (not run)", "g() (not run)", "f() (pid=7)",
    ]  # fmt: skip


def test_the_text_of_a_long_chain_is_bounded():
    payload, _, _ = pack_exception(ValueError("x" * 150_000), "f")
    for _ in range(20):
        payload = exceptions.repack_failed_argument(payload, "g" * 10_000)
    assert len(exceptions.text_of(payload)) < 210_000


def test_an_error_of_zactors_becomes_a_task_error_of_its_class():
    error = exceptions.failed_argument(ActorDiedError("gone", executed="unknown"))
    back = unpack_exception(exceptions.pack_task_error(error, "g"))
    assert isinstance(back, ActorDiedError)
    assert isinstance(back, TaskError)
    assert (back.executed, back.cause.executed) == ("no", "unknown")
    assert str(back).startswith("zactor::g() (not run)\n")
    assert "gone" in str(back)


# -- over the wire ------------------------------------------------------------------------------


def test_a_constructors_exception_is_revived_from_the_wire():
    payload, _, _ = pack_exception(raised(OddError(1, b=2)), "C.__init__", actor_id="ab")
    error = from_wire(to_wire(ActorDiedError(
        "C is dead", actor_init_failed=True, cause=["constructor", "text", {"exception": payload}],
    )))  # fmt: skip
    revived = revive(error)
    assert revived is error
    assert type(revived.cause.cause) is OddError
    assert "OddError: 1/2" in str(revived)


@pytest.mark.parametrize("fields", [{}, None])
def test_without_the_exception_the_text_will_do(fields):
    error = ActorDiedError("x", actor_init_failed=True, cause=["constructor", "boom", fields])
    assert "boom" in str(revive(error))


@pytest.mark.parametrize("error", [ActorDiedError("x"), GetTimeoutError("x")])
def test_other_errors_need_no_reviving(error):
    assert revive(error) is error


def test_an_error_can_be_described_without_its_exception_being_loaded():
    class Unloadable(Exception):
        def __reduce__(self):
            return exec, ("raise AssertionError",)

    payload, _, _ = pack_exception(Unloadable("hot"), "train", pid=7)
    function, text = describe(payload)
    assert function == "train"
    assert text.startswith("zactor::train() (pid=7)")
    assert text.endswith("hot")
