"""Data sets in the layout of CoOp: a folder of images and a published split file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sharpzo.data.dataset import TEMPLATE, Dataset, LabelledPhotos
from sharpzo.data.photos import Photo
from sharpzo.errors import InputError


@dataclass(frozen=True)
class Layout:
    """Where CoOp keeps a data set, and the hand-made template that its papers use."""

    title: str
    folder: str
    images: str
    split: str
    template: str = TEMPLATE


LAYOUTS = {
    "caltech101": Layout(
        "Caltech-101", "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json"
    ),
    "eurosat": Layout(
        "EuroSAT",
        "eurosat",
        "2750",
        "split_zhou_EuroSAT.json",
        "a centered satellite photo of {}.",
    ),
}


def read_coop(root: str | os.PathLike[str], name: str) -> Dataset:
    """Read the data set ``name`` (a key of `LAYOUTS`); class names are sorted by label.

    ``root`` is the data set's folder or its parent (CoOp's ``$DATA``). The photos keep the order
    of the split file, which the draws depend on. They are not looked for: a partial copy is
    enough as long as the drawn photos are there.

    Raises `InputError` for an unknown name, a missing folder, or a split file that is missing,
    damaged or points out of the image folder.
    """
    if name not in LAYOUTS:
        raise InputError(f"data set {name!r} is unknown; the known ones: {', '.join(LAYOUTS)}")
    layout = LAYOUTS[name]
    folder = _locate(Path(root), layout)
    images = folder / layout.images
    if not images.is_dir():
        raise InputError(f"folder {images} does not exist; unpack the images of {name} there")
    split_file = folder / layout.split
    rows = _rows(split_file)
    class_names = _class_names(rows, split_file)

    def labelled(split: str) -> LabelledPhotos:
        photos = []
        for relative, _, _ in rows[split]:
            path = images / relative
            photos.append(Photo(str(path), path=path))
        labels = np.array([label for _, label, _ in rows[split]])
        return LabelledPhotos(tuple(photos), labels, class_names)

    return Dataset(
        class_names,
        labelled("train"),
        labelled("val"),
        labelled("test"),
        source=f"{layout.title} with CoOp's split, {folder}",
        template=layout.template,
    )


def find_coop(root: str | os.PathLike[str]) -> list[str]:
    """Return the names of the data sets whose split file lies in ``root`` or one folder below."""
    root = Path(root)
    return [
        name
        for name, layout in LAYOUTS.items()
        if any((f / layout.split).is_file() for f in (root, root / layout.folder))
    ]


def _locate(root: Path, layout: Layout) -> Path:
    for folder in (root, root / layout.folder):
        if (folder / layout.split).is_file():
            return folder
    raise InputError(
        f"neither {root} nor {root / layout.folder} holds {layout.split}; "
        "give the folder of the data set or its parent, and put CoOp's split file there"
    )


def _rows(file: Path) -> dict[str, list[tuple[str, int, str]]]:
    """Split -> (path below the image folder, label, class name), every item checked."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            split: [_row(item) for item in content[split]] for split in ("train", "val", "test")
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"split file {file} cannot be used ({type(error).__name__}: {error}); "
            "fetch CoOp's original again"
        ) from error


def _row(item: Any) -> tuple[str, int, str]:
    relative, label, name = item
    if not (isinstance(relative, str) and type(label) is int and isinstance(name, str)):
        raise ValueError(f"expected a path, a label and a class name, found {item!r}")
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or "\\" in relative or "\0" in relative:
        raise ValueError(f"path {relative!r} points out of the image folder")
    return relative, label, name.replace("_", " ")  # as CoOp does before it tokenises


def _class_names(rows: dict[str, list[tuple[str, int, str]]], file: Path) -> tuple[str, ...]:
    pairs = {(label, name) for split in rows.values() for _, label, name in split}
    labels = [label for label, _ in sorted(pairs)]
    if not labels or labels != list(range(len(labels))):
        raise InputError(
            f"split file {file} does not give each label from 0 exactly one class name; "
            "fetch CoOp's original again"
        )
    return tuple(name for _, name in sorted(pairs))
