"""Smoothness: Q should assign a real image and everything close to it to the same category.

A class may reach further than a turn or a shift: a seven with a bar may agree with itself as well as a two
does. So Q is also trained not to change its answer within a small distance of a real image, in the direction
in which it would change most: virtual adversarial training (Miyato et al. 2018, arXiv 1704.03976), as in
clustering by Hu et al. 2017 (arXiv 1702.08720).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from infogan_fast.latents import LatentSpec
from infogan_fast.objective.term import Term, needs
from infogan_fast.objective.transformation import Transformation
from infogan_fast.options import option

if TYPE_CHECKING:
    from torch import Tensor

    from infogan_fast import ops


@dataclass(frozen=True)
class Smoothness(Term):
    """The divergence of Q's categorical answers to adversarial copies from those to their images."""

    name: ClassVar[str] = "smoothness"
    needs_adversarial_copies: ClassVar[bool] = True

    smoothness: float = option(
        0.0,
        "weight of Q's agreement on images and adversarial copies near them",
        details="Q's categorical answers should not change between a real image and the copy near it that "
        "changes them most. It takes about a sixth more time while it lasts.",
        group="objective",
        low=0,
        metavar="X",
        by_recipe=True,
    )
    smoothness_until: int = option(
        0,
        "updates after which smoothness ends; 0: never",
        details="It prevents errors that are made early, and what it keeps together may have to be "
        "separated later.",
        group="objective",
        low=0,
        metavar="N",
        by_recipe=True,
        in_updates=True,
    )

    def check(self, spec: LatentSpec, transformation: Transformation) -> None:
        """See :meth:`Term.check`."""
        if self.smoothness and not spec.n_categorical:
            raise needs("--smoothness", self.smoothness, "categorical", spec, "cat=10")

    def at(self, update: int) -> Smoothness | None:
        """See :meth:`Term.at`."""
        on = self.smoothness > 0 and (self.smoothness_until == 0 or update < self.smoothness_until)
        return self if on else None

    def changes_at(self) -> dict[str, tuple[int, ...]]:
        """See :meth:`Term.changes_at`."""
        return {"smoothness_until": (self.smoothness_until,)}

    def agreement(
        self, parts: ops.Agreement, spec: LatentSpec, state: dict[str, list[Tensor]]
    ) -> ops.Agreement:
        """See :meth:`Term.agreement`."""
        return replace(parts, smoothness=self.smoothness)
