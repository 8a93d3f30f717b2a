"""Recipes: values of options, where the command line does not give them. Plain tables; imports no torch.

A data set may change entries of the default recipe: see its module in :mod:`infogan_fast.data`.
"""

from __future__ import annotations

from typing import Any

#: The objective of Chen et al. 2016 alone.
PAPER: dict[str, Any] = {
    "lambda_categorical": 1.0,
    "lr_q": 2e-4,
    "consistency": 0.0,
    "balance": 0.0,
    "joint_ema": 0.0,
    "balance_end": 0.0,
    "balance_until": 0,
    "equivariance": 0.0,
    "invariance": 0.0,
    "smoothness": 0.0,
    "smoothness_until": 0,
    "bending": 0.0,
    "restart_q": 0,
    "ema": 0.0,
}

#: With consistency, on data sets that it is known to help. With a larger lambda, codes keep a meaning that
#: the generator found before Q had seen enough images to know better; a faster Q knows in time. Without
#: balance, or with balance measured in each batch alone, two classes may come to share a value for good.
DEFAULT: dict[str, Any] = {
    "lambda_categorical": 0.1,
    "lr_q": 1e-3,
    "consistency": 1.0,
    "balance": 1.0,
    "joint_ema": 0.9,
    "balance_end": 0.0,
    "balance_until": 0,
    "equivariance": 0.0,
    "invariance": 0.02,
    "smoothness": 0.0,
    "smoothness_until": 1500,
    "bending": 0.0,
    "restart_q": 500,
    "ema": 0.999,
}

#: Of the default recipe, where there is no consistency, too.
ALWAYS = ("ema",)

#: Instead, in the default recipe, where a prior is learned: classes need not be equally frequent.
LEARNED_PRIOR: dict[str, Any] = {"balance_end": -0.5, "balance_until": 1500}

#: Of the default recipe, for terms that leave something to another uniform or normal code: off without one.
NEED_TWO_CONTINUOUS_CODES = ("equivariance", "invariance")

RECIPES = ("default", "paper")
