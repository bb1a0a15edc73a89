"""The pickler: which way values go, what stays out of band, which references are found."""

import collections
import copy
import importlib
import pickle
import sys
import threading
from typing import NamedTuple

import cloudpickle
import numpy as np
import pytest

from zactor.serde import pickling
from zactor.serde.pickling import (
    OUT_OF_BAND,
    collect,
    deregister_serializer,
    failure,
    loaded,
    pickle_bytes,
    pickle_value,
    register_serializer,
    unpickle_plain,
    unpickle_value,
)


class Ref:
    """Stands for a reference type."""

    def __init__(self, name):
        self.name = name
        self.was_collected = None

    def __reduce__(self):
        self.was_collected = collect(self)
        return make_ref, (self.name,)

    def __eq__(self, other):
        return isinstance(other, Ref) and self.name == other.name

    def __hash__(self):
        return hash(self.name)


def make_ref(name):
    ref = Ref(name)
    ref.was_loaded = loaded(ref)
    return ref


def again(value):
    payload, buffers, _ = pickle_value(value)
    return unpickle_value(payload, buffers)


class Point(NamedTuple):
    x: int
    y: int


VALUES = [
    None, True, 0, -1, 2**70, 1.5, "", "text", b"", b"bytes", (), (1, 2), [], [1, [2]], {}, {"a": 1},
    {1, 2}, frozenset({1}), Point(1, 2), range(3), ValueError("x"), int, len, collections.OrderedDict,
    "__main__", b"\x93__main__", "\x93" * 9, bytearray(b"x" * 9000), Ellipsis,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_equal(value):
    back = again(value)
    assert type(back) is type(value)
    assert back == value or repr(back) == repr(value)


def test_plain_values_are_the_plain_pickle():
    assert pickle_value((1, "a")) == (pickle.dumps((1, "a"), 5), (), ())


def local_function():
    base = 3
    return lambda x: x + base


class Local:
    def __init__(self):
        self.action = local_function()


@pytest.mark.parametrize(
    "make", [local_function, lambda: lambda x: x + 3, lambda: Local().action], ids=repr
)
def test_what_has_no_importable_name_takes_cloudpickle(make):
    assert again(make())(1) == 4
    assert again([make()])[0](2) == 5


def test_what_lives_in_main_is_shipped(monkeypatch):  # P4
    import __main__

    class Mine:
        pass

    Mine.__module__, Mine.__qualname__ = "__main__", "Mine"
    monkeypatch.setattr(__main__, "Mine", Mine, raising=False)

    payload, _, _ = pickle_value(Mine())

    assert b"cloudpickle" in payload
    assert type(unpickle_value(payload)).__name__ == "Mine"


def test_modules_registered_by_value_are_shipped(monkeypatch, tmp_path):
    (tmp_path / "shipped_module.py").write_text("def double(x): return 2 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    shipped_module = importlib.import_module("shipped_module")

    by_name, _, _ = pickle_value(shipped_module.double)
    cloudpickle.register_pickle_by_value(shipped_module)
    try:
        by_value, _, _ = pickle_value(shipped_module.double)
    finally:
        cloudpickle.unregister_pickle_by_value(shipped_module)
    assert len(by_name) < 100 < len(by_value)
    monkeypatch.delitem(sys.modules, "shipped_module")
    (tmp_path / "shipped_module.py").unlink()
    assert unpickle_value(by_value)(4) == 8


# -- buffers ------------------------------------------------------------------------------------

SMALL = OUT_OF_BAND // 8 - 1
LARGE = OUT_OF_BAND // 8


@pytest.mark.parametrize(
    "sizes", [[1], [SMALL], [LARGE], [0], [1, LARGE, 2], [LARGE, 3, LARGE, 4]]
)
def test_arrays_come_back_equal_and_read_only(sizes):  # P3
    arrays = [np.arange(n, dtype=np.float64) + n for n in sizes]

    payload, buffers, refs = pickle_value(arrays)
    back = unpickle_value(payload, buffers)

    assert [b.nbytes for b in buffers] == [8 * n for n in sizes if n >= LARGE]
    assert refs == []
    for new, old in zip(back, arrays, strict=True):
        np.testing.assert_array_equal(new, old)
        assert not new.flags.writeable


def test_large_arrays_are_not_copied():
    array = np.zeros(LARGE)
    payload, buffers, _ = pickle_value(array)
    assert len(payload) < 500
    assert np.shares_memory(unpickle_value(payload, buffers), array)


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda b: memoryview(bytearray(b))]
)
def test_payload_and_buffers_may_be_any_bytes(kind):
    arrays = [np.arange(3), np.arange(LARGE)]
    payload, buffers, _ = pickle_value(arrays)
    back = unpickle_value(kind(payload), [kind(bytes(b)) for b in buffers])
    assert [b.tolist() for b in back] == [a.tolist() for a in arrays]
    assert not any(b.flags.writeable for b in back)


def test_arrays_that_are_not_contiguous_come_back_too():
    array = np.arange(100).reshape(10, 10)[:, ::2]
    np.testing.assert_array_equal(again(array), array)
    fortran = np.asfortranarray(np.arange(LARGE * 2).reshape(2, -1))
    np.testing.assert_array_equal(again(fortran), fortran)


def test_missing_buffers_are_an_error():
    payload, _, _ = pickle_value([np.zeros(1), np.zeros(LARGE)])
    with pytest.raises(StopIteration):
        unpickle_value(payload)


@pytest.mark.parametrize("size", [0, 10, 65535, 65536, 200_000])
def test_bytes_come_back_equal(size):
    value = b"\x93__main__"[:1] * size
    payload, buffers, refs = pickle_bytes(value)
    assert unpickle_value(payload, [bytes(b) for b in buffers]) == value
    assert bool(buffers) == (size >= 65536)
    assert not refs


@pytest.mark.parametrize("value", [(1, 2), ["a"], np.arange(3), np.arange(2)[:0]], ids=repr)
def test_the_short_way_reads_what_has_no_buffers_of_its_own(value):
    payload, buffers, refs = pickle_value(value)
    assert not buffers
    assert not refs
    assert repr(unpickle_plain(payload)) == repr(value)


# -- references ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra", [None, np.zeros(LARGE), lambda x: x], ids=["plain", "array", "lambda"]
)
def test_references_are_collected_in_order_and_loaded(extra):
    a, b = Ref("a"), Ref("b")

    payload, buffers, refs = pickle_value([a, {"deep": (b, [a])}, extra])

    assert [r.name for r in refs] == ["a", "b"]  # pickle remembers the second a
    assert a.was_collected
    found = []
    back = unpickle_value(payload, buffers, found)
    assert [r.name for r in found] == ["a", "b"]
    assert back[0].was_loaded
    assert back[1]["deep"][0] is found[1]


def test_outside_of_a_dump_nothing_is_collected():
    ref = Ref("a")
    back = pickle.loads(pickle.dumps(ref))
    assert ref.was_collected is False
    assert back.was_loaded is False
    assert copy.deepcopy(ref).was_loaded is False


def test_a_load_without_a_list_still_answers_for_its_references():
    payload, _, _ = pickle_value(Ref("a"))
    assert unpickle_value(payload).was_loaded is True


class Nested:
    """Dumps and loads something else while it is dumped and loaded."""

    def __init__(self, inner):
        self.inner = inner

    def __reduce__(self):
        payload, _, refs = pickle_value(self.inner)
        self.refs = refs
        return load_nested, (payload,)


def load_nested(payload):
    nested = Nested(None)
    nested.found = []
    nested.inner = unpickle_value(payload, (), nested.found)
    return nested


def test_a_dump_within_a_dump_keeps_its_own_references():  # P1
    nested = Nested([Ref("inner")])

    payload, _, refs = pickle_value([Ref("before"), nested, Ref("after")])

    assert [r.name for r in refs] == ["before", "after"]
    assert [r.name for r in nested.refs] == ["inner"]
    found = []
    back = unpickle_value(payload, (), found)
    assert [r.name for r in found] == ["before", "after"]
    assert [r.name for r in back[1].found] == ["inner"]


def test_threads_do_not_see_each_others_references():  # P1
    barrier = threading.Barrier(2)
    seen = {}

    class Slow:
        def __init__(self, name):
            self.name = name

        def __reduce__(self):
            barrier.wait(5)
            collect(self.name)
            barrier.wait(5)
            return str, (self.name,)

    def run(name):
        seen[name] = pickle_value([Slow(name)])[2]

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"a": ["a"], "b": ["b"]}


class Breaks:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=repr)
def test_a_failed_dump_leaves_nothing_behind(error):  # P2
    with pytest.raises(type(error)):
        pickle_value([Ref("lost"), np.zeros(LARGE), Breaks(error)])
    assert pickle_value((1, 2)) == (pickle.dumps((1, 2), 5), (), ())
    assert collect(1) is False


def test_references_are_not_counted_twice_when_cloudpickle_takes_over():
    _, buffers, refs = pickle_value([Ref("a"), np.zeros(LARGE), lambda: 1])
    assert (len(refs), len(buffers)) == (1, 1)


def test_a_failed_load_leaves_nothing_behind():
    with pytest.raises(Exception):
        unpickle_value(pickle.dumps(Ref("a"))[:-4], (), [])
    assert loaded(1) is False


def test_probing_collects_nothing():
    ref = Ref("a")
    assert failure(ref) is None
    assert ref.was_collected is True  # as in a dump: it is not pinned
    assert isinstance(failure(threading.Lock()), TypeError)


# -- serializers --------------------------------------------------------------------------------


class Conn:
    def __init__(self, url):
        self.url = url
        self.lock = threading.Lock()


class SubConn(Conn):
    pass


@pytest.fixture
def registered():
    register_serializer(
        Conn, serializer=lambda c: c.url, deserializer=lambda url: Conn("again " + url)
    )
    yield
    deregister_serializer(Conn)


def test_registered_serializers_are_used(registered):
    back = again([Conn("a"), {"b": Conn("b")}, np.zeros(LARGE)])
    assert (back[0].url, back[1]["b"].url) == ("again a", "again b")


def test_registered_serializers_leave_subclasses_and_copying_alone(registered):
    with pytest.raises(TypeError):
        pickle_value(SubConn("a"))
    with pytest.raises(TypeError):
        copy.deepcopy(Conn("a"))


def test_an_importable_deserializer_needs_no_cloudpickle():
    register_serializer(Conn, serializer=lambda c: c.url, deserializer=Conn)
    try:
        payload, _, _ = pickle_value(Conn("a"))
    finally:
        deregister_serializer(Conn)
    assert b"cloudpickle" not in payload
    assert unpickle_value(payload).url == "a"


def test_deregistered_serializers_are_gone():
    register_serializer(Conn, serializer=lambda c: c.url, deserializer=Conn)
    deregister_serializer(Conn)
    deregister_serializer(Conn)
    with pytest.raises(TypeError):
        pickle_value(Conn("a"))
    assert pickling._plain_dumps is pickle.dumps


def test_a_serializer_applies_within_a_dump_too(registered):
    assert again(Nested(Conn("a"))).inner.url == "again a"


@pytest.mark.parametrize("lead", range(8))
def test_small_arrays_are_aligned_wherever_the_payload_lies(lead):
    payload, buffers, _ = pickle_value([b"x" * 5, np.arange(3.0), np.arange(7.0)])
    whole = b"." * lead + payload
    arrays = unpickle_value(memoryview(whole)[lead:], buffers)[1:]
    assert [array.ctypes.data % 8 for array in arrays] == [0, 0]
