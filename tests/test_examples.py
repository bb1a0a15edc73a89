"""Every example runs by itself, says what its docstring promises, and leaves nothing behind.

In the expected output `...` stands for what differs from run to run.
"""

from __future__ import annotations

import ast
import doctest
import importlib.util
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ids = [path.stem for path in EXAMPLES]

pytestmark = [pytest.mark.slow, pytest.mark.system]


def expected_output(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    _, found, output = docstring.partition("Expected output:\n\n")
    assert found, "the docstring says what to expect"
    return textwrap.dedent(output).strip() + "\n"


def test_there_are_eight_to_ten_examples() -> None:
    assert 8 <= len(EXAMPLES) <= 10


@pytest.mark.parametrize("path", EXAMPLES, ids=ids)
def test_an_example_is_short_and_can_be_run_by_tools_that_read_its_header(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# /// script\n# requires-python = ")
    assert '"zactor"]' in text
    assert "def main() -> None:" in text
    assert len(text.splitlines()) <= 80


@pytest.mark.timeout(120)
@pytest.mark.parametrize("path", EXAMPLES, ids=ids)
def test_an_example_prints_what_its_docstring_promises(path: Path, program: Any) -> None:
    if path.stem == "model_versions" and not importlib.util.find_spec("sklearn"):
        pytest.skip("scikit-learn is not installed")
    done = program.run(str(path), timeout=90)
    assert done.returncode == 0, done.stderr
    same = doctest.OutputChecker().check_output
    assert same(expected_output(path), done.stdout, doctest.ELLIPSIS), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
