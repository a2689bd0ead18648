"""ProLIP: the image tower's last projection, tuned (Fahes et al., WACV 2026).

    logits = s normalise(x W') t',  loss = CE + penalty ||W - W0||_F**2

x are the states that the projection W (D, S) reads, t the fixed text features, s the checkpoint's
logit scale (100 in the paper). Adam with a cosine schedule, one full batch per step; step j reads
the augmented view (j + 1) mod views. Because no class has parameters of its own, names that
training never saw keep a classifier.

Without a search the penalty is 1 / K**power for K photos per class: the paper's 1 / K or 1 / K**2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from sharpzo.descent import Adam, cosine
from sharpzo.linear import keep, take
from sharpzo.methods.cached import (
    CachedSettings,
    cached_fit,
    every_view,
    image_projection,
    read_text,
    record_templates,
    recorded_templates,
    states_of,
)
from sharpzo.methods.choose import choose_along
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.metrics import loss_and_error, normalise, through_norm
from sharpzo.settings import Count, CountOrZero, NotNegative, Positive
from sharpzo.types import Array, Features, TextTower


@dataclass(frozen=True)
class ProLipSettings(CachedSettings):
    """``rates`` x ``penalties`` are tried on the validation photos; an empty list fixes its part.

    Fixed are ``rate`` and the penalty 1 / K**``power``; without validation photos both are.
    """

    steps: Count = 300
    rates: tuple[NotNegative, ...] = ()
    penalties: tuple[NotNegative, ...] = (0.1, 0.01, 1e-3, 1e-4)
    rate: NotNegative = 1e-3
    power: CountOrZero = 1
    eps: Positive = 1e-4


@dataclass(frozen=True, eq=False)
class ProjectedHead:
    """A classifier on states instead of features: projection (D, S), text (K, D).

    >>> photos = Features(np.zeros((1, 2)), np.array([0]), ("cat", "dog"), states=np.eye(2)[:1])
    >>> ProjectedHead(3 * np.eye(2), np.eye(2), 10.0).scores(photos).tolist()
    [[10.0, 0.0]]
    """

    projection: Array
    text: Array
    scale: float

    def scores(self, photos: Features) -> Array:
        return self.scale * normalise(states_of(photos) @ self.projection.T) @ self.text.T

    def arrays(self) -> dict[str, Array]:
        return keep(image_projection=self.projection, text=self.text, scale=self.scale)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> ProjectedHead:
        projection, text, scale = take(
            arrays, image_projection=("D", "S"), text=("K", "D"), scale=(1,)
        )
        return cls(projection, text, float(scale[0]))


def fit(settings: ProLipSettings, task: Task) -> Fit:
    """One forward per template; then descent. float32: the matrix is the tower's own."""
    names, train = read_text(task.tower, settings.templates), task.train
    projection, text, scale = image_projection(task), names.features, task.tower.logit_scale
    shots = len(train) / len(np.unique(train.labels))
    fixed = shots**-settings.power
    states = states_of(every_view(task)).astype(np.float32)
    states = states.reshape(-1, len(train), states.shape[1])  # view by view

    def head(rate: float, penalty: float) -> ProjectedHead:
        tuned = base = projection.astype(np.float32)
        adam = Adam(eps=settings.eps)
        for step in range(settings.steps):
            seen = states[(step + 1) % len(states)]
            _, slope = loss_and_gradient(tuned, base, seen, train.labels, text, scale, penalty)
            tuned = adam.move(tuned, slope, rate * cosine(step, settings.steps))
        return ProjectedHead(tuned, text.astype(np.float32), scale)

    grid: Iterable[tuple[float, float]] = [(settings.rate, fixed)]
    if task.validation is not None:
        grid = product(settings.rates or (settings.rate,), settings.penalties or (fixed,))
    tried = ((head(rate, penalty), rate, penalty) for rate, penalty in grid)
    tuned, rate, penalty = choose_along(tried, lambda found: found[0], task.validation)
    return cached_fit(
        tuned,
        task,
        names,
        {"rate": rate, "penalty": penalty},
        steps=settings.steps,
        arrays=record_templates(settings.templates),
    )


def loss_and_gradient(
    tuned: Array,
    base: Array,
    states: Array,
    labels: Array,
    text: Array,
    scale: float,
    penalty: float,
) -> tuple[float, Array]:
    """Return cross-entropy + penalty ||tuned - base||**2 and its gradient, in tuned's dtype."""
    projected = states @ tuned.T
    length = np.linalg.norm(projected, axis=1, keepdims=True)
    unit = projected / length
    fit_loss, error = loss_and_error(scale * unit @ text.T, labels)
    slope = through_norm(error @ text * (scale / len(labels)), unit, length)
    away = tuned - base
    loss = fit_loss + float(penalty * (away**2).sum())
    return loss, (slope.T @ states + 2 * penalty * away).astype(tuned.dtype)


def rename(arrays: Mapping[str, Array], tower: TextTower) -> ProjectedHead:
    """The projection is shared by all names: compare it with other text features."""
    text = read_text(tower, recorded_templates(arrays)).features
    return replace(ProjectedHead.from_arrays(arrays), text=text)


_PUBLISHED = ProLipSettings(views=300, rate=1e-5, rates=(), penalties=())
register(
    Method(
        "prolip",
        "last image projection tuned near its weights; keeps unseen classes",
        ProLipSettings(),
        fit,
        {
            "published": _PUBLISHED,
            "published/squared": replace(_PUBLISHED, power=2),
            "published/validation": replace(
                _PUBLISHED,
                rates=(1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8),
                penalties=(10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 0.0),
            ),
        },
        load=ProjectedHead.from_arrays,
        rename=rename,
        images=True,
        validation=lambda settings: max(len(settings.rates), len(settings.penalties)) > 1,
    )
)
