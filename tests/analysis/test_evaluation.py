"""Scores of codes with a known meaning: a Q that knows the factors, a generator that draws the codes."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributions, nn

from infogan_fast import ops
from infogan_fast.analysis.evaluation import (
    SCORES,
    cluster_scores,
    disentanglement,
    evaluate,
    factor_correlations,
    information,
    match_labels,
    read_images,
    sweep_scores,
)
from infogan_fast.analysis.measures import name_of
from infogan_fast.analysis.report import report
from infogan_fast.analysis.run import Run, load_run
from infogan_fast.config import Config
from infogan_fast.data import ImageSet, load_images
from infogan_fast.latents import LatentSpec

SIZE = 16
HELD_OUT, TRAINED = 400, 40


class Networks(nn.Module):
    """Networks whose trunk and head together are a given Q."""

    def __init__(self, q: nn.Module) -> None:
        super().__init__()
        self.trunk, self.q_head = q, nn.Identity()


def stub(
    latents: str, *, generator: nn.Module | None = None, q: nn.Module | None = None, **options: Any
) -> Run:
    """A run on strokes with the given networks."""
    config = Config.from_options({"latents": latents, "images": TRAINED, "image_size": SIZE, **options})
    return Run(
        Path("stub"),
        config,
        config.latents,
        SIZE,
        1,
        TRAINED,
        7,
        generator or nn.Linear(1, 1),  # type: ignore[arg-type]
        Networks(q or nn.Identity()),  # type: ignore[arg-type]
        torch.device("cpu"),
    )


class Oracle(nn.Module):
    """A Q with given outputs for known images, and 0 for all others."""

    def __init__(self, data: ImageSet, outputs: Tensor) -> None:
        super().__init__()
        self.width = outputs.shape[1]
        self.known = {image.numpy().tobytes(): row for image, row in zip(data.images, outputs, strict=True)}

    def forward(self, images: Tensor) -> Tensor:
        keys = [image.numpy().tobytes() for image in (images * 255).round().to(torch.uint8)]
        return torch.stack([self.known.get(key, torch.zeros(self.width)) for key in keys])


@pytest.fixture(scope="module")
def held_out() -> ImageSet:
    return load_images("strokes", split="test", image_size=SIZE, count=HELD_OUT)


#: The oracle's category of each digit.
CATEGORY = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])


def knowing(held_out: ImageSet, category: Tensor = CATEGORY) -> Run:
    """A run whose c1 is the digit under other numbers, c2 the rotation and c3 the reversed width."""
    factors = held_out.factors
    logits = 9 * torch.eye(10)[category[factors["digit"]]]
    means = torch.stack([2 * factors["rotation"], 3 - factors["width"]], 1)
    outputs = torch.cat([logits, means, torch.zeros(HELD_OUT, 2)], 1)
    return stub("noise=2,cat=10,uniform=2", q=Oracle(held_out, outputs))


def test_a_q_that_knows_the_digit(held_out: ImageSet) -> None:
    run = knowing(held_out)
    scores = cluster_scores(run.spec, read_images(run, held_out.images), held_out)["c1"]
    assert [scores[name] for name in ("accuracy", "nmi", "ari")] == pytest.approx([1, 1, 1])
    assert scores["labels"] == [str(i) for i in range(10)]
    assert [scores["assignment"][category] for category in CATEGORY.tolist()] == scores["labels"]
    counts = held_out.factors["digit"].bincount()
    assert torch.equal(torch.tensor(scores["table"])[CATEGORY], torch.diag(counts))


def test_a_q_that_merges_two_digits(held_out: ImageSet) -> None:
    merged = torch.where(torch.arange(10) == 9, CATEGORY[4], CATEGORY)
    run = knowing(held_out, merged)
    scores = cluster_scores(run.spec, read_images(run, held_out.images), held_out)["c1"]
    counts = held_out.factors["digit"].bincount()
    assert scores["accuracy"] == pytest.approx(1 - float(min(counts[4], counts[9])) / HELD_OUT)
    # The category of the nine is empty, and the rows after it keep their positions.
    unused = int(CATEGORY[9])
    assert scores["assignment"][unused] is None
    assert not any(scores["table"][unused])
    assert scores["table"][int(CATEGORY[8])][8] == counts[8]


def test_label_names_and_unused_categories(held_out: ImageSet) -> None:
    spec = LatentSpec.parse("cat=3")
    read = {"c1": np.array([2, 0, 2])}
    images = torch.zeros(3, 1, SIZE, SIZE, dtype=torch.uint8)
    data = ImageSet(images, torch.tensor([2, 0, 2]), {}, "", "", ("cat", "cow", "dog"))
    scores = cluster_scores(spec, read, data)["c1"]
    assert scores["labels"] == ["cat", "dog"]
    assert scores["assignment"] == ["cat", None, "dog"]
    assert scores["table"] == [[1, 0], [0, 0], [0, 2]]
    assert cluster_scores(spec, read, ImageSet(images, None, {}, "", "")) == {}


def test_a_q_that_knows_rotation_and_width(held_out: ImageSet) -> None:
    run = knowing(held_out)
    read = read_images(run, held_out.images)
    codes = factor_correlations(run.spec, read, held_out)
    assert [set(by_factor) for by_factor in codes.values()] == [{"rotation", "width"}] * 2
    for code, factor, rho in (("c2", "rotation", 1), ("c3", "width", -1)):
        found = codes[code][factor]
        assert (found["rho"], found["within_label"]) == pytest.approx((rho, 1))
        assert found["interval"] == pytest.approx([rho, rho])
        assert found["chance"] == pytest.approx(math.sqrt(2 / math.pi / (HELD_OUT - 1)))
    for code, factor in (("c2", "width"), ("c3", "rotation")):
        assert abs(codes[code][factor]["rho"]) < 0.2
        assert codes[code][factor]["within_label"] < 0.3
    scores = disentanglement(run.spec, read, held_out)
    assert scores is not None
    assert scores["factors"] == ["digit", "rotation", "width"]
    assert scores["rows"] == [266, 134]
    # With 400 images in 20 bins, independent values share information; with 10,000 the gap is above 0.9.
    assert scores["mig"] > 0.7
    assert scores["dci_disentanglement"] > 0.9
    assert scores["dci_completeness"] > 0.9
    assert scores["dci_informativeness"] > 0.8
    assert scores["sap"] > 0.5
    assert scores["factor_vae"] is scores["beta_vae"] is None
    assert "has 0 values with 100 of them" in scores["missing"]["factor_vae"]
    assert scores["missing"]["beta_vae"] == "there are 400 rows; give 1,000 or more"
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"):
        low, high = scores["intervals"][name]
        assert 0 <= low <= scores[name] <= high <= 1 and 0 < high - low < 0.4
        assert scores["chance"][name] < 0.35


def test_all_scores_of_enough_images() -> None:
    """Of a table as large as published ones, without drawing the images."""
    data = ImageSet(torch.zeros(0), None, {}, "", "")
    rng = np.random.default_rng(0)
    digit, rotation, width = rng.integers(10, size=15_000), *rng.uniform(-1, 1, (2, 15_000))
    factors = {"digit": torch.from_numpy(digit), "rotation": torch.from_numpy(rotation)}
    data = dataclasses.replace(data, factors=factors | {"width": torch.from_numpy(width).float()})
    spec = LatentSpec.parse("cat=10,uniform=2")
    scores = disentanglement(spec, {"c1": 9 - digit, "c2": -rotation, "c3": width}, data)
    assert scores is not None and scores["missing"] == {} and scores["rows"] == [10_000, 5_000]
    for name in SCORES:
        assert scores[name] > (0.85 if name == "sap" else 0.97)
        low, high = scores["intervals"][name]
        assert low <= scores[name] <= high
    assert scores["chance"]["beta_vae"] == pytest.approx(1 / 3, abs=0.05)
    assert scores["chance"]["factor_vae"] == pytest.approx(1 / 3, abs=0.05)
    for name in ("mig", "sap", "dci_informativeness"):
        assert abs(scores["chance"][name]) < 0.02


def test_a_q_that_knows_nothing(held_out: ImageSet) -> None:
    run = stub("cat=10,uniform=2", q=Oracle(held_out, torch.randn(HELD_OUT, 14)))
    read = read_images(run, held_out.images)
    scores = disentanglement(run.spec, read, held_out)
    assert scores is not None
    assert scores["mig"] < 0.1
    assert scores["dci_informativeness"] < 0.2
    assert scores["sap"] < 0.2
    for name, ends in scores["intervals"].items():
        assert ends is None or ends[0] <= scores[name] <= ends[1], name
    codes = factor_correlations(run.spec, read, held_out)
    assert all(abs(c["rho"]) < 0.2 for by_factor in codes.values() for c in by_factor.values())
    assert cluster_scores(run.spec, read, held_out)["c1"]["accuracy"] < 0.3


def test_categories_are_only_names(held_out: ImageSet) -> None:
    run = knowing(held_out)
    read = read_images(run, held_out.images)
    renamed = read | {"c1": np.array([7, 0, 5, 900, 2, 1, 4, 3, 6, 8])[read["c1"]]}
    before, after = (disentanglement(run.spec, codes, held_out) for codes in (read, renamed))
    assert before is not None and after is not None
    for score in ("mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"):
        # Trees break ties between indicators by their order.
        assert after[score] == pytest.approx(before[score], abs=0.005 if score.startswith("dci") else 1e-6)


def test_correlation_within_a_label(held_out: ImageSet) -> None:
    # The code is the rotation, negated for odd digits and shifted by digit: overall, no correlation remains.
    digit, rotation = held_out.factors["digit"].double(), held_out.factors["rotation"].double()
    code = rotation * (1 - 2 * (digit % 2)) + 10 * digit
    codes = factor_correlations(LatentSpec.parse("uniform=1"), {"c1": code.numpy()}, held_out)
    assert abs(codes["c1"]["rotation"]["rho"]) < 0.2
    assert codes["c1"]["rotation"]["within_label"] == pytest.approx(1)


class Written(nn.Module):
    """A generator that copies its inputs to the first pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        images = torch.zeros(len(inputs), SIZE * SIZE)
        images[:, : inputs.shape[1]] = inputs
        return images.view(-1, 1, SIZE, SIZE)


class Read(nn.Module):
    """A Q that reads these pixels: c1 with certainty, c2 with an error of 0.1 and the given log-variance."""

    def __init__(self, *log_variance: float) -> None:
        super().__init__()
        self.log_variance = log_variance

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)[:, 2:6]
        columns = [100 * pixels[:, :3], pixels[:, 3:] + 0.1]
        columns += [torch.full((len(images), 1), value) for value in self.log_variance]
        return torch.cat(columns, 1)


def test_information_of_a_known_q() -> None:
    gaussian = 0.5 * math.log(2 * math.pi)
    run = stub("noise=2,cat=0.5/0.25/0.25,uniform=1", generator=Written(), q=Read(-2.0))
    found = information(run, samples=300)
    assert (found["c1"]["L"], found["c1"]["H"]) == pytest.approx((1.5 * math.log(2),) * 2, rel=0.05)
    low, high = found["c1"]["intervals"]["L"]
    assert low < found["c1"]["L"] < high and found["c1"]["chance"] == {"L": 0}
    bound = math.log(2) - (gaussian - 1 + 0.5 * 0.01 * math.exp(2))
    fitted = math.log(2) - gaussian - 0.5 - math.log(0.1)
    measured = {name: found["c2"][name] for name in ("L", "H", "L_fitted")}
    assert measured == pytest.approx({"L": bound, "H": math.log(2), "L_fitted": fitted}, rel=1e-4)
    # With a fixed sigma, Q's output has no log-variance.
    run = stub("noise=2,cat=3,uniform=1", generator=Written(), q=Read(), fixed_sigma=0.5)
    bound = math.log(2) - (gaussian + math.log(0.5) + 0.5 * 0.01 / 0.25)
    assert information(run, samples=300)["c2"]["L"] == pytest.approx(bound, rel=1e-4)


def test_information_uses_the_requested_number_of_samples() -> None:
    run = stub("noise=2,cat=3,uniform=1", generator=Written(), q=Read(0.0), batch_size=40)
    seen: list[int] = []
    run.generator.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    several = information(run, samples=90)
    assert seen == [40, 40, 40] and several["c1"]["intervals"]["L"] is not None
    assert information(run, samples=40)["c1"]["intervals"] == {"L": None}  # one batch says nothing of others


def test_information_equals_plain_pytorch(strokes_run: Path) -> None:
    run = load_run(strokes_run)
    before = {k: v.clone() for k, v in run.networks.state_dict().items()}
    found = information(run, samples=100, seed=5)
    nets, rng = copy.deepcopy(run.networks).train(), ops.rng_state(5)
    terms = []
    for _ in range(13):  # batches of 8
        latents = ops.sample_latents(rng, 8, run.spec)
        with torch.no_grad():
            q = nets.q_head(nets.trunk(run.generator(latents.inputs)))
        c1 = distributions.Categorical(logits=q[:, :3]).log_prob(latents.categorical[:, 0])
        c2 = distributions.Normal(q[:, 3], (q[:, 5] / 2).exp()).log_prob(latents.continuous[:, 0])
        c3 = distributions.Bernoulli(logits=q[:, 4]).log_prob(latents.continuous[:, 1])
        terms.append(torch.stack([c1, c2, c3]).mean(1))
    for code, entropy, term in zip(
        ("c1", "c2", "c3"), (math.log(3), math.log(2), math.log(2)), torch.stack(terms).mean(0), strict=True
    ):
        assert found[code]["L"] == pytest.approx(entropy + float(term), abs=1e-4)
        assert found[code]["H"] == pytest.approx(entropy)
    assert all(torch.equal(v, before[k]) for k, v in run.networks.state_dict().items())


class Bars(nn.Module):
    """A generator that draws a bar: c2 leans it to the right, or to the left in category 1, and c3 thickens
    it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        mirrored, lean, thick = inputs[:, 2], inputs[:, -3], inputs[:, -2]
        slope = (0.3 * lean * (1 - 2 * mirrored))[:, None, None]
        width = (4 + thick)[:, None, None]
        place = torch.arange(24.0) - 11.5
        distance = (place[None, None] + slope * place[None, :, None]).abs() / (1 + slope**2).sqrt()
        inside = (width / 2 - distance + 0.5).clamp(0, 1) * (place.abs() < 9)[None, :, None]
        return inside[:, None]


def test_sweeps_of_a_generator_that_draws_bars() -> None:
    run = stub("noise=2,cat=4,uniform=2,bernoulli=1", generator=Bars())
    found = sweep_scores(run, noises=2)
    assert list(found) == ["c2", "c3"]
    slant = found["c2"]["slant"]
    assert slant["mean"] > 0.99
    assert slant["rho"] == pytest.approx([-1, 1, 1, 1])
    assert (slant["agreeing"], slant["categories"]) == (3, 4)
    assert found["c2"]["thickness"]["mean"] < 0.3
    assert slant["chance"] == pytest.approx(math.sqrt(2 / math.pi / 10 / 2))
    assert slant["interval"][0] > 0.97
    names = {c: name_of({name: m["mean"] for name, m in measured.items()}) for c, measured in found.items()}
    assert names == {"c2": "slant", "c3": "thickness"}
    thickness = found["c3"]["thickness"]
    assert thickness["rho"] == pytest.approx([1, 1, 1, 1])
    assert thickness["agreeing"] == 4
    assert found["c3"]["slant"]["mean"] < 0.5


def test_sweeps_change_one_code() -> None:
    run = stub("noise=2,cat=3,cat=2,uniform=2", generator=Written())
    inputs: list[Tensor] = []
    run.generator.register_forward_hook(lambda module, args, output: inputs.append(args[0].clone()))
    run.generator.forward = lambda x: torch.zeros(len(x), 1, SIZE, SIZE)  # type: ignore
    found = sweep_scores(run, steps=5, noises=4, seed=9)
    slant = found["c3"]["slant"]
    assert slant["mean"] is slant["interval"] is None
    assert (slant["agreeing"], slant["categories"], slant["rho"]) == (0, 3, [None] * 3)
    first, second = (x.view(3, 4, 5, -1) for x in inputs)
    assert torch.equal(first[..., 7], torch.linspace(-2, 2, 5).expand(3, 4, 5))
    assert torch.equal(first[..., 2:5], torch.eye(3)[:, None, None].expand(3, 4, 5, 3))
    rest = first[..., [0, 1, 5, 6, 8]]
    assert torch.equal(rest, rest[:1, :, :1].expand_as(rest))
    assert len(rest[0, :, 0].unique(dim=0)) == 4
    assert torch.equal(second[..., 8], torch.linspace(-2, 2, 5).expand(3, 4, 5))
    assert torch.equal(second[..., :7], first[..., :7])


def evaluated(run: Run, **options: Any) -> dict[str, Any]:
    return evaluate(run, samples=100, sweep_noises=1, sweep_steps=5, **options)


def test_evaluation_is_complete_deterministic_and_json(strokes_run: Path) -> None:
    run = load_run(strokes_run)
    result = evaluated(run, images=150)
    assert evaluated(run, images=150) == result
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["updates"] == 4
    assert result["generator"] == "moving average"
    assert result["data"] == {
        "source": "strokes: 150 test images drawn from seed 3",
        "images": 150,
        "held_out": True,
        "own": True,
        "why_not": None,
    }
    kinds = {name: code["kind"] for name, code in result["codes"].items()}
    assert kinds == {"c1": "categorical", "c2": "uniform", "c3": "bernoulli"}
    always = {"kind", "L", "H", "chance", "intervals", "factors"}
    assert set(result["codes"]["c2"]) == always | {"L_fitted", "sweeps", "moves"}
    assert set(result["codes"]["c3"]) == always
    assert result["quality"]["images"] == 40  # that it was trained on
    assert set(result["quality"]) == {"features", "images", "made", "real", "share_read"}
    assert evaluated(run, images=150, seed=1)["codes"]["c1"]["L"] != result["codes"]["c1"]["L"]


@pytest.mark.gpu
def test_scores_on_a_gpu_equal_those_on_a_cpu(strokes_run: Path) -> None:
    here, there = (
        evaluated(load_run(strokes_run, device=name), images=150)["codes"] for name in ("cpu", "cuda")
    )
    for code, values in here.items():
        assert there[code]["L"] == pytest.approx(values["L"], abs=1e-2)
    assert there["c1"]["accuracy"] == pytest.approx(here["c1"]["accuracy"], abs=0.05)


def test_data_without_factors_or_a_test_split(colour_run: Path) -> None:
    result = evaluated(load_run(colour_run))
    assert not result["data"]["held_out"]
    assert "no test split" in result["data"]["why_not"]
    assert result["disentanglement"] is None
    assert {"warmth", "saturation", "brightness"} <= set(result["codes"]["c2"]["sweeps"])
    assert "slant" not in result["codes"]["c2"]["sweeps"]
    assert result["quality"] is None  # 15 images in each half
    assert result["codes"]["c1"]["labels"] == ["7", "8"]
    text = report(result)
    assert "TRAINING IMAGES (" in text
    assert "moves" in text
    assert "MIG" not in text


def test_other_data_is_read_at_the_size_of_the_networks(
    strokes_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 20, 20, 3), np.uint8)
    path = tmp_path / "other.npz"
    np.savez(path, train_images=images, test_images=images[:5])
    load, loaded = Run.load_images, []

    def load_noted(run: Run, split: Any, **how: Any) -> ImageSet:
        loaded.append((split, how["data"]))
        return load(run, split, **how)

    monkeypatch.setattr(Run, "load_images", load_noted)
    result = evaluated(load_run(strokes_run), data=str(path))
    # To read them, for batch statistics, and for the features of image quality.
    assert loaded == [("test", str(path)), ("train", str(path)), ("train", str(path))]
    assert result["data"]["images"] == 5
    assert result["data"]["held_out"]
    assert result["disentanglement"] is None
    assert "accuracy" not in result["codes"]["c1"]
    assert "accuracy" not in report(result)


def test_labels_of_categories(held_out: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    run = knowing(held_out)
    monkeypatch.setattr(Run, "held_out", lambda self, **how: (held_out, None))
    wanted = [str(CATEGORY.tolist().index(category)) for category in range(10)]
    assert match_labels(run) == wanted
    assert match_labels(stub("noise=2,uniform=1")) is None
