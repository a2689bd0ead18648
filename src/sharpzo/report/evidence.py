"""Measures of a run on labelled photos before and after tuning, and its most certain mistakes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.evaluate import Evaluation, evaluate
from sharpzo.fitting.trained import Trained, among
from sharpzo.metrics import softmax
from sharpzo.types import Array, Features, Head

Progress = Callable[[str, int, int], None]
SIDE = 144  # pixels of a thumbnail's longer side


def reliability_bins(
    probabilities: Array, labels: Array, bins: int = 15
) -> tuple[Array, Array, Array]:
    """Photos by the probability of their predicted class, in the bins of
    `metrics.calibration_error`: mean probability, accuracy, number; zeros in an empty bin.

    >>> bins = reliability_bins(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), bins=2)
    >>> [one.round(3).tolist() for one in bins]
    [[0.0, 0.85], [0.0, 0.5], [0, 2]]
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, one, minlength=bins) for one in (confidence, right))
    confidences, accuracies = (total / np.maximum(counts, 1) for total in sums)
    return confidences, accuracies, counts


@dataclass(frozen=True, eq=False)
class Evidence:
    """A split's photos and what the untuned and the tuned classifier make of them.

    ``before`` and ``after`` are evaluations, the probabilities are (N, K), ``labels`` (N,) into
    the run's class names.
    """

    split: str
    photos: LabelledPhotos
    labels: Array
    before: Evaluation
    after: Evaluation
    probabilities_before: Array
    probabilities: Array


def of_run(split: LabelledPhotos, names: tuple[str, ...], source: str) -> LabelledPhotos:
    """The photos of the run's classes, which may be half of those in the data."""
    place = {name: k for k, name in enumerate(names)}
    kept = [place.get(name, -1) for name in split.class_names]
    if max(kept, default=-1) < 0:
        raise InputError(
            f"{source} has none of the run's classes ({', '.join(names[:5])}, …); give the photos "
            "that the run was made with as --data"
        )
    labels = np.array(kept, np.int64)[split.labels]
    rows = np.flatnonzero(labels >= 0)
    return LabelledPhotos(tuple(split.photos[row] for row in rows), labels[rows], names)


def gather(
    trained: Trained, zero_shot: Head, dataset: Dataset, progress: Progress
) -> Evidence | None:
    """Evaluate on the test split, or on the validation split where there is none; else None."""
    for split, photos in (("test", dataset.test), ("validation", dataset.val)):
        photos = photos and of_run(photos, trained.class_names, dataset.source)
        if photos:
            features = encoded(trained, photos, progress)
            heads = (zero_shot, trained.head)
            before, after = (evaluate(head, features) for head in heads)
            untuned, tuned = (softmax(head.scores(features).astype(np.float64)) for head in heads)
            return Evidence(split, photos, features.labels, before, after, untuned, tuned)
    return None


def encoded(trained: Trained, photos: LabelledPhotos, progress: Progress) -> Features:
    """Features of photos with labels into the run's own class names."""
    features, places = trained.encode(photos, progress=progress)
    return among(features, places, trained.class_names)


def worst_mistakes(evidence: Evidence, many: int = 12) -> list[dict[str, Any]]:
    """At most ``many`` wrong predictions, those of the highest probability first: a picture, the
    photo's name, its class, what it was taken for, and both probabilities."""
    guesses = evidence.probabilities.argmax(axis=1)
    surety = evidence.probabilities.max(axis=1)
    wrong = np.flatnonzero(guesses != evidence.labels)
    names, found = evidence.photos.class_names, []
    for row in wrong[np.argsort(-surety[wrong], kind="stable")][:many]:
        photo, truth = evidence.photos.photos[row], evidence.labels[row]
        found.append({
            "picture": thumbnail(photo.decode()),
            "photo": photo.name,
            "truth": names[truth],
            "guess": names[guesses[row]],
            "probability": surety[row],
            "probability_of_truth": evidence.probabilities[row, truth],
        })  # fmt: skip
    return found


def thumbnail(pixels: Array, side: int = SIDE) -> str:
    """Pixels uint8 (H, W, 3) as a small JPEG in a data URI; small photos keep their size."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = BytesIO()
    image.save(file, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
