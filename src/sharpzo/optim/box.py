"""A smooth map of the whole space into the box [-bound, bound]^d, for searches without edges.

The same transformation as ``BoundTransform`` of pycma (``BoxConstraintsLinQuadTransformation``):
the identity in the inner 95 %, a parabola with matching slope towards the wall, mirrored and
periodic beyond. CMA-ES adapts in the unbounded space ("genotype") and hands out box points.
"""

from __future__ import annotations

import numpy as np

from sharpzo.errors import InputError
from sharpzo.types import Array


def margin(bound: float) -> float:
    """Return half the width of the quadratic zone: max(1, bound) / 20, at most ``bound``."""
    return min(bound, max(1.0, bound) / 20)


def into_box(points: Array, bound: float | None) -> Array:
    """Map ``points`` of any shape into [-bound, bound]; ``None`` means no box, same array.

    >>> into_box(np.array([0.5, 4.75, 5.25, 9.0]), 5.0).tolist()
    [0.5, 4.75, 5.0, 1.5]
    """
    if bound is None:
        return points
    a = margin(bound)
    edge = bound + a
    # Mirror at +-edge: the saw-tooth of period 4 edge that is the identity in [-edge, edge].
    y = edge - np.abs(np.mod(points + edge, 4 * edge) - 2 * edge)
    # np.mod rounds; what needs no mirror must come through bit by bit.
    y = np.where(np.abs(points) <= edge, points, y)
    near = np.abs(y) > bound - a
    bent = np.sign(y) * (bound - (np.abs(y) - edge) ** 2 / (4 * a))
    return np.where(near, bent, y)


def out_of_box(points: Array, bound: float | None) -> Array:
    """Invert ``into_box`` for points inside the box; InputError for points outside it."""
    if bound is None:
        return points
    if np.abs(points).max(initial=0.0) > bound:
        raise InputError(
            f"the start reaches {np.abs(points).max():.6g}, outside the box of "
            f"+-{bound:g}; give a start inside it or a larger bound"
        )
    a = margin(bound)
    size = np.abs(points)
    bent = np.sign(points) * (bound + a - np.sqrt(4 * a * np.maximum(bound - size, 0.0)))
    return np.where(size > bound - a, bent, points)
