"""The protocols of few-shot learning: CoOp's draws, to the photo, and CoCoOp's class halves."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.settings import integer

VALIDATION_SHOTS = 4  # per class, as in CoOp: min(shots, 4)
Groups = dict[int, list[int]]  # label -> rows


def draw(dataset: Dataset, shots: int | None, seed: int) -> Dataset:
    """Return ``dataset`` with ``shots`` training photos per class and a small validation split.

    CoOp's rule: with Python's generator seeded once, group ``train`` by label in the order of
    first appearance, sample ``shots`` of each group (all of a group that has fewer), go on in the
    same way with min(``shots``, 4) of ``val``. So published seeds draw the published photos.

    Without a ``val`` split, one is carved from the photos of ``train`` that were not drawn,
    again min(``shots``, 4) per class. A class of n photos, too few for both, holds out n // 5, but
    at least one, and trains on the rest; a class with one photo gets no validation photo. Where
    classes fall short, ``notes`` says so.

    ``shots=None`` takes all photos of ``train`` (less the carved ones) and of ``val``. The test
    split is handed on untouched; Python's global generator is never used.

    Photos of a class called "none" are counter-examples, all of them (`Dataset.without_none`).

    Raises `InputError` if ``shots`` is below 1, ``seed`` is not an integer, or there are no
    training photos.
    """
    if shots is not None:
        shots = integer("shots", shots)
        if shots < 1:
            raise InputError(f"shots is {shots}; give 1 or more photos per class")
    rng = random.Random(integer("seed", seed))
    dataset = dataset.without_none()
    whole = dataset.training()
    train, val = whole, dataset.val
    if val is None:
        drawn, held = _carve(_groups(whole), shots, rng)
        train, val = whole.take(drawn), whole.take(held) if held else None
    elif shots is not None:
        train = _few(whole, shots, rng)
        val = _few(val, min(shots, VALIDATION_SHOTS), rng)
    few = replace(dataset, train=train, val=val, shots=shots)
    return replace(few, notes=(*dataset.notes, *_notes(few, dataset.val is None)))


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Return the data set of the first ceil(K / 2) classes, base, and that of the others, new.

    CoCoOp's protocol: labels are sorted, each half counts its labels from 0, and the few-shot
    draw over all classes comes first, so that a seed draws the same photos of a base class in
    both protocols: ``base, new = halves(draw(dataset, shots=16, seed=1))``.

    Raises `InputError` if there are fewer than two classes.

    >>> from sharpzo.data.demo import load_demo
    >>> base, new = halves(load_demo())
    >>> base.class_names[-1], new.class_names[0], len(new.train)
    ('coat', 'sandal', 80)
    """
    classes = len(dataset.class_names)
    if classes < 2:
        raise InputError(f"{dataset.source} has {classes} class; halves need two or more")
    middle = math.ceil(classes / 2)

    def half(start: int, stop: int, what: str) -> Dataset:
        names = dataset.class_names[start:stop]

        def kept(split: LabelledPhotos) -> LabelledPhotos:
            rows = np.flatnonzero((split.labels >= start) & (split.labels < stop))
            part = split.take(rows)
            return LabelledPhotos(part.photos, part.labels - start, names)

        return dataset.each(kept, class_names=names, source=f"{dataset.source}, {what} classes")

    return half(0, middle, "base"), half(middle, classes, "new")


def half_of(dataset: Dataset, half: str | None) -> Dataset:
    """The "base" or the "new" half of the classes; None: all of them."""
    return dataset if half is None else halves(dataset)[half == "new"]


def _groups(split: LabelledPhotos) -> Groups:
    groups: Groups = {}
    for row, label in enumerate(split.labels.tolist()):
        groups.setdefault(label, []).append(row)
    return groups


def _few(split: LabelledPhotos, count: int, rng: random.Random) -> LabelledPhotos:
    groups = _groups(split)
    return split.take(_sample(groups, dict.fromkeys(groups, count), rng))


def _sample(groups: Groups, counts: Mapping[int, int], rng: random.Random) -> list[int]:
    """Return sampled rows, group after group; as in Dassl, a short group consumes no randomness."""
    drawn: list[int] = []
    for label, rows in groups.items():
        drawn += rng.sample(rows, counts[label]) if len(rows) >= counts[label] else rows
    return drawn


def _carve(groups: Groups, shots: int | None, rng: random.Random) -> tuple[list[int], list[int]]:
    """Return the rows for training and for validation; the two never meet."""
    held = {label: _held_out(len(rows), shots or len(rows)) for label, rows in groups.items()}
    kept = {label: min(shots or len(r), len(r) - held[label]) for label, r in groups.items()}
    drawn = _sample(groups, kept, rng)
    taken = set(drawn)
    rest = {label: [row for row in rows if row not in taken] for label, rows in groups.items()}
    return drawn, _sample(rest, held, rng)


def _held_out(n: int, shots: int) -> int:
    """Return how many of a class's n photos validate: what training leaves, or a fifth."""
    if n < 2:
        return 0
    return min(shots, VALIDATION_SHOTS, max(n - shots, n // 5, 1))


def _notes(few: Dataset, carved: bool) -> list[str]:
    notes = []
    counts = few.train.counts()
    short = sum(1 for n in counts if few.shots and n < few.shots)
    if short:
        notes.append(
            f"{short} of {len(counts)} classes have fewer than {few.shots} training photos; the "
            f"fewest: {counts.min()} of {few.class_names[int(counts.argmin())]!r}"
        )
    if few.val is None:
        notes.append("no class has a photo to spare for validation: there is no validation split")
        return notes
    if carved:
        notes.append(f"{len(few.val)} training photos were set aside for validation")
    missing = np.flatnonzero(few.val.counts() == 0)
    if len(missing):
        notes.append(
            f"{len(missing)} of {len(counts)} classes have no validation photo, "
            f"{few.class_names[missing[0]]!r} first"
        )
    return notes
