"""How good a run's images are, in figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from infogan_fast.analysis.distances import MIN_IMAGES, distances
from infogan_fast.analysis.features import Features, fit_features
from infogan_fast.analysis.run import Run
from infogan_fast.data import ImageSet
from infogan_fast.pictures.samples import draw_inputs, make_images, with_codes

IMAGES = 5000
_READ_IMAGES = 500  # of each category


def image_quality(
    run: Run,
    train: ImageSet,
    held_out: ImageSet,
    assigned: Sequence[str | None] | None,
    *,
    count: int = IMAGES,
    seed: int = 0,
) -> dict[str, Any] | None:
    """How close generated images are to real ones, and how often a classifier reads what c1 is.

    ``made`` and ``real`` have the figures of :func:`infogan_fast.analysis.distances.distances` of ``images``
    generated images, and of as many training images, which show how much there is to reach; ``features`` says
    in which features, see :func:`infogan_fast.analysis.features.fit_features`. With labels that categories of
    c1 are matched to, ``share_read`` has the share of each such category's images that the classifier reads
    as its label, their mean and the ``worst``. None with too few images.

    Args:
        run: its :attr:`Run.generator` makes the images.
        train: fits the features.
        held_out: to compare with; without a test split, these are the training images, and then one half of
            them stands for ``train`` in ``real``.
        assigned: the label of each category of c1, see :func:`cluster_scores`.
        count: images of each set at most.
        seed: of the latents, the choice of images and the classifier.
    """
    rng = np.random.default_rng(seed)
    real, other = (data.images[rng.permutation(len(data.images))[:count]] for data in (held_out, train))
    if held_out is train:
        half = len(real) // 2
        real, other = real[:half], real[half:]
    count = min(len(real), len(other))
    if count < MIN_IMAGES:
        return None
    features = fit_features(train, run.device, seed=seed)
    made = make_images(run.generator, draw_inputs(run.generator, run.spec, count, seed))
    reference = features.of(real[:count])
    result: dict[str, Any] = {
        "features": features.name,
        "images": count,
        "made": distances(reference, features.of(made), seed=seed),
        "real": distances(reference, features.of(other[:count]), seed=seed),
    }
    names = _names(train, features)
    shares = {} if assigned is None else _shares(run, features, names, assigned, seed)
    if shares:
        mean = float(np.mean(list(shares.values())))
        variance = sum(share * (1 - share) for share in shares.values()) / _READ_IMAGES
        margin = 1.96 * math.sqrt(variance) / len(shares)
        result["share_read"] = {
            "mean": mean,
            "interval": [max(0.0, mean - margin), min(1.0, mean + margin)],
            "worst": min(shares.values()),
            "by_label": shares,
            "of_real": _right(features, names, held_out),
            "chance": 1 / len(features.labels),
        }
    return result


def _names(data: ImageSet, features: Features) -> list[str]:
    return [_name(data, value) for value in features.labels]


def _name(data: ImageSet, value: int) -> str:
    return data.label_names[value] if data.label_names else str(value)


def _shares(
    run: Run, features: Features, names: list[str], assigned: Sequence[str | None], seed: int
) -> dict[str, float]:
    """By label, the share of its category's images that are read as it."""
    result: dict[str, float] = {}
    for category, label in enumerate(assigned):
        if label not in names or features.read is None:
            continue
        inputs = draw_inputs(run.generator, run.spec, _READ_IMAGES, seed=seed + 1 + category)
        chosen = {run.spec.categorical_codes[0].name: torch.full((_READ_IMAGES,), category)}
        images = make_images(run.generator, with_codes(inputs, run.spec, chosen))
        result[label] = float((features.read(images) == names.index(label)).mean())
    return result


def _right(features: Features, names: list[str], data: ImageSet) -> float | None:
    """The classifier's accuracy on real images, by name: each split numbers its own labels."""
    if features.read is None or data.labels is None:
        return None
    truth = [_name(data, value) for value in data.labels.tolist()]
    answers = features.read(data.images).tolist()
    return float(np.mean([names[answer] == name for answer, name in zip(answers, truth, strict=True)]))
