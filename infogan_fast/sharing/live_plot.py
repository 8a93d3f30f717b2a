"""A plot of a run in a notebook, drawn again while it trains:

from infogan_fast.sharing.live_plot import LivePlot

run = infogan_fast.train(callbacks=LivePlot(), progress=False)
"""

from __future__ import annotations

import importlib
import io
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from infogan_fast.errors import UserError
from infogan_fast.extras import extra
from infogan_fast.training.callbacks import Callback, Row
from infogan_fast.training.run_folder import read_config, read_metrics

_MOST_CODES = 6
_DRAWN = {"step", "seconds", "d_real", "d_fake", "g"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito's
_INK, _FAINT = "#333333", "#dddddd"
_DPI = 100


class LivePlot(Callback):
    """Shows the lower bound L_I of each code next to its entropy H, both players' losses, and the latest
    samples, in one picture that stays in its place in the cell's output.

    Args:
        every: seconds between two drawings, at least; more where drawing would take a tenth of the time.

    Raises:
        UserError: this is no notebook, or matplotlib is not installed.
    """

    def __init__(self, every: float = 3.0) -> None:
        if not in_notebook():
            raise UserError(
                "LivePlot draws in a Jupyter notebook, and this is none; elsewhere give tensorboard=True "
                "or a callback"
            )
        self._figure_module = extra("report", "matplotlib.figure", "LivePlot")
        self._every = every
        self._due = 0.0
        self._handle: Any = None

    def begin(self, folder: Path, step: int) -> None:
        self._name, self._steps = folder.resolve().name, read_config(folder)["settings"]["steps"]
        self._rows = [row for row in read_metrics(folder) if row.keys() >= _DRAWN]
        self._alarms: list[str] = []
        self._samples: tuple[int, Image.Image] | None = None
        self._due, self._handle = 0.0, None

    def row(self, row: Row) -> None:
        diverged = not row.keys() >= _DRAWN  # a last row without losses
        if not diverged:
            self._rows.append(row)
        self._alarms = row["alarms"]
        if time.monotonic() >= self._due or diverged:
            self._show()

    def picture(self, name: str, step: int, image: Image.Image) -> None:
        if name == "samples":
            self._samples = step, image

    def done(self, folder: Path) -> None:
        self._show()

    def _show(self) -> None:
        started = time.monotonic()
        display = importlib.import_module("IPython.display")
        file = io.BytesIO()
        figure = self.figure()
        figure.savefig(file, format="png", dpi=1.6 * _DPI)  # for screens of high resolution
        width = round(figure.get_figwidth() * _DPI)
        shown = display.Image(file.getvalue(), width=width, alt=self._in_words())
        if self._handle is None:
            self._handle = display.display(shown, display_id=True)
        else:
            self._handle.update(shown)
        now = time.monotonic()
        self._due = now + max(self._every, 9 * (now - started))

    def _in_words(self) -> str:
        return f"{self._name}: bounds of the codes, losses and samples after {self._position()}"

    def _position(self) -> str:
        done = self._rows[-1]["step"] if self._rows else 0
        return f"update {done:,} of {self._steps:,}"

    def figure(self) -> Any:
        """The plot as it is now: a matplotlib Figure, which no global state of matplotlib knows of."""
        figure = self._figure_module.Figure(figsize=(11, 3.9), layout="constrained", facecolor="white")
        bounds, losses, samples = figure.subplots(1, 3, width_ratios=(1.25, 1, 1.05))
        figure.suptitle(self._title(), x=0.01, ha="left", fontsize=11, color=_INK, parse_math=False)
        self._draw_bounds(bounds)
        self._draw_losses(losses)
        self._draw_samples(samples)
        return figure

    def _title(self) -> str:
        parts = [self._name, self._position()]
        if self._rows:
            last = self._rows[-1]
            if last["seconds"] > 0:
                parts.append(f"{last['step'] / last['seconds']:.1f} updates a second")
        if self._alarms:
            parts.append(f"alarm: {', '.join(self._alarms[:3])}")
        return "   ·   ".join(parts)

    def _draw_bounds(self, axes: Any) -> None:
        codes = [key.removeprefix("L_") for key in (self._rows[-1] if self._rows else ()) if _is_bound(key)]
        shown = codes[:_MOST_CODES]
        steps = [row["step"] for row in self._rows]
        highest, lowest = 0.0, 0.0
        for code, colour in zip(shown, _COLOURS, strict=False):
            bound = [row.get(f"L_{code}", float("nan")) for row in self._rows]
            entropy = [row.get(f"H_{code}", float("nan")) for row in self._rows]
            axes.plot(steps, bound, color=colour, label=code, **_line(steps))
            axes.plot(steps, entropy, color=colour, linestyle=(0, (4, 3)), linewidth=1)
            highest, lowest = max(highest, *entropy, *bound), min(lowest, *bound)
        more = f"first {len(shown)} of {len(codes)} codes" if len(codes) > len(shown) else None
        _style(axes, "Bound $L_I$ (solid) and entropy H (dashed), nats", self._steps)
        if shown:
            # The first updates may be far below 0, where nothing is to be seen.
            axes.set_ylim(max(lowest, -0.4 * highest) - 0.04 * highest, 1.08 * highest)
            _legend(axes, columns=len(shown), title=more)

    def _draw_losses(self, axes: Any) -> None:
        steps = [row["step"] for row in self._rows]
        players = {
            "discriminator": [row["d_real"] + row["d_fake"] for row in self._rows],
            "generator": [row["g"] for row in self._rows],
        }
        for (name, values), colour in zip(players.items(), ("#555555", "#e69f00"), strict=True):
            axes.plot(steps, values, color=colour, label=name, **_line(steps))
        _style(axes, "Losses, nats", self._steps)
        axes.set_ylim(bottom=0)
        if steps:
            _legend(axes, columns=2)

    def _draw_samples(self, axes: Any) -> None:
        axes.set_axis_off()
        if self._samples is None:
            axes.text(0.5, 0.5, "no samples yet", ha="center", va="center", color="#777777", fontsize=10)
            axes.set_title("Samples", loc="left", fontsize=10, color=_INK)
            return
        step, image = self._samples
        axes.imshow(image, interpolation="antialiased")
        axes.set_title(f"Samples of update {step:,}", loc="left", fontsize=10, color=_INK)


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel. Does not import IPython."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _is_bound(key: str) -> bool:
    return key.startswith("L_") and not key.startswith("L_fitted_")


def _line(steps: list[int]) -> dict[str, Any]:
    """A single point would be no line."""
    return {"linewidth": 1.6, "marker": "o" if len(steps) == 1 else "", "markersize": 4}


def _style(axes: Any, title: str, steps: int) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.set_xlabel("update", fontsize=9, color=_INK)
    axes.set_xlim(0, steps)
    axes.locator_params(axis="x", nbins=5, integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(labelsize=8, colors=_INK, length=3, color=_FAINT)
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)


def _legend(axes: Any, columns: int, title: str | None = None) -> None:
    axes.legend(
        title=title,
        title_fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=columns,
        frameon=False,
        fontsize=8,
        handlelength=1.8,
        columnspacing=1.2,
        labelcolor=_INK,
    )
