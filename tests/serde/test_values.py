"""Values and arguments: round trips, and errors that name the part at fault."""

import pickle
import threading

import numpy as np
import pytest

from zactor.exceptions import ActorHandleNotFoundError, SerializationError
from zactor.serde.values import OUT_OF_BAND, dumps, dumps_args, loads, loads_args


class Config:
    def __init__(self):
        self.sessions = {"a": [1, threading.Lock()]}


class Unloadable:
    def __reduce__(self):
        return refuse, ()


def refuse():
    raise RuntimeError("not here")


class Foreign:
    def __reduce__(self):
        return not_found, ()


def not_found():
    raise ActorHandleNotFoundError("of another cluster")


@pytest.mark.parametrize("value", [None, 1, "x", b"x", b"x" * 100_000, [1, {"a": (2,)}]])
def test_values_come_back(value):
    payload, buffers, refs = dumps(value)
    assert loads(payload, buffers) == value
    assert not refs


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}), ((1,), {}), ((1, "a"), {"b": 2}), ((), {"b": 2}), (((), {}), {}),
        (([1], {"x": 2}), {}), ((), {"args": (), "kwargs": {}}),
    ],
)  # fmt: skip
def test_arguments_come_back(args, kwargs):
    payload, buffers, _ = dumps_args(args, kwargs)
    assert loads_args(payload, buffers) == (args, kwargs)


def test_arguments_may_come_without_keywords():
    assert loads_args(dumps_args((1,))[0]) == ((1,), {})


def test_large_arrays_in_arguments_stay_out_of_band():
    array = np.ones(OUT_OF_BAND)
    payload, buffers, _ = dumps_args((array,), {"again": array})
    (first,), kwargs = loads_args(payload, buffers)
    assert np.shares_memory(first, array)
    assert kwargs["again"].sum() == OUT_OF_BAND


CULPRITS = [
    ((1, Config()), {}, ("x", "config"), "argument 'config'.sessions['a'][1]"),
    ((1, Config()), {}, (), "argument 1.sessions['a'][1]"),
    ((), {"config": Config()}, (), "argument 'config'.sessions['a'][1]"),
    ((threading.Lock(),), {}, ("lock",), "argument 'lock'"),
]


@pytest.mark.parametrize(("args", "kwargs", "names", "path"), CULPRITS)
def test_an_argument_that_cannot_be_pickled_is_named(args, kwargs, names, path):
    with pytest.raises(SerializationError) as caught:
        dumps_args(args, kwargs, "train", names)
    error = caught.value
    assert isinstance(error, TypeError)
    assert error.path == path
    assert error.executed == "no"
    assert "train()" in str(error)
    assert "cannot pickle '_thread.lock' object" in str(error)
    assert isinstance(error.__cause__, TypeError)


def test_a_value_that_cannot_be_pickled_is_named():
    with pytest.raises(SerializationError) as caught:
        dumps({"a": Config()}, "the return value of f()", "yes")
    assert caught.value.path == "value['a'].sessions['a'][1]"
    assert str(caught.value).startswith("Could not serialize the return value of f()")
    assert caught.value.executed == "yes"
    with pytest.raises(SerializationError) as caught:
        dumps(Config())
    assert "executed" not in str(caught.value)


def test_a_value_nested_too_deeply_is_an_error_not_a_crash():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError):
        dumps(deep)
    while deep:  # freeing it at once would recurse, too
        deep = deep[0]


LOADS = [
    (b"", "IndexError"),
    (b"\x00", "Could not deserialize"),
    (b"\x80\x05garbage", "Could not deserialize"),
    (pickle.dumps([1])[:-1], "Could not deserialize"),
    (b"\x80\x05cno_such_module\nf\n.", "cannot import 'no_such_module'"),
    (b"\x80\x05cpickle\nno_such_name\n.", "no_such_name"),
    (pickle.dumps(Unloadable()), "RuntimeError: not here"),
    (b"\x01\xff\xff\xff\xff", "Could not deserialize"),
]


@pytest.mark.parametrize(("payload", "words"), LOADS)
def test_what_cannot_be_unpickled_is_a_serialization_error(payload, words):
    with pytest.raises(SerializationError, match=words) as caught:
        loads(payload)
    assert caught.value.__cause__ is not None


def test_a_missing_module_comes_with_advice():
    with pytest.raises(SerializationError, match="py_modules"):
        loads(b"\x80\x05cno_such_module\nf\n.")


def test_zactors_own_errors_pass_through_a_load():
    with pytest.raises(ActorHandleNotFoundError):
        loads(pickle.dumps(Foreign()))
