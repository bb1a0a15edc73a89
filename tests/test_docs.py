"""The documentation says what is so: its snippets run, its links lead somewhere, its tables are fresh.

The Python blocks of a page are one program. `print(...)  # text` at the left margin must print a
line that `text` begins with. A block marked `python no-run` is only compiled.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python( no-run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def program_of(page: Path) -> str:
    return "\n".join(code for skip, code in BLOCK.findall(page.read_text()) if not skip)


RUNNABLE = [page for page in PAGES if program_of(page)]


def expected_lines(source: str) -> list[str]:
    """What `print` lines promise, in order."""
    found = re.finditer(
        r"^ *print\(.*\)  +# (.*)$|^ *print\(.*\) # (.*)$", source, re.MULTILINE
    )
    return [match[1] or match[2] for match in found]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_page_is_reached_from_the_index() -> None:
    reached: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop().resolve()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        todo += [page.parent / link for link in LINK.findall(page.read_text())]
    assert not [page_id(page) for page in PAGES if page.resolve() not in reached]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_in_the_documentation_compiles(page: Path) -> None:
    for _, code in BLOCK.findall(page.read_text()):
        compile(code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("page", RUNNABLE, ids=page_id)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page: Path, program: Any) -> None:
    source = program_of(page)
    done = program.run(source=source)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    promised = expected_lines(source)
    assert len(lines) == len(promised), done.stdout
    for line, comment in zip(lines, promised, strict=True):
        assert comment.startswith(line)


def test_generated_parts_are_what_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = [page_id(page) for page in generate.stale_pages()]
    assert not stale, "run: python docs/generate.py"


@pytest.mark.parametrize(
    "table", ["TASK_OPTIONS", "ACTOR_OPTIONS", "METHOD_OPTIONS", "CALL_OPTIONS"]
)
def test_each_option_is_in_the_reference(table: str) -> None:
    from zactor import options

    text = (ROOT / "docs" / "reference" / "options.md").read_text()
    assert not [name for name in getattr(options, table) if f"`{name}`" not in text]


def functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


@pytest.mark.parametrize("page", [ROOT / "docs" / "guarantees.md"], ids=page_id)
def test_each_test_that_is_named_exists(page: Path) -> None:
    missing = [
        f"{path}::{name}"
        for path, name in TEST_NAME.findall(page.read_text())
        if not (ROOT / path).exists() or name not in functions_in(ROOT / path)
    ]
    assert not missing


def test_each_guarantee_names_a_test_or_says_that_none_proves_it() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    rows = re.findall(r"^\| (G\d+\.\d+) \|.*\| (.*?) \|$", text, re.MULTILINE)
    numbers = [number for number, _ in rows]
    assert len(numbers) == len(set(numbers)) > 30
    for number, proof in rows:
        assert proof == "—" or TEST_NAME.search(proof), number


def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert (
        "\npython3 -m venv .venv && .venv/bin/pip install . && .venv/bin/zactor demo\n" in text
    )
    assert (
        "\npython3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/pytest\n"
        in text
    )
