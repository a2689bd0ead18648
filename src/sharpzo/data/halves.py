"""Base and new classes: the two halves of base-to-new generalisation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.errors import InputError


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Return the data set of the first ceil(K / 2) classes and that of the others.

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
    return (
        _part(dataset, 0, middle, "base classes"),
        _part(dataset, middle, classes, "new classes"),
    )


def _part(dataset: Dataset, start: int, stop: int, what: str) -> Dataset:
    names = dataset.class_names[start:stop]

    def kept(split: LabelledPhotos | None) -> LabelledPhotos | None:
        if split is None:
            return None
        rows = np.flatnonzero((split.labels >= start) & (split.labels < stop))
        photos = tuple(split.photos[row] for row in rows)
        return LabelledPhotos(photos, split.labels[rows] - start, names)

    return replace(
        dataset,
        class_names=names,
        train=kept(dataset.train),
        val=kept(dataset.val),
        test=kept(dataset.test),
        source=f"{dataset.source}, {what}",
    )
