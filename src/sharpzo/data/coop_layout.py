"""Data sets in the layout of CoOp: image folders, and index files that name photos and classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.imagenet import list_synsets
from sharpzo.data.layouts import LAYOUTS, Layout, layout
from sharpzo.data.listing import Listing, Rows
from sharpzo.data.photo import Photo
from sharpzo.data.splits import list_split
from sharpzo.data.variants import list_variants
from sharpzo.errors import InputError

_READERS = {"split": list_split, "variants": list_variants}  # the other forms: list_synsets


def read_coop(root: str | os.PathLike[str], name: str) -> Dataset:
    """Read the data set ``name`` (see `sharpzo.data.layouts`); class names are sorted by label.

    ``root`` is the data set's folder or its parent (CoOp's ``$DATA``). The photos keep the order
    of the split file, which the draws depend on. They are not looked for: a partial copy is
    enough as long as the drawn photos are there (`sharpzo.data.inventory.check` tells). ImageNet
    and its variants have no split file: their photos are listed, and each class must have some.

    ImageNetV2, -Sketch, -A and -R are for testing only: their ``train`` is empty. ImageNet has no
    ``val`` (see `sharpzo.data.imagenet.list_synsets`).

    Raises `InputError` for an unknown name, a missing folder, or an index file that is missing,
    damaged or points out of the image folder.
    """
    place = layout(name)
    folder = locate(Path(root), place)
    absent = [file for file in place.index if not (folder / file).is_file()]
    if absent == list(place.index):
        raise InputError(
            f"neither {root} nor {Path(root) / place.folder} holds {absent[0]}; "
            f"give the folder of the data set or its parent, and put {_whose(place)} file there"
        )
    if absent:
        raise InputError(f"file {folder / absent[0]} does not exist; put {_whose(place)} there")
    for images in place.images:
        if not (folder / images).is_dir():
            raise InputError(
                f"folder {folder / images} does not exist; unpack the images of {name} there"
            )
    listing = read_listing(folder, place)
    if listing.missing:
        raise InputError(
            f"{place.title} in {folder} lacks {len(listing.missing)} class folders or their "
            f"photos, {listing.missing[0]} first; unpack it completely"
        )
    return as_dataset(listing, folder, place)


def find_coop(root: str | os.PathLike[str]) -> list[str]:
    """Return the names of the data sets that lie in ``root`` or one folder below."""
    return [name for name, place in LAYOUTS.items() if _holds(Path(root), place)]


def locate(root: Path, place: Layout) -> Path:
    """Return which of ``root`` and its subfolder looks more like the data set's folder."""

    def score(folder: Path) -> tuple[bool, int, bool]:
        there = [(folder / images).is_dir() for images in place.images]
        return (folder / place.index[0]).is_file(), sum(there), _named(folder, place)

    return max((root / place.folder, root), key=score)


def read_listing(folder: Path, place: Layout) -> Listing:
    """Read the index files in ``folder``; errors as `read_coop`."""
    return _READERS.get(place.form, list_synsets)(folder, place)


def as_dataset(listing: Listing, folder: Path, place: Layout) -> Dataset:
    """Return the data set that ``listing`` describes."""

    def labelled(rows: Rows) -> LabelledPhotos:
        photos = tuple(Photo(file, path=Path(file)) for file, _ in rows)
        labels = np.array([label for _, label in rows], dtype=np.int64)
        return LabelledPhotos(photos, labels, listing.class_names)

    def optional(split: str) -> LabelledPhotos | None:
        return labelled(listing.splits[split]) if split in listing.splits else None

    return Dataset(
        listing.class_names,
        labelled(listing.splits.get("train", [])),
        optional("val"),
        optional("test"),
        source=f"{place.title} in CoOp's layout, {folder}",
        template=place.template,
    )


def _holds(root: Path, place: Layout) -> bool:
    folder = locate(root, place)
    if not (folder / place.index[0]).is_file():
        return False
    # Every data set of ImageNet's kind has a classnames.txt: there the folder's name decides.
    return place.form in ("split", "variants") or _named(folder, place)


def _named(folder: Path, place: Layout) -> bool:
    return folder.absolute().name == place.folder  # "." has no name of its own


def _whose(place: Layout) -> str:
    return "the archive's" if place.form == "variants" else "CoOp's"
