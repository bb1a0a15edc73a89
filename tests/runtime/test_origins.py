"""Names within a worker's output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.runtime.insight.origins import Marks, mark, name_output, say_name


def test_text_without_names_is_as_it_was() -> None:
    assert Marks().take(b"one\ntwo") == [(None, b"one\ntwo")]


def test_a_name_is_taken_out_and_begins_what_follows() -> None:
    data = b"before" + mark("train") + b"after\n"
    assert Marks().take(data) == [(None, b"before"), ("train", b"after\n")]


def test_other_escape_sequences_stay() -> None:
    data = b"\x1b[31mred\x1b[0m \x1b_other\x1b\\\n"
    assert Marks().take(data) == [(None, data)]


def test_what_only_looks_like_a_name_comes_at_the_end() -> None:
    marks = Marks()
    assert marks.take(b"text\x1b_zac") == [(None, b"text")]
    assert marks.rest() == b"\x1b_zac"
    assert marks.rest() == b""


def test_a_name_that_is_too_long_for_one_is_text() -> None:
    data = b"\x1b_zactor:" + b"x" * 300
    taken = Marks().take(data)
    assert b"".join(text for _, text in taken) == data
    assert {name for name, _ in taken} == {None}


@given(
    st.lists(st.one_of(st.sampled_from([mark("f"), mark(""), b"\x1b", b"\n"]), st.binary())),
    st.integers(1, 7),
)
def test_however_it_is_cut_nothing_is_lost_and_names_are_the_same(
    parts: list[bytes], size: int
) -> None:
    data = b"".join(parts)

    def read(chunks: list[bytes]) -> tuple[list[str], bytes]:
        marks = Marks()
        taken = [piece for chunk in chunks for piece in marks.take(chunk)]
        names = [name for name, _ in taken if name is not None]
        return names, b"".join(text for _, text in taken) + marks.rest()

    cut = [data[at : at + size] for at in range(0, len(data), size)]
    assert read(cut) == read([data])


@contextmanager
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bytes]]:
    """Descriptor 1 is a pipe, with a `sys.stdout` upon it; gives what was printed."""
    end, pipe = os.pipe()
    before = os.dup(1)
    os.dup2(pipe, 1)
    os.close(pipe)
    monkeypatch.setattr(sys, "stdout", open(1, "w", closefd=False))  # noqa: SIM115, PTH123
    monkeypatch.setattr(sys, "stderr", None)
    try:
        yield lambda: os.read(end, 1000)
    finally:
        sys.stdout.flush()
        os.dup2(before, 1)
        os.close(before)
        os.close(end)


def test_a_name_is_said_when_something_is_printed_under_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with piped(monkeypatch) as printed:
        stream, running = sys.stdout, ""
        name_output(lambda: running)
        print("nobody")
        running = "f"
        print("one")
        print("two")
        running = "g"  # prints nothing, and is not named
        running = ""
        print("nobody again")
        said = printed()
        is_the_same = sys.stdout is stream
    assert said == b"nobody\n" + mark("f") + b"one\ntwo\n" + mark("") + b"nobody again\n"
    assert is_the_same  # who had it before has it still


def test_a_name_for_all_that_comes_stands_behind_what_was_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with piped(monkeypatch) as printed:
        sys.stdout.write("made")
        say_name("Counter#7")
        os.write(1, b"from C\n")
        said = printed()
    assert said == b"made" + mark("Counter#7") + b"from C\n"
