"""Arguments that each operator takes, for tests of what it refuses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import infogan_fast.ops  # noqa: F401 -- registers the operators

OPERATORS = torch.ops.infogan_fast


def values(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Different numbers in 0 to 1, or whole ones."""
    count = torch.Size(shape).numel()
    numbers = torch.arange(count) * 7 % (count + 2)
    return (numbers / (count + 2) if dtype.is_floating_point else numbers).to(dtype).reshape(shape)


def maps(*shape: int) -> Tensor:
    return values(*shape).to(memory_format=torch.channels_last)


STATE = torch.tensor([1, 0])
F64 = torch.float64
#: By operator and name.
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
        "sample_stride": 1,
        "advance": False,
    },
    "gather_images": {
        "order_state": STATE,
        "images": values(5, 4, 4, 1, dtype=torch.uint8),
        "batch_size": 4,
        "dtype": torch.float32,
        "sample_offset": 0,
        "sample_stride": 1,
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
        "bend": 0.0,
        "flip": False,
        "sample_offset": 0,
        "sample_stride": 1,
        "advance": False,
    },
    "infogan_loss": {
        "real_logits": values(4),
        "fake_logits": values(4),
        "q_output": values(4, 4),
        "categorical": torch.tensor([[0], [1], [1], [0]], dtype=torch.int32),
        "continuous": values(4, 1),
        "categorical_sizes": [2],
        "continuous_kinds": [0],
        "weights": [1.0] * 5,
        "learned_variance": True,
        "log_variance": 0.0,
        "grad_scale": torch.ones(1),
        "grad_dtype": None,
        "sums": values(7, dtype=F64),
        "places": list(range(7)),
    },
    "agreement": {
        "answers": values(4, 4),
        "near_rows": 0,
        "categorical_sizes": [2],
        "continuous_kinds": [0],
        "learned_variance": True,
        "log_variance": 0.0,
        "joints": [values(2, 2)],
        "batch_joints": values(4),
        "consistency": 1.0,
        "balance": 0.0,
        "joint_ema": 0.5,
        "smoothness": 0.0,
        "distance_codes": [0],
        "distance_weights": [1.0],
        "slant_changes": [1.0],
        "slants": values(2),
        "grad_scale": torch.ones(1),
        "second_grad_scale": torch.ones(1),
        "grad_dtype": None,
        "sums": values(2, dtype=F64),
        "places": [0, 1],
    },
    "batch_norm_act": {
        "x": values(4, 3),
        "weight": values(3),
        "bias": values(3),
        "running_mean": values(3),
        "running_var": values(3),
        "batches": values(dtype=torch.int64),
        "parts": [4],
        "eps": 1e-5,
        "momentum": 0.1,
        "slope": 0.0,
        "sums": torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]], dtype=F64),
    },
    "batch_norm_act_sums": {"x": values(4, 3), "parts": [4]},
    "batch_norm_act_backward_sums": {
        "grad_y": values(4, 3),
        "x": values(4, 3),
        "mean": values(1, 3),
        "rstd": values(1, 3),
        "weight": values(3),
        "bias": values(3),
        "parts": [4],
        "slope": 0.0,
    },
    "batch_norm_act_backward": {
        "grad_y": values(4, 3),
        "x": values(4, 3),
        "mean": values(1, 3),
        "rstd": values(1, 3),
        "weight": values(3),
        "bias": values(3),
        "parts": [4],
        "slope": 0.0,
        "of_weights": False,
        "sums": torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]], dtype=F64),
    },
    "image_conv": {"x": maps(2, 1, 4, 4), "weight": values(8, 1, 4, 4), "bias": values(8), "slope": 0.1},
    "image_conv_backward": {
        "grad_y": maps(2, 8, 2, 2),
        "x": maps(2, 1, 4, 4),
        "y": maps(2, 8, 2, 2),
        "weight": values(8, 1, 4, 4),
        "slope": 0.1,
        "of_x": True,
        "of_weights": True,
    },
    "image_conv_transpose": {
        "x": maps(2, 8, 2, 2),
        "weight": values(8, 1, 4, 4),
        "bias": values(1),
        "size": 4,
    },
    "image_conv_transpose_backward": {
        "grad_image": maps(2, 1, 4, 4),
        "x": maps(2, 8, 2, 2),
        "image": maps(2, 1, 4, 4),
        "weight": values(8, 1, 4, 4),
        "of_x": True,
        "of_weights": True,
    },
    "adam_update": {
        "masters": values(64),
        "exp_avg": values(64),
        "exp_avg_sq": values(64),
        "steps": values(1, dtype=torch.int64),
        "weights": values(64, dtype=torch.bfloat16),
        "average": values(64),
        "gradients": [values(64)],
        "places": [0],
        "groups": [0],
        "learning_rates": [0.1],
        "beta1": 0.5,
        "beta2": 0.9,
        "eps": 1e-8,
        "average_decay": 0.5,
        "average_every": 2,
        "grad_scale": torch.ones(1),
        "found_inf": torch.zeros(1),
    },
}


def named(operator: str) -> str:
    """What its errors call an operator: those of one folder have one name."""
    return operator.removesuffix("_sums").removesuffix("_backward")


def is_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, list) and isinstance(value[0], Tensor))


def call(operator: str, **changed: Any) -> Any:
    return getattr(OPERATORS, operator)(**{**GOOD[operator], **changed})
