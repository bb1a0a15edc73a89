"""The result of a run as plain data: what `--json` writes and every report reads.

`{"format": 1, "machine": {...}, "method": {...}, "engines": {...}, "missing": {...},
"lines": [...]}`; a line is one label with, per engine, its samples, median and spread, or why
there are none.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.statistic import median, spread

if TYPE_CHECKING:
    from pathlib import Path

    from bench.harness import Harness, Outcome, Results
    from bench.work import Case

FORMAT = 1

Document = dict[str, Any]
Line = dict[str, Any]


def build(harness: Harness, results: Results, machine: dict[str, Any]) -> Document:
    """Make the document of a finished run."""
    return {
        "format": FORMAT,
        "machine": machine,
        "method": asdict(harness.method),
        "engines": harness.versions,
        "missing": harness.missing,
        "left behind": harness.left_behind,
        "lines": [
            line(case, part, outcomes) for case, outcomes in results for part in _parts(case)
        ],
    }


def _parts(case: Case) -> tuple[str, ...]:
    return case.row.parts or ("",)


def line(case: Case, part: str, outcomes: dict[str, Outcome]) -> Line:
    """Make one line."""
    row = case.row
    return {
        "label": row.label(case.placement, part),
        "row": row.name,
        "part": part,
        "placement": case.placement,
        "group": case.group,
        "about": row.about,
        "unit": row.unit,
        "less is better": row.less_is_better,
        "engines": {engine: cell(outcome, part) for engine, outcome in outcomes.items()},
    }


def cell(outcome: Outcome, part: str) -> dict[str, Any]:
    """Make what one engine has in one line."""
    if outcome.failed:
        return {"failed": outcome.failed}
    if outcome.cannot or not outcome.samples:
        return {"cannot": outcome.cannot or "no sample"}
    samples = [
        sample[part] if isinstance(sample, dict) else sample for sample in outcome.samples
    ]
    return {"samples": samples, "median": median(samples), "spread": spread(samples)}


def save(document: Document, path: Path) -> None:
    """Write the document as JSON."""
    path.write_text(json.dumps(document, indent=1) + "\n")


def read(path: Path) -> Document:
    """Read a document that was saved.

    Raises:
        ValueError: It is not one, or of another format.
    """
    try:
        document = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not a result of bench/run.py: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{path} is not a result of bench/run.py in format {FORMAT}")
    return document
