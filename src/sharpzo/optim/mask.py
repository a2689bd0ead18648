"""Which coordinates stage 2 moves: scores, and the mask that keeps the highest of them."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from sharpzo.errors import InputError
from sharpzo.types import Array

Score = Literal["z", "z-running", "magnitude", "dense", "release"]


def needs_gradient(score: Score) -> bool:
    """Whether a score costs a gradient estimate (2d forwards)."""
    return score in ("z", "release")


def standardised(values: Array) -> Array:
    """Return (values - mean) / std with the population std; zeros where all are equal."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def scores(score: Score, point: Array, gradient: Array | None = None) -> Array:
    """Return the importance (d,) of each coordinate of ``point`` (d,); the highest are kept.

    * ``z``: S = |w|^2 z(g^2), SharpZO eq. 5, z over the d entries with the population std.
      z < 0 for gradients below average, so there a large |w| lowers the score. The paper's words
      allow z(g)^2 as well; g^2 is its curvature argument's Fisher information. Where w is zero,
      as before any step, z(g^2) decides.
    * ``z-running``: the same of another gradient, g^2 a running mean of the descent's own.
    * ``magnitude``: |w|.
    * ``dense``: all equal.
    * ``release``: what the authors' program computes, -|w|^2 z(|g|) with 1e-8 added to the std:
      it sorts ascending and keeps the first, i.e. the *least* sensitive, hence the sign.

    InputError if a score needs a gradient and gets none.

    >>> scores("z", np.array([1.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0])).round(3).tolist()
    [-1.414, 0.707, 2.828]
    """
    if score == "dense":
        return np.ones_like(point)
    if score == "magnitude":
        return np.abs(point)
    if gradient is None:
        raise InputError(f"score {score!r} needs a gradient; give one or take 'magnitude'")
    if score in ("z", "z-running"):
        return (point**2 if point.any() else 1.0) * standardised(gradient**2)
    size = np.abs(gradient)
    return -(point**2) * (size - size.mean()) / (size.std() + 1e-8)


def kept(keep: float, dim: int) -> int:
    """Return how many of ``dim`` coordinates a share ``keep`` is: the ceiling.

    >>> kept(0.5, 5), kept(0.7, 10)
    (3, 7)
    """
    return math.ceil(keep * dim - 1e-9)  # 0.7 * 10 is a little above 7 in floating point


def mask(values: Array, keep: float) -> Array:
    """Return a boolean mask (d,) that is True on the ``ceil(keep d)`` highest ``values`` (d,).

    Equal values all, which prefer no coordinate, keep every one. Other ties go to the lower index;
    a non-finite value counts as the lowest.

    >>> mask(np.array([0.5, 2.0, 0.5, 1.0]), keep=0.75).tolist()
    [True, True, False, True]
    """
    if (values == values[0]).all():
        return np.ones(len(values), dtype=bool)
    values = np.where(np.isnan(values), -np.inf, values)
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(-values, kind="stable")[: kept(keep, len(values))]] = True
    return chosen
