"""Progress bars and warnings, on standard error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from sharpzo.budget import Budget
from sharpzo.cli.screen import Screen, percent
from sharpzo.types import Step

if TYPE_CHECKING:
    from sharpzo.bench.cell import Cell

QUIET_SECONDS = 10.0  # between two lines where the screen is no terminal
NOTE = TextColumn("{task.fields[note]}", markup=False)
OVERHEAD = 500  # forwards that a process costs: cells without a search move the bar, too


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(75.4)
    '0:01:15'
    """
    return str(timedelta(seconds=int(seconds)))


class Live(Progress):
    """Bars on standard error, a line now and then without a terminal, nothing if ``silent``."""

    def __init__(self, silent: bool, *columns: ProgressColumn) -> None:
        self._screen = screen = Screen(stderr=True, quiet=silent)
        described = TextColumn("{task.description}", markup=False)
        hidden = silent or not screen.is_terminal
        super().__init__(described, *columns, console=screen, disable=hidden)
        self._said = 0.0

    @property
    def console(self) -> Screen:
        return self._screen

    def now_and_then(self, line: str, now: bool = False) -> None:
        """Print a line where no bar is shown, if the last one is long ago."""
        moment = time.monotonic()
        if not self.console.is_terminal and (now or moment - self._said > QUIET_SECONDS):
            self._said = moment
            self.console.say(line)


class Display(Live):
    """The progress of commands on photos: encoding, checking, searching."""

    def __init__(self, *, silent: bool = False) -> None:
        # What is left of 80 columns beside the longest name and note of a search.
        bar = BarColumn(bar_width=max(4, min(16, Screen(stderr=True).width - 79)))
        super().__init__(silent, bar, MofNCompleteColumn(), NOTE)
        self._begun: dict[str, tuple[float, int]] = {}  # when the first of something was done
        self._shown: dict[str, TaskID] = {}

    def warn(self, sentence: str) -> None:
        """A warning, shown before the work continues."""
        self.console.say(f"warning: {sentence}")

    def encoding(self, what: str, done: int, total: int) -> None:
        """Photos encoded so far."""
        self._counting(f"encoding {what} photos", done, total, "photos")

    def checking(self, done: int, total: int) -> None:
        """Photos checked so far; nothing is said of what takes a moment."""
        begin, _ = self._begun.setdefault("checking", (time.monotonic(), 0))
        if time.monotonic() - begin > 1:
            self._show("checking photos", done, total, "")

    def answering(self, done: int, total: int) -> None:
        """Photos encoded of those that are answered one part after the other."""
        self._counting("encoding photos", done, total, "photos", last=False)

    def working(self, what: str, done: int, total: int) -> None:
        """Photos encoded, or forwards of a landscape."""
        if what == "landscape":
            self._counting("forwards around the solution", done, total, "forwards")
        else:
            self.encoding(what, done, total)

    def search(self, name: str, budget: Budget) -> Callable[[Step], None]:
        """Return what shows the validated steps of a search by the method ``name``.

        The time left is that of the nearer end, by the pace since the first step of the stage: what
        came until then is no pace.
        """
        first: dict[str, Step] = {}  # of each stage

        def show(step: Step) -> None:
            begins = step.stage not in first
            before = first.setdefault(step.stage, step)
            ends = [budget.seconds - step.seconds] if budget.seconds else []
            if budget.forwards and (many := step.forwards - before.forwards):
                pace = (step.seconds - before.seconds) / many
                ends.append((budget.forwards - step.forwards) * pace)
            note = (
                f"{step.stage}, loss {step.loss:.3f}, "
                f"validation {percent(step.validation_accuracy)}"
            )
            note += f", {clock(max(0.0, min(ends)))} left" if ends else ""
            total = budget.forwards or step.forwards
            self._show(name, step.forwards, total, note, " forwards", now=begins)

        return show

    def _counting(self, name: str, done: int, total: int, unit: str, last: bool = True) -> None:
        begin, first = self._begun.setdefault(name, (time.monotonic(), done))
        seconds, many = time.monotonic() - begin, done - first
        note = ""
        if many and seconds and done < total:
            rate = many / seconds
            note = f"{rate:,.1f} {unit}/s, {clock((total - done) / rate)} left"
        self._show(name, done, total, note, now=last and done == total)

    def _show(
        self, name: str, done: int, total: int, note: str, unit: str = "", now: bool = False
    ) -> None:
        if name not in self._shown:
            self._shown[name] = self.add_task(name, total=total, note=note)
        self.update(self._shown[name], completed=done, total=total, note=note)
        line = f"{name}: {done:,} of {total:,}{unit}"
        self.now_and_then(f"{line}, {note}" if note else line, now)


class Bars(Live):
    """Cells of a bench that are done, what runs, and the time left.

    `listen` may be called by several threads.
    """

    def __init__(self, cells: list[Cell], todo: list[Cell], silent: bool = False) -> None:
        super().__init__(silent, BarColumn(bar_width=24), NOTE, TimeRemainingColumn())
        self._changing = threading.Lock()
        self._names = {cell.key: cell.name for cell in todo}
        self._weight = {cell.key: cell.forwards + OVERHEAD for cell in todo}
        self._spent: dict[str, int] = {}
        self._done, self._all = len(cells) - len(todo), len(cells)
        total = sum(self._weight.values()) or 1
        self._bar = self.add_task(self._title(), total=total, note="")
        self._said = time.monotonic()
        if self._done:
            self.console.say(f"{self._done} of {self._all} cells are done already")

    def listen(self, key: str, done: int) -> None:
        """Forwards of a cell, or with an empty key photos encoded."""
        with self._changing:
            note = f"encoding photos: {done:,}"
            if key:
                self._spent[key] = min(done, self._weight[key])
                note = f"{self._names[key]}: {done:,} forwards"
            self.update(self._bar, completed=sum(self._spent.values()), note=note)
            self.now_and_then(note)

    def ended(self, cell: Cell, error: str | None) -> None:
        """A cell is done, or has failed."""
        with self._changing:
            self._done += 1
            self._spent[cell.key] = self._weight[cell.key]
            title = self._title()
            work = sum(self._spent.values())
            self.update(self._bar, completed=work, description=title, note=cell.name)
            if error is not None:
                self.console.say(f"failed: {cell.name}: {error}")
            elif not self.console.is_terminal:
                self.console.say(f"{title}: {cell.name}")

    def _title(self) -> str:
        return f"cell {self._done} of {self._all}"
