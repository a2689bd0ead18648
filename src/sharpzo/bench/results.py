"""The results of a bench: its description, and one file per finished cell, written atomically."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sharpzo.bench.cell import FORMAT, Cell
from sharpzo.errors import ArtifactError
from sharpzo.storage.artifact import digest_values
from sharpzo.storage.files import write_atomically
from sharpzo.wording import utf8

ABOUT = "bench.json"


@dataclass(frozen=True)
class Point:
    """What a budget of forwards had cost and chosen; None: the method's own end."""

    budget: int | None
    forwards: int
    seconds: float
    image_passes: int | None
    validation_accuracy: float | None


@dataclass(frozen=True)
class Accuracy:
    """A point on the test photos; fractions."""

    accuracy: float
    ece: float
    per_class: dict[str, float | None]


@dataclass(frozen=True)
class Test:
    """A set of test photos: how many, the untuned model, and an accuracy for each point."""

    n: int
    zero_shot_accuracy: float
    points: list[Accuracy]


@dataclass(frozen=True)
class Validated:
    """A step of the search that was evaluated on the validation photos."""

    forwards: int
    seconds: float
    loss: float | None
    validation_accuracy: float | None
    stage: str


@dataclass(frozen=True)
class Result:
    """A finished cell; docs/bench.md explains the fields. ``tests``: "" is the data set's own."""

    format: int
    key: str
    cell: dict[str, Any]
    sharpzo: str
    settings: dict[str, Any]
    model_sha256: str
    class_names: list[str]
    photos: dict[str, int]
    points: list[Point]
    tests: dict[str, Test]
    peak_memory_mb: float | None
    stopped: str
    notes: dict[str, Any]
    tuning: str
    curve: list[Validated]


@dataclass(frozen=True)
class About:
    """What a bench is of, in the recipe's order; a report reads it."""

    title: str
    baseline: str | None
    cells: list[Cell]


class Results:
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

    def read(self, key: str) -> Result:
        """The result of a finished cell; raises `ArtifactError` if it is damaged."""
        file = self._cells / f"{key}.json"
        try:
            raw = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
            _check_digest(raw)
            found = msgspec.convert(raw, Result)
            lengths = {len(test.points) for test in found.tests.values()}
            if (found.format, found.key, lengths) != (FORMAT, key, {len(found.points)}):
                raise ValueError
        except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
            raise ArtifactError(f"{file} is damaged; remove it and run the bench again") from None
        return found

    def write(self, key: str, result: dict[str, Any]) -> None:
        """Keep a result; numbers that are not finite become null, as JSON has none."""
        values = msgspec.json.decode(msgspec.json.encode(result))
        whole = values | {"record_sha256": digest_values(values)}
        write_atomically(self._cells / f"{key}.json", json.dumps(whole, indent=1).encode())

    def about(self) -> About:
        """What the bench is of; raises `ArtifactError` if nothing here says so."""
        try:
            raw = msgspec.json.decode((self.folder / ABOUT).read_bytes(), type=dict[str, Any])
            _check_digest(raw)
            return msgspec.convert(raw, About)
        except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise ArtifactError(
                f"{self.folder} has no usable {ABOUT} ({type(error).__name__}: {error}); run the "
                "bench again, cells that are done stay"
            ) from None

    def write_about(self, about: About) -> None:
        """Keep what the bench is of."""
        record = {**vars(about), "cells": [cell.as_record() for cell in about.cells]}
        whole = record | {"record_sha256": digest_values(record)}
        text = json.dumps(whole, indent=1, ensure_ascii=False)
        write_atomically(self.folder / ABOUT, utf8(text))


def _check_digest(raw: dict[str, Any]) -> None:
    """Raise ValueError for values that are not those that were written; early files say none."""
    digest = digest_values(raw)
    if raw.get("record_sha256", digest) != digest:
        raise ValueError("it was changed after it was written")
