"""What method numbers stand for, when the call that says so does not run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from zactor.runtime.hosting.calling import Execution
from zactor.wire import batches


@pytest.fixture
def execution() -> Execution:
    functions = {b"one": lambda: 1, b"two": lambda: 2}
    process: Any = SimpleNamespace(definitions=SimpleNamespace(load=functions.__getitem__))
    return Execution(process, None, "")


def defining(number: int, key: bytes) -> list[Any]:
    return [None, {batches.X_FUNCTION: [number, key, key.decode()]}]


def test_a_call_that_is_not_run_defines_its_function_for_later_ones(
    execution: Execution,
) -> None:
    execution.not_run_here(defining(1_000, b"one"))
    execution.not_run_here(b"arguments alone")
    execution.not_run_here([b"arguments", {}])
    assert execution.functions[1_000]() == 1
    assert execution.names[1_000] == "one"
    assert execution.functions.get(1_001) is None
    with pytest.raises(KeyError):
        execution.functions[1_001]


def test_the_number_of_an_earlier_lease_is_not_taken_for_that_of_this_one(
    execution: Execution,
) -> None:
    execution.bind(1_000, "one", lambda: 1)
    execution.not_run_here(defining(1_000, b"two"))
    assert execution.functions.get(1_000)() == 2  # type: ignore[misc]
