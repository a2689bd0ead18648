"""Which folder was meant where the one that was given holds no classes: one level up or down."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from sharpzo.data.entries import holds_photos, photos_below, subfolders
from sharpzo.data.split_names import role
from sharpzo.errors import InputError
from sharpzo.wording import quoted, some

_DEPTH, _MOST = 3, 2000  # levels and folders that are looked into: advice must not take minutes


def above(folder: Path) -> Path | None:
    """Return the folder above if ``folder``, which holds photos, looks like one of its classes."""
    found = Path(os.path.abspath(folder)).parent
    try:
        if role(found.name) and _has_splits(found.parent):
            return found.parent
        return found if _has_classes(found) or _has_splits(found) else None
    except InputError:  # a folder beside it that may not be read
        return None


def below(folder: Path, classes: list[str]) -> str | None:
    """Return a sentence that names the folders below that hold class folders; None without any.

    ``classes`` are the names of the subfolders, none of which holds photos itself.
    """
    level = [folder]
    seen = 0
    for _ in range(_DEPTH):
        level = [inner for outer in level for inner in subfolders(outer)]
        seen += len(level)
        if seen > _MOST:
            break
        found = [str(quoted(one)) for one in level if _has_splits(one) or _has_classes(one)]
        if found:
            which = f"give {found[0]}" if len(found) == 1 else f"give one of them: {some(found)}"
            return f"folder {folder} has its classes deeper than in its own subfolders; {which}"
    deep = next(photos_below(folder), None)
    if deep is None:
        return None
    return (
        f"folder {folder} has its photos too deep, such as {deep.relative_to(folder)}; move them "
        f"up, directly into the folder of their class ({some(classes)})"
    )


def _has_classes(folder: Path, many: int = 2) -> bool:
    found = (inner for inner in subfolders(folder)[:_MOST] if holds_photos(inner))
    return len(list(islice(found, many))) == many


def _has_splits(folder: Path) -> bool:
    return any(role(inner.name) and _has_classes(inner, 1) for inner in subfolders(folder)[:_MOST])
