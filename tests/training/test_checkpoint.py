"""Checkpoints are whole or absent, and say what is wrong with them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from infogan_fast.errors import UserError
from infogan_fast.training import checkpoint


def test_round_trip(tmp_path: Path) -> None:
    path = checkpoint.checkpoint_path(tmp_path, 12)
    state = {"step": 12, "weights": {"w": torch.randn(3, 4)}, "rng": torch.tensor([1, 2]), "none": None}
    checkpoint.save(path, state)
    loaded = checkpoint.load(path)
    assert torch.equal(loaded["weights"]["w"], state["weights"]["w"])  # type: ignore[index]
    assert (loaded["step"], loaded["none"], loaded["format"]) == (12, None, checkpoint.FORMAT)
    assert os.listdir(tmp_path) == ["step-00000012.pt"]


def test_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint.checkpoint_path(tmp_path, 1)
    checkpoint.save(path, {"value": 1})

    def full(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"step-00000001\.pt.*No space left.*--resume"):
        checkpoint.save(path, {"value": 2})
    assert checkpoint.load(path)["value"] == 1
    assert os.listdir(tmp_path) == ["step-00000001.pt"]


class _Boom:
    def __reduce__(self) -> Any:
        return (os.system, ("true",))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "code", "list", "other", "format"])
def test_damaged(tmp_path: Path, damage: str) -> None:
    path = checkpoint.checkpoint_path(tmp_path, 1)
    checkpoint.save(path, {"weights": torch.randn(1000)})
    remedy = "delete it to continue from the one before"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("hello")
    elif damage == "code":
        path.write_bytes(pickle.dumps(_Boom()))
    elif damage == "list":
        torch.save([1, 2], path)
    elif damage == "other":
        torch.save({"state_dict": {}}, path)
    else:
        torch.save({"format": 99}, path)
        remedy = "checkpoint format 99, expected 3; use the version"
    with pytest.raises(UserError, match=remedy) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "step-00000001.pt")
    assert checkpoint.listed(tmp_path / "absent") == []


def test_last_few_are_kept(tmp_path: Path) -> None:
    for step in (5, 999_999_999, 20, 100):
        checkpoint.checkpoint_path(tmp_path, step).touch()
    (tmp_path / ".step-00000200.pt.part").touch()
    (tmp_path / "notes.txt").touch()
    checkpoint.prune(tmp_path, 2)
    assert [checkpoint.step_of(p) for p in checkpoint.listed(tmp_path)] == [100, 999_999_999]
    assert (tmp_path / "notes.txt").exists()
    with pytest.raises(UserError, match="not the name of a checkpoint"):
        checkpoint.step_of(tmp_path / "notes.txt")
