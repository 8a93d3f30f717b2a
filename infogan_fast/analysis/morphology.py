"""Measures of the shape of a drawn digit: slant and stroke thickness.

Images are floats [N, S, S] in [0, 1], bright ink on a dark background; the last axis points right, the one
before it down. Each measure returns float64 [N], NaN for images for which it is undefined, such as blank
ones. All raise UserError for grey values that are outside [0, 1] or not finite, and ValueError for other
shapes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from infogan_fast.analysis.tables import Floats
from infogan_fast.errors import UserError

_UPSAMPLING = 6  # by `thickness`, along each axis


def slant(images: ArrayLike) -> Floats:
    """How far the ink leans to the right, as a tangent: pixels to the right per pixel up.

    This is the shear that the usual deslanting of digits would undo, after which the ink's columns and rows
    are uncorrelated: minus mu11 / mu02 of the central moments of the grey values. 0 is upright; for a
    straight line it is the tangent of its angle from the vertical. NaN if all ink is in one row.
    """
    mixed, down = _second_moments(_checked(images))
    result = np.full(len(down), np.nan)
    np.divide(-mixed, down, out=result, where=down > 1e-9)
    return result


def thickness(images: ArrayLike) -> Floats:
    """Full width of the strokes in pixels: twice the mean depth of their ridge.

    Images are upsampled six times by linear interpolation and thresholded at grey value 1/2, so that an
    antialiased edge counts where it runs between pixels. The depth of a point is its distance to the nearest
    point outside the ink; the ridge consists of the points at least as deep as their eight neighbours. Points
    beyond the image's border count as outside. NaN if no grey value exceeds 1/2. For a line the result is
    accurate to a tenth of a pixel, or to a third in the worst case, where it runs along rows or columns.
    """
    images = _checked(images)
    result = np.full(len(images), np.nan)
    for i, image in enumerate(images):
        ink = ndimage.zoom(np.pad(image, 1), _UPSAMPLING, order=1, mode="nearest", grid_mode=True) > 0.5
        if ink.any():
            depth = ndimage.distance_transform_edt(ink)
            ridge = ink & (depth == ndimage.maximum_filter(depth, 3))
            # The edge is half a fine pixel nearer than the nearest point outside. If a stroke is an even
            # number of fine pixels wide, its ridge runs between two of them, half a pixel deeper: a quarter
            # on average.
            result[i] = 2 * (depth[ridge].mean() - 0.25) / _UPSAMPLING
    return result


def _checked(images: ArrayLike) -> Floats:
    checked = np.asarray(images)
    if checked.ndim != 3 or checked.shape[1] != checked.shape[2]:
        raise ValueError(f"images has the shape {checked.shape}; expected [N, S, S]")
    checked = checked.astype(np.float64)
    if not ((checked >= 0) & (checked <= 1)).all():
        raise UserError(
            f"images has grey values from {checked.min():g} to {checked.max():g}; expected 0 to 1 "
            "(divide bytes by 255)"
        )
    return checked


def _second_moments(images: Floats) -> tuple[Floats, Floats]:
    """Central moments mu11 and mu02 (x to the right, y down) of the ink [N]; 0 for blank images."""
    position = np.arange(images.shape[-1], dtype=np.float64)
    ink = images.sum((1, 2))
    ink = np.where(ink > 0, ink, 1.0)
    columns, rows = images.sum(1), images.sum(2)
    x = position - (columns @ position / ink)[:, None]
    y = position - (rows @ position / ink)[:, None]
    down = (rows * y**2).sum(1) / ink
    mixed = np.einsum("nij,ni,nj->n", images, y, x, optimize=True) / ink
    return mixed, down
