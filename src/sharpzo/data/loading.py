"""From what the user names to a data set that is ready to be encoded."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sharpzo.data.archive import innermost, is_archive, unpack
from sharpzo.data.coop_layout import find_coop, read_coop
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.few_shot import draw
from sharpzo.data.folder import check_folder, read_folder
from sharpzo.data.labels import find_metadata, read_labels, read_metadata
from sharpzo.errors import InputError


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
    ``labels``, or Hugging Face's metadata.csv or metadata.jsonl (see `sharpzo.data.labels`).

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
    whole = unpack(data)
    try:
        found = _read(innermost(whole), dataset, labels)
    except InputError as error:  # nobody knows the folder that it was unpacked into
        raise InputError(str(error).replace(str(whole), os.fspath(data))) from error

    def named(split: LabelledPhotos | None) -> LabelledPhotos | None:
        return split and replace(split, photos=tuple(
            replace(photo, name=photo.name.replace(str(whole), os.fspath(data)))
            for photo in split.photos
        ))  # fmt: skip

    train, val, test = map(named, (found.train, found.val, found.test))
    assert train is not None
    return replace(found, train=train, val=val, test=test, source=f"zip file {data}")


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
    metadata = find_metadata(data)
    return read_metadata(data, metadata) if metadata else read_folder(data)
