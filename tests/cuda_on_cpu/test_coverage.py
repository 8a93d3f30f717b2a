"""Line coverage of the kernels when they run on the CPU: every line of a kernel runs."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from cuda_on_cpu import tables
from cuda_on_cpu.checks import DTYPES, Schedule
from cuda_on_cpu.harness import COVERAGE, CSRC, compile_runner, object_of, run_tool
from cuda_on_cpu.kernels import KernelTests, kernel_tests
from cuda_on_cpu.runner import Runner

ROWS = (1, 33, 129)
SCHEDULE = Schedule(2, 2)


def counts_of(tests: KernelTests, folder: Path) -> dict[str, dict[int, int]]:
    """How often each line of each file of csrc ran, summed over the instances of templates."""
    environment = {"GCOV_PREFIX": str(folder), "GCOV_PREFIX_STRIP": "99"}
    with Runner(COVERAGE, compile_runner(COVERAGE, (tests.launcher,)), environment=environment) as runner:
        for dtype in DTYPES:
            for case in tests.cases(dtype, ROWS):
                tests.check(runner, case, [SCHEDULE])
    notes = object_of(COVERAGE, tests.launcher).with_suffix(".gcno")
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
    for tests in kernel_tests():
        folder = tmp_path / tests.operator
        folder.mkdir()
        for file, lines in counts_of(tests, folder).items():
            for number, count in lines.items():
                total[file][number] += count
    missed: dict[str, list[int]] = {}
    for file, lines in sorted(total.items()):
        never = sorted(number for number, count in lines.items() if count == 0)
        share = 100 * (1 - len(never) / len(lines))
        tables.add(
            "line coverage of the kernels on the CPU",
            f"{file:<36} {len(lines) - len(never):4} of {len(lines):4} lines  {share:6.2f} %"
            + (f"   never run: {', '.join(map(str, never))}" if never else ""),
        )
        if never:
            missed[file] = never
    kernels = {f"csrc/{path.relative_to(CSRC)}" for path in CSRC.rglob("*.cuh")}
    assert kernels <= total.keys(), f"not compiled for the CPU: {sorted(kernels - total.keys())}"
    assert not missed, f"lines that no case runs: {missed}"
