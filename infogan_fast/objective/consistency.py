"""Consistency: Q should assign a real image and its transformed copy to the same category.

The objective of InfoGAN keeps a code, but does not choose its meaning: two digits may share a value. What a
slight turn, stretch or shift leaves alone is a better guess at a class than what it changes. So Q is also
trained to give a real image and its copy the same value, and to use all values: invariant information
clustering (Ji et al. 2019, arXiv 1807.06653, section 3). No label is read.
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
    import torch
    from torch import Tensor

    from infogan_fast import ops

_GROUP = "objective"
_STAGES = 5


@dataclass(frozen=True)
class Consistency(Term):
    """The mutual information of Q's two answers, for each categorical code.

    With p and p' its posteriors for the B images and copies, J = mean p p'^T made symmetric and m its margin,
    I = sum J log(J / (m m^T)) (Ji et al. 2019, section 3). It is log K where both answers are always equal
    and certain and all values equally frequent, 0 where they are independent or constant. Each code has a
    joint of its own: the generator's objective already keeps codes apart. I draws every margin towards equal
    frequencies, also that of a code with another prior; there the information of generated images, which
    holds the prior, pulls against it.

    The loss of a code is -consistency (I + balance H(m)). Where two classes share a value while two values
    share another class, I is hardly less than it could be; H(m), the entropy of the margin, is, so it may
    count for more (as in the code of Ji et al., whose lamb is 1 + balance / 2). The frequencies in one batch
    are not those of the data, and equal ones in every batch would be wrong, so J is a moving average over
    batches, as in Belghazi et al. 2018 (arXiv 1801.04062, section 3.2). Only this batch's part of it has a
    gradient, which is scaled as if it were the whole.

    Of two partitions that copies respect equally well, I is larger for the more equal one: where four of
    five images are of one class, for halves of that class. With a balance below 0 agreement counts for more
    than equal frequencies, but categories that agree badly, as all do at first, vanish. So balance can fall
    once they have formed.
    """

    name: ClassVar[str] = "consistency"
    measured_with_any: ClassVar[bool] = True
    #: Balance falls at multiples of so many parts of ``balance_until``.
    PARTS_OF_BALANCE: ClassVar[int] = 3 * _STAGES

    consistency: float = option(
        0.0,
        "weight of Q's agreement on images and copies (categorical codes)",
        details="Q should assign a real image and a transformed copy of it to the same category; without "
        "this a code need not be a class. It takes about a quarter more time.",
        group=_GROUP,
        low=0,
        metavar="X",
        by_recipe=True,
    )
    balance: float = option(
        0.0,
        "weight of equally frequent categories in consistency",
        details="Keeps two classes from sharing a value. Needs `--consistency`.",
        group=_GROUP,
        low=0,
        metavar="X",
        by_recipe=True,
    )
    joint_ema: float = option(
        0.0,
        "decay of consistency's average over batches",
        details="Agreement and frequencies are measured in a moving average over batches; 0 measures each "
        "batch alone. Needs `--consistency`.",
        group=_GROUP,
        low=0,
        below=1,
        metavar="X",
        by_recipe=True,
    )
    balance_end: float = option(
        0.0,
        "weight to which balance falls by --balance-until",
        details="Below 0 agreement counts for more than equal frequencies. With a learned prior, -0.5.",
        group=_GROUP,
        above=-1,
        metavar="X",
        by_recipe=True,
    )
    balance_until: int = option(
        0,
        "updates over whose last two thirds balance falls; 0: never",
        details=f"It falls in {_STAGES} steps. With a learned prior, over 1,500 updates.",
        group=_GROUP,
        low=0,
        metavar="N",
        by_recipe=True,
        in_updates=True,
    )

    def check(self, spec: LatentSpec, transformation: Transformation) -> None:
        """See :meth:`Term.check`."""
        if self.consistency and not spec.n_categorical:
            raise needs("--consistency", self.consistency, "categorical", spec, "cat=10")
        for name in ("balance", "joint_ema", "balance_end", "balance_until"):
            value, flag = getattr(self, name), f"--{name.replace('_', '-')}"
            if value and not self.consistency:
                raise UserError(f"{flag} {value:g} needs --consistency WEIGHT, such as 1")
        if self.balance_end and not self.balance_until:
            raise UserError(f"--balance-end {self.balance_end:g} needs --balance-until N, such as 1500")

    def at(self, update: int) -> Consistency:
        """The term with its balance at that update; with a weight of 0 it is only measured."""
        passed = sum(update >= border for border in self.changes_at()["balance_until"])
        balance = self.balance + (self.balance_end - self.balance) * passed / _STAGES
        return replace(self, balance=balance)

    def changes_at(self) -> dict[str, tuple[int, ...]]:
        """See :meth:`Term.changes_at`."""
        parts = range(_STAGES, self.PARTS_OF_BALANCE, 2)  # fifteenths, from a third on
        borders = (self.balance_until * part // self.PARTS_OF_BALANCE for part in parts)
        return {"balance_until": tuple(borders) if self.balance_until else ()}

    def metrics(self, spec: LatentSpec) -> tuple[str, ...]:
        """``I_CODE`` in nats, 0 to log K, of the average joint."""
        return tuple(f"I_{code.name}" for code in spec.categorical_codes)

    def state(self, spec: LatentSpec, dtype: torch.dtype, device: torch.device) -> dict[str, list[Tensor]]:
        """``joints``: [K, K] for each categorical code; at first, independent and uniform."""
        import torch

        sizes = [code.size for code in spec.categorical_codes]
        return {"joints": [torch.full((k, k), 1.0 / k**2, dtype=dtype, device=device) for k in sizes]}

    def restart(self, state: dict[str, list[Tensor]]) -> None:
        """See :meth:`Term.restart`."""
        for joint in state["joints"]:
            joint.fill_(1.0 / joint.numel())

    def agreement(
        self, parts: ops.Agreement, spec: LatentSpec, state: dict[str, list[Tensor]]
    ) -> ops.Agreement:
        """See :meth:`Term.agreement`."""
        return replace(
            parts,
            consistency=self.consistency,
            balance=self.balance,
            joint_ema=self.joint_ema,
            joints=state["joints"],
        )
