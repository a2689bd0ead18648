"""What a finished run is worth, and the photos that it takes for something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharpzo.fitting.fitter import Fitter
from sharpzo.fitting.job import Job
from sharpzo.fitting.trained import load
from sharpzo.storage.record import Record

MOST = 24  # mistakes that are shown


def summarise(record: Record) -> dict[str, Any]:
    """What a run's record says, as JSON has it: its method, what its fit cost, how many ``of`` the
    photos that it set aside are ``right``, and what may be said of it."""
    many, accuracy = record["data"]["validation_photos"], record["validation"]["accuracy"]
    return {
        "method": record["method"], "classes": record["class_names"],
        "seconds": record["seconds"], "forwards": record["forwards"],
        "of": many, "right": round(many * (accuracy or 0)),
        "untuned": record["validation"].get("zero_shot_accuracy"),
        "more": record.get("more_photos"), "none": record.get("none"),
        "warnings": record.get("warnings", []),
    }  # fmt: skip


def find_mistakes(run: Path, job: Job) -> list[dict[str, Any]]:
    """Photos that the fit set aside and that the run takes for another class, the surest first:
    ``class``, ``name``, what it ``said``, with which ``probability``."""
    photos, _ = job.usable(*job.photos(), Fitter(**job.parameters()))
    if not photos.val:
        return []
    trained = load(run, cache=job.cache)
    probabilities = trained.answer(photos.val).complete().probabilities
    said = probabilities.argmax(axis=1)
    rows = zip(photos.val.photos, photos.val.labels, said, probabilities.max(axis=1), strict=True)
    mistakes: list[dict[str, Any]] = [
        {"class": photo.path.parent.name, "name": photo.path.name,
         "said": trained.class_names[guess], "probability": float(sure)}
        for photo, label, guess, sure in rows
        if guess != label and photo.path is not None
    ]  # fmt: skip
    return sorted(mistakes, key=lambda one: -one["probability"])[:MOST]
