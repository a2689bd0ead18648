"""The bench itself: what is missing is computed and kept, then all of it becomes tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sharpzo.artifact import write_atomically
from sharpzo.bench.cell import Cell
from sharpzo.bench.plots import plot, write_curves
from sharpzo.bench.results import Store
from sharpzo.bench.summary import Section, as_markdown, summarise
from sharpzo.bench.table import Row, tabulate, write_parquet, write_table
from sharpzo.errors import EngineError
from sharpzo.wording import utf8

Heard = Callable[[str, int], None]  # key of a cell ("" while encoding), forwards or photos so far


class Engine(Protocol):
    """Runs cells somewhere and yields each with its result, or with {"error": sentence}."""

    def run(
        self, cells: list[Cell], cache: Path, heard: Heard = ...
    ) -> Iterator[tuple[Cell, dict[str, Any]]]: ...


@dataclass
class Outcome:
    """Tables of all that is done. ``failed``: cell -> why; ``notes``: what was left out and why."""

    rows: list[Row]
    sections: list[Section]
    computed: int
    failed: list[tuple[Cell, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def missing(cells: list[Cell], store: Store) -> list[Cell]:
    """Cells without a result; of cells that differ in their label alone the first."""
    unique = {cell.key: cell for cell in reversed(cells)}
    return [cell for cell in cells if unique[cell.key] is cell and cell.key not in store]


def run_bench(
    title: str,
    cells: list[Cell],
    store: Store,
    engine: Engine,
    cache: Path,
    *,
    baseline: str | None = None,
    heard: Heard = lambda key, done: None,
    ended: Callable[[Cell, str | None], None] = lambda cell, error: None,
) -> Outcome:
    """Compute the missing cells, then write table, summary and curves into the store's folder.

    An interrupt stops the engine and still leaves tables of what is done.
    """
    failed: list[tuple[Cell, str]] = []
    computed = 0
    store.make()
    _write_about(title, cells, store, baseline)
    todo = missing(cells, store)
    try:
        for cell, result in engine.run(todo, cache, heard) if todo else ():
            error = result.get("error")
            if error is None:
                store.write(cell.key, result)
                computed += 1
            else:
                failed.append((cell, error))
            ended(cell, error)
    except KeyboardInterrupt:
        write_outcome(title, cells, store, baseline)
        raise
    outcome = write_outcome(title, cells, store, baseline)
    outcome.computed, outcome.failed = computed, failed
    return outcome


def write_outcome(title: str, cells: list[Cell], store: Store, baseline: str | None) -> Outcome:
    """Tables, summary, curves of the cells that are done."""
    _write_about(title, cells, store, baseline)
    rows = tabulate(cells, store)
    outcome = Outcome(rows, summarise(rows, baseline), 0)
    write_table(rows, store.folder / "table.csv")
    write_curves(cells, store, store.folder / "curves.csv")
    document = as_markdown(title, outcome.sections, baseline)
    write_atomically(store.folder / "summary.md", utf8(document))
    for extra in (
        lambda: write_parquet(rows, store.folder / "table.parquet"),
        lambda: plot(rows, store.folder),
    ):
        try:
            extra()
        except EngineError as error:
            outcome.notes.append(str(error))
    return outcome


def _write_about(title: str, cells: list[Cell], store: Store, baseline: str | None) -> None:
    """What the bench is of, in the recipe's order; a report reads it."""
    about = {"title": title, "baseline": baseline, "cells": [cell.as_record() for cell in cells]}
    text = json.dumps(about, indent=1, ensure_ascii=False)
    write_atomically(store.folder / "bench.json", utf8(text))
