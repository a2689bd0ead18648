"""A folder of the user: one subfolder a class, with or without train/, val/ and test/ above."""

from __future__ import annotations

import os
from pathlib import Path

from sharpzo.data import advice
from sharpzo.data.classes import Rows, class_name, dataset_of
from sharpzo.data.dataset import Dataset, Skipped
from sharpzo.data.decoding import SUFFIXES
from sharpzo.data.entries import (
    HIDDEN,
    entries,
    holds_photos,
    is_folder,
    is_own,
    is_photo,
    passed_over,
    subfolders,
)
from sharpzo.data.photo import Photo
from sharpzo.data.split_names import PLAIN, role
from sharpzo.errors import InputError
from sharpzo.wording import quoted, some

_CALLED = {"train": "training", "val": "validation", "test": "test"}


def read_folder(root: str | os.PathLike[str]) -> Dataset:
    """Read a folder of photos; a class is called like its subfolder, with spaces for underscores.

    Two layouts are understood: ``root/<class>/<photo>``, all of it for training, and
    ``root/<split>/<class>/<photo>`` with the splits train, val and test, by these names or by
    others in use (see `sharpzo.data.split_names.role`); without train the data set is for testing
    only. Classes and photos are sorted by name, so the order does not depend on the file system.
    Hidden files, files that are no photos by their suffix, deeper folders, and folders of a system
    or of sharpzo are left out and listed in ``skipped``. No photo is opened.

    Raises `InputError` if the folder is missing, is empty, holds photos but no class folders, has
    fewer than two classes, a class without photos, classes beside its splits, or a val or test
    class that train lacks.
    """
    root = Path(root)
    check_folder(root)
    reader = Reader(root)
    splits = split_folders(root)
    if splits:
        kept = {folder.name for folder in splits.values()}
        for entry in entries(root):
            if entry.name not in kept:
                bare = role(entry.name) and is_folder(entry) and holds_photos(entry)
                reader.skip(entry, "photos in no class folder" if bare else "beside the splits")
        found = {split: reader.classes(folder) for split, folder in splits.items()}
    else:
        found = {"train": reader.classes(root)}
    if "train" in found:
        _check(found["train"], splits.get("train", root), reader.skipped)
        for split in ("val", "test"):
            unknown = [name for name in found.get(split, {}) if name not in found["train"]]
            if unknown:
                raise InputError(
                    f"{splits[split]} has class {unknown[0]!r}, which {splits['train']} lacks; "
                    f"add training photos of it, or remove it from {splits[split].name}"
                )
    rows: dict[str, Rows] = {
        split: [(photo, name) for name, photos in classes.items() for photo in photos]
        for split, classes in found.items()
    }
    return dataset_of(
        rows,
        source=f"folder {root}",
        skipped=tuple(reader.skipped),
        notes=(*_split_notes(splits), *skip_notes(reader.skipped)),
    )


def check_folder(root: Path) -> None:
    """Raise `InputError` if ``root`` is no folder that could hold somebody's photos."""
    if not is_folder(root):
        if os.path.exists(root):
            raise InputError(
                f"{root} is a file; give the folder or zip file of the photos (labels of them in a "
                "file: --labels)"
            )
        raise InputError(f"folder {root} does not exist; check the path")
    if is_own(root):
        raise InputError(f"folder {root} is one that sharpzo wrote, not one of photos; {_layout()}")


class Reader:
    """Walks the folders below ``root`` and remembers what it left out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[Skipped] = []

    def skip(self, entry: Path, misplaced: str) -> None:
        """Leave an entry out; ``misplaced`` says why if nothing is wrong but its place."""
        slash = "/" if is_folder(entry) else ""
        path = entry.relative_to(self.root).as_posix() + slash
        self.skipped.append(Skipped(path, passed_over(entry) or _why_not(entry, misplaced)))

    def classes(self, folder: Path) -> dict[str, list[Photo]]:
        """Class name -> photos, both sorted."""
        classes: dict[str, list[Photo]] = {}
        for entry in entries(folder):
            if not is_folder(entry) or passed_over(entry):
                self.skip(entry, "in no class folder")
                continue
            name = class_name(entry.name, f"class folder {entry}")
            if name in classes:
                raise InputError(
                    f"{folder} has two folders for class {name!r}; merge them, or rename one"
                )
            classes[name] = self.photos(entry)
        return dict(sorted(classes.items()))

    def photos(self, folder: Path) -> list[Photo]:
        """The photos that lie in ``folder`` itself."""
        photos = []
        for entry in entries(folder):
            if is_photo(entry):
                photos.append(Photo(str(entry), path=entry))
            else:
                self.skip(entry, "a folder inside a class")
        return photos


def split_folders(root: Path) -> dict[str, Path]:
    """Return split name -> folder; empty if the subfolders of ``root`` are classes.

    Raises `InputError` if there are two for one split, or classes beside them.
    """
    folders = subfolders(root)
    named: dict[str, Path] = {}
    for folder in folders:
        split = role(folder.name)
        if split in named:
            raise InputError(
                f"folder {root} has {named[split].name}/ and {folder.name}/, both for {split}; "
                "merge them, or remove one"
            )
        if split is not None:
            named[split] = folder
    # A train/ with photos in it is a class of vehicles, unless nothing but splits stands beside it.
    splits = {split: folder for split, folder in named.items() if subfolders(folder)}
    if not splits:
        if "train" in named and len(named) == len(folders):
            raise InputError(
                f"folder {named['train']} has no class folders; {_layout(named['train'])}"
            )
        return {}
    others = [f"{f.name}/" for f in folders if role(f.name) is None and holds_photos(f)]
    mixed = [f for f in splits.values() if holds_photos(f)] if len(named) < len(folders) else []
    if others or mixed:
        name = next(iter(splits.values())).name
        raise InputError(
            f"folder {root} has {name}/ with folders in it, as a split, and beside it "
            f"{some(others or [f'{f.name}/' for f in folders if f not in mixed])} with photos, as "
            f"a class: give {quoted(root / name)} alone, or move the classes into {name}/"
        )
    if "eval" in splits:  # some mean the photos that choose, some those that test
        free = next((split for split in ("val", "test") if split not in splits), None)
        if free is None:
            raise InputError(
                f"folder {root} has {splits['eval'].name}/ beside a validation and a test split; "
                "merge it with one of them, or remove it"
            )
        splits[free] = splits.pop("eval")
    return splits


def skip_notes(skipped: list[Skipped]) -> tuple[str, ...]:
    """One sentence, by reason; of hidden files, such as .DS_Store, nobody wants to read."""
    reasons: dict[str, list[str]] = {}
    for one in skipped:
        if one.reason != HIDDEN or one.path.endswith("/"):
            reasons.setdefault(one.reason, []).append(one.path)
    if not reasons:
        return ()
    many = sum(map(len, reasons.values()))
    what = "1 file or folder was" if many == 1 else f"{many:,} files or folders were"
    told = "; ".join(f"{some(paths)} ({reason})" for reason, paths in reasons.items())
    return (f"{what} left out: {told}",)


def _split_notes(splits: dict[str, Path]) -> list[str]:
    return [
        f"folder {folder.name}/ is read as the {_CALLED[split]} split"
        for split, folder in splits.items()
        if folder.name.casefold() not in PLAIN
    ]


def _why_not(entry: Path, misplaced: str) -> str:
    if is_folder(entry) or is_photo(entry):
        return misplaced
    if entry.is_symlink() and not os.path.exists(entry):
        return "a link to nothing"
    return "no file" if entry.suffix.lower() in SUFFIXES else "not a photo by its name"


def _check(classes: dict[str, list[Photo]], folder: Path, skipped: list[Skipped]) -> None:
    """Raise `InputError` unless one can learn from the training classes."""
    if not any(classes.values()):
        raise InputError(_nothing(folder, list(classes)))
    empty = [name for name, photos in classes.items() if not photos]
    if empty:
        inside = [
            one.path for one in skipped
            if class_name(Path(one.path).parent.name or "?", "") == empty[0]
        ]  # fmt: skip
        found = f" (only {some(inside)})" if inside else ""
        raise InputError(
            f"class {empty[0]!r} in {folder} has no photos{found}; add JPEG or "
            f"PNG photos directly into its folder, or move the folder out of {folder}"
        )
    if len(classes) == 1:
        raise InputError(
            f"folder {folder} has only one class, {next(iter(classes))!r}; "
            f"add a second: {_layout(folder)}"
        )


def _nothing(folder: Path, classes: list[str]) -> str:
    if classes and (deeper := advice.below(folder, classes)):
        return deeper
    if not holds_photos(folder):
        return f"folder {folder} has no photos; {_layout(folder)}"
    above = advice.above(folder)
    hint = f"if they are one class of several, give {quoted(above)}; else " if above else ""
    return f"folder {folder} holds photos but no class folders; {hint}{_layout(folder)}"


def _layout(folder: Path = Path("photos")) -> str:
    return (
        "put the photos into one subfolder per class, "
        f"for example {folder / 'cat' / '1.jpg'} and {folder / 'dog' / '1.jpg'}"
    )
