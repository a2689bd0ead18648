"""What a bench leaves: one file a finished cell, each complete or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpzo.artifact import write_atomically
from sharpzo.bench.cell import FORMAT
from sharpzo.errors import ArtifactError

_Kinds = Mapping[str, tuple[type, ...]]
_TEXT, _NUMBER, _COUNT = (str,), (int, float), (int,)
_SOME_NUMBER, _SOME_COUNT = (int, float, type(None)), (int, type(None))
# What tables, curves and pages read of a result.
_RESULT: _Kinds = {"peak_memory_mb": _SOME_NUMBER, "stopped": _TEXT, "tuning": _TEXT,
                   "notes": (dict, list)}  # fmt: skip
_POINT: _Kinds = {"budget": _SOME_COUNT, "forwards": _COUNT, "seconds": _NUMBER,
                  "image_passes": _SOME_COUNT, "validation_accuracy": _SOME_NUMBER}  # fmt: skip
_STEP: _Kinds = {"stage": _TEXT, "forwards": _COUNT, "seconds": _NUMBER,
                 "validation_accuracy": _SOME_NUMBER, "loss": _SOME_NUMBER}  # fmt: skip
_TEST: _Kinds = {"n": _COUNT, "zero_shot_accuracy": _NUMBER}
_MEASURED: _Kinds = {"accuracy": _NUMBER, "ece": _NUMBER}


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
            result = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
            whole = result["format"] == FORMAT and result["key"] == key and _is_result(result)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
            result = {}
        if not whole:
            raise ArtifactError(f"{file} is damaged; remove it and run the bench again")
        return result

    def write(self, key: str, result: dict[str, Any]) -> None:
        """Keep a result; the file appears under its name when all of it is on disk."""
        write_atomically(self._cells / f"{key}.json", json.dumps(result, indent=1).encode())


def _is_result(result: dict[str, Any]) -> bool:
    """Whether everything is there and of its kind; KeyError and the like say no as well."""
    points, tests = result["points"], result["tests"].values()
    return (
        _fits(_RESULT, result)
        and all(_fits(_POINT, point) for point in points)
        and all(_fits(_STEP, step) for step in result["curve"])
        and all(_fits(_TEST, test) and len(test["points"]) == len(points) for test in tests)
        and all(_fits(_MEASURED, measured) for test in tests for measured in test["points"])
    )


def _fits(kinds: _Kinds, table: dict[str, Any]) -> bool:
    return all(isinstance(table[name], kind) for name, kind in kinds.items())


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is in no result")
