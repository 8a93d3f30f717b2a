"""Scores as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infogan_fast.analysis.tables import FIT_ROWS, TEST_ROWS

_MAX_TABLE_LABELS = 20  # columns that fit a terminal


def report(result: dict[str, Any]) -> str:
    """The result of :func:`infogan_fast.analysis.evaluation.evaluate` as text."""
    data, codes = result["data"], result["codes"]
    seen = "held out" if data["held_out"] else f"TRAINING IMAGES ({data['why_not']})"
    lines = [
        f"run        {result['run']}, {result['updates']:,} updates; generator: {result['generator']}",
        f"images     {data['source']}: {seen}",
    ]
    categorical = {name: code for name, code in codes.items() if code["kind"] == "categorical"}
    others = {name: code for name, code in codes.items() if name not in categorical}
    if categorical:
        lines += ["", *_categorical_lines(categorical)]
    if others:
        lines += ["", *_other_lines(others)]
    if result["disentanglement"]:
        lines += ["", *_disentanglement_lines(result["disentanglement"])]
    return "\n".join(lines)


def _categorical_lines(codes: dict[str, dict[str, Any]]) -> list[str]:
    matched = {name: code for name, code in codes.items() if "table" in code}
    rows = [["", "L_I", "H nats", *(["accuracy", "NMI", "ARI"] if matched else [])]]
    for name, code in codes.items():
        scores = [code[key] for key in ("L", "H", "accuracy", "nmi", "ari") if key in code]
        rows.append([name, *map(number, scores)])
    lines = ["categorical codes", *aligned(rows)]
    for name, code in matched.items():
        lines += ["", *_label_lines(name, code)]
    return lines


def _label_lines(name: str, code: dict[str, Any]) -> list[str]:
    """The table of categories and labels or, if that is too wide, only the label of each category."""
    labels, counts = code["labels"], code["table"]
    if len(labels) > _MAX_TABLE_LABELS:
        lines = [f"{name}: the label of each category (the share of its images that have it)"]
        for category, (label, row) in enumerate(zip(code["assignment"], counts, strict=True)):
            if label is not None:
                lines.append(f"  {category}: {label} ({row[labels.index(label)] / max(1, sum(row)):.2f})")
        return lines
    rows = [["", *labels]]
    for category, (assigned, row) in enumerate(zip(code["assignment"], counts, strict=True)):
        shown = [f"[{n}]" if label == assigned else f"{n} " for label, n in zip(labels, row, strict=True)]
        rows.append([f"{name} = {category}", *shown])
    return [f"images by {name} and label, [matched]", *aligned(rows)]


def _other_lines(codes: dict[str, dict[str, Any]]) -> list[str]:
    factors = list(next(iter(codes.values())).get("factors", {}))
    sweeps = next((list(code["sweeps"]) for code in codes.values() if "sweeps" in code), [])
    titles = [*(f"moves {sweep}" for sweep in sweeps), *(f"reads {factor}" for factor in factors)]
    rows = [["", "kind", "L_I", "H nats", *titles]]
    for name, code in codes.items():
        cells = [name, code["kind"], number(code["L"]), number(code["H"])]
        for sweep in sweeps:
            found = code.get("sweeps", {}).get(sweep)
            agree = f" ({found['agreeing']}/{found['categories']})" if found else ""
            cells.append(number(found["mean"] if found else None) + agree)
        for factor in factors:
            found = code["factors"][factor]
            cells.append(f"{number(found['rho'])} ({number(found['within_label'])})")
        rows.append(cells)
    lines = ["other codes", *aligned(rows)]
    if sweeps:
        lines.append(
            "  moves: mean |rho| over categories as the code is swept (categories that agree in sign)"
        )
    if factors:
        lines.append("  reads: rho of Q's mean with the factor (mean |rho| within a label)")
    return lines


def _disentanglement_lines(scores: dict[str, Any]) -> list[str]:
    parts = ("disentanglement", "completeness", "informativeness")
    names = {"MIG": "mig", "SAP": "sap", "FactorVAE": "factor_vae", "beta-VAE": "beta_vae"}
    lines = [
        f"all codes together, on {', '.join(scores['factors'])}",
        "  " + "   ".join(f"{name} {number(scores[key])}" for name, key in names.items()),
        f"  DCI {' / '.join(parts)} {' / '.join(number(scores[f'dci_{part}']) for part in parts)}",
    ]
    if scores["rows"] != [FIT_ROWS, TEST_ROWS]:
        lines.append(
            f"  on {sum(scores['rows']):,} images: not comparable with published scores, which use "
            f"{FIT_ROWS + TEST_ROWS:,}"
        )
    return lines


def number(value: float | None) -> str:
    """Three decimals, or a dash for None."""
    return "-" if value is None else f"{value:.3f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with equally many cells as lines; the first column is aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
