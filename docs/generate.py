"""Writes the parts of the documentation that repeat what the code says.

    python docs/generate.py            rewrite them
    python docs/generate.py --check    fail if they are stale

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def source(path: str) -> str:
    return (ROOT / "zactor" / path).read_text()


def cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def constants(path: str, prefix: str) -> str:
    """A table of `NAME = number  # meaning` lines whose names match the prefix."""
    rows = [
        [match[2], f"`{match[1]}`", match[3] or ""]
        for match in re.finditer(
            rf"^({prefix}[A-Z_]*) = (-?\d+)(?:  # (.*))?$", source(path), re.MULTILINE
        )
    ]
    return table(["number", "name", "meaning"], rows)


def between(path: str, begin: str, end: str) -> str:
    text = source(path)
    return text[text.index(begin) : text.index(end)]


def plain_constants(path: str, begin: str, end: str) -> str:
    rows = [
        [match[2], f"`{match[1]}`", match[3] or ""]
        for match in re.finditer(
            r"^([A-Z_]+) = (-?\d+)(?:  # (.*))?$", between(path, begin, end), re.MULTILINE
        )
    ]
    return table(["number", "name", "meaning"], rows)


def control_messages() -> str:
    """A table for each section of `wire/messages.py`."""
    from zactor.wire.messages import CODES

    codes = {message.__name__: code for code, message in CODES.items()}
    out = []
    for title, body in _sections(source("wire/messages.py")):
        rows = []
        for match in re.finditer(
            r'^class (\w+)\(NamedTuple\):\n    """(.*?)"""\n(.*?)(?=^class |^# |\Z)',
            body,
            re.MULTILINE | re.DOTALL,
        ):
            name, text, fields = match.groups()
            if name in codes:
                names = re.findall(r"^    (\w+):", fields, re.MULTILINE)
                rows.append([str(codes[name]), f"`{name}`", " ".join(names), text])
        if rows:
            out.append(
                f"**{title}**\n\n" + table(["code", "message", "fields", "meaning"], rows)
            )
    return "\n".join(out)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    parts = re.split(r"^# -- (.*?) -+$", text, flags=re.MULTILINE)
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        yield title[0].upper() + title[1:], body


def command_line() -> str:
    """The help texts of all commands."""
    import click

    from zactor.cli.main import COMMANDS, main

    out = []
    with click.Context(main, info_name="zactor", **main.context_settings) as ctx:
        for name in COMMANDS:
            command = main.get_command(ctx, name)
            assert command is not None
            with click.Context(
                command, info_name=name, parent=ctx, max_content_width=88
            ) as sub:
                sub.terminal_width = 88
                out.append(f"## zactor {name}\n\n```text\n{command.get_help(sub)}\n```\n")
    return "\n".join(out)


def exit_codes() -> str:
    """What the entry point says about exit codes."""
    text = between("cli/main.py", "Exit codes\n", '"""\n\nfrom')
    rows = [line.split(None, 1) for line in text.splitlines()[1:] if line.strip()]
    return table(["code", "meaning"], rows)


def reference_messages() -> str:
    """The messages about references, by code."""
    from zactor.wire.references import REFERENCE_TYPES

    rows = [
        [str(code), f"`{kind.__name__}`", kind._fields[0], kind.__doc__ or ""]
        for code, kind in enumerate(REFERENCE_TYPES)
    ]
    return table(["code", "message", "id", "meaning"], rows)


def errors() -> str:
    """The tree of errors, then each with its fields."""
    from zactor import exceptions

    text = exceptions.__doc__ or ""
    tree = text[text.index("    ZactorError\n") : text.index("\n\nRay's own names")]
    tree = "\n".join(line[4:] for line in tree.splitlines())
    classes = {
        value
        for name in exceptions.__all__
        if isinstance(value := getattr(exceptions, name), type)
        and issubclass(value, exceptions.ZactorError)
    }
    rows = []
    for error in sorted(classes, key=lambda error: error.__name__):
        meaning = (error.__doc__ or "").split("\n\n")[0]
        fields = " ".join(f"`{name}`" for name in error._fields)
        rows.append([f"`{error.__name__}`", meaning, fields])
    others = {
        name: value.__name__
        for name in exceptions.__all__
        if isinstance(value := getattr(exceptions, name), type) and value.__name__ != name
    }
    aliases = ", ".join(f"`{name}` is `{own}`" for name, own in sorted(others.items()))
    rows_text = table(["error", "meaning", "fields"], rows)
    return f"```text\n{tree}\n```\n\n{rows_text}\nRay's names: {aliases}.\n"


def settings() -> str:
    """The environment variables of `zactor.config`."""
    rows = []
    pattern = r'^    (\w+): \w+ = (.*?)(?:  #[^\n]*)?\n    """(.*?)"""'
    for match in re.finditer(pattern, source("config.py"), re.MULTILINE | re.DOTALL):
        name, default, meaning = match.groups()
        rows.append([f"`ZACTOR_{name.upper()}`", f"`{default}`", meaning])
    return table(["variable", "default", "meaning"], rows)


def decisions() -> str:
    """A link to each decision."""
    out = []
    for page in sorted((DOCS / "internals" / "decisions").glob("0*.md")):
        title = page.read_text().splitlines()[0].lstrip("# ")
        out.append(
            f"- [{page.name[:4]}: {re.sub(r'^[0-9]+[:.]? *', '', title)}]({page.name})\n"
        )
    return "".join(out)


GENERATORS: dict[str, Callable[[], str]] = {
    "kinds": lambda: plain_constants("wire/codec.py", "HELLO =", "_codes"),
    "methods": lambda: plain_constants("wire/batches.py", "VOID =", "# Keys of a call"),
    "call_extras": lambda: constants("wire/batches.py", "X_"),
    "call_flags": lambda: constants("wire/batches.py", "F_"),
    "statuses": lambda: plain_constants("wire/batches.py", "# Statuses", "# Keys of a reply"),
    "reply_extras": lambda: constants("wire/batches.py", "Y_"),
    "control_messages": control_messages,
    "reference_messages": reference_messages,
    "errors": errors,
    "settings": settings,
    "decisions": decisions,
    "command_line": command_line,
    "exit_codes": exit_codes,
}


def fresh(text: str) -> str:
    """Return a page with all its generated parts written anew."""
    return PART.sub(lambda match: f"{match[1]}{GENERATORS[match[2]]()}{match[3]}", text)


def stale_pages() -> dict[Path, str]:
    """Return the pages that are not what the code says, with what they should be."""
    pages = {path: path.read_text() for path in sorted(DOCS.rglob("*.md"))}
    return {path: new for path, text in pages.items() if (new := fresh(text)) != text}


def main() -> None:
    sys.path.insert(0, str(ROOT))
    stale = stale_pages()
    for path, text in stale.items():
        print(
            ("stale: " if "--check" in sys.argv else "rewritten: ")
            + str(path.relative_to(ROOT))
        )
        if "--check" not in sys.argv:
            path.write_text(text)
    if stale and "--check" in sys.argv:
        sys.exit(1)


if __name__ == "__main__":
    main()
