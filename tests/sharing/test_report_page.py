"""The page of a run: it shows what is in the files, escapes it, and says what is missing."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import shlex
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks.narrow import narrow
from PIL import Image
from sharing.html_page import HtmlPage

import infogan_fast
from infogan_fast import evaluate, report
from infogan_fast.analysis.report import number, ranged
from infogan_fast.analysis.run import load_run
from infogan_fast.config import Config
from infogan_fast.latents import LatentSpec
from infogan_fast.pictures.samples import to_pixels
from infogan_fast.request import parse
from infogan_fast.sharing import charts, explorer, page, run_page
from infogan_fast.sharing.evaluation_part import evaluation_part
from infogan_fast.train import main as train_main
from infogan_fast.training.alarms import explained

EVIL = "<script>alert(1)</script>"
RESULTS = Path(__file__).parents[2] / "benchmarks/results"


@pytest.fixture(scope="module")
def evaluated(strokes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the strokes run with its evaluation, for reading only."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    copied(strokes_run, folder)
    flags = ["--json", str(folder / "evaluation.json"), "--no-quality", "--images", "100", "--device", "cpu"]
    assert evaluate.main([str(folder), *flags]) == 0
    return folder


@pytest.fixture(autouse=True)
def few_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of these tests have few images, for the time that they take."""
    monkeypatch.setattr(explorer, "MOST_CELLS", 60)


def copied(run: Path, folder: Path) -> Path:
    """A copy of a run; checkpoints, which are large, are hard links, to be replaced rather than changed."""

    def link_or_copy(source: str, to: str) -> None:
        if source.endswith(".pt"):
            os.link(source, to)
        else:
            shutil.copy(source, to)

    shutil.copytree(run, folder, copy_function=link_or_copy)
    return folder


def trained(folder: Path, latents: str, *more: str) -> Path:
    """A run of one update."""
    flags = ["--images", "20", "--image-size", "16", "--batch-size", "8", "--steps", "1", "--device", "cpu"]
    assert train_main([*flags, "--network", narrow(), "--latents", latents, *more, "--out", str(folder)]) == 0
    return folder


def written(run: Path, out: Path, *more: str) -> HtmlPage:
    """The page of a run."""
    assert report.main([str(run), "--out", str(out), "--device", "cpu", *more]) == 0
    source = out.read_text()
    found = HtmlPage(source)
    self_contained(found)
    return found


def self_contained(found: HtmlPage) -> None:
    policy = next(meta for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert {"default-src 'none'", "img-src data:"} <= set(policy["content"].split("; "))
    assert "http" not in policy["content"].replace("http-equiv", "")
    identifiers = [found["id"] for _, found in found.attributes if "id" in found]
    assert len(identifiers) == len(set(identifiers))
    for tag, attributes in found.attributes:
        for name in ("src", "href", "xlink:href", "action", "data"):
            if (value := attributes.get(name)) is not None:
                assert value.startswith(("data:", "#")), (tag, value)
                if value.startswith("#"):
                    assert value[1:] in identifiers
        for name in re.findall(r"url\(#([^)]+)\)", " ".join(attributes.values())):
            assert name in identifiers
    assert all(image.get("alt") for image in found.all("img"))
    levels = [int(tag[1]) for tag, _ in found.attributes if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert 1 not in levels[1:]


def pixels(source: str) -> Any:
    """The pixels of a data URI."""
    _, _, content = source.partition(";base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_figures_are_those_of_the_files(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    found = written(evaluated, out)
    assert capsys.readouterr().out == f"{out} ({out.stat().st_size / 1e6:.2f} MB)\n"
    last = rows_of(evaluated)[-1]
    table = found.tables["What Q read back from generated images up to update 4"]
    assert [row[0] for row in table[1:]] == ["c1", "c2", "c3"]
    for name, kind, bound, entropy, share in table[1:]:
        assert (bound, entropy) == (f"{last[f'L_{name}']:.3f}", f"{last[f'H_{name}']:.3f}")
        assert kind == {"c1": "categorical, 3 categories", "c2": "uniform", "c3": "bernoulli"}[name]
        assert share == (f"{last['L_c1'] / last['H_c1']:.0%}" if name == "c1" else "")
    saved = json.loads((evaluated / "config.json").read_text())
    machine = found.tables["Machine and versions"]
    assert machine[1:] == [[k, str(v)] for part in ("machine", "versions") for k, v in saved[part].items()]
    kept = sorted((evaluated / "checkpoints").glob("*.pt"))
    for path, (name, step, size, roles) in zip(kept, found.tables["Checkpoints"][1:], strict=True):
        assert (name, step) == (path.name, str(int(path.stem[5:])))
        assert size == f"{path.stat().st_size / 1e6:.1f} MB"
        assert ("shown on this page" in roles) == ("last" in roles) == (path == kept[-1])
    evaluation = json.loads((evaluated / "evaluation.json").read_text())
    code = evaluation["codes"]["c1"]
    assert found.tables["Categorical codes"][1] == [
        "c1",
        ranged(code["L"], code["intervals"]["L"]),
        number(code["H"]),
        *(ranged(code[key], code["intervals"][key]) for key in ("accuracy", "nmi", "ari")),
    ]
    matrix = found.tables["Images by c1 and label"]
    assert matrix[0] == ["", *code["labels"]]
    for category, row in enumerate(matrix[1:]):
        assert row[0] == f"c1 = {category}"
        assert [int(cell.removesuffix(" matched")) for cell in row[1:]] == code["table"][category]
        matched = [label for label, cell in zip(code["labels"], row[1:], strict=True) if "matched" in cell]
        assert matched == ([code["assignment"][category]] if code["assignment"][category] else [])
    for name, row in zip(("c2", "c3"), found.tables["Other codes"][1:], strict=True):
        other = evaluation["codes"][name]
        assert row[2:5] == [
            ranged(other["L"], other["intervals"]["L"]),
            number(other.get("L_fitted")),
            number(other["H"]),
        ]
        for factor, cell in zip(other["factors"].values(), row[5:], strict=True):
            assert cell == f"{ranged(factor['rho'], factor['interval'])} ({number(factor['within_label'])})"
    options = found.all("option")
    assert len(options) == 3
    for value, label in enumerate(code["assignment"]):
        assert (f"{value}, matched to {label}" if label else str(value)) in found.texts["control-c1"]


def test_an_evaluation_with_everything() -> None:
    path = RESULTS / "2026-11-29-epyc-zen5-2-threads/evaluate-strokes-seed1.json"
    found = json.loads(path.read_text())
    part = evaluation_part(found, LatentSpec.parse("noise=62,cat=10,uniform=2"))
    tables = {table.caption: table for table in part.tables}
    assert part.names == found["codes"]["c1"]["assignment"]
    quality = tables["Quality of generated images"]
    for row, key in zip(quality.rows, ("made", "real"), strict=True):
        for name, cell in zip(quality.header[1:], row[1:], strict=True):
            assert cell == ranged(
                found["quality"][key][name]["value"], found["quality"][key][name]["interval"]
            )
    assert number(found["quality"]["share_read"]["worst"]) in quality.notes[1]
    read = {**found["quality"]["share_read"], "of_real": 0.875}
    codes = {**found["codes"], "c1": {**found["codes"]["c1"], "learned_prior": [0.25, 0.75]}}
    more = evaluation_part(
        {**found, "codes": codes, "quality": {**found["quality"], "share_read": read}},
        LatentSpec.parse("noise=62,cat=10,uniform=2"),
    )
    notes = [note for table in more.tables for note in table.notes]
    assert any(note.endswith("; of real images 0.875.") for note in notes)
    assert "c1 learned the prior 0.250 0.750." in notes
    moves = tables["What each code moves"]
    assert [row[1].split()[0] for row in moves.rows] == ["slant", "thickness"]
    for row in moves.rows:
        sweeps = found["codes"][row[0]]["sweeps"]
        for cell in row[1:]:
            sweep = sweeps[cell.split()[0]]
            assert cell.split()[1] == ranged(sweep["mean"], sweep["interval"])
    scores = found["disentanglement"]
    few = evaluation_part(
        {**found, "disentanglement": {**scores, "rows": [667, 333]}},
        LatentSpec.parse("noise=62,cat=10,uniform=2"),
    ).tables
    note = "On 1,000 images: not comparable with published scores, which use 15,000."
    assert note in next(table for table in few if table.caption.startswith("All codes")).notes
    for row in tables["All codes together, on digit, rotation, width"].rows:
        key = row[0].lower().replace("factorvae", "factor_vae").replace("-", "_").replace(" ", "_")
        assert row[1:] == [
            ranged(scores[key], scores["intervals"].get(key)),
            number(scores["chance"].get(key)),
        ]


def test_of_many_labels_the_page_lists_the_matches() -> None:
    labels = [f"label {i}" for i in range(25)]
    table = np.eye(25, dtype=int).tolist()
    table[3][4] = 3
    code = {"table": table, "labels": labels, "assignment": [*labels[:24], None]}
    code |= {"kind": "categorical", "L": 1.0, "H": 3.0, "accuracy": 0.5, "nmi": 0.5, "ari": 0.5}
    scores = ("L", "accuracy", "nmi", "ari")
    code |= {"intervals": {key: [0, 1] for key in scores}, "chance": dict.fromkeys(scores, 0.0)}
    found = {"codes": {"c1": code}, "updates": 3, "generator": "last weights", "disentanglement": None}
    found |= {"data": {"source": "x", "images": 3, "held_out": True, "why_not": None}, "quality": None}
    part = evaluation_part(found, LatentSpec.parse("noise=1,cat=25"))
    assert not part.matrices
    rows = part.tables[1].rows
    assert len(rows) == 24
    assert list(rows[3]) == ["c1 = 3", "label 3", "0.25"]


def test_curves_go_through_the_rows(evaluated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    copied(evaluated, folder)
    template = rows_of(evaluated)[-1]
    draws = np.random.default_rng(0)
    rows = []
    for step in range(10, 310, 10):
        row = template | {"step": step, "L_c1": draws.normal(), "d_fake": draws.normal(), "alarms": []}
        row["alarms"] = ["code-ignored c1", "d-won"] if 100 <= step < 200 else ["d-won"] if step > 250 else []
        rows.append(row)
    rows[5]["L_c1"] = math.nan
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = (tmp_path / "page.html", folder)
    found = written(source[1], source[0])
    svgs = dict(
        re.findall(
            r'<svg class="chart".*?id="([a-z0-9]+)-figure_1".*?(<g .*?)</svg>', source[0].read_text(), re.S
        )
    )
    assert list(svgs) == ["c1", "c2", "c3", "losses", "diversity"]
    for chart, curve, key in (("c1", "L_I-of-c1", "L_c1"), ("losses", "D,-generated-images", "d_fake")):
        path = re.search(rf'id="{chart}-curve-{curve}">\s*<path d="([^"]+)"', svgs[chart])
        assert path is not None
        points = np.array(re.findall(r"[ML] (\S+) (\S+)", path[1]), float)
        kept = [row for row in rows if not math.isnan(row[key])]
        assert len(points) == len(kept)
        for drawn, value, sign in ((points[:, 0], "step", 1), (points[:, 1], key, -1)):
            values = np.array([row[value] for row in kept], float)
            slope, intercept = np.polyfit(values, drawn, 1)
            assert slope * sign > 0
            np.testing.assert_allclose(slope * values + intercept, drawn, atol=1e-3)
    assert svgs["c1"].count("var(--alarm)") == 2  # a line and its number
    assert svgs["losses"].count("var(--alarm)") == 4
    assert not re.search(r"#0101\d\d", source[0].read_text())
    listed = re.sub(r"\s+", " ", found.texts["alarms"])
    assert f"code-ignored c1 from update 100 to 190: {explained('code-ignored c1')}." in listed
    assert "d-won from update 100 to 190" in listed
    assert "d-won from update 260 to the end" in listed


def test_ringing() -> None:
    rows = [
        {"step": i, "alarms": names} for i, names in enumerate(([], ["a"], ["a", "b"], ["b"], ["a"], None))
    ]
    found = [(ring.number, ring.name, ring.since, ring.until) for ring in run_page.ringing(rows)]
    assert found == [(1, "a", 1, 2), (2, "b", 2, 3), (3, "a", 4, 4)]


def test_long_curves_are_thinned() -> None:
    steps = list(range(3000))
    svg = charts.line_chart("x", "alt", [charts.Curve("a", steps, [float(s) for s in steps])], unit="nats")
    path = re.search(r'id="x-curve-a">\s*<path d="([^"]+)"', svg)
    assert path is not None
    assert len(re.findall("[ML] ", path[1])) == charts.MOST_POINTS
    assert page.evenly_spaced(3000, 400)[0] == 0
    assert page.evenly_spaced(3000, 400)[-1] == 2999
    assert page.evenly_spaced(3, 400) == [0, 1, 2]


def test_pictures_are_those_of_the_run(evaluated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    copied(evaluated, folder)
    for i in range(30):
        shutil.copy(folder / "samples/step-00000002.png", folder / f"samples/step-{100 + i:08d}.png")
    Image.new("L", (20, 10), 7).save(folder / "traverse.gif")
    found = written(folder, tmp_path / "page.html")
    shown = {image["alt"]: image["src"] for image in found.all("img")}
    for words, name in (
        ("Traversal at the end", "traversal.png"),
        ("Some of the training images", "data.png"),
        ("after 2 updates", "samples/step-00000002.png"),
        ("after 129 updates", "samples/step-00000129.png"),
        ("Animation", "traverse.gif"),
    ):
        (source,) = [source for alt, source in shown.items() if words in alt]
        assert (pixels(source) == np.asarray(Image.open(folder / name).convert("RGB"))).all()
    assert len([alt for alt in shown if "Grid of generated images" in alt]) == run_page.MOST_SAMPLES
    assert "12 of the 32 grids in samples/, evenly spaced." in found.text


def test_a_large_picture_is_shrunk(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    found = page.load_picture(tmp_path / "a.png", "noise", limit=40_000)
    assert (found.width, found.height) == (300, 200)
    assert found.shrunk == "shrunk from 300 × 200 to 75 × 50 pixels"
    assert pixels(found.source).shape == (50, 75, 3)
    assert page.load_picture(tmp_path / "a.png", "noise").shrunk == ""


def test_everything_is_escaped(evaluated: Path, tmp_path: Path) -> None:
    folder = tmp_path / EVIL
    copied(evaluated, folder)
    saved = json.loads((folder / "config.json").read_text())
    saved["machine"]["hardware"] = saved["versions"][EVIL] = EVIL
    (folder / "config.json").write_text(json.dumps(saved))
    (folder / "data.txt").write_text(EVIL)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    code = evaluation["codes"]["c1"]
    code["labels"][0] = EVIL
    code["assignment"] = [EVIL, None, None]
    evaluation["data"]["source"] = EVIL
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    rows = rows_of(folder)
    rows[-1]["alarms"] = [EVIL, f"code-ignored {EVIL}", 7]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copy(folder / "data.png", folder / "samples/<b>.png")
    found = written(folder, tmp_path / "page.html")
    assert len(found.scripts) == 2
    assert "alert" not in found.scripts[1]
    assert shlex.join([str(folder)]) in json.loads(found.scripts[0])["command"]
    assert found.tables["Images by c1 and label"][0][1] == EVIL
    assert f"0, matched to {EVIL}" in found.texts["control-c1"]
    assert str(folder) in found.text
    assert found.texts["alarms"].count(EVIL) == 2
    assert EVIL in found.texts["data"]
    assert [EVIL, EVIL] in found.tables["Machine and versions"]


@pytest.mark.parametrize(
    ("latents", "more"),
    [
        ("noise=4,uniform=2", ["--consistency", "0"]),
        ("noise=4,cat=3", []),
        ("cat=3,cat=2,normal=1", ["--no-crop", "--seed=-3", "--ema", "0.5"]),
        ("noise=2:uniform,cat=0.2/0.8,bernoulli=2", ["--recipe", "paper", "--lambda", "c1=0.5"]),
    ],
    ids=["no categorical", "no continuous", "no noise", "coins"],
)
def test_kinds_of_runs(latents: str, more: list[str], tmp_path: Path) -> None:
    folder = trained(tmp_path / "run", latents, *more)
    found = written(folder, tmp_path / "page.html")
    spec = LatentSpec.parse(latents)
    assert len(found.all("select")) == spec.n_categorical
    kinds = [control["type"] for control in found.all("input")]
    assert kinds.count("range") == len(spec.ordered_codes)
    assert kinds.count("checkbox") == spec.n_continuous - len(spec.ordered_codes)
    assert "This run has not been evaluated yet" in found.texts["evaluation"]
    assert f"infogan_fast.evaluate {folder} --json {folder / 'evaluation.json'}" in found.texts["evaluation"]
    same_settings(folder, found)


def same_settings(folder: Path, found: HtmlPage) -> None:
    """The page's command gives the run's settings, and no option of it can be left out."""
    words = shlex.split(found.texts["repeat"])
    assert words[:3] == ["python", "-m", "infogan_fast.train"]
    given = dict(parse(words[3:]).given)
    saved = json.loads((folder / "config.json").read_text())["settings"]
    assert Config.from_options(given).checked().options() == saved
    for name in given:
        fewer = {key: value for key, value in given.items() if key != name}
        assert Config.from_options(fewer).checked().options() != saved
    flags = {row[0] for row in found.tables["Different from the default"][1:]}
    assert flags == {"--" + name.rstrip("_").replace("_", "-") for name in given}
    others = found.tables["As by default, or as the recipe or preset sets them"][1:]
    assert len(flags) + len(others) == len(saved)


def test_a_colour_run_and_labels_of_data(colour_run: Path, tmp_path: Path) -> None:
    found = written(colour_run, tmp_path / "page.html")
    same_settings(colour_run, found)
    assert "matched" not in found.texts["control-c1"]
    data = str(colour_run.parent / "data.npz")
    named = written(colour_run, tmp_path / "named.html", "--data", data)
    assert re.search(r"\d, matched to [78]", named.texts["control-c1"])


def test_sheets_hold_what_generate_makes(strokes_run: Path, colour_run: Path) -> None:
    for folder in (strokes_run, colour_run):
        run = load_run(folder, device="cpu")
        found = explorer.make_explorer(run)
        assert found is not None
        exactly_generated(run, found)
        assert found.size == sum(map(len, found.data["sheets"])) <= explorer.LIMIT


def exactly_generated(run: Any, found: explorer.Explorer) -> None:
    """Every image in the sheets is that of run.generate for the values of its cell."""
    data, side, noise = found.data, run.image_size, found.plan.noise
    sheets = [pixels(source) for source in data["sheets"]]
    places = list(found.plan.positions())
    assert len(set(places)) == len(places) == found.plan.cells
    for cell in range(0, len(places), max(1, len(places) // 40)):
        number, place = divmod(cell, data["inRow"] * data["rows"])
        row, column = divmod(place, data["inRow"])
        strip = sheets[number][row * side :][:side, column * noise * side :][:, : noise * side]
        texts = {axis["name"]: axis["texts"][k] for axis, k in zip(data["axes"], places[cell], strict=True)}
        codes = {name: run.spec.code(name).value(text) for name, text in {**data["fixed"], **texts}.items()}
        assert codes.keys() == {code.name for code in run.spec.codes}
        images = to_pixels(run.generate(noise, seed=data["seed"], **codes)).expand(-1, 3, -1, -1)
        wanted = images.permute(2, 0, 3, 1).reshape(side, noise * side, 3)
        assert (strip == wanted.numpy()).all(), texts


@pytest.mark.parametrize("limit", [60_000, 12_000])
def test_many_categories_fit_the_limit(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "MOST_CELLS", 700)
    run = load_run(trained(tmp_path / "run", "noise=2,cat=300,uniform=2"), device="cpu")
    found = explorer.make_explorer(run, limit=limit)
    assert found is not None
    assert found.size == sum(map(len, found.data["sheets"])) <= limit
    exactly_generated(run, found)
    shown = len(found.data["axes"][0]["texts"])
    stated = f"c1 shows {shown} of its 300 categories, evenly spaced."
    assert (stated in found.notes) == (shown < 300)
    assert explorer.make_explorer(run, limit=100) is None


def test_the_limit_holds_whatever_was_estimated(strokes_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, asked = explorer._sheet, []

    def too_small_at_first(images: Any, columns: int) -> str:
        asked.append(columns)
        return make(images, columns) if len(asked) > 1 else "x"

    monkeypatch.setattr(explorer, "_sheet", too_small_at_first)
    run = load_run(strokes_run, device="cpu")
    found = explorer.make_explorer(run, limit=20_000)
    assert found is not None
    assert found.size == sum(map(len, found.data["sheets"])) <= 20_000
    assert len(asked) > 2
    exactly_generated(run, found)


def test_plans_prefer_every_combination() -> None:
    def best(latents: str, most: int) -> explorer.Plan:
        plans = explorer._plans(LatentSpec.parse(latents))
        return next(plan for plan in plans if plan.cells * plan.noise <= most)

    plan = best("noise=1,cat=10,uniform=2", 10_000)
    assert all(axis.crossed for axis in plan.axes)
    assert [len(axis.values) for axis in plan.axes] == [10, 11, 11]
    assert plan.noise == 8
    single = best("noise=1,cat=10,uniform=4,bernoulli=1", 10_000)
    assert [axis.crossed for axis in single.axes] == [True, False, False, False, False, True]
    assert len(list(single.positions())) == single.cells == 20 * (1 + 4 * (len(single.axes[1].values) - 1))
    several = best("noise=1,cat=10,cat=10,cat=10,cat=10,uniform=4", 5_000)
    assert [axis.crossed for axis in several.axes] == [True] + [False] * 7
    many = best("noise=1,uniform=1000", 500)
    assert len(many.axes) == 16
    for plan in explorer._plans(LatentSpec.parse("noise=1,uniform=1")):
        assert plan.axes[0].values[plan.axes[0].base] == 0
        assert (plan.axes[0].values[0], plan.axes[0].values[-1]) == (-2, 2)
    assert best("uniform=1", 10_000).noise == 1


def test_what_is_missing_is_said(evaluated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(evaluated / "config.json", folder)
    found = written(folder, tmp_path / "page.html")
    for section, words in (
        ("explorer", "there is no checkpoint in"),
        ("traversals", "traversal.png is not there"),
        ("codes", "metrics.jsonl has no row yet"),
        ("losses", "metrics.jsonl has no losses yet"),
        ("alarms", "metrics.jsonl has no row yet"),
        ("samples", "samples/ has no picture yet"),
        ("evaluation", "has not been evaluated yet"),
        ("data", "data.png is missing"),
        ("settings", "There is no checkpoint yet"),
    ):
        assert words in found.texts[section], section
    resume = f"python -m infogan_fast.train --resume {folder}"
    assert f"0 of 4 updates: it is still training, or was stopped, and {resume}" in found.text


def test_a_run_that_diverged(evaluated: Path, tmp_path: Path) -> None:
    """Its last row has no figures, and to resume it would not help."""
    folder = copied(evaluated, tmp_path / "run")
    before = rows_of(folder)[-1]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 5, "seconds": 1.0, "alarms": ["diverged"]}) + "\n")
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["steps"] = 9
    (folder / "config.json").write_text(json.dumps(config))
    found = written(folder, tmp_path / "page.html")
    assert "Training stopped at update 5 of 9: a loss is beyond all bounds" in found.text
    assert "--resume" not in found.text
    assert f"up to update {before['step']}" in found.texts["codes"]
    assert number(before["L_c1"]) in found.texts["codes"]
    assert all("at the end -" not in image["alt"] for image in found.all("img"))


def test_how_to_evaluate_the_checkpoint_and_images_in_memory(strokes_run: Path, tmp_path: Path) -> None:
    first = sorted((strokes_run / "checkpoints").glob("*.pt"))[0]
    found = written(strokes_run, tmp_path / "page.html", "--checkpoint", str(first))
    assert f"evaluate {strokes_run} --checkpoint {first} --json" in found.texts["evaluation"]
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    options: dict[str, Any] = {"batch_size": 8, "network": narrow(), "device": "cpu", "steps": 1}
    infogan_fast.train(images, out=tmp_path / "run", progress=False, **options)
    found = written(tmp_path / "run", tmp_path / "page.html")
    assert "load_run(folder, images=images).evaluate()" in found.texts["evaluation"]
    assert "infogan_fast.evaluate" not in found.texts["evaluation"]


def test_what_is_damaged_is_said(evaluated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    copied(evaluated, folder)
    for name in ("traversal.png", "data.png", "samples/step-00000002.png", "traverse.gif", "traverse.png"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    for path in (folder / "checkpoints").iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:1000])
    damaged = {
        "step": 6,
        "seconds": "x",
        "L_c1": "high",
        "H_c1": [],
        "d_real": None,
        "g": math.inf,
        "alarms": 3,
    }
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(f"no JSON\n{json.dumps(damaged)}\n")
    (folder / "data.txt").unlink()
    (folder / "evaluation.json").write_text('{"codes"')
    found = written(folder, tmp_path / "page.html")
    for section, words in (
        ("explorer", "There is no explorer"),
        ("traversals", "traversal.png cannot be read"),
        ("traversals", "traverse.png cannot be read"),
        ("traversals", "traverse.gif cannot be read"),
        ("samples", "step-00000002.png cannot be read"),
        ("evaluation", "evaluation.json: cannot be read"),
        ("data", "data.png cannot be read"),
        ("data", "data.txt is not there"),
    ):
        assert words in found.texts[section], section
    assert found.tables["What Q read back from generated images up to update 6"][1][2:] == ["-", "-", ""]
    assert len([image for image in found.all("img") if "Grid of generated" in image["alt"]]) == 1


def changed(evaluation: dict[str, Any], *path: str, value: Any) -> dict[str, Any]:
    result = json.loads(json.dumps(evaluation))
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return result


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["codes"], {}, "is damaged"),
        (["codes", "c9"], {"kind": "categorical", "L": 1, "H": 1, "intervals": {"L": [0, 1]}}, "is damaged"),
        (["codes", "c1", "table"], [[1]], "is damaged"),
        (["codes", "c1", "L"], "high", "is damaged"),
        (["codes", "c1", "assignment"], 7, "is damaged"),
        (["codes", "c2", "factors"], None, "is damaged"),
        (["data"], None, "is damaged"),
        (["quality"], 3, "is damaged"),
        (["disentanglement"], {"mig": 1}, "is damaged"),
        (["latents"], "noise=1,cat=2", "is of a run with latents noise=1,cat=2"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_damaged_evaluation(
    path: list[str],
    value: Any,
    words: str,
    evaluated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run_page, "make_explorer", lambda *args, **how: None)
    folder = tmp_path / "run"
    shutil.copytree(evaluated, folder, ignore=shutil.ignore_patterns("checkpoints"))
    whole = json.loads((evaluated / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps(changed(whole, *path, value=value)))
    found = written(folder, tmp_path / "page.html")
    assert words in found.texts["evaluation"]
    assert "Categorical codes" not in found.tables
    flags = ["--out", str(tmp_path / "other.html"), "--evaluation", str(folder / "evaluation.json")]
    capsys.readouterr()
    assert report.main([str(folder), *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "other.html").exists()


def test_an_evaluation_elsewhere(strokes_run: Path, evaluated: Path, tmp_path: Path) -> None:
    path = evaluated / "evaluation.json"
    found = written(strokes_run, tmp_path / "page.html", "--evaluation", str(path))
    assert "Categorical codes" in found.tables


def test_a_checkpoint(strokes_run: Path, tmp_path: Path) -> None:
    path = str(strokes_run / "checkpoints/step-00000002.pt")
    found = written(strokes_run, tmp_path / "page.html", "--checkpoint", path)
    data = json.loads(found.scripts[0])
    assert data["command"].endswith(f"--checkpoint {path} --n {data['noise']} --seed 1")
    run = load_run(strokes_run, checkpoint_file=path, device="cpu")
    first = to_pixels(run.generate(data["noise"], seed=1, c1=0, c2=-2.0, c3=0.0))[0, 0]
    assert (pixels(data["sheets"][0])[:16, :16, 0] == first.numpy()).all()
    roles = {row[0]: row[3] for row in found.tables["Checkpoints"][1:]}
    assert "shown on this page" in roles["step-00000002.pt"]
    assert "shown on this page" not in roles["step-00000004.pt"]


def test_a_study(three_seeds: Path, tmp_path: Path) -> None:
    assert report.main([str(three_seeds), "--out", str(tmp_path / "page.html")]) == 0
    found = HtmlPage((tmp_path / "page.html").read_text())
    self_contained(found)
    saved = json.loads((three_seeds / "seeds.json").read_text())
    table = found.tables["Figures over the finished runs"]
    assert table[0] == ["figure", "mean", "deviation", "min", "max", "seed 5", "seed 6", "seed 7"]
    rows = {row[0]: row[1:] for row in table[1:]}
    for name, summary in saved["summary"].items():
        assert rows[name][:4] == [number(summary[key]) for key in ("mean", "deviation", "min", "max")]
        assert rows[name][4:] == [number(seed["figures"][name]) for seed in saved["seeds"]]
    assert rows["agreement"][4:] == [number(seed["agreement"]) for seed in saved["seeds"]]
    assert rows["minutes"][4:] == [f"{seed['seconds'] / 60:.1f}" for seed in saved["seeds"]]
    chosen = next(seed for seed in saved["seeds"] if seed["seed"] == saved["selected"])
    assert f"Seed {chosen['seed']} was chosen without labels" in found.texts["chosen"]
    assert f"with a score of {number(chosen['agreement'])}" in found.texts["chosen"]
    assert "chosen" in found.texts[f"seed-{chosen['seed']}"]
    for image, seed in zip(found.all("img"), saved["seeds"], strict=True):
        path = three_seeds / seed["run"] / "traversal.png"
        assert (pixels(image["src"]) == np.asarray(Image.open(path).convert("RGB"))).all()


def test_a_study_with_gaps(three_seeds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(three_seeds, folder, ignore=shutil.ignore_patterns("checkpoints"))
    saved = json.loads((folder / "seeds.json").read_text())
    (folder / "seed-5/traversal.png").unlink()
    saved["seeds"][1] = {"seed": 6, "failed": EVIL}
    saved["seeds"][2]["alarms"] = [EVIL]
    saved["selected"] = None
    (folder / "seeds.json").write_text(json.dumps(saved))
    assert report.main([str(folder)]) == 0
    found = HtmlPage((folder / "report.html").read_text())
    self_contained(found)
    assert not found.scripts
    assert found.texts["runs"].count(EVIL) == 2
    assert "traversal.png is missing" in found.texts["runs"]
    assert "No run is chosen: agreement needs at least 3 finished runs, and 2 are." in found.texts["chosen"]
    saved |= {"seeds": [], "summary": {}}
    (folder / "seeds.json").write_text(json.dumps(saved))
    assert report.main([str(folder)]) == 0
    assert "No seed has finished" in (folder / "report.html").read_text()


def test_a_study_of_many_seeds(tmp_path: Path) -> None:
    path = RESULTS / "2026-11-25-xeon-2-threads/seeds-mnist.json"
    saved = json.loads(path.read_text())
    saved["seeds"] += [row | {"seed": row["seed"] + 100} for row in saved["seeds"]]
    (tmp_path / "seeds.json").write_text(json.dumps(saved))
    assert report.main([str(tmp_path)]) == 0
    found = HtmlPage((tmp_path / "report.html").read_text())
    assert found.tables["Figures over the finished runs"][0] == ["figure", "mean", "deviation", "min", "max"]
    by_run = found.tables["Figures of each run"]
    assert len(by_run) == 1 + len(saved["seeds"])
    assert by_run[1][1] == number(saved["seeds"][0]["figures"][by_run[0][1]])


@pytest.mark.parametrize(
    ("contents", "message"),
    [("[]", "cannot be read"), ('{"seeds": [{}]}', "is damaged"), ('{"seeds": 3}', "is damaged")],
)
def test_a_damaged_study(
    contents: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "seeds.json").write_text(contents)
    assert report.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"seeds.json: {message}" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", "a.png"], "--out a.png: expected a name that ends in .html or .htm"),
        (["--out", "no/a.html"], "--out no/a.html: there is no folder no"),
        (["--out", "folder.html"], "--out folder.html: is a folder"),
        (["--evaluation", "no.json"], "--evaluation no.json: cannot be read (No such file or directory)"),
        (
            ["--evaluation", "list.json"],
            "--evaluation list.json: cannot be read (ValueError: expected an obj",
        ),
        (["--checkpoint", "no.pt"], "no.pt: there is no such checkpoint"),
        (["--label", "x"], "--pixel-range and --label are of the images that --data names"),
        (["--data", "no.npz"], "no.npz"),
        (["--data", "unlabelled.npy"], "--data names categories by labels, and the images have no labels"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(
    more: list[str],
    message: str,
    strokes_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.html").mkdir()
    Path("list.json").write_text("[]")
    np.save("unlabelled.npy", np.zeros((20, 16, 16), np.uint8) + np.arange(16, dtype=np.uint8))
    out = [] if "--out" in more else ["--out", "page.html"]
    assert report.main([str(strokes_run), "--device", "cpu", *out, *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not Path("page.html").exists()


@pytest.mark.parametrize("flags", [["--evaluation", "a.json"], ["--checkpoint", "best"], ["--data", "mnist"]])
def test_flags_of_a_single_run(
    flags: list[str], three_seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([str(three_seeds), "--out", str(tmp_path / "a.html"), *flags]) == 2
    assert f"{' '.join(flags)} is for a single run" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["", "nothing", "file"])
def test_what_is_no_run(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert report.main([str(tmp_path / folder), "--out", str(tmp_path / "page.html")]) == 2
    assert "give the folder of a run" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package(
    package: str,
    strokes_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert report.main([str(strokes_run), "--out", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert f"report needs {package}" in error
    assert "pip install 'infogan_fast[report]'" in error


def test_a_page_that_cannot_be_written(
    strokes_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_page, "make_explorer", lambda *args, **how: None)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infogan_fast.runtime.files.write_whole", full)
    out = tmp_path / "page.html"
    assert report.main([str(strokes_run), "--device", "cpu", "--out", str(out)]) == 2
    assert f"--out {out}: cannot be written (No space left on device)" in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *args: False)
    assert report.main([str(strokes_run), "--device", "cpu", "--out", str(out)]) == 2
    assert f"{tmp_path} cannot be written" in capsys.readouterr().err
