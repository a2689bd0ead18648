"""A head that compares photos with the training photos themselves: Tip-Adapter's and ProKeR's form.

logits = scale * f . t + strength * exp(-beta (1 - f . keys)) @ values, the kernel being Gaussian
on unit vectors: |f - k|**2 = 2 (1 - f . k).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sharpzo.errors import ArtifactError
from sharpzo.linear import require_arrays
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

    @property
    def n_classes(self) -> int:
        """Number of classes K."""
        return len(self.text)

    def scores(self, photos: Features) -> Array:
        """N photos -> logits (N, K)."""
        near = kernel(photos.vectors, self.keys, self.beta)
        return self.scale * (photos.vectors @ self.text.T) + self.strength * (near @ self.values)

    def arrays(self) -> dict[str, Array]:
        """What the artefact keeps: one-hot values stay bytes."""
        values = self.values if self.values.dtype == np.uint8 else np.float32(self.values)
        return {
            "text": np.asarray(self.text, np.float32),
            "keys": np.asarray(self.keys, np.float32),
            "values": np.asarray(values),
            "kernel": np.array([self.scale, self.strength, self.beta], np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> KernelHead:
        """Rebuild from an artefact; raises ArtifactError if an array is missing or misshapen."""
        require_arrays(arrays, "text", "keys", "values", "kernel")
        text, keys, values = (arrays[name] for name in ("text", "keys", "values"))
        fits = (
            text.ndim == keys.ndim == 2
            and keys.shape[1] == text.shape[1]
            and values.shape == (len(keys), len(text))
            and arrays["kernel"].shape == (3,)
        )
        if not fits:
            raise ArtifactError(
                f"the artefact's arrays have shapes text {text.shape}, keys {keys.shape}, values "
                f"{values.shape}, kernel {arrays['kernel'].shape}; expected (K, D), (N, D), "
                "(N, K), (3,)"
            )
        return cls(text, keys, values, *(float(number) for number in arrays["kernel"]))


def kernel(left: Array, right: Array, beta: float) -> Array:
    """exp(-beta (1 - left . right)) of unit rows (M, D) and (N, D) -> (M, N)."""
    return np.exp(-beta * (1 - left @ right.T))
