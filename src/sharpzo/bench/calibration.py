"""How far a classifier's confidence is from its accuracy."""

from __future__ import annotations

import numpy as np

from sharpzo.metrics import softmax
from sharpzo.types import Array


def calibration_error(logits: Array, labels: Array, bins: int = 15) -> float:
    """Expected calibration error of logits (N, K), a fraction (Guo et al. 2017, eq. 5).

    Photos are binned by the probability of their predicted class into ``bins`` equal widths; the
    gap between mean probability and accuracy of each bin is averaged, weighted by its photos.

    >>> import numpy as np
    >>> calibration_error(np.log([[0.8, 0.2]] * 10), np.array([0] * 8 + [1] * 2)).__round__(6)
    0.0
    """
    probability = softmax(logits.astype(np.float64))
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == labels
    at = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(at, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
