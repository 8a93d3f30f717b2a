"""One training iteration of InfoGAN (Chen et al. 2016, equation 6), as a list of phases.

The generator runs forward once an iteration, and both players use the same fakes. In the alternating schedule
the generator's gradient comes through the updated discriminator, in a second pass of the discriminator over
the fakes. In the one-stage schedule both players' gradients are taken at the same weights, exactly, from one
pass over them. The discriminator's weights get no gradient of the generator's loss. Gradients come from the
fused loss and enter autograd at the logits.

The terms of the objective (:mod:`infogan_fast.objective`) compare Q's answers to real images and to copies of
them; they train Q and the discriminator's trunk. The copies run through the trunk together with the real
images. Q's part of that gradient waits for Q's one update, with the generator's.

Q's head may start again once: otherwise it keeps the categories that it found in the poor features of the
first few hundred updates. Zhou et al. 2022 (arXiv 2202.00155) show that networks which forget their last
layers learn better ones.

The same list of phases runs eagerly, or is captured whole as one CUDA graph that Python then only replays.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from infogan_fast import ops
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.layers import draw_weights, share_statistics
from infogan_fast.objective.copies import adversarial, copy_state
from infogan_fast.objective.objective import Objective
from infogan_fast.objective.term import Term
from infogan_fast.runtime.cuda_graph import capture
from infogan_fast.runtime.device import check_matmul_precision, numerics
from infogan_fast.runtime.profiling import phase
from infogan_fast.runtime.ranks import ALONE, Ranks
from infogan_fast.training.learned_prior import LearnedPrior
from infogan_fast.training.losses import Losses
from infogan_fast.training.player import Player
from infogan_fast.training.prefetch import Prefetcher
from infogan_fast.training.state import Counter, State


@dataclass
class Batch:
    """The tensors that one phase of an iteration passes to the next."""

    real: Tensor = field(init=False)
    """[B, C, S, S] in [0, 1], as are the other images; B is this rank's share of the batch."""
    copies: Tensor = field(init=False)
    """[B, C, S, S]: a transformed copy of each real image."""
    slant: Tensor | None = None
    """[B]: how much each copy leans more than its image."""
    near: Tensor = field(init=False)
    """[A, C, S, S]: copies near the first A real images, adversarial or bent."""
    latents: ops.Latents = field(init=False)
    fake: Tensor = field(init=False)


#: Q's weights among the groups of the player that updates the generator and Q.
_Q_GROUP = 1


def _with_weights(
    networks: InfoGAN, players: Sequence[Player], weights: Callable[[Player, nn.Parameter], Tensor]
) -> InfoGAN:
    """The networks with other weights, which their player gives for each, and the same buffers."""
    kept = {id(tensor): tensor for tensor in (*networks.parameters(), *networks.buffers())}
    result = copy.deepcopy(networks, kept)  # the modules alone
    owners = {id(parameter): player for player in players for parameter in player.parameters}
    for own, computed in zip(result.modules(), networks.modules(), strict=True):
        for name, parameter in computed.named_parameters(recurse=False):
            other = weights(owners[id(parameter)], parameter)
            setattr(own, name, nn.Parameter(other, requires_grad=False))
    return result


def _without_reference(method: Callable[[Batch], None]) -> Callable[[Batch], None]:
    """The method, without a reference to its object: in a list of the object's own, it would keep the weights
    until Python looks for cycles, which is seldom."""
    weak = weakref.WeakMethod(method)

    def call(batch: Batch) -> None:
        found = weak()
        assert found is not None
        found(batch)

    return call


@contextlib.contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Within the block, the weights of these modules get no gradient."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class TrainingStep:
    """Networks, players, images and random state of a run, and the iteration that advances them.

    ``networks`` are those that compute, ``full`` the same with their weights in full precision, ``ema`` with
    the moving averages of their weights; None without. ``phases`` is the iteration: calling the step runs
    them in order. ``state`` is everything that lasts from one update to the next. ``losses`` measures what
    :meth:`take_metrics` returns.

    Args:
        spec: the latents; at least one code.
        networks: in training mode, on the device, in float32 or float64.
        objective: see :class:`Objective`.
        images: uint8 [N, C, S, S], on the device; or in host memory if they do not fit, and then each
            batch is copied. In channels_last format they are used as they are, else copied.
        batch_size: B, at least 2; more than N is fine. Several ranks share it: a multiple of their number.
        seed: of the latents, the order of the images, their copies and Q's second head.
        amp: None for the networks' own dtype, or the half type that the networks' weights become, next to
            masters in float32: bfloat16, or float16, which brings a GradScaler for each player.
        cuda_graph: replay the iteration as one CUDA graph, captured at the first call; it computes the same
            bits. Needs a CUDA device with the images on it.
        steps_per_replay: updates in one graph.
        prefetch: whether to gather each batch ahead of its update: for images that are mapped from a file.
            Those in host memory for a CUDA device are, always.
        matmul_precision, deterministic: see :func:`infogan_fast.runtime.device.numerics`.
        ranks: of the job, each of which makes the step with the same arguments, and calls it as often.
        batch_norm: ``"global"``: batch normalisation takes the statistics of all ranks' rows; ``"local"``: of
            each rank's own.
        reduce_dtype: of the gradients that ranks average, float32 or bfloat16.

    Raises:
        UserError: terms of the objective do not go with the codes, the copies or each other; or a graph is
            impossible, or would not stop where Q starts again or a term changes.
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
        prefetch: bool = False,
        matmul_precision: str = "highest",
        deterministic: bool = False,
        ranks: Ranks = ALONE,
        batch_norm: str = "global",
        reduce_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.spec, self.networks, self.objective, self.amp = spec, networks, objective, amp
        self.device = networks.d_head.weight.device
        self.dtype = amp or networks.d_head.weight.dtype
        self.batch_size, self.seed = batch_size, seed
        self.ranks, self.reduce_dtype, self.rows = ranks, reduce_dtype, ranks.rows(batch_size)
        self.cuda_graph, self.steps_per_replay = cuda_graph, steps_per_replay
        check_matmul_precision(matmul_precision, self.device)
        self.matmul_precision, self.deterministic = matmul_precision, deterministic
        # In the order rows, columns, channels, as channels_last convolutions read them.
        self.images = images.permute(0, 2, 3, 1).contiguous()
        self.terms = objective.measured_terms(spec)
        self._check_graph(images)
        self._check_ranks(batch_norm)
        if ranks.joined and batch_norm == "global":
            share_statistics(networks, ranks.add_up)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._active_at_capture: tuple[Term, ...] = ()
        self._through_trunk = objective.mi_gradient == "trunk"
        self._no_gradient = torch.zeros(self.rows, 1, dtype=self.dtype, device=self.device)
        self._create_state()
        self._prefetcher: Prefetcher | None = None
        if prefetch or self.images.device != self.device:
            self._prefetcher = Prefetcher(self._gatherer(), self.order, self.device)
        self.phases = self._list_phases()

    def _check_graph(self, images: Tensor) -> None:
        if self.cuda_graph and not (self.device.type == images.device.type == "cuda"):
            raise UserError(
                f"a CUDA graph needs networks and images on a CUDA device; they are on {self.device} and "
                f"{images.device}"
            )
        count = self.steps_per_replay
        if count > 1 and not self.cuda_graph:
            raise UserError(f"steps_per_replay is {count}; without a CUDA graph it must be 1")
        changes: dict[str, tuple[int, ...]] = {"restart_q": (self.objective.restart_q,)}
        for term in self.terms:
            changes |= term.changes_at()
        for name, updates in changes.items():
            for update in updates:
                if update % count:
                    flag = f"--{name.replace('_', '-')}"
                    raise UserError(
                        f"{flag}: something changes after update {update}; expected a multiple of "
                        f"--steps-per-replay {count}"
                    )

    def _check_ranks(self, batch_norm: str) -> None:
        size, count = self.ranks.size, self.batch_size
        if count % size:
            near = max(size, count - count % size)
            raise UserError(
                f"--batch-size is {count}; expected a multiple of the job's {size} processes, such as {near}"
            )
        local = ["--batch-norm local"] if batch_norm == "local" else []
        terms = [f"--{term.name}" for term in self.terms if term.near_copies]
        # A quarter of the images has near copies at least, and local statistics take two rows of each part.
        least = (2 if local else 1) * (4 if terms else 1)
        if size > 1 and self.rows < least:
            raise UserError(
                f"--batch-size is {count} for {size} processes; with {' and '.join(local + terms)} each "
                f"needs {least} images: give {least * size} or more"
            )

    def _create_state(self) -> None:
        networks, objective, device = self.networks, self.objective, self.device
        self._make_players()
        players = (self.player_d, self.player_g)
        full = self.amp is None
        self.full = networks if full else _with_weights(networks, players, Player.master_of)
        self.ema = _with_weights(networks, players, Player.average_of) if objective.ema > 0 else None
        self.rng = ops.rng_state(self.seed, device=device)
        self.order = ops.rng_state(self.seed, device=self.images.device)
        self.copy_rng = copy_state(self.seed, device)
        precise = torch.promote_types(networks.d_head.weight.dtype, torch.float32)
        self.prior = LearnedPrior(self.spec, device) if self.spec.has_learned_priors else None
        measured = () if self.prior is None else self.prior.names
        self.losses = Losses(self.spec, objective, self.terms, precise, device, self.ranks, measured)
        self.updates = Counter()  # that the metrics sum over
        self.done = Counter()

        self.state = State()
        self.state.register("networks", self.full)
        self.state.register("optimizer_d", self.player_d)
        self.state.register("optimizer_g", self.player_g)
        self.state.register("scaler_d", self.player_d.scaler)
        self.state.register("scaler_g", self.player_g.scaler)
        self.state.register("ema", self.ema)
        self.state.register("rng", self.rng)
        self.state.register("order", self.order)
        self.state.register("copy_rng", self.copy_rng)
        for entries in self.losses.term_state.values():
            for name, tensors in entries.items():
                self.state.register(name, tensors)
        if self.prior is not None:
            self.state.register("prior", self.prior.probabilities)
            self.state.register("cdf", self.prior.cdf)
        self.state.register("terms", self.losses.metrics.sums)
        self.state.register("updates", self.updates)
        self.state.register("done", self.done)

    def _make_players(self) -> None:
        networks, objective = self.networks, self.objective
        betas = (objective.beta1, objective.beta2)
        norms = [m for m in networks.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
        full = frozenset(parameter for norm in norms for parameter in norm.parameters())
        discriminator = [*networks.trunk.parameters(), *networks.d_head.parameters()]
        generator, q = list(networks.generator.parameters()), list(networks.q_head.parameters())
        common: dict[str, Any] = {
            "low": self.amp,
            "full": full,
            "ranks": self.ranks,
            "reduce_dtype": self.reduce_dtype,
            "average": objective.ema > 0,
            "average_decay": objective.ema,
        }
        self.player_d = Player([(discriminator, objective.lr_d)], betas, self.device, **common)
        groups = [(generator, objective.lr_g), (q, objective.lr_q)]
        self.player_g = Player(groups, betas, self.device, **common)

    def _list_phases(self) -> list[tuple[str, Callable[[Batch], None]]]:
        phases: list[tuple[str, Callable[[Batch], None]]] = [("gather", self._gather)]
        if any(term.near_copies for term in self.terms):
            phases.append(("near copies", self._make_near_copies))
        if self.terms:
            phases.append(("transform", self._transform))
        phases += [("sample", self._sample), ("generate", self._generate)]
        if self.objective.schedule == "one-stage":
            phases.append(("gradients of both", self._gradients_of_both))
            phases.append(("discriminator update", self._update_d))
        else:
            phases.append(("discriminator gradients", self._discriminator_gradients))
            phases.append(("discriminator update", self._update_d))
            phases.append(("generator gradients", self._generator_gradients))
        phases.append(("generator update", self._update_g))
        return [(name, _without_reference(run)) for name, run in phases]

    def __call__(self) -> None:
        """``steps_per_replay`` updates of each player."""
        if not self.cuda_graph:
            self.run_phases()
            return
        self._restart_q()
        if self._graph is None or self._active_at_capture != self.active_terms:
            if self._graph is not None and self.device.type == "cuda":  # its memory is for the next one
                torch.cuda.synchronize(self.device)
            self._graph = None
            self._active_at_capture = self.active_terms
            scalers = (self.player_d.scaler, self.player_g.scaler)
            with phase("capture"):
                run = functools.partial(self._iterate, self.steps_per_replay)
                alone = not self.ranks.joined
                self._graph = capture(run, self.state.tensors(), scalers, self.device, alone=alone)
        with phase("replay"):
            self._graph.replay()
        self.updates.value += self.steps_per_replay
        self.done.value += self.steps_per_replay

    def run_phases(self) -> None:
        """One update of each player, phase by phase, with or without a graph."""
        self._restart_q()
        self._iterate()
        self.updates.value += 1
        self.done.value += 1

    @property
    def active_terms(self) -> tuple[Term, ...]:
        """The terms that the next update computes."""
        terms = (term.at(self.done.value) for term in self.terms)
        return tuple(term for term in terms if term is not None)

    @property
    def _near_kind(self) -> str | None:
        """Of the near copies of the next update."""
        return next((term.near_copies for term in self.active_terms if term.near_copies), None)

    @property
    def _near_copies(self) -> int:
        """How many images have a near copy. Adversarial ones cost passes of their own."""
        share = {"adversarial": 4, "bent": 2}.get(self._near_kind or "")
        return max(2, self.batch_size // share) if share else 0

    @property
    def _near_rows(self) -> int:
        """How many images of this rank have one."""
        return self.ranks.rows(self._near_copies)

    @torch.no_grad()
    def _restart_q(self) -> None:
        """Reset Q's head, its moments in Adam, learned priors and the state of the terms, if it is time."""
        if not self.done.value == self.objective.restart_q > 0:
            return
        draw_weights(self.full.q_head, ~self.seed)
        if self.prior is not None:
            self.prior.restart()
        self.player_g.round_weights()
        self.player_g.forget(_Q_GROUP)
        for term in self.terms:
            term.restart(self.losses.term_state[term.name])

    def _iterate(self, count: int = 1) -> None:
        for _ in range(count):
            batch = Batch()
            with numerics(self.matmul_precision, deterministic=self.deterministic):
                for name, run in self.phases:
                    with phase(name):
                        run(batch)

    @property
    def current_spec(self) -> LatentSpec:
        """The latents with their priors as they are now; waits for the device where they are learned."""
        return self.spec if self.prior is None else self.prior.spec(self.spec)

    def metrics(self) -> dict[str, float]:
        """Means over the updates since the last :meth:`take_metrics`, by name; waits for the device."""
        return self.losses.metrics.means(self.updates.value)

    def take_metrics(self) -> dict[str, float]:
        """As :meth:`metrics`; the next means begin after this update."""
        means = self.losses.metrics.take_means(self.updates.value)
        self.updates.value = 0
        return means

    def phase_of(self, name: str) -> str:
        """The phase that measures a metric, or that changes a tensor of the state, by its name."""
        of_d = ("networks.trunk", "networks.d_head", "optimizer_d", "ema.trunk", "ema.d_head")
        of_g = ("networks.generator", "networks.q_head", "optimizer_g", "ema.generator", "ema.q_head")
        if name.startswith(of_d + of_g):
            return "discriminator update" if name.startswith(of_d) else "generator update"
        if self.objective.schedule == "one-stage":
            return "gradients of both"
        measured_with_g = name.startswith(("g", "nll_", "mse_", "logvar_"))
        return "generator gradients" if measured_with_g else "discriminator gradients"

    def _gatherer(self) -> Callable[[Tensor], Tensor]:
        """Gathers the images [B, S, S, C] that a state of the order names, and moves it on; without a
        reference to the step."""
        images, count, dtype = self.images, self.batch_size, self.dtype
        offset, stride = self.ranks.rank, self.ranks.size
        return lambda order: (
            ops.gather_images(
                order, images, count, dtype=dtype, sample_offset=offset, sample_stride=stride
            ).batch
        )

    def _gather(self, batch: Batch) -> None:
        ahead = self._prefetcher
        gathered = self._gatherer()(self.order) if ahead is None else ahead.take()
        batch.real = gathered.permute(0, 3, 1, 2)

    def _transform(self, batch: Batch) -> None:
        ranges = asdict(replace(self.objective.transformation, bend=0.0))
        batch.copies, batch.slant = ops.transform_images(
            self.copy_rng,
            batch.real,
            **ranges,
            sample_offset=self.ranks.rank,
            sample_stride=self.ranks.size,
        )

    def _make_near_copies(self, batch: Batch) -> None:
        networks, count = self.networks, self._near_rows
        if not count:
            return
        images = batch.real[:count]
        # Of other numbers than the transformed copies, which are made next and move the state on.
        offset, stride = self.batch_size + self.ranks.rank, self.ranks.size
        if self._near_kind == "bent":
            ranges = asdict(self.objective.transformation)
            samples: dict[str, Any] = {"sample_offset": offset, "sample_stride": stride, "advance": False}
            batch.near = ops.transform_images(self.copy_rng, images, **ranges, **samples).copies
            return

        def q_of(images: Tensor) -> Tensor:
            with frozen(networks.trunk, networks.q_head):
                features = networks.trunk(images, parts=(count, count))
                q: Tensor = networks.q_head(features, parts=(count, count))
            return q

        batch.near = adversarial(
            self.copy_rng, images, self.spec, q_of, sample_offset=offset, sample_stride=stride
        )

    def _sample(self, batch: Batch) -> None:
        batch.latents = ops.sample_latents(
            self.rng,
            self.rows,
            self.spec,
            cdf=None if self.prior is None else self.prior.cdf,
            dtype=self.dtype,
            sample_offset=self.ranks.rank,
            sample_stride=self.ranks.size,
        )

    def _generate(self, batch: Batch) -> None:
        batch.fake = self.networks.generator(batch.latents.inputs)

    def _discriminator_gradients(self, batch: Batch) -> None:
        networks, views = self.networks, self._views(batch)
        parts = [len(images) for images in views]
        images = torch.cat([*views, batch.fake.detach()])
        features = networks.trunk(images, parts=(*parts, self.rows))
        logits = networks.d_head(features)
        answers = networks.q_head(features[: sum(parts)], parts=parts) if self.terms else None
        q = None
        if self._through_trunk:
            with frozen(networks.q_head):
                q = networks.q_head(features[-self.rows :])
        real_logits, fake_logits = self._of_real(logits), logits[-self.rows :]
        loss = self.losses.discriminator(real_logits, fake_logits, q, batch.latents, self.player_d.scale())
        outputs, gradients = [logits], [torch.cat([*self._on_views(loss.grad_real), loss.grad_fake])]
        if q is not None:
            outputs.append(q)
            gradients.append(loss.grad_q)
        if answers is not None:
            for_d, for_q = self._term_gradients(batch, answers)
            # Back through Q's head once for each player, since each has its own scale.
            self.player_g.backward([answers], [for_q], group=_Q_GROUP, retain_graph=True)
            outputs.append(answers)
            gradients.append(for_d)
        with frozen(networks.q_head):
            self.player_d.backward(outputs, gradients)

    def _gradients_of_both(self, batch: Batch) -> None:
        networks, views = self.networks, self._views(batch)
        parts = [len(images) for images in views]
        features = networks.trunk(torch.cat(views), parts=parts)
        logits = networks.d_head(features)
        answers = networks.q_head(features, parts=parts) if self.terms else None
        features = networks.trunk(batch.fake)
        fake_logits, q = networks.d_head(features), networks.q_head(features)
        codes = q if self._through_trunk else None
        d_loss = self.losses.discriminator(
            self._of_real(logits), fake_logits, codes, batch.latents, self.player_d.scale()
        )
        g_loss = self.losses.generator(fake_logits, q, batch.latents, self.player_g.scale())
        outputs = [logits, fake_logits]
        gradients = [torch.cat(self._on_views(d_loss.grad_real)), d_loss.grad_fake]
        g_outputs, g_gradients = [fake_logits, q], [g_loss.grad_fake, g_loss.grad_q]
        if self._through_trunk:
            outputs.append(q)
            gradients.append(d_loss.grad_q)
        if answers is not None:
            for_d, for_q = self._term_gradients(batch, answers)
            outputs.append(answers)
            gradients.append(for_d)
            g_outputs.append(answers)
            g_gradients.append(for_q)
        self.player_d.backward(outputs, gradients, retain_graph=True)
        with frozen(networks.trunk, networks.d_head):
            self.player_g.backward(g_outputs, g_gradients)

    def _update_d(self, batch: Batch) -> None:
        self.player_d.update()

    def _update_g(self, batch: Batch) -> None:
        self.player_g.update()

    def _generator_gradients(self, batch: Batch) -> None:
        networks = self.networks
        with frozen(networks.trunk, networks.d_head):
            features = networks.trunk(batch.fake)
            logits, q = networks.d_head(features), networks.q_head(features)
        loss = self.losses.generator(logits, q, batch.latents, self.player_g.scale())
        self.player_g.backward([logits, q], [loss.grad_fake, loss.grad_q])

    def _views(self, batch: Batch) -> list[Tensor]:
        """The trunk's inputs from the data: near copies, real images, transformed copies. Each
        part has its own batch statistics."""
        views = [batch.near] if self._near_rows else []
        views.append(batch.real)
        return [*views, batch.copies] if self.terms else views

    def _of_real(self, logits: Tensor) -> Tensor:
        """Of the logits of all views, which one product gives, those of the real images."""
        first = self._near_rows
        return logits[first : first + self.rows]

    def _on_views(self, grad_real: Tensor) -> list[Tensor]:
        """The gradient with respect to the logits of each view: copies have none."""
        zeros, copies = self._no_gradient, self.rows if self.terms else 0
        return [zeros[: self._near_rows], grad_real, zeros[:copies]]

    def _term_gradients(self, batch: Batch, answers: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of the terms with respect to Q's answers, at the discriminator's scale and at the
        generator's."""
        scales = self.player_d.scale(), self.player_g.scale()
        copies, own = self._near_copies, self._near_rows
        share = own * self.ranks.size / copies if copies else 0.0
        gradients = self.losses.terms(self.active_terms, answers, own, batch.slant, scales, share)
        if self.prior is not None:
            joints = self.losses.term_state["consistency"]["joints"]
            self.losses.metrics.add("prior", self.prior.follow(joints))
        return gradients

    def check_repeatable(self, updates: int = 2) -> None:
        """Run the next updates twice, compare the bits, and go back to where they began.

        Raises:
            UserError: they differ, or PyTorch has no deterministic algorithm for a part of them.
        """
        before = copy.deepcopy(self.state_dict())
        found = []
        try:
            for _ in range(2):
                for _ in range(-(-updates // self.steps_per_replay)):
                    self()
                found.append({name: tensor.clone() for name, tensor in self.state.named_tensors()})
                self.load_state_dict(before)
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            raise UserError(f"--deterministic: {str(error).splitlines()[0]}") from None
        first, second = found
        if differ := [name for name in first if not torch.equal(first[name], second[name])]:
            more = f" and {len(differ) - 3} more tensors" if len(differ) > 3 else ""
            raise UserError(
                f"--deterministic: update {self.done.value + 1} gave two results from the same state, in "
                f"{', '.join(differ[:3])}{more}; look for what else uses this hardware, or leave "
                "--deterministic out"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact continuation needs, for :meth:`load_state_dict`."""
        return self.state.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Copy what :meth:`state_dict` gave.

        Raises:
            KeyError, RuntimeError, ValueError: the state is of other networks or another version.
        """
        self.state.load_state_dict(saved)
        for player in (self.player_d, self.player_g):
            player.round_weights()
