"""ProKeR: kernel ridge regression of what the text leaves unexplained (Bendou et al., CVPR 2025).

    logits = f . t + k(f, S) a,  a = (K / penalty + I)^-1 (Y - X t)
    k(x, y) = exp(-beta (1 - x . y))

S are the training photos, K their kernel matrix, Y their one-hot labels, X t their raw cosines with
the text features (no logit scale anywhere). The published program uses a as it stands. The ridge
problem sum (y - g)**2 + penalty |g|**2, whose solution it is up to a factor, has a / penalty:
``divide`` is that factor, on by default and off in the published presets. It is not idle, since
f . t is fixed: with it, a small penalty fits the training labels; without it, a small penalty
leaves the text alone.

K has a number for each pair of photos, and its decomposition takes N^3. With more than 4,096 photos
or views the solution is therefore sought among sums over 2,048 of them, S', as many of each class
as it has a share (Nystroem): of the same problem with all photos,

    a = (K'' + penalty K')^-1 k(S', S) (Y - X t),  K' = k(S', S'),  K'' = k(S', S) k(S, S')

A class without a photo is lowered near the photos of others; away from all photos its text decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sharpzo.linear import blocks
from sharpzo.methods.cached import (
    CachedSettings,
    Penalty,
    PenaltyGrid,
    cached_fit,
    every_view,
    logspace,
    read_text,
)
from sharpzo.methods.choose import choose
from sharpzo.methods.kernel import KernelHead, kernel
from sharpzo.methods.moments import evenly
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.types import Array, Features

EXACT, LANDMARKS = 4096, 2048  # photos


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


def fit(settings: ProKeRSettings, task: Task) -> Fit:
    """One forward per template; one decomposition of the kernel matrix per beta."""
    names, photos = read_text(task.tower, settings.templates), every_view(task)
    text, exact = names.features.astype(np.float64), len(photos) <= EXACT
    shown = photos if exact else photos.take(evenly(photos.labels, LANDMARKS))
    keys = shown.vectors.astype(np.float64)
    # One decomposition per beta serves every penalty: (K / p + I)^-1 = Q (L / p + 1)^-1 Q'.
    decomposed: dict[float, tuple[Array, Array, Array]] = {}

    def values(beta: float, penalty: float) -> Array:
        if beta not in decomposed:
            decomposed.clear()  # the grid is walked beta by beta
            found = kernel(keys, keys, beta), photos, text
            decomposed[beta] = _exact(*found) if exact else _by_landmarks(*found, keys, beta)
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
    if task.validation is not None:
        beta, penalty = choose(scored(task.validation), task.validation.labels)
    single = (part.astype(np.float32) for part in (text, keys, values(beta, penalty)))
    head = KernelHead(*single, scale=1.0, strength=1.0, beta=beta)
    notes = {"beta": beta, "penalty": penalty}
    return cached_fit(head, task, names, notes if exact else notes | {"landmarks": len(keys)})


def _left(photos: Features, text: Array) -> Array:
    """What the text leaves over: Y - X t."""
    return np.eye(len(text))[photos.labels] - photos.vectors.astype(np.float64) @ text.T


def _exact(near: Array, photos: Features, text: Array) -> tuple[Array, Array, Array]:
    """Latent values L (R,), vectors Q (N, R) and Q'(Y - X t), so that a = Q (L + penalty)^-1 of
    the third, for every penalty."""
    latent, vectors = np.linalg.eigh(near)
    return np.maximum(latent, 0), vectors, vectors.T @ _left(photos, text)


def _by_landmarks(
    near: Array, photos: Features, text: Array, keys: Array, beta: float
) -> tuple[Array, Array, Array]:
    """The same for a over ``keys`` (R, D), whose kernel matrix is ``near``."""
    squared, along = np.zeros(near.shape), np.zeros((len(keys), len(text)))
    for part in blocks(len(photos), max(len(keys), len(text))):
        some = photos.take(part)
        across = kernel(keys, some.vectors.astype(np.float64), beta)
        squared += across @ across.T
        along += across @ _left(some, text)
    latent, vectors = np.linalg.eigh(near)
    kept = latent > 1e-10 * latent[-1]  # of keys that are the same photo only one counts
    root = vectors[:, kept] / np.sqrt(latent[kept])
    latent, vectors = np.linalg.eigh(root.T @ squared @ root)
    vectors = root @ vectors
    return np.maximum(latent, 0), vectors, vectors.T @ along


def _published(
    betas: tuple[float, float], penalties: tuple[float, float], many: tuple[int, int] = (20, 10)
) -> ProKeRSettings:
    """Even grids from end to end; where no number of points is published, 20 and 10."""
    first, second = (
        tuple(np.linspace(*ends, points).tolist())
        for ends, points in zip((betas, penalties), many, strict=True)
    )
    return ProKeRSettings(views=10, betas=first, penalties=second, divide=False)


register(
    Method(
        "proker",
        "kernel ridge regression of what the text leaves over; closed form",
        ProKeRSettings(),
        fit,
        {
            "published": _published((0.5, 3.0), (0.001, 1.0)),
            "published/dtd": _published((0.1, 10.0), (0.001, 10.0), (20, 100)),
            "published/eurosat": _published((0.5, 3.0), (0.001, 1.0)),
            "published/pets": _published((0.01, 5.0), (0.01, 0.3), (40, 20)),
            "published/sun397": _published((0.1, 10.0), (0.01, 10.0), (10, 10)),
        },
        load=KernelHead.from_arrays,
    )
)
