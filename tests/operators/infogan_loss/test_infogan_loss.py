"""infogan_loss: every term and gradient against float64 autograd, extremes, autograd, compilation and
errors.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operators.infogan_loss import reference
from torch import Tensor

from infogan_fast import LatentSpec, ops
from infogan_fast.ops import InfoGANLoss, LossWeights

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
# Relative error of one rounding to the gradients' dtype; and the smallest step of float16 below its normal
# range.
EPSILON = {torch.float32: 2e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.float64: 1e-13}

specs = st.builds(
    lambda sizes, kinds: LatentSpec(1, tuple(sizes), tuple(kinds)),
    st.lists(st.integers(2, 40), max_size=5),
    st.lists(st.sampled_from(["uniform", "normal", "bernoulli"]), max_size=8),
).filter(lambda spec: spec.n_codes > 0)


class Case:
    """Random inputs for a specification, on a device and in a dtype, with the layouts asked for."""

    def __init__(
        self,
        spec: LatentSpec,
        batch_size: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        seed: int = 0,
        fixed: float | None = None,
        spread: float = 2.0,
        real_size: int | None = None,
        sliced: bool = False,
    ) -> None:
        self.spec, self.fixed, self.dtype = spec, fixed, dtype
        generator = torch.Generator().manual_seed(seed)

        def logits(rows: int, columns: int) -> Tensor:
            wide = torch.randn(2 * rows, columns + 3, generator=generator, dtype=torch.float64) * spread
            tensor = wide.to(dtype).to(device)
            return tensor[::2, 1 : columns + 1] if sliced else tensor[:rows, :columns].contiguous()

        q_dim = spec.q_dim(learned_variance=fixed is None)
        self.real = logits(real_size or batch_size, 1)
        self.fake = logits(batch_size, 1)
        self.q = logits(batch_size, q_dim)
        drawn = ops.sample_latents(ops.rng_state(seed), batch_size, spec)
        self.categorical = drawn.categorical.to(device)
        self.continuous = drawn.continuous.to(device)
        if sliced:
            self.categorical = self.categorical.T.contiguous().T
            self.continuous = self.continuous.T.contiguous().T

    def loss(self, weights: LossWeights, **change: Any) -> InfoGANLoss:
        arguments: dict[str, Any] = {
            "real_logits": self.real,
            "fake_logits": self.fake,
            "q_output": self.q,
            "categorical": self.categorical,
            "continuous": self.continuous,
            "fixed_log_variance": self.fixed,
            **change,
        }
        return ops.infogan_loss(self.spec, weights=weights, **arguments)

    def expected(self, weights: LossWeights, scale: float = 1.0) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(terms, total, gradients) by autograd in float64 on the CPU."""
        inputs = [t.detach().double().cpu().requires_grad_() for t in (self.real, self.fake, self.q)]
        real, fake, q = inputs
        codes = self.categorical.cpu(), self.continuous.cpu()
        terms, errors = reference.infogan_terms(self.spec, real, fake, q, *codes, self.fixed)
        total = reference.infogan_total(terms, weights)
        gradients = torch.autograd.grad(scale * total, inputs, allow_unused=True)
        return (
            torch.stack(terms + errors).detach(),
            total.detach(),
            [torch.zeros_like(t) if g is None else g for t, g in zip(inputs, gradients, strict=True)],
        )

    def check(self, weights: LossWeights, scale: float = 1.0, **change: Any) -> InfoGANLoss:
        got = self.loss(weights, **change)
        terms, total, gradients = self.expected(weights, scale)
        exact = self.dtype == torch.float64
        rtol = 1e-12 if exact else 3e-6
        torch.testing.assert_close(got.terms.double().cpu(), terms, rtol=rtol, atol=1e-12 if exact else 1e-6)
        # the weighted terms may cancel, so their rounding is to be seen beside their sizes
        weighted = zip((*weights[:3], *(weights.codes or (0.0,) * self.spec.n_codes)), terms, strict=False)
        size = sum(abs(weight * float(term)) for weight, term in weighted)
        torch.testing.assert_close(got.total.double().cpu(), total, rtol=0, atol=rtol * size + 1e-12)
        for value, gradient, want in zip(
            (self.real, self.fake, self.q), (got.grad_real, got.grad_fake, got.grad_q), gradients, strict=True
        ):
            assert gradient.shape == value.shape
            # float32 arithmetic under a softmax is good to a few 1e-7 of the largest weight a row
            absolute = (
                1e-15
                if exact
                else 6e-7 * abs(scale) * max(map(abs, (1, *weights[:3], *weights.codes))) / len(value)
            )
            if gradient.dtype == torch.float16:
                absolute += 2**-25
            torch.testing.assert_close(
                gradient.double().cpu(),
                want,
                rtol=EPSILON[gradient.dtype] + 2e-6 * (not exact),
                atol=absolute,
            )
        return got


def weights_of(spec: LatentSpec, kind: str) -> LossWeights:
    codes = tuple(0.1 * (i + 1) for i in range(spec.n_codes))
    return {
        "D": LossWeights(d_real=1.0, d_fake=1.0),
        "D with MI": LossWeights(d_real=1.0, d_fake=0.5, codes=codes),
        "G": LossWeights(g=1.0, codes=codes),
        "all": LossWeights(0.3, 0.7, -1.5, codes),
        "measured only": LossWeights(),
    }[kind]


KINDS = ["D", "D with MI", "G", "all", "measured only"]
RICH = LatentSpec.parse("noise=1,cat=10,cat=3,uniform=2,bernoulli=1,normal=2,uniform=1,bernoulli=1")


@settings(deadline=None, max_examples=60)
@given(
    spec=specs,
    batch_size=st.one_of(st.integers(1, 200), st.sampled_from([1000, 10_000])),
    dtype=st.sampled_from(DTYPES),
    fixed=st.sampled_from([None, 0.0, -1.5]),
    kind=st.sampled_from(KINDS),
    sliced=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_specification(
    spec: LatentSpec,
    batch_size: int,
    dtype: torch.dtype,
    fixed: float | None,
    kind: str,
    sliced: bool,
    seed: int,
) -> None:
    real_size = None if seed % 2 else batch_size // 2 + 1
    case = Case(spec, batch_size, dtype, seed=seed, fixed=fixed, sliced=sliced, real_size=real_size)
    case.check(weights_of(spec, kind))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch_size", [1, 7, 31, 33, 127, 129, 1000])
@pytest.mark.parametrize("sliced", [False, True], ids=["packed", "sliced"])
def test_terms_and_gradients(device: torch.device, dtype: torch.dtype, batch_size: int, sliced: bool) -> None:
    for kind in KINDS:
        for fixed in (None, 0.5):
            Case(RICH, batch_size, dtype, device, fixed=fixed, sliced=sliced).check(weights_of(RICH, kind))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_wide_codes(device: torch.device, dtype: torch.dtype) -> None:
    # 110, 300 and 1,500 columns: fewer and fewer rows fit a tile, and at last none
    for text in (",".join(["cat=10"] * 10 + ["normal=5"]), "cat=300", "cat=1500,uniform=1"):
        spec = LatentSpec.parse(text)
        Case(spec, 67, dtype, device).check(weights_of(spec, "all"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_instruction_sets_agree_to_the_bit(isa: str, dtype: torch.dtype) -> None:
    from infogan_fast.runtime import native

    case = Case(RICH, 333, dtype)
    got = case.check(weights_of(RICH, "all"))
    native.load().set_isa("portable")
    for a, b in zip(got, case.loss(weights_of(RICH, "all")), strict=True):
        assert torch.equal(a, b)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_devices_agree_to_the_bit_in_gradients(dtype: torch.dtype) -> None:
    cpu, cuda = (Case(RICH, 333, dtype, d).loss(weights_of(RICH, "all")) for d in ("cpu", "cuda"))
    exact = dtype != torch.float64  # double uses each platform's exp and log
    for a, b in zip(cpu[2:], cuda[2:], strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=0 if exact else 1e-13, atol=0 if exact else 1e-15)


def test_the_sums_do_not_depend_on_threads() -> None:
    case = Case(RICH, 10_000)
    threads = torch.get_num_threads()
    try:
        losses = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            losses.append(case.loss(weights_of(RICH, "all")))
    finally:
        torch.set_num_threads(threads)
    for other in losses[1:]:
        assert all(torch.equal(a, b) for a, b in zip(losses[0], other, strict=True))


def test_repeated_calls_agree_to_the_bit(device: torch.device) -> None:
    case = Case(RICH, 5000, device=device)
    first, second = (case.loss(weights_of(RICH, "all")) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1e4, 65504.0])
def test_extreme_logits_stay_finite(isa: str, device: torch.device, dtype: torch.dtype, size: float) -> None:
    spec = LatentSpec.parse("cat=10,bernoulli=2")
    case = Case(spec, 64, dtype, device)
    generator = torch.Generator().manual_seed(0)
    for tensor in (case.real, case.fake, case.q):
        negative = torch.rand(tensor.shape, generator=generator) < 0.5
        tensor.copy_(torch.where(negative, -size, size))
    got = case.check(weights_of(spec, "all"))
    assert all(value.isfinite().all() for value in got)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extreme_gaussians_stay_finite(isa: str, device: torch.device, dtype: torch.dtype) -> None:
    spec = LatentSpec.parse("uniform=1,normal=1")
    case = Case(spec, 64, dtype, device)
    case.q[:, :2].copy_(torch.where(torch.rand(64, 2, device=device) < 0.5, -1e4, 1e4))
    for log_variance in (-65504.0, -10.0, 10.0, 65504.0):
        case.q[:, 2:] = log_variance
        # 1e4 * e^10 / 64 is past float16, whose infinities a GradScaler looks for: ask for float32 there
        grad_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        got = case.loss(weights_of(spec, "G"), grad_dtype=grad_dtype)
        terms, _, gradients = case.expected(weights_of(spec, "G"))
        assert all(value.isfinite().all() for value in got)
        torch.testing.assert_close(got.terms.double().cpu(), terms, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            got.grad_q[:, :2].double().cpu(), gradients[2][:, :2], rtol=1e-5, atol=1e-9
        )
        if abs(log_variance) > 10:
            assert (got.grad_q[:, 2:] == 0).all()


@pytest.mark.parametrize(
    ("name", "weights", "logit", "sign", "term"),
    [
        ("real_logits", LossWeights(d_real=1), 30.0, -1, 0),
        ("fake_logits", LossWeights(d_fake=1), -30.0, 1, 1),
        ("fake_logits", LossWeights(g=1), 30.0, -1, 2),
    ],
)
def test_saturated_logits_keep_their_small_gradients(
    isa: str, name: str, weights: LossWeights, logit: float, sign: int, term: int
) -> None:
    # sigmoid(-30) = 9e-14 must not become 1 - sigmoid(30) = 0
    arguments: dict[str, Any] = {name: torch.tensor([[logit]])}
    got = ops.infogan_loss(LatentSpec(), weights=weights, **arguments)
    gradient = got.grad_real if name == "real_logits" else got.grad_fake
    assert gradient.item() == pytest.approx(sign * math.exp(-30), rel=1e-5, abs=0)
    assert got.terms[term].item() == pytest.approx(math.exp(-30), rel=1e-5, abs=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_transposed_q_output(device: torch.device, dtype: torch.dtype) -> None:
    case = Case(RICH, 50, dtype, device)
    case.q = case.q.T.contiguous().T
    assert case.q.stride(1) != 1
    case.check(weights_of(RICH, "all"))


@pytest.mark.parametrize("where", ["real", "fake", "q first", "q last"])
def test_nan_is_never_hidden(isa: str, device: torch.device, where: str) -> None:
    case = Case(RICH, 40, device=device)
    tensor = {"real": case.real, "fake": case.fake}.get(where, case.q)
    tensor[3, 0 if where != "q last" else RICH.categorical_sizes[0] - 1] = math.nan
    got = case.loss(weights_of(RICH, "all"))
    assert got.total.isnan()
    gradient = {"real": got.grad_real, "fake": got.grad_fake}.get(where, got.grad_q)
    assert gradient[3].isnan().any()
    assert gradient[:3].isfinite().all() and gradient[4:].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_grad_scale_multiplies_gradients_only(device: torch.device, dtype: torch.dtype) -> None:
    scale = torch.tensor([64.0], device=device)
    case = Case(RICH, 50, dtype, device)
    case.check(weights_of(RICH, "all"), scale=64.0, grad_scale=scale)


@pytest.mark.parametrize("present", ["all", "no q_output"])
def test_terms_are_added_to_sums(device: torch.device, present: str) -> None:
    case = Case(RICH, 700, device=device)
    without = {} if present == "all" else {"q_output": None}
    weights = weights_of(RICH, "D") if without else weights_of(RICH, "all")
    terms = case.loss(weights, **without).terms.double()
    sums = torch.full((3 * terms.numel(),), 5.0, dtype=torch.float64, device=device)
    places = [2 * i for i in range(terms.numel())]
    places[1] = places[4] = -1
    expected = sums.clone()
    for term, place in zip(terms.tolist(), places, strict=True):
        if place >= 0:
            expected[place] += 2 * term
    for _ in range(2):
        case.loss(weights, sums=sums, places=places, **without)
    torch.testing.assert_close(sums, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_of_half_inputs_can_be_float32(device: torch.device, dtype: torch.dtype) -> None:
    got = Case(RICH, 50, dtype, device).check(weights_of(RICH, "all"), grad_dtype=torch.float32)
    assert got.grad_q.dtype == torch.float32


@pytest.mark.parametrize("present", ["real", "fake", "q", "real fake", "fake q"])
def test_absent_inputs(device: torch.device, present: str) -> None:
    case = Case(RICH, 20, device=device)
    has = {name: name in present.split() for name in ("real", "fake", "q")}
    weights = LossWeights(
        float(has["real"]),
        0.5 * has["fake"],
        2.0 * has["fake"],
        tuple(0.3 * has["q"] for _ in RICH.code_names),
    )
    got = case.loss(
        weights,
        real_logits=case.real if has["real"] else None,
        fake_logits=case.fake.squeeze(1) if has["fake"] else None,
        q_output=case.q if has["q"] else None,
    )
    terms, total, gradients = case.expected(weights)
    used = [has["real"], has["fake"], has["fake"], *[has["q"]] * (len(terms) - 3)]
    torch.testing.assert_close(
        got.terms.double().cpu(), torch.where(torch.tensor(used), terms, 0.0), rtol=3e-6, atol=1e-6
    )
    torch.testing.assert_close(got.total.double().cpu(), total, rtol=3e-6, atol=1e-6)
    assert got.grad_real.shape == (case.real.shape if has["real"] else (0,))
    assert got.grad_fake.shape == ((20,) if has["fake"] else (0,))
    assert got.grad_q.shape == (case.q.shape if has["q"] else (0,))
    if has["fake"]:
        torch.testing.assert_close(
            got.grad_fake.double().cpu(), gradients[1].squeeze(1), rtol=3e-6, atol=1e-7
        )


def test_gradcheck() -> None:
    case = Case(RICH, 5, torch.float64, spread=1.0)
    inputs = [t.clone().requires_grad_() for t in (case.real, case.fake, case.q)]
    weights = weights_of(RICH, "all")

    def total(real: Tensor, fake: Tensor, q: Tensor) -> Tensor:
        return 1.7 * case.loss(weights, real_logits=real, fake_logits=fake, q_output=q).total

    assert torch.autograd.gradcheck(total, inputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_autograd_returns_the_inputs_dtype(device: torch.device, dtype: torch.dtype) -> None:
    case = Case(RICH, 30, dtype, device)
    weights = weights_of(RICH, "all")
    inputs = [t.clone().requires_grad_() for t in (case.real, case.fake, case.q)]
    got = case.loss(weights, real_logits=inputs[0], fake_logits=inputs[1], q_output=inputs[2])
    gradients = torch.autograd.grad(3.0 * got.total, inputs)
    for gradient, want in zip(gradients, case.expected(weights, scale=3.0)[2], strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient.double().cpu(), want, rtol=EPSILON[dtype] + 2e-6, atol=2e-6)


def test_small_half_gradients_survive_a_loss_scale(device: torch.device) -> None:
    # 1e-4 / 10,000 rows is below float16's range; the scale must come before the rounding
    fake = torch.zeros(10_000, dtype=torch.float16, device=device, requires_grad=True)
    got = ops.infogan_loss(LatentSpec(), weights=LossWeights(g=1e-4), fake_logits=fake)
    (gradient,) = torch.autograd.grad(got.total * 2.0**16, fake)
    torch.testing.assert_close(
        gradient.float(), torch.full_like(gradient, -0.5e-8 * 2**16).float(), rtol=1e-3, atol=0
    )


def test_terms_are_not_differentiable_and_say_so() -> None:
    real = torch.zeros(4, requires_grad=True)
    got = ops.infogan_loss(LatentSpec(), weights=LossWeights(d_real=1), real_logits=real)
    assert got.total.requires_grad and not got.terms.requires_grad and not got.grad_real.requires_grad


def test_autograd_with_a_grad_scale_is_refused() -> None:
    real = torch.zeros(4, requires_grad=True)
    got = ops.infogan_loss(
        LatentSpec(), weights=LossWeights(d_real=1), real_logits=real, grad_scale=torch.ones(1)
    )
    with pytest.raises(RuntimeError, match="grad_scale"):
        got.total.backward()


def test_forward_mode_is_refused() -> None:
    def total(logits: Tensor) -> Tensor:
        weights = ops.LossWeights(d_real=1.0)
        return ops.infogan_loss(LatentSpec.parse("noise=1"), weights=weights, real_logits=logits).total

    with pytest.raises(RuntimeError, match="infogan_loss: a forward-mode derivative is asked for"):
        torch.func.jvp(total, (torch.zeros(3),), (torch.ones(3),))


def test_second_derivatives_are_refused() -> None:
    real = torch.zeros(4, requires_grad=True)
    got = ops.infogan_loss(LatentSpec(), weights=LossWeights(d_real=1), real_logits=real)
    (gradient,) = torch.autograd.grad(got.total, real, create_graph=True)
    with pytest.raises(RuntimeError, match=r"^infogan_loss: a second derivative is asked for"):
        gradient.sum().backward()


def test_a_gradient_penalty_is_refused() -> None:
    """It would lose what goes through the loss, and with it the gradient of the bias."""
    layer, images = torch.nn.Linear(5, 1), torch.randn(4, 5, requires_grad=True)
    got = ops.infogan_loss(LatentSpec(), weights=LossWeights(d_real=1), real_logits=layer(images))
    (gradient,) = torch.autograd.grad(got.total, images, create_graph=True)
    with pytest.raises(RuntimeError, match=r"^infogan_loss: a second derivative is asked for"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("fixed", [None, 0.0])
def test_opcheck(device: torch.device, fixed: float | None) -> None:
    sizes, kinds, _ = RICH.operator_arguments
    for dtype in (torch.float32, torch.bfloat16):
        case = Case(RICH, 33, dtype, device, fixed=fixed)
        weights = [0.5, 1.0, 2.0, *(0.1,) * RICH.n_codes]
        n_terms = case.loss(weights_of(RICH, "all")).terms.numel()
        sums, places = torch.zeros(n_terms, dtype=torch.float64, device=device), list(range(n_terms))
        for requires_grad in (False, True):
            inputs = [t.clone().requires_grad_(requires_grad) for t in (case.real, case.fake, case.q)]
            torch.library.opcheck(
                torch.ops.infogan_fast.infogan_loss.default,
                (
                    *inputs,
                    case.categorical,
                    case.continuous,
                    sizes,
                    kinds,
                    weights,
                    fixed is None,
                    fixed or 0.0,
                    None,
                    None,
                    sums,
                    places,
                ),
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_compiled_equals_eager(device: torch.device, dtype: torch.dtype) -> None:
    case = Case(RICH, 30, dtype, device)
    weights = weights_of(RICH, "all")

    def step(real: Tensor, fake: Tensor, q: Tensor) -> Tensor:
        return case.loss(weights, real_logits=real * 2, fake_logits=fake * 2, q_output=q * 2).total

    results = []
    for run in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        inputs = [t.clone().requires_grad_() for t in (case.real, case.fake, case.q)]
        total = run(*inputs)
        results.append((total, *torch.autograd.grad(total, inputs)))
    for eager, compiled in zip(*results, strict=True):
        assert torch.equal(eager, compiled)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fake_tensors_get_the_shapes_and_dtypes_of_real_ones(dtype: torch.dtype) -> None:
    from torch._subclasses import FakeTensorMode

    def run() -> tuple[Tensor, ...]:
        latents = ops.sample_latents(torch.zeros(2, dtype=torch.int64), 6, RICH, dtype=dtype)
        real, fake, q = (torch.zeros(6, n, dtype=dtype) for n in (1, 1, RICH.q_dim()))
        weights = weights_of(RICH, "all")
        loss = ops.infogan_loss(
            RICH,
            weights=weights,
            real_logits=real,
            fake_logits=fake,
            q_output=q,
            categorical=latents.categorical,
            continuous=latents.continuous,
        )
        return (*latents, *loss)

    with FakeTensorMode():
        faked = run()
    for got, want in zip(faked, run(), strict=True):
        assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride())


@pytest.mark.gpu
def test_it_works_under_a_grad_scaler() -> None:
    """The update is that of float32, and an overflow skips one."""
    case, updated = Case(RICH, 64, torch.float16, "cuda"), []
    for half in (True, False):
        weight = torch.nn.Parameter(torch.eye(case.q.shape[1], device="cuda"))
        optimizer = torch.optim.SGD([weight], 0.1)
        scaler = torch.amp.GradScaler("cuda", init_scale=64.0, enabled=half)
        with torch.autocast("cuda", torch.float16, enabled=half):
            q = case.q @ weight if half else case.q.float() @ weight
            logits = {"real_logits": case.real, "fake_logits": case.fake}
            if not half:
                logits = {name: value.float() for name, value in logits.items()}
            total = case.loss(weights_of(RICH, "G"), q_output=q, **logits).total
        scaler.scale(total).backward()
        scaler.step(optimizer)
        updated.append(weight.detach().clone())
    identity = torch.eye(case.q.shape[1], device="cuda")
    (step, wanted) = (identity - each for each in updated)
    assert step.norm() > 0
    torch.testing.assert_close(step, wanted, atol=2e-2 * wanted.abs().max().item(), rtol=0)


@pytest.mark.gpu
def test_it_is_captured_on_a_side_stream() -> None:
    case = Case(RICH, 500, device="cuda")
    weights = weights_of(RICH, "all")
    expected = case.loss(weights)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        case.loss(weights)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = case.loss(weights)
    for value in captured:
        value.zero_()
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


@pytest.mark.gpu
def test_a_category_out_of_range_poisons_its_row_on_cuda() -> None:
    case = Case(RICH, 10, device="cuda")
    case.categorical[4, 0] = 10
    got = case.loss(weights_of(RICH, "all"))
    assert got.terms[3].isnan() and got.grad_q[4, :10].isnan().all()
    assert got.grad_q[:4].isfinite().all() and got.grad_q[5:].isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize(
    "name", ["fake_logits", "q_output", "categorical", "continuous", "grad_scale", "sums"]
)
def test_inputs_on_two_devices_are_refused(name: str) -> None:
    case = Case(RICH, 10, device="cuda")
    other = {**vars(Case(RICH, 10)), "fake_logits": Case(RICH, 10).fake, "q_output": Case(RICH, 10).q}
    other |= {"grad_scale": torch.ones(1), "sums": torch.zeros(99, dtype=torch.float64)}
    with pytest.raises(RuntimeError, match=f"{name} .*device"):
        case.loss(weights_of(RICH, "all"), **{name: other[name]})


def _zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(*shape, dtype=dtype)


MNIST = LatentSpec()
SUMS = torch.zeros(10, dtype=torch.float64)
GOOD: dict[str, Any] = {
    "real_logits": _zeros(4, 1),
    "fake_logits": _zeros(4, 1),
    "q_output": _zeros(4, 14),
    "categorical": _zeros(4, 1, dtype=torch.int32),
    "continuous": _zeros(4, 2),
    "weights": LossWeights(1, 1, 1, (1, 1, 1)),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"real_logits": _zeros(4, 2)}, r"real_logits must have shape \[B\] or \[B, 1\] .* got \[4, 2\]"),
        ({"fake_logits": _zeros(0, 1)}, r"fake_logits must .* B >= 1, got \[0, 1\]"),
        ({"real_logits": _zeros(4, 1, dtype=torch.int64)}, "real_logits must be float32, .* got int64"),
        (
            {"fake_logits": _zeros(4, 1, dtype=torch.float16)},
            "fake_logits is float16 while another input is float32",
        ),
        ({"q_output": _zeros(4, 12)}, r"q_output must have shape \[B, 14\] .* got \[4, 12\]"),
        ({"q_output": _zeros(0, 14)}, r"q_output must have shape \[B, 14\] with B >= 1"),
        ({"q_output": _zeros(4, 14, 1)}, r"q_output must have shape .* got \[4, 14, 1\]"),
        ({"categorical": None}, "categorical is missing"),
        ({"categorical": _zeros(4, 1, dtype=torch.int64)}, "categorical must be int32, got int64"),
        (
            {"categorical": _zeros(3, 1, dtype=torch.int32)},
            r"categorical must have shape \[4, 1\] .* got \[3, 1\]",
        ),
        (
            {"categorical": torch.full((4, 1), 10, dtype=torch.int32)},
            r"categorical\[\d, 0\] is 10; code c1 takes .* \[0, 10\)",
        ),
        ({"categorical": torch.full((4, 1), -1, dtype=torch.int32)}, r"categorical\[\d, 0\] is -1"),
        ({"continuous": None}, "continuous is missing"),
        ({"continuous": _zeros(4, 2, dtype=torch.float64)}, "continuous must be float32, got float64"),
        ({"continuous": _zeros(4, 3)}, r"continuous must have shape \[4, 2\] .* got \[4, 3\]"),
        ({"weights": LossWeights(codes=(1.0,))}, r"weights must have 6 entries .* got 4"),
        ({"weights": LossWeights(d_real=math.nan)}, "weights must be finite, got nan"),
        ({"real_logits": None}, r"weights\[0\] \(D real\) is not 0 but real_logits is missing"),
        ({"fake_logits": None}, r"weights\[1\] .* fake_logits is missing"),
        ({"q_output": None}, r"weights\[3\] \(code c1\) is not 0 but q_output is missing"),
        (
            {"fixed_log_variance": 11.0, "q_output": _zeros(4, 12)},
            r"log_variance must be in \[-10, 10\], got 11",
        ),
        ({"grad_scale": torch.ones(2)}, r"grad_scale must be one float32 value .* shape \[2\]"),
        (
            {"grad_scale": torch.ones(1, dtype=torch.float64)},
            "grad_scale must be one float32 value .* got float64",
        ),
        (
            {"sums": _zeros(10), "places": [0] * 10},
            "sums must be a contiguous float64 tensor .* got float32",
        ),
        ({"sums": torch.zeros(20).double()[::2], "places": [0] * 10}, "sums must be .*, not contiguous"),
        ({"sums": SUMS, "places": [0]}, "places must have 10 entries, one for each metric, got 1"),
        ({"sums": SUMS, "places": [*range(9), 10]}, r"places must be .* indices in \[0, 10\), got 10"),
        ({"sums": SUMS, "places": [*range(9), -2]}, r"places must be -1 or .*, got -2"),
        ({"sums": SUMS, "places": [*range(9), 5]}, "places must be .*, got 5 twice"),
        ({"grad_dtype": torch.float16}, "grad_dtype must be the inputs' dtype .* got float16"),
        ({"grad_dtype": torch.float64}, "grad_dtype must be the inputs' dtype .* got float64"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    # And nothing of the machine that compiled the check.
    with pytest.raises(RuntimeError, match=f"^infogan_loss: {'' if message[0].islower() else '.*'}{message}"):
        ops.infogan_loss(MNIST, **{**GOOD, **change})


def test_no_input_at_all() -> None:
    with pytest.raises(RuntimeError, match="give at least one of"):
        ops.infogan_loss(MNIST, weights=LossWeights())


def test_no_codes() -> None:
    with pytest.raises(RuntimeError, match="has no codes"):
        ops.infogan_loss(LatentSpec.parse("noise=5"), weights=LossWeights(), q_output=_zeros(4, 0))
