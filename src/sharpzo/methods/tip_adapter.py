"""``tip-adapter`` and ``tip-adapter-f``: a cache of the training photos beside the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sharpzo.heads.kernel import KernelHead
from sharpzo.heads.tip_adapter import (
    TipFSettings,
    TipSettings,
    fit_tip_adapter,
    fit_tip_adapter_f,
)
from sharpzo.methods.photos import image_passes, mean_views
from sharpzo.methods.registry import Fit, Method, Task, own_views, register
from sharpzo.methods.text import read_text
from sharpzo.types import Features, Reason


def fit(settings: TipSettings, task: Task) -> Fit:
    """The class names once a template; nothing is trained."""
    text = read_text(task.tower, settings.templates)
    head = fit_tip_adapter(
        mean_views(task),
        task.train.labels,
        text.features,
        task.tower.logit_scale,
        task.validation,
        settings,
    )
    return Fit(
        head,
        Reason.CLOSED_FORM,
        text.forwards,
        image_passes=image_passes(task),
        notes={"alpha": head.strength, "beta": head.beta},
    )


def fit_f(settings: TipFSettings, task: Task) -> Fit:
    """The class names once a template; then stochastic descent on the keys."""
    text = read_text(task.tower, settings.templates)
    head, epoch = fit_tip_adapter_f(
        mean_views(task, settings.key_views),
        task.train,
        _trained_on(task, settings.key_views),
        text.features,
        task.tower.logit_scale,
        task.validation,
        settings,
        task.seed,
    )
    return Fit(
        head,
        Reason.STEPS,
        text.forwards,
        steps=settings.epochs,
        image_passes=image_passes(task),
        notes={"alpha": head.strength, "beta": head.beta, "epoch": epoch},
    )


def _trained_on(task: Task, key_views: int) -> Features | None:
    """The views after those of the keys, or all if there is none after them."""
    if task.views is None or not key_views or key_views * len(task.train) == len(task.views):
        return task.views
    return task.views.take(np.arange(key_views * len(task.train), len(task.views)))


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
    tip, epochs = _tip(name), _PUBLISHED[name][2]
    return TipFSettings(
        templates=tip.templates,
        views=10 + epochs,
        betas=tip.betas,
        alphas=tip.alphas,
        beta=tip.beta,
        alpha=tip.alpha,
        epochs=epochs,
        rate=1e-3,
        key_views=10,
    )


register(
    Method(
        "tip-adapter",
        "cache of the training photos beside the text; nothing is trained",
        TipSettings(),
        fit,
        {"published": replace(_tip("imagenet"), templates="run")}
        | {f"published/{name}": _tip(name) for name in _PUBLISHED},
        load=KernelHead.from_arrays,
        views=own_views,
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
        views=own_views,
        images=True,
    )
)
