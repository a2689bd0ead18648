"""The lines of a file that says which photo is of which class: CSV, or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpzo.errors import InputError

# Names of columns in use, the documented one first.
PATHS = (
    "path", "file_name", "filename", "file", "filepath", "file_path", "image", "image_path",
    "img_path", "photo",
)  # fmt: skip
LABELS = ("label", "class", "category", "class_name", "label_name")
SPLITS = ("split", "subset", "partition")
LARGEST = 256 << 20  # bytes: some millions of lines
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Line:
    """What line ``number`` says: the class of a photo, and its split if there is such a column."""

    number: int
    path: str
    label: str
    split: str | None


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
            number,
            _cell(file, number, path, row.get(path)),
            _cell(file, number, label, row.get(label)),
            _cell(file, number, split, row[split]) if split and row.get(split) else None,
        )
        for number, row in rows
    ]


def is_label_file(file: Path) -> bool:
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


_FORM = "a CSV file with the columns path and label, or JSON Lines with file_name and label"


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:  # the size of a pipe or a device is not known before
            content = opened.read(LARGEST + 1)
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


def _rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and cells by column, whatever they are."""
    return _json(file, text) if file.suffix.lower() in (".jsonl", ".json") else _csv(file, text)


def _csv(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InputError(
                    f"file {file}, line {reader.line_num} has another number of cells than the "
                    "first line; put a name that holds a comma into double quotes"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            f"file {file} is no CSV after line {reader.line_num} ({error}); check its quotes"
        ) from None


def _json(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(
                f"file {file}, line {number} is no JSON object; give one per line, such as "
                '{"file_name": "1.jpg", "label": "cat"}'
            )
        yield number, row


def _column(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    plain = {str(column).strip().casefold(): column for column in row}
    return next((plain[name] for name in names if name in plain), None)


def _cell(file: Path, number: int, column: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise InputError(f"file {file}, line {number} has {value!r:.100} as {column}; give a text")
    return value.strip()
