"""What the default reads of patches: mean and standard deviation of their tokens, in the middle of
the photo and before the tower has turned to what captions name.

Deep tokens forget texture and ground, shallow ones know little else; after two thirds of the blocks
they have both. Of the depths, regions and statistics that `experiments/features/one_pass.py` tries,
no other is better on satellite photos, clothes and a hundred everyday objects alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sharpzo.types import Array

if TYPE_CHECKING:
    from sharpzo.towers.graph import Builder


def depth(layers: int) -> int:
    """Return before which of so many blocks patches are read.

    >>> depth(12), depth(24), depth(1)
    (8, 16, 0)
    """
    return 2 * layers // 3


def middle(rows: int, columns: int, first: int) -> Array:
    """Return which tokens are those of the middle half of a grid of patches, along both sides;
    ``first`` tokens stand before those of patches.

    >>> middle(4, 4, 1).tolist(), middle(1, 3, 0).tolist()
    ([6, 7, 10, 11], [0, 1, 2])
    """
    grid = first + np.arange(rows * columns).reshape(rows, columns)
    return grid[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4].ravel()


def spread(tokens: Array) -> Array:
    """Return mean and standard deviation (N, 2, S) of the tokens of each photo (N, T, S).

    >>> spread(np.array([[[1.0], [3.0]]])).tolist()
    [[[2.0], [1.0]]]
    """
    return np.stack([tokens.mean(axis=1), tokens.std(axis=1)], axis=1)


def write_spread(build: Builder, rows: str, many: int, width: int) -> None:
    """Write `spread` (B, 2, H) of rows (B * many, H), called ``patches``."""
    tokens = build.reshape(rows, [-1, many, width])
    axis = build.constant([1])
    mean = build.op("ReduceMean", tokens, axis, keepdims=1)
    away = build.op("Sub", tokens, mean)
    variance = build.op("ReduceMean", build.op("Mul", away, away), axis, keepdims=1)
    build.op("Concat", mean, build.op("Sqrt", variance), axis=1, name="patches")
