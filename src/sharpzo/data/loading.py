"""Read the photos of a folder, a zip file or a list of paths, with or without labels."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from sharpzo.data.archive import innermost, is_archive, unpack
from sharpzo.data.coop_layout import find_coop, read_coop
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.entries import photos_below
from sharpzo.data.few_shot import draw
from sharpzo.data.folder import check_folder, read_folder
from sharpzo.data.label_file import read_labels, read_metadata
from sharpzo.data.photo import Photo
from sharpzo.errors import InputError

LIST = "-"


def load(
    data: str | os.PathLike[str],
    dataset: str | None = None,
    shots: int | None = None,
    seed: int = 1,
    labels: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Read the folder or zip file ``data``; draw ``shots`` photos per class (None: all).

    ``dataset`` names a data set in CoOp's layout (see `sharpzo.data.layouts.LAYOUTS`); without it
    ``data`` has one subfolder per class (see `sharpzo.data.folder.read_folder`), or a label file:
    ``labels``, or Hugging Face's metadata.csv or metadata.jsonl (see `sharpzo.data.label_file`).

    Raises `InputError` as the readers do, and if CoOp's layout is met without its name.
    """
    return draw(read(data, dataset, labels), shots, seed)


def read(
    data: str | os.PathLike[str],
    dataset: str | None = None,
    labels: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Read the folder or zip file ``data`` whole, without drawing; errors as `load`."""
    if not is_archive(data):
        return _read(Path(data), dataset, labels)
    unpacked, given = unpack(data), os.fspath(data)

    def spelled(text: str) -> str:  # users do not know the folder that it was unpacked into
        return text.replace(str(unpacked), given)

    def renamed(split: LabelledPhotos) -> LabelledPhotos:
        photos = tuple(replace(photo, name=spelled(photo.name)) for photo in split.photos)
        return replace(split, photos=photos)

    try:
        found = _read(innermost(unpacked), dataset, labels)
    except InputError as error:
        raise InputError(spelled(str(error))) from error
    return found.each(
        renamed,
        source=f"zip file {given}",
        skipped=tuple(replace(one, reason=spelled(one.reason)) for one in found.skipped),
        notes=tuple(map(spelled, found.notes)),
    )


def gather(
    sources: Iterable[str | os.PathLike[str]], listed: BinaryIO | None = None
) -> list[Photo]:
    """Return the photos of ``sources``, in their order: files, folders, zip files, or ``-``.

    A folder, or a zip file, stands for all photos in it and below, sorted; folders of systems and
    of sharpzo are passed over. ``-`` stands for the paths in ``listed``, one per line, or separated
    by NUL bytes; blank lines mean nothing. A file is taken whatever its name.

    Raises `InputError` for a folder or a list without photos, and for ``-`` given twice.
    """
    given = [os.fspath(source) for source in sources]
    if given.count(LIST) > 1:
        raise InputError(f"{LIST} is given twice, but standard input is read once; give it once")
    paths = (path for one in given for path in (_listed(listed) if one == LIST else [one]))
    return [photo for path in paths for photo in _photos(path)]


def _read(data: Path, dataset: str | None, labels: str | os.PathLike[str] | None) -> Dataset:
    if dataset is not None:
        if labels is not None:
            raise InputError(
                f"data set {dataset} has labels of its own; leave out either it or {labels}"
            )
        return read_coop(data, dataset)
    if labels is not None:
        return read_labels(data, labels)
    names = find_coop(data)
    if names:
        choice = " or ".join(f"--dataset {name}" for name in names)
        raise InputError(
            f"folder {data} has CoOp's layout; add {choice} (in Python: dataset={names[0]!r})"
        )
    check_folder(data)
    return read_metadata(data) or read_folder(data)


def _photos(source: str) -> Iterator[Photo]:
    """The photos of one path."""
    root = unpack(source) if is_archive(source) else Path(source)
    if not os.path.isdir(root):
        yield Photo(source, path=root)
        return
    photos = list(photos_below(root))
    if not photos:
        raise InputError(f"{source} has no photos in it or below")
    for photo in photos:
        yield Photo(os.path.join(source, photo.relative_to(root)), path=photo)


def _listed(file: BinaryIO | None) -> list[str]:
    """The paths that a file lists."""
    content = b"" if file is None else file.read()
    content = content.removeprefix(codecs.BOM_UTF8)  # some editors begin a text file with it
    separator = b"\0" if b"\0" in content else b"\n"
    lines = (line.removesuffix(b"\r") for line in content.split(separator))
    paths = [os.fsdecode(line) for line in lines if line.strip()]
    if not paths:
        raise InputError("standard input names no photo; give one path per line")
    return paths
