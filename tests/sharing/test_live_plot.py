"""The live plot: what it draws, and that it stays in its place."""

from __future__ import annotations

import io
import json
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from training.runs import rows

import infogan_fast
from infogan_fast.errors import UserError
from infogan_fast.sharing import live_plot
from infogan_fast.sharing.live_plot import LivePlot
from infogan_fast.training.run_folder import read_metrics

pytest.importorskip("matplotlib", reason="needs the package matplotlib")

OPTIONS: dict[str, Any] = {
    "images": 40,
    "image_size": 16,
    "batch_size": 8,
    "network": "D: conv 8 s2, fc 16 bn; Q: fc 8; G: fc 4x4x8 bn, up 8 s2 bn, up 1 s2 sigmoid",
    "latents": "noise=4,cat=3,uniform=1",
    "device": "cpu",
    "steps": 4,
    "log_every": 1,
    "sample_every": 2,
    "progress": False,
}


class Cell:
    """A notebook's cell: what is displayed in it, and how often each is replaced."""

    def __init__(self) -> None:
        self.shown: list[list[Any]] = []

    def display(self, shown: Any, display_id: bool) -> Any:
        assert display_id is True
        self.shown.append([shown])
        return SimpleNamespace(update=self.shown[-1].append)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """A notebook without IPython."""
    made = Cell()
    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell, version_info=(9, 0))
    image = lambda data, **options: SimpleNamespace(data=data, **options)  # noqa: E731
    display = SimpleNamespace(display=made.display, Image=image)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return made


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    """The curves of a panel by their label."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def test_it_draws_in_one_place_what_the_run_writes(tmp_path: Path, cell: Cell) -> None:
    plot = LivePlot(every=0)
    infogan_fast.train(out=tmp_path / "a$b$ <i>", callbacks=plot, **OPTIONS)
    (drawn,) = cell.shown
    assert len(drawn) >= 2
    with Image.open(io.BytesIO(drawn[-1].data)) as image:
        assert image.format == "PNG"
        assert drawn[-1].width < image.width
    assert drawn[-1].alt == "a$b$ <i>: bounds of the codes, losses and samples after update 4 of 4"

    bounds, losses, samples = plot.figure().axes
    table, steps = rows(tmp_path / "a$b$ <i>"), [1, 2, 3, 4]
    assert lines(bounds) == {code: (steps, [row[f"L_{code}"] for row in table]) for code in ("c1", "c2")}
    assert lines(losses) == {
        "discriminator": (steps, [row["d_real"] + row["d_fake"] for row in table]),
        "generator": (steps, [row["g"] for row in table]),
    }
    dashed = {line.get_color(): line.get_ydata()[0] for line in bounds.get_lines() if line.is_dashed()}
    solid = {line.get_color(): line.get_label() for line in bounds.get_lines() if not line.is_dashed()}
    assert {solid[colour]: height for colour, height in dashed.items()} == {
        code: table[-1][f"H_{code}"] for code in ("c1", "c2")
    }
    low, high = bounds.get_ylim()
    assert low < 0 and high > table[-1]["H_c1"]
    (shown,) = samples.get_images()
    with Image.open(tmp_path / "a$b$ <i>" / "samples" / "step-00000004.png") as file:
        assert np.array_equal(np.asarray(file), np.asarray(shown.get_array()))
    assert samples.get_title(loc="left") == "Samples of update 4"


def test_drawing_takes_its_time(tmp_path: Path, cell: Cell) -> None:
    infogan_fast.train(out=tmp_path, callbacks=LivePlot(every=1e6), **OPTIONS)
    assert [len(drawn) for drawn in cell.shown] == [2]  # the first row, and the end


def test_a_resumed_run_keeps_its_curves(tmp_path: Path, cell: Cell) -> None:
    infogan_fast.train(out=tmp_path, **OPTIONS)
    plot = LivePlot()
    infogan_fast.train(resume=tmp_path, steps=5, callbacks=plot, progress=False)
    assert lines(plot.figure().axes[0])["c1"][0] == [1, 2, 3, 4, 5]
    assert "update 5 of 5" in plot.figure().get_suptitle()


def is_text(part: Any, text: str) -> bool:
    return hasattr(part, "get_text") and part.get_text() == text


def test_many_codes_alarms_and_a_divergence(tmp_path: Path, cell: Cell) -> None:
    options = OPTIONS | {"latents": "noise=4,cat=3,uniform=9", "steps": 1}
    infogan_fast.train(out=tmp_path, **options)
    plot = LivePlot()
    plot.begin(tmp_path, 0)
    bounds = plot.figure().axes[0]
    assert list(lines(bounds)) == ["c1", "c2", "c3", "c4", "c5", "c6"]
    # Not in the title, which would reach into the next one.
    assert bounds.get_legend().get_title().get_text() == "first 6 of 10 codes"
    figure = plot.figure()
    figure.draw_without_rendering()
    for axes, after in pairwise(figure.axes):
        (title,) = (part for part in axes.findobj() if is_text(part, axes.get_title(loc="left")))
        assert title.get_window_extent().x1 < after.get_position().x0 * figure.bbox.width
    plot.row({**read_metrics(tmp_path)[-1], "step": 2, "alarms": ["code-ignored c2"]})
    assert plot.figure().get_suptitle().endswith("alarm: code-ignored c2")
    plot.row({"step": 3, "seconds": 1.0, "alarms": ["diverged"]})
    assert plot.figure().get_suptitle().endswith("alarm: diverged")
    assert len(cell.shown[0]) == 2  # it is not put off


def test_nothing_to_draw_yet(tmp_path: Path, cell: Cell) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "format": 3,
                "settings": {"steps": 10},
                "data": {"source": "x", "images": 1, "image_size": 16, "channels": 1},
            }
        )
    )
    (tmp_path / "metrics.jsonl").write_text('{"step": 3}\n')
    plot = LivePlot()
    plot.begin(tmp_path, 0)
    plot.done(tmp_path)
    assert "update 0 of 10" in cell.shown[0][0].alt
    assert lines(plot.figure().axes[0]) == {}


@pytest.mark.parametrize("ipython", [None, SimpleNamespace(get_ipython=lambda: SimpleNamespace())])
def test_outside_of_a_notebook_it_says_so(monkeypatch: pytest.MonkeyPatch, ipython: Any) -> None:
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not live_plot.in_notebook()
    with pytest.raises(UserError, match="LivePlot draws in a Jupyter notebook, and this is none; elsewhere"):
        LivePlot()


def test_without_matplotlib_it_names_the_extra(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"LivePlot needs matplotlib .* pip install 'infogan_fast\[report\]'"):
        LivePlot()
