"""A run in Python, as in a notebook: train, generate, encode, picture, evaluate, export."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import infogan_fast
from infogan_fast.analysis.evaluation import _unread, evaluate
from infogan_fast.config import OPTIONS as DECLARED
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.pictures.samples import draw_inputs

OPTIONS: dict[str, Any] = {
    "steps": 2,
    "batch_size": 8,
    "latents": "noise=4,cat=3,uniform=1,bernoulli=1",
    "device": "cpu",
    "progress": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> infogan_fast.Run:
    out = tmp_path_factory.mktemp("api") / "run"
    return infogan_fast.train(data="strokes", images=40, image_size=16, out=out, **OPTIONS)


def test_training_returns_the_run(run: infogan_fast.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(run, infogan_fast.Run)
    assert (run.updates, run.config.steps, run.config.images) == (2, 2, 40)
    assert (run.folder / "traversal.png").exists()
    assert str(run.spec) == OPTIONS["latents"]


def test_training_is_quiet_without_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    infogan_fast.train(images=20, image_size=16, out=str(tmp_path / "run"), **OPTIONS)
    assert capsys.readouterr() == ("", "")
    infogan_fast.train(images=20, image_size=16, out=tmp_path / "loud", **{**OPTIONS, "progress": True})
    assert "c1 " in capsys.readouterr().out


def test_training_from_python_is_that_of_the_command(run: infogan_fast.Run, tmp_path: Path) -> None:
    from infogan_fast.train import main

    flags = ["--steps", "2", "--batch-size", "8", "--latents", OPTIONS["latents"], "--device", "cpu"]
    assert main([*flags, "--images", "40", "--image-size", "16", "--out", str(tmp_path / "run")]) == 0
    other = infogan_fast.load_run(tmp_path / "run", device="cpu")
    for name, weight in run.networks.state_dict().items():
        assert torch.equal(weight, other.networks.state_dict()[name]), name


def test_training_resumes(run: infogan_fast.Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    assert infogan_fast.train(resume=str(folder), steps=3, progress=False).updates == 3
    with pytest.raises(UserError, match=r"--batch-size \(8 in the run, 4 given\)"):
        infogan_fast.train(resume=folder, batch_size=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stepz": 3}, "there is no option 'stepz'; did you mean steps?"),
        ({"steps": 0}, "--steps is 0; expected 1 to 16777215"),
        ({"steps": "3"}, "--steps is '3'; expected a whole number"),
        ({"data": "mnsit"}, "did you mean mnist?"),
        ({"data": 17}, "data is a int; expected a name, a path"),
        (
            {"data": np.zeros((3, 16, 16), np.int64)},
            "images are int64 and run from 0 to 0, which does not tell",
        ),
        ({"resume": "x", "out": "y"}, "leave --out out"),
    ],
)
def test_wrong_options(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        infogan_fast.train(**options)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_load_run_takes_texts_and_paths(run: infogan_fast.Run) -> None:
    for folder in (str(run.folder), run.folder):
        assert infogan_fast.load_run(folder).updates == 2
    with pytest.raises(UserError, match=r"there is no nowhere/config\.json"):
        infogan_fast.load_run("nowhere")
    file = run.folder / "checkpoints" / "step-00000002.pt"
    assert infogan_fast.load_run(run.folder, checkpoint_file=str(file)).updates == 2


def test_generate(run: infogan_fast.Run) -> None:
    images = run.generate(n=5, c1=2, c2=-1.5, c3=1, seed=0)
    assert (images.shape, images.dtype, images.device.type) == ((5, 1, 16, 16), torch.float32, "cpu")
    assert 0 <= images.min() < images.max() <= 1
    assert torch.equal(images, run.generate(n=5, c1=2, c2=-1.5, c3=1, seed=0))
    assert not torch.equal(images, run.generate(n=5, c1=1, c2=-1.5, c3=1, seed=0))
    assert run.generate().shape[0] == 64


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_generate_with_a_value_for_each_image(run: infogan_fast.Run, kind: Any) -> None:
    several = run.generate(n=3, c1=kind([0, 1, 2]), c2=kind([-1.0, 0.0, 1.0]))
    for i, (category, value) in enumerate(((0, -1.0), (1, 0.0), (2, 1.0))):
        one = run.generate(n=3, c1=category, c2=value)[i]
        torch.testing.assert_close(several[i], one, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n is 0; expected a whole number of at least 1"),
        ({"n": 2.0}, "n is 2.0; expected a whole number of at least 1"),
        ({"n": "3"}, "n is '3'; expected a whole number of at least 1"),
        ({"n": 10**12}, "n is 1,000,000,000,000, which takes 1,974,403.9 GiB of memory, and"),
        ({"c2": 1e39}, "c2 is a uniform code and takes a number"),
        ({"c9": 1}, "there is no code 'c9'; there are c1 (a categorical code and takes a whole number, 0 to"),
        ({"c1": 3}, "c1 is a categorical code and takes a whole number, 0 to 2; 3 is not one"),
        ({"c1": 0.5}, "c1 is a categorical code and takes a whole number, 0 to 2; 0.5 is not one"),
        ({"c2": float("nan")}, "c2 is a uniform code and takes a number"),
        ({"c2": "much"}, "c2 is a uniform code and takes a number"),
        ({"c3": 0.5}, "c3 is a Bernoulli code and takes 0 or 1"),
        ({"n": 3, "c1": [0, 1]}, "c1 has 2 values for 3 images; give one, or 3"),
        ({"seed": 2**63}, "expected a 64-bit integer"),
    ],
)
def test_generate_what_cannot_be(run: infogan_fast.Run, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        run.generate(**arguments)
    assert message in str(error.value)


def test_encode_reads_codes_by_name(run: infogan_fast.Run) -> None:
    images = run.load_images("test", count=9).images
    codes = run.encode(images)
    assert list(codes) == ["c1", "c2", "c3"]
    assert [codes[name].dtype for name in codes] == [torch.int64, torch.float32, torch.float32]
    assert all(len(values) == 9 for values in codes.values())
    output = run.encoder(images.float() / 255)
    assert torch.equal(codes["c1"], output[:, :3].argmax(1))
    torch.testing.assert_close(codes["c2"], output[:, 3])
    torch.testing.assert_close(codes["c3"], output[:, 4].sigmoid())
    assert not output.requires_grad
    for same in (images.numpy(), images[:, 0], images.permute(0, 2, 3, 1), images.double() / 255):
        for name, values in run.encode(same).items():
            torch.testing.assert_close(values, codes[name])
    backwards = run.encode(images.numpy()[::-1])
    assert torch.equal(backwards["c1"], codes["c1"].flip(0))
    # The whole circle, as in the README.
    assert len(run.encode(run.generate(n=4))["c1"]) == 4


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 17, 17), "the run takes N images of 16 x 16 with 1 channels"),
        (torch.zeros(2, 3, 16, 16), "the run takes N images of 16 x 16 with 1 channels"),
        (torch.zeros(0, 1, 16, 16), "images have shape (0, 1, 16, 16)"),
        (torch.zeros(16, 16), "images have shape (16, 16)"),
        (torch.zeros(2, 16, 16) - 1, "floating-point images run from -1 to -1; expected 0 to 1"),
        (torch.full((2, 16, 16), float("nan")), "floating-point images hold NaN; expected 0 to 1"),
        (torch.zeros(2, 16, 16, dtype=torch.int64), "images are torch.int64; expected uint8"),
        ([["cat"]], "expected uint8 or floating-point"),
        (np.zeros((2, 16, 16), np.int32), "images are int32; expected uint8"),
    ],
)
def test_encode_what_cannot_be(run: infogan_fast.Run, images: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        run.encode(images)
    assert message in str(error.value)


def test_pictures(run: infogan_fast.Run) -> None:
    picture = run.traversal()
    with Image.open(run.folder / "traversal.png") as left:
        assert np.array_equal(np.asarray(picture), np.asarray(left))
    assert len(run.animation(steps=3)) == 6
    assert len(run.traversal(row_labels=["a", "b", "c"]).tobytes()) > 0


@pytest.mark.parametrize(
    ("picture", "arguments", "message"),
    [
        ("traversal", {"columns": 0}, "columns is 0; expected a whole number of at least 1"),
        ("traversal", {"columns": 2.5}, "columns is 2.5; expected a whole number of at least 1"),
        ("traversal", {"reach": float("nan")}, "reach is nan; expected a number above 0"),
        ("traversal", {"reach": "far"}, "reach is 'far'; expected a number above 0"),
        ("traversal", {"row_labels": ["a"]}, "row_labels has 1 labels for 3 rows; give one for each"),
        ("animation", {"steps": 0}, "steps is 0; expected a whole number of at least 1"),
        ("animation", {"reach": float("inf")}, "reach is inf; expected a number above 0"),
    ],
)
def test_pictures_that_cannot_be(
    run: infogan_fast.Run, picture: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        getattr(run, picture)(**arguments)
    assert str(error.value) == message


def test_a_run_shows_itself_in_a_line(run: infogan_fast.Run) -> None:
    assert repr(run) == f"<Run {str(run.folder)!r}: 2 updates on 40 images of 16 x 16 grey, {run.spec}>"


def test_metrics(run: infogan_fast.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = run.metrics
    assert [row["step"] for row in rows] == [2]
    assert "L_c1" in rows[0]


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_metrics_in_pandas(run: infogan_fast.Run) -> None:
    assert list(run.metrics["step"]) == [2]


def test_evaluate(run: infogan_fast.Run) -> None:
    small: dict[str, Any] = {"images": 120, "samples": 64, "sweep_steps": 3, "sweep_noises": 1}
    assert run.evaluate(**small) == evaluate(run, **small)


@contextlib.contextmanager
def odd_modes() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_caller_s_modes_change_nothing(run: infogan_fast.Run, tmp_path: Path) -> None:
    images = run.generate(4, c1=1)
    codes, options = run.encode(images), {"images": 100, "samples": 16}
    scores = run.evaluate(**options)
    with odd_modes():
        assert torch.equal(run.generate(4, c1=1), images)
        for name, values in run.encode(images).items():
            assert torch.equal(values, codes[name]), name
        assert run.evaluate(**options) == scores
        run.traversal(columns=2)
        infogan_fast.load_run(run.folder, device="cpu").encode(images)


def test_bounds_of_codes_that_are_not_read() -> None:
    """By chance: of a mean and a variance that are the prior's, by quadrature."""
    uniform, normal = LatentSpec.parse("noise=1,uniform=1,normal=1").codes
    at = np.linspace(-1, 1, 200_001)
    for log_variance in (None, 0.0, -1.0):
        s = math.log(1 / 3) if log_variance is None else log_variance
        density = -0.5 * (math.log(2 * math.pi) + s + at**2 * math.exp(-s))
        wanted = math.log(2) + float(density.mean())
        assert _unread(uniform, log_variance)["L"] == pytest.approx(wanted, abs=1e-4)
        fitted = math.log(2) - 0.5 * math.log(2 * math.pi * math.e / 3)
        assert _unread(uniform, log_variance)["L_fitted"] == pytest.approx(fitted)
    assert _unread(normal, None) == pytest.approx({"L": 0.0, "L_fitted": 0.0})
    assert _unread(normal, 0.0)["L"] == pytest.approx(0.0)
    assert _unread(LatentSpec.parse("noise=1,cat=3").codes[0], None) == {}


def test_images_in_memory(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (120, 16, 16), np.uint8)
    out = tmp_path / "run"
    run = infogan_fast.train(data=images, out=out, **OPTIONS)
    assert "120 images in memory, sha256 " in (out / "config.json").read_text()
    small = {"samples": 64, "sweep_steps": 3, "sweep_noises": 1}
    result = run.evaluate(**small)
    assert (result["data"]["images"], result["data"]["held_out"]) == (120, False)
    assert len(run.encode(images)["c1"]) == 120
    # The same images again continue the run; other ones, or none, do not.
    assert infogan_fast.train(data=images / 255, resume=out, steps=3, progress=False).updates == 3
    with pytest.raises(UserError, match="was trained on memory: 120 images in memory, sha256"):
        infogan_fast.train(data=images[::-1], resume=out, steps=4)
    with pytest.raises(UserError, match="was trained on images in memory; continue it from Python, with"):
        infogan_fast.train(resume=out, steps=4)
    alone = infogan_fast.load_run(out, device="cpu")
    assert alone.generate(n=1).shape == (1, 1, 16, 16)
    with pytest.raises(UserError, match=r"give them again, with load_run\(folder, images=images\)"):
        alone.encode(images)
    other = infogan_fast.load_run(out, device="cpu", images=images[::-1])
    with pytest.raises(UserError, match=r"120 images in memory, sha256 .*, and load_run was given"):
        other.encode(images)
    again = infogan_fast.load_run(out, device="cpu", images=images)
    assert torch.equal(
        again.encode(images)["c1"], infogan_fast.load_run(out, images=images).encode(images)["c1"]
    )


def plain(folder: Path, code: str) -> Tensor:
    """What a process without this package computes with the module in that folder."""
    script = (
        "import sys, torch\n"
        "sys.modules['infogan_fast'] = None\n"
        f"{code}\n"
        "torch.save(module(torch.load('inputs.pt')), 'outputs.pt')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs: Tensor = torch.load(folder / "outputs.pt")
    return outputs


@pytest.mark.parametrize("part", ["generator", "encoder"])
@pytest.mark.parametrize("way", ["export", "trace"])
def test_modules_export_with_any_batch_size(
    run: infogan_fast.Run, part: str, way: str, tmp_path: Path
) -> None:
    module = getattr(run, part)
    inputs = draw_inputs(run.generator, run.spec, 7)
    if part == "encoder":
        inputs = run.generator(inputs).contiguous()
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    wanted = module(inputs)
    torch.save(inputs, tmp_path / "inputs.pt")
    if way == "export":
        batch = torch.export.Dim("batch")
        exported = torch.export.export(module, (inputs[:3],), dynamic_shapes=({0: batch},))
        torch.export.save(exported, tmp_path / "module.pt2")
        outputs = plain(tmp_path, "module = torch.export.load('module.pt2').module()")
    else:
        torch.jit.trace(module, (inputs[:3],)).save(tmp_path / "module.pt")
        outputs = plain(tmp_path, "module = torch.jit.load('module.pt')")
    torch.testing.assert_close(outputs, wanted, atol=1e-5, rtol=1e-5)
    # The modules are as they were, and so are the images that they make.
    assert torch.equal(module(inputs), wanted)


def test_help_names_every_option() -> None:
    parameters = inspect.signature(infogan_fast.train).parameters
    assert set(DECLARED) <= set(parameters)
    assert parameters["batch_size"].default == 128
