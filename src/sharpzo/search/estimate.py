"""Gradients from losses alone: the candidates to try, and the gradient their losses give.

Two-sided everywhere, as in the authors' program. A block of 2n candidates is n points
``point + mu u_i`` followed by their n mirrors ``point - mu u_i``. A pair of which either loss is
not finite contributes nothing (a wrong slope would do more harm than a missing one).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sharpzo.search.checks import checked_losses
from sharpzo.types import Array

STEEPEST = 1e100  # the square of a slope must stay a number


def slopes(losses: Array, mu: float) -> Array:
    """Return directional derivatives (n,) of a mirrored block's losses (2n,).

    (L(w + mu u_i) - L(w - mu u_i)) / (2 mu), and 0 where either loss is not finite.

    >>> slopes(np.array([3.0, np.nan, 1.0, 2.0]), mu=0.5).tolist()
    [2.0, 0.0]
    """
    plus, minus = np.split(np.asarray(losses, dtype=np.float64), 2)
    both = np.isfinite(plus) & np.isfinite(minus)
    result = np.zeros(len(plus))
    result[both] = (plus[both] - minus[both]) / (2 * mu)
    return result


def cge_candidates(point: Array, mu: float) -> Array:
    """Return the 2d candidates ``point +- mu e_i`` of coordinate-wise estimation, (2d, d)."""
    steps = mu * np.eye(len(point))
    return np.concatenate([point + steps, point - steps])


def cge_gradient(losses: Array, mu: float) -> Array:
    """Return the coordinate-wise gradient estimate (d,) from losses (2d,); SharpZO eq. 1.

    sum_i [L(w + mu e_i) - L(w - mu e_i)] / (2 mu) e_i.

    >>> square = np.sum(cge_candidates(np.array([1.0, -2.0]), 0.5) ** 2, axis=1)
    >>> cge_gradient(square, 0.5).tolist()
    [2.0, -4.0]
    """
    return slopes(losses, mu)


def rge_candidates(point: Array, directions: Array, mu: float) -> Array:
    """Return the 2q candidates ``point +- mu u_j`` for directions (q, d), (2q, d)."""
    steps = mu * directions
    return np.concatenate([point + steps, point - steps])


def rge_gradient(losses: Array, directions: Array, mu: float) -> Array:
    """Return the random-direction gradient estimate (d,) from losses (2q,); SharpZO eq. 4.

    The mean over q directions u_j ~ N(0, I) (masked where wished) of
    [L(w + mu u_j) - L(w - mu u_j)] / (2 mu) u_j. Always divided by q: a non-finite pair is a
    zero in the mean.

    >>> directions = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> square = np.sum(rge_candidates(np.array([1.0, -2.0]), directions, 0.5) ** 2, axis=1)
    >>> rge_gradient(square, directions, 0.5).tolist()
    [1.0, -2.0]
    """
    return slopes(losses, mu) @ directions / len(directions)


def frame(known: Iterable[Array], count: int, dim: int, random: np.random.Generator) -> Array:
    """Return orthonormal rows V (count, dim) that span ``known`` vectors (d,), zeros left out, and
    then random directions.

    With the slopes along them, V^T V g is the gradient's part in their span; if the last such
    part is among the known vectors, the estimate only gets better while g stands still.

    >>> rows = frame([np.array([3.0, 4.0, 0.0])], 2, 3, np.random.default_rng(0))
    >>> np.abs(rows[0]).round(3).tolist(), np.allclose(rows @ rows.T, np.eye(2))
    ([0.6, 0.8, 0.0], True)
    """
    kept = [row for row in known if row.any()]
    fill = random.standard_normal((count, dim))
    rows = np.stack([row / np.linalg.norm(row) for row in (*kept, *fill)])[:count]
    return np.ascontiguousarray(np.linalg.qr(rows.T)[0].T)


def read_slopes(answer: Array, directions: Array) -> tuple[float, Array]:
    """Return the loss, +inf if it is no number, and the slopes (p,) of the answer (1 + p,) to
    `Linearise`; a slope that is not finite or absurd is 0, all are where the loss is not.

    >>> read_slopes(np.array([0.5, 2.0, np.nan]), np.eye(2))
    (0.5, array([2., 0.]))
    """
    loss, *slopes = checked_losses(answer, 1 + len(directions))
    known = (np.abs(slopes) < STEEPEST) & np.isfinite(loss)
    return float(loss), np.where(known, slopes, 0.0)
