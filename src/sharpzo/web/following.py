"""How far the search of a fit is, by the journal that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sharpzo.fitting.fitter import Fitter
from sharpzo.fitting.job import Job
from sharpzo.storage.journal import HISTORY

CURVE = 100  # points of a curve at most


class Follower:
    """Reads what was added to the journal of a ``run`` since the last look."""

    def __init__(self, run: Path, job: Job) -> None:
        self._file = run / HISTORY
        self._about: dict[str, Any] = {"method": job.method, "run": int(run.name)}
        self._planned = Fitter(**job.parameters()).planned.forwards
        self._read, self._left = 0, b""
        self._curve: list[tuple[int, float, float | None]] = []  # forwards, loss, validation

    def look(self) -> dict[str, Any]:
        """Stage, loss, validation accuracy and forwards of the last step; no stage before one."""
        try:
            with self._file.open("rb") as file:
                if file.seek(0, 2) < self._read:  # a search that goes on begins at its snapshot
                    self._read, self._left, self._curve = 0, b"", []
                file.seek(self._read)
                new = file.read()
        except OSError:
            return self._about
        self._read += len(new)
        *lines, self._left = (self._left + new).split(b"\n")
        step: dict[str, Any] = {}
        for line in lines:
            step = json.loads(line)
            validation = step.get("validation_accuracy")
            self._curve.append((step["forwards"], step["loss"], validation))
        if len(self._curve) > 2 * CURVE:
            self._curve = self._curve[::2]
        if step:
            self._about |= {
                "stage": step["stage"], "loss": step["loss"],
                "validation": step.get("validation_accuracy"), "done": step["forwards"],
                "total": self._planned, "curve": self._curve,
            }  # fmt: skip
        return self._about
