"""The registry of a step's state: saving, loading, names, and what is not finite."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

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
    with pytest.raises(ValueError, match="it lacks rng"):
        state.load_state_dict({k: v for k, v in saved.items() if k != "rng"})
    with pytest.raises(ValueError, match="averages is of type list; expected a list of 2 tensors"):
        state.load_state_dict({**saved, "averages": [torch.zeros(2)]})
    with pytest.raises(ValueError, match="already has an entry 'rng'"):
        state.register("rng", None)


def changed(saved: Any, path: str, value: Any) -> Any:
    """A copy of a nested state with another value at a path such as ``optimizer/state/0/exp_avg``."""
    name, _, rest = path.partition("/")
    key: Any = int(name) if name.isdigit() else name
    copied = list(saved) if isinstance(saved, list) else type(saved)(saved)
    copied[key] = changed(saved[key], rest, value) if rest else value
    return copied


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("rng", None, "rng is of type NoneType; expected a int64 tensor [2]"),
        ("rng", torch.tensor([1.0, 2.0]), "rng is a float32 tensor [2]"),
        ("rng", torch.empty(2, dtype=torch.int64, device="meta"), "rng is a int64 tensor [2]"),
        ("averages/1", torch.ones(2, 2).to_sparse(), "averages.1 is a float32 tensor [2, 2]"),
        ("averages/1", torch.full((2, 2), math.inf), "averages.1 is not finite"),
        ("networks", {}, "networks has other weights"),
        ("networks/0.weight", torch.zeros(2, 3), "networks.0.weight is a float32 tensor [2, 3]"),
        ("networks/0.weight", torch.zeros(3, 2, dtype=torch.complex64), "networks.0.weight is a complex64"),
        ("networks/1.running_var", torch.full((3,), math.nan), "networks.1.running_var is not finite"),
        ("optimizer", None, "optimizer is not Adam's state"),
        ("optimizer", {"state": {}, "param_groups": [3]}, "optimizer is not Adam's state"),
        ("optimizer/param_groups", [], "optimizer is of groups of [] weights; expected [4]"),
        ("optimizer/state/3", {}, "optimizer is not Adam's state (KeyError: 'step')"),
        ("optimizer/state/0/exp_avg", torch.zeros(1), "optimizer.state.0.exp_avg is a float32 tensor [1]"),
        ("optimizer/state/0/exp_avg_sq", None, "optimizer.state.0.exp_avg_sq is of type NoneType"),
        ("optimizer/state/0/step", torch.tensor(-1.0), "optimizer.state.0.step is -1.0; expected a count"),
        ("optimizer/state/0/step", torch.tensor(0.5), "optimizer.state.0.step is 0.5; expected a count"),
        ("optimizer/state/0/step", 1, "optimizer.state.0.step is 1; expected a float32 tensor []"),
        ("updates", -1, "updates is -1; expected a count"),
        ("updates", True, "updates is True; expected a count"),
        ("updates", "3", "updates is '3'; expected a count"),
    ],
)
def test_nothing_changes_unless_all_of_a_state_fits(path: str, value: Any, message: str) -> None:
    state = make_state()
    saved = copy.deepcopy(state.state_dict())
    with torch.no_grad():
        for tensor in state.tensors():
            tensor.add_(1)
    before = [tensor.clone() for tensor in state.tensors()]
    with pytest.raises(ValueError, match=re.escape(message)):
        state.load_state_dict(changed(saved, path, value))
    assert all(torch.equal(a, b) for a, b in zip(state.tensors(), before, strict=True))


def test_a_scaler_s_state_is_checked() -> None:
    state, scaler = State(), torch.amp.GradScaler("cpu")
    state.register("scaler", scaler)
    saved = state.state_dict()
    state.load_state_dict(saved)
    for key, value in (("scale", math.nan), ("scale", "2"), ("_growth_tracker", 1.5), ("scale", -1.0)):
        with pytest.raises(ValueError, match=f"scaler.{key} is "):
            state.load_state_dict({"scaler": saved["scaler"] | {key: value}})
    with pytest.raises(ValueError, match="scaler is of type dict; expected scale"):
        state.load_state_dict({"scaler": {"scale": 1.0}})
    state.load_state_dict({"scaler": saved["scaler"] | {"scale": 4.0}})
    state.load_state_dict({"scaler": {}})  # of a run in bfloat16, which has none
    assert scaler.get_scale() == 4.0


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
