"""Line coverage of csrc/cuda and csrc/math when the kernels run on the CPU: every line of a kernel runs."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from cuda_on_cpu import tables
from cuda_on_cpu.cases import DTYPES, gather_cases, loss_cases, mixed_precision_cases, sample_cases
from cuda_on_cpu.checks import Schedule, check_gather_images, check_infogan_loss, check_sample_latents
from cuda_on_cpu.harness import COVERAGE, CSRC, HERE, Runner, compile_runner, object_of, run_tool

ROWS = (1, 33, 129)
SCHEDULE = Schedule(2, 2)


def run_sample_latents(runner: Runner) -> None:
    for dtype in DTYPES:
        for case in sample_cases(dtype, ROWS):
            check_sample_latents(runner, case, [SCHEDULE])


def run_gather_images(runner: Runner) -> None:
    for dtype in DTYPES:
        for case in gather_cases(dtype):
            check_gather_images(runner, case, [SCHEDULE])


def run_infogan_loss(runner: Runner) -> None:
    for dtype in DTYPES:
        for case in loss_cases(dtype, ROWS):
            check_infogan_loss(runner, case, [SCHEDULE])
    for case in mixed_precision_cases(ROWS):
        check_infogan_loss(runner, case, [SCHEDULE])


RUNS: dict[str, Callable[[Runner], None]] = {
    "sample_latents": run_sample_latents,
    "gather_images": run_gather_images,
    "infogan_loss": run_infogan_loss,
}


def counts_of(operator: str, folder: Path) -> dict[str, dict[int, int]]:
    """How often each line of each file of csrc ran, summed over the instances of templates."""
    case = HERE / f"case_{operator}.cpp"
    environment = {"GCOV_PREFIX": str(folder), "GCOV_PREFIX_STRIP": "99"}
    with Runner(COVERAGE, compile_runner(COVERAGE, (case,)), environment=environment) as runner:
        RUNS[operator](runner)
    notes = object_of(COVERAGE, case).with_suffix(".gcno")
    shutil.copy(notes, folder)
    report = json.loads(run_tool(["gcov", "--json-format", "--stdout", notes.stem + ".gcda"], cwd=folder))
    counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for file in report["files"]:
        if file["file"].startswith("csrc/"):
            name = os.path.normpath(file["file"])
            for line in file["lines"]:
                counts[name][line["line_number"]] += line["count"]
    return counts


@pytest.mark.skipif(shutil.which("gcov") is None, reason="gcov is not installed: coverage was NOT measured")
def test_every_line_of_the_kernels_runs(tmp_path: Path) -> None:
    total: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for operator in RUNS:
        folder = tmp_path / operator
        folder.mkdir()
        for file, lines in counts_of(operator, folder).items():
            for number, count in lines.items():
                total[file][number] += count
    missed: dict[str, list[int]] = {}
    for file, lines in sorted(total.items()):
        never = sorted(number for number, count in lines.items() if count == 0)
        share = 100 * (1 - len(never) / len(lines))
        tables.add(
            "line coverage of the kernels on the CPU",
            f"{file:<32} {len(lines) - len(never):4} of {len(lines):4} lines  {share:6.2f} %"
            + (f"   never run: {', '.join(map(str, never))}" if never else ""),
        )
        if never:
            missed[file] = never
    kernels = {f"csrc/cuda/{path.name}" for path in (CSRC / "cuda").glob("*.cuh")}
    assert kernels <= total.keys(), f"not compiled for the CPU: {sorted(kernels - total.keys())}"
    assert not missed, f"lines that no case runs: {missed}"
