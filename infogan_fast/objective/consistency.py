"""Consistency on real images: a transformed copy of each, and how well Q's answers to the two agree.

The objective of InfoGAN keeps a code, but does not choose what it means: two digits may share a value. What a
slight turn, stretch or shift leaves alone is a better guess at a class than what it changes, so Q is also
trained to give a real image and its copy the same value, and to use all values: invariant information
clustering (Ji et al. 2019, arXiv 1807.06653, section 3).

Nor does it choose between two continuous codes and two mixtures of them: slant and thickness are read as well
from their sum and their difference. If one code, the last, is read alike from an image and its copy, then it
leaves what the copy changes to the others. That pairs of images which share some factors tell these from the
others is known from Locatello et al. 2020 (arXiv 2002.02886). If another, the first, is read higher by as
much as the copy was turned, then it is the slant, with the same sign in every category, and no category need
be. That a network learns what it can tell two images' transformation by is known from Zhang et al. 2019
(arXiv 1901.04596).

What a class is need not be within a turn or a shift of what it is otherwise: a seven with a bar may as well
agree with itself as a two. So Q is also trained not to change its answer within a small distance of a real
image, in the direction in which it would change most: virtual adversarial training (Miyato et al. 2018, arXiv
1704.03976), as in clustering by Hu et al. 2017 (arXiv 1702.08720). No label is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from infogan_fast import ops
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec

# Angle, scale, shear, shift (x, y), mirror, gains of three channels: always all of them, so that changing one
# range leaves the other draws as they are.
_DRAWS = LatentSpec(noise_dim=0, categorical_sizes=(), continuous_kinds=("uniform",) * 9)
# The latents are drawn by the same operator; with their seed the copies would follow the codes.
_SEED = 0x636F_7069_6573
_LARGEST_SLANT = 0.5  # what the copy that is turned most adds to the first ordered code
_RADIUS = 1 / 14  # of adversarial copies, in root mean square of a pixel: 2 for an image of 28 x 28
_PROBE = 0.25  # of the radius: how far away the change of the answers is measured
_LEAST = 1e-30  # of a probability whose logarithm is taken: within float32's normal numbers

_GRAMMAR = (
    "expected comma-separated parts such as rotation=15,scale=0.15,shear=0.2,shift=0.06 "
    "(rotation in degrees, scale and shift as shares, shear, colour as a share, flip=0 or 1; a part that is "
    "left out is 0)"
)


@dataclass(frozen=True)
class Transformation:
    """Ranges of the random change that makes an image's copy; each image draws its own, uniformly.

    The image is mirrored, sheared, turned, scaled and shifted about its middle, in this order, and read
    bilinearly; pixels from outside are those of the border, whatever the background.

    Args:
        rotation: largest angle either way, in degrees, 0 to 180.
        scale: the size is times 1 - scale to 1 + scale; at least 0 and below 1.
        shear: a row at distance d above the middle is pushed aside by up to shear * d; 0 or more.
        shift: the largest shift along each axis, as a share of the side, 0 to 1.
        colour: each channel is times 1 - colour to 1 + colour (and cut at 1), 0 to 1; without it the classes
            of colour pictures may turn out to be their mean colours.
        flip: mirror half of the copies left to right; not for what has a reading direction.

    Raises:
        UserError: a range is not valid.
    """

    rotation: float = 15.0
    scale: float = 0.15
    shear: float = 0.2
    shift: float = 0.06
    colour: float = 0.0
    flip: bool = False

    def __post_init__(self) -> None:
        for name, most, expected in (
            ("rotation", 180.0, "0 to 180 degrees"),
            ("scale", math.nextafter(1.0, 0.0), "at least 0 and below 1"),
            ("shear", math.inf, "0 or more"),
            ("shift", 1.0, "0 to 1"),
            ("colour", 1.0, "0 to 1"),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= most):
                raise UserError(f"{name} is {value}; expected {expected}")

    @classmethod
    def parse(cls, text: str) -> Transformation:
        """Read a specification such as ``rotation=15,scale=0.15,shear=0.2,shift=0.06,flip=0``.

        Args:
            text: comma-separated ``range=value`` parts, each at most once, spaces ignored; what is left out
                is 0.

        Raises:
            UserError: the text does not follow this grammar, or a range is not valid.
        """
        ranges: dict[str, float] = {field.name: 0.0 for field in fields(cls)}
        given = set()
        for part in text.replace(" ", "").split(","):
            name, _, value = part.partition("=")
            if name not in ranges:
                raise UserError(f"transformation {text!r}: cannot read {part!r}; {_GRAMMAR}")
            if name in given:
                raise UserError(f"transformation {text!r}: {name} is given twice; give it once")
            given.add(name)
            try:
                ranges[name] = float(value)
            except ValueError:
                raise UserError(f"transformation {text!r}: cannot read {part!r}; {_GRAMMAR}") from None
        flip = ranges.pop("flip")
        if flip not in (0.0, 1.0):
            raise UserError(f"transformation {text!r}: flip is {flip:g}; expected 0 or 1")
        try:
            return cls(**ranges, flip=flip == 1.0)
        except UserError as error:
            raise UserError(f"transformation {text!r}: {error}") from None

    @property
    def has_slants(self) -> bool:
        """Whether copies are turned or sheared, and not mirrored, which would turn the image's own slant."""
        return (self.rotation > 0 or self.shear > 0) and not self.flip

    def __str__(self) -> str:
        values = {field.name: float(getattr(self, field.name)) for field in fields(self)}
        return ",".join(f"{name}={repr(value).removesuffix('.0')}" for name, value in values.items())


#: The transformation of each data set that is consistent by default. Handwriting turns and leans by as much
#: from one writer to the next; the drawings lean by their rotation alone. Articles of clothing lie upright
#: and fill their frame: a copy turned by 15 degrees would look like none of them.
TRANSFORMATIONS = {
    "mnist": Transformation(),
    "strokes": Transformation(shear=0.0),
    "fashion-mnist": Transformation(rotation=5.0, scale=0.1, shear=0.05, shift=0.06),
}


class Agreement(NamedTuple):
    """What :func:`agreement` returns; float32, or float64 for float64 inputs."""

    information: Tensor
    """[n_categorical]: I of each categorical code in nats, 0 to log K; of its average joint where there is
    one."""
    distances: Tensor
    """[2]: of the first and the last uniform or normal code, from what equivariance and invariance ask of
    them, in nats; 0 where they do not."""
    gradient: Tensor
    """Of the loss with respect to the outputs, as these."""


def ordered_codes(spec: LatentSpec) -> list[int]:
    """Positions among the continuous codes of the uniform and normal ones."""
    return [i for i, kind in enumerate(spec.continuous_kinds) if kind != "bernoulli"]


def copy_state(seed: int, device: torch.device | str = "cpu") -> Tensor:
    """The random state of the copies, int64 [2], for a run's seed; see :func:`ops.rng_state`."""
    return ops.rng_state(seed ^ _SEED, device=device)


def transformed(rng_state: Tensor, images: Tensor, transformation: Transformation) -> Tensor:
    """A transformed copy of each image, without waiting for the device.

    The copy of image n is a pure function of (seed, step, n). It is computed in float32, or float64 for
    float64 images, and is not differentiable.

    Args:
        rng_state: of :func:`copy_state`, on the images' device; its step is moved on by one in place.
        images: [B, C, S, S] in [0, 1], C up to 3, any floating dtype.
        transformation: the ranges to draw from.

    Returns:
        As ``images``: shape, dtype and memory format.
    """
    side, dtype = images.shape[-1], torch.promote_types(images.dtype, torch.float32)
    draws = ops.sample_latents(rng_state, len(images), _DRAWS).continuous.to(dtype)[:, :, None]
    t, turn = transformation, draws[:, 0] * math.radians(transformation.rotation)
    shrink = 1.0 / (1.0 + t.scale * draws[:, 1])
    sine, cosine, lean = turn.sin() * shrink, turn.cos() * shrink, t.shear * draws[:, 2]
    # From a place in the copy back to the image, in half sides from the middle, y downwards.
    centres = (2.0 * torch.arange(side, device=images.device, dtype=dtype) + 1.0) / side - 1.0
    x, y = centres - 2.0 * t.shift * draws[:, 3], centres - 2.0 * t.shift * draws[:, 4]
    from_x = torch.stack([(cosine - lean * sine) * x, sine * x], -1)
    from_y = torch.stack([(-sine - lean * cosine) * y, cosine * y], -1)
    grid = from_x[:, None] + from_y[:, :, None]
    if t.flip:
        grid[..., 0] *= torch.where(draws[:, 5, :, None] > 0, -1.0, 1.0)
    result = functional.grid_sample(
        images.detach().to(dtype), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    if t.colour:
        gains = 1.0 + t.colour * draws[:, 6 : 6 + images.shape[1], :, None]
        result = (result * gains).clamp_(max=1.0)
    return torch.empty_like(images).copy_(result)


def slants(rng_state: Tensor, count: int, transformation: Transformation) -> Tensor:
    """By how much each copy that :func:`transformed` makes next turns an upright stroke, anticlockwise.

    Args:
        rng_state: as it is before the copies; left as it is.
        count: B, of images.
        transformation: of the copies; it must have slants.

    Returns:
        [B], float64, in [-1, 1]: as a share of the largest angle there is, rotation + arctan(shear).
    """
    draws = ops.sample_latents(rng_state, count, _DRAWS, advance=False).continuous.double()
    rotation = math.radians(transformation.rotation)
    angles = rotation * draws[:, 0] + (transformation.shear * draws[:, 2]).atan()
    return angles / (rotation + math.atan(transformation.shear))


def answer_gradient(spec: LatentSpec, q_output: Tensor, wanted: Tensor) -> Tensor:
    """Gradient, with respect to Q's outputs, of the Kullback-Leibler divergence of its categorical answers
    from those that are wanted, which count as constants; summed over codes.

    Args:
        spec: the latent specification that both follow.
        q_output, wanted: [B, q_dim], read in float32 (float64 where they are).

    Returns:
        [B, q_dim], of the dtype that was read, by row; 0 for continuous codes.
    """
    dtype, column = torch.promote_types(q_output.dtype, torch.float32), 0
    gradient = torch.zeros(q_output.shape, dtype=dtype, device=q_output.device)
    for size in spec.categorical_sizes:
        code = slice(column, column + size)
        answer, other = (outputs.detach()[:, code].to(dtype).softmax(1) for outputs in (q_output, wanted))
        gradient[:, code] = answer - other
        column += size
    return gradient


def adversarial(
    rng_state: Tensor,
    images: Tensor,
    spec: LatentSpec,
    q_of: Callable[[Tensor], Tensor],
    *,
    sample_offset: int,
) -> Tensor:
    """A copy of each image at a small distance from it, in about the direction in which Q's categorical
    answers change most (Miyato et al. 2018, algorithm 1, one iteration), without waiting for the device.

    Args:
        rng_state: of :func:`copy_state`, on the images' device; left as it is.
        images: [B, C, S, S], any floating dtype.
        spec: the latent specification that Q's outputs follow.
        q_of: images and probes, [2B, C, S, S], to Q's outputs, [2B, q_dim], differentiable in its input. Both
            halves should have batch statistics of their own.
        sample_offset: no smaller than the number of copies that are drawn by the same state.

    Returns:
        As ``images``: shape, dtype and memory format.
    """
    channels, height, width = images.shape[1:]
    dtype = torch.promote_types(images.dtype, torch.float32)
    noise = LatentSpec(noise_dim=channels * height * width, categorical_sizes=(), continuous_kinds=())
    drawn = ops.sample_latents(
        rng_state, len(images), noise, dtype=dtype, sample_offset=sample_offset, advance=False
    )
    radius, given = _RADIUS * math.sqrt(noise.noise_dim), images.detach().to(dtype)
    probes = (given + _PROBE * radius * _of_length_one(drawn.inputs.view(images.shape))).requires_grad_()
    outputs = q_of(torch.cat([given, probes]))
    before, after = outputs.chunk(2)
    gradient = answer_gradient(spec, after, before)
    # Half precision has no such small numbers otherwise; the length does not count.
    gradient = torch.cat([torch.zeros_like(gradient), 1024.0 * gradient]).to(outputs.dtype)
    (direction,) = torch.autograd.grad(outputs, probes, gradient)
    return torch.empty_like(images).copy_(given + radius * _of_length_one(direction))


def _of_length_one(vectors: Tensor) -> Tensor:
    lengths = vectors.flatten(1).norm(dim=1).clamp_min(_LEAST)
    return vectors / lengths[:, None, None, None]


def average_joints(spec: LatentSpec, dtype: torch.dtype, device: torch.device | str = "cpu") -> list[Tensor]:
    """[K, K] of each categorical code, for :func:`agreement`: independent answers, all values as frequent."""
    return [torch.full((k, k), 1.0 / k**2, dtype=dtype, device=device) for k in spec.categorical_sizes]


def agreement(
    spec: LatentSpec,
    q_output: Tensor,
    *,
    consistency: float,
    balance: float = 0.0,
    joints: Sequence[Tensor] | None = None,
    joint_ema: float = 0.0,
    equivariance: float = 0.0,
    slant: Tensor | None = None,
    invariance: float = 0.0,
    fixed_log_variance: float | None = None,
) -> Agreement:
    """How well Q's answers to images and to their copies agree, and the gradient of the loss that this makes.

    Each categorical code has the mutual information of the two answers. With p and p' its posteriors for the
    B images and copies, J = mean p p'^T made symmetric and m its margin, I = sum J log(J / (m m^T)) (Ji et
    al. 2019, section 3). It is log K where both are always the same and certain and all values as frequent, 0
    where they are independent or constant. Each code has a joint of its own: that two codes differ is left to
    the generator's objective. I draws every code's margin towards equal frequencies, that of a code with
    another prior too; there the information of generated images, which holds the prior, pulls against it.

    The loss of a categorical code is -consistency (I + balance H(m)). Where two classes share a value while
    two values share another class, I is hardly less than it could be; it is H(m), the entropy of the margin,
    that is, so it may count for more (as in the code of Ji et al., whose lamb is 1 + balance / 2). But the
    frequencies in one batch are not those of the data, and would be made equal in every batch by itself. With
    ``joints``, J is a moving average over batches, as in Belghazi et al. 2018 (arXiv 1801.04062, section
    3.2). Only this batch's part of it has a gradient, which is scaled as if it were the whole.

    The last uniform or normal code has the distance of the two answers, mean (mu - mu')^2 (1 / v + 1 / v') /
    4: what the means contribute to the mean of both Kullback-Leibler divergences between Q's Gaussians. The
    variances v and v' count as constants, so that no answer agrees by being vague. No reward is given for
    varying over real images, which the code could only earn by telling classes apart. The first has that of
    mu' from mu + slant / 2: half a unit, a quarter of what a uniform code varies by, for the copy that is
    turned most.

    Args:
        spec: the latent specification that q_output follows.
        q_output: [2B, q_dim], the outputs for B images, then for their copies in the same order. It is read
            in float32 (float64 where it is float64), under autocast too.
        consistency: weight of the categorical codes.
        balance: weight of H(m) beside I.
        joints: of :func:`average_joints`, on the outputs' device, float32 (float64 for float64 outputs);
            moved on in place, unless the outputs are not finite. None: the batch's own joint counts alone.
        joint_ema: decay a call of these averages, 0 to below 1.
        equivariance: weight of the first code's distance; above 0 there must be a uniform or normal code.
        slant: of the copies, [B], see :func:`slants`; for equivariance.
        invariance: weight of the last code's; above 0 there must be a uniform or normal code, with
            equivariance two.
        fixed_log_variance: of Q's Gaussians; None where q_output has it.
    """
    dtype = torch.promote_types(q_output.dtype, torch.float32)
    q = q_output.detach().to(dtype)
    gradient, information, column = torch.zeros_like(q), [], 0
    with torch.autocast(q.device.type, enabled=False):
        for code, size in enumerate(spec.categorical_sizes):
            p = q[:, column : column + size].softmax(1)
            real, copy = p.chunk(2)
            joint = real.t() @ copy / len(real)
            joint = (joint + joint.t()) / 2
            if joints is not None:
                joint = joints[code].lerp(joint, 1.0 - joint_ema)
                # A batch that overflows is skipped by the gradient scaler; it must not stay in the average.
                joints[code].copy_(torch.where(joint.isfinite(), joint, joints[code]))
            margin = joint.sum(0).clamp_min(_LEAST).log()
            margins = margin + margin[:, None]
            pointwise = joint.clamp_min(_LEAST).log() - margins
            information.append((joint * pointwise).sum())
            pointwise -= balance / 2 * margins
            slope = torch.cat([copy, real]) @ pointwise / len(real)
            gradient[:, column : column + size] = (-consistency * p) * (
                slope - (p * slope).sum(1, keepdim=True)
            )
            column += size
        distances, ordered = q.new_zeros(2), ordered_codes(spec)
        for i, weight in enumerate((equivariance, invariance)):
            if not weight:
                continue
            which = -i  # the first code, the last
            real, copy = q[:, column + ordered[which]].chunk(2)
            if fixed_log_variance is None:
                log_variances = q[:, q.shape[1] - len(ordered) :][:, which]
                precision = (-log_variances.clamp(-10.0, 10.0)).exp().unflatten(0, (2, -1)).mean(0)
            else:
                precision = torch.full_like(real, math.exp(-fixed_log_variance))
            change = real - copy
            if i == 0:
                assert slant is not None
                change = change + _LARGEST_SLANT * slant.to(dtype)
            distances[i] = (change.square() * precision).mean() / 2
            slope = (weight / len(real)) * change * precision
            gradient[:, column + ordered[which]] = torch.cat([slope, -slope])
    return Agreement(torch.stack(information) if information else q.new_zeros(0), distances, gradient)
