"""What the benchmarks compare with is the same work: the same networks, the same objective, every weight
trained."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import baselines
import bench_ranks
import bench_recipe
import harness
import profile_step

from infogan_fast import LatentSpec, ops
from infogan_fast.config import Config
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.runtime.processes import Slot

CPU = torch.device("cpu")
SPEC = LatentSpec.parse("noise=62,cat=10,uniform=2")
PIXELS = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
VARIANTS: dict[str, Callable[[], baselines.Plain | baselines.ThreeOptimizers]] = {
    "plain": lambda: baselines.Plain(PIXELS, 8, CPU),
    "plain bfloat16": lambda: baselines.Plain(PIXELS, 8, CPU, torch.bfloat16),
    "three optimizers": lambda: baselines.ThreeOptimizers(PIXELS, 8, CPU),
}


def test_the_networks_are_the_same() -> None:
    ours = sorted(tuple(p.shape) for p in InfoGAN(SPEC, 28, 1).parameters())
    assert sorted(tuple(p.shape) for p in baselines.Networks().parameters()) == ours


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_is_trained(name: str) -> None:
    torch.manual_seed(0)
    variant = VARIANTS[name]()
    before = {k: v.clone() for k, v in variant.networks.named_parameters()}
    variant()
    for key, value in variant.networks.named_parameters():
        assert not torch.equal(before[key], value), key
        assert value.isfinite().all(), key


def test_the_objective_is_the_same() -> None:
    torch.manual_seed(0)
    plain = baselines.Plain(PIXELS, 8, CPU)
    nets = plain.networks
    latents, category, continuous = baselines.sample(8, CPU)
    real = plain._real()
    d, g = plain.d_loss(real, latents), plain.g_loss(latents, category, continuous)

    def logits(x: Tensor) -> Tensor:
        return nets.d_head(nets.trunk(x)).detach()

    fake = nets.generator(latents)
    codes = {
        "q_output": nets.q_head(nets.trunk(fake)).detach(),
        "categorical": category.int().view(8, 1),
        "continuous": continuous,
    }
    ours_d = ops.infogan_loss(
        SPEC,
        weights=ops.LossWeights(d_real=1, d_fake=1),
        real_logits=logits(real),
        fake_logits=logits(fake),
    )
    ours_g = ops.infogan_loss(
        SPEC, weights=ops.LossWeights(g=1, codes=(1.0, 0.1, 0.1)), fake_logits=logits(fake), **codes
    )
    torch.testing.assert_close(d.detach(), ours_d.total, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(g.detach(), ours_g.total, atol=1e-5, rtol=1e-5)


def test_categories_are_read_without_a_trace() -> None:
    torch.manual_seed(0)
    nets = baselines.Networks()
    pixels = torch.randint(0, 256, (2000, 1, 28, 28), dtype=torch.uint8)
    before = {k: v.clone() for k, v in nets.state_dict().items()}
    whole = baselines.assigned(nets.trunk, nets.q_head, pixels, 1.0, 0.0)
    assert torch.equal(whole[1000:], baselines.assigned(nets.trunk, nets.q_head, pixels[1000:], 1.0, 0.0))
    assert whole.shape == (2000,) and whole.min() >= 0 and whole.max() < 10
    assert all(torch.equal(before[k], v) for k, v in nets.state_dict().items())


SCRIPTS = sorted(path for path in Path(baselines.__file__).parent.glob("*.py") if path.stem != "baselines")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_loads_and_describes_itself(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = runpy.run_path(str(script), run_name="loaded")
    assert found["__doc__"]
    if script.stem == "harness":
        return
    printed = io.StringIO()
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stop:
        found["main"]()
    assert stop.value.code == 0
    assert "--json" in printed.getvalue()
    assert f"python benchmarks/{script.name}" in printed.getvalue()


def test_the_step_of_the_benchmarks_is_that_of_training() -> None:
    images = harness.noise_images(40)
    step = harness.make_step(
        images, CPU, batch_size=8, recipe="default", smoothness=0.0, schedule="one-stage"
    )
    config = Config.from_options({"data": "mnist", "smoothness": 0.0, "schedule": "one-stage"}).checked()
    assert step.objective == config.objective
    step()
    assert step.take_metrics()["d_real"] > 0


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        ([], "digits"),
        (["--data-dir", "here"], "here"),
        (["--data", "fashion-mnist"], None),
        (["--data", "fashion-mnist", "--data-dir", "here"], "here"),
        (["--data", "strokes"], None),
    ],
)
def test_the_folder_of_mnist_is_not_taken_for_another_s(
    flags: list[str], folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load_images(data: str, *, data_dir: Path | None, split: str) -> Any:
        asked.append((data, data_dir))
        return SimpleNamespace(images=PIXELS, labels=torch.zeros(40))

    monkeypatch.setenv("INFOGAN_FAST_MNIST", "digits")
    monkeypatch.setattr(bench_recipe, "load_images", load_images)
    bench_recipe.load(bench_recipe.options().parse_args(flags))
    data = flags[1] if "--data" in flags else "mnist"
    assert asked == [(data, None if folder is None else Path(folder))] * 2


def test_the_table_of_seeds() -> None:
    def run(seed: int, accuracy: float) -> dict[str, Any]:
        sweeps = {"c2": {"slant": {"mean": 0.5}, "width": {"mean": 0.75}, "height": {"mean": None}}}
        return {"seed": seed, "curve": [{"accuracy": accuracy, "nmi": 0.5}], "sweeps": sweeps}

    *_, last, summary = bench_recipe.table([run(7001, 0.75), run(12, 0.25)]).splitlines()
    assert last == "  12    0.2500 0.5000  c2 width 0.75"
    assert summary == "mean 0.5000, deviation 0.3536, worst 0.2500, mean NMI 0.5000"


@pytest.mark.parametrize(
    ("place", "threads", "gpu"),
    [(Slot(2), ["--threads", "2"], None), (Slot(None, {"CUDA_VISIBLE_DEVICES": "1"}), [], "1")],
)
def test_seeds_train_side_by_side(
    place: Slot, threads: list[str], gpu: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run(command: list[str], *, check: bool, env: dict[str, str]) -> None:
        assert check and env.get("CUDA_VISIBLE_DEVICES") == gpu
        asked = bench_recipe.options().parse_args(command[2:])
        ran.append((asked.seeds, command[-2:] if threads else []))
        asked.json.write_text(json.dumps({"runs": [{"seed": asked.seeds[0]}]}))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["bench_recipe.py", "--seeds", "3", "1", "2", "--jobs", "2"])
    found = bench_recipe.side_by_side([3, 1, 2], [place, place])
    assert [each["seed"] for each in found] == [3, 1, 2]
    assert sorted(ran) == [([seed], threads) for seed in (1, 2, 3)]


def test_every_folder_of_results_is_described() -> None:
    results = Path(baselines.__file__).parent / "results"
    text = (results / "README.md").read_text()
    for path in results.rglob("*.json"):
        assert path.parent.name in text
        assert path.name in text or path.parent.name.endswith("xeon-2-threads"), path
        script = path.stem.partition("-")[0]
        known = {script.stem for script in SCRIPTS} | {"seeds", "evaluate", "checks"}
        assert script in known, f"{path} is named after no script"


def test_kernels_are_summed_by_what_they_do() -> None:
    rows = [
        ["void infogan_fast::adam_update_kernel<float>", 2.0, 100.0],
        ["sm90_xmma_dgrad_implicit_gemm__5x_cudnn", 1.0, 20.4],
        ["void cutlass__5x_cudnn::Kernel<fprop>", 1.0, 10.0],
        ["nvjet_sm90_tst_64x64", 3.0, 30.0],
        ["void at::native::neg_kernel_cuda", 1.0, 1.0],
    ]
    results = {"machine": {}, "paper": {"rows": rows, "kernels": 8.0, "microseconds": 161.4}}
    lines = profile_step.kernel_table(results).splitlines()
    assert lines[0] == "| | paper |" and lines[-1] == "| **sum** | **161 (8)** |"
    assert "| Adam | 100 (2) |" in lines and "| convolutions and their layouts | 30 (2) |" in lines
    assert "| matrix products | 30 (3) |" in lines and "| other | 1 (1) |" in lines
    assert "| activations | 0 |" in lines


def test_an_update_computes_few_operators(capsys: pytest.CaptureFixture[str]) -> None:
    """On a GPU each is a kernel or a few, and their launches are most of a small step."""
    results: dict[str, dict[str, int]] = {}
    profile_step.print_launches(8, results)
    totals = {title: sum(counts.values()) for title, counts in results.items()}
    most = {"paper --amp": 66, "default --amp": 81, "default with smoothness --amp": 115}
    assert totals.keys() == most.keys()
    assert all(totals[title] <= most[title] for title in most), totals
    assert "infogan_fast.transform_images" in capsys.readouterr().out


def test_the_page_of_several_processes_has_the_model_s_tables(capsys: pytest.CaptureFixture[str]) -> None:
    bench_ranks.print_model()
    page = (Path(__file__).parents[1] / "docs" / "distributed.md").read_text().splitlines()
    for line in capsys.readouterr().out.splitlines():
        assert line in page, line


def test_the_model_of_a_collective() -> None:
    link = bench_ranks.Link("a link", latency=1e-6, bandwidth=1e9)
    assert bench_ranks.seconds([10**6], 1, link) == 0
    assert bench_ranks.seconds([10**6, 10**6], 4, link) == pytest.approx(2 * (6e-6 + 1.5e-3))  # rings
    assert bench_ranks.seconds([8], 1024, link) == pytest.approx(20e-6 + 16e-9)  # a tree
