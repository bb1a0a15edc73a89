"""Specs that actors share."""

from __future__ import annotations

from typing import Any

import pytest

from zactor.core.specs import SharedSpec, without_arguments

COMMON = {"job": b"job", "name": "", "running": {}}


def test_a_shared_spec_reads_like_a_dict_of_its_own() -> None:
    spec = SharedSpec(COMMON, b"actor", b"arguments")
    plain = {**COMMON, "id": b"actor", "args": b"arguments"}
    assert dict(spec) == {**spec} == plain
    assert len(spec) == len(plain)
    for name in (*plain, "owner"):
        assert spec.get(name, 5) == plain.get(name, 5)
        assert (name in spec) == (name in plain)
    assert spec["args"] == b"arguments"
    with pytest.raises(KeyError):
        spec["owner"]


def test_its_own_fields_come_before_the_shared_ones() -> None:
    spec = SharedSpec({**COMMON, "id": b"another", "args": b"others"}, b"actor", None)
    assert (spec["id"], spec["args"], spec.get("args", 1)) == (b"actor", None, None)
    assert list(spec).count("id") == 1


@pytest.mark.parametrize(
    "spec",
    [
        SharedSpec(COMMON, b"actor", b"x"),
        SharedSpec({**COMMON, "args": b"y"}, b"actor", b"x"),
        SharedSpec(COMMON, b"actor"),
        {**COMMON, "id": b"actor", "args": b"x"},
        {**COMMON, "id": b"actor"},
    ],
    ids=["shared", "shared twice", "without", "dict", "dict without"],
)
def test_a_spec_without_arguments_has_all_the_rest(spec: Any) -> None:
    left = without_arguments(spec)
    assert dict(left) == {**COMMON, "id": b"actor"}
    assert left.get("args") is None
    assert without_arguments(left) is left
