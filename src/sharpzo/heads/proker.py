"""ProKeR: kernel ridge regression of what the text leaves unexplained (Bendou et al., CVPR 2025).

    logits = f . t + k(f, S) a,  a = (K / penalty + I)^-1 (Y - X t)
    k(x, y) = exp(-beta (1 - x . y))

S are the training photos, K their kernel matrix, Y their one-hot labels, X t their raw cosines with
the text features (no logit scale anywhere). The published program uses a as it stands. The ridge
problem sum (y - g)**2 + penalty |g|**2, whose solution it is up to a factor, has a / penalty:
``divide`` is that factor, on by default and off in the published presets. It is not idle, since
f . t is fixed: with it, a small penalty fits the training labels; without it, a small penalty
leaves the text alone.

A class without a photo is taught only where it is not: its text still decides away from all photos.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sharpzo.heads.cached import CachedSettings, Penalty, PenaltyGrid, logspace
from sharpzo.heads.choose import choose
from sharpzo.heads.kernel import KernelHead, kernel
from sharpzo.types import Array, Features


@dataclass(frozen=True)
class ProKeRSettings(CachedSettings):
    """``betas`` x ``penalties`` are tried on the validation photos.

    Without validation photos ``beta`` and ``penalty`` are used.
    """

    betas: PenaltyGrid = (0.5, 1.0, 2.0, 4.0, 8.0)
    penalties: PenaltyGrid = logspace(-3, 1, 9)
    beta: Penalty = 2.0
    penalty: Penalty = 0.1
    divide: bool = True


def fit_proker(
    photos: Features, text: Array, validation: Features | None, settings: ProKeRSettings
) -> tuple[KernelHead, float, float]:
    """Return the head, beta and penalty; every view is a sample of its own."""
    keys, text = photos.vectors.astype(np.float64), text.astype(np.float64)
    residual = np.eye(len(text))[photos.labels] - keys @ text.T
    # One decomposition a beta serves every penalty: (K / p + I)^-1 = Q (L / p + 1)^-1 Q'.
    decomposed: dict[float, tuple[Array, Array, Array]] = {}

    def values(beta: float, penalty: float) -> Array:
        if beta not in decomposed:
            decomposed.clear()  # the grid is walked beta by beta
            latent, vectors = np.linalg.eigh(kernel(keys, keys, beta))
            decomposed[beta] = np.maximum(latent, 0), vectors, vectors.T @ residual
        latent, vectors, projected = decomposed[beta]
        shrink = 1 / (latent + penalty) if settings.divide else 1 / (latent / penalty + 1)
        return vectors @ (shrink[:, None] * projected)

    def scored(known: Features) -> Iterable[tuple[tuple[float, float], Array]]:
        cosines = known.vectors @ text.T
        for beta in settings.betas:
            near = kernel(known.vectors.astype(np.float64), keys, beta)
            for penalty in settings.penalties:
                yield (beta, penalty), cosines + near @ values(beta, penalty)

    beta, penalty = settings.beta, settings.penalty
    if validation is not None:
        beta, penalty = choose(scored(validation), validation.labels)
    single = (part.astype(np.float32) for part in (text, keys, values(beta, penalty)))
    return KernelHead(*single, scale=1.0, strength=1.0, beta=beta), beta, penalty
