"""Check all photos before any work: which cannot be used, and which are duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from sharpzo.data.dataset import NONE, Dataset, LabelledPhotos, Skipped
from sharpzo.errors import InputError, PhotoError
from sharpzo.wording import some

Splits = Mapping[str, LabelledPhotos]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Checked:
    """``errors`` of photos that cannot be used, and digests of the others by their names."""

    errors: tuple[PhotoError, ...]
    digests: Mapping[str, str]


def check(
    splits: Splits,
    known: Callable[[Iterable[str]], set[str]] = lambda digests: set(),
    threads: int = 1,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Checked:
    """Read every photo of the splits once; those with a ``known`` digest are not decoded.

    ``known`` returns which of some digests are those of photos that have been decoded before.
    """
    photos = {photo.name: photo for split in splits.values() for photo in split.photos}
    with ThreadPoolExecutor(max_workers=threads) as pool:
        tried = pool.map(lambda photo: _tried(photo.digest), photos.values())
        found = dict(zip(photos, tried, strict=True))
        digests = {name: one for name, one in found.items() if isinstance(one, str)}
        seen = known(digests.values())
        unseen = [photos[name] for name, digest in digests.items() if digest not in seen]
        done = len(photos) - len(unseen)
        errors = pool.map(lambda photo: _tried(photo.check), unseen)
        for photo, error in zip(unseen, errors, strict=True):
            done += 1
            progress(done, len(photos))
            if error is not None:
                found[photo.name] = error
    refused = tuple(one for one in found.values() if isinstance(one, PhotoError))
    return Checked(refused, {name: one for name, one in found.items() if isinstance(one, str)})


def without(dataset: Dataset, errors: Iterable[PhotoError]) -> Dataset:
    """Return ``dataset`` without the photos of these errors, which it then lists as skipped.

    A split that loses all of its photos is None, but for training. Raises `InputError` if a class
    loses all of its training photos.
    """
    reasons = {error.photo: error.reason for error in errors}
    splits = dataset.train, dataset.val, dataset.test, dataset.none
    held = [photo.name for split in splits if split for photo in split.photos]
    lost = [name for name in held if name in reasons]
    if not lost:
        return dataset
    left = dataset.each(lambda split: split.without(reasons))
    gone = (dataset.train.counts() > 0) & (left.train.counts() == 0)
    if gone.any():
        label = int(gone.argmax())
        name = dataset.train.photos[np.flatnonzero(dataset.train.labels == label)[0]].name
        raise InputError(
            f"none of the training photos of class {dataset.class_names[label]!r} can be used, for "
            f"example {PhotoError(name, reasons[name])}; add others, or leave out the class"
        )
    return replace(
        left,
        val=left.val or None,
        test=left.test or None,
        none=(dataset.none and dataset.none.without(reasons)) or None,
        skipped=dataset.skipped + tuple(Skipped(name, reasons[name]) for name in lost),
        notes=(
            *dataset.notes,
            f"{len(lost):,} of {len(held):,} photos cannot be used and were left out: {some(lost)}",
        ),
    )


def duplicates(splits: Splits, digests: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for photos in two classes, and for those in two splits.

    ``training`` among the names of the splits is what photos should not be shared with.
    """
    first: dict[str, tuple[str, str]] = {}  # digest -> class, photo
    pairs, notes = [], []
    train = splits.get("training")
    trained = {digests.get(photo.name) for photo in train.photos} - {None} if train else set()
    for name, split in splits.items():
        shared = []
        for photo, label in zip(split.photos, split.labels, strict=True):
            digest, label_name = digests.get(photo.name), split.class_names[label]
            if digest is None:
                continue
            other, same = first.setdefault(digest, (label_name, photo.name))
            if other != label_name:
                pairs.append(f"{same} ({other}) and {photo.name} ({label_name})")
            if digest in trained and split is not train and name != NONE:
                shared.append(photo.name)
        if shared:
            notes.append(
                f"{len(shared):,} of {len(split):,} {name} photos are training photos as well, so "
                f"accuracy on them is too high: {some(shared, limit=2)}"
            )
    if pairs:
        wrong = f"the same photo has two classes, so one of them is wrong: {some(pairs, limit=2)}"
        notes.insert(0, wrong)
    return tuple(notes)


def _tried(read: Callable[[], T]) -> T | PhotoError:
    try:
        return read()
    except PhotoError as error:
        return error
