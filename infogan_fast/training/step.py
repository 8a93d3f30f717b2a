"""One training iteration of InfoGAN (Chen et al. 2016, equation 6), as a list of phases.

The generator runs forward once an iteration, and both players use the same fakes. In the alternating schedule
the generator's gradient comes through the updated discriminator, in a second pass of the discriminator over
the fakes; in the one-stage schedule both players' gradients are taken at the same weights, exactly, from one
pass over them. The discriminator's weights get no gradient of the generator's loss. Gradients come from the
fused loss and enter autograd at the logits.

With a weight of consistency, equivariance or invariance, Q's answers to each real image and to a transformed
copy of it shall agree (:mod:`infogan_fast.objective.consistency`), which trains Q and the discriminator's
trunk. The copies run through the trunk beside the real images; Q's part of the gradient waits for Q's one
update, with the generator's.

Q's head may start anew once: what it first took for the categories it found in the features of the first few
hundred updates, and would keep, however good they become. That networks which forget their last layers learn
better ones is known from Zhou et al. 2022 (arXiv 2202.00155).

The same list of phases runs eagerly, or is captured whole as one CUDA graph that Python then only replays.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from infogan_fast import ops
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import Generator, InfoGAN, draw_weights
from infogan_fast.objective.consistency import (
    Transformation,
    adversarial,
    agreement,
    answer_gradient,
    average_joints,
    copy_state,
    ordered_codes,
    slants,
    transformed,
)
from infogan_fast.ops import LossWeights
from infogan_fast.runtime.cuda_graph import capture
from infogan_fast.runtime.profiling import phase

MI_GRADIENTS = ("generator", "trunk")
SCHEDULES = ("alternating", "one-stage")

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class Objective:
    """What is optimised and how; the defaults are the paper's (section 7 and appendix C, lambdas as in the
    authors' code).

    lambda_categorical, lambda_continuous: weight of the mutual information of each categorical, of each other
        code.
    fixed_sigma: standard deviation of Q's Gaussians; None where Q learns it.
    mi_gradient: ``"generator"``: the mutual information trains the generator and Q; ``"trunk"``: the
        discriminator's trunk too, in its own update.
    consistency: weight of the agreement of Q's categorical codes on real images and their copies, in the
        discriminator's loss and Q's; 0 for none. Not in the paper.
    balance: of consistency, the weight of equal frequencies of each code's values over the images.
    joint_ema: of consistency, the decay an update of the average over batches in which it is measured; 0 for
        each batch alone.
    equivariance: weight with which the first uniform or normal code is read higher by as much as a copy is
        turned, in the same losses; 0 for none. Not in the paper.
    invariance: weight with which the last uniform or normal code is read alike from them, in the same losses;
        0 for none. Not in the paper.
    smoothness: weight with which Q's categorical answers are those to adversarial copies too, of a quarter of
        the real images, in the same losses; 0 for none. Not in the paper.
    smoothness_until: updates behind the step when smoothness ends; 0 for never.
    transformation: what makes the copies.
    restart_q: updates behind the step when Q's head starts anew; 0 for never. Not in the paper.
    schedule: ``"alternating"``: the generator's gradient comes through the updated discriminator (the paper's
        algorithm); ``"one-stage"``: both gradients at the same weights, a pass of the discriminator less.
    lr_d, lr_q, lr_g, beta1, beta2: of Adam.
    ema: decay an update of the generator's exponential moving average, which makes better images (Yazici et
        al. 2019, arXiv 1806.04498); 0 for none. At update t the decay is at most (1 + t) / (10 + t), so that
        the first weights are soon forgotten, as TensorFlow's averages do.
    """

    lambda_categorical: float = 1.0
    lambda_continuous: float = 0.1
    fixed_sigma: float | None = None
    mi_gradient: str = "generator"
    consistency: float = 0.0
    balance: float = 0.0
    joint_ema: float = 0.0
    equivariance: float = 0.0
    invariance: float = 0.0
    smoothness: float = 0.0
    smoothness_until: int = 0
    transformation: Transformation = field(default_factory=Transformation)
    restart_q: int = 0
    schedule: str = "alternating"
    lr_d: float = 2e-4
    lr_q: float = 2e-4
    lr_g: float = 1e-3
    beta1: float = 0.5
    beta2: float = 0.999
    ema: float = 0.0

    def code_weights(self, spec: LatentSpec) -> tuple[float, ...]:
        """Lambda of each code, in code order."""
        return (self.lambda_categorical,) * spec.n_categorical + (self.lambda_continuous,) * spec.n_continuous


@dataclass
class Work:
    """What the phases of one iteration hand on."""

    real: Tensor = field(init=False)
    copies: Tensor = field(init=False)
    slant: Tensor | None = None
    adversarial: Tensor = field(init=False)
    latents: ops.Latents = field(init=False)
    fake: Tensor = field(init=False)
    """[B, C, S, S] in [0, 1], as ``real``."""


def term_names(spec: LatentSpec) -> tuple[str, ...]:
    """Names of the terms of :func:`ops.infogan_loss`: ``d_real, d_fake, g, nll_c1, ..., mse_c2, ...``."""
    continuous = spec.code_names[spec.n_categorical :]
    return (
        "d_real",
        "d_fake",
        "g",
        *(f"nll_{c}" for c in spec.code_names),
        *(f"mse_{c}" for c in continuous),
    )


def code_bounds(spec: LatentSpec, terms: dict[str, float]) -> dict[str, float]:
    """By code, in nats: ``L_CODE``, the lower bound of its mutual information (Chen et al. 2016, equation 5);
    ``H_CODE``, its entropy; for uniform and normal codes ``L_fitted_CODE``, the bound that the best single
    sigma would give.

    Args:
        terms: means, by the names of :func:`term_names`.
    """
    result = {}
    for code in spec.codes:
        result[f"L_{code.name}"] = code.entropy - terms[f"nll_{code.name}"]
        result[f"H_{code.name}"] = code.entropy
        if code.is_ordered:
            error = max(terms[f"mse_{code.name}"], 1e-12)
            result[f"L_fitted_{code.name}"] = code.entropy - 0.5 * math.log(2 * math.pi * math.e * error)
    return result


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """cuDNN's gradients of convolutions may add in any order otherwise: no two float32 runs would be alike,
    nor a graph its eager updates. On an H100 it costs 2 % of a float32 update, of a bfloat16 one nothing."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


@contextlib.contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """No gradient for the weights of these modules within."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class TrainingStep:
    """Networks, optimizers, images and random state of a run, and the iteration that moves them on.

    Args:
        spec: the latents; at least one code.
        networks: in training mode, on the device and in the dtype to train in.
        objective: see :class:`Objective`.
        images: uint8 [N, C, S, S], on the device, or in host memory where they do not fit there, from where
            each batch is copied.
        batch_size: B, at least 2; more than N is fine.
        seed: of the latents, of the order of the images, of their copies and of Q's second head.
        amp: None for the networks' own dtype, or the dtype of autocast: bfloat16, or float16, which brings
            one GradScaler a player, so that an overflow of one does not back off the other.
        cuda_graph: replay the iteration as one CUDA graph, captured at the first call; it computes the same
            bits. Needs a CUDA device with the images on it.
        steps_per_replay: updates in one graph.

    Raises:
        ValueError: a graph is asked for and cannot be had, or would not stop where Q is to start anew or
            smoothness to end; consistency, equivariance, invariance or smoothness of codes that the spec
            lacks; or equivariance to copies whose slant it cannot follow.

    ``phases`` is the iteration: calling the step runs them in order.
    """

    def __init__(
        self,
        spec: LatentSpec,
        networks: InfoGAN,
        objective: Objective,
        images: Tensor,
        batch_size: int,
        *,
        seed: int = 0,
        amp: torch.dtype | None = None,
        cuda_graph: bool = False,
        steps_per_replay: int = 1,
    ) -> None:
        parameter = networks.d_head.weight
        self.spec, self.networks, self.objective, self.amp = spec, networks, objective, amp
        self.device = parameter.device
        self.dtype = amp or parameter.dtype
        self.batch_size = batch_size
        # Rows, columns, channels: what channels_last convolutions read without a copy.
        self.images = images.permute(0, 2, 3, 1).contiguous()
        self.order = ops.rng_state(seed, device=images.device)
        self.rng = ops.rng_state(seed, device=self.device)
        self.copy_rng = copy_state(seed, self.device)
        precise = torch.promote_types(parameter.dtype, torch.float32)
        self.joints = average_joints(spec, precise, self.device)
        weights = (objective.consistency, objective.equivariance, objective.invariance, objective.smoothness)
        self._consistent = max(weights) > 0
        self._adversarial_rows = max(2, batch_size // 4)
        for name in ("consistency", "smoothness"):
            if getattr(objective, name) and not spec.n_categorical:
                raise ValueError(f"{name} is of categorical codes; {spec} has none")
        asked, ordered = (
            [n for n in ("equivariance", "invariance") if getattr(objective, n)],
            ordered_codes(spec),
        )
        if len(ordered) < len(asked):
            raise ValueError(
                f"{' and '.join(asked)} take {len(asked)} uniform or normal codes; {spec} has {len(ordered)}"
            )
        if objective.equivariance and not objective.transformation.has_slants:
            raise ValueError(
                f"equivariance: {objective.transformation} mirrors copies, or does not turn them"
            )
        if cuda_graph and not (self.device.type == images.device.type == "cuda"):
            raise ValueError(
                f"a CUDA graph needs networks and images on a CUDA device; they are on {self.device} and "
                f"{images.device}"
            )
        if steps_per_replay > 1 and not cuda_graph:
            raise ValueError(f"steps_per_replay is {steps_per_replay}; without a CUDA graph it must be 1")
        for name in ("restart_q", "smoothness_until"):
            if getattr(objective, name) % steps_per_replay:
                raise ValueError(
                    f"{name} is {getattr(objective, name)}; expected a multiple of {steps_per_replay}"
                )
        self.cuda_graph, self.steps_per_replay = cuda_graph, steps_per_replay
        self._seed, self._done = seed, 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._graph_smooth = False
        self.fixed_log_variance = (
            None
            if objective.fixed_sigma is None
            else 2.0 * torch.tensor(objective.fixed_sigma).double().log().item()
        )
        codes = objective.code_weights(spec)
        self._through_trunk = objective.mi_gradient == "trunk"
        self._d_weights = LossWeights(d_real=1.0, d_fake=1.0, codes=codes if self._through_trunk else ())
        self._g_weights = LossWeights(g=1.0, codes=codes)
        self._d_parameters = [*networks.trunk.parameters(), *networks.d_head.parameters()]
        generator = list(networks.generator.parameters())
        self._q_parameters = list(networks.q_head.parameters())
        self._g_parameters = [*generator, *self._q_parameters]
        self.optimizer_d = self._adam([(self._d_parameters, objective.lr_d)])
        self.optimizer_g = self._adam([(generator, objective.lr_g), (self._q_parameters, objective.lr_q)])
        self.scaler_d, self.scaler_g = (
            torch.amp.GradScaler(self.device.type, enabled=amp == torch.float16) for _ in range(2)
        )
        self._one = torch.ones((), device=self.device)
        self.ema: Generator | None = None
        if objective.ema > 0:
            self.ema = copy.deepcopy(networks.generator).requires_grad_(False)
        losses, continuous = term_names(spec), spec.code_names[spec.n_categorical :]
        kinds = zip(continuous, spec.continuous_kinds, strict=True)
        learned = [c for c, kind in kinds if kind != "bernoulli" and objective.fixed_sigma is None]
        self._n_losses, self._n_variances = len(losses), len(learned)
        names = [*losses, *(f"logvar_{c}" for c in learned)]
        if self._consistent:
            names += [f"I_{c}" for c in spec.code_names[: spec.n_categorical]]
        names += [f"D_{continuous[ordered[0]]}"] if objective.equivariance else []
        names += [f"D_{continuous[ordered[-1]]}"] if objective.invariance else []
        self._distances = slice(0 if objective.equivariance else 1, 2 if objective.invariance else 1)
        self.term_names = tuple(names)
        """Of what is measured of every update: the terms of the loss; ``logvar_c2, ...``, the mean
        log-variance of each code for which Q learns it, clamped as in the loss; and in nats, where there are
        copies, ``I_c1, ...``, the information that Q's answers to a real image and its copy share, and of the
        codes of equivariance and invariance ``D_c2``, ``D_c3``, how far they lie from what these ask for."""
        self.terms = torch.zeros(len(self.term_names), dtype=torch.float64, device=self.device)
        """Their sums since they were last taken."""
        self.updates = 0
        """Updates that ``terms`` sums over."""
        self.phases: list[tuple[str, Callable[[Work], None]]] = [
            ("gather", self._gather),
            ("sample", self._sample),
            ("generate", self._generate),
        ]
        if self._consistent:
            self.phases.insert(1, ("transform", self._transform))
        if objective.smoothness:
            self.phases.insert(1, ("adversary", self._adversary))
        if objective.schedule == "one-stage":
            self.phases += [
                ("gradients of both", self._gradients_of_both),
                ("discriminator update", self._discriminator_update),
                ("generator update", self._generator_update),
            ]
        else:
            self.phases += [
                ("discriminator gradients", self._discriminator_gradients),
                ("discriminator update", self._discriminator_update),
                ("generator gradients", self._generator_gradients),
                ("generator update", self._generator_update),
            ]
        if self.ema is not None:
            self.phases.append(("moving average", self._moving_average))

    def __call__(self) -> None:
        """``steps_per_replay`` updates of each player."""
        if not self.cuda_graph:
            self.run_phases()
            return
        self._restart_q()
        if self._graph is None or self._graph_smooth != self._smooth:
            self._graph_smooth = self._smooth
            with phase("capture"):
                self._graph = capture(
                    self._captured, self._state_tensors, (self.scaler_d, self.scaler_g), self.device
                )
        with phase("replay"):
            self._graph.replay()
        self.updates += self.steps_per_replay
        self._done += self.steps_per_replay

    def run_phases(self) -> None:
        """One update of each player, phase by phase, with or without a graph."""
        self._restart_q()
        self._iterate()
        self.updates += 1
        self._done += 1

    @property
    def _smooth(self) -> bool:
        """Whether smoothness is asked for in the next update."""
        until = self.objective.smoothness_until
        return self.objective.smoothness > 0 and (until == 0 or self._done < until)

    @torch.no_grad()
    def _restart_q(self) -> None:
        """Q's head, what Adam knows of it and the average joints as they were at first, where it is time."""
        if not self._done == self.objective.restart_q > 0:
            return
        draw_weights(self.networks.q_head, ~self._seed)
        for parameter in self._q_parameters:
            for value in self.optimizer_g.state[parameter].values():
                value.zero_()
        for joint in self.joints:
            joint.fill_(1.0 / joint.numel())

    def _iterate(self) -> None:
        work = Work()
        with _deterministic():
            for name, run in self.phases:
                with phase(name):
                    run(work)

    def _captured(self) -> None:
        for _ in range(self.steps_per_replay):
            self._iterate()

    def _state_tensors(self) -> list[Tensor]:
        """Everything that an iteration changes in place, but for the scalers."""
        modules = [self.networks] if self.ema is None else [self.networks, self.ema]
        tensors = [self.rng, self.order, self.copy_rng, *self.joints, self.terms]
        for module in modules:
            tensors += [*module.parameters(), *module.buffers()]
        for optimizer in (self.optimizer_d, self.optimizer_g):
            tensors += (value for state in optimizer.state.values() for value in state.values())
        return tensors

    def _adam(self, groups: list[tuple[list[nn.Parameter], float]]) -> torch.optim.Adam:
        # A graph reads the step and the learning rate from the device.
        cuda = self.device.type == "cuda"
        return torch.optim.Adam(
            [
                {"params": parameters, "lr": torch.full((), lr, device=self.device) if cuda else lr}
                for parameters, lr in groups
            ],
            betas=(self.objective.beta1, self.objective.beta2),
            fused=True,
            capturable=cuda,
        )

    def take_terms(self) -> dict[str, float]:
        """Means over the updates since the last call, by :attr:`term_names`; waits for the device."""
        means = (self.terms / max(self.updates, 1)).tolist()
        self.terms.zero_()
        self.updates = 0
        return dict(zip(self.term_names, means, strict=True))

    def _autocast(self, *, reuse: bool = False) -> torch.autocast:
        # A cache of a cast is for weights used twice, and must not be in graph capture.
        cache = reuse and self.device.type == "cpu"
        return torch.autocast(
            self.device.type, dtype=self.amp, enabled=self.amp is not None, cache_enabled=cache
        )

    def _gather(self, work: Work) -> None:
        batch = ops.gather_images(self.order, self.images, self.batch_size, dtype=self.dtype).batch
        work.real = batch.permute(0, 3, 1, 2).to(self.device)

    def _transform(self, work: Work) -> None:
        if self.objective.equivariance:
            work.slant = slants(self.copy_rng, self.batch_size, self.objective.transformation)
        work.copies = transformed(self.copy_rng, work.real, self.objective.transformation)

    def _adversary(self, work: Work) -> None:
        if not self._smooth:
            return
        nets, count = self.networks, self._adversarial_rows

        def q_of(images: Tensor) -> Tensor:
            with self._autocast(), frozen(nets.trunk, nets.q_head):
                q: Tensor = nets.q_head(nets.trunk(images, parts=(count, count)), parts=(count, count))
            return q

        real, offset = work.real[:count], self.batch_size
        work.adversarial = adversarial(self.copy_rng, real, self.spec, q_of, sample_offset=offset)

    def _sample(self, work: Work) -> None:
        work.latents = ops.sample_latents(self.rng, self.batch_size, self.spec, dtype=self.dtype)

    def _generate(self, work: Work) -> None:
        with self._autocast():
            work.fake = self.networks.generator(work.latents.inputs)

    def _discriminator_gradients(self, work: Work) -> None:
        nets, seen = self.networks, self._seen(work)
        parts = [len(images) for images in seen]
        with self._autocast():
            features = nets.trunk(torch.cat([*seen, work.fake.detach()]), parts=(*parts, self.batch_size))
            fake_features = features[-self.batch_size :]
            fake_logits = nets.d_head(fake_features)
            real_logits, answers = self._on_real(features[: sum(parts)], parts)
            q = None
            if self._through_trunk:
                with frozen(nets.q_head):
                    q = nets.q_head(fake_features)
        loss = self._discriminator_loss(work, real_logits, fake_logits, q)
        outputs, gradients = [real_logits, fake_logits], [loss.grad_real, loss.grad_fake]
        if q is not None:
            outputs.append(q)
            gradients.append(loss.grad_q)
        if answers is not None:
            for_d, for_q = self._agreement_gradients(work, answers)
            # Back through Q's head once for each player, since each has its own scale.
            torch.autograd.backward([answers], [for_q], inputs=self._q_parameters, retain_graph=True)
            outputs.append(answers)
            gradients.append(for_d)
        with frozen(nets.q_head):
            torch.autograd.backward(outputs, gradients, inputs=self._d_parameters)

    def _gradients_of_both(self, work: Work) -> None:
        nets, seen = self.networks, self._seen(work)
        parts = [len(images) for images in seen]
        with self._autocast(reuse=True):
            real_logits, answers = self._on_real(nets.trunk(torch.cat(seen), parts=parts), parts)
            features = nets.trunk(work.fake)
            fake_logits, q = nets.d_head(features), nets.q_head(features)
        d_loss = self._discriminator_loss(work, real_logits, fake_logits, q if self._through_trunk else None)
        g_loss = self._generator_loss(work, fake_logits, q)
        outputs, gradients = [real_logits, fake_logits], [d_loss.grad_real, d_loss.grad_fake]
        g_outputs, g_gradients = [fake_logits, q], [g_loss.grad_fake, g_loss.grad_q]
        if self._through_trunk:
            outputs.append(q)
            gradients.append(d_loss.grad_q)
        if answers is not None:
            for_d, for_q = self._agreement_gradients(work, answers)
            outputs.append(answers)
            gradients.append(for_d)
            g_outputs.append(answers)
            g_gradients.append(for_q)
        torch.autograd.backward(outputs, gradients, retain_graph=True, inputs=self._d_parameters)
        with frozen(nets.trunk, nets.d_head):
            torch.autograd.backward(g_outputs, g_gradients, inputs=self._g_parameters)

    def _discriminator_update(self, work: Work) -> None:
        _update(self.scaler_d, self.optimizer_d)

    def _generator_gradients(self, work: Work) -> None:
        nets = self.networks
        with self._autocast(), frozen(nets.trunk, nets.d_head):
            features = nets.trunk(work.fake)
            logits, q = nets.d_head(features), nets.q_head(features)
        loss = self._generator_loss(work, logits, q)
        torch.autograd.backward([logits, q], [loss.grad_fake, loss.grad_q])

    def _generator_update(self, work: Work) -> None:
        _update(self.scaler_g, self.optimizer_g)

    def _moving_average(self, work: Work) -> None:
        assert self.ema is not None
        # The latents' step counts the updates where a graph can read it.
        share = (9.0 / (self.rng[1] + 10.0)).clamp_min(1.0 - self.objective.ema)
        for average, weight in zip(self.ema.parameters(), self.networks.generator.parameters(), strict=True):
            average.lerp_(weight.detach(), share.to(weight.dtype))

    def _discriminator_loss(
        self, work: Work, real_logits: Tensor, fake_logits: Tensor, q: Tensor | None
    ) -> ops.InfoGANLoss:
        """The discriminator's loss, with the codes' where Q's output is given; its terms are counted."""
        loss = ops.infogan_loss(
            self.spec,
            weights=self._d_weights,
            real_logits=real_logits.detach(),
            fake_logits=fake_logits.detach(),
            grad_scale=self._scale(self.scaler_d),
            **({} if q is None else self._codes(work, q)),
        )
        self.terms[:2] += loss.terms[:2]
        return loss

    def _generator_loss(self, work: Work, fake_logits: Tensor, q: Tensor) -> ops.InfoGANLoss:
        """The loss of the generator and Q; its terms are counted."""
        loss = ops.infogan_loss(
            self.spec,
            weights=self._g_weights,
            fake_logits=fake_logits.detach(),
            grad_scale=self._scale(self.scaler_g),
            **self._codes(work, q),
        )
        n, count = self._n_losses, self._n_variances
        self.terms[2:n] += loss.terms[2:]
        if count:
            variances = q.detach()[:, -count:].clamp(-10.0, 10.0)
            self.terms[n : n + count] += variances.mean(0, dtype=torch.float64)
        return loss

    def _seen(self, work: Work) -> list[Tensor]:
        """What the trunk sees of the data, in parts with batch statistics of their own: adversarial copies,
        real images, transformed copies."""
        seen = [work.adversarial] if self._smooth else []
        seen.append(work.real)
        return [*seen, work.copies] if self._consistent else seen

    def _on_real(self, features: Tensor, parts: list[int]) -> tuple[Tensor, Tensor | None]:
        """The discriminator's logits for the real images, and Q's answers to all that it is asked about: from
        the features of these parts, as :meth:`_seen` lists them."""
        nets = self.networks
        first = parts[0] if self._smooth else 0
        real_logits: Tensor = nets.d_head(features[first : first + self.batch_size])
        return real_logits, nets.q_head(features, parts=parts) if self._consistent else None

    def _agreement_gradients(self, work: Work, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Of consistency, equivariance, invariance and smoothness with respect to Q's answers, at the
        discriminator's scale and at the generator's; how well the answers agree is counted."""
        objective = self.objective
        near, pair = answers.split([len(answers) - 2 * self.batch_size, 2 * self.batch_size])
        information, distances, gradient = agreement(
            self.spec,
            pair,
            consistency=objective.consistency,
            balance=objective.balance,
            joints=self.joints,
            joint_ema=objective.joint_ema,
            equivariance=objective.equivariance,
            slant=work.slant,
            invariance=objective.invariance,
            fixed_log_variance=self.fixed_log_variance,
        )
        first = self._n_losses + self._n_variances
        self.terms[first : first + len(information)] += information
        self.terms[first + len(information) :] += distances[self._distances]
        if self._smooth:
            smooth = answer_gradient(self.spec, near, pair[: len(near)])
            gradient = torch.cat([smooth * (objective.smoothness / len(near)), gradient])
        scales = self._scale(self.scaler_d), self._scale(self.scaler_g)
        for_d, for_g = ((gradient if s is None else gradient * s).to(answers.dtype) for s in scales)
        return for_d, for_g

    def _codes(self, work: Work, q: Tensor) -> dict[str, Any]:
        return {
            "q_output": q.detach(),
            "categorical": work.latents.categorical if self.spec.n_categorical else None,
            "continuous": work.latents.continuous if self.spec.n_continuous else None,
            "fixed_log_variance": self.fixed_log_variance,
        }

    def _scale(self, scaler: torch.amp.GradScaler) -> Tensor | None:
        # Scaling a one is the public way to a GradScaler's scale that leaves it on the device.
        return scaler.scale(self._one) if scaler.is_enabled() else None

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact continuation needs, for :meth:`load_state_dict`."""
        return {
            "networks": self.networks.state_dict(),
            "optimizer_d": self.optimizer_d.state_dict(),
            "optimizer_g": self.optimizer_g.state_dict(),
            "scaler_d": self.scaler_d.state_dict(),
            "scaler_g": self.scaler_g.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "rng": self.rng,
            "order": self.order,
            "copy_rng": self.copy_rng,
            "joints": self.joints,
            "terms": self.terms,
            "updates": self.updates,
            "done": self._done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            KeyError, RuntimeError, ValueError: the state is of other networks or another version.
        """
        self.networks.load_state_dict(state["networks"])
        for optimizer, values in (
            (self.optimizer_d, state["optimizer_d"]),
            (self.optimizer_g, state["optimizer_g"]),
        ):
            # The device and the settings of this step, whatever the state was saved on.
            own = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(copy.deepcopy(values))  # it keeps tensors that need no conversion
            for group, kept in zip(optimizer.param_groups, own, strict=True):
                group.update(kept)
        for scaler, values in ((self.scaler_d, state["scaler_d"]), (self.scaler_g, state["scaler_g"])):
            if scaler.is_enabled():
                scaler.load_state_dict(values)
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.rng.copy_(state["rng"])
        self.order.copy_(state["order"])
        self.copy_rng.copy_(state["copy_rng"])
        for joint, saved in zip(self.joints, state["joints"], strict=True):
            joint.copy_(saved)
        self.terms.copy_(state["terms"])
        self.updates, self._done = state["updates"], state["done"]
        self._graph = None  # the optimizers' state lies elsewhere now


def _update(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
    # A disabled scaler hands on. An enabled one gives its scale and what overflowed to the fused optimizer,
    # on the device.
    scaler.step(optimizer)
    scaler.update()
    # Freed, not zeroed: accumulating into kept buffers costs another pass over them.
    optimizer.zero_grad(set_to_none=True)


def calibrated(
    generator: Generator, spec: LatentSpec, *, batches: int = 8, batch_size: int = 128
) -> Generator:
    """A copy of the generator for making images: in evaluation mode, with batch statistics measured anew.

    The running statistics of training lag behind the weights, and those of a moving average of weights belong
    to other weights; images made with them are visibly off.

    Args:
        generator: any; it is left as it is.
        spec: the latents to measure with, drawn from a fixed seed.
        batches, batch_size: how many.
    """
    rng = ops.rng_state(0, device=next(generator.parameters()).device)
    return measured_anew(
        generator, (ops.sample_latents(rng, batch_size, spec).inputs for _ in range(batches))
    )


@torch.no_grad()
def measured_anew(network: _Network, batches: Iterable[Tensor]) -> _Network:
    """A float32 copy of a network in evaluation mode, whose batch statistics are the mean of those of these
    inputs, at least two each."""
    result = copy.deepcopy(network).float()
    for module in result.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches
    result.train()
    for batch in batches:
        result(batch)
    return result.eval()
