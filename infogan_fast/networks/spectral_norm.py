"""Spectral normalisation: weights divided by their largest singular value (Miyato et al. 2018, arXiv
1802.05957)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

_ITERATIONS_AT_FIRST = 15


class SpectralNorm(nn.Module):
    """Weights [K, ...] to weights of the same shape whose matrix [K, everything else] has 1 as its largest
    singular value.

    The value is estimated by power iteration; in training each call takes a step of it, so the estimate
    follows the weights. It is computed in float32 or better, whatever the precision of the weights.
    """

    u: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("u", functional.normalize(weight.new_ones(len(weight)), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.to(self.u.dtype).flatten(1)
            with torch.no_grad():
                v, u = self._iterate(matrix, self.u.clone())
                if self.training:
                    self.u.copy_(u)
            return (weight.to(self.u.dtype) / (u @ matrix @ v)).to(weight.dtype)

    @staticmethod
    def _iterate(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        v = functional.normalize(u @ matrix, dim=0)
        return v, functional.normalize(matrix @ v, dim=0)

    def draw(self, normal: Callable[[Sequence[int]], Tensor], weight: Tensor) -> None:
        """Begin again with these weights, from a vector that ``normal`` draws."""
        self.u.copy_(functional.normalize(normal(self.u.shape), dim=0))
        for _ in range(_ITERATIONS_AT_FIRST):
            self.u.copy_(self._iterate(weight.flatten(1), self.u)[1])


def spectrally_normalised(layer: nn.Conv2d | nn.Linear) -> None:
    """Have a layer compute with its weight divided by the weight's largest singular value."""
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight.detach()))


def own_weight(layer: nn.Module) -> nn.Parameter:
    """What an optimiser changes: the weight itself, or that before the normalisation."""
    found = layer.parametrizations.weight.original if parametrize.is_parametrized(layer) else layer.weight  # type: ignore[union-attr]
    assert isinstance(found, nn.Parameter)
    return found
