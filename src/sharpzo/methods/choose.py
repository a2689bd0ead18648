"""What a head leaves open, chosen on the validation photos: by accuracy, ties by cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from sharpzo.metrics import accuracy, cross_entropy
from sharpzo.types import Array, Features, Head

H = TypeVar("H", bound=Head)
P = TypeVar("P")


def rank(logits: Array, labels: Array) -> tuple[float, float]:
    """Return what is to be small: error rate, then cross-entropy; no number counts as infinite.

    >>> import numpy as np
    >>> right, unsure = np.array([[2.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> rank(right, np.array([0])) < rank(unsure, np.array([0])) < rank(right, np.array([1]))
    True
    """
    loss = float(cross_entropy(logits, labels))
    return (1 - accuracy(logits, labels), loss) if math.isfinite(loss) else (1.0, math.inf)


def choose(grid: Iterable[tuple[P, Array]], labels: Array) -> P:
    """Return the point of lowest rank of pairs (point, validation logits (N, K)); first of equals.

    >>> import numpy as np
    >>> choose([("bad", np.eye(2)), ("good", 9 * np.eye(2)[::-1])], np.array([1, 0]))
    'good'
    """
    best: tuple[tuple[float, float], P] | None = None
    for point, logits in grid:
        found = rank(logits, labels)
        if best is None or found < best[0]:
            best = found, point
    assert best is not None
    return best[1]


def choose_penalty(
    fit: Callable[[float, Array], tuple[Array, H]],
    start: Array,
    *,
    penalties: tuple[float, ...],
    fallback: float,
    validation: Features | None,
) -> tuple[Array, H, float]:
    """Return parameters, head and penalty of the lowest rank on the validation photos.

    Penalties are tried from the strongest to the weakest, each from the solution before, which is
    also the order in which the problems get harder. Without validation photos ``fallback`` is
    fitted alone.
    """
    if validation is None:
        return (*fit(fallback, start), fallback)

    def path() -> Iterable[tuple[tuple[Array, H, float], Array]]:
        parameters = start
        for penalty in sorted(penalties, reverse=True):
            parameters, head = fit(penalty, parameters)
            yield (parameters, head, penalty), head.scores(validation)

    return choose(path(), validation.labels)
