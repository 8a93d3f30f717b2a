"""What can be measured in an image of a digit: slant, rotation and stroke thickness; and how a measure
follows a code along sweeps.

Images are floats [N, S, S] in [0, 1], ink bright on dark; their last axis runs to the right, the other one
down. Each measure gives float64 [N], NaN for images that it is not defined for, blank ones above all. All
raise UserError for grey values outside [0, 1] or not finite, and ValueError for other shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.stats import rankdata

from infogan_fast.errors import UserError

Floats = NDArray[np.float64]

_FINER = 6  # pixels that `thickness` makes of one, along each axis


def slant(images: ArrayLike) -> Floats:
    """How far the ink leans to the right, as a tangent: pixels to the right for each pixel up.

    The shear that, undone, leaves the ink's columns and rows uncorrelated (the usual deslanting of digits):
    minus mu11 / mu02, of the central moments of the grey values. 0 is upright; the tangent of a line's own
    angle for a line. NaN where all ink is in one row.
    """
    _, mixed, down = _second_moments(_checked(images))
    result = np.full(len(down), np.nan)
    np.divide(-mixed, down, out=result, where=down > 1e-9)
    return result


def rotation(images: ArrayLike) -> Floats:
    """Angle from the vertical to the ink's principal axis in radians, (-pi/2, pi/2], positive anticlockwise.

    The axis has no direction: an image and the same one upside down measure alike, and near the horizontal
    the angle jumps between -pi/2 and pi/2, so it follows a turn only of figures that stay higher than wide.
    A round figure has no axis; the angle of one nearly round is noise, and NaN where both principal moments
    are equal to a millionth.
    """
    across, mixed, down = _second_moments(_checked(images))
    angle = 0.5 * np.arctan2(2 * mixed, down - across)
    # without this, a horizontal axis would be -pi/2 or pi/2 by the sign of a zero
    angle = np.where(angle <= -np.pi / 2, np.pi / 2, angle)
    round_ = ~(np.hypot(2 * mixed, down - across) > 1e-6 * (across + down))
    return np.where(round_, np.nan, angle)


def thickness(images: ArrayLike) -> Floats:
    """Full width of the strokes in pixels: twice the mean depth of their ridge.

    Images are made six times finer by linear interpolation before they are cut at grey value 1/2, so that an
    antialiased edge counts where it runs between pixels. The depth of a point is the distance to the nearest
    one outside the ink; the ridge are the points that are as deep as any of their eight neighbours. What lies
    beyond the image's border counts as outside. NaN where no grey value exceeds 1/2. Of a line this is right
    to a tenth of a pixel, to a third in the worst case, where it runs along rows or columns.
    """
    images = _checked(images)
    result = np.full(len(images), np.nan)
    for i, image in enumerate(images):
        ink = ndimage.zoom(np.pad(image, 1), _FINER, order=1, mode="nearest", grid_mode=True) > 0.5
        if ink.any():
            depth = ndimage.distance_transform_edt(ink)
            ridge = ink & (depth == ndimage.maximum_filter(depth, 3))
            # The edge is half a fine pixel nearer than the nearest point outside; but where a stroke is an
            # even number of them wide, its ridge runs between two, half a one deeper: a quarter on average.
            result[i] = 2 * (depth[ridge].mean() - 0.25) / _FINER
    return result


@dataclass(frozen=True, eq=False)
class SweepCorrelations:
    """See :func:`sweep_correlations`."""

    mean: float
    """Mean over categories of their |rho|, in [0, 1]; NaN where no category has a rho."""
    rho: dict[int, float]
    """By category: mean of the rho of its sweeps, in [-1, 1]; NaN where none of them has one."""
    agreeing: int
    """Categories whose rho has the commoner sign."""


def sweep_correlations(values: ArrayLike, measure: ArrayLike, category: ArrayLike) -> SweepCorrelations:
    """Spearman's rho between a continuous code and a measure of the images, along sweeps of the code alone.

    A code that means one thing everywhere has a high |rho| in every category, and the same sign. The rho of
    sweeps in the same category are averaged with their sign: where they disagree they cancel. A sweep in
    which code or measure is constant has rho 0. Steps whose measure is NaN are left out, and so are sweeps
    with fewer than 3 other steps.

    Args:
        values: of the code, [sweeps, steps].
        measure: of the image at each step, [sweeps, steps], for example :func:`slant`.
        category: what was held fixed in a sweep, int [sweeps].

    Raises:
        UserError: there are no sweeps, or a value of the code is not finite.
        ValueError: shapes do not fit.
    """
    values, measure = np.asarray(values, np.float64), np.asarray(measure, np.float64)
    category = np.asarray(category)
    if values.ndim != 2 or values.shape != measure.shape or category.shape != values.shape[:1]:
        raise ValueError(
            f"values has the shape {values.shape}, measure {measure.shape}, category {category.shape}; "
            "expected [sweeps, steps] twice and [sweeps]"
        )
    if not len(values):
        raise UserError("there are no sweeps; give at least one")
    if not np.isfinite(values).all():
        raise UserError("values of the code are not finite")
    rhos = np.array([_spearman(v, m) for v, m in zip(values, measure, strict=True)])
    by_category: dict[int, float] = {}
    for name in np.unique(category):
        known = rhos[(category == name) & ~np.isnan(rhos)]
        by_category[int(name)] = float(known.mean()) if len(known) else np.nan
    found = np.array([rho for rho in by_category.values() if not np.isnan(rho)])
    return SweepCorrelations(
        float(np.abs(found).mean()) if len(found) else np.nan,
        by_category,
        int(max((found > 0).sum(), (found < 0).sum())),
    )


def _spearman(values: Floats, measure: Floats) -> float:
    known = np.isfinite(measure)
    if known.sum() < 3:
        return np.nan
    a, b = (rankdata(v[known]) for v in (values, measure))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else 0.0


def _checked(images: ArrayLike) -> Floats:
    found = np.asarray(images)
    if found.ndim != 3 or found.shape[1] != found.shape[2]:
        raise ValueError(f"images has the shape {found.shape}; expected [N, S, S]")
    found = found.astype(np.float64)
    if not ((found >= 0) & (found <= 1)).all():
        raise UserError(
            f"images has grey values from {found.min():g} to {found.max():g}; expected 0 to 1 "
            "(divide bytes by 255)"
        )
    return found


def _second_moments(images: Floats) -> tuple[Floats, Floats, Floats]:
    """Central moments mu20, mu11, mu02 (x to the right, y down) over the ink; zeros where there is none."""
    place = np.arange(images.shape[-1], dtype=np.float64)
    ink = images.sum((1, 2))
    ink = np.where(ink > 0, ink, 1.0)
    columns, rows = images.sum(1), images.sum(2)
    x = place - (columns @ place / ink)[:, None]
    y = place - (rows @ place / ink)[:, None]
    across, down = (columns * x**2).sum(1) / ink, (rows * y**2).sum(1) / ink
    mixed = np.einsum("nij,ni,nj->n", images, y, x, optimize=True) / ink
    return across, mixed, down
