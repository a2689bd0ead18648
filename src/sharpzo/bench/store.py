"""What a bench leaves: one file a finished cell, each complete or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sharpzo.artifact import write_atomically
from sharpzo.bench.cell import FORMAT
from sharpzo.errors import ArtifactError


class Store:
    """Results in ``folder/cells``; written whole, so that a killed bench loses only what ran."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._cells = self.folder / "cells"

    def make(self) -> None:
        """Make the folder; raises `ArtifactError` if that cannot be done."""
        try:
            self._cells.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(
                f"cannot make the bench's folder {self.folder} ({error.strerror}); give another "
                "as --out"
            ) from None

    def __contains__(self, key: str) -> bool:
        return (self._cells / f"{key}.json").is_file()

    def read(self, key: str) -> dict[str, Any]:
        """The result of a finished cell; raises `ArtifactError` if somebody damaged it."""
        file = self._cells / f"{key}.json"
        try:
            result = json.loads(file.read_text(encoding="utf-8"))
            whole = result["format"] == FORMAT and result["key"] == key
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            whole = False
            result = {}
        if not whole:
            raise ArtifactError(f"{file} is damaged; remove it and run the bench again")
        return result

    def write(self, key: str, result: dict[str, Any]) -> None:
        """Keep a result; the file appears under its name when all of it is on disk."""
        write_atomically(self._cells / f"{key}.json", json.dumps(result, indent=1).encode())
