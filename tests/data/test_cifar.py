"""CIFAR-10 and CIFAR-100 in the forms that they are published in, and pickles that are none of theirs."""

from __future__ import annotations

import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infogan_fast.data import load_images
from infogan_fast.errors import UserError

Bytes = NDArray[np.uint8]
COUNT = 4  # images a file
FINE, COARSE = [3, 99, 0, 41], [1, 19, 0, 7]


def pixels(seed: int) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (COUNT, 3072), np.uint8)


def text(value: bytes) -> bytes:
    """A string as Python 2 pickles it."""
    return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value


def strings(values: list[bytes]) -> bytes:
    return b"](" + b"".join(map(text, values)) + b"e"


def numbers(values: list[int]) -> bytes:
    return b"](" + b"".join(b"K" + bytes([v]) for v in values) + b"e"


def array(values: Bytes) -> bytes:
    """An array as Python 2 with NumPy 1 pickled it, protocol 2."""
    dtype = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\0K\1\x87R(K\3"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    shape = b"".join(b"M" + struct.pack("<H", n) for n in values.shape)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85"
        + text(b"b") + b"\x87R(K\1" + shape + b"\x86" + dtype + b"\x89" + text(values.tobytes()) + b"tb"
    )  # fmt: skip


def pickled(items: dict[bytes, bytes]) -> bytes:
    return b"\x80\x02}q\x01(" + b"".join(text(key) + value for key, value in items.items()) + b"u."


def ten(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        labels = numbers([(i + j) % 10 for j in range(COUNT)])
        names = strings([b"a.png"] * COUNT)
        batch = {
            b"batch_label": text(b"one"),
            b"labels": labels,
            b"data": array(pixels(i)),
            b"filenames": names,
        }
        (folder / name).write_bytes(pickled(batch))
    meta = {b"num_cases_per_batch": b"K\4", b"label_names": strings([b"n%d" % i for i in range(10)])}
    (folder / "batches.meta").write_bytes(pickled(meta))
    return folder


def hundred(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(("train", "test")):
        batch = {b"data": array(pixels(i)), b"fine_labels": numbers(FINE), b"coarse_labels": numbers(COARSE)}
        (folder / name).write_bytes(pickled(batch))
    names = {
        b"fine_label_names": [b"f%d" % i for i in range(100)],
        b"coarse_label_names": [b"c%d" % i for i in range(20)],
    }
    (folder / "meta").write_bytes(pickled({key: strings(value) for key, value in names.items()}))
    return folder


def ten_binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        labels = np.array([[(i + j) % 10] for j in range(COUNT)], np.uint8)
        (folder / name).write_bytes(np.hstack([labels, pixels(i)]).tobytes())
    (folder / "batches.meta.txt").write_text("".join(f"n{i}\n" for i in range(10)) + "\n")
    return folder


def hundred_binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(("train.bin", "test.bin")):
        labels = np.array([COARSE, FINE], np.uint8).T
        (folder / name).write_bytes(np.hstack([labels, pixels(i)]).tobytes())
    for kind, count in (("fine", 100), ("coarse", 20)):
        (folder / f"{kind}_label_names.txt").write_text("".join(f"{kind[0]}{i}\n" for i in range(count)))
    return folder


def refused(path: Path, says: str, **options: Any) -> None:
    with pytest.raises(UserError, match=says):
        load_images(path, **options)


@pytest.mark.parametrize(
    ("make", "name"), [(ten, "cifar-10-batches-py"), (ten_binary, "cifar-10-batches-bin")]
)
def test_cifar10(make: Any, name: str, tmp_path: Path) -> None:
    folder = make(tmp_path / name)
    for place in (folder, tmp_path):  # a folder directly above is recognised too
        found = load_images(place)
        expected = np.concatenate([pixels(i) for i in range(5)]).reshape(-1, 3, 32, 32)
        assert np.array_equal(found.images, expected) and found.labels is not None
        assert found.labels.tolist() == [(i + j) % 10 for i in range(5) for j in range(COUNT)]
        assert found.label_names == tuple(f"n{i}" for i in range(10)) and found.label == "label"
        assert found.source.endswith(f"20 images from {folder}")
    assert np.array_equal(load_images(folder, split="test").images.flatten(1), pixels(5))
    assert len(load_images(folder, count=3, image_size=16).images) == 3


@pytest.mark.parametrize(
    ("make", "name"), [(hundred, "cifar-100-python"), (hundred_binary, "cifar-100-binary")]
)
def test_cifar100(make: Any, name: str, tmp_path: Path) -> None:
    folder = make(tmp_path / name)
    fine, coarse = load_images(folder), load_images(folder, label="coarse")
    assert np.array_equal(fine.images.flatten(1), pixels(0)) and fine.labels is not None
    assert fine.labels.tolist() == FINE and fine.label_names[99] == "f99"
    assert fine.source.endswith("labels fine (there are coarse too)")
    assert coarse.labels is not None and coarse.labels.tolist() == COARSE and coarse.label_names[19] == "c19"
    assert np.array_equal(load_images(folder, split="test").images.flatten(1), pixels(1))
    refused(folder, "has no label 'super'; choose one of fine, coarse with --label", label="super")


def test_the_published_archive_and_name(tmp_path: Path) -> None:
    ten(tmp_path / "made" / "cifar-10-batches-py")
    (tmp_path / "cifar10").mkdir()
    path = tmp_path / "cifar10" / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    for found in (load_images(path), load_images("cifar10", data_dir=tmp_path)):
        assert found.images.shape == (20, 3, 32, 32) and found.label_names[9] == "n9"
    assert len(load_images("cifar10", data_dir=tmp_path, split="test").images) == COUNT
    assert len(load_images("cifar10", data_dir=tmp_path / "made").images) == 20  # unpacked
    assert list(tmp_path.glob("cifar10/*")) == [path]  # nothing is unpacked to disk


def test_what_is_missing(tmp_path: Path) -> None:
    folder = ten(tmp_path / "cifar-10-batches-py")
    (folder / "data_batch_3").unlink()
    refused(folder, "holds no data_batch_3; get the whole data set again")
    (folder / "test_batch").unlink()
    refused(folder, "no test images; expected test_batch", split="test")
    ten_binary(tmp_path / "cifar-10-batches-bin")
    refused(tmp_path, "holds several data sets .*; name one of them")
    refused(tmp_path / "cifar-10-batches-bin", "leave out --pixel-range 0..1", pixel_range="0..1")


def test_damaged_batches(tmp_path: Path) -> None:
    folder = hundred(tmp_path / "a")
    whole = (folder / "train").read_bytes()
    for content, says in [
        (whole[:-40], "not a CIFAR file in python form"),
        (b"\x80\x02]q\x01.", "holds no table"),
        (pickled({b"data": array(pixels(0))}), "expected data and fine_labels"),
        (pickled({b"data": array(pixels(0)), b"fine_labels": numbers(FINE[1:])}), "holds data of shape"),
        (pickled({b"data": array(pixels(0)[:, 1:]), b"fine_labels": numbers(FINE)}), "holds data of shape"),
        (pickled({b"data": array(pixels(0)), b"fine_labels": numbers([1, 2, 3, 200])}), "below 100"),
        (whole.replace(b"U\2u1", b"U\2O8"), "the type is not uint8"),
        (whole.replace(b"M\0\x0c", b"M\0\x0d"), "its array cannot be read"),
    ]:
        assert content != whole
        (folder / "train").write_bytes(content)
        refused(folder, says)
    path = hundred_binary(tmp_path / "b") / "train.bin"
    (tmp_path / "b" / "fine_label_names.txt").write_text("only\n")
    refused(path.parent, "labels run from 0 to 99 and 1 have names")
    path = ten_binary(tmp_path / "c") / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    refused(path.parent, r"data_batch_2.bin: has 12,291 bytes, expected a multiple of 3,073")


class Malicious:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("call", [os.mkdir, eval, np.load], ids=["os", "builtins", "numpy"])
def test_a_pickle_executes_nothing(call: Any, protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    folder = hundred(tmp_path / "cifar-100-python")
    argument = f"__import__('os').mkdir({str(mark)!r})" if call is eval else str(mark)
    content = pickle.dumps({b"data": Malicious(call, argument), b"fine_labels": []}, protocol)
    for name in ("train", "meta"):
        (folder / name).write_bytes(content)
        refused(folder, rf"{name}: not a CIFAR file in python form \(names .*, which is never loaded\)")
        hundred(tmp_path / f"again-{name}")
        (folder / name).write_bytes((tmp_path / f"again-{name}" / name).read_bytes())
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02(S'x'\nios\nsystem\n.",  # INST
        b"\x80\x02cnumpy\nndarray\n(M\xff\xffM\xff\xfft\x81.",  # NEWOBJ
        b"\x80\x02cnumpy\nndarray\nM\xff\xff\x85R.",  # a call of what stands for the class
        b"\x80\x02c_codecs\nencode\nX\1\0\0\0aX\4\0\0\0zlib\x86R.",
        b"\x80\x02c_codecs\nencode\n}U\1aU\1bsb.",  # the state of a function
        b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # an array of bytes of a tebibyte
        b"\x80\x02\x82\x01.",  # of the registry of extensions
        b"\x80\x02Q.",  # a persistent object
    ],
)
def test_pickles_of_other_kinds(content: bytes, tmp_path: Path) -> None:
    folder = hundred(tmp_path / "cifar-100-python")
    (folder / "train").write_bytes(content)
    refused(folder, "not a CIFAR file in python form")


def test_numbers_of_references_allocate_nothing(tmp_path: Path) -> None:
    folder = hundred(tmp_path / "cifar-100-python")
    (folder / "train").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    refused(folder, "expected data and fine_labels")
