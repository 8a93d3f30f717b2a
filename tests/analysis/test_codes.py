"""The codes in an output of Q."""

from __future__ import annotations

import numpy as np
import torch

from infogan_fast.analysis.codes import read_codes
from infogan_fast.latents import LatentSpec


def test_codes_are_modes_means_and_probabilities() -> None:
    spec = LatentSpec.parse("noise=2,cat=2,cat=3,uniform=1,bernoulli=1,normal=1")
    q = torch.tensor([[1.0, 2, 7, 8, 9, 0.25, 0.0, -3, 50, 60], [2, 1, 9, 8, 7, 0.5, 100.0, 4, 70, 80]])
    for output in (q, q[:, :8]):  # with and without log-variances
        read = read_codes(spec, output)
        assert {name: values.tolist() for name, values in read.items()} == {
            "c1": [1, 0],
            "c2": [2, 0],
            "c3": [0.25, 0.5],
            "c4": [0.5, 1],
            "c5": [-3, 4],
        }
        assert [values.dtype for values in read.values()] == [np.int64] * 2 + [np.float64] * 3
