"""The losses of both players and the terms of the objective, with their gradients and their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from infogan_fast import ops
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.bounds import loss_names
from infogan_fast.objective.objective import Objective
from infogan_fast.objective.term import Answers, Term
from infogan_fast.runtime.ranks import ALONE, Ranks
from infogan_fast.training.metric_sums import MetricSums


class Losses:
    """Losses and gradients from logits and Q's output, which count as constants.

    ``metrics`` sums every value: the terms of the loss, and the metrics of the objective's terms.
    ``term_state`` holds the persistent tensors of each term.

    Args:
        spec: the latents.
        objective: its weights; see :class:`Objective`.
        terms: the objective's terms that are measured.
        dtype: float32 or float64, of the terms' state.
        device: of the networks.
        ranks: that share each batch. Losses and gradients are those of this rank's rows, whose mean over the
            ranks is that of the batch; consistency measures its joint over all of them.
        measured: names of what learned priors measure, the group ``"prior"`` of the metrics.
    """

    def __init__(
        self,
        spec: LatentSpec,
        objective: Objective,
        terms: Sequence[Term],
        dtype: torch.dtype,
        device: torch.device,
        ranks: Ranks = ALONE,
        measured: Sequence[str] = (),
    ) -> None:
        self.spec, self.device, self.ranks = spec, device, ranks
        self.fixed_log_variance = objective.fixed_log_variance
        lambdas = objective.lambdas(spec)
        through_trunk = objective.mi_gradient == "trunk"
        self._d_weights = ops.LossWeights(d_real=1.0, d_fake=1.0, codes=lambdas if through_trunk else ())
        self._g_weights = ops.LossWeights(g=1.0, codes=lambdas)
        self.term_state = {term.name: term.state(spec, dtype, device) for term in terms}
        names = loss_names(spec, learned_variance=self.fixed_log_variance is None)
        self.metrics = MetricSums(
            {
                "discriminator": names[:2],
                "generator": names[2:],
                **{term.name: term.metrics(spec) for term in terms},
                "prior": measured,
            },
            device,
            ranks,
        )
        entries = sum(code.size**2 for code in spec.categorical_codes)
        self._batch_joints = torch.zeros(entries, dtype=dtype, device=device)
        self._d_places = self.metrics.places("discriminator") + [-1] * len(names[2:])
        self._g_places = [-1, -1, *self.metrics.places("generator")]

    def discriminator(
        self,
        real_logits: Tensor,
        fake_logits: Tensor,
        q: Tensor | None,
        latents: ops.Latents,
        scale: Tensor | None,
    ) -> ops.InfoGANLoss:
        """The discriminator's loss, with that of the codes if Q's output for the fakes is given.

        Args:
            real_logits, fake_logits: [B, 1].
            q: [B, q_dim].
            latents: of the fakes.
            scale: the factor of the gradients, [], on the device.
        """
        return ops.infogan_loss(
            self.spec,
            weights=self._d_weights,
            real_logits=real_logits.detach(),
            fake_logits=fake_logits.detach(),
            grad_scale=scale,
            sums=self.metrics.sums,
            places=self._d_places,
            fixed_log_variance=self.fixed_log_variance,
            **({} if q is None else self._codes(q, latents)),
        )

    def generator(
        self, fake_logits: Tensor, q: Tensor, latents: ops.Latents, scale: Tensor | None
    ) -> ops.InfoGANLoss:
        """The loss of the generator and Q; arguments as :meth:`discriminator`."""
        return ops.infogan_loss(
            self.spec,
            weights=self._g_weights,
            fake_logits=fake_logits.detach(),
            grad_scale=scale,
            sums=self.metrics.sums,
            places=self._g_places,
            fixed_log_variance=self.fixed_log_variance,
            **self._codes(q, latents),
        )

    def _codes(self, q: Tensor, latents: ops.Latents) -> dict[str, Any]:
        return {
            "q_output": q.detach(),
            "categorical": latents.categorical if self.spec.categorical_codes else None,
            "continuous": latents.continuous if self.spec.continuous_codes else None,
        }

    def terms(
        self,
        terms: Iterable[Term],
        answers: Tensor,
        near_rows: int,
        slant: Tensor | None,
        scales: tuple[Tensor | None, Tensor | None],
        near_share: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """The gradient of these terms with respect to Q's answers, in their dtype: at the discriminator's
        scale, and at the generator's.

        ``near_share`` is how many near copies this rank has, over the mean of all ranks. See
        :class:`Answers` for the other arguments.
        """
        parts = ops.Agreement()
        places: list[int] = []
        others: list[Term] = []
        for term in terms:
            stated = term.agreement(parts, self.spec, self.term_state[term.name])
            if stated is None:
                others.append(term)
                continue
            new = self.metrics.places(term.name)
            # The operator measures consistency before distances.
            first = parts.consistency is None and stated.consistency is not None
            parts, places = stated, new + places if first else places + new
        parts = replace(parts, smoothness=parts.smoothness * near_share)
        if self.ranks.joined and parts.consistency is not None:
            parts = replace(parts, batch_joints=self._shared_joints(answers, near_rows))
        precise = torch.promote_types(answers.dtype, torch.float32)
        agreed = ops.agreement(
            self.spec,
            answers,
            parts,
            near_rows=near_rows,
            fixed_log_variance=self.fixed_log_variance,
            slants=slant,
            grad_scales=() if others else [scale for scale in scales if scale is not None],
            grad_dtype=precise if others else None,
            sums=self.metrics.sums,
            places=places,
        )
        if not others:
            return agreed.gradients[0], agreed.gradients[-1]
        layout = near_rows, self.fixed_log_variance, slant
        given = Answers(answers.detach().to(precise), *layout)
        gradient = Answers(agreed.gradients[0], *layout)
        for term in others:
            measured = term.add_gradient(given, gradient, self.spec, self.term_state[term.name])
            if measured is not None:
                self.metrics.add(term.name, measured)
        total = gradient.values
        for_d, for_g = ((total if scale is None else total * scale).to(answers.dtype) for scale in scales)
        return for_d, for_g

    def _shared_joints(self, answers: Tensor, near_rows: int) -> Tensor:
        """The joints of consistency over all ranks' answers, one after the other."""
        sizes = [code.size for code in self.spec.categorical_codes]
        pieces = self._batch_joints.split([size**2 for size in sizes])
        joints = [piece.view(size, size) for piece, size in zip(pieces, sizes, strict=True)]
        ops.agreement(
            self.spec,
            answers,
            ops.Agreement(consistency=0.0, joints=joints),  # without a decay these become the batch's
            near_rows=near_rows,
            fixed_log_variance=self.fixed_log_variance,
        )
        self.ranks.average(self._batch_joints)
        return self._batch_joints
