"""The random numbers under the latents: known answers, and the kernels against the plain statement."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from operators.sample_latents import reference

from infogan_fast import LatentSpec, ops

# Random123's known answers for philox4x32-10: counter, key, output
KNOWN = [
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_the_reference_gives_the_known_answers(
    counter: list[int], key: list[int], expected: list[int]
) -> None:
    words = reference.philox4x32(np.array(counter, np.uint64), (key[0], key[1]))
    assert words.tolist() == expected


def test_the_kernel_gives_the_known_answer_of_counter_and_key_zero(isa: str) -> None:
    # seed 0, step 0, sample 0, noise block 0: the words of dimensions 0, 16, 32 and 48 as uniforms
    spec = LatentSpec(noise_dim=64, categorical_sizes=(), continuous_kinds=(), noise="uniform")
    inputs = ops.sample_latents(ops.rng_state(0), 1, spec).inputs
    expected = [2 * ((word >> 8) + 0.5) / 2**24 - 1 for word in KNOWN[0][2]]
    assert inputs[0, ::16].tolist() == expected


@pytest.mark.parametrize(
    ("seed", "step", "offset"),
    [
        (1, 0, 0),
        (-1, 2**32 - 1, 2**32 - 3),
        (-(2**63), 2**48 - 3, 2**48 - 40),
        (0x123456789ABCDEF, 0x7654_3210_FEDC, 0xBA98_7654_3210),
    ],
)
def test_every_word_of_seed_step_and_sample_reaches_the_counter(
    isa: str, seed: int, step: int, offset: int
) -> None:
    spec = LatentSpec.parse("noise=130:uniform,cat=7,cat=1000,cat=3,cat=2,cat=5,uniform=5,bernoulli=3")
    got = ops.sample_latents(ops.rng_state(seed, step), 37, spec, dtype=torch.float64, sample_offset=offset)
    inputs, categorical, continuous = reference.sample_latents(spec, seed, step, 37, offset)
    assert torch.equal(got.inputs, inputs)
    assert torch.equal(got.categorical, categorical)
    assert torch.equal(got.continuous.double(), continuous)
