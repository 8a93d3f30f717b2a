"""The tour runs from its first cell to its last, and is stored without what running leaves."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TOUR = ROOT / "examples" / "infogan_tour.ipynb"


def test_the_tour_is_stored_without_outputs() -> None:
    notebook = json.loads(TOUR.read_text())
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs the package nbformat")
    nbclient = pytest.importorskip("nbclient", reason="needs the package nbclient")
    pytest.importorskip("ipykernel", reason="needs the package ipykernel")
    pytest.importorskip("matplotlib", reason="needs the package matplotlib")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(TOUR, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises what a cell raises

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    errors = [output.text for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert errors == []
    by_source = {source: cell for cell in cells for source in [cell.source]}
    drawn = [cell for source, cell in by_source.items() if _makes_a_picture(source)]
    assert len(drawn) == 6
    for cell in drawn:
        (picture,) = _pictures(cell)
        assert picture.std() > 1
    # The live plot is one output, which was replaced, and training prints nothing else.
    (training,) = [cell for cell in cells if "LivePlot()" in cell.source]
    assert [output.output_type for output in training.outputs] == ["display_data"]
    said = "".join(output.text for cell in cells for output in cell.outputs if output.get("name") == "stdout")
    accuracy = float(said.split("accuracy ")[1].split()[0])
    assert accuracy > 0.3  # chance is 0.1
    assert "runs/tour/traversal.png" in said


def _makes_a_picture(source: str) -> bool:
    last = source.rstrip().splitlines()[-1]
    return "LivePlot()" in source or last.startswith(("Image.open(", "run.traversal()", "as_picture("))


def _pictures(cell: Any) -> list[Any]:
    found = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L")) for data in found]
