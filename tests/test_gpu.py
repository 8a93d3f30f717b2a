"""The CUDA library: registered under every CUDA build of PyTorch, and on a device equal to the CPU operators.

The cases are those of tests/operators, which hold the CPU operators against references.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from cuda_on_cpu.checks import DTYPES, ROWS, name_of
from cuda_on_cpu.kernels import KernelTests, kernel_tests
from operators.gather_images.reference import shuffled
from operators.specs import DEFAULT, MIXED

from infogan_fast import LatentSpec, ops
from infogan_fast.runtime import native

operators = pytest.mark.parametrize("tests", kernel_tests(), ids=str)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
cuda_build = pytest.mark.skipif(torch.version.cuda is None, reason="this build of PyTorch has no CUDA")


@cuda_build
def test_all_operators_are_registered_for_cuda() -> None:
    if missing := native.cuda_missing():
        pytest.skip(f"the CUDA library is missing: {missing}")
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("infogan_fast::")]
    assert len(names) >= len(kernel_tests())
    lacking = [name for name in names if not torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")]
    assert not lacking


@cuda_build
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_driver_pytorch_says_so() -> None:
    with pytest.raises(RuntimeError, match="NVIDIA driver"):
        ops.sample_latents(ops.rng_state(0, device="cuda"), 4, LatentSpec.parse(DEFAULT))


@pytest.mark.gpu
@operators
@dtypes
def test_cases(tests: KernelTests, dtype: torch.dtype) -> None:
    for case in tests.cases(dtype, ROWS):
        tests.compare(tests.run(case, "cuda"), case, f"{case}: ")


@pytest.mark.gpu
@operators
def test_the_largest_grid(tests: KernelTests) -> None:
    assert tests.largest or tests.largest_on_gpu
    for case in (*tests.largest, *tests.largest_on_gpu):
        tests.compare(tests.run(case, "cuda"), case, f"{case}: ")


@pytest.mark.gpu
def test_gather_images_with_the_largest_offsets() -> None:
    """Images and batch of more than 2^31 elements."""
    count, pixels, rows = 2**15 + 5, 2**16 + 16, 2**15 + 3
    if torch.cuda.mem_get_info()[0] < 8 << 30:
        pytest.skip("needs 8 GiB of free device memory: offsets past 2^31 were NOT tested")
    images = torch.randint(0, 256, (count, pixels), dtype=torch.uint8, device="cuda")
    batch, indices = ops.gather_images(ops.rng_state(8, 2, "cuda"), images, rows, dtype=torch.float16)
    last = range(3 * rows - 512, 3 * rows)
    assert indices[-512:].tolist() == [shuffled(8, p // count, count, p % count) for p in last]
    for first in range(0, rows, 1024):
        part = images[indices[first : first + 1024]].float() / 255
        assert torch.equal(batch[first : first + 1024], part.half())


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
