"""Photos with labels, and the splits of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharpzo.data.photo import Photo
from sharpzo.errors import InputError
from sharpzo.types import Array

TEMPLATE = "a photo of a {}."
REMARKS = 1000  # files that were left out are recorded: a run's record stays small


@dataclass(frozen=True, eq=False)
class LabelledPhotos:
    """N photos and their labels: int64 (N,) into ``class_names``; nothing is decoded yet.

    Raises `InputError` if the lengths differ or a label has no class name.
    """

    photos: tuple[Photo, ...]
    labels: Array
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.size and labels.dtype.kind not in "iu":
            raise InputError(f"labels are {labels.dtype}; give integers")
        labels = labels.astype(np.int64)  # a copy: nobody else can change it
        if labels.shape != (len(self.photos),):
            raise InputError(
                f"there are {len(self.photos)} photos and labels of shape {labels.shape}; "
                "give one label for each photo"
            )
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise InputError(
                f"labels run from {labels.min()} to {labels.max()}, but there are "
                f"{len(self.class_names)} class names; give labels from 0"
            )
        labels.flags.writeable = False
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "photos", tuple(self.photos))
        object.__setattr__(self, "class_names", tuple(self.class_names))

    def __len__(self) -> int:
        return len(self.photos)

    def decoded(self) -> Iterator[Array]:
        """Yield the pixels of each photo, uint8 (H, W, 3), one in memory at a time."""
        return (photo.decode() for photo in self.photos)

    def counts(self) -> Array:
        """Return the number of photos of each class, int64 (K,)."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def take(self, rows: Iterable[int]) -> LabelledPhotos:
        """Return the photos of ``rows``, in that order."""
        rows = list(rows)
        photos = tuple(self.photos[row] for row in rows)
        return LabelledPhotos(photos, self.labels[rows], self.class_names)

    def without(self, names: Container[str]) -> LabelledPhotos:
        """Return the photos that are called otherwise."""
        return self.take(i for i, photo in enumerate(self.photos) if photo.name not in names)

    def digest(self) -> str:
        """Return the SHA-256 of the photos' contents in order; names and labels do not count."""
        return combined(photo.digest() for photo in self.photos)


def combined(digests: Iterable[str]) -> str:
    """Return the SHA-256 of photos with these digests, in this order."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


@dataclass(frozen=True)
class Skipped:
    """A file or folder that was left out, relative to the data's folder, and why in a few words."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """The splits of a data set, over the same class names.

    ``train`` is empty in a data set for testing only. ``val`` chooses and may be missing until a
    draw carves one; ``test`` is for the evaluation alone. ``source`` says in a few words where the
    photos come from, ``template`` is the hand-made prompt, ``skipped`` lists the files that were
    left out and ``notes`` are sentences that the user should see.
    ``shots`` is how many photos per class a draw was asked for (None: all of them).
    """

    class_names: tuple[str, ...]
    train: LabelledPhotos
    val: LabelledPhotos | None
    test: LabelledPhotos | None
    source: str
    template: str = TEMPLATE
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    shots: int | None = None

    def __post_init__(self) -> None:
        for split in (self.train, self.val, self.test):
            if split is not None and split.class_names != self.class_names:
                raise InputError(
                    f"the splits of {self.source} have different class names; "
                    "give each split the class names of the data set"
                )

    def remarks(self) -> dict[str, Any]:
        """Return what run.json keeps of notes and of what was left out."""
        skipped = [{"path": one.path, "reason": one.reason} for one in self.skipped[:REMARKS]]
        return {"notes": list(self.notes), "skipped": skipped}

    def training(self) -> LabelledPhotos:
        """Return ``train``; InputError if it has no photos, as in a data set for testing only."""
        if not len(self.train):
            raise InputError(
                f"{self.source} has no training photos; tune on another data set, "
                "this one is for evaluation only"
            )
        return self.train
