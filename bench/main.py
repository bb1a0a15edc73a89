"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from bench import document, engines, machine, plot, report, rows
from bench.harness import Harness, Method, Results
from bench.progress import Progress
from bench.work import Case, select

QUICK_BUDGET = 48.0  # seconds for the rows of --quick; starting and ending come on top

EPILOGUE = """
One-at-a-time rows are shown pinned to one core, with one core each, and unpinned: they differ by
2-3x from placement alone. Ratios are the result; absolute figures are not. Without --engines,
every engine that is installed takes part; with --quick only zactor, raw pyzmq and memcpy do.
The exit status is 1 if zactor failed a row.
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "bench/run.py",
        description="Measure zactor, its peers and its ceilings, interleaved.",
        epilog=EPILOGUE,
    )
    add = parser.add_argument
    add("--rows", default="", metavar="REGEX", help="only rows whose label matches")
    add("--engines", metavar="LIST", help=f"of {', '.join(engines.MODULES)}; comma-separated")
    add("--quick", action="store_true", help="under 60 seconds: reduced sizes, fewer samples")
    add("--seconds", type=float, help="length of a sample")
    add("--repetitions", type=int, help="samples per row and engine")
    add("--patience", type=float, help="seconds after which a row counts as hung")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    add("--markdown", type=Path, metavar="FILE", help="write the tables for a page")
    add("--plot", type=Path, metavar="FILE", help="draw the ratios, .svg or .png")
    add("--compare", type=Path, metavar="OLD.json", help="which rows moved beyond noise")
    add("--show", type=Path, metavar="RUN.json", help="report on a saved run, measure nothing")
    add(
        "--python",
        action="append",
        default=[],
        metavar="ENGINE=PATH",
        help="the interpreter an engine is installed in, if not this one",
    )
    add("--list", action="store_true", help="list rows and what they do, measure nothing")
    options = parser.parse_args(arguments)
    options.pythons = dict(each.split("=", 1) for each in options.python)
    options.names = _engines(parser, options)
    if options.plot is not None and options.plot.suffix not in plot.DRAW:
        parser.error("--plot wants a name that ends in .svg or .png")
    return options


def _engines(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    if options.engines is None:
        return list(engines.QUICK if options.quick else engines.MODULES)
    names = [name.strip() for name in options.engines.split(",")]
    for name in names:
        if name not in engines.MODULES:
            parser.error(f"no engine {name!r}; there are {', '.join(engines.MODULES)}")
    return names


def method(options: argparse.Namespace) -> Method:
    """Choose how the run is done."""
    if options.quick:
        chosen = Method(
            repetitions=3,
            seconds=0.25,
            warm_up=0.1,
            quick=True,
            budget=QUICK_BUDGET,
            patience=8.0,
        )
    else:
        chosen = Method()
    chosen.seconds = options.seconds or chosen.seconds
    chosen.repetitions = options.repetitions or chosen.repetitions
    chosen.patience = options.patience or chosen.patience
    return chosen


def measure(options: argparse.Namespace, cases: list[Case]) -> document.Document:
    """Run the cases."""
    header = machine.describe()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    harness = Harness(options.names, options.pythons, machine.cpus(), method(options), folder)
    bar = Progress(len(cases))
    try:
        harness.greet()
        results: Results = harness.run(
            cases,
            lambda i, case, engine: bar.at(i, f"{case.row.label(case.placement)}: {engine}"),
        )
    except BaseException:
        bar.end()
        harness.end(kindly=False)
        raise
    else:
        bar.end()
        harness.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for complaint in harness.complaints:
        print(complaint, file=sys.stderr)
    return document.build(harness, results, header)


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.show is not None:
        finished = document.read(options.show)
    else:
        cases = select(rows.GROUPS, options.rows, quick=options.quick)
        if not cases:
            print(f"no row matches {options.rows!r}", file=sys.stderr)
            return 2
        if options.list:
            _list(cases)
            return 0
        if options.compare is not None:
            document.read(options.compare)  # complain before the wait, not after it
        finished = measure(options, cases)
    if options.json is not None and options.show is None:
        document.save(finished, options.json)
    report.show(finished)
    if options.markdown is not None:
        options.markdown.write_text(report.markdown(finished))
    if options.plot is not None:
        plot.draw(finished, options.plot)
    if options.compare is not None:
        old = document.read(options.compare)
        print("\n-- what moved")
        print("\n".join(report.compare(old, finished)))
    return 1 if report.failures(finished) else 0


def _list(cases: list[Case]) -> None:
    for case in cases:
        print(f"{case.row.label(case.placement):<62} {case.row.about}")
