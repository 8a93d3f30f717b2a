"""The part of a run's page that shows what ``evaluate --json`` wrote; see docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infogan_fast.analysis.report import SCORES, incomparable, number, ranged
from infogan_fast.analysis.run import Run
from infogan_fast.latents import LatentSpec
from infogan_fast.sharing.page import Table

#: Labels and categories of a matrix that is still read; of more, the page lists the matches alone.
MOST_LABELS, MOST_CATEGORIES = 20, 40
_MEASURES_SHOWN = 3


@dataclass(frozen=True)
class Matrix:
    """Images by category and label.

    rows: of each category its name, and for each label the count, the share of the row in percent, and
        whether the category is matched to the label.
    """

    code: str
    labels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[int, int, bool]]]]


@dataclass(frozen=True)
class EvaluationPart:
    """What the page shows of an evaluation.

    about: sentences on what was evaluated.
    names: the label that each category of c1 is matched to, or None where it is to none.
    """

    about: Sequence[str]
    tables: Sequence[Table]
    matrices: Sequence[Matrix]
    names: Sequence[str | None] | None


def not_of(found: Mapping[str, Any], run: Run) -> str | None:
    """Why an evaluation is not of this run's weights, as the end of a sentence about its file; None where it
    is. Those of earlier versions have no digest.

    Raises:
        LookupError, TypeError, AttributeError: it is damaged.
    """
    latents, updates = found["latents"], found["updates"]
    if (latents, updates) != (str(run.spec), run.updates):
        return (
            f"is of {updates:,} updates with the latents {latents}, and this is a run of {run.updates:,} "
            f"with {run.spec}"
        )
    if found.get("digest", run.digest) != run.digest:
        return "is of other weights: of another run, or of one that was trained again"
    return None


def evaluation_part(found: Mapping[str, Any], spec: LatentSpec) -> EvaluationPart:
    """The tables of an evaluation.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it is damaged.
    """
    codes, data = found["codes"], found["data"]
    if list(codes) != list(spec.code_names):
        raise ValueError(f"it has the codes {', '.join(codes)}")
    seen = "held out from training" if data["held_out"] else f"training images ({data['why_not']})"
    about = [
        f"Evaluated after {found['updates']:,} updates, with the generator's {found['generator']}, on "
        f"{data['images']:,} images: {data['source']}, {seen}."
    ]
    categorical = {name: code for name, code in codes.items() if code["kind"] == "categorical"}
    others = {name: code for name, code in codes.items() if name not in categorical}
    matched = {name: code for name, code in categorical.items() if "table" in code}
    tables, matrices = [], []
    if categorical:
        tables.append(_categorical(categorical, matched))
    for name, code in matched.items():
        counts, labels, assignment = code["table"], code["labels"], code["assignment"]
        if len(counts) != len(assignment) or {len(row) for row in counts} != {len(labels)}:
            raise ValueError(f"the table of {name} has another shape than its labels")
        if len(labels) <= MOST_LABELS and len(counts) <= MOST_CATEGORIES:
            matrices.append(_matrix(name, code))
        else:
            tables.append(_matches(name, code))
    if others:
        tables += _others(others)
    if scores := found["disentanglement"]:
        tables.append(_disentanglement(scores))
    if quality := found["quality"]:
        tables.append(_quality(quality))
    first = spec.categorical_codes[0].name if spec.categorical_codes else None
    names = codes[first].get("assignment") if first is not None else None
    if names is not None and len(names) != spec.categorical_codes[0].size:
        raise ValueError(f"it matches {len(names)} categories")
    return EvaluationPart(about, tables, matrices, names)


def _categorical(codes: Mapping[str, Any], matched: Mapping[str, Any]) -> Table:
    keys = {"accuracy": "accuracy", "nmi": "NMI", "ari": "ARI"} if matched else {}
    rows = []
    for name, code in codes.items():
        scores = [ranged(code[key], code["intervals"][key]) if key in code else "" for key in keys]
        rows.append([name, ranged(code["L"], code["intervals"]["L"]), number(code["H"]), *scores])
    for name, code in matched.items():
        rows.append(
            [
                f"{name} by chance",
                number(code["chance"]["L"]),
                "",
                *(number(code["chance"][key]) for key in keys),
            ]
        )
    learned = {name: prior for name, code in codes.items() if (prior := code.get("learned_prior"))}
    priors = [f"{name} learned the prior {' '.join(map(number, prior))}." for name, prior in learned.items()]
    return Table(
        "Categorical codes",
        ["code", "L_I, nats", "H, nats", *keys.values()],
        rows,
        ["± is half of the 95 % interval.", *priors],
    )


def _matrix(name: str, code: Mapping[str, Any]) -> Matrix:
    rows = []
    for category, (assigned, counts) in enumerate(zip(code["assignment"], code["table"], strict=True)):
        total = max(1, sum(counts))
        cells = [
            (int(n), round(100 * n / total), label == assigned)
            for label, n in zip(code["labels"], counts, strict=True)
        ]
        rows.append((f"{name} = {category}", cells))
    return Matrix(name, [str(label) for label in code["labels"]], rows)


def _matches(name: str, code: Mapping[str, Any]) -> Table:
    rows = []
    for category, (label, counts) in enumerate(zip(code["assignment"], code["table"], strict=True)):
        if label is not None:
            share = counts[code["labels"].index(label)] / max(1, sum(counts))
            rows.append([f"{name} = {category}", str(label), f"{share:.2f}"])
    return Table(f"The label of each category of {name}", ["category", "label", "share of its images"], rows)


def _others(codes: Mapping[str, Any]) -> list[Table]:
    factors = list(next(iter(codes.values())).get("factors", {}))
    rows = []
    for name, code in codes.items():
        fitted = number(code.get("L_fitted"))
        cells = [name, code["kind"], ranged(code["L"], code["intervals"]["L"]), fitted, number(code["H"])]
        for factor in factors:
            read = code["factors"][factor]
            cells.append(f"{ranged(read['rho'], read['interval'])} ({number(read['within_label'])})")
        rows.append(cells)
    notes = []
    if factors:
        chance = number(next(iter(codes.values()))["factors"][factors[0]]["chance"])
        notes.append(
            f"reads: ρ of Q's mean with the factor (mean |ρ| within a label); |ρ| by chance {chance}."
        )
    header = [
        "code",
        "kind",
        "L_I, nats",
        "L_I fitted, nats",
        "H, nats",
        *(f"reads {factor}" for factor in factors),
    ]
    tables = [Table("Other codes", header, rows, notes, (1,))]
    swept = {name: code for name, code in codes.items() if code.get("sweeps")}
    if swept:
        rows = []
        for name, code in swept.items():
            strongest = sorted(code["sweeps"], key=lambda measure: -(code["sweeps"][measure]["mean"] or 0.0))
            if (own := code["moves"]) is not None:  # the measure that it is called after comes first
                strongest = [own, *(measure for measure in strongest if measure != own)]
            cells = [name]
            for measure in strongest[:_MEASURES_SHOWN]:
                sweep = code["sweeps"][measure]
                agreeing = f"({sweep['agreeing']}/{sweep['categories']})"
                cells.append(f"{measure} {ranged(sweep['mean'], sweep['interval'])} {agreeing}")
            rows.append(cells + [""] * (1 + _MEASURES_SHOWN - len(cells)))
        chance = number(next(iter(next(iter(swept.values()))["sweeps"].values()))["chance"])
        note = (
            "Mean |ρ| over categories as the code is swept (categories that agree in sign); by chance "
            f"{chance}."
        )
        tables.append(
            Table("What each code moves", ["code", "most", "second", "third"], rows, [note], (1, 2, 3))
        )
    return tables


def _disentanglement(scores: Mapping[str, Any]) -> Table:
    rows = [
        [name, ranged(scores[key], scores["intervals"].get(key)), number(scores["chance"].get(key))]
        for key, name in SCORES.items()
    ]
    notes = [f"No {SCORES.get(key, key)}: {why}." for key, why in scores["missing"].items()]
    if remark := incomparable(scores):
        notes.append(f"{remark[:1].upper()}{remark[1:]}.")
    caption = f"All codes together, on {', '.join(map(str, scores['factors']))}"
    return Table(caption, ["score", "value", "by chance"], rows, notes)


def _quality(quality: Mapping[str, Any]) -> Table:
    names = list(quality["made"])
    rows = []
    for title, key in (("generated", "made"), ("training images", "real")):
        found = quality[key]
        rows.append([title, *(ranged(found[name]["value"], found[name]["interval"]) for name in names)])
    notes = [f"{quality['images']:,} generated images next to as many real ones, in {quality['features']}."]
    if "share_read" in quality:
        read = quality["share_read"]
        real = "" if read.get("of_real") is None else f"; of real images {number(read['of_real'])}"
        notes.append(
            f"Read as the matched label: {ranged(read['mean'], read['interval'])}, the worst "
            f"{number(read['worst'])}, by chance {number(read['chance'])}{real}."
        )
    return Table("Quality of generated images", ["images", *names], rows, notes)
