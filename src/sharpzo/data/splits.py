"""CoOp's split files: one JSON document that names the photos of train, val and test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sharpzo.data.layouts import Layout
from sharpzo.data.listing import Listing, inside, unusable, words

_ADVICE = "fetch CoOp's original again"


def list_split(folder: Path, layout: Layout) -> Listing:
    """Read the split file; the rows keep its order, which the draws depend on.

    Raises `InputError` if the file is damaged, points out of the image folder, or does not give
    each label from 0 exactly one class name.
    """
    # Stanford Cars has two image folders; its paths begin with one of them.
    images = folder / layout.images[0] if len(layout.images) == 1 else folder
    file = folder / layout.index[0]
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        rows = {
            split: [_row(item) for item in content[split]] for split in ("train", "val", "test")
        }
        class_names = _class_names(rows)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise unusable(file, error, _ADVICE) from error
    return Listing(
        class_names,
        {
            split: [(str(images / relative), label) for relative, label, _ in items]
            for split, items in rows.items()
        },
    )


def _row(item: Any) -> tuple[str, int, str]:
    relative, label, name = item
    if not (isinstance(relative, str) and type(label) is int and isinstance(name, str)):
        raise ValueError(f"expected a path, a label and a class name, found {item!r}")
    return inside(relative), label, words(name)


def _class_names(rows: dict[str, list[tuple[str, int, str]]]) -> tuple[str, ...]:
    pairs = sorted({(label, name) for split in rows.values() for _, label, name in split})
    if not pairs or [label for label, _ in pairs] != list(range(len(pairs))):
        raise ValueError("it does not give each label from 0 exactly one class name")
    return tuple(name for _, name in pairs)
