"""The tidy table: one row per cell, tested data set and point of its budget."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sharpzo.bench.cell import Cell
from sharpzo.bench.results import Result, Results
from sharpzo.errors import optional
from sharpzo.storage.answered import guarded
from sharpzo.storage.files import write_atomically
from sharpzo.wording import printable, utf8

EMBEDDED = "embedded"
# What two undisturbed runs of one bench need not agree on.
MEASURED = ("seconds", "peak_memory_mb")
CURVES = ("data_set", "shots", "seed", "model", "method", "stage", "forwards", "seconds",
          "validation_accuracy", "training_loss")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Accuracies and calibration errors are fractions.

    ``method`` is the recipe's label, ``budget`` the forwards allowed (None: the method has no
    search), ``wanted`` whether the recipe asked for that budget (else a milestone of a curve).
    ``forwards`` and ``seconds`` are what was spent by then, ``seconds`` without encoding photos.
    ``image_passes`` are those beyond one per photo. ``tuning`` says what chose.
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

    @property
    def section(self) -> tuple[str, str, int | None, str]:
        """What rows have in common that stand in one table: photos, tested photos, shots, model."""
        return self.data_set, self.tested_on, self.shots, self.model


COLUMNS = tuple(field.name for field in fields(Row))


def tabulate(cells: Iterable[Cell], results: Results) -> list[Row]:
    """Rows of all cells that are done, in the order of the recipe."""
    done = (cell for cell in cells if cell.key in results)
    return [row for cell in done for row in _rows(cell, results.read(cell.key))]


def _rows(cell: Cell, result: Result) -> Iterable[Row]:
    for name, test in result.tests.items():
        for point, found in zip(result.points, test.points, strict=True):
            yield Row(
                data_set=cell.data_set,
                tested_on=name or cell.data_set,
                shots=cell.shots,
                seed=cell.seed,
                model=cell.model or EMBEDDED,
                method=cell.label,
                registered=cell.method,
                preset=cell.preset,
                budget=point.budget,
                wanted=point.budget is None or point.budget in cell.budgets,
                test_accuracy=found.accuracy,
                test_photos=test.n,
                ece=found.ece,
                zero_shot_accuracy=test.zero_shot_accuracy,
                validation_accuracy=point.validation_accuracy,
                forwards=point.forwards,
                image_passes=point.image_passes,
                seconds=round(point.seconds, 3),
                peak_memory_mb=result.peak_memory_mb,
                stopped=result.stopped,
                tuning=result.tuning,
                notes=json.dumps(result.notes, sort_keys=True),
                key=cell.key,
            )


def write_table(rows: list[Row], path: Path) -> None:
    """Write the tidy table as CSV."""
    _write_csv(path, COLUMNS, (vars(row).values() for row in rows))


def write_curves(cells: Iterable[Cell], results: Results, path: Path) -> None:
    """Write every validated step of every finished search as CSV."""
    rows = (
        (
            cell.data_set, cell.shots, cell.seed, cell.model or EMBEDDED, cell.label,
            step.stage, step.forwards, step.seconds, step.validation_accuracy, step.loss,
        )
        for cell in cells
        if cell.key in results
        for step in results.read(cell.key).curve
    )  # fmt: skip
    _write_csv(path, CURVES, rows)


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Empty where there is no value, as the csv module has it. A text that a spreadsheet would take
    for a formula begins with an apostrophe, and control characters are escapes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(_plain, row) for row in rows)
    write_atomically(path, utf8(text.getvalue()))


def _plain(value: Any) -> Any:
    return guarded(printable(value)) if isinstance(value, str) else value


def write_parquet(rows: list[Row], path: Path) -> None:
    """Write the tidy table as Parquet; raises `EngineError` without pyarrow."""
    arrow, parquet = (
        optional(name, "bench", "a Parquet table") for name in ("pyarrow", "pyarrow.parquet")
    )
    kinds = {"str": arrow.string(), "int": arrow.int64(), "float": arrow.float64(),
             "bool": arrow.bool_()}  # fmt: skip
    schema = arrow.schema(
        [(field.name, kinds[str(field.type).split(" ", 1)[0]]) for field in fields(Row)]
    )
    table = arrow.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    whole = io.BytesIO()
    parquet.write_table(table, whole)
    write_atomically(path, whole.getvalue())
