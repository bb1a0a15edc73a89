"""Classes and functions as bytes: by name or by value, and what a reader that lacks them says."""

import importlib
import os
import subprocess
import sys
import threading
import types

import cloudpickle
import pytest

from zactor.exceptions import DefinitionError, SerializationError
from zactor.serde import definitions
from zactor.serde.definitions import is_importable, load_definition, pack_definition
from zactor.serde.pickling import collect, loaded

MODULE = """
import threading
lock = threading.Lock()

class Wrapped:
    def __init__(self, definition):
        self.__zactor_definition__ = definition

def plain(x):
    return x + 1

class Plain:
    def hello(self):
        return "hello"

@Wrapped
class Replaced:
    def hello(self):
        return helper()

@Wrapped
def locked():
    return lock.locked()

def helper():
    return "helped"
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "users_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    is_importable.cache_clear()
    yield importlib.import_module("users_module")
    sys.modules.pop("users_module", None)
    is_importable.cache_clear()


def elsewhere(code, *blobs, path=None):
    """Run `code` in another process; `blobs` are there as `blobs`."""
    script = (
        "import sys\n"
        "from zactor.serde.definitions import load_definition\n"
        f"blobs = {[bytes(blob) for blob in blobs]!r}\n"
        f"{code}\n"
    )
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [os.getcwd(), path])))
    done = subprocess.run(
        [sys.executable, "-"],
        input=script,
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    return done.stdout.strip() + done.stderr


def test_importable_definitions_travel_by_name(module):
    key, blob = pack_definition(module.Plain)
    assert load_definition(blob) is module.Plain
    assert len(blob) < 200
    assert (key, blob) == pack_definition(module.Plain)
    assert len(key) == 20


def test_keys_of_what_travels_by_name_are_the_same_everywhere(module, tmp_path):
    key, _ = pack_definition(module.plain)
    code = (
        "import users_module; from zactor.serde.definitions import pack_definition\n"
        "print(pack_definition(users_module.plain)[0].hex())"
    )
    assert elsewhere(code, path=str(tmp_path)) == key.hex()


@pytest.mark.parametrize("path", [True, False])
def test_what_was_replaced_under_its_name_travels_by_value(module, tmp_path, path):
    _, blob = pack_definition(module.Replaced.__zactor_definition__)
    # Its own code came along; the helper it calls, by name.
    answer = elsewhere(
        "print(load_definition(blobs[0])().hello())", blob, path=str(tmp_path) if path else None
    )
    assert ("helped" in answer) == path


def test_what_cannot_travel_by_value_travels_by_name_after_all(module, tmp_path):
    locked = module.locked.__zactor_definition__
    _, blob = pack_definition(locked)
    assert load_definition(blob) is locked
    assert elsewhere("print(load_definition(blobs[0])())", blob, path=str(tmp_path)) == "False"


def test_local_classes_and_lambdas_travel_by_value():
    base = 40

    class Adder:
        def add(self, x):
            return x + base

    _, of_class = pack_definition(Adder)
    _, of_lambda = pack_definition(lambda x: x + base)
    code = "print(load_definition(blobs[0])().add(2), load_definition(blobs[1])(3))"
    assert elsewhere(code, of_class, of_lambda) == "42 43"


def test_packing_twice_gives_the_same_key():
    class Local:
        pass

    assert pack_definition(Local)[0] == pack_definition(Local)[0]


def test_what_is_in_main_travels_by_value():
    code = (
        "import sys; from zactor.serde.definitions import pack_definition\n"
        "class Counter:\n    start = 5\n    def get(self): return self.start\n"
        "print(pack_definition(Counter)[1].hex())"
    )
    blob = bytes.fromhex(elsewhere(code))
    assert load_definition(blob)().get() == 5


def test_modules_made_by_hand_travel_by_value():
    made = types.ModuleType("made_by_hand")
    exec(
        "base = 2\ndef double(x): return base * helper(x)\ndef helper(x): return x",
        made.__dict__,
    )
    sys.modules["made_by_hand"] = made
    try:
        _, blob = pack_definition(made.double)
        assert not is_importable("made_by_hand")
    finally:
        cloudpickle.unregister_pickle_by_value(made)
        del sys.modules["made_by_hand"]
        is_importable.cache_clear()
    assert elsewhere("print(load_definition(blobs[0])(21))", blob) == "42"


def test_a_missing_module_is_named_with_advice(module):
    _, blob = pack_definition(module.Plain)
    answer = elsewhere(
        "from zactor.exceptions import DefinitionError\n"
        "try: load_definition(blobs[0])\n"
        "except ImportError as e: print(type(e).__name__, e.module, e)",
        blob,
    )
    assert answer.startswith("DefinitionError users_module The definition of Plain")
    for words in (
        "No module named 'users_module'",
        "py_modules",
        "working_dir",
        sys.executable,
    ):
        assert words in answer


def test_a_definition_that_is_gone_is_named(module):
    _, blob = pack_definition(module.Plain)
    del module.Plain
    with pytest.raises(
        DefinitionError, match="definition of Plain, from module 'users_module'"
    ):
        load_definition(blob)


def test_what_a_definition_cannot_take_along_is_named():
    lock = threading.Lock()

    def function():
        return lock

    class Holder:
        held = lock

    with pytest.raises(SerializationError, match="Could not serialize the function") as caught:
        pack_definition(function)
    assert caught.value.path.endswith("function -> closure variable 'lock'")
    with pytest.raises(
        SerializationError, match="Could not serialize the actor class"
    ) as caught:
        pack_definition(Holder)
    assert caught.value.path.endswith("Holder.held")


def test_large_arrays_in_a_closure_travel_with_it():
    import numpy as np

    array = np.arange(10_000)
    _, blob = pack_definition(lambda: array.sum())
    assert load_definition(blob)() == array.sum()


class Ref:
    def __reduce__(self):
        collect(self)
        return make_ref, ()


def make_ref():
    ref = Ref()
    loaded(ref)
    return ref


def test_references_in_a_closure_are_found_or_kept():
    ref = Ref()

    def function():
        return ref

    refs = []
    key, blob = pack_definition(function, refs)
    assert refs == [ref]
    assert key not in definitions._pinned
    pack_definition(function)
    assert definitions._pinned.pop(key) == [ref]
    found = []
    load_definition(blob, found)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("os", True), ("sys", True), ("os.path", True), ("numpy.linalg", True),
        ("zactor.serde.values", True), ("__main__", False), ("no_such_module", False),
        ("made.up", False),
    ],
)  # fmt: skip
def test_which_modules_another_process_could_import(name, expected):
    importlib.import_module("numpy.linalg")
    assert is_importable(name) is expected


def test_a_module_loaded_from_a_file_on_no_path_is_not_importable(tmp_path):
    path = tmp_path / "astray.py"
    path.write_text("x = 1\n")
    spec = importlib.util.spec_from_file_location("astray", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["astray"] = module
    try:
        spec.loader.exec_module(module)
        assert not is_importable("astray")
    finally:
        del sys.modules["astray"]
        is_importable.cache_clear()
