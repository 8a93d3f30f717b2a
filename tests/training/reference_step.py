"""The training iteration in plain PyTorch: separate passes, losses written out, autograd, Adam by its
formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from objective import statements
from operators.transform_images import reference as transform
from torch import Tensor
from training.objectives import flat

from infogan_fast import ops
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.objective.copies import copy_state
from infogan_fast.objective.objective import Objective

D_PREFIXES = ("trunk.", "d_head.")


def sides(size: int) -> list[int]:
    """Of the feature maps of ``--network auto``: halved until at most 8, at least twice."""
    result = [size]
    while len(result) < 3 or result[-1] > 8:
        result.append(result[-1] // 2)
    return result


class ReferenceStep:
    """Holds copies of the networks' weights and statistics by their names in the state dict."""

    def __init__(
        self, spec: LatentSpec, networks: InfoGAN, objective: Objective, size: int, slope: float, seed: int
    ) -> None:
        self.spec, self.objective, self.size, self.slope = spec, flat(objective), size, slope
        self.buffers = {k: v.clone() for k, v in networks.named_buffers()}
        self.weights = {
            k: v.detach().clone().contiguous().requires_grad_() for k, v in networks.named_parameters()
        }
        self.mean = {k: torch.zeros_like(v) for k, v in self.weights.items()}
        self.variance = {k: torch.zeros_like(v) for k, v in self.weights.items()}
        self.step = 0
        self.rng = ops.rng_state(seed)
        self.copy_seed = int(copy_state(seed)[0])
        self.joints = [torch.full((k, k), k**-2.0, dtype=torch.float64) for k in spec.categorical_sizes]

    def norm(self, name: str, x: Tensor) -> Tensor:
        axes = [0, 2, 3] if x.ndim == 4 else [0]
        shape = [1, -1, 1, 1] if x.ndim == 4 else [1, -1]
        mean, var = x.mean(axes), x.var(axes, correction=0)
        n = x.numel() // x.shape[1]
        with torch.no_grad():
            for key, value in (("running_mean", mean), ("running_var", var * n / (n - 1))):
                self.buffers[f"{name}.{key}"].mul_(0.9).add_(value, alpha=0.1)
            self.buffers[f"{name}.num_batches_tracked"] += 1
        y = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
        return y * self.weights[f"{name}.weight"].view(shape) + self.weights[f"{name}.bias"].view(shape)

    def stages(self, prefix: str) -> int:
        return sum(k.startswith(prefix) for k in self.weights)

    def generator(self, z: Tensor) -> Tensor:
        w, side = self.weights, sides(self.size)
        x = F.relu(self.norm("generator.fc1_norm", z @ w["generator.fc1.weight"].T))
        x = F.relu(self.norm("generator.fc2_norm", x @ w["generator.fc2.weight"].T))
        x = x.view(len(x), side[-1], side[-1], -1).permute(0, 3, 1, 2).contiguous()
        inner = self.stages("generator.ups.")
        for i in range(inner):
            odd = side[-2 - i] % 2
            x = F.conv_transpose2d(x, w[f"generator.ups.{i}.weight"], stride=2, padding=1, output_padding=odd)
            x = F.relu(self.norm(f"generator.up_norms.{i}", x))
        x = F.conv_transpose2d(
            x,
            w["generator.image.weight"],
            w["generator.image.bias"],
            stride=2,
            padding=1,
            output_padding=self.size % 2,
        )
        return torch.sigmoid(x)

    def trunk(self, x: Tensor) -> Tensor:
        w = self.weights
        x = F.leaky_relu(
            F.conv2d(x, w["trunk.image.weight"], w["trunk.image.bias"], stride=2, padding=1), self.slope
        )
        for i in range(self.stages("trunk.convs.")):
            x = F.conv2d(x, w[f"trunk.convs.{i}.weight"], stride=2, padding=1)
            x = F.leaky_relu(self.norm(f"trunk.conv_norms.{i}", x), self.slope)
        x = x.permute(0, 2, 3, 1).reshape(len(x), -1) @ w["trunk.fc.weight"].T
        return F.leaky_relu(self.norm("trunk.fc_norm", x), self.slope)

    def d_head(self, h: Tensor) -> Tensor:
        return (h @ self.weights["d_head.weight"].T + self.weights["d_head.bias"]).squeeze(1)

    def q_head(self, h: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm("q_head.fc1_norm", h @ self.weights["q_head.fc1.weight"].T), self.slope)
        return x @ self.weights["q_head.fc2.weight"].T + self.weights["q_head.fc2.bias"]

    def code_losses(self, q: Tensor, categorical: Tensor, continuous: Tensor) -> list[Tensor]:
        """The negative log-likelihood of each code."""
        losses, column = [], 0
        self.log_variances: dict[str, Tensor] = {}
        for i, size in enumerate(self.spec.categorical_sizes):
            losses.append(F.cross_entropy(q[:, column : column + size], categorical[:, i].long()))
            column += size
        log_variance = column + self.spec.n_continuous
        for j, kind in enumerate(self.spec.continuous_kinds):
            mu, c = q[:, column + j], continuous[:, j].to(q)
            if kind == "bernoulli":
                losses.append(F.binary_cross_entropy_with_logits(mu, c))
                continue
            if self.objective.fixed_sigma is None:
                s = q[:, log_variance].clamp(-10, 10)
                log_variance += 1
                self.log_variances[self.spec.code_names[self.spec.n_categorical + j]] = s.mean()
            else:
                s = torch.full_like(mu, 2 * math.log(self.objective.fixed_sigma))
            losses.append((0.5 * (math.log(2 * math.pi) + s + (c - mu) ** 2 * (-s).exp())).mean())
        return losses

    def __call__(self, real: Tensor) -> dict[str, float]:
        latents = ops.sample_latents(self.rng, len(real), self.spec, dtype=real.dtype)
        lambdas = [self.objective.lambda_categorical] * self.spec.n_categorical
        lambdas += [self.objective.lambda_continuous] * self.spec.n_continuous
        self.step += 1
        fake = self.generator(latents.inputs)
        one_stage = self.objective.schedule == "one-stage"
        changes, unbent = self.objective.transformation, replace(self.objective.transformation, bend=0.0)
        until = self.objective.smoothness_until
        smoothness = self.objective.smoothness if until == 0 or self.step <= until else 0.0
        bending = self.objective.bending if self.step > until and not smoothness else 0.0
        if bending:
            rows = max(2, len(real) // 2)
            near = transform.transformed(real[:rows], changes, self.copy_seed, self.step - 1, (len(real), 1))
            nearby = self.q_head(self.trunk(near))
        if smoothness:
            rows, state = max(2, len(real) // 4), ops.rng_state(self.copy_seed, self.step - 1)
            pixels = LatentSpec(noise_dim=real[0].numel(), categorical_sizes=(), continuous_kinds=())
            drawn = ops.sample_latents(state, rows, pixels, dtype=real.dtype, sample_offset=len(real))
            noise = drawn.inputs.view(real[:rows].shape)
            near = statements.adversarial(self.spec, lambda x: self.q_head(self.trunk(x)), real[:rows], noise)
            nearby = self.q_head(self.trunk(near))
        on_real = self.trunk(real)
        agreements: list[Tensor] = []
        disagreement, losses = torch.zeros(()), {}
        o = self.objective
        if o.consistency or o.equivariance or o.invariance or o.smoothness or o.bending:
            on_copies = self.trunk(transform.transformed(real, unbent, self.copy_seed, self.step - 1))
            pair = torch.cat([self.q_head(on_real), self.q_head(on_copies)])
            decay = self.objective.joint_ema
            agreements, entropies, self.joints = statements.agreement(self.spec, pair, self.joints, decay)
            gain = sum(agreements, torch.zeros(())) + self.objective.balance * sum(entropies, torch.zeros(()))
            disagreement = -self.objective.consistency * gain / (1 - decay)
        kinds = enumerate(self.spec.continuous_kinds)
        ordered = [self.spec.code_names[self.spec.n_categorical + i] for i, k in kinds if k != "bernoulli"]
        sigma = self.objective.fixed_sigma
        log_variance = None if sigma is None else 2 * math.log(sigma)
        if self.objective.equivariance:
            slant = transform.slants(self.objective.transformation, self.copy_seed, self.step - 1, len(real))
            apart = statements.distance(self.spec, pair, log_variance, slant)
            disagreement = disagreement + self.objective.equivariance * apart
            losses[f"D_{ordered[0]}"] = apart
        if self.objective.invariance:
            apart = statements.distance(self.spec, pair, log_variance)
            disagreement = disagreement + self.objective.invariance * apart
            losses[f"D_{ordered[-1]}"] = apart
        if smoothness or bending:
            weight = smoothness or bending
            disagreement = disagreement + weight * statements.divergence(self.spec, pair[:rows], nearby)
        # With one stage, D's loss sees the generator's graph too; only D's weights are differentiated.
        on_fake = self.trunk(fake if one_stage else fake.detach())
        d_real, d_fake = F.softplus(-self.d_head(on_real)).mean(), F.softplus(self.d_head(on_fake)).mean()
        d_total = d_real + d_fake + disagreement
        q = None
        if one_stage or self.objective.mi_gradient == "trunk":
            q = self.q_head(on_fake)
        if self.objective.mi_gradient == "trunk":
            assert q is not None
            codes = self.code_losses(q, latents.categorical, latents.continuous)
            d_total = d_total + sum(weight * loss for weight, loss in zip(lambdas, codes, strict=True))
        d_names = [k for k in self.weights if k.startswith(D_PREFIXES)]
        q_names = [k for k in self.weights if k.startswith("q_head.")]
        g_names = [k for k in self.weights if k not in d_names]
        # At the weights before the discriminator's update, in either schedule.
        q_gradients = self.gradients(disagreement, q_names) if disagreement.requires_grad else ()
        if not one_stage:
            self.adam(d_total, d_names)
            on_fake = self.trunk(fake)
            q = self.q_head(on_fake)
        assert q is not None
        g = F.softplus(-self.d_head(on_fake)).mean()
        codes = self.code_losses(q, latents.categorical, latents.continuous)
        total = g + sum(weight * loss for weight, loss in zip(lambdas, codes, strict=True))
        gradients = dict(zip(g_names, self.gradients(total, g_names), strict=True))
        for name, gradient in zip(q_names, q_gradients, strict=bool(q_gradients)):
            gradients[name] = gradients[name] + gradient
        if one_stage:
            self.adam(d_total, d_names)
        self.apply(g_names, tuple(gradients[name] for name in g_names))
        names = [f"nll_{c}" for c in self.spec.code_names]
        losses |= {"d_real": d_real, "d_fake": d_fake, "g": g, **dict(zip(names, codes, strict=True))}
        losses |= {f"I_{c}": i for c, i in zip(self.spec.code_names, agreements, strict=False)}
        losses |= {f"logvar_{c}": s for c, s in self.log_variances.items()}
        return {name: loss.item() for name, loss in losses.items()}

    def gradients(self, loss: Tensor, names: list[str]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, [self.weights[k] for k in names], retain_graph=True)

    def adam(self, loss: Tensor, names: list[str]) -> None:
        self.apply(names, self.gradients(loss, names))

    def apply(self, names: list[str], gradients: tuple[Tensor, ...]) -> None:
        o = self.objective
        with torch.no_grad():
            for k, gradient in zip(names, gradients, strict=True):
                lr = o.lr_g if k.startswith("generator.") else o.lr_q if k.startswith("q_head.") else o.lr_d
                self.mean[k] = o.beta1 * self.mean[k] + (1 - o.beta1) * gradient
                self.variance[k] = o.beta2 * self.variance[k] + (1 - o.beta2) * gradient**2
                mean = self.mean[k] / (1 - o.beta1**self.step)
                variance = self.variance[k] / (1 - o.beta2**self.step)
                # A new tensor: the generator's graph still needs the discriminator's old weights untouched.
                updated = self.weights[k] - lr * mean / (variance.sqrt() + 1e-8)
                self.weights[k] = updated.detach().requires_grad_()
