"""Metrics of logits: probabilities, cross-entropy, accuracy, confusion."""

from __future__ import annotations

import math

import numpy as np

from sharpzo.types import Array


def softmax(logits: Array) -> Array:
    """Logits (..., K) -> probabilities (..., K), safe against overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean cross-entropy of logits (..., N, K) against labels (N,), float64 (...).

    The logits may be float32; the sum over photos runs in float64, because searches read
    differences of nearly equal losses.

    >>> import numpy as np
    >>> float(cross_entropy(np.zeros((5, 4)), np.zeros(5, int)).round(4))  # log 4
    1.3863
    """
    peak = logits.max(axis=-1, keepdims=True)
    normaliser = np.log(np.exp(logits - peak).sum(axis=-1, dtype=np.float64)) + peak[..., 0]
    chosen = np.take_along_axis(
        logits, np.broadcast_to(labels[:, None], (*logits.shape[:-1], 1)), axis=-1
    )[..., 0]
    return (normaliser - chosen).mean(axis=-1, dtype=np.float64)


def loss_and_error(logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean cross-entropy of logits (N, K), and softmax minus one-hot labels (N, K).

    The second, divided by N, is the loss's derivative by the logits, in their dtype.

    >>> import numpy as np
    >>> loss_and_error(np.zeros((1, 2)), np.array([1]))[1].tolist()
    [[0.5, -0.5]]
    """
    rows = np.arange(len(labels))
    peak = logits.max(axis=-1, keepdims=True)
    error = np.exp(logits - peak)
    # As `softmax` and `cross_entropy` compute them, from one exponential.
    normaliser = np.log(error.sum(axis=-1, dtype=np.float64)) + peak[..., 0]
    loss = (normaliser - logits[rows, labels]).mean(dtype=np.float64)
    error /= error.sum(axis=-1, keepdims=True)
    error[rows, labels] -= 1
    return float(loss), error


def sigmoid(logits: Array) -> Array:
    """Logits -> probabilities of each class on its own, safe against overflow.

    >>> import numpy as np
    >>> sigmoid(np.array([0.0, -1000.0])).tolist()
    [0.5, 0.0]
    """
    fall = np.exp(-np.abs(logits))
    return np.where(logits < 0, fall, 1) / (1 + fall)


def sigmoid_loss(logits: Array, labels: Array) -> Array:
    """Mean over photos of the sum over classes of -log sigmoid(+- logits), + at the label; of
    logits (..., N, K) against labels (N,), float64 (...). SigLIP's loss (arXiv 2303.15343, eq. 2).

    >>> import numpy as np
    >>> float(sigmoid_loss(np.zeros((5, 4)), np.zeros(5, int)).round(4))  # 4 log 2
    2.7726
    """
    signs = np.full(logits.shape[-2:], -1, logits.dtype)
    signs[np.arange(len(labels)), labels] = 1
    agreement = signs * logits
    each = np.log1p(np.exp(-np.abs(agreement))) - np.minimum(agreement, 0)
    return each.sum(axis=-1, dtype=np.float64).mean(axis=-1)


def sigmoid_loss_and_error(logits: Array, labels: Array) -> tuple[float, Array]:
    """`sigmoid_loss` of logits (N, K), and sigmoids minus one-hot labels; see `loss_and_error`.

    >>> import numpy as np
    >>> sigmoid_loss_and_error(np.zeros((1, 2)), np.array([1]))[1].tolist()
    [[0.5, -0.5]]
    """
    error = sigmoid(logits)
    error[np.arange(len(labels)), labels] -= 1
    return float(sigmoid_loss(logits, labels)), error


def accuracy(logits: Array, labels: Array) -> float:
    """Fraction of photos (N, K) whose largest logit is at the label."""
    return float((logits.argmax(axis=-1) == labels).mean())


def separation(known: Array, others: Array) -> float:
    """Area under the ROC curve: how often a known photo's score is above another's, ties half.

    >>> import numpy as np
    >>> separation(np.array([2.0, 1.0]), np.array([1.0, 0.0]))
    0.875
    """
    ordered = np.sort(others)
    below = np.searchsorted(ordered, known, "left") + np.searchsorted(ordered, known, "right")
    return float(below.mean() / (2 * len(others)))


def binomial_tail(hits: int, trials: int, probability: float) -> float:
    """Probability of at least ``hits`` in independent trials of one ``probability`` from 0 to 1.

    >>> round(binomial_tail(3, 4, 0.5), 6)  # five of sixteen outcomes
    0.3125
    """
    if not 0 < hits <= trials:
        return float(hits <= 0)
    if probability in (0, 1):
        return float(probability)
    odds = math.log(probability), math.log1p(-probability)
    whole = math.lgamma(trials + 1)
    terms = (
        whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * odds[0] + (trials - k) * odds[1]
        for k in range(hits, trials + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, terms)))


def calibration_error(probabilities: Array, labels: Array, bins: int = 15) -> float:
    """Expected calibration error of probabilities (N, K), a fraction (Guo et al. 2017, eq. 3).

    Photos are binned by the probability of their predicted class, equal widths; the error is the
    mean distance between a bin's accuracy and its mean probability, weighted by its photos.

    >>> import numpy as np
    >>> calibration_error(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1]))
    0.0
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def confusion(predicted: Array, labels: Array, n_classes: int) -> Array:
    """Counts (K, K): row = true class, column = predicted class."""
    places = labels * n_classes + predicted
    return np.bincount(places, minlength=n_classes**2).reshape(n_classes, n_classes)


def through_norm(slope: Array, unit: Array, length: Array) -> Array:
    """The derivative by rows (N, D) from that by the ``unit`` rows that `normalise` makes of them.

    ``length`` (N, 1) is what they were divided by.
    """
    return (slope - (slope * unit).sum(axis=1, keepdims=True) * unit) / length


def normalise(vectors: Array) -> Array:
    """Rows (..., D) scaled to length 1; rows of zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
