"""The codes in Q's output."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from infogan_fast.latents import LatentSpec

Codes = dict[str, NDArray[Any]]
"""Values [N] by name of the code, see :func:`read_codes`."""


def read_codes(spec: LatentSpec, q_output: Tensor) -> Codes:
    """The codes in Q's output [N, q_dim], with or without log-variances.

    For a categorical code the most likely category, int64. For the others, float64: the posterior mean of a
    uniform or normal code, the probability of a 1 of a Bernoulli code.
    """
    codes = {}
    for code in spec.codes:
        columns = q_output[:, code.q_columns]
        if code.is_categorical:
            values = columns.argmax(1)
        else:
            values = columns[:, 0].sigmoid() if code.kind == "bernoulli" else columns[:, 0]
            # Only now: values that differ by rounding stay recognisable as float32.
            values = values.double()
        codes[code.name] = values.numpy()
    return codes
