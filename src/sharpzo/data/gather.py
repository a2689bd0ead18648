"""The photos that somebody names one by one, by their folder, in a zip file or in a list."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from sharpzo.data.archive import is_archive, unpack
from sharpzo.data.entries import is_folder, photos_below
from sharpzo.data.photo import Photo
from sharpzo.errors import InputError

LIST = "-"


def gather(
    sources: Iterable[str | os.PathLike[str]], listed: BinaryIO | None = None
) -> list[Photo]:
    """Return the photos of ``sources``, in their order: files, folders, zip files, or ``-``.

    A folder, or a zip file, stands for all photos in it and below, sorted; folders of systems and
    of sharpzo are passed over. ``-`` stands for the paths in ``listed``, one a line, or separated
    by NUL bytes; blank lines mean nothing. A file is taken whatever its name.

    Raises `InputError` for a folder or a list without photos, and for ``-`` given twice.
    """
    given = [os.fspath(source) for source in sources]
    if given.count(LIST) > 1:
        raise InputError(f"{LIST} is given twice, but standard input is read once; give it once")
    return [photo for source in given for photo in _photos(source, listed)]


def _photos(source: str, listed: BinaryIO | None) -> Iterator[Photo]:
    if source == LIST:
        names = [] if listed is None else _names(listed.read())
        if not names:
            raise InputError("standard input names no photo; give one path a line")
        for name in names:
            yield from _named(name)
    else:
        yield from _named(source)


def _named(source: str) -> Iterator[Photo]:
    if is_archive(source):
        root = unpack(source)
        yield from _below(root, source)
    elif is_folder(Path(source)):
        yield from _below(Path(source), source)
    else:
        yield Photo(source, path=Path(source))


def _below(root: Path, source: str) -> Iterator[Photo]:
    photos = list(photos_below(root))
    if not photos:
        raise InputError(f"{source} has no photos in it or below")
    for photo in photos:
        yield Photo(os.path.join(source, photo.relative_to(root)), path=photo)


def _names(content: bytes) -> list[str]:
    content = content.removeprefix(codecs.BOM_UTF8)  # some editors begin a text file with it
    separator = b"\0" if b"\0" in content else b"\n"
    lines = (line.removesuffix(b"\r") for line in content.split(separator))
    return [os.fsdecode(line) for line in lines if line.strip()]
