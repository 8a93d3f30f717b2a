"""The picture and the animation of what codes do: the latents they show, the names of rows, the frames."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image, ImageChops, WebPImagePlugin
from torch import Tensor, nn

from infogan_fast import traverse
from infogan_fast.analysis import evaluation
from infogan_fast.analysis.run import Run, load_run
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.pictures import traversal
from infogan_fast.pictures.traversal import as_animation


class Recorder(nn.Module):
    """A generator that keeps its inputs, and paints the sum of each."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.inputs: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.inputs.append(inputs)
        return inputs.sum(1).sigmoid().view(-1, 1, 1, 1).expand(-1, 1, 16, 16)


def recorded(text: str, steps: int, seed: int = 1) -> tuple[list[Tensor], list[Image.Image]]:
    recorder = Recorder()
    frames = traversal.animation(
        recorder,
        LatentSpec.parse(text),
        reach=3,
        steps=steps,
        seed=seed,
    )
    return recorder.inputs, frames


def test_an_animation_goes_there_and_back() -> None:
    inputs, frames = recorded("noise=3,cat=4,cat=2,uniform=1,bernoulli=1", 3)
    assert len(frames) == 6
    assert len(inputs) == 12  # a panel each continuous code
    swept, coin = inputs[::2], inputs[1::2]
    assert [float(x[0, 9]) for x in swept] == [-3, -1, 1, 3, 1, -1]
    assert [float(x[0, 10]) for x in coin] == [0, 0, 1, 1, 1, 0]
    start = swept[0]
    assert torch.equal(start[:, 3:7], torch.eye(4).repeat_interleave(4, 0))
    assert torch.equal(start[:, 7:9], torch.tensor([[1.0, 0.0]]).expand(16, 2))
    assert torch.equal(start[:, :3], start[:4, :3].repeat(4, 1))
    assert len(start[:4, :3].unique(dim=0)) == 4
    for x in swept:
        assert torch.equal(x[:, :9], start[:, :9])
        assert (x[:, 9] == x[0, 9]).all()
        assert not x[:, 10].any()
    for x in coin:
        assert torch.equal(x[:, :9], start[:, :9])
        assert not x[:, 9].any()
    for there, back in ((1, 5), (2, 4)):
        assert not ImageChops.difference(frames[there], frames[back]).getbbox()
    assert ImageChops.difference(frames[0], frames[3]).getbbox()


def test_an_animation_begins_where_the_picture_does() -> None:
    inputs, _ = recorded("noise=3,cat=4,uniform=1", 2, seed=7)
    recorder = Recorder()
    traversal.traversal(recorder, LatentSpec.parse("noise=3,cat=4,uniform=1"), reach=3, columns=3, seed=7)
    assert torch.equal(inputs[0][::4], recorder.inputs[0][::3])
    other, _ = recorded("noise=3,cat=4,uniform=1", 2, seed=8)
    assert not torch.equal(inputs[0][:, :3], other[0][:, :3])


def test_an_animation_shows_the_value() -> None:
    _, frames = recorded("noise=0,cat=4,uniform=1", 2)
    titles = [frame.crop((0, 0, frame.width, 24)) for frame in frames]
    assert all(ImageChops.difference(titles[0], title).getbbox() for title in titles[1:])
    assert not ImageChops.difference(titles[1], titles[3]).getbbox()


def test_an_animation_without_categories_or_continuous_codes() -> None:
    inputs, frames = recorded("noise=3,normal=2", 1)
    assert len(frames) == 2
    assert len(inputs[0][:, :3].unique(dim=0)) == 40
    with pytest.raises(UserError, match="no continuous code to sweep"):
        recorded("noise=3,cat=4", 1)


def test_rows_are_named_by_the_label_that_they_are_matched_to(
    strokes_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(strokes_run)
    named(monkeypatch, ["7", None, "cow"])
    assert traverse.row_labels(run, None, None) == ["7 (c1 = 0)", "c1 = 1", "cow (c1 = 2)"]
    named(monkeypatch, None)
    assert traverse.row_labels(run, None, None) is None


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def flags(strokes_run: Path) -> list[str]:
    return [str(strokes_run), "--device", "cpu"]


def named(monkeypatch: pytest.MonkeyPatch, labels: list[str | None] | None) -> None:
    """A matching that takes no time."""
    monkeypatch.setattr(evaluation, "match_labels", lambda run, **options: labels)


def test_a_picture_is_that_of_training_with_its_rows_named(
    strokes_run: Path,
    flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "a.png"
    named(monkeypatch, None)
    assert traverse.main([*flags, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert (pixels(out) == pixels(strokes_run / "traversal.png")).all()
    named(monkeypatch, ["5", "6", None])
    assert traverse.main([*flags, "--out", str(out)]) == 0
    run = load_run(strokes_run)
    wanted = traversal.traversal(run.generator, run.spec, row_labels=["5 (c1 = 0)", "6 (c1 = 1)", "c1 = 2"])
    assert (pixels(out) == np.asarray(wanted)).all()


def test_the_noise_is_the_seed_s(flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, None)
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for file, seed in zip(files, ("5", "5", "6"), strict=True):
        assert traverse.main([*flags, "--out", str(file), "--seed", seed, "--steps", "2"]) == 0
    assert (pixels(files[0]) == pixels(files[1])).all()
    assert (pixels(files[0]) != pixels(files[2])).any()


def test_range_and_steps(flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def record(generator: object, spec: object, **options: object) -> Image.Image:
        calls.append(options)
        return Image.new("L", (1, 1))

    named(monkeypatch, None)
    monkeypatch.setattr(traversal, "traversal", record)
    assert traverse.main([*flags, "--out", str(tmp_path / "a.png"), "--range", "1.5", "--steps", "4"]) == 0
    assert calls == [{"reach": 1.5, "columns": 5, "seed": 1, "row_labels": None}]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_has_its_frames(
    strokes_run: Path, flags: list[str], suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(monkeypatch, ["5", "6", "7"])
    out = tmp_path / f"a{suffix}"
    assert traverse.main([*flags, "--out", str(out), "--steps", "4"]) == 0
    run = load_run(strokes_run)
    labels = [f"{i + 5} (c1 = {i})" for i in range(3)]
    frames = traversal.animation(run.generator, run.spec, steps=4, row_labels=labels)
    with Image.open(out) as image:
        assert isinstance(image, (GifImagePlugin.GifImageFile, WebPImagePlugin.WebPImageFile))
        assert image.n_frames == 8
        assert image.info["loop"] == 0
        for i, frame in enumerate(frames):
            image.seek(i)
            image.load()
            assert image.info["duration"] == 80
            assert (np.asarray(image.convert("RGB")) == np.asarray(frame)).all(), i


def test_a_gif_in_colour(colour_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.gif"
    assert traverse.main([str(colour_run), "--device", "cpu", "--out", str(out), "--steps", "2"]) == 0
    with Image.open(out) as image:
        assert isinstance(image, (GifImagePlugin.GifImageFile, WebPImagePlugin.WebPImageFile))
        assert image.n_frames == 4
        colours = np.asarray(image.convert("RGB")).astype(int)
    assert np.ptp(colours, axis=2).max() > 10


def test_a_matching_is_made_on_the_data_asked_for(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = []

    def held_out(self: Run, **how: object) -> object:
        asked.append(how)
        raise UserError("asked")

    monkeypatch.setattr(Run, "held_out", held_out)
    assert traverse.main([*flags, "--data", "here", "--data-dir", "there", "--out", "a.png"]) == 2
    assert asked == [{"data": "here", "data_dir": Path("there")}]


def test_a_picture_needs_no_data(
    colour_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "run"
    shutil.copytree(colour_run, folder)
    with pytest.MonkeyPatch.context() as patch:

        def absent(*args: object, **how: object) -> None:
            raise UserError("data.npz: gone")

        patch.setattr("infogan_fast.analysis.run.load_images", absent)
        assert traverse.main([str(folder), "--device", "cpu"]) == 0
        printed = capsys.readouterr()
        assert "rows are not named by labels: data.npz: gone" in printed.err
        assert printed.out == f"{folder / 'traverse.png'}\n"
        assert (pixels(folder / "traverse.png") == pixels(folder / "traversal.png")).all()
        assert traverse.main([str(folder), "--device", "cpu", "--data", "data.npz"]) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", "a.jpg"], "--out a.jpg: expected a name that ends in .png, .gif, .webp"),
        (["--out", "no/folder/a.png"], "--out no/folder/a.png: there is no folder no/folder"),
        (["--out", "no/folder/a.gif"], "--out no/folder/a.gif: there is no folder no/folder"),
        (["--range", "0"], "--range is 0.0; expected a number above 0"),
        (["--range", "inf"], "--range is inf"),
        (["--steps", "0"], "--steps is 0; expected 1 to 200"),
        (["--steps", "201"], "--steps is 201"),
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
    named(monkeypatch, None)
    assert traverse.main([*flags, *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(("suffix", "most"), [(".webp", 16_383), (".gif", 65_535)])
def test_frames_too_large_for_a_format_are_an_error(suffix: str, most: int) -> None:
    frames = [Image.new("L", (most + 1, 1))] * 2
    with pytest.raises(UserError, match=f"takes at most {most:,} each way; write a .png"):
        as_animation(frames, suffix, grey=True)
    assert as_animation([Image.new("L", (most, 1))] * 2, suffix, grey=True)


def test_webp_without_webp(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named(monkeypatch, None)
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    assert traverse.main([*flags, "--out", str(tmp_path / "a.webp"), "--steps", "1"]) == 2
    assert "has no WebP; write a .gif" in capsys.readouterr().err
