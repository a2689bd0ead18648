"""A file with the class of each photo: CSV or JSON Lines, the user's own or Hugging
Face's metadata."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpzo.data.dataset import Dataset, Rows, Skipped, class_name
from sharpzo.data.entries import inside, photos_below, split_name, subfolders
from sharpzo.data.folder import check_folder
from sharpzo.data.photo import Photo
from sharpzo.errors import InputError
from sharpzo.wording import some

METADATA = ("metadata.csv", "metadata.jsonl")
# Names of columns in use, the documented one first.
PATHS = (
    "path", "file_name", "filename", "file", "filepath", "file_path", "image", "image_path",
    "img_path", "photo",
)  # fmt: skip
LABELS = ("label", "class", "category", "class_name", "label_name")
SPLITS = ("split", "subset", "partition")
LARGEST = 256 << 20  # bytes: some millions of lines
_DELIMITERS = ",;\t|"
_FORM = "a CSV file with the columns path and label, or JSON Lines with file_name and label"


@dataclass(frozen=True)
class Line:
    """What one line says: the class of a photo, and its split if there is such a column.

    ``where`` names the file and the line, as messages begin.
    """

    where: str
    path: str
    label: str
    split: str | None

    def role(self, otherwise: str | None = None) -> str:
        """Return the split as `split_name` does; without one, ``otherwise`` or else train."""
        found = split_name(self.split) if self.split else otherwise or "train"
        if found is None:
            raise InputError(f"{self.where} has the split {self.split!r}; give train, val or test")
        return found


def read_labels(root: str | os.PathLike[str], file: str | os.PathLike[str]) -> Dataset:
    """Read the photos that ``file`` names: one path and one label per line (`read_lines`).

    Paths are relative to ``root``, and so is ``file`` where there is none of its name. A column
    ``split`` says train, val or test; without it all photos are for training. Photos that the file
    does not name are left out, with a note.

    Raises `InputError` if the folder or the file is missing, or a line cannot be used: a photo that
    does not exist, one with two labels, a split of no known name.
    """
    root, file = Path(root), Path(file)
    check_folder(root)
    if not os.path.isfile(file) and os.path.isfile(root / file):
        file = root / file
    return _dataset(root, str(file), [(line, root, line.role()) for line in read_lines(file)])


def read_metadata(root: Path) -> Dataset | None:
    """Read a folder in the layout of Hugging Face: the label files `METADATA` in it, and in the
    folders of its splits; None if there is none.

    Paths are relative to the file's own folder, and may not lead out of it. Of a file that belongs
    to no split, the first folder of a path says the split, if it has the name of one.
    Raises `InputError` as `read_labels` does, and if one folder has two label files.
    """
    files: list[str] = []
    lines: list[tuple[Line, Path, str]] = []
    for folder in (root, *(f for f in subfolders(root) if split_name(f.name))):
        there = [folder / name for name in METADATA if _is_label_file(folder / name)]
        if len(there) > 1:
            raise InputError(f"folder {folder} has both {' and '.join(METADATA)}; remove one")
        for file in there:
            files.append(str(file))
            for line in read_lines(file):
                try:
                    first = Path(inside(line.path)).parts[:1]
                except ValueError as error:
                    raise InputError(f"{line.where}: {error}") from None
                whole = split_name(folder.name) if folder is not root else None
                lines.append((line, folder, whole or line.role(split_name("".join(first)))))
    return _dataset(root, some(files), lines) if files else None


def read_lines(file: Path) -> list[Line]:
    """Read a label file whole; JSON Lines if it is called .jsonl or .json, else CSV.

    A CSV file has a header; cells are separated by commas, semicolons, tabs or bars, as the header
    has them. Raises `InputError`, with the number of the line, for whatever is wrong with it.
    """
    rows = list(_rows(file, _text(file)))
    if not rows:
        raise InputError(f"file {file} names no photo; give {_FORM}")
    path, label, split = (_column(rows[0][1], names) for names in (PATHS, LABELS, SPLITS))
    if path is None or label is None:
        found = ", ".join(map(str, rows[0][1]))[:200]
        raise InputError(
            f"file {file} has no column for the {'path' if path is None else 'label'} (it has "
            f"{found}); give {_FORM}"
        )
    return [
        Line(
            where,
            _cell(where, path, row.get(path)),
            _cell(where, label, row.get(label)),
            _cell(where, split, row[split]) if split and row.get(split) else None,
        )
        for where, row in rows
    ]


def _is_label_file(file: Path) -> bool:
    """Whether the first line of ``file`` names columns for paths and labels."""
    try:
        with file.open("rb") as opened:
            head = opened.read(1 << 16).splitlines(keepends=True)[:2]
        if file.suffix == ".csv" and len(head) == 1:
            return False
        _, first = next(iter(_rows(file, b"".join(head).decode("utf-8-sig"))))
    except (OSError, ValueError, StopIteration):
        return False
    return _column(first, PATHS) is not None and _column(first, LABELS) is not None


def _text(file: Path) -> str:
    try:
        content = bytearray()
        with file.open("rb") as opened:  # the size of a pipe or a device is not known before
            while len(content) <= LARGEST and (more := opened.read(1 << 20)):
                content += more
        if len(content) > LARGEST:
            raise InputError(f"file {file} is larger than {LARGEST >> 20} MiB; split it up")
        utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # as Excel saves "Unicode text"
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except OSError as error:
        raise InputError(f"file {file} cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"file {file} is not UTF-8 text (line {line}); save it as CSV in UTF-8"
        ) from None


def _rows(file: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each line is, and its cells by column, whatever they are."""
    read = _json if file.suffix.lower() in (".jsonl", ".json") else _csv
    return read(f"file {file}", text)


def _csv(file: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            if None in row or None in row.values():
                raise InputError(
                    f"{where} has another number of cells than the first line; put a name that "
                    "holds a comma into double quotes"
                )
            yield where, row
    except csv.Error as error:
        raise InputError(
            f"{file} is no CSV after line {reader.line_num} ({error}); check its quotes"
        ) from None


def _json(file: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        where = f"{file}, line {number}"
        if not isinstance(row, dict):
            raise InputError(
                f"{where} is no JSON object; give one per line, such as "
                '{"file_name": "1.jpg", "label": "cat"}'
            )
        yield where, row


def _column(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    plain = {str(column).strip().casefold(): column for column in row}
    return next((plain[name] for name in names if name in plain), None)


def _cell(where: str, column: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise InputError(f"{where} has {value!r:.100} as {column}; give a text")
    return value.strip()


def _dataset(root: Path, files: str, lines: list[tuple[Line, Path, str]]) -> Dataset:
    """The photos of ``lines``, each with the folder that its path begins in, and its split."""
    rows: dict[str, Rows] = {"train": [], "val": [], "test": []}
    seen: dict[str, tuple[str, str]] = {}  # class and split by real path
    missing: list[str] = []
    for line, base, named in lines:
        split = "val" if named == "eval" else named
        path = _existing(base, line.path)
        if path is None:
            missing.append(line.path)
            continue
        now = class_name(line.label, f"the label in {line.where}"), split
        before = seen.setdefault(os.path.realpath(path), now)
        if before is now:
            rows[split].append((Photo(str(path), path=path), now[0]))
        elif before != now:
            raise InputError(
                f"{line.where} says that {line.path} is {now[0]!r} ({split}), an earlier line "
                f"{before[0]!r} ({before[1]}); keep one of them"
            )
    if missing:
        raise InputError(
            f"{len(missing):,} of {len(lines):,} photos named in {files} do not exist: "
            f"{some(missing)}; give paths that begin in {root}"
        )
    skipped = [
        Skipped(photo.relative_to(root).as_posix(), f"not named in {files}")
        for photo in photos_below(root)
        if os.path.realpath(photo) not in seen
    ]
    notes = []
    repeated = len(lines) - len(seen)
    if repeated:
        again = "1 line names" if repeated == 1 else f"{repeated:,} lines name"
        notes.append(f"in {files} {again} a photo again")
    if all(name.isdecimal() for split in rows.values() for _, name in split):
        notes.append("the labels are numbers, which mean nothing to the model; give class names")
    return Dataset.of_rows(
        rows,
        source=f"folder {root} with labels of {files}",
        skipped=skipped,
        notes=notes,
    )


def _existing(base: Path, text: str) -> Path | None:
    """The photo that a line means; a file of Windows has backslashes."""
    for spelled in dict.fromkeys((text, text.replace("\\", "/"))):
        path = Path(os.path.normpath(base / spelled))
        if os.path.isfile(path):
            return path
    return None
