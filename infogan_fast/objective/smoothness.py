"""Smoothness: Q should assign a real image and what is near it to the same category.

A class may reach further than a turn or a shift. At first Q is trained not to change its answer within a
small distance of a real image, in the direction in which it would change most: virtual adversarial training
(Miyato et al. 2018, arXiv 1704.03976), as in clustering by Hu et al. 2017 (arXiv 1702.08720). A seven with a
bar, which may agree with itself as well as a two does, comes to the other sevens.

Once the classes are there, near is what becomes of an image when parts of it move a little, each its own way:
elastic deformation (Simard et al. 2003, doi 10.1109/ICDAR.2003.1227801). Only the answer to the bent copy is
trained, as in Xie et al. 2019 (arXiv 1904.12848): where a bend destroys what an image shows, the answer to
the image does not suffer. A nine with a curled tail, which is near a three, comes to the other nines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.term import Term, needs
from infogan_fast.objective.transformation import Transformation
from infogan_fast.options import option

if TYPE_CHECKING:
    from torch import Tensor

    from infogan_fast import ops


@dataclass(frozen=True)
class Smoothness(Term):
    """The divergence of Q's categorical answers to copies near the images from those to the images."""

    name: ClassVar[str] = "smoothness"

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
        "updates after which smoothness ends and bending begins; 0: smoothness never ends",
        details="Smoothness prevents errors that are made early, and what it keeps together may have to be "
        "separated later. With `--smoothness 0` and 0, bending begins at once.",
        group="objective",
        low=0,
        metavar="N",
        by_recipe=True,
        in_updates=True,
    )
    bending: float = option(
        0.0,
        "weight of Q's agreement on images and bent copies of them, after smoothness",
        details="Q's categorical answers to bent copies should be those to their images, half of the batch. "
        "`--transformation` says how far copies are bent. It takes about a tenth more time.",
        group="objective",
        low=0,
        metavar="X",
        by_recipe=True,
    )

    @property
    def weight(self) -> float:
        """See :attr:`Term.weight`."""
        return max(self.smoothness, self.bending)

    @property
    def near_copies(self) -> str | None:
        """See :attr:`Term.near_copies`."""
        return "adversarial" if self.smoothness else "bent" if self.bending else None

    def check(self, spec: LatentSpec, transformation: Transformation) -> None:
        """See :meth:`Term.check`."""
        for flag, weight in (("--smoothness", self.smoothness), ("--bending", self.bending)):
            if weight and not spec.n_categorical:
                raise needs(flag, weight, "categorical", spec, "cat=10")
        if self.bending and not transformation.bend:
            raise UserError(
                f"--bending {self.bending:g} needs copies that are bent; add bend=0.1 to --transformation "
                f"{transformation}, or leave it out"
            )

    def at(self, update: int) -> Smoothness | None:
        """See :meth:`Term.at`."""
        if self.smoothness and (self.smoothness_until == 0 or update < self.smoothness_until):
            return replace(self, bending=0.0)
        return replace(self, smoothness=0.0) if self.bending and update >= self.smoothness_until else None

    def changes_at(self) -> dict[str, tuple[int, ...]]:
        """See :meth:`Term.changes_at`."""
        return {"smoothness_until": (self.smoothness_until,)}

    def agreement(
        self, parts: ops.Agreement, spec: LatentSpec, state: dict[str, list[Tensor]]
    ) -> ops.Agreement:
        """See :meth:`Term.agreement`."""
        return replace(parts, smoothness=self.smoothness or self.bending)
