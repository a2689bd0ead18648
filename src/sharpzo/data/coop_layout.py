"""Data sets in the layout of CoOp: image folders, and index files that name photos and classes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.entries import inside, photos_in, subfolders
from sharpzo.data.layouts import LAYOUTS, Layout, layout
from sharpzo.data.photo import Photo
from sharpzo.errors import InputError

LabelledPaths = list[tuple[Path, int]]
# Class names in the order of the labels, the rows of each split in their order, and the class
# folders, below the data set's, that should be there and are not, or have no photo.
Index = tuple[Iterable[str], dict[str, LabelledPaths], list[str]]
_COOPS = "fetch CoOp's original again"
_ARCHIVES = "take it from the data/ folder of the 2013b archive again"


def read_coop(root: str | os.PathLike[str], name: str) -> Dataset:
    """Read the data set ``name`` (see `sharpzo.data.layouts`); class names are sorted by label.

    ``root`` is the data set's folder or its parent (CoOp's ``$DATA``). The photos keep the order of
    the split file, which the draws depend on. They are not looked for: a partial copy is enough as
    long as the drawn photos are there (`sharpzo.data.inventory.check` lists them). ImageNet and its
    variants have no split file: their photos are listed, and each class must have some.

    ImageNetV2, -Sketch, -A and -R are for testing only: their ``train`` is empty. ImageNet has no
    ``val``: its ``images/val`` is the test split, as in all published figures. CoOp hands it on as
    validation split too; here the test split must not choose anything, and
    `sharpzo.data.few_shot.draw` carves a validation split from ``train``.

    Raises `InputError` for an unknown name, a missing folder, or an index file that is missing,
    damaged or points out of the image folder.
    """
    place = layout(name)
    folder = locate(Path(root), place)
    whose = "the archive's" if place.form == "variants" else "CoOp's"
    absent = [file for file in place.index if not os.path.isfile(folder / file)]
    if absent == list(place.index):
        raise InputError(
            f"neither {root} nor {Path(root) / place.folder} holds {absent[0]}; "
            f"give the folder of the data set or its parent, and put {whose} file there"
        )
    if absent:
        raise InputError(f"file {folder / absent[0]} does not exist; put {whose} there")
    for images in place.images:
        if not os.path.isdir(folder / images):
            raise InputError(
                f"folder {folder / images} does not exist; unpack the images of {name} there"
            )
    dataset, missing = read_index(folder, place)
    if missing:
        raise InputError(
            f"{place.title} in {folder} lacks {len(missing)} class folders or their photos, "
            f"{missing[0]} first; unpack it completely"
        )
    return dataset


def find_coop(root: str | os.PathLike[str]) -> list[str]:
    """Return the names of the data sets that lie in ``root`` or one folder below."""

    def holds(place: Layout) -> bool:
        folder = locate(Path(root), place)
        # Every data set of ImageNet's kind has a classnames.txt: there the folder's name decides.
        sure = place.form in ("split", "variants") or _is_named(folder, place)
        return sure and os.path.isfile(folder / place.index[0])

    return [name for name, place in LAYOUTS.items() if holds(place)]


def locate(root: Path, place: Layout) -> Path:
    """Return which of ``root`` and its subfolder looks more like the data set's folder."""

    def score(folder: Path) -> tuple[bool, int, bool]:
        there = [os.path.isdir(folder / images) for images in place.images]
        return os.path.isfile(folder / place.index[0]), sum(there), _is_named(folder, place)

    return max((root / place.folder, root), key=score)


def read_index(folder: Path, place: Layout) -> tuple[Dataset, list[str]]:
    """Return the data set that the index files in ``folder`` describe, and the class folders that
    are missing or have no photos; errors as `read_coop`."""
    readers = {"split": _read_split, "variants": _read_variants}
    class_names, splits, missing = readers.get(place.form, _read_synsets)(folder, place)
    names = tuple(_words(name) for name in class_names)

    def labelled(split: str) -> LabelledPhotos:
        rows = splits.get(split, ())
        photos = tuple(Photo(str(path), path=path) for path, _ in rows)
        return LabelledPhotos(photos, np.array([label for _, label in rows], np.int64), names)

    dataset = Dataset(
        names,
        labelled("train"),
        labelled("val") if "val" in splits else None,
        labelled("test"),
        source=f"{place.title} in CoOp's layout, {folder}",
        template=place.template,
    )
    return dataset, missing


def _is_named(folder: Path, place: Layout) -> bool:
    return folder.absolute().name == place.folder  # "." has no name of its own


def _words(name: str) -> str:
    """A class name as CoOp's prompts show it."""
    return name.replace("_", " ")


def _unusable(file: Path, error: Exception, advice: str) -> InputError:
    return InputError(f"file {file} cannot be used ({type(error).__name__}: {error}); {advice}")


class _SplitFile(msgspec.Struct):
    """CoOp's split file: rows of a path, a label and a class name."""

    train: list[tuple[str, int, str]]
    val: list[tuple[str, int, str]]
    test: list[tuple[str, int, str]]


def _read_split(folder: Path, place: Layout) -> Index:
    """One JSON document names the photos of train, val and test; draws depend on its order."""
    # Stanford Cars has two image folders; its paths begin with one of them.
    images = folder / place.images[0] if len(place.images) == 1 else folder
    file = folder / place.index[0]
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_SplitFile)
        rows = {"train": found.train, "val": found.val, "test": found.test}
        pairs = sorted(
            {(label, _words(name)) for split in rows.values() for _, label, name in split}
        )
        if not pairs or [label for label, _ in pairs] != list(range(len(pairs))):
            raise ValueError("it does not give each label from 0 exactly one class name")
        splits = {
            split: [(images / inside(path), label) for path, label, _ in items]
            for split, items in rows.items()
        }
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise _unusable(file, error, _COOPS) from error
    return [name for _, name in pairs], splits, []


def _read_variants(folder: Path, place: Layout) -> Index:
    """FGVC-Aircraft's own text files: the rows of variants.txt are the labels, and each split has
    a file of lines "photo variant"."""
    variants = _lines(folder / place.index[0], _ARCHIVES)
    labels = {variant: label for label, variant in enumerate(variants)}
    images = folder / place.images[0]
    splits: dict[str, LabelledPaths] = {}
    for split, name in zip(("train", "val", "test"), place.index[1:], strict=True):
        splits[split] = []
        for line in _lines(folder / name, _ARCHIVES):
            photo, _, variant = line.partition(" ")
            try:
                if variant not in labels:
                    raise ValueError(f"{place.index[0]} has no variant {variant!r}")
                splits[split].append((images / f"{inside(photo)}.jpg", labels[variant]))
            except ValueError as error:
                raise _unusable(folder / name, error, _ARCHIVES) from error
    return variants, splits, []


def _lines(file: Path, advice: str) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        if not all(lines) or not lines:
            raise ValueError("it is empty or has an empty line")
    except (OSError, ValueError) as error:
        raise _unusable(file, error, advice) from error
    return lines


def _read_synsets(folder: Path, place: Layout) -> Index:
    """ImageNet and its variants: one folder per class, named in classnames.txt.

    Labels follow the sorted synsets; ImageNetV2's folders are the numbers of the rows of
    classnames.txt instead. ImageNet-A and -R have folders for 200 of the 1,000 synsets: those are
    their classes. Photos are sorted by name: CoOp takes them as the file system lists them, so
    that on ImageNet its published seeds draw other photos on other disks.
    """
    index, first = place.index[0], place.images[0]
    names = _class_names(folder / index)  # class folder -> class name
    if place.form == "numbers":
        names = {str(row): name for row, name in enumerate(names.values())}
    else:
        names = dict(sorted(names.items()))
    found: dict[str, list[str]] = {}
    for images in place.images:
        outer = folder / images
        inner = [one.name for one in subfolders(outer)] if outer.is_dir() else []
        unknown = next((name for name in inner if name not in names), None)
        if unknown is not None:
            raise InputError(
                f"folder {outer} has a class folder {unknown!r}, which {index} does not name; "
                f"remove it, or fetch CoOp's {index}"
            )
        found[images] = inner
    missing: list[str] = []
    if place.form == "subset":
        names = {synset: names[synset] for synset in found[first]}
        if len(names) > place.classes:
            raise InputError(
                f"folder {folder / first} has {len(names)} class folders, "
                f"{place.title} has {place.classes}; remove what does not belong to it"
            )
        missing += [f"{first}/n????????"] * (place.classes - len(names))
    splits: dict[str, LabelledPaths] = {}
    for split, images in zip(place.published, place.images, strict=True):
        splits[split] = []
        for label, inner in enumerate(names):
            photos = photos_in(folder / images / inner) if inner in found[images] else []
            splits[split] += [(photo, label) for photo in photos]
            if not photos:
                missing.append(f"{images}/{inner}")
    return names.values(), splits, missing


def _class_names(file: Path) -> dict[str, str]:
    """Synset -> class name, in the order of the file."""
    names: dict[str, str] = {}
    for line in _lines(file, _COOPS):
        synset, _, name = line.partition(" ")
        if not re.fullmatch(r"n\d{8}", synset) or not name or synset in names:
            wrong = ValueError(f"expected a new synset and its name, found {line!r}")
            raise _unusable(file, wrong, _COOPS)
        names[synset] = name
    return names
