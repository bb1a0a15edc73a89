"""What a run looks like in a terminal and in Markdown, and what moved since another run.

Every line is shown, whoever is ahead in it.
"""

from __future__ import annotations

import shutil
import sys
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from bench import targets
from bench.statistic import geometric_mean, moved, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.document import Document, Line

OURS = "zactor"


def number(value: float) -> str:
    """Write a figure with three digits that mean something."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 else f"{value:.3g}"


def figure(cell: dict) -> str:
    """Write an engine's median and spread, or why it has none."""
    if "median" not in cell:
        return "failed" if "failed" in cell else "-"
    return f"{number(cell['median'])} ±{cell['spread'] * 100:.0f}%"


def ahead(line: Line, engine: str) -> float | None:
    """Return how many times better zactor is than `engine` in this line, if both were measured."""
    ours, theirs = line["engines"].get(OURS, {}), line["engines"].get(engine, {})
    if "median" not in ours or "median" not in theirs:
        return None
    return ratio(ours["median"], theirs["median"], less_is_better=line["less is better"])


def times(value: float | None) -> str:
    """Write a ratio."""
    return "" if value is None else f"x{number(value)}"


def header(document: Document) -> list[str]:
    """Write the machine, the versions and the method."""
    machine, method = document["machine"], document["method"]
    lines = ["machine  " + ", ".join(f"{key} {value}" for key, value in machine.items())]
    for engine, versions in document["engines"].items():
        text = ", ".join(f"{package} {version}" for package, version in versions.items())
        lines.append(f"{engine:<8} {text}")
    for engine, reason in document["missing"].items():
        lines.append(f"{engine:<8} takes no part: {reason}")
    sizes = "; sizes and times reduced (--quick)" if method["quick"] else ""
    lines.append(
        f"method   {method['repetitions']} samples of up to {method['seconds']:g} s each, engines "
        f"interleaved, idle ones frozen; median ± half the interquartile range; x is how many "
        f"times better zactor is{sizes}"
    )
    return lines


def table(document: Document) -> tuple[list[str], list[list[str]]]:
    """Lay out one line per label: zactor, then each other engine and its ratio."""
    others = [engine for engine in _engines(document) if engine != OURS]
    heads = ["row", "unit", OURS, *others, "goal"]
    rows = []
    lines = _by_label(document)
    for line in document["lines"]:
        cells = [line["label"], line["unit"], figure(line["engines"].get(OURS, {}))]
        for engine in others:
            cell = line["engines"].get(engine, {})
            cells.append(f"{figure(cell)} {times(ahead(line, engine))}".strip())
        rows.append([*cells, goal(line, lines)])
    return heads, rows


def goal(line: Line, lines: Mapping[str, Line] | None = None) -> str:
    """Say how the line stands against what zactor set itself, where that can be told.

    `lines` are those of the same run, by label: some goals are held against another line.
    """
    verdicts = []
    for target in targets.of(line["label"]):
        value = _reached(line, target, lines or {})
        if value is None:
            continue
        mark = "aim" if target.aim_met(value) else "ok" if target.met(value) else "MISSED"
        verdicts.append(f"{mark} {target}")
    return ", ".join(verdicts)


def _reached(line: Line, target: targets.Target, lines: Mapping[str, Line]) -> float | None:
    if target.against:
        return ahead(line, target.against)
    own = _own(line)
    if not target.row:
        return own
    other = _own(lines[target.row]) if target.row in lines else None
    return None if own is None or not other else own / other


def _own(line: Line) -> float | None:
    return line["engines"].get(OURS, {}).get("median")


def _by_label(document: Document) -> dict[str, Line]:
    return {line["label"]: line for line in document["lines"]}


def _engines(document: Document) -> list[str]:
    found = dict.fromkeys(engine for line in document["lines"] for engine in line["engines"])
    return list(found)


def show(document: Document, stream: TextIO | None = None) -> None:
    """Print header, results and reasons; one table if it fits, else one block per row."""
    stream = stream or sys.stdout
    for text in header(document):
        print(text, file=stream)
    heads, rows = table(document)
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    if sum(widths) + 2 * len(widths) <= shutil.get_terminal_size((120, 40)).columns:
        _show_table(document, heads, rows, widths, stream)
    else:
        _show_blocks(document, stream)
    _show_reasons(document, stream)


def _show_table(
    document: Document,
    heads: list[str],
    rows: list[list[str]],
    widths: list[int],
    stream: TextIO,
) -> None:
    def text(cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if i in (0, 1, len(cells) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    for group, members in groupby(zip(document["lines"], rows, strict=True), _group):
        print(f"\n-- {group}", file=stream)
        print(text(heads), file=stream)
        for _, row in members:
            print(text(row), file=stream)


def _group(member: tuple[Line, list[str]]) -> str:
    return member[0]["group"]


def _show_blocks(document: Document, stream: TextIO) -> None:
    by_label = _by_label(document)
    for group, lines in groupby(document["lines"], lambda line: line["group"]):
        print(f"\n-- {group}", file=stream)
        for line in lines:
            reached = goal(line, by_label)
            print(line["label"] + (f"   ({reached})" if reached else ""), file=stream)
            for engine, cell in line["engines"].items():
                if "cannot" in cell:
                    continue
                value = figure(cell)
                unit = line["unit"] if "median" in cell else ""
                factor = times(ahead(line, engine)) if engine != OURS else ""
                print(f"    {engine:<20}{value:>18} {unit:<12}{factor}".rstrip(), file=stream)


def _show_reasons(document: Document, stream: TextIO) -> None:
    print("\n-- what was not measured", file=stream)
    reasons: dict[tuple[str, str], list[str]] = {}
    for line in document["lines"]:
        for engine, cell in line["engines"].items():
            reason = cell.get("failed") or cell.get("cannot")
            if reason:
                kind = "FAILED: " if "failed" in cell else ""
                reasons.setdefault((engine, kind + reason), []).append(line["label"])
    for (engine, reason), labels in reasons.items():
        what = "; ".join(labels) if len(labels) <= 3 else f"{len(labels)} rows"
        print(f"{engine:<8} {reason}  ({what})", file=stream)
    for engine, count in document["left behind"].items():
        print(f"{engine:<8} left {count} processes behind when told to stop", file=stream)


def failures(document: Document, engine: str = OURS) -> list[str]:
    """Return the labels of the lines the engine failed."""
    return [
        line["label"]
        for line in document["lines"]
        if "failed" in line["engines"].get(engine, {})
    ]


def markdown(document: Document) -> str:
    """Write the whole run as Markdown tables, one per group."""
    heads, rows = table(document)
    parts = ["```", *header(document), "```"]
    for group, members in groupby(zip(document["lines"], rows, strict=True), _group):
        parts += ["", f"### {group}", "", _row(heads), _row(["---"] * len(heads))]
        parts += [_row(row) for _, row in members]
    return "\n".join(parts) + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# -- comparing two runs ------------------------------------------------------------------------


def compare(old: Document, new: Document, engine: str = OURS) -> list[str]:
    """Say which of the engine's lines moved beyond noise between two runs.

    The machine may have become slower or faster as a whole; how much is taken from what raw
    pyzmq and memcpy did in both runs, and the same factor is taken out of every line.
    """
    before = {line["label"]: line for line in old["lines"]}
    drift = machine_drift(before, new)
    text = [
        f"{engine}: {len(new['lines'])} lines against {old['machine'].get('date', 'the old run')}"
    ]
    if old["method"]["quick"] != new["method"]["quick"]:
        text.append("one of the runs is --quick: the sizes of some rows differ")
    if drift != 1.0:
        text.append(f"the machine itself: x{drift:.2f} (pyzmq and memcpy); taken out below")
    for line in new["lines"]:
        found = before.get(line["label"])
        verdict = _verdict(found, line, engine, drift) if found else "new line"
        if verdict:
            text.append(f"{line['label']}: {verdict}")
    gone = before.keys() - {line["label"] for line in new["lines"]}
    text += [f"{label}: not in this run" for label in before if label in gone]
    return text


def machine_drift(before: dict[str, Line], new: Document) -> float:
    """Return how much faster the machine is now, from engines that did not change."""
    factors = []
    for line in new["lines"]:
        for engine in ("pyzmq", "memcpy"):
            now = line["engines"].get(engine, {}).get("median")
            then = (
                before.get(line["label"], {}).get("engines", {}).get(engine, {}).get("median")
            )
            if now and then:
                factors.append(ratio(now, then, less_is_better=line["less is better"]))
    return geometric_mean(factors) if len(factors) >= 3 else 1.0


_NOT_SPEED = ("MiB", "KiB", "%", "x ideal")


def _verdict(old: Line, new: Line, engine: str, drift: float) -> str:
    then, now = old["engines"].get(engine, {}), new["engines"].get(engine, {})
    if "samples" not in then or "samples" not in now:
        was, is_now = figure(then), figure(now)
        return (
            ""
            if was == is_now or "samples" in then == "samples" in now
            else f"{was} -> {is_now}"
        )
    less = new["less is better"]
    factor = 1.0 if new["unit"] in _NOT_SPEED else 1 / drift if less else drift
    if not moved(then["samples"], now["samples"], drift=factor):
        return ""
    change = ratio(now["median"], then["median"] * factor, less_is_better=less)
    word = "better" if change > 1 else "WORSE"
    by = change if change > 1 else 1 / change if change else float("inf")
    return f"{figure(then)} -> {figure(now)} {new['unit']}, {word} by x{by:.2f}"
