"""From photos with class names to a data set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.listing import words
from sharpzo.data.photo import Photo
from sharpzo.errors import InputError

Rows = list[tuple[Photo, str]]  # a photo and the name of its class


def class_name(text: str, where: str) -> str:
    """Return a class name as the model reads it: words with single spaces, none for underscores.

    Raises `InputError`, saying ``where`` it was found, if nothing is left or it is no text.

    >>> class_name("ripe_tomato ", "folder ripe_tomato")
    'ripe tomato'
    """
    with suppress(UnicodeError):  # a process with an ASCII locale takes UTF-8 for single bytes
        text = os.fsencode(text).decode("utf-8")
    name = " ".join(words(text).split())
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise InputError(
            f"{where} has a name that is no UTF-8, so the model cannot read it; rename it"
        )
    if not any(character.isprintable() and not character.isspace() for character in name):
        raise InputError(f"{where} has no name that the model could read; rename it")
    return name


def dataset_of(rows: Mapping[str, Rows], source: str, **told: Any) -> Dataset:
    """Return the data set of the photos of each split; its classes are those of train, sorted.

    Without train it is for testing only, and has the classes of the others. ``told`` are further
    fields of the `Dataset`.
    """
    known = [rows["train"]] if rows.get("train") else list(rows.values())
    names = tuple(sorted({name for split in known for _, name in split}))
    index = {name: k for k, name in enumerate(names)}

    def labelled(split: str) -> LabelledPhotos:
        # Sorted by class; within one the photos keep their order.
        ordered = sorted(rows.get(split, ()), key=lambda row: index[row[1]])
        labels = np.array([index[name] for _, name in ordered], dtype=np.int64)
        return LabelledPhotos(tuple(photo for photo, _ in ordered), labels, names)

    train, val, test = (labelled(split) for split in ("train", "val", "test"))
    return Dataset(
        names, train, val if len(val) else None, test if len(test) else None, source, **told
    )
