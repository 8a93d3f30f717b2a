"""The CUDA half: registered under every CUDA build of PyTorch, and on a device equal to the CPU operators in
the cases of tests/cuda_on_cpu, which hold those against reference.py."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

import reference
from cuda_on_cpu.cases import (
    DEFAULT,
    DTYPES,
    MIXED,
    gather_cases,
    loss_cases,
    mixed_precision_cases,
    sample_cases,
)
from cuda_on_cpu.checks import (
    GatherCase,
    LossCase,
    SampleCase,
    compare_gather,
    compare_latents,
    compare_loss,
    draw,
    gather,
    name_of,
    score,
)

from infogan_fast import LatentSpec, ops
from infogan_fast.runtime import native

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
cuda_build = pytest.mark.skipif(torch.version.cuda is None, reason="this build of PyTorch has no CUDA")


@cuda_build
@pytest.mark.parametrize("operator", ["sample_latents", "gather_images", "infogan_loss"])
def test_the_operators_are_registered_for_cuda(operator: str) -> None:
    if missing := native.cuda_missing():
        pytest.skip(f"the CUDA half is missing: {missing}")
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"infogan_fast::{operator}", "CUDA")


@cuda_build
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_driver_pytorch_says_so() -> None:
    with pytest.raises(RuntimeError, match="NVIDIA driver"):
        ops.sample_latents(ops.rng_state(0, device="cuda"), 4, LatentSpec.parse(DEFAULT))


@pytest.mark.gpu
@dtypes
def test_sample_latents(dtype: torch.dtype) -> None:
    for case in sample_cases(dtype):
        latents, state = draw(case, "cuda")
        compare_latents(latents, state, case, f"{case}: ")


@pytest.mark.gpu
def test_sample_latents_with_the_largest_grid() -> None:
    case = SampleCase("noise=1,cat=3,uniform=1", 16 * 4096 + 40)
    latents, state = draw(case, "cuda")
    compare_latents(latents, state, case, f"{case}: ")


@pytest.mark.gpu
@dtypes
def test_gather_images(dtype: torch.dtype) -> None:
    for case in gather_cases(dtype):
        gathered, state = gather(case, "cuda")
        compare_gather(gathered, state, case, f"{case}: ")


@pytest.mark.gpu
def test_gather_images_with_the_largest_grid() -> None:
    case = GatherCase(1000, 3, 4096 + 40)
    gathered, state = gather(case, "cuda")
    compare_gather(gathered, state, case, f"{case}: ")


@pytest.mark.gpu
def test_gather_images_with_the_largest_offsets() -> None:
    """Images and batch of more than 2^31 elements."""
    count, pixels, rows = 2**15 + 5, 2**16 + 16, 2**15 + 3
    if torch.cuda.mem_get_info()[0] < 8 << 30:
        pytest.skip("needs 8 GiB of free device memory: offsets past 2^31 were NOT tested")
    images = torch.randint(0, 256, (count, pixels), dtype=torch.uint8, device="cuda")
    batch, indices = ops.gather_images(ops.rng_state(8, 2, "cuda"), images, rows, dtype=torch.float16)
    last = range(3 * rows - 512, 3 * rows)
    assert indices[-512:].tolist() == [reference.shuffled(8, p // count, count, p % count) for p in last]
    for first in range(0, rows, 1024):
        part = images[indices[first : first + 1024]].float() / 255
        assert torch.equal(batch[first : first + 1024], part.half())


@pytest.mark.gpu
@dtypes
def test_infogan_loss(dtype: torch.dtype) -> None:
    cases = loss_cases(dtype) + (mixed_precision_cases() if dtype == torch.float16 else [])
    for case in cases:
        compare_loss(score(case, "cuda"), case, f"{case}: ")


@pytest.mark.gpu
def test_infogan_loss_with_the_largest_grid() -> None:
    case = LossCase(DEFAULT, 300_000, 200_000, 200_000)
    compare_loss(score(case, "cuda"), case, f"{case}: ")


@pytest.mark.gpu
def test_kernels_wait_in_the_current_stream() -> None:
    spec = LatentSpec.parse(DEFAULT)
    weights = ops.LossWeights(codes=(1.0,) * spec.n_codes)
    state, q = ops.rng_state(4, 2, "cuda"), torch.zeros(129, spec.q_dim(), device="cuda")
    images = torch.zeros(200, 784, dtype=torch.uint8, device="cuda")

    def run() -> tuple[ops.Latents, ops.Gathered, ops.InfoGANLoss]:
        drawn = ops.sample_latents(state, 129, spec, advance=False)
        gathered = ops.gather_images(state, images, 129, advance=False)
        loss = ops.infogan_loss(
            spec, weights=weights, q_output=q, categorical=drawn.categorical, continuous=drawn.continuous
        )
        return drawn, gathered, loss

    first = run()  # loads what is loaded once, so that nothing below waits for the device
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(1_000_000_000)  # clock ticks: about half a second
        second = run()
        done = side.record_event()
    torch.cuda.current_stream().synchronize()
    assert not done.query(), "the kernels ran beside the stream that they were launched on"
    side.synchronize()
    for a, b in zip(itertools.chain(*first), itertools.chain(*second), strict=True):
        assert torch.equal(a, b)


@pytest.mark.gpu
def test_a_replayed_graph_is_the_calls_that_it_captured() -> None:
    """Sampling and loss in one graph: each replay draws the next step and scores it as separate calls do."""
    spec = LatentSpec.parse(MIXED)
    state = ops.rng_state(6, 0, "cuda")
    q = torch.randn(200, spec.q_dim(), generator=torch.Generator().manual_seed(1)).cuda()
    weights = ops.LossWeights(codes=(1.0,) * spec.n_codes)

    def step(rng: torch.Tensor) -> tuple[ops.Latents, ops.InfoGANLoss]:
        drawn = ops.sample_latents(rng, 200, spec)
        loss = ops.infogan_loss(
            spec, weights=weights, q_output=q, categorical=drawn.categorical, continuous=drawn.continuous
        )
        return drawn, loss

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(ops.rng_state(0, 0, "cuda"))
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        latents, loss = step(state)
    eager_state = ops.rng_state(6, 0, "cuda")
    for _ in range(5):
        graph.replay()
        eager_latents, eager_loss = step(eager_state)
        for replayed, eager in zip((*latents, *loss), (*eager_latents, *eager_loss), strict=True):
            assert torch.equal(replayed, eager)
    assert state.tolist() == eager_state.tolist() == [6, 5]
