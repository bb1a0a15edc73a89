"""The run as one picture: per line, how far ahead or behind zactor each engine is.

A dot is an engine: right of the middle line it is ahead of zactor, left of it behind, on a
logarithmic scale. SVG is written here, without any package; PNG takes matplotlib.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from bench.report import OURS, ahead, figure, number

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bench.document import Document

COLOURS = {
    "ray": "#d1495b",
    "pyzmq": "#30638e",
    "pyzmq x32": "#7fb2d9",
    "memcpy": "#003d5b",
    "xoscar": "#edae49",
    "dask": "#66a182",
    "thespian": "#8d6a9f",
    "pykka": "#b08968",
    "multiprocessing": "#6c757d",
    "concurrent.futures": "#adb5bd",
}
MARKS = {"pyzmq": "s", "pyzmq x32": "s", "memcpy": "s"}  # ceilings are squares, peers are discs

LINE_HEIGHT = 17
LEFT, WIDTH, RIGHT = 400, 620, 150
TOP = 92


class Dot(NamedTuple):
    """One engine in one line."""

    engine: str
    factor: float  # how many times better than zactor


class Bar(NamedTuple):
    """One line of the picture; a group's title has no dots."""

    label: str
    figure: str  # zactor's own
    dots: list[Dot]
    is_title: bool


def bars(document: Document) -> list[Bar]:
    """Choose what is drawn: every line in which zactor was measured."""
    chosen: list[Bar] = []
    group = ""
    for line in document["lines"]:
        ours = line["engines"].get(OURS, {})
        if not ours.get("median"):
            continue
        if line["group"] != group:
            group = line["group"]
            chosen.append(Bar(group, "", [], is_title=True))
        dots = [
            Dot(engine, 1 / factor)
            for engine in line["engines"]
            if engine != OURS and (factor := ahead(line, engine)) and math.isfinite(factor)
        ]
        chosen.append(
            Bar(line["label"], f"{figure(ours)} {line['unit']}", dots, is_title=False)
        )
    return chosen


def _range(chosen: list[Bar]) -> tuple[int, int]:
    exponents = [math.log10(dot.factor) for bar in chosen for dot in bar.dots] or [0.0]
    return min(-1, math.floor(min(exponents))), max(1, math.ceil(max(exponents)))


def _caption(document: Document) -> str:
    machine = document["machine"]
    return (
        f"{machine.get('cpu', '')}, {machine.get('cpus', '')} CPUs, {machine.get('date', '')}"
    )


def svg(document: Document) -> str:
    """Draw the picture as SVG."""
    chosen = bars(document)
    low, high = _range(chosen)
    bottom = TOP + LINE_HEIGHT * len(chosen)

    def x(factor: float) -> float:
        return LEFT + (math.log10(factor) - low) / (high - low) * WIDTH

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" '
            f'height="{bottom + 40}" font-family="sans-serif" font-size="11">'
        ),
        '<rect width="100%" height="100%" fill="white"/>',
        _text(12, 22, "zactor and others: how many times better than zactor", size=16),
        _text(
            12,
            40,
            f"{_caption(document)}; the figure on the right is zactor's own",
            fill="#555",
        ),
        *_legend(chosen),
    ]
    for exponent in range(low, high + 1):
        at = x(10**exponent)
        colour, width = ("#222", 1.5) if exponent == 0 else ("#ddd", 1)
        parts.append(
            f'<line x1="{at:.1f}" y1="{TOP - 6}" x2="{at:.1f}" y2="{bottom}" '
            f'stroke="{colour}" stroke-width="{width}"/>'
        )
        for y in (TOP - 10, bottom + 16):
            parts.append(_text(at, y, f"x{10**exponent:g}", anchor="middle", fill="#555"))
    for i, bar in enumerate(chosen):
        parts += _svg_bar(bar, TOP + LINE_HEIGHT * i + LINE_HEIGHT / 2, x)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _svg_bar(bar: Bar, y: float, x) -> Iterable[str]:
    if bar.is_title:
        yield _text(12, y + 4, bar.label, weight="bold")
        return
    yield _text(LEFT - 14, y + 4, bar.label, anchor="end")
    yield _text(LEFT + WIDTH + 10, y + 4, bar.figure, fill="#333")
    for dot in bar.dots:
        colour = COLOURS.get(dot.engine, "#000")
        title = f"<title>{escape(dot.engine)}: x{number(dot.factor)} of zactor</title>"
        at = x(dot.factor)
        if MARKS.get(dot.engine) == "s":
            yield (
                f'<rect x="{at - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" '
                f'fill="{colour}">{title}</rect>'
            )
        else:
            yield f'<circle cx="{at:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}">{title}</circle>'


def _legend(chosen: list[Bar]) -> Iterable[str]:
    present = dict.fromkeys(dot.engine for bar in chosen for dot in bar.dots)
    at = 14.0
    for engine in present:
        colour = COLOURS.get(engine, "#000")
        yield f'<rect x="{at:.0f}" y="52" width="9" height="9" fill="{colour}"/>'
        yield _text(at + 14, 60, engine)
        at += 34 + 6.5 * len(engine)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    fill: str = "#111",
    size: int = 11,
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" '
        f'font-size="{size}" font-weight="{weight}">{escape(text)}</text>'
    )


def _draw_svg(document: Document, path: Path) -> None:
    path.write_text(svg(document))


def _draw_png(document: Document, path: Path) -> None:
    try:
        import matplotlib as mpl
    except ImportError:
        raise SystemExit("a PNG takes matplotlib; an .svg takes nothing") from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    chosen = bars(document)
    figure_, axes = plt.subplots(figsize=(12, 1.6 + 0.21 * len(chosen)))
    axes.set_xscale("log")
    axes.axvline(1, color="#222", linewidth=1.2)
    for engine in dict.fromkeys(dot.engine for bar in chosen for dot in bar.dots):
        points = [
            (dot.factor, i)
            for i, bar in enumerate(chosen)
            for dot in bar.dots
            if dot.engine == engine
        ]
        axes.scatter(
            *zip(*points, strict=True),
            label=engine,
            color=COLOURS.get(engine, "#000"),
            s=28,
            marker=MARKS.get(engine, "o"),
            zorder=3,
        )
    axes.set_yticks(range(len(chosen)), [bar.label for bar in chosen], fontsize=7)
    for i, (bar, tick) in enumerate(zip(chosen, axes.get_yticklabels(), strict=True)):
        tick.set_fontweight("bold" if bar.is_title else "normal")
        axes.annotate(
            bar.figure, (1.01, i), xycoords=("axes fraction", "data"), fontsize=7, va="center"
        )
    axes.set_ylim(max(1, len(chosen)) - 0.5, -0.5)
    axes.grid(axis="x", color="#ddd")
    axes.set_title(f"How many times better than zactor\n{_caption(document)}", fontsize=10)
    if axes.get_legend_handles_labels()[0]:
        figure_.legend(fontsize=7, ncols=6, loc="upper center", bbox_to_anchor=(0.5, 0.02))
    figure_.savefig(path, dpi=140, bbox_inches="tight")
    plt.close(figure_)


DRAW = {".svg": _draw_svg, ".png": _draw_png}


def draw(document: Document, path: Path) -> None:
    """Draw the picture in the format its name asks for."""
    DRAW[path.suffix](document, path)
