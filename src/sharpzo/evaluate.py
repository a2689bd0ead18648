"""What a classifier is worth on labelled photos. The test split is read here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from sharpzo.metrics import confusion
from sharpzo.types import Array, Features, Head


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Accuracy as a fraction; ``confusion`` (K, K) counts, rows are true classes.

    ``per_class`` is None for a class without a photo.
    """

    accuracy: float
    n: int
    per_class: dict[str, float | None]
    confusion: Array


def evaluate(head: Head, photos: Features) -> Evaluation:
    """Classify every photo once and compare with its label."""
    predicted = head.scores(photos).argmax(axis=1)
    counts = confusion(predicted, photos.labels, len(photos.class_names))
    totals = counts.sum(axis=1)
    per_class = {
        name: float(counts[k, k] / totals[k]) if totals[k] else None
        for k, name in enumerate(photos.class_names)
    }
    return Evaluation(float(counts.trace() / counts.sum()), int(counts.sum()), per_class, counts)
