from __future__ import annotations

import os
import subprocess
import sys
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
    for name in ("notes.txt", ".DS_Store", "cat/.hidden.jpg", "cat/IMG_1.CR3", "dog/Thumbs.db"):
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
        "__MACOSX/": "kept by a program or system",
        "cat/.hidden.jpg": "hidden",
        "cat/IMG_1.CR3": "not a photo by its name",
        "cat/deeper/": "a folder inside a class",
        "dog/Thumbs.db": "not a photo by its name",
        "notes.txt": "not a photo by its name",
    }
    assert len(out.notes) == 1
    assert "cat/IMG_1.CR3" in out.notes[0]
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
    with pytest.raises(InputError, match=r"a\.png is a file; give the folder"):
        read_folder(photo(tmp_path / "a.png"))


def test_empty(tmp_path: Path):
    with pytest.raises(InputError, match=r"has no photos; put the photos into one subfolder"):
        read_folder(tmp_path)


def test_photos_without_class_folders(tmp_path: Path):
    photo(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"holds photos but no class folders; .*put.*cat"):
        read_folder(tmp_path)
    (tmp_path / "data" / "train").mkdir(parents=True)
    photo(tmp_path / "data" / "train" / "a.png")
    with pytest.raises(InputError, match=r"train has no class folders; put"):
        read_folder(tmp_path / "data")


def test_one_class(tmp_path: Path):
    with pytest.raises(
        InputError, match="has only one class for training, 'cat'; add photos of a second"
    ):
        read_folder(tree(tmp_path, cat=3))


def test_class_without_photos(tmp_path: Path):
    tree(tmp_path, ant=0, big_cat=0, dog=1)
    photo(tmp_path / "ant" / "a.png")
    (tmp_path / "big_cat" / "IMG_1.CR3").touch()
    with pytest.raises(InputError, match=r"'big cat' .*has no photos \(only big_cat/IMG_1.CR3\)"):
        read_folder(tmp_path)


def test_one_level_too_high(tmp_path: Path):
    with pytest.raises(InputError, match=rf"deeper than in its own.*; give {tmp_path}/mine$"):
        read_folder(tree(tmp_path, mine__train__a=1, mine__test__a=1))


@pytest.mark.parametrize("split", ["val", "test"])
def test_classes_that_train_lacks(tmp_path: Path, split: str):
    tree(tmp_path, train__a=1, train__b=1)
    tree(tmp_path / split, c=1)
    with pytest.raises(InputError, match=f"has class 'c' in split {split}, which train lacks; add"):
        read_folder(tmp_path)


def test_names_that_collide(tmp_path: Path):
    with pytest.raises(InputError, match="two folders for class 'big cat'; merge"):
        read_folder(tree(tmp_path, big_cat=1, **{"big cat": 1}))


def test_two_validation_folders(tmp_path: Path):
    with pytest.raises(InputError, match="val/ and valid/, both for val"):
        read_folder(tree(tmp_path, train__a=1, val__a=1, valid__a=1))


SERVICE = (
    "@eaDir", "$RECYCLE.BIN", "System Volume Information", ".ipynb_checkpoints", "__MACOSX",
    "__pycache__", "lost+found", "#recycle", ".git", ".Trash-1000",
)  # fmt: skip


@pytest.mark.parametrize("name", SERVICE)
def test_folders_of_systems_and_programs_are_passed_over(tmp_path: Path, name: str):
    tree(tmp_path, cat=2, dog=1)
    for folder in (tmp_path, tmp_path / "cat"):
        photo(folder / name / "thumb.jpg")
    out = read_folder(tmp_path)
    assert out.class_names == ("cat", "dog")
    assert len(out.train) == 3
    assert {f"{name}/", f"cat/{name}/"} == {one.path for one in out.skipped}
    assert f"cat/{name}/" in out.notes[0]
    assert out.notes[0].startswith("2 files or folders were left out")


def test_runs_and_benches_inside_are_passed_over(tmp_path: Path):
    tree(tmp_path, train__a=1, train__b=1)
    for at, files in (
        ("run", ("run.json", "arrays.safetensors", "history.jsonl")),
        ("train/my run", ("history.jsonl",)),
        ("bench", ("bench.json",)),
    ):
        (tmp_path / at / "cells").mkdir(parents=True)
        for file in files:
            (tmp_path / at / file).touch()
    out = read_folder(tmp_path)
    assert len(out.train) == 2
    assert out.notes == (
        "3 files or folders were left out: bench/, run/, train/my run/ (written by sharpzo)",
    )
    with pytest.raises(InputError, match="is one that sharpzo wrote, not one of photos"):
        read_folder(tmp_path / "run")


def test_a_class_with_a_file_of_ours_in_it_is_a_class(tmp_path: Path):
    tree(tmp_path, cat=2, dog=1)
    (tmp_path / "cat" / "run.json").touch()
    (tmp_path / "run.json").touch()
    assert read_folder(tmp_path).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("training", "testing"), ("train", "test")),
        (("Train", "Dev", "Test"), ("train", "val", "test")),
        (("train2017", "val2017"), ("train", "val")),
        (("train_images", "test-images"), ("train", "test")),
        (("Training Set", "validation_set", "holdout"), ("train", "val", "test")),
        (("train", "eval"), ("train", "val")),
        (("train", "eval", "test"), ("train", "val", "test")),
        (("train", "valid", "evaluation"), ("train", "val", "test")),
        (("training", "test"), ("train", "test")),
    ],
    ids=lambda names: "-".join(names),
)
def test_names_of_splits(tmp_path: Path, names: tuple[str, ...], splits: tuple[str, ...]):
    for many, name in enumerate(names, start=1):
        tree(tmp_path / name, a=many, b=many)
    out = read_folder(tmp_path)
    for many, split in enumerate(splits, start=1):
        assert len(getattr(out, split)) == 2 * many
    told = [name for name in names if name.lower() not in ("train", "val", "valid", "test")]
    assert len(out.notes) == len(told)
    assert all(any(f"{name}/ is read as the" in note for note in out.notes) for name in told)


@pytest.mark.parametrize(
    "counts",
    [
        {"train__a": 1, "train__b": 1, "bus": 2},
        {"test__a": 1, "test__b": 1, "bus": 2},
        {"train__a": 1, "train__b": 1, "test__a": 1, "unlabelled": 1},
        {"train": 2, "train__deeper": 1, "bus": 1},
    ],
)
def test_classes_beside_splits_are_ambiguous(tmp_path: Path, counts: dict[str, int]):
    with pytest.raises(InputError, match=r"as a split, and beside it .*as a class: give "):
        read_folder(tree(tmp_path, **counts))


def test_words_like_splits_can_be_classes(tmp_path: Path):
    tree(tmp_path, train=1, test=1, valid=1, bus=1)
    assert read_folder(tmp_path).class_names == ("bus", "test", "train", "valid")
    tree(tmp_path / "other", trainers=1, tester=1)
    assert read_folder(tmp_path / "other").class_names == ("tester", "trainers")


def test_a_third_validation_split_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="eval/ beside a validation and a test split"):
        read_folder(tree(tmp_path, train__a=1, val__a=1, test__a=1, eval__a=1))


def test_without_train_a_folder_is_for_testing_only(tmp_path: Path):
    out = read_folder(tree(tmp_path, test__a=2, test__b=1))
    assert out.test is not None
    assert (len(out.train), len(out.test), out.class_names) == (0, 3, ("a", "b"))
    with pytest.raises(InputError, match="has no training photos"):
        out.training()


def test_one_or_two_levels_too_high(tmp_path: Path):
    tree(tmp_path / "x y" / "photos", a=1, b=1)
    with pytest.raises(InputError, match=rf"; give '{tmp_path}/x y/photos'$"):
        read_folder(tmp_path)
    tree(tmp_path / "x y" / "more", c=1, d=1)
    with pytest.raises(InputError, match=r"give one of them: '.*more', '.*photos'$"):
        read_folder(tmp_path)


def test_one_level_too_low(tmp_path: Path):
    tree(tmp_path / "set", cat=1, dog=1)
    with pytest.raises(InputError, match=rf"if they are one class of several, give {tmp_path}/set"):
        read_folder(tmp_path / "set" / "cat")
    tree(tmp_path / "split", train__cat=1, train__dog=1, test__cat=1)
    with pytest.raises(InputError, match=rf"give {tmp_path}/split;"):
        read_folder(tmp_path / "split" / "train" / "cat")


def test_photos_one_folder_too_deep(tmp_path: Path):
    with pytest.raises(InputError, match=r"too deep, such as cat/images/0.png; move them up"):
        read_folder(tree(tmp_path, cat__images=1, dog__images=1))


def test_no_advice_says_to_remove_a_folder(tmp_path: Path):
    with pytest.raises(InputError, match=r"class 'ant' .*has no photos; .* move the folder out of"):
        read_folder(tree(tmp_path, ant=0, bee=1, cat=1))


def test_links_that_lead_back_do_not_matter(tmp_path: Path):
    root = tree(tmp_path / "photos", cat=1, dog=1)
    (root / "self").symlink_to(root, target_is_directory=True)
    (root / "cat" / "up").symlink_to("..", target_is_directory=True)
    (root / "cat" / "loop").symlink_to("loop")
    (root / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "disk").symlink_to("not mounted")
    (tmp_path / "linked").symlink_to("photos", target_is_directory=True)
    for data in (root, tmp_path / "linked"):
        out = read_folder(data)
        assert (out.class_names, len(out.train)) == (("cat", "dog"), 2)
        assert {one.path: one.reason for one in out.skipped} == {
            "self/": "a link to a folder above",
            "cat/up/": "a link to a folder above",
            "cat/loop": "a link to nothing",
            "cat/gone.jpg": "a link to nothing",
            "disk": "a link to nothing",
        }


def test_names_of_classes(tmp_path: Path):
    tree(tmp_path, **{"[red]": 1, "a\nb  c": 1, "ünï_猫": 1})
    assert read_folder(tmp_path).class_names == ("[red]", "a b c", "ünï 猫")
    for bad, word in ((b"caf\xe9", "no UTF-8"), (b"___", "no name that the model could read")):
        root = tree(tmp_path / bad.hex(), cat=1)
        os.mkdir(os.fsencode(root) + b"/" + bad)
        with pytest.raises(InputError, match=word):
            read_folder(root)


def test_names_of_photos_may_be_any_bytes(tmp_path: Path):
    tree(tmp_path, cat=1, dog=1)
    os.rename(tmp_path / "cat" / "0.png", os.fsencode(tmp_path) + b"/cat/\xff\xfe [b].png")
    out = read_folder(tmp_path)
    assert next(out.train.decoded()).shape == (6, 8, 3)


def test_a_split_without_class_folders_is_told(tmp_path: Path):
    tree(tmp_path, train__a=1, train__b=1, test=2)
    assert "test/ (photos in no class folder)" in read_folder(tmp_path).notes[0]


def test_names_in_utf8_under_an_ascii_locale(tmp_path: Path):
    tree(tmp_path, **{"ünï_猫": 1, "dog": 1})
    code = (
        "import sys; from sharpzo.data.folder import read_folder as read; "
        "print(ascii(read(sys.argv[1]).class_names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )  # fmt: skip
    assert done.stdout.strip() == ascii(("dog", "ünï 猫"))
