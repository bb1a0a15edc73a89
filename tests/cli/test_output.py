"""How rows and values are shown."""

from __future__ import annotations

import json

import pytest

from zactor.cli import output

ROWS = [
    {"actor_id": "ab" * 12, "name": "", "resources": {"CPU": 1.0, "memory": 1 << 30}},
    {"actor_id": "cd" * 12, "name": "counter", "resources": {}},
]
COLUMNS = {"actor_id": "id", "name": "name", "resources": "has", "missing": "none"}


def test_a_table_that_is_not_in_a_terminal_is_plain_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.print_rows(ROWS, COLUMNS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "NAME", "HAS", "NONE"]
    assert lines[1].startswith("abababababab  -        CPU: 1, memory: 1.0 GiB")
    assert lines[2].startswith("cdcdcdcdcdcd  counter  -")
    assert "\x1b" not in "".join(lines)


def test_json_is_one_document_with_ids_as_hex(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"id": b"\x01\xff", "nested": [(b"\x02", None)], b"\x03": {1, 1}})
    assert json.loads(capsys.readouterr().out) == {
        "id": "01ff",
        "nested": [["02", None]],
        "03": [1],
    }


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("x", None, "-"),
        ("x", "", "-"),
        ("x", True, "yes"),
        ("x", 0, "0"),
        ("x", 1.5, "1.5"),
        ("x", [], "-"),
        ("x", [1, 2], "1, 2"),
        ("x", b"\x01\x02", "0102"),
        ("node_id", "ab" * 12, "ab" * 6),
        ("actors", ["ab" * 12], "ab" * 6),
        ("actors", 3, "3"),
    ],
)
def test_a_cell_is_short_text(column: str, value: object, text: str) -> None:
    assert output.shown(column, value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (2048, "2.0 KiB"), (5 << 20, "5.0 MiB"), (1 << 42, "4096.0 GiB")],
)
def test_sizes_are_in_the_unit_that_fits(count: int, text: str) -> None:
    assert output.size(count) == text
