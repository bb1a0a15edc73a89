"""Finding the part that cannot be pickled."""

import functools
import io
import threading
from collections import deque

import pytest

from zactor.serde.inspection import explain, find_culprit, inspect_serializability, parts
from zactor.serde.pickling import failure

lock = threading.Lock()


class Plain:
    def __init__(self, value):
        self.value = value

    def method(self):
        return self.value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Reduced:
    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return Reduced, (self.value,)


class Stateful:
    def __getstate__(self):
        return [lock]


class Items(list):
    pass


class Pile:
    def __init__(self, *items):
        self.items = items

    def __reduce__(self):
        return Pile, (), None, iter(self.items)


class Refuses:
    def __reduce_ex__(self, protocol):
        raise ValueError("never")


def closure(value):
    return lambda: value


def default(value):
    def function(x=value, *, y=1):
        return x, y

    return function


def keyword_default(value):
    def function(*, y=value):
        return y

    return function


def attribute(value):
    def function():
        pass

    function.note = value
    return function


def uses_global():
    def function():
        return [lock for _ in "x"]

    return function


def local_class(value):
    class Inner:
        held = value

    return Inner


def local_method():
    class Inner:
        def method(self):
            return lock

        @staticmethod
        def fine():
            pass

        @property
        def also(self):
            return 1

    return Inner


CASES = [
    (lambda: lock, ""),
    (lambda: [1, lock], "[1]"),
    (lambda: (lock,), "[0]"),
    (lambda: {"a": {"b": lock}}, "['a']['b']"),
    (lambda: {lock: 1}, f" key {lock!r}"),
    (lambda: deque([lock]), "[0]"),
    (lambda: Plain([lock]), ".value[0]"),
    (lambda: Plain(lock).method, ".__self__.value"),
    (lambda: Slotted(lock), ".value"),
    (lambda: Reduced(lock), " -> argument of its __reduce__"),
    (Stateful, ".__getstate__()[0]"),
    (lambda: Items([lock]), "[0]"),
    (lambda: Pile(lock), " -> its items[0]"),
    (Refuses, ""),
    (lambda: Plain(Refuses()), ".value"),
    (lambda: closure(lock), " -> closure variable 'value'"),
    (lambda: default(lock), " -> default 0"),
    (lambda: keyword_default(lock), " -> default of 'y'"),
    (lambda: attribute(lock), ".note"),
    (uses_global, " -> global 'lock'"),
    (lambda: functools.partial(print, lock), ".args[0]"),
    (lambda: local_class(lock), ".held"),
    (lambda: local_class(lock)(), " -> argument of its __reduce__.held"),
    (local_method, ".method -> global 'lock'"),
    (lambda: (i for i in "x"), ""),
]


@pytest.mark.parametrize(("make", "path"), CASES)
def test_the_culprit_is_found(make, path):
    value = make()
    error = failure(value)
    assert error is not None
    found = find_culprit(value, error).path
    assert found == path or found == path.replace("argument of its __reduce__", "its class")


def test_circles_end():
    a = Plain(lock)
    a.self, a.list = a, [a]
    assert find_culprit(a, failure(a)).path == ".value"


def test_the_search_is_bounded():
    value = lock
    for _ in range(50):
        value = [value]
    assert find_culprit(value, TypeError("x")).path == "[0]" * 8


def test_the_explanation_says_what_where_and_why():
    value = Plain(lock)
    error = explain(value, failure(value), "the argument 'x' of f()", "argument 'x'", "no")
    assert error.path == "argument 'x'.value"
    text = str(error)
    for part in ("Could not serialize the argument 'x' of f()", "argument 'x'.value", "_thread.lock",
                 "TypeError: cannot pickle", "register_serializer", "was not executed"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("value", [1, "x", [1], {"a": 1}, len, Plain(1), threading], ids=repr)
def test_what_can_be_pickled_is_serializable(value):
    out = io.StringIO()
    assert inspect_serializability(value, "thing", print_file=out) == (True, set())
    assert out.getvalue() == "Can thing be pickled?\nYes.\n"
    list(parts(value))


@pytest.mark.parametrize("make", [lambda: lock, uses_global, local_method, lambda: Plain(lock)])
def test_the_inspection_returns_the_culprit(make):
    value, out = make(), io.StringIO()
    ok, failures = inspect_serializability(value, "thing", print_file=out)
    assert not ok
    assert [f.obj for f in failures] == [lock]
    (only,) = failures
    assert only.path[0] == "thing"
    assert only.name == only.path[-1]
    assert "cannot pickle" in out.getvalue()
    assert " -> ".join(only.path) in out.getvalue()
    assert "FailTuple" in repr(only)


def test_the_inspection_stops_at_its_depth(capsys):
    ok, failures = inspect_serializability([[[[lock]]]], depth=1)
    assert not ok
    assert [f.obj for f in failures] == [[[[lock]]]]
    assert "Can a list be pickled?" in capsys.readouterr().out


def test_functions_are_named_by_themselves():
    out = io.StringIO()
    inspect_serializability(uses_global, print_file=out)
    assert "Can uses_global be pickled?" in out.getvalue()
