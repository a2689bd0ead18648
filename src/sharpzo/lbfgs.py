"""Limited-memory BFGS for smooth losses in plain NumPy (Nocedal & Wright, algorithms 7.4, 7.5).

SciPy's would do as well, but would add a third to the size of an installation that has to fit a
small board.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sharpzo.types import Array

LossAndGradient = Callable[[Array], tuple[float, Array]]


def minimise(
    function: LossAndGradient,
    start: Array,
    *,
    steps: int = 200,
    memory: int = 10,
    tolerance: float = 1e-6,
) -> Array:
    """Return a minimiser of ``function`` from ``start`` (any shape, float64).

    Stops when the gradient's largest entry falls below ``tolerance``, when no step along the
    search direction lowers the loss, or after ``steps`` steps.

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
        first = 1.0 if pairs else min(1.0, 1.0 / float(np.linalg.norm(gradient)))
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
    weights = []
    for step, change in reversed(pairs):
        weight = np.vdot(step, result) / np.vdot(step, change)
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
        if not new_loss <= loss + 1e-4 * length * slope:  # also true for a loss that is no number
            high = length
        else:
            best = moved, new_loss, new_gradient
            if np.vdot(new_gradient, direction) >= 0.9 * slope:
                return best
            low = length
        length = 2 * low if np.isinf(high) else (low + high) / 2
    return best
