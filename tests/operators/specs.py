"""Latent specifications that the operators are tested on."""

from __future__ import annotations

DEFAULT = "noise=62,cat=10,uniform=2"
MIXED = "noise=130:uniform,cat=0.5/0.3/0.2,cat=10,normal=1,bernoulli=2,uniform=5"
CATEGORICAL = "noise=0,cat=3,cat=5,cat=7,cat=2,cat=11"
CONTINUOUS = "noise=3,uniform=1,normal=2"
NOISE = "noise=65"
WIDE = "noise=1,cat=900,cat=400,uniform=2"  # rows of Q's output too wide for shared memory
MIDDLE = "noise=1,cat=100,uniform=2,bernoulli=1"  # fewer rows staged at once than a block has threads
