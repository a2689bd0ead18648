"""``clap``: a linear probe held at the text features, class by class."""

from __future__ import annotations

from dataclasses import replace

from sharpzo.heads.clap import ClapSettings, fit_clap
from sharpzo.methods.photos import image_passes
from sharpzo.methods.registry import Fit, Method, Task, own_views, register
from sharpzo.methods.text import read_text
from sharpzo.types import Reason


def fit(settings: ClapSettings, task: Task) -> Fit:
    """The class names once a template; then stochastic descent on the features."""
    text = read_text(task.tower, settings.templates, raw=True)
    head = fit_clap(
        task.train, task.views, text.features, task.tower.logit_scale, settings, task.seed
    )
    return Fit(
        head,
        Reason.STEPS,
        text.forwards,
        steps=settings.epochs,
        image_passes=image_passes(task),
    )


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
        views=own_views,
        validation=lambda settings: False,
    )
)
