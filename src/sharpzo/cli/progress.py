"""What people see while they wait. Everything here goes to standard error."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from sharpzo.budget import Budget
from sharpzo.cli.screen import Screen
from sharpzo.types import Step

QUIET_SECONDS = 10.0  # between two lines where the screen is no terminal


def percent(fraction: float | None) -> str:
    """0.8123 -> '81.2 %'; None -> 'n/a'.

    >>> percent(0.8123)
    '81.2 %'
    """
    return "n/a" if fraction is None else f"{100 * fraction:.1f} %"


def clock(seconds: float) -> str:
    """0.4 -> '0:00', 75 -> '1:15', 3675 -> '1:01:15'.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display:
    """Live bars on a terminal, a line now and then elsewhere, nothing when ``silent``."""

    def __init__(self, *, silent: bool = False) -> None:
        self.console = Screen(stderr=True, quiet=silent)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            # What is left of 80 columns beside the longest name and note of a search.
            BarColumn(bar_width=max(4, min(16, self.console.width - 76))),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            disable=silent or not self.console.is_terminal,
        )
        self._begun: dict[str, tuple[float, int]] = {}  # when a split's first photos were done
        self._tasks: dict[str, TaskID] = {}
        self._said = 0.0

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def warn(self, sentence: str) -> None:
        """What a person should know before the work goes on."""
        self.console.say(f"warning: {sentence}")

    def encoding(self, what: str, done: int, total: int) -> None:
        """Photos encoded so far."""
        self._counting(f"encoding {what} photos", done, total, "photos")

    def checking(self, done: int, total: int) -> None:
        """Photos checked so far; nothing is said of what takes a moment."""
        begin, _ = self._begun.setdefault("checking", (time.monotonic(), 0))
        if time.monotonic() - begin > 1:
            self._update("checking photos", done, total, "")

    def working(self, what: str, done: int, total: int) -> None:
        """Photos encoded, or forwards of a landscape."""
        if what == "landscape":
            self._counting("forwards around the solution", done, total, "forwards")
        else:
            self.encoding(what, done, total)

    def search(self, name: str, budget: Budget) -> Callable[[Step], None]:
        """Return what shows the validated steps of a search by the method ``name``."""
        first: dict[str, Step] = {}  # of each stage

        def show(step: Step) -> None:
            begins = step.stage not in first
            before = first.setdefault(step.stage, step)
            parts = [
                step.stage,
                f"loss {step.loss:.3f}",
                f"validation {percent(step.validation_accuracy)}",
                f"{clock(left)} left" if (left := _left(step, before, budget)) is not None else "",
            ]
            note = ", ".join(part for part in parts if part)
            total = budget.forwards or step.forwards
            self._update(name, step.forwards, total, note, " forwards", now=begins)

        return show

    def _counting(self, name: str, done: int, total: int, unit: str) -> None:
        begin, first = self._begun.setdefault(name, (time.monotonic(), done))
        seconds, many = time.monotonic() - begin, done - first
        note = ""
        if many and seconds:
            rate = many / seconds
            note = f"{rate:,.1f} {unit}/s, {clock((total - done) / rate)} left"
        self._update(name, done, total, note if done < total else "", now=done == total)

    def _update(
        self, name: str, done: int, total: int, note: str, unit: str = "", now: bool = False
    ) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)
        if not self.console.is_terminal:
            moment = time.monotonic()
            if now or moment - self._said > QUIET_SECONDS:
                self._said = moment
                line = f"{name}: {done:,} of {total:,}{unit}"
                self.console.say(f"{line}, {note}" if note else line)


def _left(step: Step, before: Step, budget: Budget) -> float | None:
    """Seconds that a search still takes, by its pace since ``before``, the first step of its stage:
    what came until then is no pace. None where nothing says when it ends."""
    ends = [budget.seconds - step.seconds] if budget.seconds else []
    if budget.forwards and (many := step.forwards - before.forwards):
        pace = (step.seconds - before.seconds) / many
        ends.append((budget.forwards - step.forwards) * pace)
    return max(0.0, min(ends)) if ends else None
