"""Scores as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infogan_fast.analysis.tables import FIT_ROWS, TEST_ROWS

_MAX_TABLE_LABELS = 20  # columns that fit a terminal
#: Disentanglement scores by their key in the JSON: what they are called.
SCORES = {
    "mig": "MIG",
    "sap": "SAP",
    "factor_vae": "FactorVAE",
    "beta_vae": "beta-VAE",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
}
_MEASURES_SHOWN = 3


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
    if result["quality"]:
        lines += ["", *_quality_lines(result["quality"])]
    return "\n".join(lines)


def _categorical_lines(codes: dict[str, dict[str, Any]]) -> list[str]:
    matched = {name: code for name, code in codes.items() if "table" in code}
    keys = {"accuracy": "accuracy", "nmi": "NMI", "ari": "ARI"} if matched else {}
    rows = [["", "L_I", "H nats", *keys.values()]]
    for name, code in codes.items():
        scores = [ranged(code[key], code["intervals"][key]) for key in keys if key in code]
        rows.append([name, ranged(code["L"], code["intervals"]["L"]), number(code["H"]), *scores])
    for name, code in matched.items():
        rows.append([f"{name} by chance", "0", "", *(number(code["chance"][key]) for key in keys)])
    lines = ["categorical codes, with 95 % intervals", *aligned(rows)]
    for name, code in codes.items():
        if prior := code.get("learned_prior"):
            lines.append(f"  {name} learned the prior {' '.join(number(p) for p in prior)}")
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
    rows = [["", "kind", "L_I", "H nats", *(f"reads {factor}" for factor in factors)]]
    for name, code in codes.items():
        cells = [name, code["kind"], ranged(code["L"], code["intervals"]["L"]), number(code["H"])]
        for factor in factors:
            found = code["factors"][factor]
            cells.append(f"{ranged(found['rho'], found['interval'])} ({number(found['within_label'])})")
        rows.append(cells)
    lines = ["other codes", *aligned(rows)]
    if factors:
        found = next(iter(codes.values()))["factors"][factors[0]]
        chance = number(found["chance"])
        if "chance_within_label" in found:  # not of an earlier version
            chance += f" ({number(found['chance_within_label'])})"
        lines.append(
            f"  reads: rho of Q's mean with the factor (mean |rho| within a label); |rho| by chance {chance}"
        )
    swept = {name: code for name, code in codes.items() if code.get("sweeps")}
    if swept:
        lines += ["", *_sweep_lines(swept)]
    return lines


def _sweep_lines(codes: dict[str, dict[str, Any]]) -> list[str]:
    """What each code moves most."""
    rows = [["", "moves", *[""] * (_MEASURES_SHOWN - 1)]]
    for name, code in codes.items():
        strongest = sorted(code["sweeps"].items(), key=lambda found: -(found[1]["mean"] or 0.0))
        if (own := code["moves"]) is not None:  # the measure that it is called after comes first
            strongest = [(own, code["sweeps"][own]), *(found for found in strongest if found[0] != own)]
        cells = []
        for measure, found in strongest[:_MEASURES_SHOWN]:
            agreeing = f"({found['agreeing']}/{found['categories']})"
            cells.append(f"{measure} {ranged(found['mean'], found['interval'])} {agreeing}")
        rows.append([name, *cells, *[""] * (_MEASURES_SHOWN - len(cells))])
    chance = next(iter(next(iter(codes.values()))["sweeps"].values()))["chance"]
    return [
        *aligned(rows),
        "  moves: mean |rho| over categories as the code is swept (categories that agree in sign); by chance "
        f"{number(chance)}",
    ]


def _disentanglement_lines(scores: dict[str, Any]) -> list[str]:
    rows = [["", "score", "by chance"]]
    for key, name in SCORES.items():
        shown = ranged(scores[key], scores["intervals"].get(key))
        rows.append([name, shown, number(scores["chance"].get(key))])
    lines = [f"all codes together, on {', '.join(scores['factors'])}", *aligned(rows)]
    lines += [f"  no {key}: {why}" for key, why in scores["missing"].items()]
    if remark := incomparable(scores):
        lines.append(f"  {remark}")
    return lines


def incomparable(scores: Mapping[str, Any]) -> str:
    """Why disentanglement scores cannot be compared with published ones; empty where they can."""
    if scores["rows"] == [FIT_ROWS, TEST_ROWS]:
        return ""
    return (
        f"on {sum(scores['rows']):,} images: not comparable with published scores, which use "
        f"{FIT_ROWS + TEST_ROWS:,}"
    )


def _quality_lines(quality: dict[str, Any]) -> list[str]:
    names = list(quality["made"])
    rows = [["", *names]]
    for title, key in (("generated", "made"), ("training images", "real")):
        found = quality[key]
        rows.append([title, *(ranged(found[name]["value"], found[name]["interval"]) for name in names)])
    lines = [
        f"{quality['images']:,} generated images next to as many real ones, in {quality['features']}",
        *aligned(rows),
    ]
    if "share_read" in quality:
        read = quality["share_read"]
        real = "" if read["of_real"] is None else f"; of real images {number(read['of_real'])}"
        lines.append(
            f"  read as the matched label: {ranged(read['mean'], read['interval'])}, the worst "
            f"{number(read['worst'])}, by chance {number(read['chance'])}{real}"
        )
    return lines


def ranged(value: float | None, interval: Sequence[float] | None) -> str:
    """A score and how far its interval reaches, which ends at the score's bounds."""
    if value is None or interval is None:
        return number(value)
    return f"{value:.3f}±{max(value - interval[0], interval[1] - value):.3f}"


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
