"""Errors that nobody asks for."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from zactor.core.calls import ERROR, NATIVE, USER_ERROR, Result, Stream
from zactor.exceptions import TaskCancelledError
from zactor.runtime.calls.unhandled import UnhandledErrors, asked_for, handled
from zactor.runtime.calls.values import error_of
from zactor.serde.exceptions import pack_exception


class Program:
    """A process as `UnhandledErrors` sees one; its callbacks run at once."""

    def __init__(self) -> None:
        self.shared: set[int] = set()
        self.is_over: Exception | None = None
        self.caller = SimpleNamespace(on_user_error=None)
        self.objects = SimpleNamespace(is_shared=lambda result: id(result) in self.shared)
        self.reception = SimpleNamespace(
            housekeeping=[], gathered=lambda: None, wake_leader=lambda: None, call_soon=_now
        )
        self.errors = UnhandledErrors(self)

    def call(self, error: BaseException | None = None, name: str = "train") -> Result:
        result = Result(SimpleNamespace(caller=b"c" * 16), 1, 0, None, None, 0)
        if error is not None:
            self.fail(result, error, name)
        return result

    def fail(self, result: Result, error: BaseException, name: str = "train") -> None:
        payload = pack_exception(error, name)[0]
        kept = self.caller.on_user_error(result, payload)
        result.settle_keeping(USER_ERROR, payload, kept)

    def look(self) -> None:
        gc.collect()
        for due, work in self.reception.housekeeping:
            if due:
                work()


def _now(callback: Callable[[], None]) -> None:
    callback()


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, logger="zactor")
    return lambda: [record.getMessage() for record in caplog.records]


Said = Callable[[], list[str]]


def test_an_error_that_nobody_asked_for_is_said_when_its_reference_goes(
    program: Program, said: Said
) -> None:
    result = program.call(ValueError("too hot"))
    program.look()
    assert said() == []
    del result
    program.look()
    [text] = said()
    assert "zactor::train()" in text
    assert "ValueError: too hot" in text
    assert "ZACTOR_SHOW_UNHANDLED_ERRORS=0" in text


def test_an_error_that_was_raised_is_not_said(program: Program, said: Said) -> None:  # H1
    result = program.call(ValueError("too hot"))
    assert isinstance(error_of(result), ValueError)
    del result
    program.look()
    assert said() == []


def test_the_errors_of_a_list_of_which_one_was_raised_are_not_said(
    program: Program, said: Said
) -> None:  # H1
    early, late, fine = program.call(ValueError("early")), program.call(), program.call()
    asked_for([early, late, fine])
    asked_for([late])  # again
    assert len(late.waiters) == 1
    program.fail(late, ValueError("late"))
    fine.settle(NATIVE, 1)
    del early, late, fine
    program.look()
    assert said() == []


def test_what_others_may_ask_for_is_not_said(program: Program, said: Said) -> None:
    result = program.call()
    program.shared.add(id(result))
    program.fail(result, ValueError("shared"))
    del result
    program.look()
    assert said() == []


@pytest.mark.parametrize("payload", [(b"", ()), None])
def test_other_results_can_be_marked_too(payload: Any) -> None:
    stream = Stream.__new__(Stream)
    result = Result(stream, 1, 0, None, payload, 0)
    handled(result)
    result.settle(ERROR, TaskCancelledError())
    handled(result)
    assert result.pin is None


def test_a_cancelled_call_has_not_failed(program: Program, said: Said) -> None:
    result = program.call(TaskCancelledError(executed="unknown"))
    del result
    program.look()
    assert said() == []


def test_the_same_error_of_the_same_function_is_said_once(program: Program, said: Said) -> None:
    for name, text in (("train", "hot"), ("train", "hot"), ("train", "cold"), ("test", "hot")):
        program.call(ValueError(text), name)
        program.look()
    assert len(said()) == 3


def test_nothing_is_said_after_the_session(program: Program, said: Said) -> None:
    result = program.call(ValueError("late"))
    program.is_over = RuntimeError("shutdown")
    del result
    program.look()
    assert said() == []


def test_a_setting_turns_it_off(
    program: Program, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZACTOR_SHOW_UNHANDLED_ERRORS", "0")
    program.call(ValueError("too hot"))
    program.look()
    assert said() == []
