"""Slopes and gradients around a point: requests, and estimates from their answers.

A pair of which either loss is not finite contributes nothing (a wrong slope would do more harm
than a missing one).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sharpzo.rng import generator
from sharpzo.types import NOTHING, Array, LossesAt, SlopesAt


@dataclass(frozen=True, eq=False)
class Differences:
    """The slopes of the loss at ``point`` (d,) along ``directions`` u_i (n, d), from losses.

    Two-sided, (L(w + mu u) - L(w - mu u)) / (2 mu): 2n points, the n ahead and then their n
    mirrors, as in SharpZO's program. ``one_sided``, (L(w + mu u) - L(w)) / mu: w itself and then
    the n points; the curvature along u adds mu u^T H u / 2, which has no preferred sign among
    directions u ~ N(0, I), so in a mean of slope times u it is noise and no bias.

    >>> probe = Differences(np.array([1.0, -2.0]), np.eye(2), mu=0.5)
    >>> probe.slopes(np.sum(probe.request().points ** 2, axis=1)).tolist()
    [2.0, -4.0]
    """

    point: Array
    directions: Array
    mu: float
    one_sided: bool = False

    def request(self) -> LossesAt:
        steps = self.mu * self.directions
        if self.one_sided:
            return LossesAt(np.concatenate([self.point[None], self.point + steps]))
        return LossesAt(np.concatenate([self.point + steps, self.point - steps]))

    def slopes(self, losses: Array, slopes: Array = NOTHING) -> Array:
        """The slopes (n,) by the answer to `request`, 0 where a loss is not finite.

        >>> probe = Differences(np.zeros(2), np.eye(2), mu=0.5)
        >>> probe.slopes(np.array([3.0, np.nan, 1.0, 2.0])).tolist()
        [2.0, 0.0]
        """
        losses = np.asarray(losses, dtype=np.float64)
        ahead, behind = (losses[1:], losses[:1]) if self.one_sided else np.split(losses, 2)
        known = np.isfinite(ahead) & np.isfinite(behind)
        rise = np.subtract(ahead, behind, where=known, out=np.zeros(len(ahead)))
        return rise / (self.mu if self.one_sided else 2 * self.mu)


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Exact slopes at ``point`` (d,) along ``directions`` (n, d), of an objective that has them;
    with the methods of `Differences`."""

    point: Array
    directions: Array

    def request(self) -> SlopesAt:
        return SlopesAt(self.point[None].copy(), self.directions.copy())

    def slopes(self, losses: Array, slopes: Array) -> Array:
        return slopes


Probe = Differences | Derivatives


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


def normal_directions(seed: int, stage: str, step: int, shape: tuple[int, ...]) -> Array:
    """Return u_j ~ N(0, I) of the ``shape`` (q, ...), keyed by stage, step and j."""
    draws = [generator(seed, stage, step=step, direction=j) for j in range(shape[0])]
    return np.stack([draw.standard_normal(shape[1:]) for draw in draws])


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
