"""Which folder a report is asked for: a run, or a bench."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sharpzo.artifact import HISTORY, RECORD
from sharpzo.errors import ArtifactError

Kind = Literal["run", "bench"]


def kind_of(folder: str | Path) -> Kind:
    """``run`` or ``bench``; ArtifactError for anything else."""
    folder = Path(folder)
    if (folder / RECORD).is_file() or (folder / HISTORY).is_file():
        return "run"
    if (folder / "cells").is_dir():
        return "bench"
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}; give one that 'sharpzo fit' wrote")
    raise ArtifactError(
        f"{folder} is neither a run (it has no {RECORD}) nor a bench (it has no cells/); give a "
        "folder that 'sharpzo fit' or 'sharpzo bench' wrote"
    )
