"""The journal of a run: one JSON object per validated step, appended at once."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import msgspec

from sharpzo.errors import ArtifactError
from sharpzo.types import Step

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class Journal:
    """Appends steps to ``history.jsonl``; every line is on disk before the next step begins.

    Raises ArtifactError if another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        if not _lock(self._file):
            self._file.close()
            raise ArtifactError(
                f"another process is writing the run in {path.parent}; choose another folder"
            )

    def append(self, step: Step) -> None:
        record = {name: value for name, value in asdict(step).items() if value not in (None, {})}
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:  # a write does not know its file's name
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_free(path: Path) -> bool:
    """Whether no process is writing the journal; where a system cannot tell, only one without a
    line is free."""
    if not path.is_file():
        return True
    if fcntl is None:
        return path.stat().st_size == 0
    with path.open("rb") as file:
        return _lock(file)


def _lock(file: IO[Any]) -> bool:
    """Hold the file until it is closed, or until this process ends in whatever way."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def read_journal(path: Path) -> list[Step]:
    """Steps of a journal; a last line torn by a crash is dropped, any other damage is an error."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); remove it") from None
    steps: list[Step] = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            steps.append(msgspec.convert(json.loads(line), Step))
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"line {number} of {path} is damaged: {error}") from None
    return steps
