"""A player of the game: its weights, its optimizer and its gradient scaler."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Player:
    """Weights that one Adam updates.

    Args:
        groups: weights and their learning rate.
        betas: of Adam.
        device: where the weights are.
        scaled: whether gradients are scaled, for float16. Each player has its own scale, so that an overflow
            of one leaves the other's alone.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Sequence[nn.Parameter], float]],
        betas: tuple[float, float],
        device: torch.device,
        *,
        scaled: bool,
    ) -> None:
        self.parameters = [parameter for parameters, _ in groups for parameter in parameters]
        # A graph reads the step and the learning rate from the device.
        cuda = device.type == "cuda"
        self.optimizer = torch.optim.Adam(
            [
                {"params": list(parameters), "lr": torch.full((), lr, device=device) if cuda else lr}
                for parameters, lr in groups
            ],
            betas=betas,
            fused=True,
            capturable=cuda,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        self._one = torch.ones((), device=device)

    def scale(self) -> Tensor | None:
        """The factor of the gradients, [], on the device; None without scaling."""
        # Scaling a one is the public way to a GradScaler's scale that leaves it on the device.
        return self.scaler.scale(self._one) if self.scaler.is_enabled() else None

    def update(self) -> None:
        """Take a step of Adam with the current gradients, and free them."""
        # A disabled scaler only steps. An enabled one gives its scale and the overflow to the fused
        # optimizer, on the device.
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # Freed, not zeroed: accumulating into kept buffers costs another pass over them.
        self.optimizer.zero_grad(set_to_none=True)

    def forget(self, parameters: Sequence[nn.Parameter]) -> None:
        """Zero, in place, Adam's moments and step counts of these weights."""
        for parameter in parameters:
            for value in self.optimizer.state[parameter].values():
                value.zero_()
