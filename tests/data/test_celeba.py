"""CelebA in miniature, in the layout of its files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infogan_fast.analysis.run import load_run
from infogan_fast.data import load_images
from infogan_fast.errors import MissingSplitError, RunWarning, UserError
from infogan_fast.train import main as train_main

ATTRIBUTES = ("5_o_Clock_Shadow", "Smiling", "Young")


@pytest.fixture(params=["folder", "zip"])
def celeba(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Twelve pictures, of which 1 to 6 are of the train split, 7 to 9 of validation, 10 to 12 of test. The
    number of a picture is its brightness over 20, and its three bits of least weight its attributes."""
    faces = tmp_path / "img_align_celeba"
    faces.mkdir()
    attributes, partition = ["12", " ".join(ATTRIBUTES)], []
    for i in range(1, 13):
        pixels = np.full((218, 178, 3), 20 * i, np.uint8)
        Image.fromarray(pixels).save(faces / f"{i:06}.jpg", quality=95)
        bits = "  ".join("1" if i >> bit & 1 else "-1" for bit in range(3))
        attributes.append(f"{i:06}.jpg {bits}")
        partition.append(f"{i:06}.jpg {0 if i < 7 else 1 if i < 10 else 2}")
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "w") as archive:
            for face in sorted(faces.iterdir()):
                archive.write(face, f"img_align_celeba/{face.name}")
                face.unlink()
        faces.rmdir()
    return tmp_path


def test_splits_and_attributes(celeba: Path) -> None:
    found = load_images("celeba", data_dir=celeba, image_size=32)
    assert found.images.shape == (6, 3, 32, 32)
    assert found.images[:, 0, 16, 16].tolist() == pytest.approx([20 * i for i in range(1, 7)], abs=3)
    assert found.labels is not None and found.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert (found.label, found.label_names) == (ATTRIBUTES[0], (f"not {ATTRIBUTES[0]}", ATTRIBUTES[0]))
    assert "left out 3 of the validation split" in found.report[0]
    assert found.source.startswith("celeba: 6 train images from ")
    test = load_images("celeba", data_dir=celeba, image_size=32, split="test", label="Smiling")
    assert test.images[:, 0, 16, 16].tolist() == pytest.approx([200, 220, 240], abs=3)
    assert test.labels is not None and test.labels.tolist() == [1, 1, 0]
    assert test.label_names == ("not Smiling", "Smiling")
    some = load_images("celeba", data_dir=celeba, image_size=32, count=2, label="Young")
    assert some.labels is not None and some.labels.tolist() == [0, 1]


def test_its_folder_may_be_called_celeba(celeba: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = celeba / "cache" / "celeba"
    inside.mkdir(parents=True)
    for path in list(celeba.iterdir()):
        if path.name != "cache":
            path.rename(inside / path.name)
    assert len(load_images("celeba", data_dir=celeba / "cache", image_size=16).images) == 6
    monkeypatch.setenv("INFOGAN_FAST_CACHE", str(celeba / "cache"))
    assert len(load_images("celeba", image_size=16).images) == 6


def test_pictures_without_tables(celeba: Path) -> None:
    (celeba / "list_eval_partition.txt").unlink()
    found = load_images("celeba", data_dir=celeba, image_size=16)
    assert len(found.images) == 12 and "all 12 pictures are of the train split" in found.report[0]
    with pytest.raises(MissingSplitError, match=r"list_eval_partition.txt: is not there, which tells the"):
        load_images("celeba", data_dir=celeba, image_size=16, split="test")
    (celeba / "list_attr_celeba.txt").unlink()
    with pytest.warns(RunWarning, match=r"there is no .*list_attr_celeba.txt"):
        assert load_images("celeba", data_dir=celeba, image_size=16).labels is None
    with pytest.raises(UserError, match=r"list_attr_celeba.txt: is not there, which holds Young"):
        load_images("celeba", data_dir=celeba, image_size=16, label="Young")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("list_eval_partition.txt", "000002.jpg 0", "000002.jpg", "cannot read line 2"),
        ("list_eval_partition.txt", "000002.jpg 0", "000002.jpg 3", "cannot read line 2"),
        ("list_eval_partition.txt", "000002.jpg 0", "", "does not name 000002.jpg"),
        ("list_attr_celeba.txt", "000003.jpg 1  1", "000003.jpg 1", "cannot read line 5"),
        ("list_attr_celeba.txt", "000003.jpg 1", "000003.jpg 0", "cannot read line 5"),
        ("list_attr_celeba.txt", "000003.jpg 1  1  -1", "", "does not name 000003.jpg"),
        ("list_attr_celeba.txt", " ".join(ATTRIBUTES), "", "names no attributes|cannot read line"),
    ],
)
def test_damaged_tables(celeba: Path, file: str, old: str, new: str, message: str) -> None:
    text = (celeba / file).read_text()
    assert old in text
    (celeba / file).write_text(text.replace(old, new))
    with pytest.raises(UserError, match=f"{file}: ({message})"):
        load_images("celeba", data_dir=celeba, image_size=16)


def test_what_is_not_there_is_named(celeba: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"get img_align_celeba.zip, list_attr.*, and put them into .*celeba"):
        load_images("celeba", data_dir=tmp_path / "elsewhere")
    with pytest.raises(UserError, match="has no label 'Bald'; choose one of 5_o_Clock_Shadow, Smiling"):
        load_images("celeba", data_dir=celeba, image_size=16, label="Bald")
    with pytest.raises(UserError, match="178 x 218, not square; choose a size with --image-size"):
        load_images("celeba", data_dir=celeba)


def test_the_preset_trains_on_it(celeba: Path) -> None:
    flags = ["--preset", "celeba", "--data-dir", str(celeba), "--batch-size", "4", "--steps", "1"]
    assert train_main([*flags, "--out", str(celeba / "run")]) == 0
    run = load_run(celeba / "run", device="cpu")
    assert (run.image_size, run.channels, run.train_images) == (32, 3, 6)
