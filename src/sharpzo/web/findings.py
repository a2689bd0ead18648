"""What is wrong with photos, in sentences beside the photos that they are about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sharpzo.audit import Audit, audit
from sharpzo.data.dataset import Dataset
from sharpzo.errors import InputError
from sharpzo.towers.features import Progress
from sharpzo.towers.open import Towers
from sharpzo.towers.runtime import Runtime

SMALL = 64  # pixels: a shorter side has too little for a model that reads 224


@dataclass(frozen=True)
class Finding:
    """A sentence, and the photos that it is about, each a class and a file name; none where it is
    about classes. ``kind`` is unreadable, label, copy, small or class."""

    kind: str
    sentence: str
    photos: tuple[tuple[str, str], ...] = ()


def find_problems(
    photos: Dataset,
    model: str | None,
    cache: Path | None,
    checking: Callable[[int, int], object],
    encoding: Progress,
) -> dict[str, Any]:
    """Look through photos in folders of classes; the features that ``model`` (None: the embedded
    one) finds in them are kept in ``cache``.

    Returns, as JSON has it, the ``findings`` and ``recognised``, the share of the photos that are
    recognised when they are left out one by one (None: too few of them).
    """
    towers = Towers(model, Runtime(), decoding="reduced")
    found = audit(photos, towers, cache, None, checking, encoding)
    classes = [Finding("class", sentence) for sentence in found.of_classes]
    all_ = [*_of_photos(found), *_small(photos), *classes]
    return {"findings": [asdict(one) for one in all_], "recognised": found.accuracy}


def _of_photos(found: Audit) -> list[Finding]:
    names = found.photos.class_names
    places = [_place(photo.path) for photo in found.photos.photos]
    all_ = [
        Finding("unreadable", f"This file {error.reason}.", (_place(Path(error.photo)),))
        for error in found.errors
    ]
    for one in found.suspects:
        all_.append(Finding("label", f"Is it {names[one.likely]}?", (places[one.row],)))
    for copies in found.copies:
        group = tuple(places[row] for row in copies.rows)
        what = "the same file" if copies.exact else "the same picture"
        apart = len({label for label, _ in group}) > 1
        more = (
            "in several classes, so one at most is right" if apart else "which teaches nothing new"
        )
        all_.append(Finding("copy", f"{len(group)} times {what}, {more}.", group))
    return all_


def _small(photos: Dataset) -> list[Finding]:
    # The side of what cannot be read is 0.
    small = [_place(one.path) for one in photos.train.photos if 0 < one.shorter_side() < SMALL]
    if not small:
        return []
    many = "1 photo is" if len(small) == 1 else f"{len(small):,} photos are"
    return [Finding(
        "small", f"{many} smaller than {SMALL} x {SMALL} pixels; larger ones show more.",
        tuple(small),
    )]  # fmt: skip


def _place(path: Path | None) -> tuple[str, str]:
    """The class folder and the name of a photo."""
    if path is None:
        raise InputError("the photo is no file")
    return path.parent.name, path.name
