"""Rows for people: why an actor died."""

from __future__ import annotations

import pytest

from zactor.core.inventory import shown_cause


def test_one_that_lives_has_no_cause_of_death() -> None:
    assert shown_cause(None) is None
    assert shown_cause({}) is None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("killed", "RAY_KILL"),
        ("signal", "WORKER_DIED"),
        ("node", "NODE_DIED"),
        ("owner", "OWNER_DIED"),
        ("unheard of", "UNSPECIFIED"),
    ],
)
def test_a_cause_has_the_text_where_programs_look_for_it(kind: str, reason: str) -> None:
    shown = shown_cause({"kind": kind, "code": 9, "text": "it is gone", "owner": b"\xff"})
    assert shown == {
        "kind": kind,
        "code": 9,
        "text": "it is gone",
        "actor_died_error_context": {
            "error_message": "The actor is dead: it is gone",
            "reason": reason,
        },
    }


def test_the_pickled_exception_of_a_constructor_is_not_shown() -> None:
    error = ["constructor", "no nest", {"exception": b"\x80\x05"}]
    shown = shown_cause({"kind": "constructor", "text": "no nest", "error": error})
    assert shown == {
        "kind": "constructor",
        "code": 0,
        "text": "no nest",
        "creation_task_failure_context": {"formatted_exception_string": "no nest"},
    }
