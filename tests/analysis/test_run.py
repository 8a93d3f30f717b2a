"""A run that is loaded again: the same networks, Q's statistics, and an error for whatever is not a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from infogan_fast import cli, generate
from infogan_fast.analysis.run import Run, as_input, in_batches, load_run
from infogan_fast.errors import UserError
from infogan_fast.networks.statistics import calibrated
from infogan_fast.pictures import samples
from infogan_fast.train import main as train_main
from infogan_fast.training import checkpoint


def pixels(picture: Path | Image.Image) -> NDArray[np.uint8]:
    return np.asarray(Image.open(picture) if isinstance(picture, Path) else picture)


@pytest.mark.parametrize("step", [2, 4])
def test_pictures_are_those_that_training_left(strokes_run: Path, step: int) -> None:
    file = checkpoint.checkpoint_path(strokes_run / "checkpoints", step)
    run = load_run(strokes_run, checkpoint_file=file if step == 2 else None)
    assert run.updates == step
    left = pixels(strokes_run / "samples" / f"step-{step:08d}.png")
    assert (pixels(samples.sample_grid(run.generator, run.spec)) == left).all()


@pytest.fixture
def averaged(strokes_run: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A run whose average differs from its last weights, as it does after more updates; and what it saved."""
    out = shutil.copytree(strokes_run, tmp_path / "averaged")
    path = checkpoint.listed(out / "checkpoints")[-1]
    state = checkpoint.load(path)
    saved = state["training"]
    saved["ema"] |= {k: v + 0.01 for k, v in saved["ema"].items() if k.endswith(("weight", "bias"))}
    checkpoint.save(path, state)
    return out, saved


def test_the_networks_are_the_moving_average(averaged: tuple[Path, dict[str, Any]]) -> None:
    folder, saved = averaged
    run = load_run(folder)
    assert torch.equal(run.generator.fc1.weight, saved["ema"]["generator.fc1.weight"])
    for name, weight in run.networks.named_parameters():
        assert torch.equal(weight, saved["ema"][name])
        assert not torch.equal(weight, saved["networks"][name]), name


def test_a_run_that_averaged_the_generator_alone(averaged: tuple[Path, dict[str, Any]]) -> None:
    """As versions before did: the other networks are the last ones, and training goes on."""
    folder, saved = averaged
    path = checkpoint.listed(folder / "checkpoints")[-1]
    state = checkpoint.load(path)
    own = {k.removeprefix("generator."): v for k, v in saved["ema"].items() if k.startswith("generator.")}
    checkpoint.save(path, {**state, "training": {**state["training"], "ema": own}})
    run = load_run(folder)
    for name, weight in run.networks.named_parameters():
        right = saved["ema" if name.startswith("generator.") else "networks"]
        assert torch.equal(weight, right[name]), name
    assert train_main(["--resume", str(folder), "--steps", "5"]) == 0


def test_a_run_without_average(colour_run: Path) -> None:
    run = load_run(colour_run)
    assert (run.channels, run.image_size, run.train_images, run.updates) == (3, 16, 30, 2)
    again = calibrated(run.networks.generator, run.spec).state_dict()
    assert all(torch.equal(v, again[k]) for k, v in run.generator.state_dict().items())
    assert not run.generator.training


@pytest.fixture
def run(strokes_run: Path) -> Run:
    return load_run(strokes_run)


def first_norm(network: nn.Module) -> nn.BatchNorm2d:
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    return norm


def before_first_norm(run: Run, images: Tensor) -> Tensor:
    """What the trunk's first batch normalisation is given, [channels, values]."""
    trunk = run.networks.trunk
    first = trunk.image(as_input(images, run.device))
    return next(iter(trunk.convs))(first).transpose(0, 1).flatten(1)


def test_statistics_are_those_of_the_training_images(run: Run) -> None:
    before = {k: v.clone() for k, v in run.networks.state_dict().items()}
    norm = first_norm(run.encoder)
    values = before_first_norm(run, run.load_images("train", count=40).images)
    assert torch.allclose(found(norm.running_mean), values.mean(1), atol=1e-5)
    assert torch.allclose(found(norm.running_var), values.var(1), rtol=1e-3)
    assert all(torch.equal(v, before[k]) for k, v in run.networks.state_dict().items())


def found(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def test_q_reads_an_image_alike_in_any_company(run: Run) -> None:
    encoder, images = run.encoder, run.load_images("test", count=12).images
    whole = in_batches(encoder, images, run.device)
    alone = torch.cat([in_batches(encoder, image[None], run.device) for image in images])
    assert whole.shape == (12, run.spec.q_dim())
    assert torch.allclose(whole, alone, atol=1e-5)


def test_statistics_of_data_sorted_by_class(run: Run, tmp_path: Path) -> None:
    # 300 dark images, then 300 bright ones: batches in order would have variances near 0
    images = np.random.default_rng(0).integers(0, 20, (600, 16, 16), np.uint8)
    images[300:] += 200
    np.save(tmp_path / "sorted.npy", images)
    norm = first_norm(run.encoder_for(data=str(tmp_path / "sorted.npy")))
    values = before_first_norm(run, torch.from_numpy(images)[:, None])
    assert torch.allclose(found(norm.running_var), values.var(1), rtol=0.1)


def test_a_single_image_has_no_statistics(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.full((1, 16, 16), 9, np.uint8))
    with pytest.raises(UserError, match="a single image"):
        run.encoder_for(data=str(tmp_path / "one.npy"))


def test_held_out_images(run: Run, colour_run: Path) -> None:
    held, why_not = run.held_out(count=50)
    assert why_not is None
    assert held.images.shape == (50, 1, 16, 16)
    assert held.source == "strokes: 50 test images drawn from seed 3"
    shown, why_not = load_run(colour_run).held_out()
    assert len(shown.images) == 30
    assert why_not is not None
    assert "no test split" in why_not


def test_too_many_images_are_no_reason_to_take_training_ones(run: Run, tmp_path: Path) -> None:
    both = np.full((9, 16, 16), 9, np.uint8)
    np.savez(tmp_path / "both.npz", train_images=both, test_images=both[:4])
    with pytest.raises(UserError, match="has 4 images, --images asks for 5"):
        run.held_out(data=str(tmp_path / "both.npz"), count=5)


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def not_a_run(folder: Path) -> None:
    (folder / "config.json").unlink()


def damaged_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def old_config(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"format": 0, "settings": {}, "data": {}}))


def other_version(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["warp"] = 9
    (folder / "config.json").write_text(json.dumps(config))


def incomplete_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["data"]["image_size"]
    (folder / "config.json").write_text(json.dumps(config))


def no_checkpoint(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints")


def damaged_checkpoints(folder: Path) -> None:
    for path in checkpoint.listed(folder / "checkpoints"):
        path.write_bytes(b"PK")


def other_networks(folder: Path) -> None:
    path = checkpoint.listed(folder / "checkpoints")[-1]
    state = checkpoint.load(path)
    state["training"]["networks"]["d_head.weight"] = torch.zeros(1, 7)
    checkpoint.save(path, state)


def other_run(folder: Path) -> None:
    path = checkpoint.listed(folder / "checkpoints")[-1]
    state = checkpoint.load(path)
    state["settings"]["leaky_slope"] = 0.01
    checkpoint.save(path, state)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_folder, "config.json; give the folder of a run"),
        (not_a_run, "config.json; give the folder of a run"),
        (damaged_config, "config.json: cannot be read"),
        (old_config, "config.json: format 0, expected 3: another version of infogan_fast wrote it; use that"),
        (other_version, "another version of infogan_fast: warp differ; use that version, or train again"),
        (incomplete_config, "config.json: cannot be read (KeyError: 'image_size')"),
        (no_checkpoint, "checkpoints; train again, with --overwrite"),
        (damaged_checkpoints, "step-00000004.pt: not a readable checkpoint"),
        (other_networks, "step-00000004.pt: does not belong to the run in"),
        (other_run, "step-00000004.pt: does not belong to the run in"),
    ],
)
def test_what_is_not_a_run(
    damage: Callable[[Path], None],
    message: str,
    strokes_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(strokes_run, folder)
    damage(folder)
    assert generate.main([str(folder), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("infogan_fast.generate: ")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("command", ["evaluate", "traverse", "generate"])
def test_every_command_says_what_is_not_a_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "nowhere"]) == 2
    assert capsys.readouterr().err == (
        f"infogan_fast.{command}: nowhere: there is no nowhere/config.json; give the folder of a run\n"
    )


@pytest.mark.parametrize("command", ["evaluate", "traverse", "generate"])
def test_help_and_wrong_flags(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert "--checkpoint FILE" in capsys.readouterr().out
    for flags, message in (
        ([], "the following arguments are required: RUN"),
        (["run", "--devic", "cpu"], "unrecognized arguments: --devic cpu"),
        (["run", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
    ):
        assert cli.main([command, *flags]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1


def test_an_absent_checkpoint_names_those_there_are(
    strokes_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main([str(strokes_run), "--checkpoint", "nowhere.pt"]) == 2
    error = capsys.readouterr().err
    assert "nowhere.pt: there is no such checkpoint" in error
    assert "step-00000002.pt" in error
    assert "step-00000004.pt" in error


def test_a_run_trained_with_another_library(strokes_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(strokes_run, folder)
    for path in checkpoint.listed(folder / "checkpoints"):
        state = checkpoint.load(path)
        state["settings"]["linear"] = "onednn"
        checkpoint.save(path, state)
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["linear"] = "onednn"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infogan_fast.networks.linear.onednn_missing", lambda: "none here")
        assert load_run(folder).updates == 4
