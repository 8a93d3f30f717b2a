"""Equivariance: Q should read the first uniform or normal code higher by as much as a copy is turned.

So the code becomes the slant, with the same sign in every category, and categorical codes no longer separate
slants. Zhang et al. 2019 (arXiv 1901.04596) show that a network learns features from
predicting the transformation between two images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from infogan_fast.errors import UserError
from infogan_fast.latents import Code, LatentSpec
from infogan_fast.objective.term import Term, needs
from infogan_fast.objective.transformation import Transformation
from infogan_fast.options import option

if TYPE_CHECKING:
    from torch import Tensor

    from infogan_fast import ops

_LARGEST = 0.5  # what the copy that is turned most adds to the code: a quarter of a uniform code's range


@dataclass(frozen=True)
class Equivariance(Term):
    """The distance of Q's answer to the copy from its answer to the image plus half the copy's slant."""

    name: ClassVar[str] = "equivariance"

    equivariance: float = option(
        0.0,
        "weight with which the first continuous code follows the slant",
        details="Q should read the first uniform or normal code higher by as much as a copy is turned, so "
        "that it becomes the slant, in the same direction in every category.",
        group="objective",
        low=0,
        metavar="X",
        by_recipe=True,
    )

    def check(self, spec: LatentSpec, transformation: Transformation) -> None:
        """See :meth:`Term.check`."""
        if not self.equivariance:
            return
        if not spec.ordered_codes:
            raise needs("--equivariance", self.equivariance, "uniform or normal", spec, "uniform=2")
        if not transformation.has_slants:
            raise UserError(
                f"--equivariance {self.equivariance:g} follows how far copies are turned, and "
                f"--transformation {transformation} mirrors them, or does not turn them; give --equivariance "
                "0, or rotation or shear without flip"
            )

    def continuous_code(self, spec: LatentSpec) -> Code | None:
        """The first uniform or normal code."""
        return spec.ordered_codes[0]

    def metrics(self, spec: LatentSpec) -> tuple[str, ...]:
        """``D_CODE`` in nats: how far the answers lie from what the term asks for."""
        return (f"D_{spec.ordered_codes[0].name}",)

    def agreement(
        self, parts: ops.Agreement, spec: LatentSpec, state: dict[str, list[Tensor]]
    ) -> ops.Agreement:
        """See :meth:`Term.agreement`."""
        from infogan_fast import ops

        distance = ops.Distance(spec.ordered_codes[0], self.equivariance, slant_change=_LARGEST)
        return replace(parts, distances=(*parts.distances, distance))
