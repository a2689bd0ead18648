"""What is there of a data set, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sharpzo.data.coop_layout import as_dataset, locate, read_listing
from sharpzo.data.few_shot import draw
from sharpzo.data.layouts import ALIASES, INSTRUCTIONS, Layout, layout
from sharpzo.data.listing import Listing
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
    """What `check` saw.

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
    place = layout(name)
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"folder {root} does not exist; check the path")
    folder = locate(root, place)
    files = [file for file in place.index if not (folder / file).is_file()]
    folders = [images for images in place.images if not (folder / images).is_dir()]
    listing = None if files else read_listing(folder, place)
    listed = listing.splits if listing else {}
    # The photos of the other forms were found by listing their folders.
    searched = place.form in ("split", "variants")
    absent = {
        split: [file for file, _ in rows if searched and not os.path.isfile(file)]
        for split, rows in listed.items()
    }
    splits = {
        split: SplitCount(len(rows), len(rows) - len(absent[split]), place.published.get(split))
        for split, rows in listed.items()
    }
    photos = [os.path.relpath(file, folder) for rows in absent.values() for file in rows]
    lost = [
        inner
        for inner in (listing.missing if listing else ())
        if not inner.startswith(tuple(f"{images}/" for images in folders))
    ]
    missing = (
        *_missing("files", files),
        *_missing("folders", folders),
        *_missing("class folders", lost),
        *_missing("photos", photos),
    )
    notes = _notes(listing, splits, place) if listing else ()
    state: State = "partial" if missing or notes else "complete"
    if listing is None or not any(count.found for count in splits.values()):
        state = "unusable"
    drawable = searched or state == "complete"
    if listed.get("train") and not drawable:
        notes += ("no draws: from a part of the training photos they would be other ones",)
    return Inventory(
        dataset=ALIASES.get(name, name),
        title=place.title,
        folder=str(folder),
        state=state,
        classes=len(listing.class_names) if listing else None,
        splits=splits,
        missing=missing,
        draws=_draws(listing, absent, folder, place) if listing and drawable else (),
        notes=notes,
        home=place.home,
    )


def _missing(what: str, names: list[str]) -> Iterable[Missing]:
    return [Missing(what, len(names), tuple(names[:FIRST]))] if names else []


def _notes(listing: Listing, splits: dict[str, SplitCount], place: Layout) -> tuple[str, ...]:
    pairs = [("classes", len(listing.class_names), place.classes)] + [
        (f"{split} photos", count.listed, count.published) for split, count in splits.items()
    ]
    return tuple(
        f"there are {found:,} {what}, the published data set has {published:,}"
        for what, found, published in pairs
        if published is not None and found != published
    )


def _draws(
    listing: Listing, absent: dict[str, list[str]], folder: Path, place: Layout
) -> tuple[DrawCount, ...]:
    if not listing.splits.get("train"):
        return ()
    gone = {file for split in ("train", "val") for file in absent.get(split, ())}
    dataset = as_dataset(listing, folder, place) if gone else None

    def lacks(shots: int, seed: int) -> int:
        if dataset is None:
            return 0
        few = draw(dataset, shots, seed)
        drawn = few.train.photos + (few.val.photos if few.val else ())
        return sum(photo.name in gone for photo in drawn)

    return tuple(DrawCount(shots, seed, lacks(shots, seed)) for shots in SHOTS for seed in SEEDS)
