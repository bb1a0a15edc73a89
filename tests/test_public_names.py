"""What is public is listed, sorted, documented, and stays picklable."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import zactor
from zactor import exceptions

ROOT = Path(__file__).resolve().parent.parent
MODULES = ["zactor", "zactor.exceptions", "zactor.util", "zactor.testing"]
ERRORS = sorted(
    {
        value
        for name in exceptions.__all__
        if isinstance(value := getattr(exceptions, name), type)
        and issubclass(value, exceptions.ZactorError)
        and value is not exceptions.TaskError  # made by serde alone, and tested there
    },
    key=lambda error: error.__name__,
)


def public(module: Any) -> list[str]:
    return [name for name in module.__all__ if not name.startswith("_")]


def is_described(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)


@pytest.mark.parametrize("name", MODULES)
def test_public_names_exist_once_each(name: str) -> None:
    module = importlib.import_module(name)
    names = module.__all__
    assert len(names) == len(set(names))
    for public_name in names:
        assert hasattr(module, public_name), public_name


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    known = set(re.findall(r"\w+", text))
    missing = [n for n in public(importlib.import_module(name)) if n not in known]
    assert not missing


@pytest.mark.parametrize("name", MODULES)
def test_every_public_class_and_function_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    values = [(n, getattr(module, n)) for n in public(module)]
    assert not [n for n, value in values if is_described(value) and not value.__doc__]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_pickles_with_its_fields(error: Any) -> None:
    fields = {name: f"a {name}" for name, value in error._fields.items() if value == ""}
    made = error("what happened", **fields)
    made.add_note("a note")
    for other in (pickle.loads(pickle.dumps(made)), copy.copy(made)):
        assert type(other) is type(made)
        assert str(other) == str(made)
        assert {name: getattr(other, name) for name in fields} == fields


RAY_NAMES = """
init shutdown is_initialized remote method get put wait kill cancel get_actor nodes cluster_resources
available_resources get_runtime_context ObjectRef ObjectRefGenerator exceptions util actor
"""


def test_ray_programs_find_their_names() -> None:
    assert not [name for name in RAY_NAMES.split() if not hasattr(zactor, name)]
