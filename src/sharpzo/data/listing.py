"""What the files of a data set promise: class names, and the photos of each split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sharpzo.errors import InputError

Rows = list[tuple[str, int]]  # (path of the photo, label)


@dataclass(frozen=True)
class Listing:
    """``class_names`` in the order of the labels, and the rows of each split in their order.

    ``missing`` are the class folders, below the data set's, that should be there and are not, or
    have no photo.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, Rows]
    missing: tuple[str, ...] = ()


def inside(relative: str) -> str:
    """Return ``relative``; ValueError if it leaves the folder that it is joined to."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or "\\" in relative or "\0" in relative:
        raise ValueError(f"path {relative!r} points out of the image folder")
    return relative


def words(name: str) -> str:
    """Return a class name as a prompt shows it: with spaces, as CoOp does before it tokenises.

    >>> words("Apply_Eye_Makeup")
    'Apply Eye Makeup'
    """
    return name.replace("_", " ")


def unusable(file: Path, error: Exception, advice: str) -> InputError:
    """Return the error for an index file that cannot be read or says what cannot be."""
    return InputError(f"file {file} cannot be used ({type(error).__name__}: {error}); {advice}")
