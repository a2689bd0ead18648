"""Evaluate a classifier on labelled photos. The test split is read here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sharpzo.metrics import calibration_error, confusion, softmax
from sharpzo.types import Array, Features, Head


@dataclass(frozen=True)
class Rejection:
    """What a rule for photos of no class makes of photos; shares are fractions.

    ``lost`` of the photos of classes are below the ``threshold``, where ``wanted`` were to be. Of
    ``strangers``, photos of no class, ``recognised`` are below it; ``auroc`` is the area under the
    ROC curve. None without strangers.
    """

    threshold: float
    wanted: float
    lost: float
    strangers: int = 0
    recognised: float | None = None
    auroc: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Accuracy as a fraction; ``confusion`` (K, K) counts, rows are true classes.

    ``per_class`` is None for a class without a photo. ``calibration_error`` is how far predicted
    probabilities are from accuracies (`metrics.calibration_error`). ``none`` is what was measured
    of the rule for photos of no class, which all other figures leave out.
    """

    accuracy: float
    n: int
    per_class: dict[str, float | None]
    confusion: Array
    calibration_error: float
    none: Rejection | None = None

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the classes' accuracies, in which each class with photos counts the same."""
        return float(np.mean([one for one in self.per_class.values() if one is not None]))


def evaluate(head: Head, photos: Features, among: Array | None = None) -> Evaluation:
    """Classify every photo once and compare with its label.

    ``among``: for each class name of the photos its class of the head, which chooses among these.
    """
    logits = head.scores(photos)
    if among is not None:
        logits = logits[:, among]
    return evaluate_logits(logits, photos.labels, photos.class_names)


def evaluate_logits(logits: Array, labels: Array, class_names: Sequence[str]) -> Evaluation:
    """The same where each of N photos has its logits (N, K)."""
    counts = confusion(logits.argmax(axis=1), labels, len(class_names))
    totals = counts.sum(axis=1)
    per_class = {
        name: float(counts[k, k] / totals[k]) if totals[k] else None
        for k, name in enumerate(class_names)
    }
    return Evaluation(
        float(counts.trace() / counts.sum()),
        int(counts.sum()),
        per_class,
        counts,
        calibration_error(softmax(logits.astype(np.float64)), labels),
    )
