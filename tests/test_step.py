"""The iteration against plain autograd, and each of its promises by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference_step import D_PREFIXES, ReferenceStep
from torch import Tensor, nn

from infogan_fast import ops
from infogan_fast.batches import Batches
from infogan_fast.latents import LatentSpec
from infogan_fast.linear import Linear, faster_linear, onednn_missing, set_linear
from infogan_fast.networks import InfoGAN
from infogan_fast.step import Objective, TrainingStep, Work, calibrated, term_names

SPEC = LatentSpec.parse("noise=5,cat=4,uniform=1")
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
) -> TrainingStep:
    objective = objective or Objective()
    learned = objective.fixed_sigma is None
    networks = InfoGAN(spec, size, channels, learned_variance=learned, slope=slope, seed=3).to(dtype)
    return TrainingStep(spec, networks, objective, seed=7, amp=amp)


def images(rows: int, size: int = 16, channels: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(
        rows, channels, size, size, generator=torch.Generator().manual_seed(rows), dtype=torch.float64
    ).to(dtype)


@pytest.mark.parametrize(
    ("spec", "objective", "size", "channels", "slope"),
    [
        (SPEC, Objective(), 16, 1, 0.1),
        (SPEC, Objective(fixed_sigma=0.5, lambda_continuous=0.7), 19, 3, 0.01),
        (EVERYTHING, Objective(mi_gradient="trunk", lambda_categorical=0.6), 18, 1, 0.2),
        (EVERYTHING, Objective(lr_d=1e-3, lr_q=3e-3, lr_g=5e-4, beta1=0.9, beta2=0.99), 36, 1, 0.1),
    ],
    ids=["paper", "colour, odd sides, fixed sigma", "every code, through the trunk", "three stages"],
)
def test_updates_equal_plain_autograd(
    spec: LatentSpec, objective: Objective, size: int, channels: int, slope: float
) -> None:
    step = make(spec, objective, size=size, channels=channels, dtype=torch.float64, slope=slope)
    reference = ReferenceStep(spec, step.networks, objective, size, slope, seed=7)
    for update in range(2):
        real = images(6 + update, size, channels, torch.float64)
        step(real)
        terms, wanted = step.take_terms(), reference(real)
        assert {k: terms[k] for k in wanted} == pytest.approx(wanted, abs=1e-9)

    for name, buffer in step.networks.named_buffers():
        torch.testing.assert_close(buffer, reference.buffers[name], atol=1e-9, rtol=0, msg=name)
    states = {**step.optimizer_d.state, **step.optimizer_g.state}
    assert len(states) == len(reference.weights)
    for name, weight in step.networks.named_parameters():
        for got, want in (
            (weight, reference.weights[name]),
            (states[weight]["exp_avg"], reference.mean[name]),
            (states[weight]["exp_avg_sq"], reference.variance[name]),
        ):
            torch.testing.assert_close(got, want, atol=1e-9, rtol=0, msg=name)
    assert torch.equal(step.rng, reference.rng)


def run_until(step: TrainingStep, last: str, rows: int = 4) -> Work:
    work = Work(images(rows, dtype=step.dtype))
    for name, run in step.phases:
        run(work)
        if name == last:
            return work
    raise AssertionError(f"no phase {last}")


def test_generator_step_gives_the_discriminator_no_gradient() -> None:
    step = make()
    run_until(step, "generator gradients")
    for name, weight in step.networks.named_parameters():
        assert (weight.grad is None) == name.startswith(D_PREFIXES), name
        assert weight.requires_grad, name


@pytest.mark.parametrize("mi_gradient", ["generator", "trunk"])
def test_mutual_information_reaches_the_trunk_only_when_asked(mi_gradient: str) -> None:
    gradients = []
    for weight in (0.0, 5.0):
        step = make(objective=Objective(mi_gradient=mi_gradient, lambda_categorical=weight))
        run_until(step, "discriminator gradients")
        assert all(p.grad is None for p in step.networks.q_head.parameters())
        assert all(p.grad is None for p in step.networks.generator.parameters())
        weights = (step.networks.trunk.fc.weight, step.networks.d_head.weight)
        gradients.append([w.grad for w in weights if w.grad is not None])
    (trunk, head), (trunk_mi, head_mi) = gradients
    assert torch.equal(trunk, trunk_mi) == (mi_gradient == "generator")
    assert torch.equal(head, head_mi)


def test_generator_runs_once_and_trunk_twice() -> None:
    step, calls = make(), []
    for name in ("generator", "trunk"):
        module: nn.Module = getattr(step.networks, name)
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    step(images(4))
    assert calls == ["generator", "trunk", "trunk"]


def test_real_and_fake_do_not_share_statistics() -> None:
    step = make(dtype=torch.float64)
    alone = make(dtype=torch.float64)
    work = run_until(step, "discriminator gradients", rows=5)
    real, fake = alone.networks.trunk(work.real), alone.networks.trunk(work.fake.detach())
    joint = step.networks.trunk(torch.cat([work.real, work.fake.detach()]), parts=2)
    torch.testing.assert_close(joint, torch.cat([real, fake]), atol=1e-12, rtol=0)
    mixed = step.networks.trunk(torch.cat([work.real, work.fake.detach()]))
    assert (mixed - joint).abs().max() > 0.1


def test_continuation_is_exact() -> None:
    whole, first, second = (
        make(EVERYTHING, Objective(ema=0.9)),
        *(make(EVERYTHING, Objective(ema=0.9)) for _ in "ab"),
    )
    for i in range(4):
        whole(images(4 + i))
    for i in range(2):
        first(images(4 + i))
    second.load_state_dict(first.state_dict())
    for i in range(2, 4):
        second(images(4 + i))
    assert_same(whole.state_dict(), second.state_dict())


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


def test_moving_average_follows_the_generator() -> None:
    step = make(objective=Objective(ema=0.75))
    average = step.networks.generator.fc1.weight.detach().clone()
    for _ in range(3):
        step(images(4))
        average = 0.75 * average + 0.25 * step.networks.generator.fc1.weight.detach()
    assert step.ema is not None
    torch.testing.assert_close(step.ema.fc1.weight, average)


def set_scale(scale: float, *scalers: torch.amp.GradScaler) -> None:
    for scaler in scalers:
        scaler.load_state_dict({**scaler.state_dict(), "scale": scale})


def test_half_precision_scales_each_player_by_itself() -> None:
    step = make(amp=torch.float16)
    set_scale(256.0, step.scaler_d, step.scaler_g)
    step(images(8, dtype=torch.float16))
    assert step.scaler_d.get_scale() == step.scaler_g.get_scale() == 256.0
    assert all(torch.isfinite(v).all() for v in step.networks.state_dict().values())

    # Past the range of float16, so every gradient of the generator's update overflows, and only those.
    set_scale(2.0**40, step.scaler_g)
    before = {k: v.clone() for k, v in step.networks.named_parameters()}
    step(images(8, dtype=torch.float16))
    for name, weight in step.networks.named_parameters():
        assert torch.equal(weight, before[name]) != name.startswith(D_PREFIXES), name
    assert step.scaler_d.get_scale() == 256.0
    assert step.scaler_g.get_scale() == 2.0**39


def test_half_precision_scale_cancels() -> None:
    exact, scaled = make(), make(amp=torch.float16)
    set_scale(256.0, scaled.scaler_d, scaled.scaler_g)
    for step in (exact, scaled):
        step(images(16, dtype=step.dtype))
    # Adam's first moment is of the size of the gradient, whatever it was multiplied by on the way.
    a, b = (s.optimizer_d.state[s.networks.trunk.fc.weight]["exp_avg"].norm() for s in (exact, scaled))
    assert b / a == pytest.approx(1.0, abs=0.2)


def test_bfloat16_stays_near_float32() -> None:
    exact, rounded = make(), make(amp=torch.bfloat16)
    for step in (exact, rounded):
        for i in range(3):
            step(images(16 + i, dtype=step.dtype))
    wanted = exact.take_terms()
    assert rounded.take_terms() == pytest.approx(wanted, abs=0.05)
    assert all(p.dtype == torch.float32 for p in rounded.networks.parameters())


def test_terms_are_means_since_they_were_taken() -> None:
    step, other = make(), make()
    single = []
    for i in range(3):
        step(images(4 + i))
        other(images(4 + i))
        single.append(other.take_terms())
    assert tuple(single[0]) == term_names(SPEC) == ("d_real", "d_fake", "g", "nll_c1", "nll_c2", "mse_c2")
    means = step.take_terms()
    assert means == pytest.approx({k: sum(t[k] for t in single) / 3 for k in means})
    assert step.updates == 0
    assert set(step.take_terms().values()) == {0.0}


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
    monkeypatch.setattr("infogan_fast.linear.cpu_description", lambda: {"vendor_id": "AuthenticAMD"})
    assert faster_linear() == ("onednn" if onednn_missing() is None else "mkl")
    monkeypatch.setattr("infogan_fast.linear.cpu_description", lambda: {"vendor_id": "GenuineIntel"})
    monkeypatch.setattr("platform.processor", lambda: "x86_64")
    assert faster_linear() == "mkl"


def test_calibration_measures_the_batch_statistics() -> None:
    step = make()
    for _ in range(3):
        step(images(16))
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


def batches(n: int, batch_size: int, seed: int = 0) -> Batches:
    pixels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 16, 16)
    return Batches(pixels.contiguous(), seed, batch_size, device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize(("n", "batch_size"), [(10, 5), (10, 3), (7, 16), (1, 4), (100, 100)])
def test_every_epoch_holds_every_image_once(n: int, batch_size: int) -> None:
    source = batches(n, batch_size)
    stream = torch.cat([source.indices(step) for step in range(-(-3 * n // batch_size))]).tolist()
    for epoch in range(3):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))
    if n == 100:
        assert stream[:n] != stream[n : 2 * n] != list(range(n))


def test_order_is_a_function_of_seed_and_step() -> None:
    backwards, forwards = batches(50, 8), batches(50, 8)
    ahead = {step: backwards.indices(step) for step in reversed(range(20))}
    assert all(torch.equal(forwards.indices(step), ahead[step]) for step in range(20))
    assert not torch.equal(batches(50, 8, seed=1).indices(0), ahead[0])
    batches(50, 8, seed=-(2**63)).indices(0)


def test_batch_is_the_images_in_unit_range() -> None:
    source = batches(256, 6)
    batch = source(2)
    assert batch.shape == (6, 1, 16, 16)
    torch.testing.assert_close(batch[:, 0, 3, 4], source.indices(2) / 255)
