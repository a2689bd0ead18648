"""Settings of FGN, the search of `gauss_newton.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from sharpzo.settings import Count, CountOrZero, Fraction, NotNegative, Positive, Settings

NUMBERS = 2**26  # of slopes kept at most: 256 MB
Factor = Annotated[float, Meta(ge=1, description="a finite number of at least 1")]


@dataclass(frozen=True)
class GaussNewtonSettings(Settings):
    """Settings of FGN; lengths are in the units of w.

    ``directions`` p of a linearisation; ``history`` of them are the last accepted steps and one is
    the running average of the lifted gradients J^T dL/df V (weight ``memory`` on the past, 0 for
    none at all), the rest are random. ``window``: slopes kept in all, new and old, fewer for very
    many classes; 0: the new ones alone. ``reuse``: rounds of candidates that a linearisation
    serves. ``candidates`` a round, from dampings a factor of ``ladder`` apart around the current
    one, which begins at ``damping``. ``radius``: bound on the length of a step, and the first trust
    radius. ``inner_steps``: L-BFGS steps a damping. ``rho``: the inner problem minimises the worst
    loss within that distance, for no forward; 0 the loss itself. ``patience`` ends the search after
    so many observations without a gain of ``min_gain``.
    """

    directions: Count = 32
    window: CountOrZero = 0
    reuse: Count = 2
    history: CountOrZero = 1
    memory: Fraction = 0.9
    candidates: Count = 2
    ladder: Factor = 4.0
    damping: Positive = 0.01
    radius: Positive = 2.0
    inner_steps: Count = 20
    rho: NotNegative = 0.0
    patience: Count | None = None
    min_gain: Fraction = 0.0

    def bytes(self, dim: int, features: int, groups: int = 1) -> int:
        """What a search over ``dim`` numbers has in memory, for so many numbers of features.

        Directions (float64) are kept, asked for and made anew, a group at a time by a QR
        decomposition; slopes (float32) are kept, told, copied and regrouped; old ones once more.
        """
        size = dim // groups
        count = min(self.directions, size)
        old = max(min(self.window, NUMBERS // features) - count, 0)
        frames = 3 * dim * count + 6 * size * count + 4 * dim * old
        return 8 * frames + 5 * 4 * features * (count + old)
