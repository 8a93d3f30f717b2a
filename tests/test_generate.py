"""Images with chosen codes: what the generator is fed, what is written, and an error for every wrong code."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from infogan_fast import generate, ops
from infogan_fast.analysis.run import Run, load_run
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.pictures.samples import to_pixels

SPEC = LatentSpec.parse("noise=2,cat=4,cat=3,uniform=1,normal=1,bernoulli=1")


class Echo(nn.Module):
    """A generator that keeps its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.inputs: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.inputs.append(inputs)
        return torch.zeros(len(inputs), 1, 16, 16)


def fed(run: Run, *codes: str, count: int = 20, seed: int = 1) -> Tensor:
    """What the generator is fed."""
    echo = Echo()
    echoing = Run(**{**vars(run), "generator": echo})
    echoing.generate(count, seed=seed, **generate.choose_codes(run.spec, codes))
    return torch.cat(echo.inputs)


@pytest.fixture
def run(strokes_run: Path) -> Run:
    """Of noise=4,cat=3,uniform=1,bernoulli=1."""
    return load_run(strokes_run)


def test_codes_that_are_set(run: Run) -> None:
    free = fed(run)
    assert torch.equal(free, ops.sample_latents(ops.rng_state(1), 20, run.spec).inputs)
    category = fed(run, "c1=2")
    assert torch.equal(category[:, 4:7], torch.tensor([0.0, 0, 1]).expand(20, 3))
    rest = [0, 1, 2, 3, 7, 8]
    assert torch.equal(category[:, rest], free[:, rest])
    low, high = fed(run, "c2=-1.5"), fed(run, " c2 = 2e-1 ", "c3=1")
    assert (low[:, 7] == -1.5).all()
    assert (high[:, 7] == 0.2).all()
    assert (high[:, 8] == 1).all()
    assert torch.equal(low[:, :7], high[:, :7])
    assert torch.equal(low[:, :7], free[:, :7])
    assert torch.equal(low[:, 8], free[:, 8])


def test_images_depend_on_the_seed_and_not_on_how_many(run: Run) -> None:
    assert torch.equal(fed(run, count=300)[:20], fed(run, count=20))
    assert not torch.equal(fed(run, seed=2)[:, :4], fed(run)[:, :4])
    many, few = (run.generate(n, c1=1) for n in (300, 20))
    assert many.shape == (300, 1, 16, 16)
    assert torch.equal(many[:20], few)
    assert many.dtype == torch.float32
    assert len(many.flatten(1).unique(dim=0)) > 100


def test_every_kind_of_code(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = generate.choose_codes(SPEC, ["c2=2", "c1=0", "c3=1", "c4=3.5", "c5=0"])
    assert chosen == {"c2": 2, "c1": 0, "c3": 1.0, "c4": 3.5, "c5": 0.0}
    generate.warn_of_unusual(SPEC, chosen)
    assert capsys.readouterr().err == ""
    chosen = generate.choose_codes(SPEC, ["c3=-2"])
    assert chosen == {"c3": -2.0}
    generate.warn_of_unusual(SPEC, chosen)
    remark = "c3 = -2 lies outside of -1 to 1, where training drew it"
    assert capsys.readouterr().err == f"infogan_fast.generate: {remark}\n"


CATEGORICAL = "c1 is a categorical code and takes a whole number, 0 to 3"
UNIFORM = "c3 is a uniform code and takes a number, from -1 to 1 in training"
NORMAL = "c4 is a normal code and takes a number, mostly from -2 to 2 in training"
BERNOULLI = "c5 is a Bernoulli code and takes 0 or 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c1=99", CATEGORICAL),
        ("c1=4", CATEGORICAL),
        ("c1=-1", CATEGORICAL),
        ("c1=1.0", CATEGORICAL),
        ("c1=", CATEGORICAL),
        ("c2=3", "c2 is a categorical code and takes a whole number, 0 to 2"),
        ("c3=abc", UNIFORM),
        ("c3=nan", UNIFORM),
        ("c4=-inf", NORMAL),
        ("c4=1e39", NORMAL),
        ("c5=0.5", BERNOULLI),
        ("c5=yes", BERNOULLI),
        ("c1", "--set c1: expected CODE=VALUE, such as c1=1"),
        (
            "c9=1",
            "there is no code 'c9'; there are c1 (a categorical code and takes a whole number, 0 to 3), c2",
        ),
        ("=1", "there is no code ''"),
    ],
)
def test_wrong_codes(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        generate.choose_codes(SPEC, ["c2=0", text] if not text.startswith("c2") else [text])
    assert str(error.value).startswith(f"--set {text}: ")
    assert message in str(error.value)


def test_a_code_twice() -> None:
    with pytest.raises(UserError, match="--set c1=2: c1 is given twice"):
        generate.choose_codes(SPEC, ["c1=1", "c1=2"])


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def flags(strokes_run: Path) -> list[str]:
    return [str(strokes_run), "--device", "cpu", "--n", "5", "--set", "c2=1.5"]


def test_a_grid(run: Run, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "grid.png"
    assert generate.main([*flags, "--grid", "2", "--seed", "9", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert printed.err == "infogan_fast.generate: c2 = 1.5 lies outside of -1 to 1, where training drew it\n"
    grid = pixels(out)
    assert grid.shape == (3 * 65 + 1, 2 * 65 + 1, 3)
    images = to_pixels(run.generate(5, seed=9, c2=1.5))
    cell = grid[2 * 65 + 1 : 2 * 65 + 65 : 4, 1:65:4, 0]  # the last, enlarged four times
    assert (cell == images[4, 0].numpy()).all()
    assert generate.main([*flags, "--out", str(out)]) == 0
    assert pixels(out).shape == (2 * 65 + 1, 3 * 65 + 1, 3)


@pytest.mark.parametrize("made", [False, True])
def test_a_folder(run: Run, flags: list[str], made: bool, tmp_path: Path) -> None:
    out = tmp_path / "deep" / ("new.d" if made else "new")
    if made:
        out.mkdir(parents=True)
    assert generate.main([*flags, "--out", str(out)]) == 0
    assert sorted(os.listdir(out)) == [f"{i:05d}.png" for i in range(5)]
    images = to_pixels(run.generate(5, c2=1.5))
    for i, image in enumerate(images):
        assert (pixels(out / f"{i:05d}.png") == image[0].numpy()).all()


def test_a_folder_in_colour(colour_run: Path, tmp_path: Path) -> None:
    assert generate.main([str(colour_run), "--device", "cpu", "--n", "2", "--out", str(tmp_path)]) == 0
    run = load_run(colour_run)
    images = to_pixels(run.generate(2))
    assert (pixels(tmp_path / "00001.png") == images[1].permute(1, 2, 0).numpy()).all()


def test_a_grid_that_cannot_be_written_leaves_the_one_before(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "grid.png"
    out.write_bytes(b"the one before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert generate.main([*flags, "--out", str(out)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert out.read_bytes() == b"the one before" and os.listdir(tmp_path) == ["grid.png"]
    assert generate.main([*flags, "--out", str(tmp_path / "no" / "grid.png")]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--n", "0"], "--n is 0; expected at least 1"),
        (["--grid", "0"], "--grid is 0; expected at least 1"),
        (["--grid", "2", "--out", "full"], "--grid 2 is for a grid, and full is a folder"),
        (["--out", "full"], "--out full: is not empty; give a new folder"),
        (["--out", "a.jpg"], "--out a.jpg: expected a name that ends in .png, or a folder"),
        (["--out", "no/a.png"], "--out no/a.png: there is no folder no"),
        (["--out", "full/file/new"], "--out full/file/new: cannot be written"),
        (["--set", "c1=3"], "--set c1=3: c1 is a categorical code and takes a whole number, 0 to 2"),
        (["--set", "c2=1"], "--set c2=1: c2 is given twice"),
        (["--seed", str(2**63)], "seed is 9223372036854775808; expected a 64-bit integer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(
    more: list[str],
    message: str,
    flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert generate.main([*flags, *more]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert os.listdir(tmp_path) == ["full"]
    assert os.listdir(tmp_path / "full") == ["file"]
