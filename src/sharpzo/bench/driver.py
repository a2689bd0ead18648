"""The bench: list missing cells, estimate their time, compute them and write the tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from sharpzo.bench.cell import Cell
from sharpzo.bench.engines import Engine, Listen
from sharpzo.bench.plots import plot
from sharpzo.bench.recipe import Sources
from sharpzo.bench.results import About, Results
from sharpzo.bench.summary import Section, as_markdown, summarise
from sharpzo.bench.table import Row, tabulate, write_curves, write_parquet, write_table
from sharpzo.errors import EngineError
from sharpzo.storage.files import Hold, check_room, write_atomically
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.wording import utf8

CANDIDATES = 40  # the usual population
OVERHEAD = 4.0  # seconds of a cell beside its forwards: a process, two graphs, reading features


@dataclass(frozen=True)
class Outcome:
    """Tables of all that is done. ``failed``: cell -> why; ``notes``: what was left out and why."""

    rows: list[Row]
    sections: list[Section]
    computed: int = 0
    failed: list[tuple[Cell, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def missing(cells: list[Cell], results: Results) -> list[Cell]:
    """Cells without a result; of cells that differ in their label alone the first."""
    unique = {cell.key: cell for cell in reversed(cells)}
    return [cell for cell in cells if unique[cell.key] is cell and cell.key not in results]


def run_bench(
    about: About,
    results: Results,
    engine: Engine,
    features: Path,
    *,
    listen: Listen = lambda key, done: None,
    ended: Callable[[Cell, str | None], None] = lambda cell, error: None,
) -> Outcome:
    """Compute the missing cells, then write table, summary and curves into the results' folder.

    An interrupt stops the engine and still leaves tables of what is done. Raises ArtifactError if
    another process is writing the results.
    """
    failed: list[tuple[Cell, str]] = []
    results.make()
    hold = Hold(results.folder, f"the bench {results.folder}")
    todo = missing(about.cells, results)
    try:
        check_room(results.folder)  # before hours of work
        results.write_about(about)
        for cell, answer in engine.run(todo, features, listen) if todo else ():
            error = answer.get("error")
            if error is None:
                results.write(cell.key, answer)
            else:
                failed.append((cell, error))
            ended(cell, error)
    finally:
        try:
            outcome = write_outcome(about, results)
        finally:
            hold.release()
    return replace(outcome, computed=len(todo) - len(failed), failed=failed)


def write_outcome(about: About, results: Results) -> Outcome:
    """Tables, summary, curves of the cells that are done."""
    folder = results.folder
    results.write_about(about)
    rows = tabulate(about.cells, results)
    outcome = Outcome(rows, summarise(rows, about.baseline))
    write_table(rows, folder / "table.csv")
    write_curves(about.cells, results, folder / "curves.csv")
    document = as_markdown(about.title, outcome.sections, about.baseline)
    write_atomically(folder / "summary.md", utf8(document))
    for write, where in ((write_parquet, folder / "table.parquet"), (plot, folder)):
        try:
            write(rows, where)
        except EngineError as error:
            outcome.notes.append(str(error))
    return outcome


def estimate(cells: list[Cell]) -> tuple[float, int]:
    """Seconds of all cells one after the other, and how many photos are encoded before, at most;
    some forwards are timed for each set of class names and model."""
    speed: dict[tuple, float] = {}
    photos: dict[tuple, int] = {}
    seconds = 0.0
    sources_of = cache(Sources)
    for cell in cells:
        at = cell.data_set, cell.model, cell.template
        sources = sources_of(cell.root, cell.beside)
        if at not in speed:
            speed[at] = _seconds_per_forward(cell, sources.whole(cell.data_set).class_names)
        for name in (cell.data_set, *cell.test_on):
            photos.setdefault((name, cell.model), len(sources.whole(name).test or ()))
        draw = cell.data_set, cell.model, cell.shots, cell.seed
        if draw not in photos:
            drawn = sources.drawn(cell.data_set, cell.shots, cell.seed)
            photos[draw] = len(drawn.train) + len(drawn.val or ())
        fit = cell.forwards * speed[at]
        seconds += OVERHEAD + (fit if cell.seconds is None else min(fit, cell.seconds))
    return seconds, sum(photos.values())


def _seconds_per_forward(cell: Cell, class_names: tuple[str, ...]) -> float:
    """Measured on one batch of the text tower, after one to warm up."""
    checkpoint = Checkpoint.open(resolve(cell.model))
    tower = OnnxTextTower(checkpoint, class_names, template=cell.template, threads=cell.threads)
    try:
        contexts = np.repeat(tower.start[None], CANDIDATES, axis=0)
        tower.forward(contexts[:2])
        begin = time.perf_counter()
        tower.forward(contexts)
        return (time.perf_counter() - begin) / CANDIDATES
    finally:
        tower.close()
