"""Files that crash or hang the library that reads them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import io

from infogan_fast.data import load_images, trial
from infogan_fast.data.trial import try_reading
from infogan_fast.errors import UserError


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def loop() -> None:
    while True:
        pass


def leave() -> None:
    os._exit(70)


def take_memory() -> None:
    bytearray(1 << 45)


def fail() -> None:
    raise ValueError("comes again")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"1234")
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (crash, r"file: damaged: reading it ends the process \(SIGSEGV\); get this file again"),
        (leave, r"file: damaged: reading it ends the process \(status 70\)"),
        (take_memory, "file: asks for more memory than is free"),
    ],
)
def test_what_ends_a_process_is_an_error(path: Path, read: Callable[[], None], says: str) -> None:
    with pytest.raises(UserError, match=says):
        try_reading(path, read)


def test_what_takes_too_long_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_SECONDS", 1)
    with pytest.raises(UserError, match="file: damaged: reading it took more than 1 s; get this file again"):
        try_reading(path, loop)


def test_the_time_grows_with_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(path, 4 * trial._BYTES_A_SECOND)
    monkeypatch.setattr(trial, "_SECONDS", -3)
    with pytest.raises(UserError, match="more than 1 s"):
        try_reading(path, loop)


def test_the_copy_harms_and_says_nothing(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    here: list[int] = []

    def read() -> None:
        here.append(1)
        print("said")
        os.write(2, b"said")

    try_reading(path, read)
    try_reading(path, fail)  # the caller's own reading raises it
    assert here == []
    assert capfd.readouterr() == ("", "")


def write_mat(path: Path) -> None:
    images = np.arange(16 * 16 * 3 * 4, dtype=np.uint8).reshape(16, 16, 3, 4)
    io.savemat(path, {"X": images, "y": np.array([[1.0], [2], [3], [4]])})


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=np.arange(16 * 16 * 4, dtype=np.uint8).reshape(4, 16, 16))
        file.create_dataset("labels", data=["a", "bb", "a", "b"])


@pytest.mark.parametrize(
    ("write", "changed"),
    [
        (write_mat, {3312: 173}),  # SIGSEGV with SciPy 1.17
        (write_mat, {1512: 106, 3313: 248}),  # SIGBUS
        (write_hdf5, {1457: 69, 3644: 166, 3886: 180, 6732: 28}),  # SIGSEGV with HDF5 2.0
        (write_hdf5, {3256: 0, 6201: 74}),  # without end
    ],
)
def test_damaged_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], changed: dict[int, int]
) -> None:
    """The process goes on. Another version of the library may read them."""
    monkeypatch.setattr(trial, "_SECONDS", 2)
    path = tmp_path / "file.mat"
    write(path)
    content = bytearray(path.read_bytes())
    for place, value in changed.items():
        content[place] = value
    path.write_bytes(content)
    try:
        load_images(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and str(error).endswith("; get this file again")
