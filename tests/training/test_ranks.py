"""Several processes that share a batch compute what one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training import rank_program
from training.rank_program import CASES, make

from infogan_fast.errors import UserError
from infogan_fast.runtime.device import cpu_has_bf16
from infogan_fast.runtime.ranks import Ranks

TESTS = Path(__file__).parents[1]
EXACT = ["paper", "paper, one-stage", "default", "default, one-stage"]


def run(size: int, rows: int, cases: list[str], out: Path) -> list[dict[str, Any]]:
    """What each of so many processes computed."""
    out.mkdir()
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(rank_program.__file__))]
    common = [str(size), str(out / "group"), str(out), str(rows), *cases]
    processes = [
        subprocess.Popen([*command, str(rank), *common], env=environment, stderr=subprocess.PIPE)
        for rank in range(size)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors.decode()
    return [torch.load(out / f"{rank}.pt") for rank in range(size)]


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """By number of processes, of batches of 16 images."""
    folder = tmp_path_factory.mktemp("ranks")
    cases = [case for case in CASES if "smoothness" not in case and (case != "bfloat16" or cpu_has_bf16())]
    return {size: run(size, 16, EXACT if size == 4 else cases, folder / str(size)) for size in (1, 2, 4)}


def _compare(one: dict[str, Any], several: list[dict[str, Any]], tolerance: float) -> None:
    size = len(several)
    for name, whole in one["drawn"].items():
        for rank, own in enumerate(several):
            share = whole[rank::size]
            if name == "near":  # its direction is a gradient
                torch.testing.assert_close(own["drawn"][name], share, rtol=0, atol=1e-12)
            else:
                assert torch.equal(own["drawn"][name], share), f"{name} of rank {rank}"
    for name, tensor in one["state"].items():
        for rank, own in enumerate(several):
            _close(own["state"][name], tensor, tolerance, f"{name} of rank {rank}")
            assert torch.equal(own["state"][name], several[0]["state"][name]), f"{name} of rank {rank}"
    for name, value in one["metrics"].items():
        assert several[0]["metrics"][name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


def _close(own: Tensor, right: Tensor, tolerance: float, what: str) -> None:
    difference = (own.double() - right.double()).abs().max().item()
    size = max(1.0, right.double().abs().max().item())
    assert difference <= tolerance * size, f"{what}: {difference:.2e} of {size:.2e}"


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("case", EXACT)
def test_processes_draw_and_learn_what_one_does(
    case: str, size: int, computed: dict[int, list[dict[str, Any]]]
) -> None:
    """Batches to the bit; weights, moments and statistics after 20 updates within rounding."""
    _compare(computed[1][0][case], [each[case] for each in computed[size]], 1e-9)


def test_adversarial_copies_need_not_be_shared_out_evenly(tmp_path: Path) -> None:
    """Of 18 images the first 4 have one: of three processes, one has 2 and the others 1 each. They lie in the
    direction of a small gradient, whose rounding errors grow."""
    several = [each["smoothness"] for each in run(3, 18, ["smoothness"], tmp_path / "three")]
    one = run(1, 18, ["smoothness"], tmp_path / "one")
    assert [len(each["drawn"]["near"]) for each in several] == [2, 1, 1]
    _compare(one[0]["smoothness"], several, 1e-7)


@pytest.mark.parametrize("case", ["bfloat16", "reduced in bfloat16"])
def test_low_precision_changes_losses_by_rounding(
    case: str, computed: dict[int, list[dict[str, Any]]]
) -> None:
    """The losses of 20 updates differ by what roundings in another order make of them."""
    if case not in computed[1][0]:
        pytest.skip("this processor has no bfloat16 instructions")
    one, several = computed[1][0][case], [each[case] for each in computed[2]]
    for name, value in one["metrics"].items():
        assert several[0]["metrics"][name] == pytest.approx(value, abs=0.03), name
    for each in several[1:]:
        for name, tensor in each["state"].items():
            assert torch.equal(tensor, several[0]["state"][name]), name


def test_local_statistics_are_each_process_s_own(computed: dict[int, list[dict[str, Any]]]) -> None:
    first, second = (each["local"]["state"] for each in computed[2])
    name = "networks.trunk.fc_norm.running_mean"
    assert not torch.equal(first[name], second[name])
    weights = "networks.trunk.fc.weight"
    assert torch.equal(first[weights], second[weights])
    assert not torch.allclose(first[weights], computed[1][0]["local"]["state"][weights], rtol=0, atol=1e-6)


SMOOTHNESS = "--batch-size is 8 for 4 processes; with --smoothness each needs 4 images: give 16"
BOTH = (
    "--batch-size is 16 for 4 processes; with --batch-norm local and --smoothness each needs 8 images: give"
)
LOCAL = "--batch-size is 4 for 4 processes; with --batch-norm local each needs 2 images: give 8"


@pytest.mark.parametrize(
    ("case", "rows", "message"),
    [
        ("paper", 18, "--batch-size is 18; expected a multiple of the job's 4 processes, such as 16"),
        ("smoothness", 8, SMOOTHNESS),
        ("local", 4, LOCAL),
        ("local, smoothness", 16, BOTH),
    ],
)
def test_batches_that_cannot_be_shared_are_refused(case: str, rows: int, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        make(case, Ranks(0, 4), rows)


@pytest.mark.gpu
def test_a_captured_iteration_with_collectives_equals_eager() -> None:
    """One process in a group of its own: what NCCL adds to the graph. Two GPUs were never tried."""
    from torch import distributed

    distributed.init_process_group(
        "cpu:gloo,cuda:nccl",
        store=distributed.TCPStore("127.0.0.1", 0, is_master=True),  # type: ignore[attr-defined]
        rank=0,
        world_size=1,
        device_id=torch.device("cuda:0"),
    )
    try:
        states = []
        for graph in (False, True):
            step = rank_program.make_on("cuda", Ranks(0, 1, joined=True), graph)
            for _ in range(3):
                step()
            states.append([tensor.clone() for tensor in step.state.tensors()])
            del step  # and its graph, before the group that its messages belong to
        for eager, captured in zip(*states, strict=True):
            assert torch.equal(eager, captured)
    finally:
        distributed.destroy_process_group()
