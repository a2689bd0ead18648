"""What people see while they wait. Everything here goes to standard error."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from sharpzo.cli.screen import Screen
from sharpzo.types import Step

QUIET_SECONDS = 10.0  # between two lines where the screen is no terminal


def percent(fraction: float | None) -> str:
    """0.8123 -> '81.2 %'; None -> 'n/a'.

    >>> percent(0.8123)
    '81.2 %'
    """
    return "n/a" if fraction is None else f"{100 * fraction:.1f} %"


class Display:
    """Live bars on a terminal, a line now and then elsewhere, nothing when ``silent``."""

    def __init__(self, *, forwards: int | None, silent: bool = False) -> None:
        self.console = Screen(stderr=True, quiet=silent)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            disable=silent or not self.console.is_terminal,
        )
        self._begun: dict[str, tuple[float, int]] = {}  # when a split's first photos were done
        self._tasks: dict[str, TaskID] = {}
        self._forwards = forwards
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
        begin, first = self._begun.setdefault(what, (time.monotonic(), done))
        seconds = time.monotonic() - begin
        rate = f"{(done - first) / seconds:,.1f} photos/s" if done > first and seconds else ""
        self._update(f"encoding {what} photos", done, total, rate, last=done == total)

    def checking(self, done: int, total: int) -> None:
        """Photos checked so far; nothing is said of what takes a moment."""
        begin, _ = self._begun.setdefault("checking", (time.monotonic(), 0))
        if time.monotonic() - begin > 1:
            self._update("checking photos", done, total, "")

    def working(self, what: str, done: int, total: int) -> None:
        """Photos encoded, or forwards of a landscape."""
        if what == "landscape":
            self._update("forwards around the solution", done, total, "", last=done == total)
        else:
            self.encoding(what, done, total)

    def step(self, step: Step) -> None:
        """One validated step of a search."""
        rate = f"{step.forwards / step.seconds:,.0f} forwards/s" if step.seconds > 0 else ""
        judged = f"validation {percent(step.validation_accuracy)}"
        note = f"{step.stage}  loss {step.loss:.3f}  {judged}  {rate}"
        total = self._forwards or step.forwards
        self._update("forwards", step.forwards, total, note)

    def _update(self, name: str, done: int, total: int, note: str, last: bool = False) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)
        if not self.console.is_terminal:
            now = time.monotonic()
            if last or now - self._said > QUIET_SECONDS:
                self._said = now
                self.console.say(f"{name}: {done:,} of {total:,}  {note}".rstrip())
