"""The state of a training step, registered once: saved, loaded and restored after a graph's warm-up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from infogan_fast.training.player import Player
from infogan_fast.training.saved import check_like, in_words, is_finite


@dataclass
class Counter:
    """A count that is kept on the host."""

    value: int = 0


Entry = Tensor | list[Tensor] | nn.Module | Player | torch.amp.GradScaler | Counter | None

#: Checkpoints of version 0.1 hold these even if the objective does not use them.
_ALWAYS_SAVED = frozenset({"joints"})


class State:
    """Everything that lasts from one update to the next, by name.

    ``entries`` are only changed in place, so that a CUDA graph finds them where they were at its capture.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def register(self, name: str, entry: Entry) -> None:
        """Save, load and restore this under that name. None takes the place of an entry that is not used.

        Raises:
            ValueError: the name is taken.
        """
        if name in self.entries:
            raise ValueError(f"the state already has an entry {name!r}")
        self.entries[name] = entry

    def tensors(self) -> list[Tensor]:
        """Every tensor that an update changes in place, except those of the gradient scalers."""
        return [tensor for _, tensor in self.named_tensors()]

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """:meth:`tensors` with a name for each, such as ``networks.d_head.weight``."""
        for name, entry in self.entries.items():
            if isinstance(entry, Tensor):
                yield name, entry
            elif isinstance(entry, list):
                yield from ((f"{name}.{i}", tensor) for i, tensor in enumerate(entry))
            elif isinstance(entry, nn.Module):
                yield from ((f"{name}.{key}", tensor) for key, tensor in entry.named_parameters())
                yield from ((f"{name}.{key}", tensor) for key, tensor in entry.named_buffers())
            elif isinstance(entry, Player):
                yield from ((f"{name}.{key}", tensor) for key, tensor in entry.named_tensors())

    def not_finite(self) -> list[str]:
        """Names of the tensors that hold an infinity or a NaN; waits for the device."""
        return [name for name, tensor in self.named_tensors() if not is_finite(tensor)]

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact continuation needs; tensors are not copied."""
        return {name: _saved(entry) for name, entry in self.entries.items()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Copy what :meth:`state_dict` gave into the entries, once all of it is known to fit.

        Raises:
            ValueError: the state is of other networks or another version, or not finite; nothing has changed.
        """
        if not isinstance(saved, dict):
            raise ValueError(f"its state is {in_words(saved)}")
        if missing := set(self.entries) - set(saved):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        if unknown := set(saved) - set(self.entries) - _ALWAYS_SAVED:
            raise ValueError(f"it has {', '.join(sorted(unknown))}, which this run does not")
        for name, entry in self.entries.items():
            _check(name, entry, saved[name])
        for name, entry in self.entries.items():
            _load(entry, saved[name])


def _saved(entry: Entry) -> Any:
    if entry is None or isinstance(entry, (Tensor, list)):
        return entry
    return entry.value if isinstance(entry, Counter) else entry.state_dict()


def _check(name: str, entry: Entry, saved: Any) -> None:
    """Raise a ValueError unless the value can take the entry's place."""
    if isinstance(entry, Tensor):
        check_like(name, saved, entry)
    elif isinstance(entry, list):
        if not isinstance(saved, list) or len(saved) != len(entry):
            raise ValueError(f"{name} is {in_words(saved)}; expected a list of {len(entry)} tensors")
        for i, (own, value) in enumerate(zip(entry, saved, strict=True)):
            check_like(f"{name}.{i}", value, own)
    elif isinstance(entry, Counter):
        if type(saved) is not int or saved < 0:
            raise ValueError(f"{name} is {in_words(saved)}; expected a count")
    elif isinstance(entry, torch.amp.GradScaler):
        own_state = entry.state_dict()
        if saved == {}:  # of a run without a scaler, in bfloat16: it begins as a new one does
            return
        if own_state and (not isinstance(saved, dict) or saved.keys() != own_state.keys()):
            raise ValueError(f"{name} is {in_words(saved)}; expected {', '.join(own_state)}")
        for key, value in own_state.items():
            given = saved[key]
            if type(given) is not type(value) or not 0 <= given < math.inf:
                raise ValueError(f"{name}.{key} is {in_words(given)}; expected one such as {value}")
    elif isinstance(entry, nn.Module):
        own_tensors = entry.state_dict()
        if not isinstance(saved, dict) or saved.keys() != own_tensors.keys():
            raise ValueError(f"{name} has other weights than the networks")
        for key, own in own_tensors.items():
            check_like(f"{name}.{key}", saved[key], own)
    elif entry is not None:
        entry.check_state_dict(name, saved)


@torch.no_grad()
def _load(entry: Entry, saved: Any) -> None:
    if isinstance(entry, Tensor):
        entry.copy_(saved)
    elif isinstance(entry, list):
        for own, value in zip(entry, saved, strict=True):
            own.copy_(value)
    elif isinstance(entry, Counter):
        entry.value = saved
    elif isinstance(entry, torch.amp.GradScaler):
        if entry.is_enabled() and saved:
            entry.load_state_dict(saved)
    elif entry is not None:
        entry.load_state_dict(saved)
