"""Answers as JSON documents, which `sharpzo predict`, `watch` and `serve` give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sharpzo.metrics import sigmoid

if TYPE_CHECKING:
    from sharpzo.fitting.answers import Answers
    from sharpzo.fitting.trained import Trained

EVEN = 0.5  # a class is a label of a photo from this probability on


def documents_of(
    trained: Trained, part: Answers, lost: float, top: int, multi: bool = False
) -> Iterator[dict[str, Any]]:
    """What is said of each photo: ``path``, ``label``, ``probability``, ``none``, and the ``top``
    most probable classes; with ``multi`` all ``labels`` of at least 50 %; or an ``error``."""
    if multi:
        found = sigmoid(part.logits.astype("float64") + trained.logit_bias())
        known: list[bool | None] = [bool(row.max() >= EVEN) for row in found]
    else:
        found = part.probabilities
        known = part.known(trained.strangers.threshold(lost) if trained.strangers else 0.0)
    reasons = {error.photo: error.reason for error in part.errors}
    answers, labels, read = zip(found, known, strict=True), trained.classes, set(part.rows)
    for row, photo in enumerate(part.photos):
        if row not in read:
            yield {"path": photo.name, "error": reasons[photo.name]}
            continue
        probabilities, of_these = next(answers)
        order = probabilities.argsort()[::-1]
        best = [
            {"label": str(labels[k]), "probability": float(probabilities[k])} for k in order[:top]
        ]
        none = of_these is False
        document: dict[str, Any] = {"path": photo.name, **best[0], "none": none, "top": best}
        if multi:
            document["labels"] = [str(labels[k]) for k in order if probabilities[k] >= EVEN]
        yield document
