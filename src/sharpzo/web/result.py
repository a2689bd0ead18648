"""What a finished run is worth, in plain words, and the photos that it takes for something else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpzo.fitting.fitter import Fitter
from sharpzo.fitting.job import Job
from sharpzo.fitting.trained import load

MOST = 24  # mistakes that are shown


def measure(run: Path, job: Job, found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Evaluate a run on the photos that its fit set aside; ``found`` is what `find_problems` found.

    Returns, as JSON has it: method, seconds and forwards of the fit, how many of the photos set
    aside were ``right`` ``of`` all, the share that the untuned model has right, the mistakes, the
    surest first, and the sentences that belong to it.
    """
    fitter = Fitter(**job.parameters())
    photos, _ = job.usable(*job.photos(), fitter)
    trained = load(run, cache=job.cache)
    record = trained.record
    mistakes: list[dict[str, Any]] = []
    if photos.val:
        answers = trained.answer(photos.val).complete()
        probabilities, names = answers.probabilities, trained.class_names
        for photo, label, row in zip(
            photos.val.photos, photos.val.labels, probabilities, strict=True
        ):
            said = int(row.argmax())
            if said != label and photo.path is not None:
                mistakes.append({
                    "class": photo.path.parent.name, "name": photo.path.name,
                    "said": names[said], "probability": float(row[said]),
                })  # fmt: skip
    mistakes.sort(key=lambda one: -one["probability"])
    many = len(photos.val or ())
    return {
        "method": record["method"], "classes": list(trained.class_names),
        "seconds": record["seconds"], "forwards": record["forwards"],
        "of": many, "right": many - len(mistakes), "mistakes": mistakes[:MOST],
        "untuned": record["validation"].get("zero_shot_accuracy"),
        "left_out": found and found["recognised"],
        "more": record.get("more_photos"), "none": record.get("none"),
        "warnings": record.get("warnings", []),
    }  # fmt: skip
