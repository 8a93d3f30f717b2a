"""Values of every kind in places that have a structure: settings, checkpoints and arguments of operators.

Each property is a hypothesis test without pytest, so that atheris can choose its examples too, through
``property.hypothesis.fuzz_one_input``.
"""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fuzz.readers import SPEC, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operators.arguments import GOOD, call
from torch import Tensor

from infogan_fast.config import OPTIONS, Config, load_config
from infogan_fast.errors import UserError
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.training.alarms import AlarmMonitor
from infogan_fast.training.checkpoint import checkpoint_path
from infogan_fast.training.run_folder import cut_metrics, read_config, read_metrics
from infogan_fast.training.scores import Scores
from infogan_fast.training.session import restore
from infogan_fast.training.step import TrainingStep

_ANY = settings(
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=300,
    suppress_health_check=list(HealthCheck),
)

NUMBERS = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, 2**63, 10**30, -(2**63)]),
    st.floats(allow_nan=True, allow_infinity=True),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8))
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
DTYPES = st.sampled_from(
    [
        *(torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int16),
        *(torch.uint8, torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint16),
    ]
)


def _filled(shape: list[int], dtype: torch.dtype, value: float, form: str) -> Tensor:
    result = torch.full(shape, 1.0).mul(value).to(dtype)
    if form == "meta":
        return result.to("meta")
    if form == "sparse" and dtype in (torch.float32, torch.float64, torch.int64):
        return result.to_sparse()
    if form == "expanded":
        return result[:1].expand(shape) if shape and shape[0] else result
    if form == "strided" and shape:
        return torch.stack([result, result], -1)[..., 0]
    if form == "transposed" and len(shape) > 1:
        return result.transpose(0, -1).contiguous().transpose(0, -1)
    return result


TENSORS = st.builds(
    _filled,
    st.lists(st.integers(0, 5), max_size=5),
    DTYPES,
    st.sampled_from([0.0, 1.0, -1.0, 3.0, 1e30, math.inf, math.nan]),
    st.sampled_from(["dense", "dense", "meta", "sparse", "expanded", "strided", "transposed"]),
)


@_ANY
@given(st.dictionaries(st.sampled_from(sorted(OPTIONS)), JSON, max_size=4), st.booleans())
def setting_values(changed: dict[str, Any], is_run: bool) -> None:
    """Options of every type from Python, and in a run's config.json."""
    try:
        if is_run:
            config = {"format": 3, "data": {"source": "s", "images": 9, "image_size": 16, "channels": 1}}
            config["settings"] = Config().checked().options() | changed
            path = written("run/config.json", json.dumps(config).encode("utf-8", "surrogatepass"))
            load_config(read_config(path.parent)["settings"]).resumed({})
        else:
            Config.from_options(changed).checked()
    except UserError:
        pass


_ROW = {
    "step": 2,
    "seconds": 0.1,
    "d_real": 0.7,
    "d_fake": 0.7,
    "g": 0.7,
    "diversity": 0.5,
    "alarms": [],
    "nll_c1": 1.1,
    "L_c1": 0.0,
    "H_c1": 1.1,
    "mse_c2": 0.3,
    "L_c2": 0.1,
    "L_c3": 0.1,
    "H_c3": 0.7,
}
_ROWS = st.lists(
    st.dictionaries(st.sampled_from(sorted(_ROW)), JSON, max_size=3).map(lambda changed: _ROW | changed)
    | JSON,
    max_size=4,
)


@_ANY
@given(_ROWS)
def metric_rows(rows: list[Any]) -> None:
    """Values of every type in the rows of metrics.jsonl."""
    text = "\n".join(json.dumps(row) for row in rows)
    path = written("rows/metrics.jsonl", text.encode("utf-8", "surrogatepass"))
    found = read_metrics(path.parent)
    AlarmMonitor(SPEC).replay(found)
    Scores(found).best([checkpoint_path(path.parent, step) for step in (1, 5)])
    cut_metrics(path.parent, 3)


@functools.cache
def _step_and_state() -> tuple[Config, TrainingStep, dict[str, Any]]:
    config = Config.from_options({"latents": str(SPEC), "batch_size": 2, "ema": 0.5}).checked()
    networks = InfoGAN(SPEC, 16, 1, network=config.network, seed=0)
    images = torch.arange(3 * 256).reshape(3, 1, 16, 16).to(torch.uint8)
    step = TrainingStep(SPEC, networks, config.objective, images, config.batch_size)
    state = {"step": 0, "seconds": 0.5, "settings": config.options()}
    return config, step, state | {"training": copy.deepcopy(step.state_dict())}


def _versions(step: TrainingStep) -> list[int]:
    """How often each tensor of the state was changed in place."""
    return [tensor._version for tensor in step.state.tensors()]


def _with_own_containers(value: Any) -> Any:
    """A copy of nested dictionaries and lists, with the same tensors."""
    if isinstance(value, dict):
        return {key: _with_own_containers(each) for key, each in value.items()}
    return [_with_own_containers(each) for each in value] if isinstance(value, list) else value


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every entry of nested dictionaries and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [place for key, each in inner for place in _places(each, (*at, key))]


@st.composite
def _changes(draw: st.DrawFn) -> list[tuple[tuple[Any, ...], str, Any]]:
    places = _places(_step_and_state()[2])
    one = st.tuples(
        st.sampled_from(places),
        st.sampled_from(["set", "set", "delete", "add"]),
        st.one_of(TENSORS, JSON, st.dictionaries(st.integers(0, 3), TENSORS, max_size=2)),
    )
    return draw(st.lists(one, min_size=1, max_size=3))


@settings(_ANY, max_examples=150)  # each looks at some millions of weights
@given(_changes())
def checkpoint_entries(changes: list[tuple[tuple[Any, ...], str, Any]]) -> None:
    """Checkpoints with wrong entries: refused whole, or continued from and finite."""
    config, step, state = _step_and_state()
    saved = _with_own_containers(state)
    for place, how, value in changes:
        try:
            inside = saved
            for key in place[:-1]:
                inside = inside[key]
            if how == "delete":
                del inside[place[-1]]
            else:
                inside[place[-1] if how == "set" else "extra"] = value
        except (KeyError, IndexError, TypeError, RuntimeError):
            continue  # an earlier change took this place away, or put a tensor there
    before = _versions(step)
    try:
        restore(step, Path("step-00000000.pt"), saved, config)
    except UserError:
        assert _versions(step) == before, "changed before it was refused"
        return
    assert not step.state.not_finite()
    step.load_state_dict(state["training"])


def _other(value: Any) -> st.SearchStrategy[Any]:
    """Values for an argument, most of another type, shape or size than this one."""
    integers = st.one_of(
        st.integers(-2, 9), st.sampled_from([2**31 - 1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63)])
    )
    if isinstance(value, Tensor):
        return st.one_of(st.none(), TENSORS, DTYPES.map(value.to))
    if isinstance(value, list):
        inner = TENSORS if value and isinstance(value[0], Tensor) else st.one_of(integers, st.floats())
        return st.lists(inner, max_size=4) | st.sampled_from([value * 2, value[:-1], value * 300])
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return integers
    if isinstance(value, torch.dtype) or value is None:
        return st.none() | DTYPES
    return st.floats() | st.sampled_from([0.0, 1.0, -1.0, 1e300, 1e-300])


@st.composite
def _arguments(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    operator = draw(st.sampled_from(sorted(GOOD)))
    names = draw(st.lists(st.sampled_from(sorted(GOOD[operator])), min_size=1, max_size=3, unique=True))
    return operator, {name: draw(_other(GOOD[operator][name])) for name in names}


@_ANY
@given(_arguments())
def operator_arguments(given: tuple[str, dict[str, Any]]) -> None:
    """An operator computes, or refuses by name. PyTorch refuses what is not in the schema, and fake kernels,
    which run next to a meta tensor, check devices alone."""
    operator, changed = given
    fresh = {name: _copied(value) for name, value in GOOD[operator].items()}
    try:
        call(operator, **{**fresh, **changed})
    except (RuntimeError, TypeError, ValueError, NotImplementedError, OverflowError) as error:
        assert type(error) is not RuntimeError or "INTERNAL ASSERT" not in str(error), str(error)
    except (AttributeError, IndexError):
        assert any(isinstance(value, Tensor) and value.is_meta for value in changed.values())


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return [_copied(each) for each in value] if isinstance(value, list) else value


#: By name, each property; call it without arguments to try as many examples as its settings say.
STRUCTURES: dict[str, Callable[[], None]] = {
    "setting_values": setting_values,
    "metric_rows": metric_rows,
    "checkpoint_entries": checkpoint_entries,
    "operator_arguments": operator_arguments,
}
