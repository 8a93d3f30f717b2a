"""Images that a generator makes: from drawn or chosen latents, as a grid, and how much they differ."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from infogan_fast import ops
from infogan_fast.constants import PICTURE_SEED
from infogan_fast.errors import UserError
from infogan_fast.latents import Code, LatentSpec
from infogan_fast.pictures import grids

_BATCH = 256
#: Rows of a picture, so that one of many categories can still be looked at.
MOST_ROWS = 40


def check_count(name: str, count: Any) -> None:
    """Raise UserError unless it is a whole number of at least 1."""
    if not isinstance(count, numbers.Integral) or isinstance(count, bool) or count < 1:
        raise UserError(f"{name} is {count!r}; expected a whole number of at least 1")


def with_codes(inputs: Tensor, spec: LatentSpec, values: Mapping[str, Tensor]) -> Tensor:
    """A copy of generator inputs [B, latent_dim] with some codes set.

    Args:
        values: by the code's name, the value of each row [B]: int64 categories, or numbers.
    """
    result = inputs.clone()
    for name, value in values.items():
        code = spec.code(name)
        columns = result[:, code.input_columns]
        if code.is_categorical:
            columns.zero_().scatter_(1, value.to(columns.device)[:, None], 1.0)
        else:
            columns[:, 0] = value.to(columns)
    return result


@torch.no_grad()
def render(generator: nn.Module, inputs: Tensor) -> Tensor:
    """Images float32 [N, C, S, S] in [0, 1] on the CPU, of inputs [N, latent_dim].

    Args:
        generator: in evaluation mode, see :func:`infogan_fast.networks.statistics.calibrated`.
    """
    return torch.cat([generator(part).float().cpu() for part in inputs.split(_BATCH)])


def make_images(generator: nn.Module, inputs: Tensor) -> Tensor:
    """As :func:`render`, uint8."""
    return to_pixels(render(generator, inputs))


def to_pixels(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8 of the same shape."""
    return (images * 255).round_().clamp_(0, 255).to(torch.uint8)


def draw_inputs(generator: nn.Module, spec: LatentSpec, count: int, seed: int = PICTURE_SEED) -> Tensor:
    """Generator inputs float32 [count, latent_dim], drawn from the prior; those of a larger count begin with
    those of a smaller one."""
    rng = ops.rng_state(seed, device=next(generator.parameters()).device)
    return ops.sample_latents(rng, count, spec).inputs


def shown_categories(code: Code) -> Tensor:
    """The values of a categorical code that a picture has a row for, int64: all, or 40 evenly spaced ones."""
    rows = min(code.size, MOST_ROWS)
    return torch.arange(rows) * code.size // rows


def sample_grid(generator: nn.Module, spec: LatentSpec) -> Image.Image:
    """Ten columns of samples; each row is one of the :func:`shown_categories` of c1, or without a categorical
    code there are ten rows.

    Args:
        generator: in evaluation mode, see :func:`infogan_fast.networks.statistics.calibrated`.
    """
    code = spec.categorical_codes[0] if spec.categorical_codes else None
    shown = shown_categories(code) if code else torch.arange(10)
    inputs = draw_inputs(generator, spec, len(shown) * 10)
    if code:
        inputs = with_codes(inputs, spec, {code.name: shown.repeat_interleave(10)})
    images = make_images(generator, inputs)
    return grids.image_grid(images, 10, scale=grids.scale_for(images.shape[-1]))


def diversity(generator: nn.Module, spec: LatentSpec, images: Tensor, count: int = 256) -> float | None:
    """Variance of generated images over that of real ones, each summed over the pixels: near 1 for a good
    generator, 0 for one that always makes the same image. None if these real images are all alike.

    Args:
        generator: in evaluation mode, see :func:`infogan_fast.networks.statistics.calibrated`.
        images: real ones, uint8 [N, S, S, C]; ``count`` of them are used.
    """
    if len(images) < 2:
        return None
    used = min(count, len(images))
    # Whole numbers: float32 has not all of those above 2^24.
    chosen = torch.arange(used, device=images.device) * (len(images) - 1) // (used - 1)
    batches = make_images(generator, draw_inputs(generator, spec, count)), images[chosen]
    made, real = (float(batch.float().var(0).sum()) for batch in batches)
    return made / real if real > 0 else None
