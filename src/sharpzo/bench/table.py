"""The tidy table: one row a cell, a set it was tested on, and a point of its budget."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sharpzo.artifact import write_atomically
from sharpzo.bench.cell import Cell
from sharpzo.bench.results import Store
from sharpzo.errors import EngineError
from sharpzo.wording import utf8

EMBEDDED = "embedded"
# What two undisturbed runs of one bench need not agree on.
MEASURED = ("seconds", "peak_memory_mb")


@dataclass(frozen=True)
class Row:
    """Accuracies and calibration errors are fractions.

    ``method`` is the recipe's label, ``budget`` the forwards allowed (None: the method has no
    search), ``wanted`` whether the recipe asked for that budget (else a milestone of a curve).
    ``forwards`` and ``seconds`` are what was spent by then, ``seconds`` without encoding photos.
    ``image_passes`` are those beyond one a photo, which everybody pays. ``tuning`` says what chose.
    """

    data_set: str
    tested_on: str
    shots: int | None
    seed: int
    model: str
    method: str
    registered: str
    preset: str | None
    budget: int | None
    wanted: bool
    test_accuracy: float
    test_photos: int
    ece: float
    zero_shot_accuracy: float
    validation_accuracy: float | None
    forwards: int
    image_passes: int | None
    seconds: float
    peak_memory_mb: float | None
    stopped: str
    tuning: str
    notes: str
    key: str


COLUMNS = tuple(field.name for field in fields(Row))


def tabulate(cells: Iterable[Cell], store: Store) -> list[Row]:
    """Rows of all cells that are done, in the order of the recipe."""
    return [row for cell in cells if cell.key in store for row in _rows(cell, store.read(cell.key))]


def _rows(cell: Cell, result: dict[str, Any]) -> Iterable[Row]:
    for name, test in result["tests"].items():
        for point, measured in zip(result["points"], test["points"], strict=True):
            yield Row(
                cell.data_set,
                name or cell.data_set,
                cell.shots,
                cell.seed,
                cell.model or EMBEDDED,
                cell.label,
                cell.method,
                cell.preset,
                point["budget"],
                point["budget"] is None or point["budget"] in cell.budgets,
                measured["accuracy"],
                test["n"],
                measured["ece"],
                test["zero_shot_accuracy"],
                point["validation_accuracy"],
                point["forwards"],
                point["image_passes"],
                round(point["seconds"], 3),
                result["peak_memory_mb"],
                result["stopped"],
                result["tuning"],
                json.dumps(result["notes"], sort_keys=True),
                cell.key,
            )


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table as CSV, empty where there is no value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    write_atomically(path, utf8(text.getvalue()))


def write_table(rows: list[Row], path: Path) -> None:
    """Write the tidy table as CSV."""
    write_csv(path, COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in rows))


def write_parquet(rows: list[Row], path: Path) -> None:
    """Write the tidy table as Parquet; raises `EngineError` without pyarrow."""
    import importlib

    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise EngineError(
            "a Parquet table needs pyarrow, which is not installed; run: "
            "pip install 'sharpzo[bench]'"
        ) from None
    kinds = {"str": arrow.string(), "int": arrow.int64(), "float": arrow.float64(),
             "bool": arrow.bool_()}  # fmt: skip
    schema = arrow.schema(
        [(field.name, kinds[str(field.type).split(" ", 1)[0]]) for field in fields(Row)]
    )
    table = arrow.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    unfinished = path.with_suffix(".tmp")
    parquet.write_table(table, unfinished)
    unfinished.replace(path)
