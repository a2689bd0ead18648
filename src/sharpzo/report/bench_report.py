"""The report of a bench: not written yet; the hook that `sharpzo report BENCH` reaches."""

from __future__ import annotations

from pathlib import Path

from sharpzo.errors import InputError


def report_bench(folder: str | Path) -> str:
    """Raise InputError that names what there is instead."""
    raise InputError(
        f"{folder} is a bench, and reports are written of runs only so far; its tables and curves "
        "are the files beside cells/"
    )
