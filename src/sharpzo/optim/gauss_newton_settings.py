"""Settings of FGN, the search of `gauss_newton.py`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpzo.optim.checks import at_least, between, positive

NUMBERS = 2**26  # of slopes kept at most: 256 MB


@dataclass(frozen=True)
class GaussNewtonSettings:
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

    directions: int = 32
    window: int = 0
    reuse: int = 2
    history: int = 1
    memory: float = 0.9
    candidates: int = 2
    ladder: float = 4.0
    damping: float = 0.01
    radius: float = 2.0
    inner_steps: int = 20
    rho: float = 0.0
    patience: int | None = None
    min_gain: float = 0.0

    def __post_init__(self) -> None:
        for name in ("directions", "reuse", "candidates", "inner_steps"):
            at_least(name, getattr(self, name), 1)
        for name in ("window", "history"):
            at_least(name, getattr(self, name), 0)
        for name in ("damping", "radius"):
            positive(name, getattr(self, name))
        between("memory", self.memory, 0, 1)
        between("rho", self.rho, 0, 1e6)
        between("ladder", self.ladder, 1, 1e6)
        between("min_gain", self.min_gain, 0, 1)
        if self.patience is not None:
            at_least("patience", self.patience, 1)

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
