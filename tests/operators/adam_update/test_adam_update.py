"""adam_update: the plain statement, torch.optim.Adam, the same bits everywhere, and errors that name the
argument.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cuda_on_cpu.checks import DTYPES, name_of, same_bits
from operators.adam_update.cases import (
    AdamCase,
    adam_cases,
    check_against_reference,
    compare_adam,
    drawn,
    update,
)
from torch import Tensor

from infogan_fast import ops


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_it_updates_as_the_reference_does(dtype: torch.dtype) -> None:
    for case in adam_cases(dtype):
        check_against_reference(update(case), case)


def test_every_instruction_set_gives_the_same_bits(isa: str) -> None:
    for dtype in DTYPES:
        case = AdamCase((40, 17, 3001), dtype, twice=True, averaged=51, scale=8.0)
        compare_adam(update(case), case, f"{isa}: ")


def test_threads_do_not_change_a_bit() -> None:
    case = AdamCase((40_000, 17, 30_001), torch.bfloat16, averaged=50_000)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        compare_adam(update(case), case, f"{threads} threads: ")


def test_it_is_torch_s_adam() -> None:
    generator = torch.Generator().manual_seed(1)
    weights = [torch.nn.Parameter(torch.randn(n, generator=generator)) for n in (30, 7)]
    optimizer = torch.optim.Adam(weights, lr=2e-3, betas=(0.5, 0.999), foreach=False)
    masters = torch.zeros(40)
    masters[:30], masters[32:39] = weights[0].detach(), weights[1].detach()
    moments, steps = (torch.zeros(40), torch.zeros(40)), torch.zeros(1, dtype=torch.int64)
    for _ in range(10):
        gradients = [torch.randn(weight.shape, generator=generator) for weight in weights]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimizer.step()
        ops.adam_update(masters, *moments, steps, gradients, [0, 32], [0, 0], [2e-3], betas=(0.5, 0.999))
    torch.testing.assert_close(masters[:30], weights[0].detach(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(masters[32:39], weights[1].detach(), rtol=1e-5, atol=1e-7)
    assert steps.item() == 10


def test_elements_are_taken_in_the_order_of_memory() -> None:
    gradient = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    masters, moment, square = (torch.zeros(48) for _ in range(3))
    ops.adam_update(masters, moment, square, torch.zeros(1, dtype=torch.int64), [gradient], [0], [0], [1.0])
    in_memory = gradient.permute(0, 2, 3, 1).flatten()
    torch.testing.assert_close(masters, -in_memory.sign(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("before", [1e8, float("nan")])
def test_the_first_average_is_the_weight_whatever_was_there(before: float) -> None:
    masters, moment, square, average = (torch.zeros(8) for _ in range(4))
    average.fill_(before)
    steps = torch.zeros(1, dtype=torch.int64)
    ops.adam_update(
        masters, moment, square, steps, [torch.ones(8)], [0], [0], [1.0], average=average, average_every=100
    )
    same_bits(average, masters, "average")


def test_a_backward_pass_through_changed_weights_says_so() -> None:
    masters, moment, square = (torch.zeros(8) for _ in range(3))
    x = torch.ones(8, requires_grad=True)
    y = (x * masters).sum()
    ops.adam_update(
        masters, moment, square, torch.zeros(1, dtype=torch.int64), [torch.ones(8)], [0], [0], [1.0]
    )
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def _arguments(**changed: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "masters": torch.zeros(24),
        "exp_avg": torch.zeros(24),
        "exp_avg_sq": torch.zeros(24),
        "steps": torch.zeros(2, dtype=torch.int64),
        "gradients": [torch.zeros(3, 3), torch.zeros(4)],
        "places": [0, 16],
        "groups": [0, 1],
        "learning_rates": [1e-3, 1e-4],
    }
    return arguments | changed


NINES = [torch.zeros(9), torch.zeros(9)]
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("masters must be a contiguous float32 or float64", {"masters": torch.zeros(24, dtype=torch.float16)}),
    ("masters must be a contiguous float32 or float64", {"masters": torch.zeros(48)[::2]}),
    ("exp_avg must be like masters", {"exp_avg": torch.zeros(16)}),
    ("exp_avg_sq must be like masters", {"exp_avg_sq": torch.zeros(24, dtype=torch.float64)}),
    ("masters must begin at a multiple of 16 bytes; copy it", {"masters": torch.zeros(25)[1:]}),
    ("exp_avg must begin at a multiple of 16 bytes", {"exp_avg": torch.zeros(25)[1:]}),
    ("exp_avg_sq must begin at a multiple of 16 bytes", {"exp_avg_sq": torch.zeros(25)[1:]}),
    ("weights must begin at a multiple", {"weights": torch.zeros(25, dtype=torch.bfloat16)[1:]}),
    ("steps must be a contiguous int64", {"steps": torch.zeros(2)}),
    ("steps must be a contiguous int64 tensor of 1 to 8", {"steps": torch.zeros(9, dtype=torch.int64)}),
    ("steps must be in", {"steps": torch.tensor([-1, 0])}),
    ("learning_rates must have 2 entries", {"learning_rates": [1e-3]}),
    ("learning_rates must be finite", {"learning_rates": [1e-3, float("nan")]}),
    ("betas must be in", {"betas": (1.0, 0.9)}),
    ("eps must be 0 or more", {"eps": -1.0}),
    ("weights must be bfloat16 or float16", {"weights": torch.zeros(24)}),
    ("average must be float32 of at most 24", {"average": torch.zeros(25)}),
    ("average_decay must be in", {"average_decay": 1.0}),
    ("average_every must be in", {"average_every": 0}),
    ("grad_scale must be one float32", {"grad_scale": torch.zeros(2)}),
    ("found_inf must be one float32", {"found_inf": torch.zeros((), dtype=torch.int64)}),
    ("one entry a gradient, got 2, 1 and 2", {"places": [0]}),
    ("one entry a gradient, got 0", {"gradients": [], "places": [], "groups": []}),
    (
        r"gradients\[1\] must be float32 on",
        {"gradients": [torch.zeros(9), torch.zeros(4, dtype=torch.bfloat16)]},
    ),
    (r"gradients\[0\] must be dense", {"gradients": [torch.zeros(3, 6)[:, ::2], torch.zeros(4)]}),
    (r"gradients\[0\] must be dense", {"gradients": [torch.zeros(1).expand(9), torch.zeros(4)]}),
    (r"groups\[1\] is 2; expected 0 to 1", {"groups": [0, 2]}),
    (r"places\[1\] is 12", {"places": [0, 12]}),
    (r"places\[1\] is 8 .* a multiple of 8 from 9 on", {"places": [0, 8]}),
    (r"places\[1\] is 24", {"places": [0, 24]}),
    (
        r"places\[1\] is 9223372036854775800 for 9 elements",
        {"places": [0, 2**63 - 8], "gradients": [torch.zeros(9)] * 2},
    ),
    (r"gradients\[1\] is added to the one before it", {"places": [0, 0]}),
]


@pytest.mark.parametrize(
    ("message", "changed"), WRONG, ids=[f"{i}-{m[:30]}" for i, (m, _) in enumerate(WRONG)]
)
def test_wrong_arguments_are_named_and_nothing_changes(message: str, changed: dict[str, Any]) -> None:
    arguments = _arguments(**changed)
    with pytest.raises(RuntimeError, match=f"adam_update: .*{message}"):
        ops.adam_update(**arguments)
    assert not arguments["masters"].any()


def test_low_weights_need_float32_masters() -> None:
    double = {name: torch.zeros(24, dtype=torch.float64) for name in ("masters", "exp_avg", "exp_avg_sq")}
    with pytest.raises(RuntimeError, match="masters must be float32 where weights are given"):
        ops.adam_update(**_arguments(**double, weights=torch.zeros(24, dtype=torch.bfloat16)))


def test_three_gradients_of_a_place_are_refused() -> None:
    gradients = [torch.zeros(9)] * 3
    with pytest.raises(RuntimeError, match="a place takes two at most"):
        ops.adam_update(**_arguments(gradients=gradients, places=[0, 0, 0], groups=[0, 0, 0]))


def _raw(case: AdamCase) -> tuple[Any, ...]:
    buffers, gradients = drawn(case)
    b = buffers.copy()
    single = [several[0] for several in gradients]
    return (
        *(
            b.masters,
            b.exp_avg,
            b.exp_avg_sq,
            b.steps,
            b.weights,
            b.average,
            single,
            case.places,
            case.groups,
        ),
        *(list(case.rates), 0.5, 0.999, 1e-8, 0.5, 1, None, None),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_opcheck(dtype: torch.dtype) -> None:
    torch.library.opcheck(
        torch.ops.infogan_fast.adam_update.default, _raw(AdamCase((40, 17), dtype, averaged=20))
    )


def test_it_compiles() -> None:
    case = AdamCase((40, 17))
    buffers, gradients = drawn(case)
    plain, compiled = buffers.copy(), buffers.copy()

    def run(masters: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, steps: Tensor, *gradients: Tensor) -> None:
        ops.adam_update(masters, exp_avg, exp_avg_sq, steps, gradients, [0, 40], [0, 0], [1e-3])

    flat = [g[0] for g in gradients]
    run(plain.masters, plain.exp_avg, plain.exp_avg_sq, plain.steps, *flat)
    torch.compile(run, fullgraph=True, backend="aot_eager")(
        compiled.masters, compiled.exp_avg, compiled.exp_avg_sq, compiled.steps, *flat
    )
    same_bits(compiled.masters, plain.masters, "masters")
    same_bits(compiled.steps, plain.steps, "steps")


@pytest.mark.gpu
def test_more_tensors_than_one_launch_takes() -> None:
    case = AdamCase((9,) * 150, rates=(1e-3, 1e-4))
    compare_adam(update(case, "cuda"), case, "")


@pytest.mark.gpu
def test_a_graph_s_replays_count_on() -> None:
    case = AdamCase((3000, 17), torch.bfloat16)
    before, gradients = drawn(case)
    b = before.copy("cuda")
    on_device = [g[0].cuda() for g in gradients]

    def run() -> None:
        ops.adam_update(
            *(b.masters, b.exp_avg, b.exp_avg_sq, b.steps, on_device, case.places, case.groups, case.rates),
            weights=b.weights,
        )

    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    graph.replay()
    graph.replay()
    eager = _updated(before, on_device, case, 3)
    assert b.steps.item() == case.step + 3
    same_bits(b.masters.cpu(), eager.masters.cpu(), "masters")


def _updated(before: Any, gradients: list[Tensor], case: AdamCase, updates: int) -> Any:
    b = before.copy("cuda")
    for _ in range(updates):
        ops.adam_update(
            *(b.masters, b.exp_avg, b.exp_avg_sq, b.steps, gradients, case.places, case.groups, case.rates),
            weights=b.weights,
        )
    return b
