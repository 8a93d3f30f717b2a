"""``python -m infogan_fast.evaluate RUN``: what the codes of a trained InfoGAN mean, in figures.

Three questions, of which each takes what it needs and is left out where the data or the codes lack it:

* Does Q read known labels and factors from real images that were held out? (:func:`cluster_scores`,
  :func:`factor_scores`)
* How much of each code does Q read back from generated images? (:func:`information`)
* What does each continuous code change in generated images? (:func:`sweep_scores`)

:func:`evaluate` puts the answers together, in values that JSON has; what is not defined is None.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infogan_fast import ops
from infogan_fast.analysis import metrics, morphology
from infogan_fast.analysis.run import Run, add_data_arguments, add_run_arguments, in_batches, load_run
from infogan_fast.cli import Parser
from infogan_fast.data import ImageSet
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.bounds import code_bounds, loss_names
from infogan_fast.pictures.samples import draw_inputs, make_images, with_codes

SAMPLES = 10_000
SWEEP_REACH, SWEEP_STEPS, SWEEP_NOISES = 2.0, 11, 10

#: Images of `strokes`, which can be drawn at will: what the scores on known factors take, 10,000 to fit and
#: 5,000 to test on.
_FIT, _TEST = 10_000, 5_000
_LEAST_ROWS = 100
_TABLE_LABELS = 20  # more columns do not fit a terminal

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reading:
    """What Q reads from N images: its posterior's mode or mean of each code."""

    categorical: Ints
    """[N, n_categorical]: the likeliest category."""
    continuous: Floats
    """[N, n_continuous]: the mean of a uniform or normal code, the probability of a 1 of a Bernoulli one."""


def read_codes(spec: LatentSpec, q_output: Tensor) -> Reading:
    """The codes in Q's output [N, q_dim], with or without log-variances."""
    ends = np.cumsum((0, *spec.categorical_sizes)).tolist()
    modes = [q_output[:, a:b].argmax(1) for a, b in itertools.pairwise(ends)]
    means = q_output[:, ends[-1] : ends[-1] + spec.n_continuous].double()
    coins = [kind == "bernoulli" for kind in spec.continuous_kinds]
    means[:, coins] = means[:, coins].sigmoid()
    categorical = torch.stack(modes, 1).numpy() if modes else np.zeros((len(q_output), 0), np.int64)
    return Reading(categorical, means.numpy())


def read_images(run: Run, encoder: nn.Module, images: Tensor) -> Reading:
    """The codes that Q reads from images uint8 [N, C, S, S], by :meth:`Run.encoder`."""
    return read_codes(run.spec, in_batches(encoder, images, run.device))


def cluster_scores(spec: LatentSpec, reading: Reading, data: ImageSet) -> dict[str, dict[str, Any]]:
    """By categorical code, how its categories and the labels go together.

    ``accuracy``, ``nmi`` and ``ari`` as in :func:`metrics.match_clusters`; ``labels``, the names of those
    that occur; ``table``, counts [categories][labels]; ``assignment``, the label of each category or None.
    Empty for data without labels.
    """
    if data.labels is None:
        return {}
    values, numbers = np.unique(data.labels.numpy(), return_inverse=True)
    names = [data.label_names[v] if data.label_names else str(v) for v in values]
    result = {}
    for i, size in enumerate(spec.categorical_sizes):
        match = metrics.match_clusters(reading.categorical[:, i], numbers)
        table = np.zeros((size, len(names)), np.int64)
        table[np.unique(reading.categorical[:, i])] = match.table
        assigned = [match.assignment.get(category) for category in range(size)]
        result[spec.code_names[i]] = {
            "accuracy": match.accuracy,
            "nmi": match.nmi,
            "ari": match.ari,
            "labels": names,
            "table": table.tolist(),
            "assignment": [None if label is None else names[label] for label in assigned],
        }
    return result


def factor_scores(
    spec: LatentSpec, reading: Reading, data: ImageSet, *, seed: int = 0
) -> tuple[dict[str, Any] | None, dict[str, dict[str, Any]]]:
    """Disentanglement scores on data with known factors, and each continuous code's correlations with them.

    The representation is the :class:`Reading`, a column a code. Scores are those of :mod:`metrics`, on two
    thirds of the images to fit and the rest to test, 10,000 and 5,000 at most, which is what published ones
    take: with fewer images they do not compare. FactorVAE and beta-VAE draw groups from these images,
    with a continuous factor fixed to a twentieth of its range.

    Returns the scores, and by code name and continuous factor ``rho``, Spearman's, over all images, and
    ``within_label``, the mean over labels of |rho| among their images. None and empty where no factors are
    known.

    Raises:
        UserError: there are fewer than 100 images.
    """
    if not data.factors:
        return None, {}
    count = len(reading.continuous)
    if count < _LEAST_ROWS:
        raise UserError(f"--images is {count}; scores on known factors take at least {_LEAST_ROWS}")
    names = list(data.factors)
    discrete = [not factor.is_floating_point() for factor in data.factors.values()]
    factors = np.stack([factor.double().numpy() for factor in data.factors.values()], 1)

    by_code: dict[str, dict[str, Any]] = {}
    measured = [i for i, named in enumerate(discrete) if not named]
    rho = metrics.rank_correlations(reading.continuous, factors) if spec.n_continuous else np.zeros((0, 0))
    within = np.abs(_within_labels(reading.continuous, factors, data.labels)) if spec.n_continuous else rho
    for i, code in enumerate(spec.code_names[spec.n_categorical :]):
        by_code[code] = {
            names[j]: {"rho": float(rho[i, j]), "within_label": float(within[i, j])} for j in measured
        }

    codes = np.concatenate([reading.categorical.astype(np.float64), reading.continuous], 1)
    modes = [True] * spec.n_categorical + [False] * spec.n_continuous
    fit = min(_FIT, count * 2 // 3)
    test = min(_TEST, count - fit)
    rows: dict[str, Any] = {"train": fit, "test": test, "seed": seed, "discrete_factors": discrete}
    sampler = metrics.table_sampler(codes, factors, discrete_factors=discrete)
    gap = metrics.mig(
        codes,
        factors,
        discrete_codes=modes,
        discrete_factors=discrete,
        samples=min(_FIT, count),
        seed=seed,
    )
    sap, dci = metrics.sap(codes, factors, **rows), metrics.dci(codes, factors, **rows)
    votes = metrics.factor_vae_score(sampler, len(names), discrete_codes=modes, seed=seed)
    return {
        "factors": names,
        "rows": [fit, test],
        "mig": gap.score,
        "mig_by_factor": gap.gaps.tolist(),
        "sap": sap.score,
        "sap_by_factor": sap.gaps.tolist(),
        "dci_disentanglement": dci.disentanglement,
        "dci_completeness": dci.completeness,
        "dci_informativeness": dci.informativeness,
        "factor_vae": votes.score,
        "beta_vae": metrics.beta_vae_score(sampler, len(names), discrete_codes=modes, seed=seed),
    }, by_code


def _within_labels(codes: Floats, factors: Floats, labels: Tensor | None) -> Floats:
    """Mean over labels of |rho| of each code with each factor, [D, m]."""
    groups = np.zeros(len(codes), np.int64) if labels is None else labels.numpy()
    rows = [groups == label for label in np.unique(groups)]
    # Of two points |rho| is 1 whatever they are.
    each = [np.abs(metrics.rank_correlations(codes[r], factors[r])) for r in rows if r.sum() > 2]
    return np.mean(each, 0)


@torch.no_grad()
def information(run: Run, *, samples: int = SAMPLES, seed: int = 0) -> dict[str, dict[str, Any]]:
    """By code, in nats, ``L``, the lower bound of its mutual information with the image, H(c) +
    E[log Q(c|G(z, c))], and ``H``, the entropy of its prior; of uniform and normal codes also ``L_fitted``,
    the bound that the best single sigma would give.

    Q is used as training does: batch normalisation takes the statistics of each batch of generated images, of
    the run's batch size, and a fixed sigma is that of the run. The generator is :attr:`Run.generator`.

    Args:
        samples: how many at least; whole batches are taken.
        seed: of the latents.
    """
    spec, size = run.spec, run.config.batch_size
    # A copy: a pass in training mode moves the running statistics.
    q = copy.deepcopy(nn.Sequential(run.networks.trunk, run.networks.q_head)).float().train()
    sigma = run.config.fixed_sigma
    rng = ops.rng_state(seed, device=run.device)
    batches = -(-samples // size)
    terms = torch.zeros(len(loss_names(spec)), dtype=torch.float64)
    for _ in range(batches):
        latents = ops.sample_latents(rng, size, spec)
        loss = ops.infogan_loss(
            spec,
            weights=ops.LossWeights(),
            q_output=q(run.generator(latents.inputs)),
            categorical=latents.categorical if spec.n_categorical else None,
            continuous=latents.continuous if spec.n_continuous else None,
            fixed_log_variance=None if sigma is None else 2 * math.log(sigma),
        )
        terms += loss.terms.cpu()
    bounds = code_bounds(spec, dict(zip(loss_names(spec), (terms / batches).tolist(), strict=True)))
    return {
        code: {
            name: bounds[f"{name}_{code}"] for name in ("L", "H", "L_fitted") if f"{name}_{code}" in bounds
        }
        for code in spec.code_names
    }


def sweep_scores(
    run: Run,
    *,
    reach: float = SWEEP_REACH,
    steps: int = SWEEP_STEPS,
    noises: int = SWEEP_NOISES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """By uniform or normal code and measure (``slant``, ``thickness``), how the measure follows the code.

    Each category of c1 is combined with ``noises`` draws of all else, the same for every category, and the
    code alone is swept from -reach to reach in ``steps`` values. ``mean`` is over categories of |rho|,
    Spearman's; ``agreeing`` of ``categories`` have the commoner sign of rho; ``rho`` is each category's, see
    :func:`morphology.sweep_correlations`. Empty for colour images, of which the measures are not defined.
    """
    spec = run.spec
    if run.channels != 1:
        return {}
    categories = spec.categorical_sizes[0] if spec.n_categorical else 1
    base = draw_inputs(run.generator, spec, noises, seed).repeat(categories, 1)
    category = torch.arange(categories).repeat_interleave(noises)
    if spec.n_categorical:
        base = with_codes(base, spec, categorical={0: category})
    sweep = torch.linspace(-reach, reach, steps).repeat(len(base), 1)
    result: dict[str, dict[str, Any]] = {}
    for which, kind in enumerate(spec.continuous_kinds):
        if kind == "bernoulli":  # of two values, which make no rank correlation
            continue
        inputs = with_codes(base.repeat_interleave(steps, 0), spec, continuous={which: sweep.flatten()})
        images = make_images(run.generator, inputs)[:, 0].numpy() / 255
        by_measure = {}
        for measure in (morphology.slant, morphology.thickness):
            found = morphology.sweep_correlations(
                sweep.numpy(), measure(images).reshape(sweep.shape), category.numpy()
            )
            rho = [_defined(found.rho[c]) for c in range(categories)]
            by_measure[measure.__name__] = {
                "mean": _defined(found.mean),
                "agreeing": found.agreeing,
                "categories": categories,
                "rho": rho,
            }
        result[spec.code_names[spec.n_categorical + which]] = by_measure
    return result


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def match_labels(
    run: Run, *, data: str | None = None, data_dir: Path | None = None
) -> list[str | None] | None:
    """The label that each category of c1 is matched to, as ``assignment`` of :func:`cluster_scores`; None
    without labels or a categorical code.

    Args and errors as :meth:`Run.load_images`.
    """
    if not run.spec.n_categorical:
        return None
    held, _ = run.held_out(data=data, data_dir=data_dir)
    if held.labels is None:
        return None
    reading = read_images(run, run.encoder(data=data, data_dir=data_dir), held.images)
    assignment: list[str | None] = cluster_scores(run.spec, reading, held)["c1"]["assignment"]
    return assignment


def evaluate(
    run: Run,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    images: int | None = None,
    samples: int = SAMPLES,
    sweep_steps: int = SWEEP_STEPS,
    sweep_noises: int = SWEEP_NOISES,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that can be said of a run's codes, in values that JSON has.

    ``run``, ``updates``, ``latents``, ``generator`` and ``seed`` say of what; ``data`` which real images were
    read, and by ``held_out`` and ``why_not`` whether training saw them; ``codes`` has for each code its kind
    and the results of :func:`information`, :func:`cluster_scores`, :func:`factor_scores` (as ``factors``) and
    :func:`sweep_scores` (as ``sweeps``); ``disentanglement`` the scores of :func:`factor_scores` or None.

    Args:
        run: see :func:`infogan_fast.analysis.run.load_run`.
        data, data_dir: images to read instead of the run's, as :meth:`Run.load_images` takes them.
        images: how many; by default all, and 15,000 strokes.
        samples: generated images for :func:`information`.
        sweep_steps, sweep_noises: of :func:`sweep_scores`.
        seed: of latents, and of what is random in the scores.

    Raises:
        UserError: the images cannot be loaded, or are too few, or the seed is not one of 32 bits.
    """
    if not 0 <= seed < 2**32:  # what scikit-learn takes
        raise UserError(f"--seed is {seed}; expected 0 to 2**32 - 1")
    spec = run.spec
    if images is None and (data or run.config.data) == "strokes":
        images = _FIT + _TEST
    held, why_not = run.held_out(data=data, data_dir=data_dir, count=images)
    reading = read_images(run, run.encoder(data=data, data_dir=data_dir), held.images)
    scores, by_factor = factor_scores(spec, reading, held, seed=seed)
    kinds = ("categorical",) * spec.n_categorical + spec.continuous_kinds
    codes: dict[str, dict[str, Any]] = {
        code: {"kind": kind} for code, kind in zip(spec.code_names, kinds, strict=True)
    }
    for code, values in information(run, samples=samples, seed=seed).items():
        codes[code] |= values
    for code, values in cluster_scores(spec, reading, held).items():
        codes[code] |= values
    for code, values in by_factor.items():
        codes[code]["factors"] = values
    for code, values in sweep_scores(run, steps=sweep_steps, noises=sweep_noises, seed=seed).items():
        codes[code]["sweeps"] = values
    return {
        "run": str(run.folder),
        "updates": run.updates,
        "latents": str(spec),
        "generator": "moving average" if run.config.ema > 0 else "last weights",
        "seed": seed,
        "data": {
            "source": held.source,
            "images": len(held.images),
            "held_out": why_not is None,
            "why_not": why_not,
        },
        "codes": codes,
        "disentanglement": scores,
    }


def report(result: dict[str, Any]) -> str:
    """What :func:`evaluate` gave, as lines for people."""
    data, codes, scores = result["data"], result["codes"], result["disentanglement"]
    part = "held out" if data["held_out"] else f"TRAINING IMAGES ({data['why_not']})"
    lines = [
        f"run        {result['run']}, {result['updates']:,} updates; generator: {result['generator']}",
        f"images     {data['source']}: {part}",
    ]
    names = {name: codes[name] for name in codes if codes[name]["kind"] == "categorical"}
    if names:
        rows = [["", "L_I", "H nats", *(["accuracy", "NMI", "ARI"] if "table" in codes["c1"] else [])]]
        for name, code in names.items():
            rows.append([name, number(code["L"]), number(code["H"])])
            rows[-1] += [number(code[key]) for key in ("accuracy", "nmi", "ari") if key in code]
        lines += ["", "categorical codes", *aligned(rows)]
        for name, code in names.items():
            if "table" in code:
                lines += ["", *_label_lines(name, code)]
    others = {name: code for name, code in codes.items() if name not in names}
    if others:
        first = next(iter(others.values()))
        factors = list(first.get("factors", {}))
        sweeps = next((list(code["sweeps"]) for code in others.values() if "sweeps" in code), [])
        rows = [
            ["", "kind", "L_I", "H nats", *(f"moves {s}" for s in sweeps), *(f"reads {f}" for f in factors)]
        ]
        for name, code in others.items():
            rows.append([name, code["kind"], number(code["L"]), number(code["H"])])
            for sweep in sweeps:
                found = code.get("sweeps", {}).get(sweep)
                agree = f" ({found['agreeing']}/{found['categories']})" if found else ""
                rows[-1].append(number(found["mean"] if found else None) + agree)
            for factor in factors:
                found = code["factors"][factor]
                rows[-1].append(f"{number(found['rho'])} ({number(found['within_label'])})")
        lines += ["", "other codes", *aligned(rows)]
        if sweeps:
            lines.append(
                "  moves: mean over categories of |rho| as the code is swept (categories that agree in sign)"
            )
        if factors:
            lines.append("  reads: rho of Q's mean with the factor (mean |rho| within a label)")
    if scores:
        dci = " / ".join(
            number(scores[f"dci_{part}"]) for part in ("disentanglement", "completeness", "informativeness")
        )
        lines += ["", f"all codes together, on {', '.join(scores['factors'])}"]
        lines.append(
            f"  MIG {number(scores['mig'])}   SAP {number(scores['sap'])}   FactorVAE "
            f"{number(scores['factor_vae'])}   beta-VAE {number(scores['beta_vae'])}"
        )
        lines.append(f"  DCI disentanglement / completeness / informativeness {dci}")
        if scores["rows"] != [_FIT, _TEST]:
            lines.append(
                f"  on {sum(scores['rows']):,} images: published scores take {_FIT + _TEST:,}, and do not "
                "compare"
            )
    return "\n".join(lines)


def _label_lines(name: str, code: dict[str, Any]) -> list[str]:
    """The table of a code's categories and the labels, or only what goes together where that is too wide."""
    labels, counts = code["labels"], code["table"]
    if len(labels) > _TABLE_LABELS:
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


def number(value: float | None) -> str:
    """Three decimals, or a dash for None."""
    return "-" if value is None else f"{value:.3f}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of equally many cells as lines, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = Parser(
        prog="python -m infogan_fast.evaluate",
        description="Score what the codes of a trained InfoGAN mean: on real images that training did not "
        "see, and on generated ones.",
    )
    add_run_arguments(result)
    add_data_arguments(result)
    result.add_argument(
        "--images", metavar="N", type=int, help="read this many real images (default: all; 15,000 strokes)"
    )
    result.add_argument(
        "--seed",
        metavar="S",
        type=int,
        default=0,
        help="of latents and of the scores' random choices (default: 0)",
    )
    result.add_argument(
        "--json",
        metavar="FILE",
        help="also write everything here; -: to standard output, instead of the report",
    )
    return result


def main(argv: list[str] | None = None) -> int:
    """Evaluate a run. Returns the exit status: 0, or 2 after an error that the user can mend."""
    try:
        args = parser().parse_args(argv)
        if args.json not in (None, "-") and not Path(args.json).parent.is_dir():
            raise UserError(f"--json {args.json}: there is no folder {Path(args.json).parent}")
        if args.images is not None and args.images < 1:
            raise UserError(f"--images is {args.images}; expected at least 1")
        run = load_run(args.run, checkpoint_file=args.checkpoint, device=args.device)
        result = evaluate(run, data=args.data, data_dir=args.data_dir, images=args.images, seed=args.seed)
        text = json.dumps(result, indent=2, allow_nan=False)
        print(text if args.json == "-" else report(result))
        if args.json not in (None, "-"):
            try:
                Path(args.json).write_text(text + "\n")
            except OSError as error:
                raise UserError(f"--json {args.json}: cannot be written ({error.strerror})") from None
    except UserError as error:
        print(f"infogan_fast.evaluate: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
