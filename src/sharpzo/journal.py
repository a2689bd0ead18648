"""What happened during a run, one JSON object a line, appended as it happens."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from sharpzo.errors import ArtifactError
from sharpzo.types import Step


class Journal:
    """Appends steps to ``history.jsonl``; every line is on disk before the next step begins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def append(self, step: Step) -> None:
        record = {name: value for name, value in asdict(step).items() if value not in (None, {})}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_journal(path: Path) -> list[Step]:
    """Steps of a journal; a last line torn by a crash is dropped, any other damage is an error."""
    lines = path.read_text(encoding="utf-8").split("\n")
    steps = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            steps.append(Step(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ArtifactError(f"line {number} of {path} is damaged: {error}") from None
    return steps
