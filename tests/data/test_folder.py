from __future__ import annotations

from pathlib import Path

import pytest

from sharpzo.data.dataset import Skipped
from sharpzo.data.folder import read_folder
from sharpzo.errors import InputError

from .trees import photo, tree


def test_one_subfolder_a_class(tmp_path: Path):
    out = read_folder(tree(tmp_path, tabby_cat=2, Dog=1, ant=3))
    assert out.class_names == ("Dog", "ant", "tabby cat")
    assert out.train.labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert out.train.counts().tolist() == [1, 3, 2]
    assert [p.path.name for p in out.train.photos if p.path] == [
        "0.png", "0.png", "1.png", "2.png", "0.png", "1.png"
    ]  # fmt: skip
    assert (out.val, out.test, out.skipped, out.notes) == (None, None, (), ())
    assert next(out.train.decoded()).shape == (6, 8, 3)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_splits(tmp_path: Path, val: str):
    tree(tmp_path, train__a=3, train__b=2, test__b=1)
    tree(tmp_path / val, a=1, b=1)
    out = read_folder(str(tmp_path))
    assert out.val is not None
    assert out.test is not None
    assert (len(out.train), len(out.val), len(out.test)) == (5, 2, 1)
    assert out.test.labels.tolist() == [1]
    assert out.test.class_names == out.class_names == ("a", "b")


def test_only_train(tmp_path: Path):
    out = read_folder(tree(tmp_path, train__a=1, train__b=1))
    assert (len(out.train), out.val, out.test) == (2, None, None)


def test_a_train_is_also_a_vehicle(tmp_path: Path):
    assert read_folder(tree(tmp_path, train=2, bus=1)).class_names == ("bus", "train")


def test_other_files_are_left_out_and_named(tmp_path: Path):
    tree(tmp_path, cat=1, dog=1)
    tree(tmp_path / "cat", deeper=1)
    for name in ("notes.txt", ".DS_Store", "cat/.hidden.jpg", "cat/IMG_1.HEIC", "dog/Thumbs.db"):
        (tmp_path / name).touch()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    photo(tmp_path / "dog" / "big.JPEG")
    out = read_folder(tmp_path)
    assert out.class_names == ("cat", "dog")
    assert len(out.train) == 3
    assert {one.path: one.reason for one in out.skipped} == {
        ".DS_Store": "hidden",
        ".cache/": "hidden",
        "__MACOSX/": "the shadow folder of a Mac's zip file",
        "cat/.hidden.jpg": "hidden",
        "cat/IMG_1.HEIC": "not a photo by its name",
        "cat/deeper/": "a folder inside a class",
        "dog/Thumbs.db": "not a photo by its name",
        "notes.txt": "not a photo by its name",
    }
    assert len(out.notes) == 1
    assert "cat/IMG_1.HEIC" in out.notes[0]
    assert ".DS_Store" not in out.notes[0]


def test_folders_beside_the_splits_are_named(tmp_path: Path):
    out = read_folder(tree(tmp_path, train__a=1, train__b=1, extra__c=1))
    assert out.skipped == (Skipped("extra/", "beside the splits"),)


def test_unreadable_photos_are_found_when_decoded(tmp_path: Path):
    tree(tmp_path, a=1, b=1)
    (tmp_path / "a" / "0.png").write_bytes(b"broken")
    out = read_folder(tmp_path)
    with pytest.raises(InputError, match=r"a/0\.png is not a readable"):
        list(out.train.decoded())


def test_missing(tmp_path: Path):
    with pytest.raises(InputError, match="nowhere does not exist; check the path"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"a\.png does not exist"):
        read_folder(photo(tmp_path / "a.png"))


def test_empty(tmp_path: Path):
    with pytest.raises(InputError, match=r"has no photos; put the photos into one subfolder"):
        read_folder(tmp_path)


def test_photos_without_class_folders(tmp_path: Path):
    photo(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"holds photos but no class folders; put.*cat"):
        read_folder(tmp_path)
    (tmp_path / "data" / "train").mkdir(parents=True)
    photo(tmp_path / "data" / "train" / "a.png")
    with pytest.raises(InputError, match=r"train has no class folders; put"):
        read_folder(tmp_path / "data")


def test_one_class(tmp_path: Path):
    with pytest.raises(InputError, match="only one class, 'cat'; add a second"):
        read_folder(tree(tmp_path, cat=3))


def test_class_without_photos(tmp_path: Path):
    tree(tmp_path, ant=0, big_cat=0, dog=1)
    photo(tmp_path / "ant" / "a.png")
    (tmp_path / "big_cat" / "IMG_1.HEIC").touch()
    with pytest.raises(InputError, match=r"'big cat' .*has no photos \(only big_cat/IMG_1.HEIC\)"):
        read_folder(tmp_path)


def test_one_level_too_high(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"'mine' .*has no photos \(only mine/test/, mine/train/\)"
    ):
        read_folder(tree(tmp_path, mine__train__a=1, mine__test__a=1))


@pytest.mark.parametrize("split", ["val", "test"])
def test_classes_that_train_lacks(tmp_path: Path, split: str):
    tree(tmp_path, train__a=1, train__b=1)
    tree(tmp_path / split, c=1)
    with pytest.raises(InputError, match=rf"{split} has class 'c', which .*train lacks; add"):
        read_folder(tmp_path)


def test_names_that_collide(tmp_path: Path):
    with pytest.raises(InputError, match="two folders for class 'big cat'; merge"):
        read_folder(tree(tmp_path, big_cat=1, **{"big cat": 1}))


def test_two_validation_folders(tmp_path: Path):
    with pytest.raises(InputError, match="val/ and valid/, both for val"):
        read_folder(tree(tmp_path, train__a=1, val__a=1, valid__a=1))
