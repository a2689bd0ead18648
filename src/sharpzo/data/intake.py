"""From what the user names to a data set that is ready to be encoded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sharpzo.data.coop import find_coop, read_coop
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.draw import draw
from sharpzo.data.folder import read_folder
from sharpzo.data.photos import as_photo
from sharpzo.errors import InputError


def load(
    data: str | os.PathLike[str],
    dataset: str | None = None,
    shots: int | None = None,
    seed: int = 1,
) -> Dataset:
    """Read the folder ``data`` and draw ``shots`` photos a class (None: all) with ``seed``.

    ``dataset`` names a data set in CoOp's layout (see `sharpzo.data.layouts.LAYOUTS`); without it
    ``data`` is a folder with one subfolder a class (see `sharpzo.data.folder.read_folder`).

    Raises `InputError` as the readers do, and if CoOp's layout is met without its name.
    """
    return draw(read(data, dataset), shots, seed)


def read(data: str | os.PathLike[str], dataset: str | None = None) -> Dataset:
    """Read the folder ``data`` whole, without drawing; errors as `load`."""
    if dataset is not None:
        return read_coop(data, dataset)
    names = find_coop(data)
    if names:
        choice = " or ".join(f"--dataset {name}" for name in names)
        raise InputError(
            f"folder {data} has CoOp's layout; add {choice} (in Python: dataset={names[0]!r})"
        )
    return read_folder(data)


def label(
    photos: Sequence[Any], labels: Sequence[Any], shots: int | None = None, seed: int = 1
) -> Dataset:
    """Draw ``shots`` photos a class (None: all) from photos with one label, a class name, each.

    Raises `InputError` if the lengths differ or the labels name fewer than two classes.
    """
    if len(labels) != len(photos):
        raise InputError(
            f"there are {len(photos)} photos and {len(labels)} labels; give one label "
            "(a class name) for each photo"
        )
    names = tuple(sorted({str(label) for label in labels}))
    if len(names) < 2:
        raise InputError(f"the labels name {len(names)} class; give photos of at least two")
    index = {name: k for k, name in enumerate(names)}
    many = LabelledPhotos(
        tuple(as_photo(photo, f"photo {i}") for i, photo in enumerate(photos)),
        np.array([index[str(label)] for label in labels]),
        names,
    )
    return draw(Dataset(names, many, None, None, source="photos in memory"), shots, seed)
