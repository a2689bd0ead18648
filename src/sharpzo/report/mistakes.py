"""The mistakes that a classifier is surest of, with a small picture of each."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from sharpzo.report.evidence import Evidence
from sharpzo.types import Array

SIDE = 144  # pixels of a thumbnail's longer side


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
