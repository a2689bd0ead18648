"""Photos with labels, the splits of a data set, and class names as the model reads them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sharpzo.data.entries import HIDDEN
from sharpzo.data.layouts import TEMPLATE as TEMPLATE
from sharpzo.data.photo import FixedView, Photo, View
from sharpzo.errors import InputError
from sharpzo.types import Array
from sharpzo.wording import some

NONE = "none"  # the class of photos that are of no class
REMARKS = 1000  # files that were left out are recorded: a run's record stays small
Rows = list[tuple[Photo, str]]  # a photo and the name of its class


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
        labels = labels.astype(np.int64)  # a copy, which no caller can change
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

    def sized(self, least: int | None) -> LabelledPhotos:
        """Return the same photos, decoded small (see `Photo.sized`)."""
        return replace(self, photos=tuple(photo.sized(least) for photo in self.photos))

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

    def views(
        self, many: int, side: int, seed: int = 1, scale: tuple[float, float] = (0.08, 1.0)
    ) -> LabelledPhotos:
        """Return ``many`` augmented views of each of N photos, view-major: row v * N + i."""
        if many < 1:
            raise InputError(f"views is {many}; give 1 or more")
        made = tuple(
            View(
                photo.name,
                photo.path,
                photo.pixels,
                seed,
                i,
                v,
                side,
                scale,
                content=photo.content,
            )
            for v in range(many)
            for i, photo in enumerate(self.photos)
        )
        return LabelledPhotos(made, np.tile(self.labels, many), self.class_names)

    def seen(self, view: str) -> LabelledPhotos:
        """Return the photos through one of `FIXED_VIEWS`."""
        photos = tuple(
            FixedView(p.name, p.path, p.pixels, view, content=p.content, least=p.least)
            for p in self.photos
        )
        return replace(self, photos=photos)

    def apart(self) -> tuple[LabelledPhotos, LabelledPhotos | None]:
        """Return the photos of classes, and those of class `NONE` if it is one of the names;
        InputError if there are no others."""
        if NONE not in self.class_names:
            return self, None
        last = self.class_names.index(NONE)
        known = self.take(np.flatnonzero(self.labels != last))
        if not known:
            raise InputError(f"all photos are of class {NONE!r}; add photos of the run's classes")
        names = tuple(name for name in self.class_names if name != NONE)
        labels = known.labels - (known.labels > last)
        others = strange(self.take(np.flatnonzero(self.labels == last)).photos)
        return LabelledPhotos(known.photos, labels, names), others

    def digest(self) -> str:
        """Return the SHA-256 of the photos' contents in order; names and labels do not count."""
        return combined(photo.digest() for photo in self.photos)


def strange(photos: Iterable[Photo]) -> LabelledPhotos:
    """Photos of no class, which have one name, `NONE`."""
    found = tuple(photos)
    return LabelledPhotos(found, np.zeros(len(found), np.int64), (NONE,))


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
    ``none`` are photos of no class, counter-examples, if there are any.
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
    none: LabelledPhotos | None = None

    def __post_init__(self) -> None:
        for split in (self.train, self.val, self.test):
            if split is not None and split.class_names != self.class_names:
                raise InputError(
                    f"the splits of {self.source} have different class names; "
                    "give each split the class names of the data set"
                )

    @classmethod
    def of_rows(
        cls,
        rows: Mapping[str, Rows],
        source: str,
        skipped: Sequence[Skipped] = (),
        notes: Iterable[str] = (),
    ) -> Dataset:
        """Return the data set of the photos of each split; its classes are those of train, sorted.

        Without train it is for testing only, and has the classes of the others. Photos are sorted
        by class, and keep their order within one. A note says what was ``skipped``.

        Raises `InputError` if train has only one class, or lacks a class of another split.
        """
        train = rows.get("train")
        known = [train] if train else list(rows.values())
        names = tuple(sorted({name for split in known for _, name in split}))
        if train and len(names) == 1:
            raise InputError(
                f"{source} has only one class for training, {names[0]!r}; add photos of a second"
            )
        index = {name: k for k, name in enumerate(names)}

        def labelled(split: str) -> LabelledPhotos:
            given = rows.get(split, ())
            unknown = next((name for _, name in given if name not in index), None)
            if unknown is not None:
                raise InputError(
                    f"{source} has class {unknown!r} in split {split}, which train lacks; add "
                    f"training photos of it, or remove it from {split}"
                )
            ordered = sorted(given, key=lambda row: index[row[1]])
            labels = np.array([index[name] for _, name in ordered], dtype=np.int64)
            return LabelledPhotos(tuple(photo for photo, _ in ordered), labels, names)

        return cls(
            names,
            labelled("train"),
            labelled("val") or None,
            labelled("test") or None,
            source,
            skipped=tuple(skipped),
            notes=(*notes, *_skip_notes(skipped)),
        )

    @property
    def splits(self) -> dict[str, LabelledPhotos]:
        """The splits that have photos, by the names that messages use."""
        named = {"training": self.train, "validation": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split}

    def each(self, change: Callable[[LabelledPhotos], LabelledPhotos], **fields: Any) -> Dataset:
        """Return the data set with every split that is there changed, and with other ``fields``."""
        for name in ("train", "val", "test"):
            split = getattr(self, name)
            fields[name] = split if split is None else change(split)
        return replace(self, **fields)

    def without_none(self) -> Dataset:
        """Return the data set without its class `NONE`, whose training and validation photos are
        then counter-examples; InputError if one class is left."""
        if NONE not in self.class_names:
            return self
        last = self.class_names.index(NONE)
        names = tuple(name for name in self.class_names if name != NONE)
        if len(names) < 2:
            raise InputError(
                f"{self.source} has only one class beside {NONE!r}, which stands for photos of no "
                "class; add photos of a second"
            )

        def kept(split: LabelledPhotos) -> LabelledPhotos:
            part = split.take(np.flatnonzero(split.labels != last))
            return LabelledPhotos(part.photos, part.labels - (part.labels > last), names)

        aside = [
            photo
            for split in (self.train, self.val)
            if split is not None
            for photo in split.take(np.flatnonzero(split.labels == last)).photos
        ]
        rest = self.each(kept, class_names=names, none=strange(aside) if aside else None)
        return replace(
            rest,
            val=rest.val or None,
            test=rest.test or None,
            notes=(*self.notes, f"{len(aside):,} photos of class {NONE!r} are counter-examples"),
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


def _skip_notes(skipped: Sequence[Skipped]) -> list[str]:
    """One sentence, by reason; hidden files, such as .DS_Store, are not worth one."""
    reasons: dict[str, list[str]] = {}
    for one in skipped:
        if one.reason != HIDDEN or one.path.endswith("/"):
            reasons.setdefault(one.reason, []).append(one.path)
    if not reasons:
        return []
    many = sum(map(len, reasons.values()))
    what = "1 file or folder was" if many == 1 else f"{many:,} files or folders were"
    which = "; ".join(f"{some(paths)} ({reason})" for reason, paths in reasons.items())
    return [f"{what} left out: {which}"]


def class_name(text: str, where: str) -> str:
    """Return a class name as the model reads it: words with single spaces, none for underscores.

    `NONE` is itself in capitals, too. Raises `InputError`, saying ``where`` it was found, if
    nothing is left or it is no text.

    >>> class_name("ripe_tomato ", "folder ripe_tomato"), class_name("None", "folder None")
    ('ripe tomato', 'none')
    """
    with suppress(UnicodeError):  # a process with an ASCII locale takes UTF-8 for single bytes
        text = os.fsencode(text).decode("utf-8")
    name = " ".join(text.replace("_", " ").split())
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise InputError(
            f"{where} has a name that is no UTF-8, so the model cannot read it; rename it"
        )
    if not any(character.isprintable() and not character.isspace() for character in name):
        raise InputError(f"{where} has no name that the model could read; rename it")
    return NONE if name.lower() == NONE else name
