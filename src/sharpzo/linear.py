"""A linear classifier over unit image features, and how heads become arrays of an artefact.

A tuned prompt is one (the rows are its text features), and so are the linear probe and the tuned
projection. Other forms (kernels) become heads of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharpzo.errors import ArtifactError
from sharpzo.metrics import loss_and_error
from sharpzo.types import Array, Features

NUMBERS = 2**22  # of a block: 32 MB in float64


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Logits = scale * features @ weight.T + bias; weight (K, D), bias (K,).

    >>> import numpy as np
    >>> photo = Features(np.array([[1.0, 0.0]]), np.array([0]), ("cat", "dog"))
    >>> LinearHead(np.eye(2), np.zeros(2), 10.0).scores(photo).tolist()
    [[10.0, 0.0]]
    """

    weight: Array
    bias: Array
    scale: float

    @classmethod
    def of_text(cls, text_features: Array, logit_scale: float) -> LinearHead:
        """The classifier of text features (K, D): cosines times the logit scale."""
        return cls(
            text_features.astype(np.float32), np.zeros(len(text_features), np.float32), logit_scale
        )

    def scores(self, photos: Features) -> Array:
        return self.scale * (photos.vectors @ self.weight.T) + self.bias

    def arrays(self) -> dict[str, Array]:
        return keep(weight=self.weight, bias=self.bias, scale=self.scale)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> LinearHead:
        """Rebuild from an artefact; ArtifactError if an array is missing or misshapen."""
        weight, bias, scale = take(arrays, weight=("K", "D"), bias=("K",), scale=(1,))
        return cls(weight, bias, float(scale[0]))


def keep(**arrays: Array | float) -> dict[str, Array]:
    """Arrays as an artefact keeps them: float32, but bytes stay bytes; a number is of shape (1,).

    >>> keep(scale=20.0)
    {'scale': array([20.], dtype=float32)}
    """
    kept = {name: np.atleast_1d(np.asarray(array)) for name, array in arrays.items()}
    # Contiguous: safetensors writes the memory of a view in its own order.
    return {
        name: np.ascontiguousarray(array, array.dtype if array.dtype == np.uint8 else np.float32)
        for name, array in kept.items()
    }


def take(arrays: Mapping[str, Array], **shapes: tuple[str | int, ...]) -> list[Array]:
    """The arrays of these names; ArtifactError if one is missing or its shape does not fit.

    A word in a shape stands for any size, the same one wherever it occurs.

    >>> take({"weight": np.eye(3), "bias": np.zeros(2)}, weight=("K", "D"), bias=("K",))
    Traceback (most recent call last):
        ...
    sharpzo.errors.ArtifactError: the artefact has arrays weight (3, 3), bias (2,); expected \
weight (K, D), bias (K,); fit the run again
    """
    for name in shapes:
        if name not in arrays:
            raise ArtifactError(f"the artefact lacks the array '{name}'; fit the run again")
    found = {name: arrays[name].shape for name in shapes}
    sizes: dict[str, int] = {}

    def fits(size: int, axis: str | int) -> bool:
        return size == (axis if isinstance(axis, int) else sizes.setdefault(axis, size))

    for name, shape in shapes.items():
        if len(found[name]) != len(shape) or not all(map(fits, found[name], shape)):
            raise ArtifactError(
                f"the artefact has arrays {_shapes(found)}; expected {_shapes(shapes)}; fit the "
                "run again"
            )
    return [arrays[name] for name in shapes]


def keep_words(words: Iterable[str]) -> Array:
    """Words as an array of an artefact.

    >>> take_words({"names": keep_words(["cat", "dog"])}, "names")
    ['cat', 'dog']
    """
    return np.frombuffer("\0".join(words).encode(), np.uint8)


def take_words(arrays: Mapping[str, Array], name: str) -> list[str]:
    """The words that `keep_words` made an array of; ArtifactError if it is missing or no text."""
    (array,) = take(arrays, **{name: ("N",)})
    try:
        return array.tobytes().decode().split("\0")
    except UnicodeDecodeError:
        raise ArtifactError(
            f"the artefact's array '{name}' is no text; fit the run again"
        ) from None


def blocks(many: int, numbers: int) -> Iterator[slice]:
    """Slices that make up ``many`` rows, each of at most `NUMBERS` where a row has ``numbers``.

    >>> list(blocks(5, NUMBERS // 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    rows = max(1, NUMBERS // max(numbers, 1))
    return (slice(first, min(first + rows, many)) for first in range(0, many, rows))


def loss_and_slopes(
    weight: Array,
    bias: Array | float,
    vectors: Array,
    labels: Array,
    loss: Callable[[Array, Array], tuple[float, Array]] = loss_and_error,
    divide: float = 1.0,
) -> tuple[float, Array, Array]:
    """Mean loss of vectors (N, D) @ weight.T + bias against labels (N,), the sum over photos of its
    derivatives by weight (K, D) and bias (K,) before the mean is taken, over ``divide``. Photos are
    read in blocks, in the dtype of ``vectors``.

    >>> loss_and_slopes(np.zeros((2, 1)), 0.0, np.ones((3, 1)), np.array([0, 0, 1]))[1].tolist()
    [[-0.5], [0.5]]
    """
    mean, along, summed = 0.0, np.zeros(weight.shape, vectors.dtype), np.zeros(len(weight))
    across = weight.T.astype(vectors.dtype, copy=False)
    for part in blocks(len(labels), len(weight)):
        some = vectors[part]
        logits = some @ across
        logits += bias
        found, error = loss(logits, labels[part])
        mean += found * (len(some) / len(labels))
        if divide != 1:
            error /= divide
        along += error.T @ some
        summed += error.sum(axis=0)
    return mean, along, summed


def left_out(residual: Array, hat: Array) -> Array:
    """What least squares leaves (N, K) of rows where each is left out of its fit, of what it leaves
    where all are in it. ``hat`` is of the matrix X (X'X + penalty I)^-1 X': its diagonal (N,), or
    blocks (N / V, V, V) of V rows each that are left out together. Exact, for one more division.

    >>> x, y = np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]])
    >>> hat = x @ np.linalg.inv(x.T @ x) @ x.T
    >>> left_out(y - hat @ y, np.diag(hat)).round(9).tolist()  # 1 - 2 * 1 and 4 - 1 * 2
    [[-1.0], [2.0]]
    """
    together = 1 if hat.ndim == 1 else hat.shape[1]
    if together == 1:
        return residual / (1 - hat.reshape(-1, 1))
    blocks = residual.reshape(len(hat), together, -1)
    return np.linalg.solve(np.eye(together) - hat, blocks).reshape(residual.shape)


def _shapes(shapes: Mapping[str, tuple[Any, ...]]) -> str:
    return ", ".join(f"{name} {shape}".replace("'", "") for name, shape in shapes.items())
