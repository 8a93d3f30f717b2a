"""Curves as SVG inside a page: drawn by matplotlib, coloured by the page's style sheet."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from infogan_fast.extras import extra
from infogan_fast.sharing.page import evenly_spaced

#: Points of a curve; of more rows, evenly spaced ones are drawn.
MOST_POINTS = 400
#: Stand-ins in the drawing for colours of the style sheet, which differ in the dark.
_COLOURS = {
    "#010101": "var(--ink)",
    "#010102": "var(--muted)",
    "#010103": "var(--line)",
    "#010104": "var(--series-1)",
    "#010105": "var(--series-2)",
    "#010106": "var(--series-3)",
    "#010107": "var(--alarm)",
}
_INK, _MUTED, _LINE, *_SERIES, _ALARM = _COLOURS


@dataclass(frozen=True)
class Curve:
    """Values over updates; those that are None are gaps.

    series: number of its colour, 0 to 2; None for a grey, dashed reference.
    """

    name: str
    steps: Sequence[int]
    values: Sequence[float | None]
    series: int | None = 0


def line_chart(
    key: str,
    alt: str,
    curves: Sequence[Curve],
    *,
    unit: str,
    marks: Sequence[tuple[int, str]] = (),
    size: tuple[float, float] = (5.6, 2.8),
) -> str:
    """An ``<svg>`` of curves over updates.

    Args:
        key: begins the ids in the drawing, so that several can stand in a page.
        alt: what it shows, for those who do not see it.
        unit: label of the vertical axis.
        marks: updates at which an alarm rang, with a short text each.
        size: in inches of 72 units.
    """
    matplotlib = extra("report", "matplotlib", "report")
    figures = extra("report", "matplotlib.figure", "report")
    style = {
        "svg.fonttype": "none",  # the page's own font
        "svg.hashsalt": "infogan_fast",
        "path.simplify": False,
        "text.color": _INK,
        "axes.edgecolor": _LINE,
        "axes.labelcolor": _MUTED,
        "xtick.color": _LINE,
        "ytick.color": _LINE,
        "xtick.labelcolor": _MUTED,
        "ytick.labelcolor": _MUTED,
        "grid.color": _LINE,
        "grid.linewidth": 0.5,
        "font.size": 9,
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style):
        figure = figures.Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        figure.patch.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y")
        for curve in curves:
            chosen = evenly_spaced(len(curve.steps), MOST_POINTS)
            values = [curve.values[i] for i in chosen]
            axes.plot(
                [curve.steps[i] for i in chosen],
                [float("nan") if value is None else value for value in values],
                label=curve.name,
                color=_MUTED if curve.series is None else _SERIES[curve.series],
                linestyle=(0, (4, 2)) if curve.series is None else "-",
                linewidth=1.2 if curve.series is None else 1.6,
                marker="o" if len(chosen) == 1 else None,
                markersize=4,
                gid=f"curve-{curve.name.replace(' ', '-')}",
            )
        for step, text in marks:
            axes.axvline(step, color=_ALARM, linestyle=(0, (1, 2)), linewidth=1.2)
            axes.annotate(
                text,
                (step, 1),
                xycoords=("data", "axes fraction"),
                xytext=(2, -2),
                textcoords="offset points",
                va="top",
                color=_ALARM,
                fontweight="bold",
            )
        axes.set_xlabel("updates")
        axes.set_ylabel(unit)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _for_page(buffer.getvalue(), key, alt)


def _for_page(svg: str, key: str, alt: str) -> str:
    """A drawing of matplotlib with its own ids, the page's colours and fonts, and a text for its meaning."""
    svg = svg[svg.index("<svg") :]
    for unwanted in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<defs>\s*<style.*?</style>\s*</defs>"):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r'(?<=\sid=")', f"{key}-", svg)
    svg = re.sub(r'(?<=url\(#)|(?<=href="#)', f"{key}-", svg)
    svg = re.sub(r"font: ((?:bold |\d{3} )?[\d.]+px)[^;\"]*", r"font: \1 var(--sans)", svg)
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None, "matplotlib writes a viewBox"
    opening = (
        f'<svg class="chart" role="img" aria-label="{html.escape(alt)}" viewBox="{box[1]}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"\n\s*", "\n", opening + svg[svg.index(">") + 1 :])
