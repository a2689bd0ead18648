"""ImageNet and its variants: one folder a class, named in classnames.txt."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sharpzo.data.decoding import SUFFIXES
from sharpzo.data.layouts import Layout
from sharpzo.data.listing import Listing, Rows, unusable, words
from sharpzo.errors import InputError


def list_synsets(folder: Path, layout: Layout) -> Listing:
    """Read ``classnames.txt`` and list the photos of each class folder.

    Labels follow the sorted synsets; ImageNetV2's folders are the numbers of the rows of
    classnames.txt instead. ImageNet-A and -R have folders for 200 of the 1,000 synsets: those are
    their classes. Photos are sorted by name: CoOp takes them as the file system lists them, so
    that on ImageNet its published seeds draw other photos on other disks.

    ``images/val`` of ImageNet is its test split, as in all published figures. CoOp hands it on as
    validation split too; here the test split must not choose anything, so there is none, and
    `sharpzo.data.few_shot.draw` carves one from ``train``.

    Raises `InputError` if classnames.txt is damaged or lacks a folder's name, or if a subset has
    too many class folders.
    """
    names = _class_names(folder / layout.index[0])
    found = [_subfolders(folder / images) for images in layout.images]
    for images, subfolders in zip(layout.images, found, strict=True):
        known = {str(row) for row in range(len(names))} if layout.form == "numbers" else names
        stranger = next((name for name in subfolders if name not in known), None)
        if stranger is not None:
            raise InputError(
                f"folder {folder / images} has a class folder {stranger!r}, which "
                f"{layout.index[0]} does not name; remove it, or fetch CoOp's {layout.index[0]}"
            )
    missing: list[str] = []
    if layout.form == "numbers":
        classes = {str(row): name for row, name in enumerate(names.values())}
    elif layout.form == "synsets":
        classes = dict(sorted(names.items()))
    else:
        classes = {synset: names[synset] for synset in found[0]}
        if len(classes) > layout.classes:
            raise InputError(
                f"folder {folder / layout.images[0]} has {len(classes)} class folders, "
                f"{layout.title} has {layout.classes}; remove what does not belong to it"
            )
        missing += [f"{layout.images[0]}/n????????"] * (layout.classes - len(classes))
    splits: dict[str, Rows] = {}
    for split, images in zip(layout.published, layout.images, strict=True):
        rows: Rows = []
        for label, subfolder in enumerate(classes):
            photos = _photos(folder / images / subfolder)
            rows += [(photo, label) for photo in photos]
            if not photos:
                missing.append(f"{images}/{subfolder}")
        splits[split] = rows
    return Listing(tuple(classes.values()), splits, tuple(missing))


def _class_names(file: Path) -> dict[str, str]:
    """Synset -> class name, in the order of the file."""
    names: dict[str, str] = {}
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            synset, _, name = line.strip().partition(" ")
            if not re.fullmatch(r"n\d{8}", synset) or not name or synset in names:
                raise ValueError(f"expected a new synset and its name, found {line!r}")
            names[synset] = words(name)
        if not names:
            raise ValueError("it is empty")
    except (OSError, ValueError) as error:
        raise unusable(file, error, "fetch CoOp's original again") from error
    return names


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def _photos(folder: Path) -> list[str]:
    return sorted(
        entry.path
        for entry in _entries(folder)
        if os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file()
    )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in ``folder``, without hidden entries and __MACOSX; nothing if missing."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith((".", "__"))]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read ({error}); check its rights") from error
