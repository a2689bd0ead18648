"""Gradients from losses alone: the candidates to try, and the gradient their losses give.

Two-sided as in the authors' program: a block of 2n candidates is n points ``point + mu u_i``
followed by their n mirrors ``point - mu u_i``. One-sided: ``point`` itself, then the n points.
A pair of which either loss is not finite contributes nothing (a wrong slope would do more harm
than a missing one).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sharpzo.optim.checks import checked_losses
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


def one_sided_candidates(point: Array, directions: Array, mu: float) -> Array:
    """Return ``point`` and then ``point + mu u_j`` for directions (q, d), (1 + q, d)."""
    return np.concatenate([point[None], point + mu * directions])


def one_sided_slopes(losses: Array, mu: float) -> Array:
    """Return (L(w + mu u_j) - L(w)) / mu, (q,), and 0 where either loss is not finite.

    The curvature along u_j adds mu u_j^T H u_j / 2. It has no preferred sign among the directions,
    so in a mean of slope times u_j, u_j ~ N(0, I), it is noise and no bias.

    >>> one_sided_slopes(np.array([1.0, 2.0, np.inf]), mu=0.5).tolist()
    [2.0, 0.0]
    """
    losses = np.asarray(losses, dtype=np.float64)
    centre, around = losses[0], losses[1:]
    result = np.zeros(len(around))
    known = np.isfinite(around) & np.isfinite(centre)
    result[known] = (around[known] - centre) / mu
    return result


def sample_gradient(samples: Array, losses: Array) -> Array:
    """Return the gradient (d,) that losses (P,) of ``samples`` (P, d) around their mean suggest.

    The covariance of loss and sample over the samples' variance: the mean of L's slopes where the
    samples are spread evenly (Stein's identity), and no forward beyond those of the samples.
    Non-finite losses are left out; fewer than two finite ones, or no spread, give zeros.

    >>> samples = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> sample_gradient(samples, samples @ np.array([3.0, -2.0])).tolist()
    [3.0, -2.0]
    """
    known = np.isfinite(losses)
    if np.count_nonzero(known) < 2:
        return np.zeros(samples.shape[1])
    apart = samples[known] - samples[known].mean(axis=0)
    spread = float(np.sum(apart**2))
    above = losses[known] - losses[known].mean()
    return samples.shape[1] * (above @ apart) / spread if spread > 0 else np.zeros(len(apart.T))


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
