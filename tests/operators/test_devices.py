"""Every operator refuses a tensor on another device, meta among them, and raw sizes that are out of range."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import infogan_fast.ops  # noqa: F401 -- registers the operators

OPERATORS = torch.ops.infogan_fast


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def maps(*shape: int) -> Tensor:
    return zeros(*shape).to(memory_format=torch.channels_last)


STATE = torch.tensor([1, 0])
F64 = torch.float64
#: Arguments that each operator takes.
GOOD: dict[str, dict[str, Any]] = {
    "sample_latents": {
        "rng_state": STATE,
        "batch_size": 4,
        "noise_dim": 1,
        "uniform_noise": False,
        "categorical_sizes": [2],
        "continuous_kinds": [0],
        "categorical_cdf": torch.tensor([0.5, 1.0]),
        "dtype": torch.float32,
        "sample_offset": 0,
        "advance": False,
    },
    "gather_images": {
        "order_state": STATE,
        "images": zeros(5, 4, 4, 1, dtype=torch.uint8),
        "batch_size": 4,
        "dtype": torch.float32,
        "advance": False,
    },
    "transform_images": {
        "rng_state": STATE,
        "images": maps(2, 1, 4, 4),
        "rotation": 1.0,
        "scale": 0.0,
        "shear": 0.0,
        "shift": 0.0,
        "colour": 0.0,
        "flip": False,
        "advance": False,
    },
    "infogan_loss": {
        "real_logits": zeros(4),
        "fake_logits": zeros(4),
        "q_output": zeros(4, 4),
        "categorical": zeros(4, 1, dtype=torch.int32),
        "continuous": zeros(4, 1),
        "categorical_sizes": [2],
        "continuous_kinds": [0],
        "weights": [1.0] * 5,
        "learned_variance": True,
        "log_variance": 0.0,
        "grad_scale": zeros(1),
        "grad_dtype": None,
        "sums": zeros(7, dtype=F64),
        "places": list(range(7)),
    },
    "agreement": {
        "answers": zeros(4, 4),
        "adversarial_rows": 0,
        "categorical_sizes": [2],
        "continuous_kinds": [0],
        "learned_variance": True,
        "log_variance": 0.0,
        "joints": [zeros(2, 2)],
        "consistency": 1.0,
        "balance": 0.0,
        "joint_ema": 0.5,
        "smoothness": 0.0,
        "distance_codes": [0],
        "distance_weights": [1.0],
        "slant_changes": [1.0],
        "slants": zeros(2),
        "grad_scale": zeros(1),
        "second_grad_scale": zeros(1),
        "grad_dtype": None,
        "sums": zeros(2, dtype=F64),
        "places": [0, 1],
    },
    "batch_norm_act": {
        "x": zeros(4, 3),
        "weight": zeros(3),
        "bias": zeros(3),
        "running_mean": zeros(3),
        "running_var": zeros(3),
        "batches": zeros(dtype=torch.int64),
        "parts": [4],
        "eps": 1e-5,
        "momentum": 0.1,
        "slope": 0.0,
    },
    "batch_norm_act_backward": {
        "grad_y": zeros(4, 3),
        "x": zeros(4, 3),
        "mean": zeros(1, 3),
        "rstd": zeros(1, 3),
        "weight": zeros(3),
        "bias": zeros(3),
        "parts": [4],
        "slope": 0.0,
        "of_weights": True,
    },
    "image_conv": {"x": maps(2, 1, 4, 4), "weight": zeros(8, 1, 4, 4), "bias": zeros(8), "slope": 0.1},
    "image_conv_backward": {
        "grad_y": maps(2, 8, 2, 2),
        "x": maps(2, 1, 4, 4),
        "y": maps(2, 8, 2, 2),
        "weight": zeros(8, 1, 4, 4),
        "slope": 0.1,
        "of_x": True,
        "of_weights": True,
    },
    "image_conv_transpose": {
        "x": maps(2, 8, 2, 2),
        "weight": zeros(8, 1, 4, 4),
        "bias": zeros(1),
        "size": 4,
    },
    "image_conv_transpose_backward": {
        "grad_image": maps(2, 1, 4, 4),
        "x": maps(2, 8, 2, 2),
        "image": maps(2, 1, 4, 4),
        "weight": zeros(8, 1, 4, 4),
        "of_x": True,
        "of_weights": True,
    },
    "adam_update": {
        "masters": zeros(64),
        "exp_avg": zeros(64),
        "exp_avg_sq": zeros(64),
        "steps": zeros(1, dtype=torch.int64),
        "weights": zeros(64, dtype=torch.bfloat16),
        "average": zeros(64),
        "gradients": [zeros(64)],
        "places": [0],
        "groups": [0],
        "learning_rates": [0.1],
        "beta1": 0.5,
        "beta2": 0.9,
        "eps": 1e-8,
        "average_decay": 0.5,
        "grad_scale": zeros(1),
        "found_inf": zeros(1),
    },
}


def is_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, list) and isinstance(value[0], Tensor))


def call(operator: str, **changed: Any) -> Any:
    return getattr(OPERATORS, operator)(**{**GOOD[operator], **changed})


def test_every_operator_is_here() -> None:
    named = {name for name in dir(OPERATORS) if not name.startswith("_") and name != "name"}
    assert named == set(GOOD)
    for operator in GOOD:
        call(operator)


@pytest.mark.parametrize(
    ("operator", "name"),
    [(op, name) for op, given in GOOD.items() for name, value in given.items() if is_tensors(value)],
)
def test_a_meta_tensor_among_others_is_refused(operator: str, name: str) -> None:
    value = GOOD[operator][name]
    moved = [each.to("meta") for each in value] if isinstance(value, list) else value.to("meta")
    with pytest.raises(RuntimeError, match=f"{operator}: .*device"):
        call(operator, **{name: moved})


@pytest.mark.parametrize("operator", ["sample_latents", "infogan_loss", "agreement"])
@pytest.mark.parametrize("sizes", [[2**62, 2**62], [2**63 - 1], [2**24], [1], [-(2**63)]])
def test_categories_are_bounded(operator: str, sizes: list[int]) -> None:
    with pytest.raises(RuntimeError, match=rf"{operator}: categorical_sizes must lie in \[2, 2\^24\)"):
        call(operator, categorical_sizes=sizes)
