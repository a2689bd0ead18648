"""Tip-Adapter and Tip-Adapter-F: a cache of the training photos beside the text (Zhang, ECCV 2022).

    logits = s f . t + alpha exp(-beta (1 - f F')) L     F keys (N, D), L their one-hot labels

A key is a training photo, or the normalised mean of its augmented views. Tip-Adapter stops there;
Tip-Adapter-F goes on to tune the keys (all N D numbers, not normalised again) by AdamW on the
cross-entropy. s is the checkpoint's logit scale (100 in the paper).

The program picks Tip-Adapter-F's epoch on the test split and reports the better of two test
figures. Here the validation photos choose epoch, alpha and beta; without them the settings decide.

A class without a photo has nothing in the cache, and is scored by its text alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from sharpzo.descent import Adam, cosine
from sharpzo.errors import InputError
from sharpzo.methods.cached import (
    CachedSettings,
    Grid,
    cached_fit,
    every_view,
    logspace,
    mean_views,
    read_text,
)
from sharpzo.methods.choose import choose, choose_along
from sharpzo.methods.kernel import KernelHead, kernel
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.metrics import loss_and_error
from sharpzo.rng import generator
from sharpzo.settings import Count, CountOrZero, NotNegative, Positive
from sharpzo.types import Array


@dataclass(frozen=True)
class TipSettings(CachedSettings):
    """``betas`` x ``alphas`` are tried on the validation photos, and ``beta`` with ``alpha``.

    Without validation photos the latter are used.
    """

    betas: Grid = logspace(-0.5, 1.5, 9)
    alphas: Grid = logspace(-1, 2, 10)
    beta: NotNegative = 5.0
    alpha: NotNegative = 30.0


@dataclass(frozen=True)
class TipFSettings(TipSettings):
    """Tip-Adapter-F: the keys descend for ``epochs``, at ``alpha`` and ``beta``.

    Of the views the first ``key_views`` make the keys (0: all) and the rest, if there is one, is
    trained on, one view per epoch. A weak cache learns more than a strong one, which fits its own
    photos from the start: so ``alpha`` and ``beta`` are lower here than where nothing is trained.
    """

    beta: NotNegative = 1.0
    alpha: NotNegative = 2.0
    epochs: Count = 50
    batch: Count = 256
    rate: Positive = 1e-2
    decay: NotNegative = 0.01
    eps: Positive = 1e-4
    key_views: CountOrZero = 0

    def check(self) -> None:
        super().check()
        if self.key_views > self.views:
            raise InputError(
                f"key_views is {self.key_views}; give 0 to {self.views}, the number of views"
            )


def fit(settings: TipSettings, task: Task) -> Fit:
    """One forward per template; nothing is trained."""
    text = read_text(task.tower, settings.templates)
    values = np.eye(len(text.features), dtype=np.uint8)[task.train.labels]
    keys, scale = mean_views(task), task.tower.logit_scale
    cache = KernelHead(text.features, keys, values, scale, settings.alpha, settings.beta)
    cache = _searched(cache, task, settings)
    return cached_fit(cache, task, text, {"alpha": cache.strength, "beta": cache.beta})


def _searched(cache: KernelHead, task: Task, settings: TipSettings) -> KernelHead:
    """The cache at its own alpha and beta or at a better point of the grid."""
    if (known := task.validation) is None:
        return cache
    cosines = cache.scale * (known.vectors @ cache.text.T)
    own = (cache.beta, cache.strength)

    def scored() -> Iterable[tuple[tuple[float, float], Array]]:
        yield own, cache.scores(known)
        for beta in settings.betas:
            near = kernel(known.vectors, cache.keys, beta) @ cache.values
            for alpha in settings.alphas:
                yield (beta, alpha), cosines + alpha * near

    beta, alpha = choose(scored(), known.labels)
    return replace(cache, strength=alpha, beta=beta)


def fit_f(settings: TipFSettings, task: Task) -> Fit:
    """One forward per template; then stochastic descent on the keys."""
    text, train = read_text(task.tower, settings.templates), task.train
    keys, scale = mean_views(task, settings.key_views), task.tower.logit_scale
    values = np.eye(len(text.features), dtype=keys.dtype)[train.labels]
    cache = KernelHead(text.features, keys, values, scale, settings.alpha, settings.beta)
    # The views after those of the keys; all if there is none after them, photos if none at all.
    pool = every_view(task).vectors.reshape(-1, *train.vectors.shape)
    pool = pool[settings.key_views % len(pool) :]
    batches = -(-len(train) // settings.batch)
    adam = Adam(eps=settings.eps, decay=settings.decay)

    def descend() -> Iterator[tuple[KernelHead, int]]:
        tuned = cache
        for epoch in range(settings.epochs):
            vectors = pool[epoch % len(pool)]
            rows = generator(task.seed, "tip-adapter-f", step=epoch).permutation(len(train))
            for number in range(batches):
                drawn = rows[number * settings.batch : (number + 1) * settings.batch]
                _, slope = loss_and_gradient(tuned, vectors[drawn], train.labels[drawn])
                done = cosine(epoch * batches + number, settings.epochs * batches)
                moved = adam.move(tuned.keys, slope, settings.rate * done)
                tuned = replace(tuned, keys=moved)
            yield tuned, epoch + 1

    tuned, epoch = choose_along(descend(), lambda found: found[0], task.validation)
    tuned = _searched(tuned, task, settings)
    notes = {"alpha": tuned.strength, "beta": tuned.beta, "epoch": epoch}
    tuned = replace(tuned, values=values.astype(np.uint8))
    return cached_fit(tuned, task, text, notes, steps=settings.epochs)


def loss_and_gradient(cache: KernelHead, vectors: Array, labels: Array) -> tuple[float, Array]:
    """Return the mean cross-entropy of a batch and its gradient with respect to the keys (N, D)."""
    near = kernel(vectors, cache.keys, cache.beta)
    logits = cache.scale * (vectors @ cache.text.T) + cache.strength * (near @ cache.values)
    loss, error = loss_and_error(logits, labels)
    error /= len(labels)
    inner = cache.strength * cache.beta * near * (error @ cache.values.T)
    return loss, (inner.T @ vectors).astype(cache.keys.dtype)


# Data set: alpha at first | ends of the grids of beta and of alpha | epochs of Tip-Adapter-F.
_PUBLISHED: Mapping[str, tuple[float, tuple[float, float], int]] = {
    "imagenet": (1.17, (7, 3), 20),
    "caltech": (3, (12, 5), 20),
    "dtd": (2, (13, 13), 20),
    "eurosat": (2, (12, 10), 100),
    "fgvc": (5, (30, 30), 20),
    "food101": (1.17, (10, 10), 20),
    "pets": (1.17, (7, 3), 20),
    "ucf101": (3, (7, 3), 20),
    "flowers": (10, (50, 50), 20),
    "cars": (3, (20, 10), 20),
    "sun397": (1.17, (12, 10), 20),
}


def _even(top: float, many: int) -> tuple[float, ...]:
    """The program's grid: ``many`` even steps from 0.1, the end left out."""
    return tuple(0.1 + i * (top - 0.1) / many for i in range(many))


def _tip(name: str) -> TipSettings:
    alpha, ends, _ = _PUBLISHED[name]
    return TipSettings(
        templates="ensemble" if name == "imagenet" else "run",
        views=10,
        betas=_even(ends[0], 200),
        alphas=_even(ends[1], 20),
        beta=1.0,
        alpha=alpha,
    )


def _tip_f(name: str) -> TipFSettings:
    """Ten views for the keys, and one for each epoch."""
    epochs = _PUBLISHED[name][2]
    tip = replace(_tip(name), views=10 + epochs)
    return TipFSettings(**vars(tip), epochs=epochs, rate=1e-3, key_views=10)


register(
    Method(
        "tip-adapter",
        "cache of the training photos beside the text; nothing is trained",
        TipSettings(),
        fit,
        {"published": replace(_tip("imagenet"), templates="run")}
        | {f"published/{name}": _tip(name) for name in _PUBLISHED},
        load=KernelHead.from_arrays,
        images=True,
    )
)
register(
    Method(
        "tip-adapter-f",
        "Tip-Adapter with its keys tuned",
        TipFSettings(),
        fit_f,
        {"published": replace(_tip_f("imagenet"), templates="run")}
        | {f"published/{name}": _tip_f(name) for name in _PUBLISHED},
        load=KernelHead.from_arrays,
        images=True,
    )
)
