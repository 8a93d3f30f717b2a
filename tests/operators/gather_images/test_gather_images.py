"""gather_images: the plain statement, each image once an epoch, a good shuffle, and errors that name the
argument.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operators.gather_images import reference
from scipy import stats
from torch import Tensor

from infogan_fast import ops

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def pictures(count: int, *shape: int, device: torch.device | str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator).to(device)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(28, 28, 1), (17, 17, 3), (5,), (64, 64, 3)], ids=str)
def test_it_gathers_what_the_reference_gathers(
    device: torch.device, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    images = pictures(50, *shape, device=device)
    state = ops.rng_state(-3, 5, device)
    for step in (5, 6):  # the second batch runs into the next epoch
        got = ops.gather_images(state, images, 37, dtype=dtype)
        batch, indices = reference.gather_images(images.cpu(), -3, step, 37)
        assert torch.equal(got.indices.cpu(), indices)
        assert got.batch.dtype == dtype and got.batch.shape == (37, *shape)
        assert torch.equal(got.batch.cpu(), batch.float().to(dtype))
    assert state.tolist() == [-3, 7]


def test_every_value_of_a_pixel(device: torch.device) -> None:
    images = torch.arange(256, dtype=torch.uint8, device=device).view(1, 256)
    for dtype in DTYPES:
        got = ops.gather_images(ops.rng_state(0, 0, device), images, 1, dtype=dtype)
        assert torch.equal(got.batch.cpu(), (images.cpu().double() / 255).float().to(dtype))


def test_misaligned_images(device: torch.device) -> None:
    images = pictures(41, 32, device=device).flatten()[3 : 3 + 40 * 32].view(40, 32)
    got = ops.gather_images(ops.rng_state(1, 0, device), images, 9)
    batch, indices = reference.gather_images(images.cpu(), 1, 0, 9)
    assert torch.equal(got.indices.cpu(), indices) and torch.equal(got.batch.cpu(), batch.float())


def indices(state: Tensor, count: int, batch_size: int) -> Tensor:
    images = torch.zeros(count, 1, dtype=torch.uint8, device=state.device)
    return ops.gather_images(state, images, batch_size).indices.cpu()


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 3000),
    batch_size=st.integers(1, 700),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_each_image_comes_once_an_epoch(count: int, batch_size: int, seed: int) -> None:
    state = ops.rng_state(seed)
    batches = math.ceil(3 * count / batch_size)
    seen = torch.cat([indices(state, count, batch_size) for _ in range(batches)])
    for epoch in range(3):
        part = seen[epoch * count : (epoch + 1) * count]
        assert torch.equal(part.sort().values, torch.arange(count))


def test_sizes_about_powers_of_four(device: torch.device) -> None:
    for count in (1, 2, 3, 4, 5, 15, 16, 17, 4095, 4096, 4097, 65536, 65537):
        seen = indices(ops.rng_state(9, 0, device), count, count)
        assert torch.equal(seen.sort().values, torch.arange(count))


def test_threads_and_batch_size_leave_the_sequence_alone() -> None:
    threads = torch.get_num_threads()
    whole = indices(ops.rng_state(4), 1000, 6000)
    try:
        torch.set_num_threads(1)
        state = ops.rng_state(4)
        assert torch.equal(torch.cat([indices(state, 1000, 100) for _ in range(60)]), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_ranks_share_out_the_batch(ranks: int, device: torch.device) -> None:
    images = pictures(50, 4, 4, device=device)
    whole = ops.gather_images(ops.rng_state(3, 8, device), images, 37)
    for rank in range(ranks):
        state = ops.rng_state(3, 8, device)
        part = ops.gather_images(state, images, 37, sample_offset=rank, sample_stride=ranks)
        assert all(torch.equal(a, b[rank::ranks]) for a, b in zip(part, whole, strict=True))
        assert state.tolist() == [3, 9]


P = 1e-4


def test_every_image_is_as_likely_at_every_position() -> None:
    count, epochs = 12, 20_000
    seen = indices(ops.rng_state(2026), count, count * epochs).view(epochs, count).numpy()
    for position in range(count):
        counts = np.bincount(seen[:, position], minlength=count)
        assert stats.chisquare(counts).pvalue > P


def test_neighbours_are_unrelated() -> None:
    # pairs of neighbouring positions over many epochs: each ordered pair of images as often as another
    count, epochs = 7, 40_000
    seen = indices(ops.rng_state(7), count, count * epochs).view(epochs, count).numpy()
    pairs = (seen[:, :-1] * count + seen[:, 1:]).ravel()
    counts = np.bincount(pairs, minlength=count * count).reshape(count, count)
    assert (counts.diagonal() == 0).all()
    assert stats.chisquare(counts[~np.eye(count, dtype=bool)]).pvalue > P


def test_a_long_epoch_is_not_in_order() -> None:
    count = 60_000
    seen = indices(ops.rng_state(1), count, 2 * count).double()
    first, second = seen[:count], seen[count:]
    limit = 4.5 / math.sqrt(count)
    here = torch.arange(count).double()
    for a, b in ((first, here), (first, second), (first[:-1], first[1:])):
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < limit
    # a random permutation has one fixed point on average
    assert (first == here).sum() < 8


def test_opcheck(device: torch.device) -> None:
    for dtype in DTYPES:
        torch.library.opcheck(
            torch.ops.infogan_fast.gather_images.default,
            (ops.rng_state(1, 0, device), pictures(10, 4, 4, device=device), 7, dtype, 1, 2, True),
        )


def test_compiled_equals_eager(device: torch.device) -> None:
    images = pictures(20, 8, 8, device=device)

    def draw(state: Tensor) -> tuple[Tensor, Tensor]:
        return ops.gather_images(state, images, 8).batch * 2, ops.gather_images(state, images, 8).batch

    eager_state, compiled_state = ops.rng_state(6, 0, device), ops.rng_state(6, 0, device)
    eager = draw(eager_state)
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")(compiled_state)
    assert all(torch.equal(a, b) for a, b in zip(eager, compiled, strict=True))
    assert eager_state.tolist() == compiled_state.tolist() == [6, 2]


@pytest.mark.gpu
def test_a_captured_graph_moves_on_by_itself() -> None:
    images = pictures(500, 28, 28, device="cuda")
    state = ops.rng_state(6, 0, "cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        ops.gather_images(state, images, 128)
    torch.cuda.current_stream().wait_stream(side)
    state.copy_(ops.rng_state(6))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ops.gather_images(state, images, 128)
    state.copy_(ops.rng_state(6))
    other = ops.rng_state(6, 0, "cuda")
    for _ in range(5):
        graph.replay()
        assert all(
            torch.equal(a, b) for a, b in zip(captured, ops.gather_images(other, images, 128), strict=True)
        )
    assert torch.equal(state, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, r"batch_size must be in \[1, 2\^31\), got 0"),
        ({"dtype": torch.uint8}, "dtype must be float32, .* got uint8"),
        ({"images": torch.zeros(4, 4)}, r"images must be .* uint8 .* got float32 of shape \[4, 4\]"),
        ({"images": torch.zeros(4, dtype=torch.uint8)}, r"images must be .* of shape \[4\]"),
        ({"images": torch.zeros(4, 8, dtype=torch.uint8)[:, ::2]}, "images must be .* not contiguous"),
        ({"images": torch.zeros(0, 8, dtype=torch.uint8)}, r"images is empty, of shape \[0, 8\]"),
        ({"order_state": torch.zeros(3, dtype=torch.int64)}, "order_state must be .*; make it with"),
        ({"order_state": torch.tensor([0, -1])}, "step in order_state must be in .* got -1"),
        ({"order_state": torch.tensor([0, 2**46])}, "step in order_state must be in"),
        ({"sample_offset": -1}, "sample_offset must be in .* got -1"),
        ({"sample_offset": 4}, "sample_offset must be below the batch_size of 4, got 4"),
        ({"sample_stride": 0}, r"sample_stride must be in \[1, 2\^31\), got 0"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    arguments = {"order_state": ops.rng_state(0), "images": pictures(4, 8), "batch_size": 4, **change}
    with pytest.raises(RuntimeError, match=message):
        ops.gather_images(**arguments)
