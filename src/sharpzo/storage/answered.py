"""Answers about photos of a folder: a CSV file with a row each, which survives crashes."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sharpzo.errors import ArtifactError
from sharpzo.storage.files import Hold

COLUMNS = ("path", "label", "probability", "none", "error", "bytes", "modified", "answered")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute a cell that begins so
_MARK = b"\xef\xbb\xbf"  # a spreadsheet puts it before UTF-8
# Names of files are kept byte by byte, also where they are no UTF-8.
_TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}


class Answered:
    """The rows of a CSV file, to which this process alone appends.

    A last line that a crash has cut off is dropped. Raises ArtifactError for a file that holds
    something else, which is left as it is, and for one that another process writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._label_of: dict[tuple[str, int, int], str] = {}
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise ArtifactError(f"{path} is no file that answers can be kept in; give another one")
        kept = path.read_bytes() if path.exists() else b""
        whole = _whole(kept)
        if not whole and not _line(COLUMNS).startswith(kept):
            raise self._strange()
        for row in self._rows(whole.removeprefix(_MARK).decode(**_TEXT)):
            self._remember(row)
        with path.open("ab") as file:
            file.truncate(len(whole))
        self.append(())

    def label(self, path: str, size: int, modified: int) -> str | None:
        """The label that this content of a photo was given, "" if it cannot be read; None if
        nothing has been answered."""
        return self._label_of.get((path, size, modified))

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows by column, onto the disk; columns that a row lacks stay empty. A file that is
        new, or was taken away meanwhile, gets the line of columns first."""
        rows = [{name: row.get(name, "") for name in COLUMNS} for row in rows]
        try:
            with self.path.open("ab") as file:
                lines = [] if file.tell() else [_line(COLUMNS)]
                file.write(b"".join(lines + [_line(map(guarded, row.values())) for row in rows]))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # a write does not know its file's name
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        for row in rows:
            self._remember(row)

    def _remember(self, row: Mapping[str, Any]) -> None:
        key = (row["path"], int(row["bytes"]), int(row["modified"]))
        self._label_of[key] = row["label"]

    def _rows(self, text: str) -> Iterator[dict[str, str]]:
        if not text:
            return
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            if tuple(next(rows)) != COLUMNS:
                raise ValueError
            for row in filter(None, rows):  # a spreadsheet may leave empty lines
                cells = [cell.removeprefix("'") for cell in row]
                found = dict[str, str](zip(COLUMNS, cells, strict=True))
                for name in ("bytes", "modified"):
                    int(found[name])  # or it is no row of ours
                yield found
        except (ValueError, csv.Error, StopIteration):
            raise self._strange() from None

    def _strange(self) -> ArtifactError:
        return ArtifactError(
            f"{self.path} holds something else than answers about photos, or was changed by "
            "another program, and was left as it is; give another file"
        )


@contextmanager
def hold_answers(path: Path) -> Generator[Answered]:
    """The answers in a CSV file, which is made if it is missing, held against other processes."""
    real = Path(os.path.realpath(path))  # whichever link names it, it is one file
    hold = Hold(real.parent, str(path), f"{real.name}.lock")
    try:
        yield Answered(path)
    finally:
        hold.release()


def _whole(kept: bytes) -> bytes:
    """What is left without a last row that was cut off, also between the lines of a name."""
    whole = kept[: kept.rfind(b"\n") + 1]
    while whole.count(b'"') % 2:
        whole = whole[: whole.rfind(b"\n", 0, -1) + 1]
    return whole


def _line(cells: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode(**_TEXT)


def guarded(cell: Any) -> Any:
    """A text that no spreadsheet takes for a formula."""
    marked = isinstance(cell, str) and cell.startswith((*_FORMULA, "'"))
    return f"'{cell}" if marked else cell
