"""From what the user names to a data set that is ready to be encoded."""

from __future__ import annotations

import os

from sharpzo.data.coop import find_coop, read_coop
from sharpzo.data.dataset import Dataset
from sharpzo.data.draw import draw
from sharpzo.data.folder import read_folder
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
