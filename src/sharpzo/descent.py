"""Descent along gradients: SGD with momentum, Adam, AdamW, cosine schedules, L-BFGS.

The first are the arithmetic of ``torch.optim`` (tested against it), so that published settings mean
here what they meant there; an optimiser holds its moments, the caller holds parameters and rate.
L-BFGS is Nocedal & Wright's algorithms 7.4 and 7.5 in plain NumPy: SciPy's would add a third to the
size of an installation that has to fit a small board.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sharpzo.types import Array

LossAndGradient = Callable[[Array], tuple[float, Array]]


def cosine(step: int, steps: int) -> float:
    """Share of the learning rate at ``step`` of ``steps``: 1 at first, 0 at the end.

    >>> cosine(0, 10), round(cosine(5, 10), 6), round(cosine(10, 10), 6)
    (1.0, 0.5, 0.0)
    """
    return 0.5 * (1 + math.cos(math.pi * step / steps))


@dataclass(eq=False)
class Sgd:
    """v <- momentum v + g; x <- x - rate v (Sutskever et al. 2013, without Nesterov's look-ahead).

    >>> Sgd(momentum=0.9).move(np.ones(2), np.array([1.0, 0.0]), rate=0.5).tolist()
    [0.5, 1.0]
    """

    momentum: float = 0.0
    _velocity: Array | float = field(default=0.0, init=False)

    def move(self, point: Array, gradient: Array, rate: float) -> Array:
        """Return the point after one step along ``-gradient`` (same shape)."""
        self._velocity = self.momentum * self._velocity + gradient
        return point - rate * self._velocity


@dataclass(eq=False)
class Adam:
    """Adam (Kingma & Ba 2015); with ``decay`` AdamW (Loshchilov & Hutter 2019, decoupled).

    >>> Adam().move(np.ones(2), np.array([1.0, -4.0]), rate=0.1).round(3).tolist()
    [0.9, 1.1]
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decay: float = 0.0
    _steps: int = field(default=0, init=False)
    _mean: Array | float = field(default=0.0, init=False)
    _square: Array | float = field(default=0.0, init=False)

    def move(self, point: Array, gradient: Array, rate: float) -> Array:
        """Return the point after one step (same shape and dtype)."""
        first, second = self.betas
        self._steps += 1
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient**2
        root = np.sqrt(self._square) / math.sqrt(1 - second**self._steps) + self.eps
        shrunk = point * (1 - rate * self.decay)
        return shrunk - rate / (1 - first**self._steps) * self._mean / root


def minimise(
    function: LossAndGradient,
    start: Array,
    *,
    steps: int = 200,
    memory: int = 10,
    tolerance: float = 1e-6,
    first_step: float | None = None,
) -> Array:
    """Return a minimiser of ``function`` from ``start`` (any shape, float64).

    Stops when the gradient's largest entry falls below ``tolerance``, when no step along the
    search direction lowers the loss, or after ``steps`` steps. ``first_step``
    is tried along a gradient without a past; None: 1, and no longer than length 1.

    >>> import numpy as np
    >>> minimise(lambda x: (float(((x - 3) ** 2).sum()), 2 * (x - 3)), np.zeros(2)).round(6)
    array([3., 3.])
    """
    point = np.array(start, dtype=np.float64)
    loss, gradient = function(point)
    pairs: list[tuple[Array, Array]] = []
    for _ in range(steps):
        if np.abs(gradient).max() < tolerance:
            break
        direction = -_inverse_hessian_times(gradient, pairs)
        slope = float(np.vdot(direction, gradient))
        if slope >= 0:  # curvature information went stale: start again from the gradient
            pairs.clear()
            direction, slope = -gradient, -float(np.vdot(gradient, gradient))
        first = 1.0 if pairs else first_step
        if first is None:
            first = min(1.0, 1.0 / float(np.linalg.norm(gradient)))
        found = _wolfe(function, point, direction, loss, slope, first)
        if found is None:
            break
        moved, loss, new_gradient = found
        step, change = moved - point, new_gradient - gradient
        if np.vdot(step, change) > 1e-10 * np.vdot(change, change):
            pairs = [*pairs[-memory + 1 :], (step, change)]
        point, gradient = moved, new_gradient
    return point


def _inverse_hessian_times(gradient: Array, pairs: list[tuple[Array, Array]]) -> Array:
    """Two-loop recursion (algorithm 7.4)."""
    result = gradient.copy()
    weights: list[float] = []
    for step, change in reversed(pairs):
        weight = float(np.vdot(step, result) / np.vdot(step, change))
        result -= weight * change
        weights.append(weight)
    if pairs:
        step, change = pairs[-1]
        result *= np.vdot(step, change) / np.vdot(change, change)
    for (step, change), weight in zip(pairs, reversed(weights), strict=True):
        result += (weight - np.vdot(change, result) / np.vdot(step, change)) * step
    return result


def _wolfe(
    function: LossAndGradient,
    point: Array,
    direction: Array,
    loss: float,
    slope: float,
    length: float,
) -> tuple[Array, float, Array] | None:
    """Bisection for the weak Wolfe conditions: enough decrease, enough curvature."""
    low, high = 0.0, np.inf
    best = None
    for _ in range(30):
        moved = point + length * direction
        new_loss, new_gradient = function(moved)
        if not new_loss <= loss + 1e-4 * length * slope:  # also true for a non-finite loss
            high = length
        else:
            best = moved, new_loss, new_gradient
            if np.vdot(new_gradient, direction) >= 0.9 * slope:
                return best
            low = length
        length = 2 * low if np.isinf(high) else (low + high) / 2
    return best
