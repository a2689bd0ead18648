"""What a person sees of a bench: the plan, the progress, the tables."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sharpzo.bench.cell import Cell
from sharpzo.bench.driver import Outcome
from sharpzo.bench.estimate import estimate
from sharpzo.bench.results import Store
from sharpzo.bench.summary import Line, Section
from sharpzo.bench.summary import show as interval
from sharpzo.cli.progress import QUIET_SECONDS
from sharpzo.cli.screen import Column, Screen

OVERHEAD = 500  # forwards that a cell's process costs beside its own: makes bars of heads move


class Bars:
    """Cells done, what runs, and time left; lines now and then where there is no terminal.

    `heard` may be called by several threads.
    """

    def __init__(self, cells: list[Cell], todo: list[Cell], silent: bool = False) -> None:
        self._console = Screen(stderr=True, quiet=silent)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}", markup=False), TimeRemainingColumn(),
            console=self._console, disable=silent or not self._console.is_terminal,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._names = {cell.key: cell.name for cell in todo}
        self._weight = {cell.key: cell.forwards + OVERHEAD for cell in todo}
        self._spent: dict[str, int] = {}
        self._finished = 0
        self._counts = len(cells) - len(todo), len(cells)
        self._bar = self._bars.add_task(
            self._title(0), total=sum(self._weight.values()) or 1, note=""
        )
        self._ended = 0
        self._said = time.monotonic()

    def __enter__(self) -> Bars:
        if self._counts[0]:
            self.say(f"{self._counts[0]} of {self._counts[1]} cells are done already")
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def say(self, sentence: str) -> None:
        """One line above the bar."""
        self._console.say(sentence)

    def heard(self, key: str, done: int) -> None:
        """Forwards of a cell, or with an empty key photos encoded."""
        with self._lock:
            if key:
                self._spent[key] = min(done, self._weight[key])
                note = f"{self._names[key]}: {done:,} forwards"
            else:
                note = f"encoding photos: {done:,}"
            self._bars.update(self._bar, completed=self._work(), note=note)
            now = time.monotonic()
            if not self._console.is_terminal and now - self._said > QUIET_SECONDS:
                self._said = now
                self.say(note)

    def ended(self, cell: Cell, error: str | None) -> None:
        """A cell is done, or has failed."""
        with self._lock:
            self._ended += 1
            self._spent.pop(cell.key, None)
            self._finished += self._weight[cell.key]
            self._bars.update(
                self._bar,
                completed=self._work(),
                description=self._title(self._ended),
                note=cell.name,
            )
            if error is not None:
                self.say(f"failed: {cell.name}: {error}")
            elif not self._console.is_terminal:
                self.say(f"{self._title(self._ended)}: {cell.name}")

    def _work(self) -> int:
        return self._finished + sum(self._spent.values())

    def _title(self, ended: int) -> str:
        return f"cell {self._counts[0] + ended} of {self._counts[1]}"


def show_plan(cells: list[Cell], todo: list[Cell], store: Store, as_json: bool) -> None:
    """Every cell, whether it is done, and what the others will take."""
    cost = estimate(todo)
    if as_json:
        print(json.dumps({
            "out": str(store.folder),
            "cells": [{"cell": c.name, "key": c.key, "done": c.key in store} for c in cells],
            "missing": cost.cells,
            "forwards": cost.forwards,
            "seconds": round(cost.seconds, 1),
            "photos": cost.photos,
        }))  # fmt: skip
        return
    screen = Screen()
    screen.show(
        f"Cells of {store.folder}",
        [Column("cell", wraps=True), Column("forwards", right=True), Column("done")],
        [[cell.name, f"{cell.forwards:,}", "yes" if cell.key in store else ""] for cell in cells],
    )
    screen.say(
        f"{cost.cells} cells are missing: {cost.forwards:,} forwards, about "
        f"{_duration(cost.seconds)} one after the other, after encoding at most "
        f"{cost.photos:,} photos"
    )


def _duration(seconds: float) -> str:
    """5400 -> "1.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def show(outcome: Outcome, title: str, baseline: str | None, folder: Path) -> None:
    """A table a section; everything else is in the folder."""
    screen = Screen()
    for section in outcome.sections:
        _show_section(screen, section, baseline)
    for note in outcome.notes:
        screen.say(f"note: {note}")
    screen.say(
        f"{title}: {folder / 'summary.md'} adds tuning, calibration and published figures, "
        f"{folder / 'table.csv'} has every run"
    )


def _show_section(screen: Screen, section: Section, baseline: str | None) -> None:
    against = [] if baseline is None else [f"minus {baseline}"]
    numbers = ("budget", "test %", *against, "forwards", "seconds", "peak MB")
    screen.show(
        f"{section.title}, {section.test_photos:,} test photos",
        [Column("method"), *(Column(title, right=True) for title in numbers)],
        [_cells(line, baseline) for line in section.lines],
    )


def _cells(line: Line, baseline: str | None) -> list[str]:
    return [
        line.method,
        "own" if line.budget is None else f"{line.budget:,}",
        interval(line.test),
        *([] if baseline is None else [interval(line.difference, signed=True)]),
        f"{line.forwards:,.0f}",
        f"{line.seconds:,.1f}",
        "–" if line.peak_memory_mb is None else f"{line.peak_memory_mb:,.0f}",
    ]
