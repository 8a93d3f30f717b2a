"""Pictures of what a generator makes: a grid of samples, and sweeps of its codes as in the paper's figure
2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from infogan_fast import ops
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import Generator
from infogan_fast.pictures import figures

#: Seed of the pictures' latents: the same for every run, so that pictures of a run can be compared with one
#: another.
PICTURE_SEED = 1
_ROWS = 10
_ANIMATED_COLUMNS = 4
_BATCH = 256


def with_codes(
    inputs: Tensor,
    spec: LatentSpec,
    *,
    categorical: Mapping[int, Tensor] | None = None,
    continuous: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """A copy of generator inputs [B, latent_dim] with some codes set.

    Args:
        categorical: by the categorical code's position, the category of each row, int64 [B].
        continuous: by the continuous code's position, the value of each row [B].
    """
    result = inputs.clone()
    for which, category in (categorical or {}).items():
        start = spec.noise_dim + sum(spec.categorical_sizes[:which])
        block = result[:, start : start + spec.categorical_sizes[which]]
        block.zero_().scatter_(1, category.to(block.device)[:, None], 1.0)
    first = spec.noise_dim + sum(spec.categorical_sizes)
    for which, value in (continuous or {}).items():
        result[:, first + which] = value.to(result)
    return result


@torch.no_grad()
def make_images(generator: Generator, inputs: Tensor) -> Tensor:
    """Images uint8 [N, C, S, S] on the CPU, of inputs [N, latent_dim].

    Args:
        generator: in evaluation mode, see :func:`infogan_fast.training.step.calibrated`.
    """
    parts = [(generator(part).float() * 255).round().clamp(0, 255) for part in inputs.split(_BATCH)]
    return torch.cat([part.to(torch.uint8).cpu() for part in parts])


def draw_inputs(generator: Generator, spec: LatentSpec, count: int, seed: int = PICTURE_SEED) -> Tensor:
    """Generator inputs float32 [count, latent_dim], drawn from the prior; those of a larger count begin with
    those of a smaller one."""
    rng = ops.rng_state(seed, device=next(generator.parameters()).device)
    return ops.sample_latents(rng, count, spec).inputs


def sample_grid(generator: Generator, spec: LatentSpec) -> Image.Image:
    """Ten columns of samples; with a categorical code each row is one of its categories, and else there are
    ten rows.

    Args:
        generator: in evaluation mode, see :func:`infogan_fast.training.step.calibrated`.
    """
    rows = spec.categorical_sizes[0] if spec.n_categorical else _ROWS
    inputs = draw_inputs(generator, spec, rows * 10)
    if spec.n_categorical:
        inputs = with_codes(inputs, spec, categorical={0: torch.arange(rows).repeat_interleave(10)})
    images = make_images(generator, inputs)
    return figures.image_grid(images, 10, scale=figures.scale_for(images.shape[-1]))


def _base(
    generator: Generator, spec: LatentSpec, columns: int, seed: int, row_labels: Sequence[str] | None
) -> tuple[Tensor, Sequence[str]]:
    """Inputs [rows * columns, latent_dim], row by row, that sweeps start from, and the rows' labels.

    A row is a category of c1, or without one just another noise vector; a column another noise vector.
    Continuous codes are 0, further categorical ones their first category.
    """
    rows = spec.categorical_sizes[0] if spec.n_categorical else _ROWS
    if spec.n_categorical:
        row_labels = row_labels or [f"{spec.code_names[0]} = {i}" for i in range(rows)]
        base = draw_inputs(generator, spec, columns, seed).repeat(rows, 1)
        base = with_codes(base, spec, categorical={0: torch.arange(rows).repeat_interleave(columns)})
    else:
        row_labels = row_labels or [f"z{i}" for i in range(rows)]
        base = draw_inputs(generator, spec, rows * columns, seed)
    rest = {i: torch.zeros(len(base), dtype=torch.int64) for i in range(1, spec.n_categorical)}
    still = {i: torch.zeros(len(base)) for i in range(spec.n_continuous)}
    return with_codes(base, spec, categorical=rest, continuous=still), row_labels


def diversity(generator: Generator, spec: LatentSpec, images: Tensor, count: int = 256) -> float:
    """How different generated images are from one another, beside real ones: the ratio of their variances
    over images, summed over the pixels. Near 1 for a good generator, 0 for one that always makes the same.

    Args:
        generator: in evaluation mode, see :func:`infogan_fast.training.step.calibrated`.
        images: real ones, uint8 [N, S, S, C], N at least 2; ``count`` of them are looked at.
    """
    chosen = torch.linspace(0, len(images) - 1, min(count, len(images)), device=images.device).long()
    batches = make_images(generator, draw_inputs(generator, spec, count)), images[chosen]
    made, real = (float(batch.float().var(0).sum()) for batch in batches)
    return made / max(real, 1e-6)


def traversal(
    generator: Generator,
    spec: LatentSpec,
    *,
    reach: float = 2.0,
    columns: int = 11,
    seed: int = PICTURE_SEED,
    row_labels: Sequence[str] | None = None,
) -> Image.Image:
    """The paper's figure 2: a row each category of c1, a panel each continuous code, swept from -reach to
    reach.

    Within a panel all cells share their noise and their other codes (continuous ones 0, further categorical
    ones their first category), so that only what the labels say changes. A Bernoulli code has the columns 0
    and 1. Without a categorical code each row is another noise vector; without a continuous one each column
    is.

    Args:
        generator: in evaluation mode, see :func:`infogan_fast.training.step.calibrated`.
        reach: the largest value of a sweep; codes are trained in [-1, 1] (uniform) or mostly in [-2, 2]
            (normal).
        columns: values a sweep.
        seed: of the noise.
        row_labels: one each category of c1; by default its value.
    """
    base, row_labels = _base(generator, spec, 1, seed, row_labels)
    rows = len(base)
    panels = []
    for which, kind in enumerate(spec.continuous_kinds):
        values = torch.tensor([0.0, 1.0]) if kind == "bernoulli" else torch.linspace(-reach, reach, columns)
        inputs = base.repeat_interleave(len(values), 0)
        inputs = with_codes(inputs, spec, continuous={which: values.repeat(rows)})
        name = spec.code_names[spec.n_categorical + which]
        # linspace leaves -3e-8 where 0 is meant
        labels = [f"{round(value, 3) or 0.0:g}" for value in values.tolist()]
        panels.append(figures.Panel(f"{name} ({kind})", make_images(generator, inputs), row_labels, labels))
    if not panels:
        noise = draw_inputs(generator, spec, columns, seed)[:, : spec.noise_dim]
        inputs = base.repeat_interleave(columns, 0)
        inputs[:, : spec.noise_dim] = noise.repeat(rows, 1)
        labels = [f"z{i}" for i in range(columns)]
        panels.append(figures.Panel("noise", make_images(generator, inputs), row_labels, labels))
    return figures.panels_figure(panels, scale=figures.scale_for(panels[0].images.shape[-1]))


def animation(
    generator: Generator,
    spec: LatentSpec,
    *,
    reach: float = 2.0,
    steps: int = 10,
    seed: int = PICTURE_SEED,
    row_labels: Sequence[str] | None = None,
) -> list[Image.Image]:
    """The same as :func:`traversal` in time: 2 * steps frames, in which each panel's code goes from -reach to
    reach and back.

    Rows are as there; the four columns are noise vectors. A Bernoulli code is 1 where the others are at least
    0.

    Args:
        steps: from one end to the other.

    Raises:
        UserError: no code is continuous.
    """
    if not spec.n_continuous:
        raise UserError(f"latents {spec} have no continuous code to sweep; make a PNG")
    base, row_labels = _base(generator, spec, _ANIMATED_COLUMNS, seed, row_labels)
    values = torch.linspace(-reach, reach, steps + 1).tolist()
    frames = []
    for value in values + values[-2:0:-1]:
        panels = []
        for which, kind in enumerate(spec.continuous_kinds):
            shown = float(value >= 0) if kind == "bernoulli" else value
            inputs = with_codes(base, spec, continuous={which: torch.full((len(base),), shown)})
            name = spec.code_names[spec.n_categorical + which]
            labels = [f"z{i}" for i in range(_ANIMATED_COLUMNS)]
            title = f"{name} = {round(shown, 3) or 0.0:+.3f}"
            panels.append(figures.Panel(title, make_images(generator, inputs), row_labels, labels))
        frames.append(figures.panels_figure(panels, scale=figures.scale_for(panels[0].images.shape[-1])))
    return frames
