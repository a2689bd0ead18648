"""A folder whose photos are labelled by a file: the user's own, or Hugging Face's metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sharpzo.data.classes import Rows, class_name, dataset_of
from sharpzo.data.dataset import Dataset, Skipped
from sharpzo.data.entries import photos_below, subfolders
from sharpzo.data.folder import check_folder, skip_notes
from sharpzo.data.label_file import Line, is_label_file, read_lines
from sharpzo.data.listing import inside
from sharpzo.data.photo import Photo
from sharpzo.data.split_names import role
from sharpzo.errors import InputError
from sharpzo.wording import some

METADATA = ("metadata.csv", "metadata.jsonl")


def read_labels(root: str | os.PathLike[str], file: str | os.PathLike[str]) -> Dataset:
    """Read the photos that ``file`` names: one path and one label a line (`label_file.read_lines`).

    Paths are relative to ``root``, and so is ``file`` where there is none of its name. A column
    ``split`` says train, val or test; without it all photos are for training. Photos that the file
    does not name are left out, with a note.

    Raises `InputError` if the folder or the file is missing, or a line cannot be used: a photo that
    does not exist, one with two labels, a split of no known name.
    """
    root = Path(root)
    check_folder(root)
    file = Path(file)
    if not file.is_file() and (root / file).is_file():
        file = root / file
    lines = [(line, root, _split(file, line)) for line in read_lines(file)]
    return _labelled(root, {file: lines})


def read_metadata(root: Path, files: Mapping[Path, str | None]) -> Dataset:
    """Read a folder in the layout of Hugging Face; ``files`` as `find_metadata` found them.

    Paths are relative to the file's own folder, and may not lead out of it. Of a file that belongs
    to no split, the first folder of a path says the split, if it has the name of one.
    Raises `InputError` as `read_labels` does.
    """
    found = {}
    for file, whole in files.items():
        lines = []
        for line in read_lines(file):
            try:
                inside(line.path)
            except ValueError as error:
                raise InputError(f"file {file}, line {line.number}: {error}") from None
            named = whole or _split(file, line, role(Path(line.path).parts[0]))
            lines.append((line, file.parent, named))
        found[file] = lines
    return _labelled(root, found)


def find_metadata(root: Path) -> dict[Path, str | None]:
    """Return the label files of Hugging Face in ``root`` and in the folders of its splits.

    Raises `InputError` if one folder has two.
    """
    places: list[tuple[Path, str | None]] = [(root, None)]
    places += [(f, _as_split(role(f.name))) for f in subfolders(root) if role(f.name)]
    found: dict[Path, str | None] = {}
    for folder, split in places:
        files = [folder / name for name in METADATA if is_label_file(folder / name)]
        if len(files) > 1:
            raise InputError(f"folder {folder} has both {' and '.join(METADATA)}; remove one")
        found |= dict.fromkeys(files, split)
    return found


def _split(file: Path, line: Line, otherwise: str | None = None) -> str:
    if line.split is None:
        return _as_split(otherwise or "train")
    found = role(line.split)
    if found is None:
        raise InputError(
            f"file {file}, line {line.number} has the split {line.split!r}; give train, val or test"
        )
    return _as_split(found)


def _as_split(found: str | None) -> str:
    return "train" if found == "train" else "test" if found == "test" else "val"


def _labelled(root: Path, lines: Mapping[Path, Sequence[tuple[Line, Path, str]]]) -> Dataset:
    rows: dict[str, Rows] = {"train": [], "val": [], "test": []}
    seen: dict[str, tuple[str, str]] = {}  # by real path
    missing: list[str] = []
    repeated = 0
    for file, those in lines.items():
        for line, base, split in those:
            path = _existing(base, line.path)
            if path is None:
                missing.append(line.path)
                continue
            told = class_name(line.label, f"the label of line {line.number} of {file}"), split
            before = seen.setdefault(os.path.realpath(path), told)
            if before is not told and before != told:
                raise InputError(
                    f"file {file}, line {line.number} says that {line.path} is {told[0]!r} "
                    f"({split}), an earlier line {before[0]!r} ({before[1]}); keep one of them"
                )
            if before is told:
                rows[split].append((Photo(str(path), path=path), told[0]))
            else:
                repeated += 1
    files = some([str(file) for file in lines])
    if missing:
        many = sum(map(len, lines.values()))
        raise InputError(
            f"{len(missing):,} of {many:,} photos named in {files} do not exist: {some(missing)}; "
            f"give paths that begin in {root}"
        )
    _check(files, rows)
    skipped = [
        Skipped(photo.relative_to(root).as_posix(), f"not named in {files}")
        for photo in photos_below(root)
        if os.path.realpath(photo) not in seen
    ]
    again = "1 line names" if repeated == 1 else f"{repeated:,} lines name"
    notes = [f"in {files} {again} a photo again"] if repeated else []
    if all(name.isdecimal() for split in rows.values() for _, name in split):
        notes.append("the labels are numbers, of which the model knows nothing: names help it")
    return dataset_of(
        rows,
        source=f"folder {root} with labels of {files}",
        skipped=tuple(skipped),
        notes=(*notes, *skip_notes(skipped)),
    )


def _existing(base: Path, text: str) -> Path | None:
    """The photo that a line means; a file of Windows has backslashes."""
    for spelled in dict.fromkeys((text, text.replace("\\", "/"))):
        path = Path(os.path.normpath(base / spelled))
        if os.path.isfile(path):
            return path
    return None


def _check(files: str, rows: Mapping[str, Rows]) -> None:
    """Raise `InputError` unless one can learn from the rows, or they are for testing only."""
    known = {name for _, name in rows["train"]}
    if len(known) == 1:
        raise InputError(
            f"{files} has only one class for training, {known.pop()!r}; add photos of a second"
        )
    for split in ("val", "test"):
        unknown = next((name for _, name in rows[split] if known and name not in known), None)
        if unknown is not None:
            raise InputError(
                f"{files} has class {unknown!r} in split {split}, but not in train; add training "
                "photos of it, or remove those"
            )
