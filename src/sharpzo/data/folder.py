"""A folder of the user: one subfolder per class, with or without train/, val/ and test/ above."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from pathlib import Path

from sharpzo.data.dataset import Dataset, Skipped, class_name
from sharpzo.data.decoding import SUFFIXES
from sharpzo.data.entries import (
    entries,
    holds_photos,
    is_own,
    is_photo,
    passed_over,
    photos_below,
    split_name,
    subfolders,
)
from sharpzo.data.photo import Photo
from sharpzo.errors import InputError
from sharpzo.wording import quoted, some

_READ_AS = {"train": "training", "val": "validation", "test": "test"}
_PLAIN = ("train", "val", "valid", "validation", "test")  # these need no note
_DEPTH, _MOST = 3, 2000  # levels and folders that advice looks into: it must not take minutes


def read_folder(root: str | os.PathLike[str]) -> Dataset:
    """Read a folder of photos; a class is called like its subfolder, with spaces for underscores.

    Two layouts are understood: ``root/<class>/<photo>``, all of it for training, and
    ``root/<split>/<class>/<photo>`` with the splits train, val and test, by these names or by
    others in use (see `sharpzo.data.entries.split_name`); without train the data set is for testing
    only. Classes and photos are sorted by name, so the order does not depend on the file system.
    Hidden files, files that are no photos by their suffix, deeper folders, and folders of a system
    or of sharpzo are left out and listed in ``skipped``. No photo is opened.

    Raises `InputError` if the folder is missing, is empty, holds photos but no class folders, has
    fewer than two classes, a class without photos, classes beside its splits, or a val or test
    class that train lacks.
    """
    root = Path(root)
    check_folder(root)
    splits = _split_folders(root)
    walk = _Walk(root)
    for entry in entries(root) if splits else ():
        if entry not in splits.values():
            bare = split_name(entry.name) and os.path.isdir(entry) and holds_photos(entry)
            walk.skip(entry, "photos in no class folder" if bare else "beside the splits")
    found = {split: walk.classes(folder) for split, folder in (splits or {"train": root}).items()}
    if "train" in found:
        _check_training(found["train"], splits.get("train", root), walk.skipped)
    notes = [
        f"folder {folder.name}/ is read as the {_READ_AS[split]} split"
        for split, folder in splits.items()
        if folder.name.casefold() not in _PLAIN
    ]
    return Dataset.of_rows(
        {
            split: [(photo, name) for name, photos in classes.items() for photo in photos]
            for split, classes in found.items()
        },
        source=f"folder {root}",
        skipped=walk.skipped,
        notes=notes,
    )


def read_classes(root: str | os.PathLike[str]) -> tuple[list[Photo], list[str]]:
    """Read ``root/<class>/<photo>``, one class or more: the photos, and the class name of each.

    Raises `InputError` for what `read_folder` refuses, and for a folder with splits: which of them
    is meant is for the caller to say.
    """
    root = Path(root)
    check_folder(root)
    if splits := _split_folders(root):
        given = [quoted(folder) for folder in splits.values()]
        raise InputError(
            f"folder {root} has splits, not classes; give "
            f"{given[0] if len(given) == 1 else f'one of them: {some(given)}'}"
        )
    walk = _Walk(root)
    found = walk.classes(root)
    _check_training(found, root, walk.skipped)
    rows = [(photo, name) for name, photos in found.items() for photo in photos]
    return [photo for photo, _ in rows], [name for _, name in rows]


def check_folder(root: Path) -> None:
    """Raise `InputError` if ``root`` is not a folder that could hold photos of the user."""
    if not os.path.isdir(root):
        if os.path.exists(root):
            raise InputError(
                f"{root} is a file; give the folder or zip file of the photos (labels of them in a "
                "file: --labels)"
            )
        raise InputError(f"folder {root} does not exist; check the path")
    if is_own(root):
        raise InputError(f"folder {root} is one that sharpzo wrote, not one of photos; {_layout()}")


class _Walk:
    """Lists the classes below ``root``, and what it left out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[Skipped] = []

    def skip(self, entry: Path, misplaced: str) -> None:
        """Leave an entry out; ``misplaced`` says why if nothing is wrong but its place."""
        folder = os.path.isdir(entry)
        reason = passed_over(entry)
        if reason is None:
            if folder or is_photo(entry):
                reason = misplaced
            elif entry.is_symlink() and not os.path.exists(entry):
                reason = "a link to nothing"
            else:
                named = entry.suffix.lower() in SUFFIXES
                reason = "no file" if named else "not a photo by its name"
        path = entry.relative_to(self.root).as_posix()
        self.skipped.append(Skipped(f"{path}/" if folder else path, reason))

    def classes(self, folder: Path) -> dict[str, list[Photo]]:
        """Class name -> photos, both sorted."""
        classes: dict[str, list[Photo]] = {}
        for entry in entries(folder):
            if not os.path.isdir(entry) or passed_over(entry):
                self.skip(entry, "in no class folder")
                continue
            name = class_name(entry.name, f"class folder {entry}")
            if name in classes:
                raise InputError(
                    f"{folder} has two folders for class {name!r}; merge them, or rename one"
                )
            classes[name] = self._photos(entry)
        return dict(sorted(classes.items()))

    def _photos(self, folder: Path) -> list[Photo]:
        """The photos that lie in ``folder`` itself."""
        photos = []
        for entry in entries(folder):
            if is_photo(entry):
                photos.append(Photo(str(entry), path=entry))
            else:
                self.skip(entry, "a folder inside a class")
        return photos


def _split_folders(root: Path) -> dict[str, Path]:
    """Return split name -> folder; empty if the subfolders of ``root`` are classes.

    Raises `InputError` if there are two for one split, or classes beside them.
    """
    folders = subfolders(root)
    named: dict[str, Path] = {}
    for folder in folders:
        split = split_name(folder.name)
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
    others = [f"{f.name}/" for f in folders if f not in named.values() and holds_photos(f)]
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


def _check_training(classes: dict[str, list[Photo]], folder: Path, skipped: list[Skipped]) -> None:
    """Raise `InputError` unless one can learn from the training classes."""
    if not any(classes.values()):
        raise InputError(_without_photos(folder, list(classes)))
    empty = next((name for name, photos in classes.items() if not photos), None)
    if empty is not None:
        inside = [
            one.path for one in skipped
            if class_name(Path(one.path).parent.name or "?", "") == empty
        ]  # fmt: skip
        only = f" (only {some(inside)})" if inside else ""
        raise InputError(
            f"class {empty!r} in {folder} has no photos{only}; add JPEG or "
            f"PNG photos directly into its folder, or move the folder out of {folder}"
        )


def _layout(folder: Path = Path("photos")) -> str:
    return (
        "put the photos into one subfolder per class, "
        f"for example {folder / 'cat' / '1.jpg'} and {folder / 'dog' / '1.jpg'}"
    )


def _without_photos(folder: Path, classes: list[str]) -> str:
    """What to say of a folder none of whose ``classes`` has photos: a folder one level up or down
    may have been meant."""
    if classes and (deeper := _deeper(folder, classes)):
        return deeper
    if not holds_photos(folder):
        return f"folder {folder} has no photos; {_layout(folder)}"
    # It may be a class itself, of a split or of the folder above.
    parent, above = Path(os.path.abspath(folder)).parent, None
    with suppress(InputError):  # a folder beside it that may not be read
        outer = [parent.parent] if split_name(parent.name) else []
        above = next(filter(_holds_classes, (*outer, parent)), None)
    hint = f"if they are one class of several, give {quoted(above)}; else " if above else ""
    return f"folder {folder} holds photos but no class folders; {hint}{_layout(folder)}"


def _deeper(folder: Path, classes: list[str]) -> str | None:
    """A sentence that names the folders below that hold class folders; None without photos."""
    level, seen = [folder], 0
    for _ in range(_DEPTH):
        level = [inner for outer in level for inner in subfolders(outer)]
        seen += len(level)
        if seen > _MOST:
            break
        found = [quoted(one) for one in filter(_holds_classes, level)]
        if found:
            which = f"give {found[0]}" if len(found) == 1 else f"give one of them: {some(found)}"
            return f"folder {folder} has its classes deeper than in its own subfolders; {which}"
    deep = next(photos_below(folder), None)
    return deep and (
        f"folder {folder} has its photos too deep, such as {deep.relative_to(folder)}; move them "
        f"up, directly into the folder of their class ({some(classes)})"
    )


def _holds_classes(folder: Path) -> bool:
    """Whether two folders in it have photos, or a split has one that has some."""
    inner = subfolders(folder)[:_MOST]
    splits = [one for one in inner if split_name(one.name)]
    if any(holds_photos(one) for split in splits for one in subfolders(split)[:_MOST]):
        return True
    return len(list(islice(filter(holds_photos, inner), 2))) == 2
