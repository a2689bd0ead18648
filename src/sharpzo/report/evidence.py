"""Measures of a run on labelled photos before and after tuning, and its most certain mistakes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.evaluate import Evaluation, evaluate
from sharpzo.metrics import softmax
from sharpzo.trained import Trained, among
from sharpzo.types import Array, Features, Head

Progress = Callable[[str, int, int], None]
SIDE = 144  # pixels of a thumbnail's longer side


@dataclass(frozen=True, eq=False)
class Reliability:
    """Photos by the probability of their predicted class: mean probability, accuracy, number."""

    confidence: Array
    accuracy: Array
    counts: Array

    @classmethod
    def of(cls, probabilities: Array, labels: Array, bins: int = 15) -> Reliability:
        """Bins of `metrics.calibration_error`; an empty one has zeros.

        >>> one = Reliability.of(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), bins=2)
        >>> one.counts.tolist(), one.accuracy.tolist()
        ([0, 2], [0.0, 0.5])
        """
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == labels
        place = np.minimum((confidence * bins).astype(int), bins - 1)
        counts = np.bincount(place, minlength=bins)
        many = np.maximum(counts, 1)
        return cls(
            np.bincount(place, confidence, minlength=bins) / many,
            np.bincount(place, right, minlength=bins) / many,
            counts,
        )


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
        if not photos:
            continue
        photos = of_run(photos, trained.class_names, dataset.source)
        if not photos:
            continue
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


@dataclass(frozen=True)
class Mistake:
    """A photo as a data URI, what it shows, what it was taken for, and both probabilities."""

    picture: str
    photo: str
    truth: str
    guess: str
    probability: float
    probability_of_truth: float


def worst_mistakes(evidence: Evidence, many: int = 12) -> list[Mistake]:
    """At most ``many`` wrong predictions, those of the highest probability first."""
    guesses = evidence.probabilities.argmax(axis=1)
    surety = evidence.probabilities.max(axis=1)
    wrong = np.flatnonzero(guesses != evidence.labels)
    names = evidence.photos.class_names
    found = []
    for row in wrong[np.argsort(-surety[wrong], kind="stable")][:many]:
        photo = evidence.photos.photos[row]
        truth = int(evidence.labels[row])
        found.append(
            Mistake(
                thumbnail(photo.decode()),
                photo.name,
                names[truth],
                names[int(guesses[row])],
                float(surety[row]),
                float(evidence.probabilities[row, truth]),
            )
        )
    return found


def thumbnail(pixels: Array, side: int = SIDE) -> str:
    """Pixels uint8 (H, W, 3) as a small JPEG in a data URI; small photos keep their size."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = BytesIO()
    image.save(file, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
