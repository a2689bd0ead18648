"""The position table of a vision transformer at another image size."""

from __future__ import annotations

import numpy as np

from sharpzo.types import Array

_A = -0.75  # torch's cubic coefficient; PIL and others use -0.5


def resize_positions(table: Array, height: int, width: int) -> Array:
    """Return a position table (1 + s*s, H) for height x width patches, (1 + height*width, H).

    The class token's row stays; the square grid of the others is resampled as transformers does:
    torch's bicubic interpolation without antialiasing, align_corners=False, edges repeated.
    """
    side = round((len(table) - 1) ** 0.5)
    if (height, width) == (side, side):
        return table
    grid = table[1:].reshape(side, side, -1).astype(np.float64)
    rows, columns = _cubic(side, height), _cubic(side, width)
    grid = np.einsum("yi,xj,ijh->yxh", rows, columns, grid, optimize=True)
    patches = grid.reshape(height * width, -1).astype(np.float32)
    return np.concatenate([table[:1], patches])


def _cubic(source: int, target: int) -> Array:
    """Return the matrix (target, source) of Keys' cubic convolution along one axis."""
    matrix = np.zeros((target, source))
    for i in range(target):
        place = (i + 0.5) * source / target - 0.5
        base = int(np.floor(place))
        for j in range(base - 1, base + 3):
            matrix[i, min(max(j, 0), source - 1)] += _kernel(abs(place - j))
    return matrix


def _kernel(x: float) -> float:
    if x <= 1.0:
        return ((_A + 2.0) * x - (_A + 3.0)) * x * x + 1.0
    return ((_A * x - 5.0 * _A) * x + 8.0 * _A) * x - 4.0 * _A
