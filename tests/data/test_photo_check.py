from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sharpzo.data.dataset import Dataset, LabelledPhotos, Skipped
from sharpzo.data.folder import read_folder
from sharpzo.data.photo import Photo
from sharpzo.data.photo_check import check, duplicates, without
from sharpzo.errors import InputError

from .trees import photo, tree


def noisy(path: Path, seed: int) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten different photos, six of them for training."""
    places = [f"train/{name}/{i}.png" for name in ("cat", "dog") for i in range(3)]
    places += [f"{split}/{name}/0.png" for split in ("val", "test") for name in ("cat", "dog")]
    for seed, place in enumerate(places):
        noisy(tmp_path / place, seed)
    return tmp_path


def splits(dataset: Dataset) -> dict[str, LabelledPhotos]:
    there = {"training": dataset.train, "validation": dataset.val, "test": dataset.test}
    return {name: split for name, split in there.items() if split}


@pytest.mark.parametrize("threads", [1, 3])
def test_bad_photos_of_all_splits_are_found(photos: Path, threads: int):
    bad = [photos / place for place in ("train/cat/1.png", "val/dog/0.png", "test/cat/0.png")]
    bad[0].write_bytes(b"text")
    bad[1].write_bytes(bad[1].read_bytes()[:-40])
    bad[2].write_bytes(b"")
    received: list[tuple[int, int]] = []
    found = check(
        splits(read_folder(photos)),
        threads=threads,
        progress=lambda done, total: received.append((done, total)),
    )
    assert [error.photo for error in found.errors] == [str(path) for path in bad]
    assert len(found.digests) == 7
    assert received[-1] == (10, 10)


def test_photos_that_are_known_are_not_decoded(photos: Path, monkeypatch):
    dataset = read_folder(photos)
    digests = [photo.digest() for photo in dataset.train.photos]
    decoded: list[str] = []
    monkeypatch.setattr(Photo, "check", lambda photo: decoded.append(photo.name))
    found = check(splits(dataset), known=lambda many: {*digests[1:]} & {*many})
    assert not found.errors
    assert len(decoded) == 5
    assert dataset.train.photos[0].name in decoded


def test_what_is_left_without_the_bad_photos(photos: Path):
    (photos / "train/cat/1.png").write_bytes(b"text")
    (photos / "val/dog/0.png").unlink()
    (photos / "val/cat/0.png").write_bytes(b"text")
    dataset = read_folder(photos)
    errors = check(splits(dataset)).errors
    left = without(dataset, errors)
    assert left.train.counts().tolist() == [2, 3]
    assert left.val is None
    assert left.test is not None
    assert len(left.test) == 2
    assert [one.path for one in left.skipped] == [error.photo for error in errors]
    assert all("is not a readable" in one.reason for one in left.skipped)
    assert "2 of 9 photos cannot be used and were left out" in left.notes[-1]
    assert without(dataset, ()) is dataset
    assert left.remarks()["skipped"][0]["path"] == str(photos / "train/cat/1.png")


def test_a_class_that_loses_all_of_its_photos(photos: Path):
    for file in (photos / "train/cat/1.png", *(photos / "train" / "dog").iterdir()):
        file.write_bytes(b"text")
    dataset = read_folder(photos)
    with pytest.raises(InputError, match=r"class 'dog' can be used, .*train/dog/0\.png is"):
        without(dataset, check(splits(dataset)).errors)


def test_the_same_photo_twice(photos: Path):
    def notes() -> tuple[str, ...]:
        dataset = read_folder(photos)
        return duplicates(splits(dataset), check(splits(dataset)).digests)

    assert notes() == ()
    (photos / "train/dog/copy.png").write_bytes((photos / "train/cat/1.png").read_bytes())
    (said,) = notes()
    assert said.startswith("the same photo has two classes")
    assert f"{photos / 'train/cat/1.png'} (cat) and {photos / 'train/dog/copy.png'} (dog)" in said
    (photos / "train/dog/copy.png").unlink()
    (photos / "test/dog/again.png").write_bytes((photos / "train/dog/2.png").read_bytes())
    (said,) = notes()
    assert "1 of 3 test photos are training photos as well" in said
    assert str(photos / "test/dog/again.png") in said
    (photos / "train/dog/twice.png").write_bytes((photos / "train/dog/1.png").read_bytes())
    assert len(notes()) == 1  # one class, one split: it only counts twice


def test_records_stay_small(tmp_path: Path):
    dataset = read_folder(tree(tmp_path, a=1, b=1))
    many = tuple(Skipped(f"{i}.txt", "not a photo by its name") for i in range(5000))
    assert len(replace(dataset, skipped=many).remarks()["skipped"]) == 1000


def test_photos_in_memory_are_good():
    pixels = np.zeros((4, 4, 3), np.uint8)
    split = LabelledPhotos((Photo("a", pixels=pixels),), np.array([0]), ("cat",))
    assert check({"training": split}).errors == ()


def test_errors_name_the_photo_not_its_file(tmp_path: Path):
    file = photo(tmp_path / "unpacked.png")
    file.write_bytes(b"")
    split = LabelledPhotos((Photo("some.zip/a.png", path=file),), np.array([0]), ("cat",))
    (error,) = check({"training": split}).errors
    assert str(error) == "photo some.zip/a.png is empty; copy it again, or remove it"
