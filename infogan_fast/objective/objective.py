"""The objective of training and its optimizers. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.code_weights import CodeWeights
from infogan_fast.objective.term import Term, check_terms
from infogan_fast.objective.transformation import Transformation

MI_GRADIENTS = ("generator", "trunk")
SCHEDULES = ("alternating", "one-stage")


@dataclass(frozen=True)
class Objective:
    """The objective and how it is optimised; the defaults are the paper's (Chen et al. 2016, section 7 and
    appendix C, lambdas as in the authors' code).

    lambda_categorical, lambda_continuous: weight of the mutual information of each categorical code, of each
        other code.
    lambda_: those of single codes, instead.
    fixed_sigma: standard deviation of Q's Gaussians; None where Q learns it.
    mi_gradient: ``"generator"``: the mutual information trains the generator and Q; ``"trunk"``: the
        discriminator's trunk too, in its own update.
    terms: measured on real images; none in the paper. Those with a weight of 0 are ignored.
    transformation: makes the copies that the terms compare.
    restart_q: updates after which Q's head starts again; 0 for never. Not in the paper.
    schedule: ``"alternating"``: the generator's gradient comes through the updated discriminator (the paper's
        algorithm); ``"one-stage"``: both gradients at the same weights, a pass of the discriminator less.
    lr_d, lr_q, lr_g, beta1, beta2: of Adam.
    ema: decay an update of the exponential moving average of all weights, whose generator makes better images
        (Yazici et al. 2019, arXiv 1806.04498) and whose Q reads images better (Polyak and Juditsky 1992);
        0 for none. At update t the decay is at most (1 + t) / (10 + t), so that the first weights are soon
        forgotten, as TensorFlow's averages do.
    """

    lambda_categorical: float = 1.0
    lambda_continuous: float = 0.1
    lambda_: CodeWeights = field(default_factory=CodeWeights)
    fixed_sigma: float | None = None
    mi_gradient: str = "generator"
    terms: tuple[Term, ...] = ()
    transformation: Transformation = field(default_factory=Transformation)
    restart_q: int = 0
    schedule: str = "alternating"
    lr_d: float = 2e-4
    lr_q: float = 2e-4
    lr_g: float = 1e-3
    beta1: float = 0.5
    beta2: float = 0.999
    ema: float = 0.0

    @property
    def fixed_log_variance(self) -> float | None:
        """That of Q's Gaussians, in [-10, 10]; None where Q learns it."""
        if self.fixed_sigma is None:
            return None
        return min(max(2 * math.log(self.fixed_sigma), -10.0), 10.0)  # the ends of its range round past them

    def lambdas(self, spec: LatentSpec) -> tuple[float, ...]:
        """Weight of the mutual information of each code, in code order."""
        given = dict(self.lambda_.by_name)
        return tuple(
            given.get(code.name, self.lambda_categorical if code.is_categorical else self.lambda_continuous)
            for code in spec.codes
        )

    def measured_terms(self, spec: LatentSpec) -> tuple[Term, ...]:
        """The terms that an update computes: those with a weight, and those measured with any other.

        Raises:
            UserError: the terms do not go with the codes, the copies or each other, or a prior that is
                learned lacks consistency.
        """
        check_terms(self.terms, spec, self.transformation)
        if spec.has_learned_priors and not any(t.name == "consistency" and t.weight for t in self.terms):
            raise UserError(
                f"--latents {spec} has a learned prior, which follows what --consistency measures; give "
                "--consistency WEIGHT, such as 1"
            )
        weighted = any(term.weight for term in self.terms)
        return tuple(term for term in self.terms if weighted and (term.weight or term.measured_with_any))
