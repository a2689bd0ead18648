"""CLAP: a linear probe held at the text features, class by class (arXiv 2312.12730).

    logit_c = s f . w_c / |w_c|,  loss = CE + mean_c lambda_c |w_c - t_c|**2

w starts at the text features t, and lambda_c is how well these do already: the mean, over the
training photos of class c, of the zero-shot probability of c. Without the constraint this is the
authors' ZS-LP. It is meant for photos without a validation split, and reads none: the last epoch
counts. s is the checkpoint's logit scale (100 in the paper).

The constraint, and how far a step turns w_c, depend on the length of t. The paper takes the text
tower's raw features, whose length differs between checkpoints (about 19 in the embedded one): that
is ``text_length`` None; a number rescales all t to a mean length, so that a rate means the same
everywhere.

A class without a photo keeps to its text with lambda_c = 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sharpzo.descent import Sgd, cosine
from sharpzo.linear import LinearHead
from sharpzo.methods.cached import CachedSettings, cached_fit, class_means, every_view, read_text
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.metrics import loss_and_error, normalise, softmax, through_norm
from sharpzo.rng import generator
from sharpzo.settings import Count, Decay, Positive
from sharpzo.types import Array


@dataclass(frozen=True)
class ClapSettings(CachedSettings):
    """SGD over a shuffled pool of all photos or views, max(1, N // batch) batches per epoch.

    ``constraint``: "l2" (CLAP) or "none" (ZS-LP). The first epoch runs at the rate ``warm_up``.
    """

    constraint: Literal["l2", "none"] = "l2"
    epochs: Count = 300
    batch: Count = 256
    rate: Positive = 0.1
    momentum: Decay = 0.9
    warm_up: Positive = 1e-5
    text_length: Positive | None = 0.5


def fit(settings: ClapSettings, task: Task) -> Fit:
    """One forward per template; then stochastic descent, whose last epoch counts."""
    text = read_text(task.tower, settings.templates, raw=True)
    pool, scale = every_view(task), task.tower.logit_scale
    vectors, base = pool.vectors.astype(np.float64), text.features.astype(np.float64)
    if settings.text_length is not None:
        base = base * settings.text_length / np.linalg.norm(base, axis=1).mean()
    hold = multipliers(vectors, pool.labels, base, scale)
    hold = hold if settings.constraint == "l2" else np.zeros(len(base))
    weight, descent = base.copy(), Sgd(settings.momentum)
    batches = max(1, len(task.train) // settings.batch)
    for epoch in range(settings.epochs):
        rate = settings.rate * cosine(epoch - 1, settings.epochs) if epoch else settings.warm_up
        rows = generator(task.seed, "clap", step=epoch).permutation(len(pool))
        for number in range(batches):
            drawn = rows[number * settings.batch : (number + 1) * settings.batch]
            _, slope = loss_and_gradient(
                weight, vectors[drawn], pool.labels[drawn], base, hold, scale
            )
            weight = descent.move(weight, slope, rate)
    head = LinearHead.of_text(normalise(weight), scale)
    return cached_fit(head, task, text, steps=settings.epochs)


def multipliers(vectors: Array, labels: Array, text: Array, scale: float) -> Array:
    """lambda (K,): mean zero-shot probability of its class over the photos of each class."""
    probabilities = softmax(scale * vectors @ normalise(text).T)
    means, counts = class_means(probabilities[np.arange(len(labels)), labels], labels, len(text))
    return np.where(counts > 0, means, 1.0)


def loss_and_gradient(
    weight: Array, vectors: Array, labels: Array, text: Array, hold: Array, scale: float
) -> tuple[float, Array]:
    """Return cross-entropy + mean_c hold_c |w_c - t_c|**2 and its gradient (K, D), float64."""
    length = np.linalg.norm(weight, axis=1, keepdims=True)
    unit = weight / length
    loss, error = loss_and_error(scale * vectors @ unit.T, labels)
    along = (error * scale / len(vectors)).T @ vectors
    away = weight - text
    loss += float((hold * (away**2).sum(axis=1)).mean())
    return loss, through_norm(along, unit, length) + 2 * hold[:, None] * away / len(weight)


_PUBLISHED = ClapSettings(views=20, view_scale=(0.08, 1.0), text_length=None)
register(
    Method(
        "clap",
        "linear probe held at the text, class by class; needs no validation photos",
        ClapSettings(),
        fit,
        {
            "published": _PUBLISHED,
            "published/imagenet": replace(_PUBLISHED, templates="both"),
            "zs-lp": replace(_PUBLISHED, constraint="none"),
        },
        validation=lambda settings: False,
    )
)
