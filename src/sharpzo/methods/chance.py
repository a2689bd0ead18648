"""Whether the untuned model does better than guessing, without which a shared prompt cannot help.

One prompt moves the text features of all classes together: it can mend how the model reads names
that it knows, and cannot teach it names that it does not know.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sharpzo.methods.registry import Method
from sharpzo.metrics import binomial_tail
from sharpzo.types import Features, Head

# Of the way from guessing to no mistake. Oxford Flowers begins at 0.02, and no shared prompt gained
# there; EuroSAT and Fashion-MNIST begin at 0.13 and gain tens of points.
NEAR = 0.05
LEVEL = 0.05  # of the one-sided test that the model does better than that


def cautions(
    method: Method,
    untuned: Head,
    encoded: Mapping[str, Features],
    warn: Callable[[str], None] | None = None,
) -> list[str]:
    """Return why a method can hardly help, and say it by ``warn`` (None: `warnings.warn`).

    Of ``encoded``, the training and the validation photos are looked at.
    """
    photos = [encoded[name] for name in ("training", "validation") if name in encoded]
    sentence = hopeless(method, untuned, photos) if method.shared_context else None
    if sentence is None:
        return []
    if warn is None:
        warnings.warn(sentence, stacklevel=3)  # at the caller of `fit`
    else:
        warn(sentence)
    return [sentence]


def hopeless(method: Method, untuned: Head, photos: Sequence[Features]) -> str | None:
    """A sentence about one prompt for all classes if the untuned head is not shown to do better
    than about guessing on these photos.

    Guessing is what the head's own answers would get on these photos in random order: with a class
    that is in most photos, and in most answers, it gets many right.
    """
    labels = np.concatenate([split.labels for split in photos])
    answers = np.concatenate([untuned.scores(split).argmax(axis=1) for split in photos])
    many, right = len(labels), int((answers == labels).sum())
    counts = (np.bincount(found, minlength=untuned.n_classes) for found in (labels, answers))
    guessing = float(np.multiply(*counts).sum()) / many**2
    if binomial_tail(right, many, guessing + NEAR * (1 - guessing)) <= LEVEL:
        return None
    return (
        f"the untuned model is right on {right:,} of {many:,} training and validation photos, and "
        f"guessing on about {guessing * many:,.0f}; one prompt for all classes, which is what "
        f"{method.name} tunes, can hardly help: take ladder+gda or fgn-csc, which learn each class "
        "from its photos"
    )
