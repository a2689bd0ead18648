"""A folder of the user: one subfolder a class, with or without train/, val/ and test/ above."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos, Skipped
from sharpzo.data.photos import SUFFIXES, Photo
from sharpzo.errors import InputError

_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("val", "valid", "validation"), "val")


def read_folder(root: str | os.PathLike[str]) -> Dataset:
    """Read a folder of photos; a class is called like its subfolder, with spaces for underscores.

    Two layouts are understood: ``root/<class>/<photo>``, all of it for training, and
    ``root/<split>/<class>/<photo>`` with the splits train, val (or valid, validation) and test,
    the last two optional. Classes and photos are sorted by name, so the order does not depend on
    the file system. Hidden files, files that are no photos by their suffix and deeper folders are
    left out and listed in ``skipped``. No photo is opened.

    Raises `InputError` if the folder is missing, is empty, holds photos but no class folders, has
    fewer than two classes, a class without photos, or a val or test class that train lacks.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"folder {root} does not exist; check the path")
    reader = _Reader(root)
    splits = _split_folders(root)
    if splits:
        kept = {folder.name for folder in splits.values()}
        for entry in _entries(root):
            if entry.name not in kept:
                reader.skip(entry, _why_not(entry, "beside the splits"))
        found = {split: reader.classes(folder) for split, folder in splits.items()}
    else:
        found = {"train": reader.classes(root)}
    train = _checked(found["train"], splits.get("train", root), reader.skipped)
    class_names = tuple(train)
    for split in ("val", "test"):
        unknown = [name for name in found.get(split, {}) if name not in train]
        if unknown:
            raise InputError(
                f"{splits[split]} has class {unknown[0]!r}, which {splits['train']} lacks; "
                f"add training photos of it, or remove it from {splits[split].name}"
            )

    def labelled(split: str) -> LabelledPhotos | None:
        classes = found.get(split, {})
        photos = [photo for name in class_names for photo in classes.get(name, [])]
        counts = [len(classes.get(name, [])) for name in class_names]
        labels = np.repeat(np.arange(len(class_names)), counts)
        return LabelledPhotos(tuple(photos), labels, class_names) if photos else None

    photos = labelled("train")
    assert photos is not None  # _checked saw at least two
    return Dataset(
        class_names,
        photos,
        labelled("val"),
        labelled("test"),
        source=f"folder {root}",
        skipped=tuple(reader.skipped),
        notes=_skip_note(reader.skipped),
    )


class _Reader:
    """Walks the folders below ``root`` and remembers what it left out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[Skipped] = []

    def skip(self, entry: Path, reason: str) -> None:
        slash = "/" if entry.is_dir() else ""
        self.skipped.append(Skipped(entry.relative_to(self.root).as_posix() + slash, reason))

    def classes(self, folder: Path) -> dict[str, list[Photo]]:
        """Class name -> photos, both sorted."""
        classes: dict[str, list[Photo]] = {}
        for entry in _entries(folder):
            if not _is_class(entry):
                self.skip(entry, _why_not(entry, "in no class folder"))
                continue
            name = _class_name(entry)
            if name in classes:
                raise InputError(
                    f"{folder} has two folders for class {name!r}; merge them, or rename one"
                )
            classes[name] = self.photos(entry)
        return dict(sorted(classes.items()))

    def photos(self, folder: Path) -> list[Photo]:
        photos = []
        for entry in _entries(folder):
            if _is_photo(entry):
                photos.append(Photo(str(entry), path=entry))
            else:
                self.skip(entry, _why_not(entry, "a folder inside a class"))
        return photos


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read ({error}); check its rights") from error


def _class_name(folder: Path) -> str:
    return folder.name.replace("_", " ").strip()


def _is_class(entry: Path) -> bool:
    # __MACOSX is the shadow folder that zip files from a Mac carry.
    return not entry.name.startswith((".", "__MACOSX")) and entry.is_dir()


def _is_photo(entry: Path) -> bool:
    visible = not entry.name.startswith(".")
    return visible and entry.suffix.lower() in SUFFIXES and entry.is_file()


def _why_not(entry: Path, misplaced: str) -> str:
    """Why an entry is left out; ``misplaced`` if there is nothing wrong but its place."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.name.startswith("__MACOSX"):
        return "the shadow folder of a Mac's zip file"
    if entry.is_dir() or _is_photo(entry):
        return misplaced
    return "no file" if entry.suffix.lower() in SUFFIXES else "not a photo by its name"


def _split_folders(root: Path) -> dict[str, Path]:
    """Split name -> folder; empty if the subfolders of ``root`` are classes."""
    folders = [entry for entry in _entries(root) if _is_class(entry)]
    splits: dict[str, Path] = {}
    for folder in folders:
        split = _SPLITS.get(folder.name.lower())
        if split in splits:
            raise InputError(
                f"folder {root} has {splits[split].name}/ and {folder.name}/, both for {split}; "
                "merge them, or remove one"
            )
        if split is not None:
            splits[split] = folder
    # A train/ with photos in it is a class of vehicles, unless nothing but splits stands beside it.
    if "train" in splits and any(_is_class(entry) for entry in _entries(splits["train"])):
        return splits
    if "train" in splits and len(splits) == len(folders):
        raise InputError(
            f"folder {splits['train']} has no class folders; {_layout(splits['train'])}"
        )
    return {}


def _checked(
    classes: dict[str, list[Photo]], folder: Path, skipped: list[Skipped]
) -> dict[str, list[Photo]]:
    """Return the training classes if one can learn from them."""
    if not classes:
        if any(_is_photo(entry) for entry in _entries(folder)):
            raise InputError(
                f"folder {folder} holds photos but no class folders; {_layout(folder)}"
            )
        raise InputError(f"folder {folder} has no photos; {_layout(folder)}")
    empty = [name for name, photos in classes.items() if not photos]
    if empty:
        inside = [one.path for one in skipped if _class_name(Path(one.path).parent) == empty[0]]
        found = f" (only {_some(inside)})" if inside else ""
        raise InputError(
            f"class {empty[0]!r} in {folder} has no photos{found}; add JPEG or "
            "PNG photos directly into its folder, or remove the folder"
        )
    if len(classes) == 1:
        raise InputError(
            f"folder {folder} has only one class, {next(iter(classes))!r}; "
            f"add a second: {_layout(folder)}"
        )
    return classes


def _layout(folder: Path) -> str:
    return (
        "put the photos into one subfolder a class, "
        f"for example {folder / 'cat' / '1.jpg'} and {folder / 'dog' / '1.jpg'}"
    )


def _skip_note(skipped: list[Skipped]) -> tuple[str, ...]:
    # Hidden files are in `skipped` too, but nobody wants to read of .DS_Store.
    shown = [one.path for one in skipped if one.reason != "hidden"]
    return (f"{len(shown)} files or folders were left out: {_some(shown)}",) if shown else ()


def _some(names: list[str], limit: int = 5) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
