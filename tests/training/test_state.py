"""The registry of a step's state: saving, loading, names, and what is not finite."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from infogan_fast.training.metric_sums import MetricSums
from infogan_fast.training.player import Player
from infogan_fast.training.state import Counter, State


def make_state() -> State:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    player = Player([(list(layer.parameters()), 0.1)], (0.5, 0.9), torch.device("cpu"))
    player.backward([layer(torch.randn(4, 2))], [torch.randn(4, 3)])
    player.update()
    state = State()
    state.register("rng", torch.tensor([1, 2]))
    state.register("averages", [torch.zeros(2), torch.ones(2, 2)])
    state.register("networks", layer)
    state.register("optimizer", player)
    state.register("updates", Counter(3))
    state.register("ema", None)
    return state


def test_loading_restores_every_entry_in_place() -> None:
    state = make_state()
    saved = copy.deepcopy(state.state_dict())
    tensors = state.tensors()
    before = [tensor.clone() for tensor in tensors]
    with torch.no_grad():
        for tensor in tensors:
            tensor.add_(1)
    counter = state.entries["updates"]
    assert isinstance(counter, Counter)
    counter.value = 9
    state.load_state_dict(saved)
    assert counter.value == 3
    optimizer = {name for name, _ in state.named_tensors() if name.startswith("optimizer.")}
    assert len(optimizer) == 4 * 2 + 1  # two moments of each parameter, and Adam's counts
    for tensor, wanted in zip(state.tensors(), before, strict=True):
        assert torch.equal(tensor, wanted)
    assert [t.data_ptr() for t in tensors] == [t.data_ptr() for t in state.tensors()]


def test_a_loaded_state_is_a_copy() -> None:
    state, other = make_state(), make_state()
    saved = state.state_dict()
    other.load_state_dict(saved)
    with torch.no_grad():
        for tensor in other.tensors():
            tensor.add_(1)
    for (name, a), (_, b) in zip(state.named_tensors(), other.named_tensors(), strict=True):
        assert not torch.equal(a, b), name


def test_what_is_not_finite_is_named() -> None:
    state = make_state()
    assert state.not_finite() == []
    layer, averages = state.entries["networks"], state.entries["averages"]
    assert isinstance(layer, nn.Module)
    assert isinstance(averages, list)
    with torch.no_grad():
        layer.get_parameter("0.weight")[1, 0] = math.nan
        averages[1][0, 0] = math.inf
    assert state.not_finite() == ["averages.1", "networks.0.weight"]


def test_wrong_states() -> None:
    state = make_state()
    saved = state.state_dict()
    with pytest.raises(ValueError, match="it has warp, which this run does not"):
        state.load_state_dict({**saved, "warp": 1})
    with pytest.raises(KeyError, match="rng"):
        state.load_state_dict({k: v for k, v in saved.items() if k != "rng"})
    with pytest.raises(ValueError, match="shorter"):
        state.load_state_dict({**saved, "averages": [torch.zeros(2)]})
    with pytest.raises(ValueError, match="already has an entry 'rng'"):
        state.register("rng", None)


def test_metrics_are_means_by_name() -> None:
    sums = MetricSums({"loss": ("a", "b"), "term": ("c",)}, torch.device("cpu"))
    assert sums.names == ("a", "b", "c")
    for value in (1.0, 3.0):
        sums.add("loss", torch.tensor([value, -value]))
    sums.add("term", torch.tensor([5.0], dtype=torch.float64))
    assert sums.take_means(2) == {"a": 2.0, "b": -2.0, "c": 2.5}
    assert sums.take_means(2) == {"a": 0.0, "b": 0.0, "c": 0.0}
    with pytest.raises(KeyError):
        sums.add("other", torch.zeros(1))
