"""Figures of runs that differ in their seed: by run, over all runs, and as text."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from infogan_fast.analysis.report import aligned, number

#: Fewest runs to select from: of two, each agrees with the other equally.
MIN_RUNS = 3
_MAX_COLUMNS = 12  # seeds that fit a terminal
_SCORES = ("mig", "sap", "dci_disentanglement", "factor_vae", "beta_vae")
_GREY_MEASURES, _COLOUR_MEASURES = ["slant", "thickness"], ["warmth", "brightness"]
_STATISTICS = ("mean", "deviation", "min", "max")


def figures(evaluation: dict[str, Any]) -> dict[str, float]:
    """The figures of an evaluation that are comparable between seeds, by name.

    Every code has its L_I in nats, and categorical codes with labels accuracy and NMI. Which continuous code
    has which meaning differs between seeds, so each measure (``moves ...``) and each known factor (``reads
    ...``) has the |rho| of the code assigned to it. The assignment is one to one and has the largest total.
    """
    result = {}
    codes = evaluation["codes"]
    for name, code in codes.items():
        if code["kind"] == "categorical":
            for key in ("accuracy", "nmi"):
                if key in code:
                    result[f"{name} {key}"] = code[key]
        result[f"{name} L_I"] = code["L"]
    for part, value, verb in (("sweeps", "mean", "moves"), ("factors", "rho", "reads")):
        found = [code[part] for code in codes.values() if part in code]
        if not found:
            continue
        targets = list(found[0])
        if part == "sweeps":  # the two measures that most runs have a code for
            targets = _GREY_MEASURES if "slant" in targets else _COLOUR_MEASURES
        strength = np.array([[abs(code[target][value] or 0.0) for target in targets] for code in found])
        assigned = zip(*linear_sum_assignment(strength, maximize=True), strict=True)
        for j, i in sorted((j, i) for i, j in assigned):
            result[f"{verb} {targets[j]}"] = float(strength[i, j])
    if scores := evaluation["disentanglement"]:
        result |= {name: scores[name] for name in _SCORES if scores[name] is not None}
    if quality := evaluation.get("quality"):
        result |= {name: quality["made"][name]["value"] for name in ("coverage", "fid")}
        if "share_read" in quality:
            result["share read"] = quality["share_read"]["mean"]
    return result


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """``mean``, sample ``deviation`` (0 for one seed), ``min`` and ``max`` of each figure."""
    result = {}
    for name in rows[0]["figures"] if rows else []:
        values = [row["figures"][name] for row in rows if name in row["figures"]]
        result[name] = {
            "mean": statistics.fmean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
            "min": min(values),
            "max": max(values),
        }
    return result


def report(result: dict[str, Any], folder: Path) -> str:
    """The contents of the folder's seeds.json as text."""
    finished = [row for row in result["seeds"] if "figures" in row]
    lines = _table(finished, result["summary"]) if finished else []
    for row in result["seeds"]:
        if "failed" in row:
            lines.append(f"seed {row['seed']} FAILED: {row['failed']}")
        elif row["alarms"]:
            lines.append(f"seed {row['seed']} ended with alarms: {', '.join(row['alarms'])}")
    if result["selected"] is not None:
        selected = next(row for row in finished if row["seed"] == result["selected"])
        lines.append(f"selected without labels, by agreement with the others: {folder / selected['run']}")
    elif len(finished) >= MIN_RUNS:
        lines.append("none selected: the runs were not compared")
    elif finished:
        lines.append(f"none selected: agreement needs at least {MIN_RUNS} finished runs")
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]], summary: dict[str, dict[str, float]]) -> list[str]:
    """A line per figure, with the seeds as columns if they fit a terminal."""
    shown = rows if len(rows) <= _MAX_COLUMNS else []
    table = [["seed", *(str(row["seed"]) for row in shown), *_STATISTICS]]
    for name, found in summary.items():
        cells = [number(row["figures"].get(name)) for row in shown]
        table.append([name, *cells, *(number(found[key]) for key in _STATISTICS)])
    blank = [""] * len(_STATISTICS)
    table.append(["agreement", *(number(row.get("agreement")) for row in shown), *blank])
    table.append(["minutes", *(f"{row['seconds'] / 60:.1f}" for row in shown), *blank])
    return aligned(table)


def progress_line(row: dict[str, Any], folder: Path) -> str:
    """One line about a seed that has finished or failed."""
    seed = row["seed"]
    if "failed" in row:
        return f"seed {seed:<4} FAILED: {row['failed']}; see {folder / f'seed-{seed}.log'}"
    shown = ", ".join(f"{name} {number(value)}" for name, value in list(row["figures"].items())[:6])
    return f"seed {seed:<4} {shown}; {row['seconds'] / 60:.1f} minutes"
