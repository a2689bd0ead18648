"""GDA: Gaussian discriminant analysis beside the text classifier (Wang et al., ICLR 2024).

Classes are Gaussians of one covariance, so the rule of Bayes is linear:

    w_c = P m_c,  b_c = -log K - 1/2 m_c' P m_c,  logits = scale * f . t_c + alpha (f . w_c + b_c)

m_c are class means and P is the precision in the shrunken form of Kubokawa & Srivastava (2008),
P = D [(n - 1) S + tr(S) I]^-1, with S the covariance about the class means of n samples. The paper
means photos by n. The authors' program counts augmented views, so that ten views weaken the ridge
tr(S) I to a tenth of what it is for the photos alone: ``ridge_views``.

``scale`` is published as 100 and here the checkpoint's own. A class without a photo takes the
mean of the other means, so that its text decides. Where no class
has two photos, S is taken about the mean of all photos; where all photos are the same one, the text
alone classifies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sharpzo.linear import LinearHead
from sharpzo.methods.cached import (
    CachedSettings,
    Grid,
    cached_fit,
    every_view,
    logspace,
    read_text,
)
from sharpzo.methods.choose import choose_along
from sharpzo.methods.moments import Moments
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.settings import Count, NotNegative
from sharpzo.types import Array


@dataclass(frozen=True)
class GdaSettings(CachedSettings):
    """``alphas`` are tried on the validation photos; without them ``alpha`` is used.

    ``ridge_views``: n counts that many views of each photo, whether they were made or not.
    """

    alphas: Grid = logspace(-4, 2, 7)
    alpha: NotNegative = 3.0
    ridge_views: Count = 1


def fit(settings: GdaSettings, task: Task) -> Fit:
    """One forward per template; one D x D inverse."""
    text, photos = read_text(task.tower, settings.templates), every_view(task)
    samples = len(task.train) * settings.ridge_views
    weight, bias, _ = gaussian(Moments.of(photos, len(text.features)), samples)

    def head(alpha: float) -> LinearHead:
        both = task.tower.logit_scale * text.features + alpha * weight
        return LinearHead(both.astype(np.float32), (alpha * bias).astype(np.float32), 1.0)

    tried = (settings.alpha,) if task.validation is None else settings.alphas
    alpha = choose_along(tried, head, task.validation)
    return cached_fit(head(alpha), task, text, {"alpha": alpha})


def gaussian(moments: Moments, samples: int) -> tuple[Array, Array, float]:
    """Return w (K, D) and b (K,) of rows of width D, float64, and half the expected squared
    distance, by P, of a photo from the mean of its class; ``samples`` is n of the ridge."""
    means, many, width = moments.means, moments.many, len(moments.scatter)
    covariance = moments.scatter / max(many - 1, 1)
    ridge = (samples - 1) * covariance + np.trace(covariance) * np.eye(width)
    precision = width * np.linalg.pinv(ridge, hermitian=True)
    weight = means @ precision
    free = max(many - np.count_nonzero(moments.counts), 1)  # degrees of freedom of the scatter
    away = (precision * covariance).sum() * max(many - 1, 1) / free
    return weight, -np.log(len(means)) - 0.5 * (means * weight).sum(axis=1), 0.5 * float(away)


register(
    Method(
        "gda",
        "Gaussian classes of one covariance beside the text; closed form",
        GdaSettings(),
        fit,
        {
            "published": GdaSettings(views=10, ridge_views=10),
            "published/imagenet": GdaSettings(views=10, ridge_views=10, templates="ensemble"),
        },
    )
)
