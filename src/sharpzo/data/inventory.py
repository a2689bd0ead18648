"""Which files of a data set are there, and which are missing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from sharpzo.data.coop_layout import locate, read_index
from sharpzo.data.few_shot import draw
from sharpzo.data.layouts import ALIASES, INSTRUCTIONS, layout
from sharpzo.errors import InputError

SEEDS = (1, 2, 3)
SHOTS = (1, 2, 4, 8, 16)
FIRST = 5  # names that are spelled out of many

State = Literal["complete", "partial", "unusable"]


@dataclass(frozen=True)
class SplitCount:
    """Photos of a split that the data set names, that are there, and (if known) as published."""

    listed: int
    found: int
    published: int | None


@dataclass(frozen=True)
class Missing:
    """``count`` files, folders, class folders or photos, the ``first`` of them by path."""

    what: str
    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class DrawCount:
    """A few-shot draw, and how many of its training and validation photos are missing."""

    shots: int
    seed: int
    missing: int


@dataclass(frozen=True)
class Inventory:
    """What `check` found.

    ``state``: "complete" is the published data set with all its photos; "partial" has some of
    them and can be read or filled up; of "unusable" there is no photo, or its index files are not
    there. ``notes`` say where it differs from the published one. Paths in ``missing`` lie below
    ``folder``. ``home`` and ``instructions`` are the pages of the data set and of CoOp's files.
    """

    dataset: str
    title: str
    folder: str
    state: State
    classes: int | None
    splits: dict[str, SplitCount]
    missing: tuple[Missing, ...]
    draws: tuple[DrawCount, ...]
    notes: tuple[str, ...]
    home: str
    instructions: str = INSTRUCTIONS


def check(root: str | os.PathLike[str], name: str) -> Inventory:
    """Look for all files of the data set ``name`` in ``root`` (its folder, or the parent).

    Photos are looked for, not opened. Draws are those of seeds 1 to 3 at 1, 2, 4, 8 and 16 shots;
    there are none in a data set for testing only. ImageNet has no list of its photos: what is
    missing of a class cannot be named, and the draws of an incomplete copy are left out, as they
    would be others than those of the whole.

    Raises `InputError` if ``name`` is unknown, ``root`` is no folder or an index file is damaged.
    """
    place, root = layout(name), Path(root)
    if not root.is_dir():
        raise InputError(f"folder {root} does not exist; check the path")
    folder = locate(root, place)
    files = [file for file in place.index if not (folder / file).is_file()]
    folders = [images for images in place.images if not (folder / images).is_dir()]
    dataset, classless = (None, []) if files else read_index(folder, place)
    # The photos of the other forms were found by listing their folders.
    listed = place.form in ("split", "variants")
    named = ("train", "val", "test") if listed else tuple(place.published)
    photos = {
        split: [str(photo.path) for photo in getattr(dataset, split).photos]
        for split in (named if dataset else ())
    }
    absent = {
        split: [file for file in held if listed and not os.path.isfile(file)]
        for split, held in photos.items()
    }
    splits = {
        split: SplitCount(len(held), len(held) - len(absent[split]), place.published.get(split))
        for split, held in photos.items()
    }
    lost = {
        "files": files,
        "folders": folders,
        "class folders": [
            inner
            for inner in classless
            if not inner.startswith(tuple(f"{images}/" for images in folders))
        ],
        "photos": [os.path.relpath(file, folder) for held in absent.values() for file in held],
    }
    missing = [Missing(what, len(all_), tuple(all_[:FIRST])) for what, all_ in lost.items() if all_]
    counts = [("classes", len(dataset.class_names), place.classes)] if dataset else []
    counts += [(f"{split} photos", one.listed, one.published) for split, one in splits.items()]
    notes = [
        f"there are {found:,} {what}, the published data set has {published:,}"
        for what, found, published in counts
        if published is not None and found != published
    ]
    state: State = "partial" if missing or notes else "complete"
    if not any(split.found for split in splits.values()):
        state = "unusable"
    draws: list[DrawCount] = []
    if dataset and len(dataset.train):
        if listed or state == "complete":
            gone = {file for split in ("train", "val") for file in absent.get(split, ())}
            for shots, seed in product(SHOTS, SEEDS):
                few = draw(dataset, shots, seed) if gone else None
                drawn = (*few.train.photos, *(few.val.photos if few.val else ())) if few else ()
                draws.append(DrawCount(shots, seed, sum(photo.name in gone for photo in drawn)))
        else:
            notes.append("no draws: from a part of the training photos they would be other ones")
    return Inventory(
        dataset=ALIASES.get(name, name),
        title=place.title,
        folder=str(folder),
        state=state,
        classes=len(dataset.class_names) if dataset else None,
        splits=splits,
        missing=tuple(missing),
        draws=tuple(draws),
        notes=tuple(notes),
        home=place.home,
    )
