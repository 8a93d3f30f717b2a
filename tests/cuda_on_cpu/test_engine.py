"""The engine that runs CUDA threads as fibers: what CUDA forbids is reported by kernel, thread and line."""

from __future__ import annotations

import re

import pytest
import torch
from cuda_on_cpu import tables
from cuda_on_cpu.harness import HERE
from cuda_on_cpu.runner import KernelFault, Runner, given, poisoned, wanted

Toys = dict[str, Runner]
SCHEDULES = [(0, 1), (1, 1), (2, 1), (0, 4), (1, 4), (5, 4), (6, 3)]


def line_of(mark: str) -> str:
    """``toys.cpp:LINE`` of the line that ends in ``// HERE:mark``."""
    text = (HERE / "toys.cpp").read_text().splitlines()
    number = next(i for i, line in enumerate(text, 1) if line.endswith(f"// HERE:{mark}"))
    return f"tests/cuda_on_cpu/toys.cpp:{number}"


def fault(runner: Runner, name: str, out: torch.Tensor | None = None, seed: int = 3) -> str:
    with pytest.raises(KernelFault) as caught:
        runner(name, wanted(torch.zeros(128) if out is None else out), seed=seed)
    return str(caught.value)


def run_total(runner: Runner, name: str, seed: int, resident: int) -> float:
    x, out = torch.arange(1000.0), poisoned((1,), torch.float32)
    ticket = torch.zeros(1, dtype=torch.int64)
    partials = wanted(poisoned((5,), torch.float32))
    runner(
        name,
        given(x),
        x.numel(),
        partials,
        wanted(ticket),
        wanted(out),
        5,
        seed=seed,
        resident_blocks=resident,
    )
    assert ticket.item() == 5
    return out.item()


@pytest.mark.parametrize("build", ["plain", "asan+ubsan", "tsan"])
def test_a_correct_kernel_is_left_alone(toys: Toys, build: str) -> None:
    for seed, resident in SCHEDULES:
        assert run_total(toys[build], "total", seed, resident) == 999 * 500


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("no_fence_before", "no fence before the last block's ticket"),
        ("no_fence_after", "no fence after the last block's ticket"),
        ("fence_before_write", "the fence is before the write that it has to cover"),
    ],
)
def test_tsan_sees_a_missing_or_misplaced_fence(toys: Toys, name: str, bug: str) -> None:
    with pytest.raises(KernelFault, match=r"data race[\s\S]*block \(\d,0,0\) thread"):
        run_total(toys["tsan"], name, 3, 5)
    assert run_total(toys["plain"], name, 3, 5) == 999 * 500  # on this machine the stores arrive in order
    tables.add_mutant("(toy kernel)", bug, ("not seen", "", "data race"))


@pytest.mark.parametrize("build", ["plain", "asan+ubsan", "tsan"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("divergent_barrier", "divergent barrier: .* thread \\(\\d+,0,0\\) has exited"),
        ("exit_before_warp_op", "names lane 8, but thread \\(40,0,0\\) has exited"),
        ("different_warp_ops", "lanes wait at different warp operations"),
        ("warp_op_against_barrier", "names lane 3, but thread \\((3|35),0,0\\) waits at __syncthreads\\(\\)"),
        ("own_lane_missing", "lacks its own lane"),
        ("lanes_past_the_warp", "names lanes past the warp's 8"),
    ],
)
def test_misuse_is_reported(toys: Toys, build: str, name: str, message: str) -> None:
    report = fault(toys[build], name)
    assert re.search(message, report)
    assert re.search(rf"kernel toys::{name}\(float\*\)\n  block \(0,0,0\), thread \(\d+,0,0\)", report)
    if name not in ("own_lane_missing", "lanes_past_the_warp", "different_warp_ops"):
        assert line_of(name) in report


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_many_threads", "a block of 1025 threads"),
        ("too_much_shared_memory", "49153 bytes of shared memory"),
        ("stack_overflow", "memory fault"),
    ],
)
def test_launches_that_no_gpu_takes(toys: Toys, name: str, message: str) -> None:
    assert message in fault(toys["plain"], name)


@pytest.mark.parametrize(("seed", "resident"), SCHEDULES)
def test_lanes_may_meet_in_parts_of_a_warp(toys: Toys, seed: int, resident: int) -> None:
    out = poisoned((64,), torch.float32)
    toys["plain"]("half_warps", wanted(out), seed=seed, resident_blocks=resident)
    lanes = torch.arange(64)
    swapped = torch.where(lanes % 32 < 16, lanes ^ 1, lanes)
    expected = torch.where(lanes % 8 < 6, swapped[(lanes + 2).clamp(max=63)], swapped)
    assert torch.equal(out, expected.float())


def test_what_cuda_leaves_undefined_is_nan(toys: Toys) -> None:
    out = torch.zeros(128)
    toys["plain"]("uninitialised_shared", wanted(out))
    assert out.isnan().all()
    out = torch.zeros(32)
    toys["plain"]("undefined_source_lane", wanted(out))
    assert out[:16].isnan().all()


def test_an_order_that_nothing_promises(toys: Toys) -> None:
    out = poisoned((64,), torch.float32)
    toys["plain"]("missing_syncwarp", wanted(out))
    assert not torch.equal(out, torch.arange(64.0).view(-1, 2).flip(1).flatten())
    assert line_of("missing_syncwarp") in fault(toys["tsan"], "missing_syncwarp")


def test_blocks_overlap_when_several_are_resident(toys: Toys) -> None:
    def seen(seed: int, resident: int) -> set[float]:
        out = poisoned((4 * 64,), torch.float32)
        toys["plain"](
            "late_read", wanted(torch.tensor([7])), wanted(out), seed=seed, resident_blocks=resident
        )
        return set(out.tolist())

    assert seen(0, 1) == {7.0}
    assert any(seen(seed, 4) == {7.0, 8.0} for seed in range(2, 12))
    with pytest.raises(KernelFault, match="data race"):
        toys["tsan"]("late_read", wanted(torch.tensor([7])), wanted(poisoned((256,), torch.float32)))


def test_tsan_sees_a_plain_sum_over_blocks(toys: Toys) -> None:
    report = fault(toys["tsan"], "plain_sum")
    assert "data race" in report
    assert line_of("plain_sum") in report
    assert re.search(
        r"reported while this ran: kernel toys::plain_sum\(float\*\)\n  block \(\d,0,0\)", report
    )


def test_a_write_to_an_input(toys: Toys) -> None:
    with pytest.raises(KernelFault, match="a write to argument 0, which is an input"):
        toys["plain"]("write_to_input", given(torch.zeros(64)), wanted(torch.zeros(1)))


def test_accesses_outside_a_buffer(toys: Toys) -> None:
    out = torch.zeros(64)
    with pytest.raises(KernelFault, match="a write 0 bytes past the end of argument 0"):
        toys["plain"]("write_past_the_end", wanted(out), out.numel())
    for offset in (0, 4, 8, 12):
        with pytest.raises(KernelFault, match="use-after-poison") as caught:
            toys["asan+ubsan"]("write_past_the_end", wanted(out, offset), out.numel())
        assert line_of("write_past_the_end") in str(caught.value)
    with pytest.raises(KernelFault, match="use-after-poison") as caught:
        toys["asan+ubsan"]("read_before_the_start", given(torch.ones(64)), wanted(out))
    assert line_of("read_before_the_start") in str(caught.value)
    report = fault(toys["asan+ubsan"], "shared_subscript")
    assert "index 63 out of bounds for type 'float [63]'" in report
    assert line_of("shared_subscript") in report
    assert "heap-buffer-overflow" in fault(toys["asan+ubsan"], "missing_dynamic_shared")


def test_a_runner_goes_on_after_a_fault(toys: Toys) -> None:
    fault(toys["plain"], "divergent_barrier")
    assert run_total(toys["plain"], "total", 0, 1) == 999 * 500
