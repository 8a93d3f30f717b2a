"""IDX files whole and damaged, the published sets' folders, and the download from mirrors that fail."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infogan_fast.data import idx, load_images
from infogan_fast.errors import UserError

REAL = os.environ.get("INFOGAN_FAST_MNIST")
real_mnist = pytest.mark.skipif(
    not REAL,
    reason="INFOGAN_FAST_MNIST is unset: name the folder that holds MNIST's four IDX files to run this",
)
tmp_is_shared = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def encode(array: NDArray[Any], kind: int = 0x08) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


def images(n: int, size: int = 16, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size), np.uint8)


def write_set(
    folder: Path, train: int = 12, test: int = 5, zipped: bool = True, seed: int = 0
) -> dict[str, bytes]:
    """A small data set under MNIST's names; returns the files' bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for stem, n in (("train", train), ("t10k", test)):
        files[f"{stem}-images-idx3-ubyte"] = encode(images(n, seed=seed))
        files[f"{stem}-labels-idx1-ubyte"] = encode(np.arange(n, dtype=np.uint8) % 10)
    if zipped:
        files = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in files.items()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return files


def rejects(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        idx.read_idx(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@tmp_is_shared
@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=4).flatmap(
        lambda shape: st.binary(min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
            lambda data: np.frombuffer(data, np.uint8).reshape(shape)
        )
    ),
    st.booleans(),
)
def test_round_trip(tmp_path: Path, array: NDArray[np.uint8], zipped: bool) -> None:
    path = tmp_path / "any-name"
    path.write_bytes(gzip.compress(encode(array)) if zipped else encode(array))
    found, owner = idx.read_idx(path)
    assert np.array_equal(found, array) and found.shape == array.shape and owner is None


@pytest.mark.parametrize("zipped", [False, True])
def test_cut_short_at_every_byte(tmp_path: Path, zipped: bool) -> None:
    whole = gzip.compress(encode(images(2, 3))) if zipped else encode(images(2, 3))
    for length in range(len(whole)):
        rejects(tmp_path / "short", whole[:length])


@tmp_is_shared
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_gzip_is_noticed(tmp_path: Path, position: int, flip: int) -> None:
    array = images(3, 5)
    data = bytearray(gzip.compress(encode(array), mtime=0))
    data[position % len(data)] ^= flip
    path = tmp_path / "damaged.gz"
    path.write_bytes(data)
    try:
        found, _ = idx.read_idx(path)
    except UserError as error:
        assert str(path) in str(error)
    else:  # the byte holds the time or the system of packing
        assert np.array_equal(found, array)


@tmp_is_shared
@given(st.binary(max_size=40))
def test_noise_is_never_more_than_a_user_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(data)
    try:
        found, _ = idx.read_idx(path)
    except UserError:
        return
    assert encode(found) == data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes, too short"),
        (b"PK\x03\x04" + bytes(40), "not an IDX file .*50 4b 03 04"),
        (b"\0\0\x08\0", "not an IDX file"),
        (b"\0\0\x0a\x01" + bytes(9), "not an IDX file"),
        (encode(np.zeros((2, 3), ">f4"), 0x0D), "holds float32 values, expected uint8"),
        (encode(np.zeros((1,) * 5, np.uint8)), "has 5 dimensions"),
        (encode(images(1, 3)) + b"x", "it holds more"),
        (encode(images(2, 3))[:-1], r"announces 18 bytes of data \(2 x 3 x 3\), it holds only 17"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3) + b"x", "GiB are free"),
        (gzip.compress(encode(images(2, 3)), mtime=0)[:-4] + b"abcd", "damaged or incomplete gzip"),
    ],
)
def test_wrong_files(tmp_path: Path, data: bytes, says: str) -> None:
    message = rejects(tmp_path / "file", data)
    assert re.search(says, message), message


def test_a_gzip_that_never_ends_is_not_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(encode(images(1, 3)) + bytes(1 << 26))
    assert "holds more" in rejects(tmp_path / "bomb.gz", bomb)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("where", [".", "mnist", "MNIST/raw"])
def test_data_dir_layouts(tmp_path: Path, zipped: bool, where: str) -> None:
    write_set(tmp_path / where, zipped=zipped)
    train = load_images("mnist", data_dir=tmp_path)
    test = load_images("mnist", data_dir=tmp_path, split="test")
    assert train.images.shape == (12, 1, 16, 16) and train.images.dtype == torch.uint8
    assert np.array_equal(train.images[:, 0], images(12))
    assert train.labels is not None and train.labels.dtype == torch.int64
    assert train.labels.tolist() == [i % 10 for i in range(12)]
    assert len(test.images) == 5 and train.name == "mnist" and train.factors == {}
    assert "12 images" in train.source and "checksums are not the published ones" in train.source


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(idx.CACHE_VARIABLE, str(tmp_path))
    write_set(tmp_path / "fashion-mnist", train=3)
    assert len(load_images("fashion-mnist").images) == 3
    monkeypatch.delenv(idx.CACHE_VARIABLE)
    assert idx.cache_folder().is_absolute() and "infogan_fast" in str(idx.cache_folder())


def test_folder_of_idx_files(tmp_path: Path) -> None:
    write_set(tmp_path / "letters", train=20)
    (tmp_path / "letters" / "train-labels-idx1-ubyte.gz").unlink()
    found = load_images(str(tmp_path / "letters"), count=5, image_size=20, channels=3)
    assert found.images.shape == (5, 3, 20, 20) and found.labels is None and found.name == "letters"


@pytest.mark.parametrize("where", ["raw", "MNIST/raw", "Letters/raw"])
def test_a_folder_as_torchvision_lays_it_out(tmp_path: Path, where: str) -> None:
    write_set(tmp_path / where, train=20)
    found = load_images(str(tmp_path))
    assert np.array_equal(found.images[:, 0], images(20)) and str(tmp_path / where) in found.source
    assert len(load_images(str(tmp_path), split="test").images) == 5


def test_several_data_sets_in_a_folder_are_named(tmp_path: Path) -> None:
    for name in ("KMNIST", "MNIST"):
        write_set(tmp_path / name / "raw")
    with pytest.raises(UserError, match=r"holds several data sets \(\S+KMNIST/raw, \S+MNIST/raw\); name one"):
        load_images(str(tmp_path))


def test_images_of_emnist_are_turned_upright(tmp_path: Path) -> None:
    """Its files hold each image transposed (Cohen et al. 2017, arXiv 1702.05373)."""
    (tmp_path / "emnist-letters-train-images-idx3-ubyte").write_bytes(encode(images(7).swapaxes(1, 2)))
    (tmp_path / "emnist-letters-train-labels-idx1-ubyte").write_bytes(encode(np.arange(7, dtype=np.uint8)))
    found = load_images(str(tmp_path))
    assert np.array_equal(found.images[:, 0], images(7))
    assert found.labels is not None and found.labels.tolist() == list(range(7))


@pytest.mark.parametrize("name", ["train-images.idx3-ubyte", "qmnist-train-images-idx3-ubyte.gz"])
def test_other_names_of_idx_files(name: str, tmp_path: Path) -> None:
    content = encode(images(7))
    (tmp_path / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    assert np.array_equal(load_images(str(tmp_path)).images[:, 0], images(7))


def test_count_is_spread_over_the_set(tmp_path: Path) -> None:
    write_set(tmp_path / "mnist", train=12)
    found = load_images("mnist", data_dir=tmp_path, count=4)
    assert np.array_equal(found.images[:, 0], images(12)[[0, 3, 6, 9]])
    assert found.labels is not None and found.labels.tolist() == [0, 3, 6, 9]
    with pytest.raises(UserError, match="has 12 images, --images asks for 13"):
        load_images("mnist", data_dir=tmp_path, count=13)


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("train-labels-idx1-ubyte", np.zeros(11, np.uint8), "holds 11 labels for the 12 images"),
        ("train-labels-idx1-ubyte", np.zeros((12, 2), np.uint8), "holds 12 x 2 labels"),
        ("train-images-idx3-ubyte", np.zeros(12, np.uint8), "has 1 dimensions, expected 3"),
        ("train-images-idx3-ubyte", np.zeros((0, 16, 16), np.uint8), "holds no images"),
        ("train-images-idx3-ubyte", np.zeros((12, 16, 18), np.uint8), "18 x 16, not square.*--image-size"),
        ("train-images-idx3-ubyte", np.zeros((12, 8, 8), np.uint8), "8 x 8, expected at least 16 x 16"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, name: str, array: NDArray[np.uint8], says: str) -> None:
    write_set(tmp_path, zipped=False)
    (tmp_path / name).write_bytes(encode(array))
    with pytest.raises(UserError, match=says):
        load_images("mnist", data_dir=tmp_path)


def test_ambiguous_and_missing_splits(tmp_path: Path) -> None:
    write_set(tmp_path, zipped=True)
    write_set(tmp_path, zipped=False)
    assert len(load_images(str(tmp_path)).images) == 12  # a file and its own .gz are one
    (tmp_path / "emnist-letters-train-images-idx3-ubyte").write_bytes(encode(images(2)))
    with pytest.raises(UserError, match="several files hold the train images"):
        load_images(str(tmp_path))
    for path in tmp_path.glob("t10k-images*"):
        path.unlink()
    with pytest.raises(UserError, match="no test images; expected t10k-images-idx3-ubyte"):
        load_images(str(tmp_path), split="test")


def test_another_published_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path)
    for stem in ("images-idx3", "labels-idx1"):
        assert (
            "checksums are not" in load_images("mnist", data_dir=tmp_path).source
        )  # not while one file is unknown
        content = gzip.decompress((tmp_path / f"train-{stem}-ubyte.gz").read_bytes())
        monkeypatch.setitem(idx._OWNER, hashlib.sha256(content).hexdigest(), "mnist")
    with pytest.raises(UserError, match="holds MNIST, not Fashion-MNIST; pass --data mnist"):
        load_images("fashion-mnist", data_dir=tmp_path)
    assert "checksums" not in load_images("mnist", data_dir=tmp_path).source


def test_qmnist_labels_of_32_bits(tmp_path: Path) -> None:
    labels = np.arange(7 * 8, dtype=np.int32).reshape(7, 8) % 10
    for stem, n in (("train", 7), ("test", 4)):
        (tmp_path / f"qmnist-{stem}-images-idx3-ubyte").write_bytes(encode(images(n)))
        content = gzip.compress(encode(labels[:n].astype(">i4"), 0x0C))
        (tmp_path / f"qmnist-{stem}-labels-idx2-int.gz").write_bytes(content)
    train, test = load_images(str(tmp_path)), load_images(str(tmp_path), split="test")
    assert train.labels is not None and train.labels.tolist() == [0, 8, 6, 4, 2, 0, 8]
    assert test.labels is not None and test.labels.tolist() == [0, 8, 6, 4]
    (tmp_path / "qmnist-train-images-idx3-ubyte").write_bytes(encode(images(7).astype(">i4"), 0x0C))
    with pytest.raises(UserError, match="holds int32 values, expected uint8"):
        load_images(str(tmp_path))


class Mirrors:
    """A local server: /good/ serves files, /bad/ other bytes, /cut/ hangs up half way, the rest 404."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.requests: list[str] = []
        mirrors = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirrors.requests.append(self.path)
                kind, name = self.path.strip("/").split("/")
                if kind not in ("good", "bad", "cut"):
                    return self.send_error(404)
                data = files[name] if kind != "bad" else b"x" * 100
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data if kind != "cut" else data[: len(data) // 2])

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{kind}/"


@pytest.fixture
def mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    files = write_set(tmp_path / "origin")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    monkeypatch.setitem(idx.PUBLISHED, "mnist", replace(idx.PUBLISHED["mnist"], sha256=sha256))
    server = Mirrors(files)
    yield server
    server.server.shutdown()
    server.server.server_close()


def use(monkeypatch: pytest.MonkeyPatch, *urls: str) -> None:
    monkeypatch.setitem(idx.PUBLISHED, "mnist", replace(idx.PUBLISHED["mnist"], mirrors=urls))


def test_download_passes_over_mirrors_that_fail(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, *(mirrors.url(kind) for kind in ("gone", "bad", "cut", "good")))
    monkeypatch.setenv(idx.CACHE_VARIABLE, str(tmp_path / "cache"))
    found = load_images("mnist")
    assert np.array_equal(found.images[:, 0], images(12))
    assert "mnist: train-images-idx3-ubyte.gz" in capfd.readouterr().err  # the bar
    folder = tmp_path / "cache" / "mnist"
    names = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]
    assert sorted(p.name for p in folder.iterdir()) == names  # nothing half-done is left
    before = len(mirrors.requests)
    load_images("mnist")
    assert len(mirrors.requests) == before == 8
    load_images("mnist", split="test")
    assert len(list(folder.iterdir())) == 4


def test_download_goes_to_data_dir(tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, mirrors.url("good"))
    assert len(load_images("mnist", data_dir=tmp_path / "new").images) == 12
    assert (tmp_path / "new" / "mnist" / "train-images-idx3-ubyte.gz").is_file()


def test_nothing_to_be_had_names_files_folder_and_the_way_out(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, mirrors.url("gone"), mirrors.url("bad"), mirrors.url("cut"), "http://127.0.0.1:9/")
    with pytest.raises(UserError) as caught:
        load_images("mnist", data_dir=tmp_path / "data")
    message = str(caught.value)
    folder = tmp_path / "data" / "mnist"
    for part in (
        "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz",
        str(folder),
        "--data strokes",
        "--data-dir",
    ):
        assert part in message
    for reason in ("HTTP status 404", "wrong checksum", "ConnectionError"):
        assert reason in message
    assert not any(folder.iterdir())


def test_a_damaged_file_at_hand_is_named_not_replaced(tmp_path: Path, mirrors: Mirrors) -> None:
    files = write_set(tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(files[path.name][:50])
    with pytest.raises(UserError, match=f"{path}: damaged or incomplete"):
        load_images("mnist", data_dir=tmp_path)
    assert mirrors.requests == [] and path.stat().st_size == 50


@pytest.mark.parametrize("name", sorted(idx.PUBLISHED))
def test_published_tables_are_complete(name: str) -> None:
    data = idx.PUBLISHED[name]
    files = {f"{s}-{k}-ubyte.gz" for s in ("train", "t10k") for k in ("images-idx3", "labels-idx1")}
    assert set(data.sha256) == files and set(data.content_sha256) in (files, set())
    assert len(data.mirrors) >= 2 and all(url.endswith("/") for url in data.mirrors)
    digests = [*data.sha256.values(), *data.content_sha256.values()]
    assert len(set(digests)) == len(digests) and all(len(bytes.fromhex(d)) == 32 for d in digests)


@real_mnist
@pytest.mark.parametrize(
    ("split", "counts", "first"),
    [
        ("train", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], [5, 0, 4, 1, 9]),
        ("test", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], [7, 2, 1, 0, 4]),
    ],
)
def test_real_mnist(split: Any, counts: list[int], first: list[int]) -> None:
    assert REAL is not None
    found = load_images("mnist", data_dir=Path(REAL), split=split)
    assert found.labels is not None
    assert found.images.shape == (sum(counts), 1, 28, 28) and found.labels.bincount().tolist() == counts
    assert found.labels[:5].tolist() == first
    assert "checksums" not in found.source  # each file's digest is in the published table
    mean = found.images.double().mean().item() / 255
    assert mean == pytest.approx({"train": 0.1306605, "test": 0.1325145}[split], abs=1e-6)
