"""Labels in the forms that data sets have them in. Training reads none, so none of them stops it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogan_fast.errors import RunWarning, UserError


def choose_label(names: Sequence[str], wanted: str | None, where: str) -> tuple[str, str]:
    """The label to read, the one asked for or else the first, and what the source should say of the others.

    Both are empty where there are no labels.

    Raises:
        UserError: there is none of that name.
    """
    if wanted is not None and wanted not in names:
        there = f"choose one of {', '.join(names)} with --label" if names else "leave out --label"
        raise UserError(f"{where}: has no label {wanted!r}; {there}")
    chosen = wanted or next(iter(names), "")
    others = [name for name in names if name != chosen]
    return chosen, f", labels {chosen} (there are {', '.join(others)} too)" if others else ""


def within(labels: NDArray[np.int64], names: Sequence[str], where: str) -> None:
    """Raise UserError if there is a label without a name, unless none has one."""
    if names and len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
        raise UserError(
            f"{where}: labels run from {labels.min()} to {labels.max()} and {len(names)} have names; get "
            "this file again"
        )


def as_labels(
    values: NDArray[Any], count: int, where: str
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """The label of each image, int64 [N], and the names that the labels are numbers of.

    Labels are numbers (whole ones, in any dtype), truth values or texts, [N] or [N, 1], or rows with a single
    1 among zeros, [N, K]. For anything else there are none, and a RunWarning says why.

    Args:
        values: as read.
        count: N.
        where: what holds them, for the warning.
    """
    found = np.asarray(values)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim == 2 and len(found) == count and _is_one_hot(found):
        return found.astype(np.float64).argmax(1), ()
    if found.shape == (count,):
        if found.dtype.kind in "US":
            texts = [
                text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in found
            ]
            names = sorted(set(texts))
            number = {name: i for i, name in enumerate(names)}
            return np.array([number[text] for text in texts], np.int64), tuple(names)
        whole = _whole(found)
        if whole is not None:
            return whole, ()
    without(
        where,
        f"labels are {found.dtype} of shape {found.shape}; expected one label for each of {count:,} images",
    )
    return None, ()


def without(where: str, reason: str) -> None:
    """Warn that the labels of some images cannot be used."""
    warnings.warn(
        f"{where}: {reason}; training reads no labels and goes on without them", RunWarning, stacklevel=2
    )


def _is_one_hot(rows: NDArray[Any]) -> bool:
    if rows.dtype.kind not in "biuf":
        return False
    ones = rows == 1
    return bool(((rows == 0) | ones).all() and (ones.sum(1) == 1).all())


def _whole(numbers: NDArray[Any]) -> NDArray[np.int64] | None:
    """As int64, where these are whole numbers of 64 bits."""
    if numbers.dtype.kind not in "biuf":
        return None
    if numbers.dtype.kind == "f" and not (np.abs(numbers) < 2.0**53).all():  # also false of NaN
        return None
    if numbers.dtype == np.uint64 and (numbers > np.uint64(2**63 - 1)).any():
        return None
    result = numbers.astype(np.int64)
    return result if (result == numbers).all() else None
