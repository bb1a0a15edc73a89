"""Type checkers say of sample.py what its comments promise.

mypy is asked always; pyright (or basedpyright, which is the same checker) where it is installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = Path(__file__).with_name("sample.py")
PYRIGHT = next(
    filter(
        None,
        (
            shutil.which(name, path=where)
            for name in ("basedpyright", "pyright")
            for where in (str(Path(sys.executable).parent), None)
        ),
    ),
    None,
)

Said = tuple[dict[int, str], set[int]]


def promised(checker: str) -> Said:
    """What each line promises: the type that is revealed, and whether there is an error."""
    revealed, wrong = {}, set()
    for number, line in enumerate(SAMPLE.read_text().splitlines(), 1):
        comment = line.partition("  # ")[2]
        if "reveal_type(" in line and comment:
            revealed[number] = comment.removeprefix("-> ")
        elif comment in ("error", f"{checker}: error"):
            wrong.add(number)
    assert len(revealed) > 30
    assert len(wrong) > 20
    return revealed, wrong


def run(*command: str) -> str:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    ).stdout


def test_mypy_says_what_the_sample_promises(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    output = run(
        sys.executable, "-m", "mypy", "--no-pretty", "--no-error-summary",
        f"--cache-dir={tmp_path}", str(SAMPLE.relative_to(ROOT)),
    )  # fmt: skip
    revealed: dict[int, str] = {}
    wrong = set()
    for found in re.finditer(
        r"^tests/typing/sample\.py:(\d+)(?::\d+)?: (\w+): (.*)$", output, re.MULTILINE
    ):
        number, text = int(found[1]), found[3]
        if found[2] == "error":
            wrong.add(number)
        elif text.startswith("Revealed type is "):
            revealed[number] = re.sub(
                r"\b(\w+\.)+(?=\w)", "", text[len("Revealed type is ") :].strip('"')
            )
    assert (revealed, wrong) == promised("mypy"), output


@pytest.mark.skipif(PYRIGHT is None, reason="pyright is not installed")
def test_pyright_says_what_the_sample_promises(tmp_path: Path) -> None:
    config = tmp_path / "pyrightconfig.json"
    config.write_text(
        json.dumps(
            {
                "include": [str(SAMPLE)],
                "typeCheckingMode": "standard",
                "extraPaths": [str(ROOT)],
            }
        )
    )
    output = run(
        str(PYRIGHT), "--outputjson", "-p", str(config), "--pythonpath", sys.executable
    )
    found: list[dict[str, Any]] = json.loads(output)["generalDiagnostics"]
    revealed: dict[int, str] = {}
    wrong = set()
    for each in found:
        number = each["range"]["start"]["line"] + 1
        about = re.match(r'Type of ".*" is "(.*)"$', each["message"])
        if each["severity"] == "error":
            wrong.add(number)
        elif about is not None:
            revealed[number] = about[1]
    assert (revealed, wrong) == promised("pyright"), output


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "zactor" / "py.typed").is_file()
