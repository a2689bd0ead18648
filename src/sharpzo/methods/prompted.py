"""A linear classifier of photos that carry a prompt of pixels (BlackVIP).

The prompt depends on the photo, so a photo passes the image tower twice: untouched for the
encoder's state, then prompted, which is the `detour.Detour` of this head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sharpzo.detour import Sight, digest_of, vectors_by
from sharpzo.linear import LinearHead, keep, take
from sharpzo.methods.decoder import CHANNELS, PARAMETERS, Moments, decode, resize
from sharpzo.types import Array, Features


def add_prompts(pixels: Array, prompts: Array, epsilon: float, low: Array, high: Array) -> Array:
    """Pixels (B, 3, h, w) + epsilon prompts (B, 3, 224, 224), clipped to [low, high] by channel."""
    small = resize(prompts, *pixels.shape[2:])
    prompted = pixels + np.float32(epsilon) * small
    return np.clip(prompted, low[:, None, None], high[:, None, None])


@dataclass(frozen=True, eq=False)
class Coordinator:
    """A tuned prompter of photos; fulfils `detour.Detour`.

    ``numbers`` (9920,) of decoder and trigger, ``moments`` of its BatchNorms, ``epsilon`` the
    prompt's strength, ``low`` and ``high`` (3,) the preprocessed black and white.
    """

    numbers: Array
    moments: Moments
    epsilon: float
    low: Array
    high: Array

    def __call__(self, sight: Sight) -> Array:
        """Photos before the tower -> states (B, S) of the photos with their prompts."""
        return sight.tower.forward(self.prompt(sight.pixels, sight.states))

    def prompt(self, pixels: Array, states: Array) -> Array:
        """Preprocessed pixels (B, 3, h, w) and their states (B, S) -> prompted pixels."""
        prompts, _ = decode(self.numbers, states, self.moments)
        return add_prompts(pixels, prompts, self.epsilon, self.low, self.high)

    @property
    def digest(self) -> str:
        """sha256 over all of its arrays."""
        return digest_of(self.arrays())

    def arrays(self) -> dict[str, Array]:
        """What the artefact keeps."""
        return keep(
            prompter=self.numbers,
            prompter_mean=self.moments.mean,
            prompter_variance=self.moments.variance,
            prompter_epsilon=self.epsilon,
            pixel_low=self.low,
            pixel_high=self.high,
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Coordinator:
        """Rebuild from an artefact; raises ArtifactError if an array is missing or misshapen."""
        numbers, mean, variance, epsilon, low, high = take(
            arrays,
            prompter=(PARAMETERS,),
            prompter_mean=(sum(CHANNELS),),
            prompter_variance=(sum(CHANNELS),),
            prompter_epsilon=(1,),
            pixel_low=(3,),
            pixel_high=(3,),
        )
        return cls(numbers, Moments(mean, variance), float(epsilon[0]), low, high)


@dataclass(frozen=True, eq=False)
class PromptedHead:
    """``linear`` on the vectors of photos by way of ``detour``, which prompts them."""

    linear: LinearHead
    detour: Coordinator

    @property
    def n_classes(self) -> int:
        """Number of classes K."""
        return self.linear.n_classes

    def scores(self, photos: Features) -> Array:
        """N photos -> logits (N, K); InputError if they were encoded without the detour."""
        return self.linear.scores(replace(photos, vectors=vectors_by(self.detour, photos)))

    def arrays(self) -> dict[str, Array]:
        """What the artefact keeps."""
        return {**self.linear.arrays(), **self.detour.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> PromptedHead:
        """Rebuild from an artefact; raises ArtifactError if it does not hold one."""
        return cls(LinearHead.from_arrays(arrays), Coordinator.from_arrays(arrays))
