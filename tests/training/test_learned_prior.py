"""Priors that training learns: they follow the frequencies of Q's answers, and everything draws from them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training.objectives import make_objective
from training.runs import SMALL, rows, run

import infogan_fast
from infogan_fast.analysis.report import report
from infogan_fast.analysis.run import load_run
from infogan_fast.config import Config
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.objective.bounds import code_bounds
from infogan_fast.objective.objective import Objective
from infogan_fast.sharing.metadata import describe
from infogan_fast.train import main as train_main
from infogan_fast.training import checkpoint
from infogan_fast.training.learned_prior import FLOOR, RATE, LearnedPrior
from infogan_fast.training.step import Batch, TrainingStep

SPEC = LatentSpec.parse("noise=3,cat=0.7/0.3,cat=3:learned,cat=4,cat=2:learned,uniform=1")
SMALL_LEARNED = [*SMALL, "--network", "auto", "--latents", "noise=4,cat=3:learned,uniform=1"]


def make(restart_q: int = 0, **options: Any) -> TrainingStep:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, 1, 16, 16), generator=generator, dtype=torch.uint8)
    objective = make_objective(consistency=1.0, balance=1.0, joint_ema=0.9, restart_q=restart_q)
    return TrainingStep(SPEC, InfoGAN(SPEC, 16, 1, seed=3), objective, images, 8, seed=7, **options)


def test_it_follows_the_margins_of_the_joints(device: torch.device) -> None:
    prior = LearnedPrior(SPEC, device)
    assert prior.names == ("H_c2", "H_c4")
    wanted = [np.full(3, 1 / 3), np.full(2, 1 / 2)]
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        joints = [torch.rand(k, k, generator=generator, dtype=torch.float64) for k in SPEC.categorical_sizes]
        joints = [(joint / joint.sum()).to(device) for joint in joints]
        entropies = prior.follow(joints).tolist()
        assert entropies == pytest.approx([-(p * np.log(p)).sum() for p in wanted])
        for i, code in ((0, 1), (1, 3)):
            margin = joints[code].cpu().numpy().sum(1)
            found = margin * (1 - FLOOR) + FLOOR / len(margin)
            wanted[i] = wanted[i] * (1 - RATE) + RATE * found
    for got, want in zip(prior.probabilities, wanted, strict=True):
        np.testing.assert_allclose(got.cpu().numpy(), want, rtol=1e-12)
    spec = prior.spec(SPEC)
    assert [code.probabilities is None for code in spec.categorical_codes] == [False, False, True, False]
    assert spec.codes[1].probabilities == pytest.approx(wanted[0])
    assert str(spec) == str(SPEC)
    given = spec.operator_arguments[2]
    assert given is not None
    torch.testing.assert_close(prior.cdf.cpu(), torch.tensor(given), rtol=0, atol=1e-7)
    assert (prior.cdf.cpu() == 2).nonzero().flatten().tolist() == [1, 4, 8, 10]  # the last of each code

    prior.restart()
    assert prior.probabilities[0].tolist() == pytest.approx([1 / 3] * 3)
    assert prior.cdf.tolist() == pytest.approx([0.7, 2, 1 / 3, 2 / 3, 2, 0.25, 0.5, 0.75, 2, 0.5, 2])


def test_roundings_of_a_joint_leave_the_sum_at_one() -> None:
    """An average over batches in float32 sums to 1 within some 1e-7."""
    spec = LatentSpec.parse("cat=3:learned")
    prior = LearnedPrior(spec, torch.device("cpu"))
    joint = torch.full((3, 3), 1 / 9) * (1 + 3e-7)
    for _ in range(500):
        prior.follow([joint])
    assert float(prior.probabilities[0].sum()) == pytest.approx(1, abs=1e-14)
    assert prior.spec(spec).codes[0].probabilities == tuple(prior.probabilities[0].tolist())


def test_a_category_that_is_never_found_keeps_a_share() -> None:
    spec = LatentSpec.parse("cat=5:learned")
    prior = LearnedPrior(spec, torch.device("cpu"))
    joint = torch.zeros(5, 5, dtype=torch.float64)
    joint[0, 0] = 1.0
    for _ in range(2000):
        prior.follow([joint])
    share = FLOOR / 5
    assert prior.probabilities[0].tolist() == pytest.approx([1 - 4 * share, *[share] * 4])


def test_updates_draw_from_it() -> None:
    step = make()
    assert step.prior is not None
    step.prior.probabilities[0].copy_(torch.tensor([0.98, 0.01, 0.01]))
    before = [p.clone() for p in step.prior.probabilities]
    step()
    joints = step.losses.term_state["consistency"]["joints"]
    for p, old, code in zip(step.prior.probabilities, before, (1, 3), strict=True):
        margin = joints[code].sum(1).double()
        torch.testing.assert_close(p, old + RATE * (margin * (1 - FLOOR) + FLOOR / len(p) - old))
    spec = step.current_spec
    batches: list[Tensor] = []
    sample = dict(step.phases)["sample"]
    for _ in range(40):
        batch = Batch()
        sample(batch)
        batches.append(batch.latents.categorical)
    drawn = torch.cat(batches)
    share = (drawn[:, 1] == 0).double().mean().item()
    assert share == pytest.approx(spec.codes[1].probabilities[0], abs=0.04)  # type: ignore[index]
    assert (drawn[:, 0] == 0).double().mean().item() == pytest.approx(0.7, abs=0.08)


def test_its_entropy_is_measured_and_is_what_the_bound_is_of() -> None:
    step = make()
    for _ in range(3):
        step()
    means = step.take_metrics()
    assert {"H_c2", "H_c4"} < means.keys() and "H_c1" not in means
    assert means["H_c4"] == pytest.approx(math.log(2), abs=0.01)
    bounds = code_bounds(SPEC, means | {"H_c2": 0.5})
    assert bounds["H_c2"] == 0.5 and bounds["L_c2"] == 0.5 - means["nll_c2"]
    assert bounds["H_c3"] == pytest.approx(math.log(4))


@pytest.mark.parametrize("change", [0, 1, 2, 3])
def test_continuation_is_exact(change: int) -> None:
    whole, first, second = (make(change) for _ in "abc")
    for step in (whole, first):
        assert step.prior is not None
        step.prior.probabilities[0].copy_(torch.tensor([0.98, 0.01, 0.01]))
    for _ in range(4):
        whole()
    for _ in range(2):
        first()
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second()
    for (name, a), (_, b) in zip(whole.state.named_tensors(), second.state.named_tensors(), strict=True):
        assert torch.equal(a, b), name


def test_it_begins_again_with_qs_head() -> None:
    step = make(restart_q=3)
    assert step.prior is not None
    for _ in range(3):
        step()
    step.prior.probabilities[0].copy_(torch.tensor([0.9, 0.05, 0.05]))
    step()
    assert step.prior.probabilities[0].tolist() == pytest.approx([1 / 3] * 3, abs=2 * RATE)


@pytest.mark.parametrize("objective", [Objective(), make_objective(), make_objective(invariance=1.0)])
def test_it_needs_consistency(objective: Objective) -> None:
    with pytest.raises(UserError, match=r"--latents noise=3,cat=.* has a learned prior, .* --consistency WE"):
        TrainingStep(SPEC, InfoGAN(SPEC, 16, 1), objective, torch.zeros(9, 1, 16, 16).byte(), 4)


@pytest.fixture(scope="module")
def learned_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few updates, for reading only."""
    out = tmp_path_factory.mktemp("learned") / "run"
    assert run(out, *SMALL_LEARNED, "--steps", "12", "--log-every", "4", "--restart-q", "4") == 0
    return out


def test_a_run_has_the_prior_that_it_learned(learned_run: Path) -> None:
    loaded = load_run(learned_run, device="cpu")
    state = checkpoint.load(checkpoint.listed(learned_run / "checkpoints")[-1])
    prior = state["training"]["prior"][0].tolist()
    code = loaded.spec.codes[0]
    assert code.probabilities == pytest.approx(prior, abs=1e-12) and prior != [1 / 3] * 3
    assert str(loaded.spec) == "noise=4,cat=3:learned,uniform=1"
    assert describe(loaded)["codes"][0]["prior"] == pytest.approx(prior)
    evaluation = loaded.evaluate(images=100, quality=False)
    assert evaluation["codes"]["c1"]["learned_prior"] == list(code.probabilities or ())
    assert "learned_prior" not in evaluation["codes"]["c2"]
    assert f"c1 learned the prior {prior[0]:.3f} {prior[1]:.3f} {prior[2]:.3f}" in report(evaluation)
    last = rows(learned_run)[-1]
    assert last["H_c1"] == pytest.approx(math.log(3), abs=0.05) and last["H_c1"] < math.log(3)


def test_a_resumed_run_goes_on_with_it(learned_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(out, *SMALL_LEARNED, "--steps", "6", "--log-every", "4", "--restart-q", "4") == 0
    assert train_main(["--resume", str(out), "--steps", "12"]) == 0
    spec = load_run(out, device="cpu").spec
    assert spec == load_run(learned_run, device="cpu").spec
    assert infogan_fast.train(resume=out, latents=spec, progress=False).spec == spec  # its own, given again
    assert Config.from_options({"latents": spec}).latents == LatentSpec.parse(str(spec))


@pytest.mark.parametrize(
    "priors", [[], [torch.ones(2) / 2], [torch.ones(3)], "none", [torch.ones(3) / 3] * 2]
)
def test_a_checkpoint_with_another_prior_is_refused(learned_run: Path, priors: Any, tmp_path: Path) -> None:
    state = checkpoint.load(checkpoint.listed(learned_run / "checkpoints")[-1])
    state["training"]["prior"] = priors
    path = tmp_path / "step-00000012.pt"
    checkpoint.save(path, state)
    with pytest.raises(UserError, match="does not belong to the run in"):
        load_run(learned_run, checkpoint_file=path, device="cpu")
