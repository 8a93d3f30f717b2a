"""A player: torch.optim.Adam's updates and state, weights in low precision, their average."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from infogan_fast.training.player import AVERAGE_EVERY, Player

CPU = torch.device("cpu")
RATES = (1e-2, 3e-3)


def layers() -> list[nn.Module]:
    torch.manual_seed(4)
    convolution = nn.Conv2d(3, 5, 4).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return [convolution, nn.Linear(5, 2)]


def outputs(modules: list[nn.Module], update: int) -> Tensor:
    dtype = next(modules[0].parameters()).dtype
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(update)).to(dtype)
    y: Tensor = modules[1](modules[0](x).flatten(1))
    return y


def player_of(modules: list[nn.Module], low: torch.dtype | None = None, decay: float = 0.5) -> Player:
    groups = [(list(module.parameters()), rate) for module, rate in zip(modules, RATES, strict=True)]
    return Player(groups, (0.5, 0.99), CPU, low=low, average=True, average_decay=decay)


def adam_of(modules: list[nn.Module]) -> torch.optim.Adam:
    groups = [{"params": list(m.parameters()), "lr": lr} for m, lr in zip(modules, RATES, strict=True)]
    return torch.optim.Adam(groups, betas=(0.5, 0.99))


def test_updates_are_those_of_torch_s_adam_and_its_state_loads() -> None:
    """A checkpoint with the state of torch.optim.Adam continues."""
    plain, own = layers(), layers()
    adam, player = adam_of(plain), player_of(own)
    for update in range(6):
        if update == 3:  # another player goes on from Adam's state
            own = layers()
            for a, b in zip(own, plain, strict=True):
                a.load_state_dict(b.state_dict())
            player = player_of(own)
            player.load_state_dict(adam.state_dict())
            assert player.steps.tolist() == [3, 3]
        adam.zero_grad()
        outputs(plain, update).square().sum().backward()
        adam.step()
        y = outputs(own, update)
        player.backward([y], [2 * y.detach()])
        assert player.gradient_of(own[1].get_parameter("bias")) is not None
        player.update()
        assert player.gradient_of(own[1].get_parameter("bias")) is None
        for a, b in zip(own, plain, strict=True):
            torch.testing.assert_close(a.state_dict(), b.state_dict(), rtol=1e-5, atol=1e-6)
    saved, wanted = player.state_dict()["state"], adam.state_dict()["state"]
    for i, values in wanted.items():
        for name, value in values.items():
            torch.testing.assert_close(saved[i][name], value, rtol=1e-4, atol=1e-6, msg=f"{i} {name}")


def test_the_average_of_every_group() -> None:
    """It is the weights at first, then moves at multiples of ten updates, and starts again with its group."""
    own = layers()
    player = player_of(own, decay=0.97)
    wanted = {weight: weight.detach().double() for weight in player.parameters}
    for update in range(1, 131):
        y = outputs(own, update)
        player.backward([y], [2 * y.detach()])
        player.update()
        if update == 97:
            player.forget(1)
            wanted |= {weight: weight.detach().double() for weight in own[1].parameters()}
        if update % AVERAGE_EVERY == 0 or update <= 80:
            share = min(1.0, max(90 / (update + 10), 1 - 0.97**10))
            assert (share < 1) == (update > 80)
            for weight, average in wanted.items():
                wanted[weight] = average + share * (weight.detach().double() - average)
        for weight, average in wanted.items():
            torch.testing.assert_close(player.average_of(weight).double(), average, rtol=1e-5, atol=1e-6)


def test_a_state_before_adam_s_first_update_loads() -> None:
    player = player_of(layers())
    player.steps += 5
    player.exp_avg += 1
    player.load_state_dict(adam_of(layers()).state_dict())
    assert not player.steps.any() and not player.exp_avg.any()


def test_states_of_other_weights_are_refused() -> None:
    player, modules = player_of(layers()), layers()
    state = player_of([modules[1], modules[0]]).state_dict()
    with pytest.raises(ValueError, match=r"state.0.exp_avg is a float32 tensor \[2, 5\]; expected"):
        player.load_state_dict(state)
    one_group = torch.optim.Adam(modules[0].parameters()).state_dict()
    with pytest.raises(ValueError, match=r"of groups of \[2\] weights; expected \[2, 2\]"):
        player.load_state_dict(one_group)


def test_two_gradients_of_a_weight_are_added() -> None:
    once, twice = layers(), layers()
    players = player_of(once), player_of(twice)
    y = outputs(once, 0)
    players[0].backward([y], [3 * y.detach()])
    y = outputs(twice, 0)
    players[1].backward([y], [y.detach()], group=1, retain_graph=True)
    assert players[1].gradient_of(twice[0].get_parameter("weight")) is None
    players[1].backward([y], [2 * y.detach()])
    for name in ("weight", "bias"):
        first, second = (
            player.gradient_of(modules[1].get_parameter(name))
            for player, modules in zip(players, (once, twice), strict=True)
        )
        torch.testing.assert_close(second, first)


def test_weights_in_low_precision_are_the_masters_rounded() -> None:
    modules = layers()
    player = player_of(modules, torch.bfloat16)
    before = player.master_of(modules[0].get_parameter("weight")).clone()
    for update in range(3):
        y = outputs(modules, update)
        player.backward([y], [y.detach()])
        player.update()
        for parameter in player.parameters:
            assert parameter.dtype == torch.bfloat16
            assert torch.equal(parameter, player.master_of(parameter).bfloat16())
    assert not torch.equal(before, player.master_of(modules[0].get_parameter("weight")))
    with torch.no_grad():
        player.masters.fill_(0.3)
    player.round_weights()
    assert all((parameter == torch.tensor(0.3).bfloat16()).all() for parameter in player.parameters)


def test_forgetting_a_group_leaves_the_other() -> None:
    modules = layers()
    player = player_of(modules)
    y = outputs(modules, 0)
    player.backward([y], [y.detach()])
    player.update()
    player.forget(1)
    assert player.steps.tolist() == [1, 0]
    for module, kept in zip(modules, (True, False), strict=True):
        for parameter in module.parameters():
            assert all(bool(moment.any()) == kept for moment in player.moments_of(parameter))
