"""The settings of the paper's five experiments: values of options. Plain tables; imports no torch.

From Chen et al. 2016, arXiv 1606.03657, appendix C: Adam with learning rates of 2e-4 for D and Q and 1e-3 for
G, λ = 1 and leaky units of slope 0.1, where nothing else is said; those of Q and of categorical codes come
with ``--recipe paper``. Where the paper contradicts itself, or its authors' code (github.com/openai/InfoGAN),
a preset follows the appendix:

- Continuous codes of MNIST: section 6 asks for a λ below 1, appendix C.1 gives none; 0.1 is the code's.
- Slope: the code has 0.01; see ``--leaky-slope``.
- SVHN: section 7.2 has two continuous codes, appendix C.2 has four, which add up to its 168 columns.
- Chairs: section 7.2 has four categorical codes, appendix C.5 has three, which add up to its 189 columns.
- Faces and Chairs were trained again for each variation in the figures. A preset has the first row of tables
  5 and 7; the options of the other rows stand next to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PAPER: dict[str, Any] = {
    "recipe": "paper",
    "batch_size": 128,
    "lr_d": 2e-4,
    "lr_g": 1e-3,
    "beta1": 0.5,
    "leaky_slope": 0.1,
}

#: By name: options, and ``data`` where a source of that name is known.
PRESETS: dict[str, Mapping[str, Any]] = {
    "mnist": {
        **_PAPER,
        "data": "mnist",
        "network": "mnist",
        "image_size": 28,
        "channels": 1,
        "latents": "noise=62,cat=10,uniform=2",
        "lambda_continuous": 0.1,
    },
    "svhn": {
        **_PAPER,
        "data": "svhn",
        "network": "svhn",
        "image_size": 32,
        "channels": 3,
        "latents": "noise=124,cat=10,cat=10,cat=10,cat=10,uniform=4",
        "lambda_continuous": 1.0,
    },
    "celeba": {
        **_PAPER,
        "data": "celeba",
        "network": "celeba",
        "image_size": 32,
        "channels": 3,
        "latents": "noise=128," + ",".join(["cat=10"] * 10),
    },
    # Table 5. Azimuth: these. Elevation: --lr-d 4e-4 --lr-q 4e-4 --lr-g 3e-4 --lambda-continuous 0.1.
    # Lighting: --lr-d 8e-4 --lr-q 8e-4 --lr-g 3e-4 --lambda-continuous 0.1.
    "faces": {
        **_PAPER,
        "network": "faces",
        "image_size": 32,
        "channels": 1,
        "latents": "noise=128,uniform=5",
        "lambda_continuous": 0.2,
        "lr_g": 5e-4,
    },
    # Table 7. Rotation: these. Width: --lambda-continuous 0.05 --lambda-categorical 2.
    "chairs": {
        **_PAPER,
        "network": "chairs",
        "image_size": 64,
        "channels": 1,
        "latents": "noise=128,cat=20,cat=20,cat=20,uniform=1",
        "lambda_continuous": 10.0,
    },
}
