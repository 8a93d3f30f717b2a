"""The iteration against plain autograd, and each of its promises by itself."""

from __future__ import annotations

import copy
import functools
import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from networks.narrow import narrow
from objective import statements
from operators.gather_images.reference import gather_images
from operators.transform_images import reference as transform
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional
from training.objectives import make_objective, with_options
from training.reference_step import D_PREFIXES, ReferenceStep

from infogan_fast import ops
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks import linear
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.linear import Linear, faster_linear, onednn_missing, set_linear
from infogan_fast.networks.statistics import calibrated
from infogan_fast.objective.copies import copy_state
from infogan_fast.objective.objective import SCHEDULES, Objective
from infogan_fast.objective.transformation import Transformation
from infogan_fast.runtime import device
from infogan_fast.runtime.cuda_graph import capture
from infogan_fast.training.player import AVERAGE_EVERY, Player
from infogan_fast.training.step import Batch, TrainingStep

SPEC = LatentSpec.parse("noise=5,cat=4,uniform=1")
SPECTRAL = (
    "D: conv 8 s2 sn, conv 16 s2 sn, fc 32 sn; Q: fc 16 sn; "
    "G: fc 32 bn, fc 4x4x16 bn, up 8 s2 bn, up 1 s2 sigmoid"
)
WILD = Transformation(rotation=180, scale=0.5, shear=1, shift=0.3, colour=0.8, flip=True)
TURNED = Transformation(rotation=60, scale=0.5, shear=0, shift=0.3, colour=0.8)
MOST_TERMS = make_objective(consistency=0.5, smoothness=3.0, smoothness_until=2, bending=2.0)
EVERYTHING = LatentSpec.parse("noise=3:uniform,cat=3,cat=0.5/0.3/0.2,uniform=1,bernoulli=1,normal=2")


def make(
    spec: LatentSpec = SPEC,
    objective: Objective | None = None,
    *,
    size: int = 16,
    channels: int = 1,
    dtype: torch.dtype = torch.float32,
    amp: torch.dtype | None = None,
    slope: float = 0.1,
    rows: int = 6,
    network: str = "auto",
) -> TrainingStep:
    objective = objective or make_objective()
    learned = objective.fixed_sigma is None
    networks = InfoGAN(
        spec, size, channels, network=network, learned_variance=learned, slope=slope, seed=3
    ).to(dtype)
    return TrainingStep(spec, networks, objective, images(size, channels), rows, seed=7, amp=amp)


def images(size: int = 16, channels: int = 1) -> Tensor:
    draws = torch.Generator().manual_seed(size)
    return torch.randint(0, 256, (50, channels, size, size), generator=draws, dtype=torch.uint8)


def real_batch(step: TrainingStep) -> Tensor:
    """What the next update's "gather" phase will give, by plain indexing."""
    pixels, _ = gather_images(step.images, 7, int(step.order[1]), step.batch_size)
    return pixels.float().double().permute(0, 3, 1, 2).contiguous()  # the operator rounds to float32


schedules = pytest.mark.parametrize("schedule", SCHEDULES)


@schedules
@pytest.mark.parametrize(
    ("spec", "objective", "size", "channels", "slope"),
    [
        (SPEC, make_objective(), 16, 1, 0.1),
        (SPEC, make_objective(fixed_sigma=0.5, lambda_continuous=0.7), 19, 3, 0.01),
        (EVERYTHING, make_objective(mi_gradient="trunk", lambda_categorical=0.6), 18, 1, 0.2),
        (EVERYTHING, make_objective(lr_d=1e-3, lr_q=3e-3, lr_g=5e-4, beta1=0.9, beta2=0.99), 36, 1, 0.1),
        (SPEC, make_objective(consistency=1.0), 16, 1, 0.1),
        (EVERYTHING, make_objective(consistency=3.0, mi_gradient="trunk", transformation=WILD), 19, 3, 0.01),
        (EVERYTHING, make_objective(consistency=0.5, balance=1.5, joint_ema=0.8, invariance=2.0), 16, 1, 0.1),
        (SPEC, make_objective(invariance=2.0, fixed_sigma=0.5), 16, 1, 0.1),
        (EVERYTHING, make_objective(consistency=0.5, equivariance=2.0, invariance=0.3), 16, 1, 0.1),
        (SPEC, make_objective(equivariance=2.0, transformation=TURNED), 19, 3, 0.01),
        (SPEC, make_objective(smoothness=2.0), 16, 1, 0.1),
        (EVERYTHING, MOST_TERMS, 19, 3, 0.01),
    ],
    ids=[
        "paper",
        "colour, odd sides, fixed sigma",
        "every code, through the trunk",
        "three stages",
        "consistency",
        "consistency of two codes, through the trunk",
        "both, with balance",
        "invariance, fixed sigma",
        "equivariance and invariance",
        "equivariance",
        "smoothness",
        "consistency and smoothness of two codes",
    ],
)
def test_updates_equal_plain_autograd(
    spec: LatentSpec, objective: Objective, size: int, channels: int, slope: float, schedule: str
) -> None:
    """Every phase's results over 20 updates of narrow networks."""
    objective = with_options(objective, schedule=schedule)
    check_updates(spec, objective, size, channels, slope, narrow(size, channels), 20)


@schedules
def test_updates_of_the_paper_s_widths_equal_plain_autograd(schedule: str) -> None:
    check_updates(SPEC, make_objective(schedule=schedule), 16, 1, 0.1, "auto", 5)


def check_updates(
    spec: LatentSpec, objective: Objective, size: int, channels: int, slope: float, network: str, updates: int
) -> None:
    # Where a gradient is smaller than Adam's epsilon of 1e-8, the weight moves by up to lr / 1e-8 times the
    # gradient's rounding, which batch normalisation over few images makes large.
    step = make(
        spec,
        objective,
        size=size,
        channels=channels,
        dtype=torch.float64,
        slope=slope,
        rows=64 if size < 30 else 16,
        network=network,
    )
    plain = ReferenceStep(spec, step.networks, objective, size, slope, seed=7)
    for _ in range(updates):
        real = real_batch(step)
        step()
        terms, wanted = step.take_metrics(), plain(real)
        assert {k: terms[k] for k in wanted} == pytest.approx(wanted, abs=1e-9)

    for name, buffer in step.networks.named_buffers():
        torch.testing.assert_close(buffer, plain.buffers[name], atol=1e-9, rtol=0, msg=name)
    assert len(step.player_d.parameters) + len(step.player_g.parameters) == len(plain.weights)
    for name, weight in step.networks.named_parameters():
        mean, variance = player_of(step, name).moments_of(weight)
        for got, want in (
            (weight, plain.weights[name]),
            (mean, plain.mean[name]),
            (variance, plain.variance[name]),
        ):
            torch.testing.assert_close(got, want, atol=1e-9, rtol=0, msg=name)
    for player in (step.player_d, step.player_g):
        assert (player.steps == updates).all()
    assert torch.equal(step.rng, plain.rng)
    assert step.order.tolist() == [7, updates]


def player_of(step: TrainingStep, name: str) -> Player:
    return step.player_d if name.startswith(D_PREFIXES) else step.player_g


def gradients_of(step: TrainingStep) -> dict[str, Tensor]:
    """Of the weights that have one, by name."""
    found = {k: player_of(step, k).gradient_of(p) for k, p in step.networks.named_parameters()}
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def run_until(step: TrainingStep, last: str) -> Batch:
    work = Batch()
    for name, run in step.phases:
        run(work)
        if name == last:
            return work
    raise AssertionError(f"no phase {last}")


def test_generator_step_gives_the_discriminator_no_gradient() -> None:
    step = make()
    run_until(step, "generator gradients")
    found = gradients_of(step)
    for name, weight in step.networks.named_parameters():
        assert (name not in found) == name.startswith(D_PREFIXES), name
        assert weight.requires_grad, name


@schedules
def test_consistency_trains_trunk_and_q_but_neither_the_discriminators_head_nor_the_generator(
    schedule: str,
) -> None:
    phase = "gradients of both" if schedule == "one-stage" else "discriminator gradients"
    gradients = []
    for consistency in (1e-9, 1.0):
        step = make(objective=make_objective(schedule=schedule, consistency=consistency))
        run_until(step, phase)
        found = gradients_of(step)
        if schedule == "alternating":
            assert not any(name.startswith("generator.") for name in found)
        gradients.append(found)
    assert {k.split(".")[0] for k in gradients[0]} >= {"trunk", "d_head", "q_head"}
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        moved = name.startswith(("trunk.", "q_head."))
        assert torch.equal(gradient, gradients[1][name]) != moved, name


def test_consistency_waits_for_qs_one_update() -> None:
    step = make(objective=make_objective(consistency=1.0))
    before = {k: p.detach().clone() for k, p in step.networks.q_head.named_parameters()}
    run_until(step, "discriminator update")
    for name, weight in step.networks.q_head.named_parameters():
        assert torch.equal(weight, before[name]), name
        assert step.player_g.gradient_of(weight) is not None, name


@pytest.mark.parametrize("name", ["equivariance", "invariance"])
def test_either_alone_makes_copies(name: str) -> None:
    weight: dict[str, Any] = {name: 1.0}
    step = make(objective=with_options(make_objective(), **weight))
    step()
    terms = step.take_metrics()
    assert terms["D_c2"] > 0
    assert 0 < terms["I_c1"] < SPEC.codes[0].entropy


def test_terms_are_checked_against_the_codes() -> None:
    with pytest.raises(UserError, match="--consistency 1 needs a categorical code"):
        make(LatentSpec.parse("noise=1,uniform=1"), make_objective(consistency=1.0))
    with pytest.raises(UserError, match="--equivariance 1 and --invariance 1 need a uniform or normal code"):
        make(LatentSpec.parse("noise=1,cat=2,normal=1"), make_objective(equivariance=1.0, invariance=1.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_terms_read_answers_of_low_precision_in_float32(dtype: torch.dtype) -> None:
    step = make(objective=make_objective(consistency=1.0, invariance=1.0))
    drawn = torch.Generator().manual_seed(0)
    answers = torch.randn(2 * step.batch_size, step.spec.q_dim(), generator=drawn).to(dtype)
    gradient, _ = step._term_gradients(Batch(), answers)
    means = step.take_metrics()
    q = answers.double().requires_grad_()
    distance, information = statements.distance(step.spec, q), statements.agreement(step.spec, q)[0]
    (wanted,) = torch.autograd.grad(distance - torch.stack(information).sum(), q)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient.double(), wanted, rtol=torch.finfo(dtype).eps, atol=1e-6)
    code = step.spec.ordered_codes[-1].name
    assert means[f"D_{code}"] == pytest.approx(distance.item(), rel=1e-5)


def test_copies_follow_the_real_images_and_not_the_latents() -> None:
    step = make(objective=make_objective(consistency=1.0, transformation=WILD), size=19, channels=3)
    for update in range(3):
        work = run_until(step, "transform")
        unbent = replace(WILD, bend=0.0)
        wanted = transform.transformed(work.real, unbent, int(step.copy_rng[0]), update)
        torch.testing.assert_close(work.copies.double(), wanted, atol=1e-5, rtol=0)
    drawn = ops.sample_latents(ops.rng_state(7), 6, LatentSpec.parse("noise=0,uniform=9")).continuous
    copies = ops.sample_latents(copy_state(7), 6, LatentSpec.parse("noise=0,uniform=9")).continuous
    assert (drawn != copies).all()


@pytest.mark.parametrize("mi_gradient", ["generator", "trunk"])
def test_mutual_information_reaches_the_trunk_only_when_asked(mi_gradient: str) -> None:
    gradients = []
    for weight in (0.0, 5.0):
        step = make(objective=make_objective(mi_gradient=mi_gradient, lambda_categorical=weight))
        run_until(step, "discriminator gradients")
        found = gradients_of(step)
        assert not any(name.startswith(("q_head.", "generator.")) for name in found)
        gradients.append([found["trunk.fc.weight"], found["d_head.weight"]])
    (trunk, head), (trunk_mi, head_mi) = gradients
    assert torch.equal(trunk, trunk_mi) == (mi_gradient == "generator")
    assert torch.equal(head, head_mi)


def test_both_gradients_of_one_stage_go_to_their_own_weights() -> None:
    step = make(objective=make_objective(schedule="one-stage"))
    run_until(step, "gradients of both")
    found = gradients_of(step)
    assert found.keys() == dict(step.networks.named_parameters()).keys()
    assert all(p.requires_grad for p in step.networks.parameters())
    # The discriminator's gradients hold nothing of the generator's loss, and the other way round.
    other = make(
        objective=make_objective(schedule="one-stage", lambda_categorical=7.0, lambda_continuous=3.0)
    )
    run_until(other, "gradients of both")
    for name, gradient in gradients_of(other).items():
        assert torch.equal(gradient, found[name]) == name.startswith(D_PREFIXES), name


@pytest.mark.skipif(onednn_missing() is not None, reason=str(onednn_missing()))
def test_one_stage_computes_no_weight_gradient_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = make(objective=make_objective(schedule="one-stage")), []
    set_linear(step.networks, "onednn")
    original = linear._product

    def product(x: Tensor, weight: Tensor) -> Tensor:
        calls.append((tuple(x.shape), tuple(weight.shape)))
        return original(x, weight)

    monkeypatch.setattr(linear, "_product", product)
    step()
    inputs = step.networks.trunk.fc.in_features
    # One gradient of the trunk's linear weight for the real and one for the fake images.
    assert calls.count(((1024, 6), (inputs, 6))) == 2


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("alternating", [("generator", 6), ("trunk", 12), ("trunk", 6)]),
        ("one-stage", [("generator", 6), ("trunk", 6), ("trunk", 6)]),
    ],
)
@pytest.mark.parametrize("consistency", [0.0, 1.0])
def test_generator_runs_once_and_trunk_as_seldom_as_can_be(
    schedule: str, expected: list[tuple[str, int]], consistency: float
) -> None:
    if consistency:  # the copies run beside the real images
        expected = [expected[0], ("trunk", expected[1][1] + 6), expected[2]]
    step, calls = make(objective=make_objective(schedule=schedule, consistency=consistency)), []
    for name in ("generator", "trunk"):
        module: nn.Module = getattr(step.networks, name)
        module.register_forward_hook(lambda _, inputs, __, name=name: calls.append((name, len(inputs[0]))))
    step()
    assert calls == expected


def test_real_and_fake_do_not_share_statistics() -> None:
    step = make(dtype=torch.float64)
    alone = make(dtype=torch.float64)
    work = run_until(step, "discriminator gradients")
    real, fake = alone.networks.trunk(work.real), alone.networks.trunk(work.fake.detach())
    joint = step.networks.trunk(torch.cat([work.real, work.fake.detach()]), parts=(len(work.real),) * 2)
    torch.testing.assert_close(joint, torch.cat([real, fake]), atol=1e-12, rtol=0)
    mixed = step.networks.trunk(torch.cat([work.real, work.fake.detach()]))
    assert (mixed - joint).abs().max() > 0.1


@pytest.mark.parametrize("network", ["auto", SPECTRAL], ids=["auto", "spectral"])
@pytest.mark.parametrize("change", [None, 1, 2, 3])
def test_continuation_is_exact(change: int | None, network: str) -> None:
    """Before, at and after the update where Q's head starts again and smoothness ends, too."""
    objective = make_objective(ema=0.9, consistency=1.0, joint_ema=0.9)
    if change is not None:
        objective = with_options(
            objective, restart_q=change, smoothness=1.0, smoothness_until=change, bending=0.5
        )
    whole, first, second = (make(EVERYTHING, objective, network=network) for _ in "abc")
    for _ in range(4):
        whole()
    for _ in range(2):
        first()
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second()
    assert_same(whole.state_dict(), second.state_dict())


def test_a_step_that_is_no_longer_used_is_freed_at_once() -> None:
    step = make(objective=make_objective(consistency=1.0))
    step()
    weights = weakref.ref(step.networks)
    gc.disable()
    try:
        del step
        assert weights() is None
    finally:
        gc.enable()


def test_a_loaded_state_is_not_shared() -> None:
    """Both go on from it, each by itself, to the same place."""
    first, second = make(EVERYTHING), make(EVERYTHING)
    first()
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        first()
        second()
    assert_same(first.state_dict(), second.state_dict())


def test_a_loaded_state_keeps_the_settings_of_the_run() -> None:
    step, state = make(), make().state_dict()
    for name in ("optimizer_d", "optimizer_g"):
        for group in state[name]["param_groups"]:
            group.update(capturable=True, fused=False, lr=torch.tensor(7.0), betas=(0.0, 0.0))
    step.load_state_dict(state)
    other = make()
    for each in (step, other):
        each()
    assert_same(step.state_dict(), other.state_dict())


def test_an_update_computes_with_its_own_numerics_and_restores_those_of_the_process() -> None:
    """cuDNN in a fixed order, and no TF32 that was not asked for."""

    def numerics() -> tuple[bool, str, str]:
        cudnn: Any = torch.backends.cudnn
        return cudnn.deterministic, torch.get_float32_matmul_precision(), cudnn.conv.fp32_precision

    step, seen = make(), []

    def probe(batch: Batch) -> None:
        seen.append(numerics())

    def fail(batch: Batch) -> None:
        raise RuntimeError("stopped")

    before = numerics()
    try:
        torch.set_float32_matmul_precision("high")
        step.phases.append(("probe", probe))
        step()
        assert before[2] == "tf32"  # PyTorch's default
        assert seen == [(True, "highest", "ieee")] and numerics() == (before[0], "high", "tf32")
        step.phases.append(("fail", fail))
        with pytest.raises(RuntimeError, match="stopped"):
            step()
        assert numerics() == (before[0], "high", "tf32")
        with device.numerics("high"):
            assert numerics() == (True, "high", "tf32")
    finally:
        torch.set_float32_matmul_precision(before[1])


def test_updates_are_repeatable_and_checking_leaves_no_trace() -> None:
    checked, other = (make(objective=make_objective(consistency=1.0, ema=0.5)) for _ in range(2))
    for step in (checked, other):
        step()
    checked.check_repeatable()
    for step in (checked, other):
        step()
    for (name, a), (_, b) in zip(checked.state.named_tensors(), other.state.named_tensors(), strict=True):
        assert torch.equal(a, b), name
    assert (checked.done.value, checked.updates.value) == (2, 2)


def test_updates_that_differ_are_told() -> None:
    step = make()
    generate = TrainingStep._generate

    def noisy(self: TrainingStep, batch: Batch) -> None:
        generate(self, batch)
        batch.fake = batch.fake + 1e-3 * torch.rand(())

    step.phases = [
        (name, functools.partial(noisy, step) if name == "generate" else run) for name, run in step.phases
    ]
    with pytest.raises(UserError, match="update 1 gave two results from the same state, in networks"):
        step.check_repeatable()


def test_what_pytorch_cannot_repeat_is_refused() -> None:
    step = make()
    step.deterministic = True
    seen: list[bool] = []
    step.phases.append(("look", lambda batch: seen.append(torch.are_deterministic_algorithms_enabled())))
    step.check_repeatable()
    assert all(seen) and not torch.are_deterministic_algorithms_enabled()

    def refused(batch: Batch) -> None:
        raise RuntimeError("put_ does not have a deterministic implementation, but you set\nmore")

    step.phases.append(("refused", refused))
    with pytest.raises(UserError, match="--deterministic: put_ does not have a deterministic implementation"):
        step.check_repeatable()
    assert not torch.are_deterministic_algorithms_enabled()


def test_tf32_needs_a_gpu() -> None:
    step = make()
    with pytest.raises(UserError, match=r"^--matmul-precision high: TF32 is for GPUs"):
        TrainingStep(SPEC, step.networks, step.objective, images(), 6, matmul_precision="high")


@pytest.mark.gpu
def test_tf32_rounds_the_products() -> None:
    """The same update with ten bits of mantissa: other weights, by a little."""
    weights = []
    for precision in ("highest", "high"):
        step = make()
        networks = step.networks.cuda()
        fast = TrainingStep(SPEC, networks, step.objective, images().cuda(), 6, matmul_precision=precision)
        fast()
        weights.append([p.detach().cpu() for p in networks.parameters()])
    pairs = list(zip(*weights, strict=True))
    assert any(not torch.equal(one, other) for one, other in pairs)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=5e-3, rtol=0)


def test_q_starts_anew_once() -> None:
    """After two updates the head is a new one, of which Adam knows nothing; nothing else has changed."""
    objective = make_objective(consistency=1.0, joint_ema=0.9)
    plain = make(EVERYTHING, objective)
    step = make(EVERYTHING, with_options(objective, restart_q=2))
    for each in (plain, step):
        each()
        each()
    assert_same(plain.state_dict(), step.state_dict())
    before = step.state_dict()["optimizer_g"]
    kept = {k: v.clone() for k, v in step.networks.named_parameters() if not k.startswith("q_head.")}
    assert all(state["exp_avg"].any() for state in before["state"].values())
    phases, step.phases = step.phases, []
    step()
    fresh = InfoGAN(EVERYTHING, 16, 1).q_head
    for name, weight in step.networks.q_head.named_parameters():
        if name.endswith("norm.weight"):
            assert (weight == 1).all()
        elif name.endswith("bias"):
            assert (weight == 0).all()
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert (weight != plain.networks.q_head.get_parameter(name)).all()
            assert (weight != make(EVERYTHING).networks.q_head.get_parameter(name)).all()
        for moment in step.player_g.moments_of(weight):
            assert not moment.any(), name
    assert step.player_g.steps.tolist() == [2, 0]
    for name, value in fresh.named_buffers():
        assert torch.equal(value, step.networks.q_head.get_buffer(name)), name
    for name, value in kept.items():
        assert torch.equal(value, step.networks.get_parameter(name)), name
    assert all(step.player_d.moments_of(weight)[0].any() for weight in step.player_d.parameters)
    for joint in step.losses.term_state["consistency"]["joints"]:
        assert (joint == 1 / joint.numel()).all()
    # Once: what the next updates learn stays.
    step.phases = phases
    step()
    learned = step.networks.q_head.fc2.weight.detach().clone()
    step.phases = []
    step()
    assert torch.equal(learned, step.networks.q_head.fc2.weight)
    assert learned.abs().max() > 0


def test_a_new_head_is_of_the_seed() -> None:
    heads = []
    for seed in (7, 7, 8):
        step = make(objective=make_objective(restart_q=1))
        step.seed = seed
        step()
        step.phases = []
        step()
        heads.append(step.networks.q_head.fc1.weight.detach())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Bit for bit, through dicts and lists."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{i}]")
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def test_moving_averages_follow_all_networks() -> None:
    """With a decay that is smaller at first, so that the weights before training do not stay in it."""
    objective = make_objective(ema=0.97, restart_q=95, consistency=1.0)
    step = make(objective=objective, dtype=torch.float64, network=narrow())
    assert step.ema is not None
    averages = {name: weight.detach().clone() for name, weight in step.networks.named_parameters()}
    for update in range(1, 111):
        if update == 96:  # Q's head starts again before this update, and its average with it
            step._restart_q()
            for name, weight in step.networks.q_head.named_parameters(prefix="q_head"):
                averages[name] = weight.detach().clone()
        step()
        weights = dict(step.networks.named_parameters())
        if update % AVERAGE_EVERY == 0 or update <= 80:
            share = min(1.0, max(90 / (update + 10), 1 - 0.97**10))
            for name, weight in weights.items():
                averages[name] += share * (weight.detach() - averages[name])
        for name, average in step.ema.named_parameters():
            torch.testing.assert_close(average, averages[name], atol=1e-9, rtol=0, msg=name)
    assert all(own is of for own, of in zip(step.ema.buffers(), step.networks.buffers(), strict=True))


def set_scale(scale: float, *scalers: torch.amp.GradScaler) -> None:
    for scaler in scalers:
        scaler.load_state_dict({**scaler.state_dict(), "scale": scale})


@pytest.mark.parametrize("consistency", [0.0, 1.0])
def test_half_precision_scales_each_player_by_itself(consistency: float) -> None:
    step = make(objective=make_objective(consistency=consistency), amp=torch.float16, rows=8)
    set_scale(256.0, step.player_d.scaler, step.player_g.scaler)
    step()
    assert step.player_d.scaler.get_scale() == step.player_g.scaler.get_scale() == 256.0
    assert all(torch.isfinite(v).all() for v in step.networks.state_dict().values())

    # Past the range of float16, so every gradient of the generator's update overflows, and only those.
    set_scale(2.0**40, step.player_g.scaler)
    before = {k: v.clone() for k, v in step.networks.named_parameters()}
    step()
    for name, weight in step.networks.named_parameters():
        assert torch.equal(weight, before[name]) != name.startswith(D_PREFIXES), name
    assert step.player_d.scaler.get_scale() == 256.0
    assert step.player_g.scaler.get_scale() == 2.0**39

    set_scale(256.0, step.player_g.scaler)
    set_scale(2.0**40, step.player_d.scaler)
    before = {k: v.clone() for k, v in step.networks.named_parameters()}
    step()
    for name, weight in step.networks.named_parameters():
        assert torch.equal(weight, before[name]) == name.startswith(D_PREFIXES), name
    assert step.player_d.scaler.get_scale() == 2.0**39
    assert step.player_g.scaler.get_scale() == 256.0


@schedules
def test_half_precision_scales_the_consistency_of_each_player_by_its_own(schedule: str) -> None:
    phase = "gradients of both" if schedule == "one-stage" else "discriminator gradients"
    objective = make_objective(schedule=schedule, consistency=30.0)
    exact, scaled = (make(objective=objective, amp=amp, rows=16) for amp in (None, torch.float16))
    set_scale(64.0, scaled.player_d.scaler)
    set_scale(1024.0, scaled.player_g.scaler)
    for step in (exact, scaled):
        run_until(step, phase)
    for part, scale in (("trunk.fc", 64.0), ("q_head.fc1", 1024.0)):
        a, b = (gradients_of(step)[f"{part}.weight"].float() for step in (exact, scaled))
        # Both directions: the consistency outweighs the rest, and is most of what either holds.
        assert functional.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.95, part
        assert b.norm() / a.norm() == pytest.approx(scale, rel=0.1), part


def test_half_precision_scale_cancels() -> None:
    exact, scaled = make(rows=16), make(amp=torch.float16, rows=16)
    set_scale(256.0, scaled.player_d.scaler, scaled.player_g.scaler)
    for step in (exact, scaled):
        step()
    # Adam's first moment is of the size of the gradient, whatever it was multiplied by on the way.
    a, b = (
        s.player_d.moments_of(s.networks.trunk.get_parameter("fc.weight"))[0].norm() for s in (exact, scaled)
    )
    assert b / a == pytest.approx(1.0, abs=0.2)


@schedules
@pytest.mark.parametrize(
    ("consistency", "network"),
    [(0.0, "auto"), (1.0, "auto"), (1.0, SPECTRAL)],
    ids=["paper", "consistency", "spectral"],
)
def test_bfloat16_stays_near_float32(schedule: str, consistency: float, network: str) -> None:
    objective = make_objective(schedule=schedule, consistency=consistency)
    exact, rounded = (
        make(objective=objective, amp=amp, rows=16, network=network) for amp in (None, torch.bfloat16)
    )
    for step in (exact, rounded):
        for _ in range(3):
            step()
    wanted = exact.take_metrics()
    assert rounded.take_metrics() == pytest.approx(wanted, abs=0.05)
    for name, weight in rounded.networks.named_parameters():
        master = rounded.full.get_parameter(name)
        assert master.dtype == torch.float32
        assert weight.dtype == (torch.float32 if "norm" in name else torch.bfloat16), name
        assert torch.equal(weight, master.to(weight.dtype)), name


def test_terms_are_means_since_they_were_taken() -> None:
    step, other = make(), make()
    single = []
    for _ in range(3):
        step()
        other()
        single.append(other.take_metrics())
    assert tuple(single[0]) == ("d_real", "d_fake", "g", "nll_c1", "nll_c2", "mse_c2", "logvar_c2")
    means = step.take_metrics()
    assert means == pytest.approx({k: sum(t[k] for t in single) / 3 for k in means})
    assert step.updates.value == 0
    assert set(step.take_metrics().values()) == {0.0}


@schedules
@pytest.mark.parametrize(("given", "measured"), [(-50.0, -10.0), (50.0, 10.0), (-3.0, -3.0)])
def test_log_variances_are_measured_as_the_loss_takes_them(
    schedule: str, given: float, measured: float
) -> None:
    step = make(objective=make_objective(schedule=schedule, consistency=1.0))
    with torch.no_grad():
        step.networks.q_head.fc2.weight[-1] = 0
        step.networks.q_head.fc2.bias[-1] = given
    step()
    assert step.take_metrics()["logvar_c2"] == pytest.approx(measured)


@pytest.mark.skipif(onednn_missing() is not None, reason=str(onednn_missing()))
def test_onednn_linear_equals_the_matrix_product() -> None:
    layers = [Linear(300, 200, bias=False) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    set_linear(layers[1], "onednn")
    results = []
    for layer in layers:
        x = torch.linspace(-1, 1, 37 * 300).view(37, 300).sin().requires_grad_()
        y = layer(x)
        y.backward(torch.linspace(-1, 1, y.numel()).view_as(y).cos())
        results.append((y, x.grad, layer.weight.grad))
    for got, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-5)
    assert "_OneDNN" in type(results[1][0].grad_fn).__name__
    assert "_OneDNN" not in type(results[0][0].grad_fn).__name__


def test_choice_of_linear_is_by_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infogan_fast.networks.linear.cpu_description", lambda: {"vendor_id": "AuthenticAMD"})
    assert faster_linear() == ("onednn" if onednn_missing() is None else "mkl")
    monkeypatch.setattr("infogan_fast.networks.linear.cpu_description", lambda: {"vendor_id": "GenuineIntel"})
    monkeypatch.setattr("platform.processor", lambda: "x86_64")
    assert faster_linear() == "mkl"


def test_calibration_measures_the_batch_statistics() -> None:
    step = make(rows=16)
    for _ in range(3):
        step()
    generator = step.networks.generator
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    ready = calibrated(generator, SPEC, batches=8)
    assert not ready.training
    assert generator.training
    inputs = ops.sample_latents(ops.rng_state(5), 2048, SPEC).inputs
    with torch.no_grad():
        measured = ready(inputs)
        lagging = generator.eval()(inputs)
        generator.load_state_dict(before)
        batch = generator.train()(inputs)
    assert (measured - batch).abs().mean() < 0.02
    assert (lagging - batch).abs().mean() > 2 * (measured - batch).abs().mean()
    generator.load_state_dict(before)
    assert_same(before, generator.state_dict())


def test_images_are_read_in_their_shuffled_order() -> None:
    step = make(size=19, channels=3, rows=7)
    for _ in range(9):  # 63 of 50 images: into the second epoch
        wanted = real_batch(step)
        work = run_until(step, "gather")
        assert work.real.shape == (7, 3, 19, 19)
        assert work.real.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(work.real.double(), wanted)


def faked(tensor: Tensor, mode: FakeTensorMode, device: torch.device) -> Tensor:
    with mode:
        return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device)


def fake_tensors(module: nn.Module, mode: FakeTensorMode, device: torch.device) -> None:
    """Put fake tensors of a device in the place of a module's own."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(faked(parameter, mode, device))
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = faked(buffer, mode, device)


@schedules
@pytest.mark.parametrize("amp", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("consistency", [0.0, 1.0])
def test_an_iteration_reads_nothing_back_to_the_host(
    schedule: str,
    device: torch.device,
    amp: torch.dtype | None,
    consistency: float,
) -> None:
    """Fake tensors have no values: whatever asked for one, to branch on it or to print it, would raise."""
    networks, pixels = InfoGAN(EVERYTHING, 20, 3), images(20, 3)
    objective = make_objective(
        schedule=schedule,
        mi_gradient="trunk",
        consistency=consistency,
        equivariance=consistency,
        smoothness=consistency,
        transformation=TURNED,
        restart_q=int(consistency),
    )
    mode = FakeTensorMode()
    fake_tensors(networks, mode, device)
    pixels = faked(pixels, mode, device)
    with mode:
        step = TrainingStep(EVERYTHING, networks, objective, pixels, 6, amp=amp)
        for _ in range(2):
            step()
        assert all(tensor.device.type == device.type for tensor in step.state.tensors())
        with pytest.raises(DataDependentOutputException):
            step.take_metrics()


class _OnTheCPU:
    """Stands in for torch.cuda's streams and graphs, so that what :func:`capture` does around them runs."""

    def __init__(self, *_: object, **__: object) -> None:
        self.replays = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def wait_stream(self, other: object) -> None:
        pass


@schedules
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("amp", [None, torch.float16], ids=str)
def test_the_warm_up_of_a_capture_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, schedule: str, before: int, amp: torch.dtype | None
) -> None:
    for name in ("Stream", "stream", "current_stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, _OnTheCPU)
    objective = make_objective(schedule=schedule, ema=0.9, consistency=1.0)
    step, other = (make(EVERYTHING, objective, amp=amp) for _ in "ab")
    for _ in range(before):
        step()
        other()
    addresses = [tensor.data_ptr() for tensor in step.state.tensors()]
    scalers = (step.player_d.scaler, step.player_g.scaler)
    if amp is not None:  # a scale that overflows at once, so that the scalers change too
        set_scale(2.0**40, *scalers, other.player_d.scaler, other.player_g.scaler)
    capture(step._iterate, step.state.tensors(), scalers, step.device)
    assert_same(step.networks.state_dict(), other.networks.state_dict())
    assert addresses == [tensor.data_ptr() for tensor in step.state.tensors()]
    for one in (step, other):
        one.run_phases()
        one.run_phases()
    assert_same(step.state_dict(), other.state_dict())
    assert amp is None or step.player_g.scaler.get_scale() < 2.0**40


def test_a_capture_that_fails_leaves_no_trace_and_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Stream", "stream", "current_stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, _OnTheCPU)
    step = make(EVERYTHING, make_objective(consistency=1.0))
    before = copy.deepcopy(step.state_dict())
    calls = 0

    def run() -> None:
        nonlocal calls
        calls += 1
        step._iterate()
        if calls == 2:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match=r"not permitted when .*--no-cuda-graph runs without"):
        capture(run, step.state.tensors(), (step.player_d.scaler, step.player_g.scaler), step.device)
    assert_same(step.networks.state_dict(), before["networks"])


@pytest.mark.parametrize(
    "set_by_the_caller",
    [
        "torch.backends.fp32_precision = 'tf32'",
        "torch.backends.cudnn.fp32_precision = 'tf32'",
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
        "torch.backends.cudnn.conv.fp32_precision = 'tf32'",
        "torch.backends.cudnn.allow_tf32 = False",
        "torch.set_float32_matmul_precision('medium')",
        "pass",
    ],
)
def test_every_way_to_set_tf32_is_put_aside_and_restored(set_by_the_caller: str) -> None:
    code = f"""
import torch
from infogan_fast.runtime.device import numerics
b = torch.backends
parts = [b, b.cudnn, b.cudnn.conv, b.cudnn.rnn, b.cuda.matmul, b.mkldnn.matmul]
{set_by_the_caller}
before = [part.fp32_precision for part in parts]
for precision, wanted in (("highest", "ieee"), ("high", "tf32")):
    with numerics(precision):
        assert b.cudnn.conv.fp32_precision == b.cuda.matmul.fp32_precision == wanted
        assert torch.get_float32_matmul_precision() == precision
    assert [part.fp32_precision for part in parts] == before
if {set_by_the_caller == "pass"}:  # what was not set goes on following the backend
    b.cudnn.fp32_precision = "ieee"
    assert b.cudnn.conv.fp32_precision == "ieee"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@schedules
def test_metrics_and_tensors_are_told_by_phase(schedule: str) -> None:
    step = make(EVERYTHING, make_objective(schedule=schedule, ema=0.5))
    step()
    known = {name for name, _ in step.phases}
    both = "gradients of both"
    for name in step.metrics():
        wanted = (
            "generator gradients"
            if name.startswith(("g", "nll", "mse", "logvar"))
            else "discriminator gradients"
        )
        assert step.phase_of(name) == (both if schedule == "one-stage" else wanted) in known
    for name, _ in step.state.named_tensors():
        if name.startswith(("networks", "optimizer", "ema")):
            updated = "discriminator" if "trunk" in name or "d_head" in name or "_d" in name else "generator"
            assert step.phase_of(name) == f"{updated} update" in known


def test_what_a_graph_needs_is_asked_for() -> None:
    networks = InfoGAN(SPEC, 16, 1)
    with pytest.raises(ValueError, match="a CUDA graph needs networks and images on a CUDA device"):
        TrainingStep(SPEC, networks, make_objective(), images(), 4, cuda_graph=True)
    with pytest.raises(ValueError, match="steps_per_replay is 5; without a CUDA graph it must be 1"):
        TrainingStep(SPEC, networks, make_objective(), images(), 4, steps_per_replay=5)


@pytest.mark.parametrize("unrolled", [1, 2])
def test_a_graph_is_captured_anew_when_terms_change(unrolled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With something in place of a graph that, like one, holds what was to be done at its capture."""
    objective = make_objective(
        consistency=1.0, smoothness=1.0, smoothness_until=2 * unrolled, bending=1.0, restart_q=unrolled
    )
    objective = with_options(objective, balance=1.0, balance_end=-0.5, balance_until=15 * unrolled)
    eager, step = make(objective=objective), make(objective=objective)
    captures: list[int] = []

    class Replay:
        def __init__(self, run: Callable[[], None], *_: Any, **__: Any) -> None:
            self.run, self.terms = run, step.active_terms
            captures.append(step.done.value // unrolled)

        def replay(self) -> None:
            assert step.active_terms == self.terms
            self.run()

    monkeypatch.setattr("infogan_fast.training.step.capture", Replay)
    step.cuda_graph, step.steps_per_replay = True, unrolled
    for _ in range(8):
        step()
        for _ in range(unrolled):
            eager()
        assert_same(eager.state_dict(), step.state_dict())
    assert captures == [0, 2, 5, 7]
    balances = [dict(t.__dict__).get("balance") for t in step.active_terms if t.name == "consistency"]
    assert balances == pytest.approx([1 - 1.5 * 2 / 5])


@pytest.mark.gpu
@schedules
@pytest.mark.parametrize("amp", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("unrolled", "consistency"), [(1, 0.0), (1, 1.0), (3, 1.0)])
def test_a_replay_is_eager_updates(
    schedule: str, amp: torch.dtype | None, unrolled: int, consistency: float
) -> None:
    objective = make_objective(schedule=schedule, ema=0.9)
    spec, network = EVERYTHING, "auto"
    if consistency:
        weights: dict[str, Any] = {"equivariance": 0.3, "invariance": 0.02, "joint_ema": 0.9, "balance": 1.0}
        weights |= {"smoothness": 0.5, "smoothness_until": 3 * unrolled, "bending": 0.5}
        weights |= {"balance_end": -0.5, "balance_until": 3 * unrolled}
        objective = with_options(objective, consistency=consistency, restart_q=unrolled, **weights)
        spec, network = LatentSpec.parse(f"{EVERYTHING},cat=3:learned"), SPECTRAL

    def on_device(**how: Any) -> TrainingStep:
        networks = InfoGAN(spec, 16, 1, network=network, seed=3).cuda()
        pixels = images().cuda()
        return TrainingStep(spec, networks, objective, pixels, 8, seed=7, amp=amp, **how)

    eager, graph = on_device(), on_device(cuda_graph=True, steps_per_replay=unrolled)
    for round_ in range(4):
        if round_ == 2:  # a state from elsewhere, captured again, with a scale that overflows
            graph.load_state_dict(eager.state_dict())
            for step in (eager, graph):
                if step.player_g.scaler.is_enabled():
                    set_scale(2.0**40, step.player_g.scaler)
        graph()
        for _ in range(unrolled):
            eager()
        assert_same(eager.state_dict(), graph.state_dict())


@pytest.mark.gpu
def test_replays_allocate_nothing() -> None:
    networks = InfoGAN(SPEC, 16, 1).cuda()
    step = TrainingStep(SPEC, networks, make_objective(), images().cuda(), 8, cuda_graph=True)
    step()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for _ in range(5):
        step()
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
