"""The precision of a tower's matrices: float32, or fewer bits with float32 arithmetic.

Weight-only: a matrix is made float32 again when it is used, so a candidate's features stay a
function of that candidate alone, and losses stay smooth enough for differences. (Dynamic
quantisation of activations is neither.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any, Literal

import numpy as np

from sharpzo.types import Array

Precision = Literal["float32", "float16", "int8", "int4"]
_BLOCK = 32  # weights of a row that share a scale in int4; int8 has one scale per row


@dataclass(frozen=True, eq=False)
class Quantised:
    """Whole numbers and their scale: values * scale is the matrix, symmetric about zero.

    ``attributes`` say to ONNX's DequantizeLinear which values share a scale.
    """

    values: Array
    scale: Array
    attributes: Mapping[str, Any]


def compress(matrix: Array, precision: Precision) -> Array | Quantised | None:
    """Return a float32 matrix (out, in) in a precision; None where that is float32 itself.

    >>> compress(np.float32([[1, -2], [0, 0.5]]), "int8").values
    array([[  64, -127],
           [   0,  127]], dtype=int8)
    """
    if precision == "float32":
        return None
    if precision == "float16":
        return matrix.astype(np.float16)
    if precision == "int8":
        scale = _scale(matrix, 127)
        values = matrix / scale
        return Quantised(np.rint(values, out=values).astype(np.int8), scale[:, 0], {"axis": 0})
    from ml_dtypes import int4  # comes with onnx, which packs two of them into a byte

    size = gcd(matrix.shape[1], _BLOCK)
    blocks = matrix.reshape(len(matrix), -1, size)
    scale = _scale(blocks, 7)
    values = np.rint(blocks / scale).astype(int4).reshape(matrix.shape)
    return Quantised(values, scale[..., 0], {"axis": 1, "block_size": size})


def _scale(values: Array, most: int) -> Array:
    """The scale along the last axis that takes the largest value to ``most``."""
    largest = np.maximum(values.max(axis=-1), -values.min(axis=-1))[..., None]
    return np.where(largest > 0, largest / np.float32(most), np.float32(1))
