"""The entries of a folder: photos, folders of classes or splits, and what is skipped."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sharpzo.data.decoding import SUFFIXES
from sharpzo.errors import InputError

HIDDEN = "hidden"
OF_A_PROGRAM = "kept by a program or system"
OWN = "written by sharpzo"
LOOP = "a link to a folder above"
# In lower case. Thumbnails and recycle bins of network disks hold photos that are not data.
_KEPT = frozenset({
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "#recycle", "#snapshot",
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000", "lost+found",
    "__macosx", "__pycache__", "node_modules", "picasaoriginals",
})  # fmt: skip
# Every folder that fit, demo and bench write has one of these.
_OWN = ("run.json", "history.jsonl", "bench.json")
_SPLITS = {
    "train": "train|training|trn",
    "val": "val|valid|validation|dev|devel|development",
    "test": "test|testing|tst|holdout",
    "eval": "eval|evaluation",
}
_WHAT = "(set|split|data|dataset|images?|imgs?|photos?|pictures?)?"
_SPLIT_NAMES = {
    split: re.compile(rf"({words}){_WHAT}(\d{{4}})?") for split, words in _SPLITS.items()
}


def split_name(name: str) -> str | None:
    """Return the split that a folder of this name is: train, val, test, or eval, which may be
    either of the last two; None for a class.

    >>> split_name("Training_Set"), split_name("val2017"), split_name("trainers")
    ('train', 'val', None)
    """
    plain = re.sub(r"[\s_.-]+", "", name.casefold())
    return next((split for split, words in _SPLIT_NAMES.items() if words.fullmatch(plain)), None)


def entries(folder: Path) -> list[Path]:
    """Return what lies in ``folder``, sorted by name; InputError if it cannot be read."""
    try:
        return sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from error


def passed_over(entry: Path) -> str | None:
    """Return why an entry is neither photos nor a class, whatever is in it; None if it may be.

    Hidden entries, folders of systems and programs, folders that sharpzo wrote and links that lead
    back are passed over.
    """
    if entry.name.startswith("."):
        return HIDDEN
    if not os.path.isdir(entry):
        return None
    if entry.name.casefold() in _KEPT:
        return OF_A_PROGRAM
    if is_own(entry):
        return OWN
    if entry.is_symlink():
        home = entry.parent.resolve()  # DATA itself may be a link, too
        if entry.resolve() in (home, *home.parents, *entry.absolute().parents):
            return LOOP
    return None


def is_own(folder: Path) -> bool:
    """Whether ``fit`` or ``bench`` wrote the folder.

    A folder that has photos, or class folders, is not one, whatever else is in it.
    """
    if not any(os.path.isfile(folder / name) for name in _OWN):
        return False
    inner = [entry for entry in entries(folder) if os.path.isdir(entry)]
    return not any(holds_photos(one) for one in (folder, *inner))


def is_photo(entry: Path) -> bool:
    """Whether ``entry`` is a file with the name of a photo; it is not opened."""
    return _named_as_photo(entry.name) and os.path.isfile(entry)


def photos_in(folder: Path) -> list[Path]:
    """Return the photos that lie in ``folder`` itself, sorted."""
    return sorted(_photos_in(folder), key=lambda photo: photo.name)


def holds_photos(folder: Path) -> bool:
    """Whether photos lie in ``folder`` itself."""
    return next(_photos_in(folder), None) is not None


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that may be classes or splits."""
    return [e for e in entries(folder) if os.path.isdir(e) and passed_over(e) is None]


def photos_below(folder: Path) -> Iterator[Path]:
    """Yield all photos in ``folder`` and below, sorted; linked folders are not entered."""
    for entry in entries(folder):
        if is_photo(entry):
            yield entry
            continue
        try:
            if os.path.isdir(entry) and not entry.is_symlink() and passed_over(entry) is None:
                yield from photos_below(entry)
        except InputError:
            if os.path.isdir(entry):  # or it has been taken away meanwhile, and has none
                raise


def _photos_in(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:  # it tells files from folders, and lists a million fast
            for entry in found:
                if _named_as_photo(entry.name) and (
                    entry.is_file(follow_symlinks=False) or os.path.isfile(entry)
                ):
                    yield Path(entry.path)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _named_as_photo(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")


def inside(relative: str) -> str:
    """Return ``relative``; ValueError if it leaves the folder that it is joined to."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or "\\" in relative or "\0" in relative:
        raise ValueError(f"path {relative!r} points out of the image folder")
    return relative


def _unreadable(folder: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"folder {folder} does not exist any more")
    return InputError(f"folder {folder} cannot be read ({error.strerror}); check its rights")
