"""Invariance: Q should read the last uniform or normal code alike from an image and its copy.

Nothing in InfoGAN chooses between two continuous codes and two mixtures of them: slant and thickness are read
as well from their sum and their difference. A code that is read alike from an image and its copy leaves what
the copy changes to the others. Locatello et al. 2020 (arXiv 2002.02886) show that pairs of images which
share some factors identify them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from infogan_fast.latents import Code, LatentSpec
from infogan_fast.objective.term import Term, needs
from infogan_fast.objective.transformation import Transformation
from infogan_fast.options import option

if TYPE_CHECKING:
    from torch import Tensor

    from infogan_fast import ops


@dataclass(frozen=True)
class Invariance(Term):
    """The distance of Q's two answers."""

    name: ClassVar[str] = "invariance"

    invariance: float = option(
        0.0,
        "weight with which the last continuous code ignores the copy's change",
        details="Q should read the last uniform or normal code alike from an image and its copy, so that "
        "the other codes take up what copies change.",
        group="objective",
        low=0,
        metavar="X",
        by_recipe=True,
    )

    def check(self, spec: LatentSpec, transformation: Transformation) -> None:
        """See :meth:`Term.check`."""
        if self.invariance and not spec.ordered_codes:
            raise needs("--invariance", self.invariance, "uniform or normal", spec, "uniform=2")

    def continuous_code(self, spec: LatentSpec) -> Code | None:
        """The last uniform or normal code."""
        return spec.ordered_codes[-1]

    def metrics(self, spec: LatentSpec) -> tuple[str, ...]:
        """``D_CODE`` in nats: how far apart the two answers are."""
        return (f"D_{spec.ordered_codes[-1].name}",)

    def agreement(
        self, parts: ops.Agreement, spec: LatentSpec, state: dict[str, list[Tensor]]
    ) -> ops.Agreement:
        """See :meth:`Term.agreement`."""
        from infogan_fast import ops

        distance = ops.Distance(spec.ordered_codes[-1], self.invariance)
        return replace(parts, distances=(*parts.distances, distance))
