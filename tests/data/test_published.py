"""Published sets by name: where their files are looked for, and what is said where they cannot be had."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import io

from infogan_fast.config import Config
from infogan_fast.data import Split, load_images, published
from infogan_fast.data.idx import CACHE_VARIABLE
from infogan_fast.data.registry import SOURCES
from infogan_fast.errors import MissingSplitError, UserError

PIXELS = np.zeros((32, 32, 3, 6), np.uint8)
PIXELS[..., 1] = 200


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, data in published.PUBLISHED.items():
        monkeypatch.setitem(published.PUBLISHED, name, replace(data, mirrors=("http://127.0.0.1:9/",)))


@pytest.mark.parametrize("name", published.PUBLISHED)
def test_what_cannot_be_downloaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    data = published.PUBLISHED[name]
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        if split not in data.files:
            with pytest.raises(MissingSplitError, match=f"{data.title} is published without a test split"):
                load_images(name, split="test")
            continue
        with pytest.raises(UserError) as caught:
            load_images(name, split=split)
        message = str(caught.value)
        for part in (data.title, "http://127.0.0.1:9/ (ConnectionError)", data.files[split][0], "--data-dir"):
            assert part in message
        assert str(tmp_path / name) in message


@pytest.mark.parametrize("good", [True, False])
def test_a_download_is_checked(good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, path = "train_32x32.mat", tmp_path / "origin" / "train_32x32.mat"
    path.parent.mkdir()
    io.savemat(path, {"X": PIXELS})
    digest = hashlib.md5(path.read_bytes() + (b"" if good else b"x")).hexdigest()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(path.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        mirrors = ("http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/")
        known = replace(published.PUBLISHED["svhn"], files={"train": (name, digest)}, mirrors=mirrors)
        monkeypatch.setitem(published.PUBLISHED, "svhn", known)
        if good:
            assert len(load_images("svhn", data_dir=tmp_path).images) == 6
        else:
            with pytest.raises(UserError, match="wrong checksum"):
                load_images("svhn", data_dir=tmp_path)
        server.shutdown()
    assert (tmp_path / "svhn" / name).exists() == good


def test_files_are_found_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    (tmp_path / "svhn").mkdir()
    io.savemat(tmp_path / "svhn" / "train_32x32.mat", {"X": PIXELS})
    found = load_images("svhn")
    assert found.images.shape == (6, 3, 32, 32) and found.labels is None
    assert found.source == f"svhn: 6 images from {tmp_path / 'svhn'}"


def test_an_archive_that_is_another_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"not found")
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz: not the archive that is published"):
        load_images("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("name", published.PUBLISHED)
def test_the_table(name: str) -> None:
    assert SOURCES[name].module == "published" and SOURCES[name].transformation is None
    for _, digest in published.PUBLISHED[name].files.values():
        assert len(bytes.fromhex(digest)) == hashlib.md5().digest_size
    assert Config(data=name).checked().get("consistency") == 0  # no copies by default
