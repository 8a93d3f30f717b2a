"""A player of the game: its weights, their gradients, Adam, and the gradient scaler.

The weights of a player lie in one flat buffer of full precision, the masters, on which Adam works. With mixed
precision the networks compute on a copy of them in low precision, which Adam writes along with them, so that
no update casts a weight or a gradient. The weights of batch normalisation stay in full precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from infogan_fast import ops
from infogan_fast.runtime.ranks import ALONE, Ranks
from infogan_fast.training.saved import check_like

#: Updates from one move of the average to the next: it hardly moves in one, and takes memory's time.
AVERAGE_EVERY = 10
_ALIGNMENT = 64  # elements: 128 bytes of a half type, on which matrix products load at full speed


class Player:
    """Weights that one Adam updates.

    The data of the parameters becomes views of the player's buffers.

    Args:
        groups: weights and their learning rate.
        betas: of Adam.
        device: where the weights are.
        low: the half type that the weights are copied to; None leaves all in full precision.
        full: weights that keep full precision.
        average: whether to keep a moving average of the weights.
        average_decay: of that average, an update; it follows faster at first, and moves at multiples of
            :data:`AVERAGE_EVERY`. See :func:`ops.adam_update`.
        ranks: that have a gradient each; the update takes their mean.
        reduce_dtype: in which they are averaged, float32 or bfloat16; float64 for weights in float64.
    """

    #: A GradScaler leaves scale and overflow to :meth:`step`, on the device.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        groups: Sequence[tuple[Sequence[nn.Parameter], float]],
        betas: tuple[float, float],
        device: torch.device,
        *,
        low: torch.dtype | None = None,
        full: frozenset[nn.Parameter] = frozenset(),
        average: bool = False,
        average_decay: float = 0.0,
        ranks: Ranks = ALONE,
        reduce_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.parameters = [parameter for parameters, _ in groups for parameter in parameters]
        self.learning_rates = [lr for _, lr in groups]
        self.betas, self.low, self.average_decay = betas, low, average_decay
        #: What GradScaler looks through.
        self.param_groups: list[dict[str, Any]] = [
            {"params": list(parameters), "lr": lr, "betas": betas, "eps": 1e-8} for parameters, lr in groups
        ]
        self.scaler = torch.amp.GradScaler(device.type, enabled=low == torch.float16)
        self._one = torch.ones((), device=device)
        self._groups = [group for group, (parameters, _) in enumerate(groups) for _ in parameters]
        self._places: list[int] = []
        end = 0
        for parameter in self.parameters:
            self._places.append(end)
            end += -(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT
        dtype = torch.promote_types(self.parameters[0].dtype, torch.float32)
        self.masters, self.exp_avg, self.exp_avg_sq = (
            torch.zeros(end, dtype=dtype, device=device) for _ in range(3)
        )
        self.steps = torch.zeros(len(groups), dtype=torch.int64, device=device)
        self._weights = None if low is None else torch.zeros(end, dtype=low, device=device)
        self.average = torch.zeros_like(self.masters) if average else None
        self._gradients: list[tuple[int, Tensor]] = []
        self._ranks = ranks
        self._shared: Tensor | None = None
        if ranks.joined:
            in_full = dtype == torch.float64 or reduce_dtype == torch.float32
            self._shared = self.masters.new_zeros(end, dtype=dtype if in_full else reduce_dtype)
        self._own(full)

    @torch.no_grad()
    def _own(self, full: frozenset[nn.Parameter]) -> None:
        for i, parameter in enumerate(self.parameters):
            master = self._view(self.masters, i)
            master.copy_(parameter)
            if self.average is not None:
                self._view(self.average, i).copy_(parameter)
            whole = self._weights is None or parameter in full
            parameter.data = master if whole else self._view(self._weights, i)
        self.round_weights()

    def _view(self, buffer: Tensor | None, i: int) -> Tensor:
        assert buffer is not None
        parameter = self.parameters[i]
        return buffer.as_strided(parameter.shape, parameter.stride(), self._places[i])

    def master_of(self, parameter: nn.Parameter) -> Tensor:
        """A parameter's weights in full precision, its shape."""
        return self._view(self.masters, self._index_of(parameter))

    def average_of(self, parameter: nn.Parameter) -> Tensor:
        """The moving average of a parameter."""
        return self._view(self.average, self._index_of(parameter))

    def moments_of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        """Adam's first and second moment of a parameter."""
        i = self._index_of(parameter)
        return self._view(self.exp_avg, i), self._view(self.exp_avg_sq, i)

    def _index_of(self, parameter: nn.Parameter) -> int:
        return next(i for i, own in enumerate(self.parameters) if own is parameter)

    def round_weights(self) -> None:
        """Copy the masters to the weights in low precision, after something other than Adam changed them."""
        if self._weights is not None:
            self._weights.copy_(self.masters)

    def scale(self) -> Tensor | None:
        """The factor of the gradients, [], on the device; None without scaling."""
        # Scaling a one is the public way to a GradScaler's scale that leaves it on the device.
        return self.scaler.scale(self._one) if self.scaler.is_enabled() else None

    def backward(
        self,
        outputs: Sequence[Tensor],
        gradients: Sequence[Tensor],
        *,
        group: int | None = None,
        retain_graph: bool = False,
    ) -> None:
        """Differentiate with respect to the player's weights, or those of one group, and keep the gradients
        for the next update.

        Args:
            outputs: of the networks.
            gradients: with respect to them, already scaled.
            group: of the weights; None for all.
            retain_graph: as for ``torch.autograd.grad``.
        """
        chosen = [i for i, of in enumerate(self._groups) if group in (None, of)]
        inputs = [self.parameters[i] for i in chosen]
        found = torch.autograd.grad(outputs, inputs, gradients, retain_graph=retain_graph)
        for i, gradient in zip(chosen, found, strict=True):
            self._gradients.append((i, _in_memory_order(gradient, self.parameters[i])))

    def gradient_of(self, parameter: nn.Parameter) -> Tensor | None:
        """The gradient for the next update, scaled; None if there is none."""
        found = [g for i, g in self._gradients if self.parameters[i] is parameter]
        return sum(found[1:], found[0]) if found else None

    def update(self) -> None:
        """Take a step of Adam with the gradients, or their mean over the ranks, and forget them."""
        if self._shared is not None:
            self._average_gradients(self._shared)
        if self.scaler.is_enabled():
            for parameter in self.parameters:
                gradient = self.gradient_of(parameter)  # a GradScaler looks for overflows in it
                parameter.grad = None if gradient is None else gradient.to(parameter.dtype)
            self.scaler.step(self)  # type: ignore[arg-type]
            self.scaler.update()
            for parameter in self.parameters:
                parameter.grad = None
        else:
            self.step()
        self._gradients = []

    def _average_gradients(self, shared: Tensor) -> None:
        """Replace the gradients by their means over the ranks, in one collective."""
        filled: set[int] = set()
        for i, gradient in self._gradients:
            place = self._view(shared, i)
            place.add_(gradient) if i in filled else place.copy_(gradient)
            filled.add(i)
        self._ranks.average(shared)
        if shared.dtype not in (self.masters.dtype, self.low):
            shared = shared.to(self.masters.dtype)
        self._gradients = [(i, self._view(shared, i)) for i in sorted(filled)]

    def step(self) -> None:
        """Adam by itself: what a GradScaler calls."""
        ordered = sorted(self._gradients, key=lambda found: found[0])
        ops.adam_update(
            self.masters,
            self.exp_avg,
            self.exp_avg_sq,
            self.steps,
            [gradient for _, gradient in ordered],
            [self._places[i] for i, _ in ordered],
            [self._groups[i] for i, _ in ordered],
            self.learning_rates,
            betas=self.betas,
            weights=self._weights,
            average=self.average,
            average_decay=self.average_decay,
            average_every=AVERAGE_EVERY,
            grad_scale=getattr(self, "grad_scale", None),
            found_inf=getattr(self, "found_inf", None),
        )

    @torch.no_grad()
    def forget(self, group: int) -> None:
        """Zero, in place, Adam's moments and step count of a group; its average begins at the weights."""
        for parameter, of in zip(self.parameters, self._groups, strict=True):
            if of == group:
                for moment in self.moments_of(parameter):
                    moment.zero_()
                if self.average is not None:
                    self.average_of(parameter).copy_(self.master_of(parameter))
        self.steps[group] = 0

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """What an update changes in place besides the masters, with a name for each."""
        for i, parameter in enumerate(self.parameters):
            first, second = self.moments_of(parameter)
            yield from ((f"{i}.exp_avg", first), (f"{i}.exp_avg_sq", second))
        yield "steps", self.steps
        if self._weights is not None:
            yield "weights", self._weights

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts, as ``torch.optim.Adam`` has them."""
        state = {}
        for i, (parameter, group) in enumerate(zip(self.parameters, self._groups, strict=True)):
            first, second = self.moments_of(parameter)
            state[i] = {"step": self.steps[group].float(), "exp_avg": first, "exp_avg_sq": second}
        numbers, at = [], 0
        for settings in self.param_groups:
            count = len(settings["params"])
            numbers.append({**settings, "params": list(range(at, at + count))})
            at += count
        return {"state": state, "param_groups": numbers}

    def check_state_dict(self, name: str, saved: Any) -> None:
        """Check what :meth:`load_state_dict` is to copy.

        Args:
            name: of the player, for the message.

        Raises:
            ValueError: it is not Adam's state, of other weights, or not finite.
        """
        try:
            if not isinstance(saved, dict):
                raise TypeError("it is no dictionary")
            groups, state = saved["param_groups"], saved["state"]
            of = [state[i] for i in range(len(self.parameters))] if state else []
            if not all(isinstance(each, dict) for each in (*groups, *of, state)):
                raise TypeError("it is not of dictionaries")
            sizes = [len(group["params"]) for group in groups]
            values = [(each["step"], each["exp_avg"], each["exp_avg_sq"]) for each in of]
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"{name} is not Adam's state ({type(error).__name__}: {error})") from None
        own = [len(group["params"]) for group in self.param_groups]
        if sizes != own:
            raise ValueError(f"{name} is of groups of {sizes} weights; expected {own}")
        if len(state) not in (0, len(self.parameters)):
            raise ValueError(f"{name} is of {len(state)} weights; expected {len(self.parameters)}")
        for i, (parameter, (step, *moments)) in enumerate(zip(self.parameters, values, strict=False)):
            check_like(f"{name}.state.{i}.step", step, torch.zeros(()))
            if not 0 <= step < 2**24 or step != step.floor():
                raise ValueError(f"{name}.state.{i}.step is {step.item()}; expected a count")
            for key, moment, mine in zip(
                ("exp_avg", "exp_avg_sq"), moments, self.moments_of(parameter), strict=True
            ):
                check_like(f"{name}.state.{i}.{key}", moment, mine)

    @torch.no_grad()
    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Copy what :meth:`state_dict`, or that of a ``torch.optim.Adam`` over the same weights, gave.

        Raises:
            ValueError: see :meth:`check_state_dict`.
        """
        self.check_state_dict("Adam's state", saved)
        for buffer in (self.exp_avg, self.exp_avg_sq, self.steps):
            buffer.zero_()
        if not saved["state"]:  # before torch.optim.Adam's first update
            return
        for i, parameter in enumerate(self.parameters):
            values = saved["state"][i]
            for moment, name in zip(self.moments_of(parameter), ("exp_avg", "exp_avg_sq"), strict=True):
                moment.copy_(values[name])
            self.steps[self._groups[i]] = int(values["step"])


def _in_memory_order(gradient: Tensor, parameter: nn.Parameter) -> Tensor:
    """The gradient with its elements in the parameter's order in memory."""
    sizes, strides = gradient.shape, zip(gradient.stride(), parameter.stride(), strict=True)
    if all(size == 1 or a == b for size, (a, b) in zip(sizes, strides, strict=True)):
        return gradient
    return torch.empty_like(parameter, dtype=gradient.dtype).copy_(gradient)
