"""Small trees of photos for the tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.photo import Photo


def photo(path: Path, color: tuple[int, int, int] = (200, 30, 30), size=(8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def tree(root: Path, **counts: int) -> Path:
    """`tree(root, cat=2)` writes root/cat/0.png and root/cat/1.png; `__` in names is a slash."""
    for name, count in counts.items():
        folder = root / name.replace("__", "/")
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            photo(folder / f"{i}.png")
    return root


def coop_tree(
    root: Path,
    rows: dict[str, list[list]],
    images: bool = True,
    split: str = "eurosat/split_zhou_EuroSAT.json",
    base: str = "eurosat/2750",
) -> Path:
    """Write a data set of our own: the split file and, if asked, every photo that it names."""
    (root / base).mkdir(parents=True)
    (root / split).write_text(json.dumps(rows))
    for rows_of_split in rows.values() if images else ():
        for relative, _, _ in rows_of_split:
            photo(root / base / relative)
    return root


def fgvc_tree(root: Path, variants: list[str], splits: dict[str, list[tuple[str, str]]]) -> Path:
    """Write FGVC-Aircraft's data/ folder under its name in CoOp, with the photos."""
    folder = root / "fgvc_aircraft"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_text("".join(f"{name}\n" for name in variants))
    for split, rows in splits.items():
        file = folder / f"images_variant_{split}.txt"
        file.write_text("".join(f"{number} {name}\n" for number, name in rows))
        for number, _ in rows:
            photo(folder / "images" / f"{number}.jpg")
    return root


def synset_tree(
    root: Path, folder: str, images: dict[str, dict[str, list[str]]], names: dict[str, str]
) -> Path:
    """Write classnames.txt, and empty photos: image folder -> class folder -> file names."""
    (root / folder).mkdir(parents=True)
    lines = [f"{synset} {name}\n" for synset, name in names.items()]
    (root / folder / "classnames.txt").write_text("".join(lines))
    for place, classes in images.items():
        for subfolder, files in classes.items():
            (root / folder / place / subfolder).mkdir(parents=True)
            for file in files:
                (root / folder / place / subfolder / file).touch()
    return root


def dataset(train: list[int], val: list[int] | None = None, classes: int = 10) -> Dataset:
    """Return a data set whose photos have one black pixel and a name that tells them apart."""
    names = tuple(f"class {i}" for i in range(classes))

    def split(name: str, labels: list[int]) -> LabelledPhotos:
        pixels = np.zeros((1, 1, 3), np.uint8)
        photos = tuple(Photo(f"{name} {i}", pixels=pixels) for i in range(len(labels)))
        return LabelledPhotos(photos, np.array(labels, dtype=np.int64), names)

    return Dataset(
        names,
        split("train", train),
        None if val is None else split("val", val),
        split("test", list(range(classes))),
        source="a test",
    )


def names(split: LabelledPhotos | None) -> list[str]:
    return [] if split is None else [p.name for p in split.photos]
