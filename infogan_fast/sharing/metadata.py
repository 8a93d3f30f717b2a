"""What an exported network takes and gives, as JSON values that every format carries."""

from __future__ import annotations

from typing import Any

import infogan_fast
from infogan_fast.analysis.run import Run
from infogan_fast.latents import Code
from infogan_fast.networks.architecture import architecture

#: The name of the JSON text among the metadata of a file.
KEY = "infogan_fast"
FORMAT = "infogan_fast export 1"


def describe(run: Run) -> dict[str, Any]:
    """The latents, the images and Q's answers of a run. docs/export.md lists the fields. A range of columns
    is [first, last + 1], as a slice."""
    spec, config = run.spec, run.config
    return {
        "format": FORMAT,
        "version": infogan_fast.__version__,
        "updates": run.updates,
        "network": str(architecture(config.network, run.image_size, run.channels)),
        "leaky_slope": config.leaky_slope,
        "images": {"size": run.image_size, "channels": run.channels, "range": [0, 1]},
        "latent_columns": spec.latent_dim,
        "answer_columns": spec.q_dim(config.fixed_sigma is None),
        "noise": {
            "size": spec.noise_dim,
            "prior": {"normal": "N(0, 1)", "uniform": "U(-1, 1)"}[spec.noise],
            "latents": [0, spec.noise_dim],
        },
        "codes": [_described(code, config.fixed_sigma) for code in spec.codes],
    }


def _described(code: Code, fixed_sigma: float | None) -> dict[str, Any]:
    result: dict[str, Any] = {"name": code.name, "kind": code.kind, "size": code.size}
    columns = [code.q_columns.start, code.q_columns.stop]
    answers: dict[str, list[int]]
    if code.is_categorical:
        result["prior"] = list(code.probabilities or (1 / code.size,) * code.size)
        answers = {"logits": columns}
    elif code.kind == "bernoulli":
        result["prior"] = "0 or 1, each with probability 1/2"
        answers = {"logit": columns}
    else:
        result["prior"] = {"normal": "N(0, 1)", "uniform": "U(-1, 1)"}[code.kind]
        answers = {"mean": columns}
        if code.log_variance_column is not None and fixed_sigma is None:
            answers["log_variance"] = [code.log_variance_column, code.log_variance_column + 1]
        else:
            result["sigma"] = fixed_sigma
    result["latents"] = [code.input_columns.start, code.input_columns.stop]
    result["answers"] = answers
    return result
