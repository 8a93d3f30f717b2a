"""How close a set of generated images is to a set of real ones, in a space of features.

``precision`` and ``recall`` (Kynkaanniemi et al. 2019, arXiv 1904.06991, section 2) are the share of made
images that lie within the reach of a real one, and the share of real ones within the reach of a made one; an
image's reach is the distance to its fifth nearest one of its own set. ``density`` and ``coverage`` (Naeem et
al. 2020, arXiv 2002.09797, section 3) count real reaches alone, which an outlier among the made ones does not
widen: in how many a made image lies, over five, and the share of real images with a made one in reach.

``fid`` is Frechet's distance of two normal distributions with the means and covariances of the sets (Heusel
et al. 2017, arXiv 1706.08500, equation 6). ``kid`` is the unbiased squared maximum mean discrepancy with the
kernel (x.y / F + 1)^3 (Binkowski et al. 2018, arXiv 1801.01401, section 3.1), a mean over ten parts of the
sets. Both are 0 for equal distributions; fid is larger the fewer images there are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import linalg
from sklearn.neighbors import NearestNeighbors

from infogan_fast.analysis.tables import Bools, Floats, Ints
from infogan_fast.analysis.uncertainty import FITTED_BOOTSTRAP, interval, resampled
from infogan_fast.errors import UserError

NEIGHBOURS = 5
_PARTS = 10
MIN_IMAGES = _PARTS * 2
"""In each set."""


def distances(real: Floats, made: Floats, *, seed: int = 0) -> dict[str, Any]:
    """The figures above, each as ``{"value": ..., "interval": [low, high]}``.

    Args:
        real, made: features [N, F] and [M, F], at least :data:`MIN_IMAGES` of each.
        seed: of the bootstrap.

    Raises:
        UserError: there are too few.
    """
    if min(len(real), len(made)) < MIN_IMAGES:
        raise UserError(
            f"{len(real)} real and {len(made)} made images; image quality needs {MIN_IMAGES} each"
        )
    reach = _reach(real)
    times = _times_within(made, real, reach)
    result = {
        name: _share(values, seed, high)
        for name, values, high in (
            ("precision", times > 0, 1.0),
            ("recall", _times_within(real, made, _reach(made)) > 0, 1.0),
            ("density", times / NEIGHBOURS, np.inf),
            ("coverage", covered(real, made, reach), 1.0),
        )
    }
    value = frechet(real, made)
    rng = np.random.default_rng(seed)
    drawn = [
        frechet(real[rng.integers(len(real), size=len(real))], made[rng.integers(len(made), size=len(made))])
        for _ in range(FITTED_BOOTSTRAP)
    ]
    result["fid"] = {"value": value, "interval": interval(value, drawn, 0.0, np.inf)}
    parts = [
        kernel_distance(a, b)
        for a, b in zip(np.array_split(real, _PARTS), np.array_split(made, _PARTS), strict=True)
    ]
    mean, margin = float(np.mean(parts)), 1.96 * float(np.std(parts, ddof=1)) / np.sqrt(_PARTS)
    result["kid"] = {"value": mean, "interval": [mean - margin, mean + margin]}
    return result


def frechet(a: Floats, b: Floats) -> float:
    """Frechet's distance of the normal distributions that fit two sets of features [N, F] and [M, F]."""
    covariances = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (a, b)]
    # The trace of the root of a product of covariances, from the eigenvalues of a symmetric one.
    root = _symmetric_root(covariances[0])
    eigenvalues = linalg.eigvalsh(root @ covariances[1] @ root)
    cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    difference = a.mean(0) - b.mean(0)
    traces = np.trace(covariances[0]) + np.trace(covariances[1])
    return max(0.0, float(difference @ difference + traces - 2 * cross))


def _symmetric_root(matrix: Floats) -> Floats:
    values, vectors = linalg.eigh(matrix)
    result: Floats = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return result


def kernel_distance(a: Floats, b: Floats) -> float:
    """The unbiased squared maximum mean discrepancy of two sets of features [N, F] and [M, F]."""

    def kernel(x: Floats, y: Floats) -> Floats:
        result: Floats = (x @ y.T / x.shape[1] + 1) ** 3
        return result

    def within(x: Floats) -> float:
        table = kernel(x, x)
        return float((table.sum() - np.trace(table)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


def covered(real: Floats, made: Floats, reach: Floats | None = None) -> Bools:
    """Whether each real image [N, F] has a made one [M, F] within its reach, [N]; the mean is ``coverage``.

    Args:
        reach: of the real images, [N], if it is known.
    """
    nearest: Floats = NearestNeighbors(n_neighbors=1).fit(made).kneighbors(real)[0][:, 0]
    result: Bools = nearest <= (_reach(real) if reach is None else reach)
    return result


def _share(values: Floats | Bools, seed: int, high: float) -> dict[str, Any]:
    numbers = values.astype(np.float64)
    drawn = resampled(lambda rows: float(numbers[rows].mean()), len(numbers), seed=seed)
    return {"value": float(numbers.mean()), "interval": interval(float(numbers.mean()), drawn, 0.0, high)}


def _reach(points: Floats) -> Floats:
    """The distance of each point [N, F] to its fifth nearest other one."""
    count = min(NEIGHBOURS, len(points) - 1)
    found: Floats = NearestNeighbors(n_neighbors=count).fit(points).kneighbors()[0][:, -1]
    return found


def _times_within(points: Floats, others: Floats, reach: Floats) -> Ints:
    """In how many balls around the others each point lies."""
    centre = others.mean(0)
    points, others = points - centre, others - centre
    # Repeated images have a reach of 0, and distances of rounding size.
    reach = reach + 1e-6 * math.sqrt(float((others**2).sum(1).mean()))
    counts = np.empty(len(points), np.int64)
    squares = (others**2).sum(1)
    for start in range(0, len(points), 1000):
        part = points[start : start + 1000]
        distances = (part**2).sum(1)[:, None] + squares - 2 * part @ others.T
        counts[start : start + 1000] = (np.sqrt(np.clip(distances, 0, None)) <= reach).sum(1)
    return counts
