"""A head that compares photos with the training photos: the form of Tip-Adapter and ProKeR.

logits = scale * f . t + strength * exp(-beta (1 - f . keys)) @ values, the kernel being Gaussian
on unit vectors: |f - k|**2 = 2 (1 - f . k).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sharpzo.linear import keep, take
from sharpzo.types import Array, Features


@dataclass(frozen=True, eq=False)
class KernelHead:
    """Text features (K, D), keys (N, D) and values (N, K); what the keys add is zero far away.

    >>> photos = Features(np.array([[1.0, 0.0]]), np.array([0]), ("cat", "dog"))
    >>> text, keys, values = np.eye(2), np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    >>> KernelHead(text, keys, values, scale=2.0, strength=5.0, beta=1.0).scores(photos).tolist()
    [[2.0, 5.0]]
    """

    text: Array
    keys: Array
    values: Array
    scale: float
    strength: float
    beta: float

    def scores(self, photos: Features) -> Array:
        near = kernel(photos.vectors, self.keys, self.beta)
        return self.scale * (photos.vectors @ self.text.T) + self.strength * (near @ self.values)

    def arrays(self) -> dict[str, Array]:
        numbers = np.array([self.scale, self.strength, self.beta])
        return keep(text=self.text, keys=self.keys, values=self.values, kernel=numbers)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> KernelHead:
        text, keys, values, numbers = take(
            arrays, text=("K", "D"), keys=("N", "D"), values=("N", "K"), kernel=(3,)
        )
        return cls(text, keys, values, *map(float, numbers))


def kernel(left: Array, right: Array, beta: float) -> Array:
    """exp(-beta (1 - left . right)) of unit rows (M, D) and (N, D) -> (M, N)."""
    return np.exp(-beta * (1 - left @ right.T))
