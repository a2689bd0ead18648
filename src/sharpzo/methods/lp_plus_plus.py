"""``lp++``: a linear probe with a learnt share of the text classifier."""

from __future__ import annotations

from dataclasses import replace

from sharpzo.heads.lp_plus_plus import LpPlusPlusSettings, fit_lp_plus_plus
from sharpzo.methods.photos import every_view, image_passes
from sharpzo.methods.registry import Fit, Method, Task, own_views, register
from sharpzo.methods.text import read_text
from sharpzo.types import Reason


def fit(settings: LpPlusPlusSettings, task: Task) -> Fit:
    """The class names once a template; then full-batch descent on the features."""
    text = read_text(task.tower, settings.templates)
    head, epoch = fit_lp_plus_plus(
        every_view(task), text.features, task.validation, settings, task.seed
    )
    return Fit(
        head,
        Reason.STEPS,
        text.forwards,
        steps=settings.epochs,
        image_passes=image_passes(task),
        notes={"epoch": epoch},
    )


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
        views=own_views,
    )
)
