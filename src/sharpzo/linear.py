"""A linear classifier over unit image features: the form in which every method here predicts.

A tuned prompt is one (the rows are its text features), and so are the linear probe and the tuned
projection. Other forms (kernels) become heads of their own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

import numpy as np

from sharpzo.errors import ArtifactError
from sharpzo.types import Array, Features


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

    @property
    def n_classes(self) -> int:
        """Number of classes K."""
        return len(self.weight)

    def scores(self, photos: Features) -> Array:
        """N photos -> logits (N, K)."""
        return self.scale * (photos.vectors @ self.weight.T) + self.bias

    def arrays(self) -> dict[str, Array]:
        """What the artefact keeps."""
        return {
            "weight": np.asarray(self.weight, np.float32),
            "bias": np.asarray(self.bias, np.float32),
            "scale": np.array([self.scale], np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> LinearHead:
        """Rebuild from an artefact; raises ArtifactError if an array is missing or misshapen."""
        require_arrays(arrays, "weight", "bias", "scale")
        weight, bias = arrays["weight"], arrays["bias"]
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or arrays["scale"].shape != (1,):
            raise ArtifactError(
                f"the artefact's arrays have shapes weight {weight.shape}, bias {bias.shape}, "
                f"scale {arrays['scale'].shape}; expected (K, D), (K,), (1,)"
            )
        return cls(weight, bias, float(arrays["scale"][0]))


def require_arrays(arrays: Container[str], *names: str) -> None:
    """Raise ArtifactError for the first of these arrays that an artefact does not hold."""
    for name in names:
        if name not in arrays:
            raise ArtifactError(f"the artefact lacks the array '{name}'; fit the run again")
