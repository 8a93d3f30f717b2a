"""What the codes of a trained InfoGAN mean, in numbers.

The scores answer four questions; each is skipped if the data or the codes lack what it needs.

* Does Q read known labels and factors from held-out real images? (:func:`cluster_scores`,
  :func:`factor_correlations`, :func:`disentanglement`)
* How much of each code does Q recover from generated images? (:func:`information`)
* What does each continuous code change in generated images? (:func:`sweep_scores`)
* How good are the generated images? (:func:`image_quality`)

:func:`evaluate` collects the answers as JSON values; undefined ones are None. Beside scores stand their
``chance`` levels and ``intervals``, by the same names; see :mod:`infogan_fast.analysis.uncertainty`.
"""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infogan_fast import ops
from infogan_fast.analysis.beta_vae import beta_vae_score
from infogan_fast.analysis.clusters import Matching, match_clusters
from infogan_fast.analysis.codes import Codes, read_codes
from infogan_fast.analysis.correlations import rank_correlations
from infogan_fast.analysis.dci import dci
from infogan_fast.analysis.factor_vae import factor_vae_score
from infogan_fast.analysis.features import TRAINED_ON
from infogan_fast.analysis.interventions import table_samplers
from infogan_fast.analysis.measures import measures, name_of
from infogan_fast.analysis.mig import mig
from infogan_fast.analysis.quality import image_quality
from infogan_fast.analysis.run import Run, in_batches
from infogan_fast.analysis.sap import sap
from infogan_fast.analysis.sweeps import sweep_correlations
from infogan_fast.analysis.tables import FIT_ROWS, TEST_ROWS, Floats, Ints
from infogan_fast.analysis.uncertainty import (
    BOOTSTRAP,
    FITTED_BOOTSTRAP,
    defined,
    interval,
    resampled,
    rho_by_chance,
    shuffled,
)
from infogan_fast.data import ImageSet
from infogan_fast.data.registry import SOURCES
from infogan_fast.errors import UserError
from infogan_fast.latents import Code, LatentSpec
from infogan_fast.objective.bounds import code_bounds, loss_names
from infogan_fast.pictures.samples import draw_inputs, make_images, with_codes
from infogan_fast.runtime.device import exact_modes

SAMPLES = 10_000
SWEEP_REACH, SWEEP_STEPS, SWEEP_NOISES = 2.0, 11, 10

#: Disentanglement scores by their name in JSON.
SCORES = (
    *("mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"),
    *("factor_vae", "beta_vae"),
)
_MIN_ROWS, _BETA_VAE_ROWS = 100, 1000


@exact_modes()
def evaluate(
    run: Run,
    *,
    data: Any = None,
    data_dir: Path | None = None,
    images: int | None = None,
    samples: int = SAMPLES,
    sweep_steps: int = SWEEP_STEPS,
    sweep_noises: int = SWEEP_NOISES,
    quality: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """All scores of a run's codes, as JSON values.

    ``data`` describes the real images: ``own`` tells whether they are the run's, ``held_out`` and ``why_not``
    whether training saw them. ``codes`` has the kind of each code and the results of :func:`information`,
    :func:`cluster_scores`, :func:`factor_correlations` (``factors``) and :func:`sweep_scores` (``sweeps``).

    Args:
        run: see :func:`infogan_fast.analysis.run.load_run`.
        data, data_dir: images to read instead of the run's, as for :meth:`Run.load_images`.
        images: their number; by default all, and 15,000 of a source, by its name, with known factors.
        samples: generated images for :func:`information`.
        sweep_steps, sweep_noises: see :func:`sweep_scores`.
        quality: whether to measure :func:`image_quality`, which trains a classifier where there are labels.
        seed: for latents and the random choices in the scores.

    Raises:
        UserError: the images cannot be loaded or are too few, or the seed does not fit into 32 bits.
    """
    if not 0 <= seed < 2**32:  # the range of scikit-learn
        raise UserError(f"--seed is {seed}; expected 0 to 2**32 - 1")
    name = run.config.data if data is None else data
    if images is None and isinstance(name, str) and name in SOURCES and SOURCES[name].factors:
        images = FIT_ROWS + TEST_ROWS
    held_out, why_not = run.held_out(data=data, data_dir=data_dir, count=images)
    read = read_images(run, held_out.images, data=data, data_dir=data_dir)
    scores = disentanglement(run.spec, read, held_out, seed=seed)
    codes: dict[str, dict[str, Any]] = {code.name: {"kind": code.kind} for code in run.spec.codes}
    for learned in (code for code in run.spec.codes if code.learned):
        codes[learned.name]["learned_prior"] = list(learned.probabilities or ())
    for code, values in information(run, samples=samples, seed=seed).items():
        codes[code] |= values
    for code, values in cluster_scores(run.spec, read, held_out, seed=seed).items():
        for part in ("chance", "intervals"):
            values[part] |= codes[code][part]
        codes[code] |= values
    for code, values in factor_correlations(run.spec, read, held_out, seed=seed).items():
        codes[code]["factors"] = values
    for code, values in sweep_scores(run, steps=sweep_steps, noises=sweep_noises, seed=seed).items():
        codes[code]["sweeps"] = values
        codes[code]["moves"] = name_of({name: found["mean"] for name, found in values.items()})
    assigned = next((codes[c.name].get("assignment") for c in run.spec.categorical_codes), None)
    measured = None
    if quality:
        train = held_out
        if why_not is None:
            train = run.load_images("train", data=data, data_dir=data_dir, count=_training_images(run, name))
        measured = image_quality(run, train, held_out, assigned, seed=seed)
    return {
        "run": str(run.folder),
        "updates": run.updates,
        "digest": run.digest,
        "latents": str(run.spec),
        "generator": "moving average" if run.config.objective.ema > 0 else "last weights",
        "seed": seed,
        "data": {
            "source": held_out.source,
            "own": data is None,
            "images": len(held_out.images),
            "held_out": why_not is None,
            "why_not": why_not,
        },
        "codes": codes,
        "disentanglement": scores,
        "quality": measured,
    }


def _training_images(run: Run, name: Any) -> int | None:
    """How many images to load for features: of drawings, which are made one by one, no more than it takes."""
    drawn = isinstance(name, str) and name in SOURCES and SOURCES[name].drawn
    return min(TRAINED_ON, run.train_images) if drawn else None


@exact_modes()
def match_labels(run: Run, *, data: Any = None, data_dir: Path | None = None) -> list[str | None] | None:
    """The label matched to each category of the first categorical code, see :func:`cluster_scores`; None
    without labels or such a code.

    Args and errors as for :meth:`Run.load_images`.
    """
    if not run.spec.categorical_codes:
        return None
    held_out, _ = run.held_out(data=data, data_dir=data_dir)
    if held_out.labels is None:
        return None
    read = read_images(run, held_out.images, data=data, data_dir=data_dir)
    first = run.spec.categorical_codes[0]
    assignment: list[str | None] = cluster_scores(run.spec, read, held_out)[first.name]["assignment"]
    return assignment


def read_images(run: Run, images: Tensor, *, data: Any = None, data_dir: Path | None = None) -> Codes:
    """The codes that Q reads from images uint8 [N, C, S, S], with the batch statistics of the given data, see
    :meth:`Run.encoder_for`.
    """
    encoder = (
        run.encoder if data is None and data_dir is None else run.encoder_for(data=data, data_dir=data_dir)
    )
    return read_codes(run.spec, in_batches(encoder, images, run.device))


def cluster_scores(
    spec: LatentSpec, read: Codes, data: ImageSet, *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """By categorical code, how well its categories match the labels; empty for data without labels.

    ``accuracy``, ``nmi`` and ``ari`` are those of :func:`match_clusters`; ``labels`` are the names of the
    labels that occur; ``table`` has the counts [categories][labels]; ``assignment`` is the label of each
    category or None.
    """
    if data.labels is None:
        return {}
    values, numbers = np.unique(data.labels.numpy(), return_inverse=True)
    names = [data.label_names[v] if data.label_names else str(v) for v in values]
    result = {}
    for code in spec.categorical_codes:
        match = match_clusters(read[code.name], numbers)
        table = np.zeros((code.size, len(names)), np.int64)
        table[np.unique(read[code.name])] = match.table
        assigned = [match.assignment.get(category) for category in range(code.size)]
        found = {"accuracy": match.accuracy, "nmi": match.nmi, "ari": match.ari}
        guessed = match_clusters(read[code.name][shuffled(len(numbers), seed)], numbers)
        drawn = resampled(
            functools.partial(_matched, read[code.name], numbers),
            len(numbers),
            samples=FITTED_BOOTSTRAP,
            seed=seed,
        )
        result[code.name] = {
            "chance": {name: getattr(guessed, name) for name in found},
            "intervals": {
                name: interval(
                    value, [getattr(each, name) for each in drawn], low=-1.0 if name == "ari" else 0.0
                )
                for name, value in found.items()
            },
            "accuracy": match.accuracy,
            "nmi": match.nmi,
            "ari": match.ari,
            "labels": names,
            "table": table.tolist(),
            "assignment": [None if label is None else names[label] for label in assigned],
        }
    return result


def _matched(codes: NDArray[Any], labels: Ints, rows: Ints) -> Matching:
    return match_clusters(codes[rows], labels[rows])


def factor_correlations(
    spec: LatentSpec, read: Codes, data: ImageSet, *, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """By code that is not categorical and continuous factor, their rank correlation; empty without known
    factors.

    ``rho`` is Spearman's over all images, ``within_label`` the mean over labels of |rho| among their images;
    ``chance`` and ``chance_within_label`` are the means of |rho| between unrelated values, ``interval`` that
    of ``rho``.
    """
    if not data.factors or not spec.continuous_codes:
        return {}
    codes = np.stack([read[code.name] for code in spec.continuous_codes], 1)
    factors = _factor_table(data)
    labels = np.zeros(len(codes), np.int64) if data.labels is None else data.labels.numpy()
    groups = [labels == label for label in np.unique(labels)]
    # With two images |rho| is always 1.
    large = [g for g in groups if g.sum() > 2]
    by_label = [np.abs(rank_correlations(codes[g], factors[g])) for g in large]
    rho, within = rank_correlations(codes, factors), np.mean(by_label, 0)
    drawn = resampled(
        lambda rows: rank_correlations(codes[rows], factors[rows]),
        len(codes),
        samples=FITTED_BOOTSTRAP,
        seed=seed,
    )
    return {
        code.name: {
            name: {
                "rho": float(rho[code.index, j]),
                "within_label": float(within[code.index, j]),
                "chance": rho_by_chance(len(codes)),
                "chance_within_label": float(np.mean([rho_by_chance(int(g.sum())) for g in large])),
                "interval": interval(
                    float(rho[code.index, j]), [each[code.index, j] for each in drawn], low=-1.0
                ),
            }
            for j, (name, factor) in enumerate(data.factors.items())
            if factor.is_floating_point()
        }
        for code in spec.continuous_codes
    }


def _factor_table(data: ImageSet) -> Floats:
    return np.stack([factor.double().numpy() for factor in data.factors.values()], 1)


def disentanglement(spec: LatentSpec, read: Codes, data: ImageSet, *, seed: int = 0) -> dict[str, Any] | None:
    """Disentanglement scores of all codes together, on data with known factors; None without any.

    Two thirds of the images are for fitting and the rest for testing, at most 10,000 and 5,000: published
    scores use these numbers, and scores from fewer images are not comparable with them. FactorVAE and
    beta-VAE draw groups from these images, in which a continuous factor is fixed to a twentieth of its range;
    their test groups are of images that the others are not of. ``missing`` says why a score is None:
    FactorVAE needs 100 images that share a value, and beta-VAE 1,000 images, below which it is anything but
    its chance level for codes that tell nothing.

    Raises:
        UserError: there are fewer than 100 images.
    """
    if not data.factors:
        return None
    codes = np.stack([read[code.name].astype(np.float64) for code in spec.codes], 1)
    factors, count = _factor_table(data), len(codes)
    if count < _MIN_ROWS:
        raise UserError(f"--images is {count}; scores on known factors need at least {_MIN_ROWS}")
    discrete_factors = [not factor.is_floating_point() for factor in data.factors.values()]
    by_code: dict[str, Any] = {"discrete_codes": [code.is_categorical for code in spec.codes], "seed": seed}
    fit = min(FIT_ROWS, count * 2 // 3)
    rows: dict[str, Any] = {"train": fit, "test": min(TEST_ROWS, count - fit)}
    missing: dict[str, str] = {}

    def measured(codes: Floats, *, again: bool) -> dict[str, tuple[float, Floats]]:
        """Each score and its replicates, if they are asked for."""
        by_both: dict[str, Any] = {**by_code, "discrete_factors": discrete_factors}
        counted, fitted = (BOOTSTRAP, FITTED_BOOTSTRAP) if again else (0, 0)
        mig_score = mig(codes, factors, samples=min(FIT_ROWS, count), bootstrap=counted, **by_both)
        sap_score = sap(codes, factors, bootstrap=counted, **rows, **by_both)
        dci_score = dci(codes, factors, bootstrap=fitted, **rows, **by_both)
        if again:
            by_factor["mig_by_factor"], by_factor["sap_by_factor"] = mig_score.gaps, sap_score.gaps
        result = {
            "mig": (mig_score.score, mig_score.replicates),
            "sap": (sap_score.score, sap_score.replicates),
        }
        for k, part in enumerate(("disentanglement", "completeness", "informativeness")):
            result[f"dci_{part}"] = getattr(dci_score, part), dci_score.replicates[:, k]
        for name, needed, score in (
            ("factor_vae", 2, factor_vae_score),
            ("beta_vae", _BETA_VAE_ROWS, beta_vae_score),
        ):
            try:
                if count < needed:
                    raise UserError(f"there are {count} rows; give {needed:,} or more")
                first, second = table_samplers(
                    codes, factors, seed=seed, discrete_factors=discrete_factors, names=list(data.factors)
                )
                found = score(first, len(data.factors), test_sample=second, bootstrap=counted, **by_code)
                result[name] = found.score, found.replicates
            except UserError as error:
                missing[name] = str(error)
        return result

    by_factor: dict[str, Floats] = {}
    scores = measured(codes, again=True)
    chance = measured(codes[shuffled(count, seed)], again=False)
    return {
        "factors": list(data.factors),
        "rows": [fit, rows["test"]],
        **{name: defined(scores[name][0]) if name in scores else None for name in SCORES},
        **{name: gaps.tolist() for name, gaps in by_factor.items()},
        "chance": {name: defined(value) for name, (value, _) in chance.items()},
        "intervals": {
            name: interval(value, drawn, low=-math.inf if name == "dci_informativeness" else 0.0)
            for name, (value, drawn) in scores.items()
        },
        "missing": missing,
    }


@torch.no_grad()
def information(run: Run, *, samples: int = SAMPLES, seed: int = 0) -> dict[str, dict[str, Any]]:
    """By code, the lower bound of its mutual information with generated images, in nats.

    ``L`` is the bound H(c) + E[log Q(c|G(z, c))] and ``H`` the entropy of the prior; for uniform and normal
    codes, ``L_fitted`` is the bound that the best single sigma would give. Their intervals are over batches,
    None of a single one.

    Q is used as in training: batch normalisation takes the statistics of each generated batch, which has the
    run's batch size, and a fixed sigma is the run's. The generator is :attr:`Run.generator`.

    Args:
        samples: their minimum number; rounded up to whole batches.
        seed: of the latents.
    """
    spec, size = run.spec, run.config.batch_size
    # A copy, because a pass in training mode moves the running statistics.
    q = copy.deepcopy(nn.Sequential(run.networks.trunk, run.networks.q_head)).float().train()
    log_variance = run.config.objective.fixed_log_variance
    rng = ops.rng_state(seed, device=run.device)
    batches = -(-samples // size)
    names = loss_names(spec, learned_variance=log_variance is None)
    terms = torch.zeros(batches, len(names), dtype=torch.float64)
    for batch in range(batches):
        latents = ops.sample_latents(rng, size, spec)
        loss = ops.infogan_loss(
            spec,
            weights=ops.LossWeights(),
            q_output=q(run.generator(latents.inputs)),
            categorical=latents.categorical if spec.categorical_codes else None,
            continuous=latents.continuous if spec.continuous_codes else None,
            fixed_log_variance=log_variance,
        )
        terms[batch] = loss.terms.cpu()

    def bounds_of(rows: Any) -> dict[str, float]:
        return code_bounds(spec, dict(zip(names, terms[rows].mean(0).tolist(), strict=True)))

    bounds = bounds_of(slice(None))
    drawn = resampled(bounds_of, batches, seed=seed)
    result: dict[str, dict[str, Any]] = {}
    for code in spec.codes:
        own = {bound: f"{bound}_{code.name}" for bound in ("L", *(["L_fitted"] if code.is_ordered else []))}
        result[code.name] = {bound: bounds[name] for bound, name in own.items()} | {
            "H": code.entropy,
            "chance": dict.fromkeys(own, 0.0) | _unread(code, log_variance),
            "intervals": {
                bound: interval(bounds[name], [each[name] for each in drawn], -math.inf, math.inf)
                if batches > 1
                else None
                for bound, name in own.items()
            },
        }
    return result


def _unread(code: Code, log_variance: float | None) -> dict[str, float]:
    """The bounds of a uniform or normal code that Q cannot read at all, whose Gaussian is at best the prior's
    mean and variance: a uniform prior is no Gaussian."""
    if not code.is_ordered:
        return {}
    variance = 1 / 3 if code.kind == "uniform" else 1.0
    fitted = code.entropy - 0.5 * math.log(2 * math.pi * math.e * variance)
    if log_variance is None:
        return {"L": fitted, "L_fitted": fitted}
    error = 0.5 * (math.log(2 * math.pi) + log_variance + variance * math.exp(-log_variance))
    return {"L": code.entropy - error, "L_fitted": fitted}


def sweep_scores(
    run: Run,
    *,
    reach: float = SWEEP_REACH,
    steps: int = SWEEP_STEPS,
    noises: int = SWEEP_NOISES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """By uniform or normal code and measure of :mod:`infogan_fast.analysis.measures`, how the measure follows
    the code.

    Each category of c1 is combined with ``noises`` draws of everything else, the same for every category, and
    the code alone is swept from -reach to reach in ``steps`` values. ``mean`` is the mean over categories of
    |rho|, Spearman's; ``agreeing`` out of ``categories`` have the more frequent sign of rho; ``rho`` has that
    of each category, see :func:`sweep_correlations`; ``chance`` is the mean of a measure that does not depend
    on the code, and ``interval`` is over the draws.
    """
    spec = run.spec
    base = draw_inputs(run.generator, spec, noises, seed)
    category = torch.zeros(noises, dtype=torch.int64)
    for code in spec.categorical_codes[:1]:
        category = torch.arange(code.size).repeat_interleave(noises)
        base = with_codes(base.repeat(code.size, 1), spec, {code.name: category})
    sweep = torch.linspace(-reach, reach, steps).repeat(len(base), 1)
    result = {}
    for code in spec.ordered_codes:
        inputs = base.repeat_interleave(steps, 0)
        inputs = with_codes(inputs, spec, {code.name: sweep.flatten()})
        images = make_images(run.generator, inputs).numpy() / 255
        result[code.name] = {
            name: _sweep_score(sweep.numpy(), measure(images).reshape(sweep.shape), category.numpy(), seed)
            for name, measure in measures(run.channels).items()
        }
    return result


def _sweep_score(sweep: Floats, measure: Floats, category: Any, seed: int) -> dict[str, Any]:
    found = sweep_correlations(sweep, measure, category, bootstrap=BOOTSTRAP, seed=seed)
    return {
        "mean": defined(found.mean),
        "agreeing": found.agreeing,
        "categories": len(found.rho),
        "rho": [defined(rho) for rho in found.rho.values()],
        "chance": rho_by_chance(sweep.shape[1], averaged=len(sweep) // len(found.rho)),
        "interval": interval(found.mean, found.replicates),
    }
