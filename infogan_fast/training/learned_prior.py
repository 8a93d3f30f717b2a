"""Priors of categorical codes that training learns, for classes that are not equally frequent.

A generator whose categories are equally frequent must give a frequent class several of them (Ojha et al.
2020, Elastic-InfoGAN, arXiv 1910.01112). The frequencies that fit the data best are those with which Q finds
the categories in it: the step of expectation maximisation for the weights of a mixture. Consistency measures
them already, on real images and their copies, so no gradient is needed. No label is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infogan_fast.latents import LatentSpec

#: Share of the way to the frequencies that an update goes: a mean over about a hundred updates.
RATE = 0.01
#: Share of generated images that all categories have an equal part of, so that one that was lost can be found
#: again.
FLOOR = 1 / 11


class LearnedPrior:
    """The priors of all categorical codes, of which some follow the data.

    ``probabilities`` holds a tensor [K], float64, for each learned prior. ``cdf`` is what
    :func:`ops.sample_latents` takes, for all categorical codes. Both change in place.

    Args:
        spec: the latents; the learned priors begin with its probabilities.
        device: where latents are drawn.
    """

    def __init__(self, spec: LatentSpec, device: torch.device) -> None:
        self._codes = [code for code in spec.categorical_codes if code.learned]
        first = [code.probabilities or (1 / code.size,) * code.size for code in self._codes]
        self.probabilities = [torch.tensor(p, dtype=torch.float64, device=device) for p in first]
        sizes, _, cdf = spec.operator_arguments
        self.cdf = torch.tensor(cdf, dtype=torch.float32, device=device)
        ends = torch.tensor(sizes).cumsum(0).tolist()
        self._parts = [self.cdf[ends[code.index] - code.size : ends[code.index]] for code in self._codes]
        # A sum by rows is repeatable on a GPU; PyTorch's cumsum is not.
        self._until = [p.new_ones(len(p), len(p)).tril() for p in self.probabilities]

    @property
    def names(self) -> tuple[str, ...]:
        """``H_CODE`` of each learned prior: its entropy in nats."""
        return tuple(f"H_{code.name}" for code in self._codes)

    @torch.no_grad()
    def follow(self, joints: Sequence[Tensor]) -> Tensor:
        """Move towards the frequencies of Q's answers. Returns the entropies of the priors before, one
        dimension.

        Args:
            joints: of :class:`Consistency`, one [K, K] for each categorical code.
        """
        entropies = []
        for code, prior, until, part in zip(
            self._codes, self.probabilities, self._until, self._parts, strict=True
        ):
            entropies.append(torch.special.entr(prior).sum())
            found = joints[code.index].sum(1).to(prior.dtype)
            found /= found.sum()  # 1 but for the roundings of an average in float32
            prior.lerp_((1 - FLOOR) * found + FLOOR / len(prior), RATE)
            self._draw_from(prior, until, part)
        return torch.stack(entropies)

    @torch.no_grad()
    def restart(self) -> None:
        """Make the priors uniform: Q's head, which names the categories, starts again."""
        for prior, until, part in zip(self.probabilities, self._until, self._parts, strict=True):
            prior.fill_(1 / len(prior))
            self._draw_from(prior, until, part)

    @staticmethod
    def _draw_from(prior: Tensor, until: Tensor, part: Tensor) -> None:
        # The last entry stays above any uniform number.
        part[:-1].copy_((until * prior).sum(1)[:-1])

    def spec(self, spec: LatentSpec) -> LatentSpec:
        """The latents with the priors as they are; waits for the device."""
        return spec.with_priors([prior.tolist() for prior in self.probabilities])
