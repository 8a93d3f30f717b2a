"""What agreement computes, in plain PyTorch and float64; gradients by autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_fast import ops
from infogan_fast.latents import LatentSpec


def agreement(
    spec: LatentSpec,
    answers: Tensor,
    parts: ops.Agreement,
    near_rows: int,
    fixed_log_variance: float | None,
    slants: Tensor | None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Metrics, gradient and the new joints, all float64. ``parts.joints`` are left as they are."""
    q = answers.detach().double().cpu().requires_grad_()
    near, rest = q[:near_rows], q[near_rows:]
    real, copy = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    metrics, joints, loss = [], [], 0.0 * q.sum()
    start = entries = 0
    for code, size in enumerate(spec.categorical_sizes):
        columns = slice(start, start + size)
        if parts.consistency is not None:
            one, other = real[:, columns].softmax(1), copy[:, columns].softmax(1)
            now = torch.einsum("bi,bj->ij", one, other) / len(real)
            now = 0.5 * (now + now.T)
            batch = now.detach()
            if parts.batch_joints is not None:
                batch = parts.batch_joints[entries : entries + size**2].view(size, size).double().cpu()
            old = parts.joints[code].double().cpu()
            average = parts.joint_ema * old + (1 - parts.joint_ema) * batch
            joints.append(torch.where(average.isfinite(), average, old))
            # Only this batch's part has a gradient, as if it were the whole.
            joint = average + (now - now.detach())
            margin = joint.sum(0)
            independent = margin[:, None] * margin[None, :]
            information = (torch.xlogy(joint, joint) - torch.xlogy(joint, independent)).sum()
            entropy = -torch.xlogy(margin, margin).sum()
            metrics.append(information)
            loss = loss - parts.consistency * (information + parts.balance * entropy)
        if parts.smoothness:
            target = real[:near_rows, columns].log_softmax(1).detach()
            changed = near[:, columns].log_softmax(1)
            divergence = (target.exp() * (target - changed)).sum(1)
            loss = loss + parts.smoothness * divergence.mean()
        start += size
        entries += size**2
    ordered = [i for i, kind in enumerate(spec.continuous_kinds) if kind != "bernoulli"]
    for distance in parts.distances:
        index = distance.code.index
        change = real[:, start + index] - copy[:, start + index]
        if distance.slant_change:
            assert slants is not None
            change = change + distance.slant_change * slants.double().cpu()
        if fixed_log_variance is None:
            column = start + spec.n_continuous + ordered.index(index)
            variances = [part[:, column].detach().clamp(-10, 10).exp() for part in (real, copy)]
        else:
            variances = [torch.full_like(change, fixed_log_variance).exp().detach()] * 2
        value = (change**2 * (1 / variances[0] + 1 / variances[1])).mean() / 4
        metrics.append(value)
        loss = loss + distance.weight * value
    (gradient,) = torch.autograd.grad(loss, q)
    values = torch.stack(metrics).detach() if metrics else torch.zeros(0, dtype=torch.float64)
    return values, gradient, joints
