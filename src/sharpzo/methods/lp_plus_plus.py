"""LP++: a linear probe with a learnt share of the text classifier (Huang et al., CVPR 2024).

    logit_c = w_c . f + b_c + alpha_c (f . t_c)     unit f and t, raw cosines, no logit scale

Minimised is the mean cross-entropy, with step sizes from majorisation instead of a search. Since
the Hessian of the cross-entropy in the logits is at most I / 2 (Boehning 1992), the loss has a
Lipschitz gradient of at most lambda_max(X'X) / (2 N) in w and max_c sum_i (f_i . t_c)**2 / (2 N) in
alpha; the published steps are

    rate_w = 4 N / lambda_max(X'X),  rate_alpha = N / (4 max_c sum_i (f_i . t_c)**2)

so rate_w is the longest step of plain descent that cannot raise the loss, and rate_alpha an eighth
of it. The program takes rate_w with momentum 0.9, and moves alpha every tenth epoch. It never
clears alpha's gradient, so its step is the sum of all gradients since the beginning
(``alpha_gradient`` = "accumulated"); the paper's is the present one ("fresh").

A class without a photo has w_c = 0 and the share alpha of the others to begin with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from sharpzo.descent import Sgd
from sharpzo.linear import LinearHead, loss_and_slopes
from sharpzo.methods.cached import CachedSettings, cached_fit, class_means, every_view, read_text
from sharpzo.methods.choose import choose_along
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.rng import generator
from sharpzo.settings import Count, Decay
from sharpzo.types import Array


@dataclass(frozen=True)
class LpPlusPlusSettings(CachedSettings):
    """``epochs`` of the whole training set; the validation photos choose the epoch, else the last.

    ``ties``: of epochs of equal validation accuracy the one of the lower cross-entropy ("loss") or
    the later one ("later", as published). ``bias_start``: "zero", or "random" as in the program.
    ``text_share``: alpha starts at this times the mean cosine of a photo with its class's text.
    """

    epochs: Count = 300
    alpha_every: Count = 10
    alpha_gradient: Literal["fresh", "accumulated"] = "fresh"
    momentum: Decay = 0.9
    text_share: float = 250.0
    bias_start: Literal["zero", "random"] = "zero"
    ties: Literal["loss", "later"] = "loss"


class Parameters(NamedTuple):
    """w (K, D), b (K,), alpha (K,); or a gradient with respect to them."""

    weight: Array
    bias: Array
    alpha: Array


def fit(settings: LpPlusPlusSettings, task: Task) -> Fit:
    """One forward per template; then full-batch descent on the features."""
    names, photos = read_text(task.tower, settings.templates), every_view(task)
    vectors, text = photos.vectors.astype(np.float64), names.features.astype(np.float64)
    rate, alpha_rate = step_sizes(vectors, text)
    weight_descent, bias_descent = Sgd(settings.momentum), Sgd(settings.momentum)

    def descend() -> Iterator[tuple[Parameters, int]]:
        at, summed = start(vectors, photos.labels, text, settings, task.seed), np.zeros(len(text))
        for epoch in range(1, settings.epochs + 1):
            _, slope = loss_and_gradient(at, vectors, photos.labels, text)
            summed = slope.alpha + (summed if settings.alpha_gradient == "accumulated" else 0)
            turn = epoch % settings.alpha_every == 0
            at = Parameters(
                weight_descent.move(at.weight, slope.weight, rate),
                bias_descent.move(at.bias, slope.bias, rate),
                at.alpha - alpha_rate * summed if turn else at.alpha,
            )
            yield at, epoch

    chosen, epoch = choose_along(
        descend(), lambda found: _head(found[0], text), task.validation, settings.ties == "later"
    )
    return cached_fit(_head(chosen, text), task, names, {"epoch": epoch}, steps=settings.epochs)


def _head(at: Parameters, text: Array) -> LinearHead:
    both = at.weight + at.alpha[:, None] * text
    return LinearHead(both.astype(np.float32), at.bias.astype(np.float32), 1.0)


def start(
    vectors: Array, labels: Array, text: Array, settings: LpPlusPlusSettings, seed: int
) -> Parameters:
    """The published start: w the sum of a class's photos, alpha equal for all classes."""
    means, counts = class_means(vectors, labels, len(text))
    cosines, _ = class_means((vectors * text[labels]).sum(axis=1), labels, len(text))
    alpha = settings.text_share * cosines[counts > 0].mean()
    bias = np.zeros(len(text))
    if settings.bias_start == "random":  # the default of torch.nn.Linear
        bound = vectors.shape[1] ** -0.5
        bias = generator(seed, "lp-plus-plus-bias").uniform(-bound, bound, len(text))
    return Parameters(means * counts[:, None], bias, np.full(len(text), alpha))


def step_sizes(vectors: Array, text: Array) -> tuple[float, float]:
    """Return the published rates of w and alpha for photos (N, D) and text (K, D)."""
    many = len(vectors)
    largest = float(np.linalg.eigvalsh(vectors.T @ vectors)[-1])
    squares = float(((vectors @ text.T) ** 2).sum(axis=0).max())
    return 4 * many / largest, many / (4 * squares)


def loss_and_gradient(
    at: Parameters, vectors: Array, labels: Array, text: Array
) -> tuple[float, Parameters]:
    """Return the mean cross-entropy and its gradient, float64."""
    loss, along, summed = loss_and_slopes(
        at.weight + at.alpha[:, None] * text, at.bias, vectors, labels, divide=len(labels)
    )
    return loss, Parameters(along, summed, (along * text).sum(axis=1))


# As the program computes it, which the published figures come from.
_PUBLISHED = LpPlusPlusSettings(
    views=1, alpha_gradient="accumulated", bias_start="random", ties="later"
)
register(
    Method(
        "lp++",
        "linear probe with a learnt share of the text, steps by majorisation",
        LpPlusPlusSettings(),
        fit,
        {
            "published": _PUBLISHED,
            "published/imagenet": replace(_PUBLISHED, templates="ensemble"),
            "paper": replace(_PUBLISHED, alpha_gradient="fresh"),
        },
    )
)
