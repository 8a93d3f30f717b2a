"""Checkpoints are whole or absent, and say what is wrong with them."""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
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
    what = "not a readable checkpoint"
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
        what = "not a checkpoint of infogan_fast"
    elif damage == "other":
        torch.save({"state_dict": {}}, path)
        what = "not a checkpoint of infogan_fast"
    else:
        torch.save({"format": 99}, path)
        what = "checkpoint format 99, expected 4; use the version"
    with pytest.raises(UserError, match=what) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_changed_bit_is_believed(tmp_path: Path) -> None:
    """Each byte of a checkpoint with a bit turned over, and each 64 bytes zeroed."""
    path = checkpoint.checkpoint_path(tmp_path, 1)
    weights, settings = torch.randn(40), {"lr": 0.25, "name": "strokes"}
    checkpoint.save(path, {"weights": weights, "settings": settings})
    whole, refused = path.read_bytes(), 0
    damaged = [whole[:i] + bytes([byte ^ 1 << i % 8]) + whole[i + 1 :] for i, byte in enumerate(whole)]
    damaged += [whole[:i] + bytes(64) + whole[i + 64 :] for i in range(0, len(whole), 64)]
    for content in damaged:
        path.write_bytes(content)
        try:
            state = checkpoint.load(path)
        except UserError:
            refused += 1
        else:  # padding, and what nobody reads
            assert torch.equal(state["weights"], weights) and state["settings"] == settings
    assert refused > len(damaged) / 3


def test_a_record_that_was_exchanged_with_its_crc_is_not_believed(tmp_path: Path) -> None:
    """The digest of the directory covers the CRCs."""
    path = checkpoint.checkpoint_path(tmp_path, 1)
    checkpoint.save(path, {"weights": torch.full((40,), 1.5)})
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda each: each.file_size * each.filename.endswith("data/0"))
        record = archive.read(entry)
    other = torch.full((40,), 2.5).numpy().tobytes()
    content = path.read_bytes()
    assert content.count(record) == 1 and len(record) == len(other)
    content = content.replace(record, other)
    before, after = (zlib.crc32(each).to_bytes(4, "little") for each in (record, other))
    path.write_bytes(content.replace(before, after))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    with pytest.raises(checkpoint.DamagedError, match="its directory is damaged"):
        checkpoint.load(path)


def test_a_checkpoint_without_its_digest_is_damaged_unless_it_is_older(tmp_path: Path) -> None:
    path = checkpoint.checkpoint_path(tmp_path, 1)
    torch.save({"format": 3, "value": 1}, path)
    assert checkpoint.load(path)["value"] == 1
    torch.save({"format": 4, "value": 1}, path)
    with pytest.raises(checkpoint.DamagedError, match="its digest is missing"):
        checkpoint.load(path)


def test_want_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that is whole is not to be set aside."""
    path = checkpoint.checkpoint_path(tmp_path, 1)
    checkpoint.save(path, {"value": 1})

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(UserError, match="cannot be read") as caught:
        checkpoint.load_last(tmp_path)
    assert not isinstance(caught.value, checkpoint.DamagedError)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """It may hold more than fits into memory."""
    path = checkpoint.checkpoint_path(tmp_path, 1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1 << 20))
    with pytest.raises(checkpoint.DamagedError, match="its records are compressed"):
        checkpoint.load(path)


def test_the_last_whole_one_is_found(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no checkpoint in .*; start a new run"):
        checkpoint.load_last(tmp_path)
    paths = [checkpoint.checkpoint_path(tmp_path, step) for step in (1, 2, 3)]
    for step, path in enumerate(paths, 1):
        checkpoint.save(path, {"step": step})
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    path, state, damaged = checkpoint.load_last(tmp_path)
    assert (path, state["step"], [error.path for error in damaged]) == (paths[1], 2, [paths[2]])
    for path in paths[:2]:
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"3\.pt: not .*2\.pt: not .*1\.pt: not .*no other one: start"):
        checkpoint.load_last(tmp_path)
    aside = checkpoint.set_aside(paths[2])
    assert aside.name == "step-00000003.pt.damaged" and checkpoint.listed(tmp_path) == paths[:2]


@pytest.mark.parametrize("name", ["step-00000001.pt", ".step-00000001.pt.part"])
def test_a_symbolic_link_is_not_followed(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).symlink_to(victim)
    path = checkpoint.checkpoint_path(tmp_path / "checkpoints", 1)
    checkpoint.save(path, {"value": 1})
    assert victim.read_text() == "precious" and not path.is_symlink()
    assert checkpoint.load(path)["value"] == 1


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "step-00000001.pt")
    assert checkpoint.listed(tmp_path / "absent") == []


def test_last_few_are_kept(tmp_path: Path) -> None:
    for step in (5, 999_999_999, 20, 100):
        checkpoint.checkpoint_path(tmp_path, step).touch()
    (tmp_path / ".step-00000200.pt.part").touch()
    (tmp_path / "notes.txt").touch()
    checkpoint.prune(tmp_path, 2, None)
    assert [checkpoint.step_of(p) for p in checkpoint.listed(tmp_path)] == [100, 999_999_999]
    assert (tmp_path / "notes.txt").exists()
    with pytest.raises(UserError, match="not the name of a checkpoint"):
        checkpoint.step_of(tmp_path / "notes.txt")
