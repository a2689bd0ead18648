"""``gda``: Gaussian discriminant analysis beside the text classifier."""

from __future__ import annotations

from sharpzo.heads.gda import GdaSettings, fit_gda
from sharpzo.methods.photos import every_view, image_passes
from sharpzo.methods.registry import Fit, Method, Task, own_views, register
from sharpzo.methods.text import read_text
from sharpzo.types import Reason


def fit(settings: GdaSettings, task: Task) -> Fit:
    """The class names once a template; one D x D inverse."""
    text = read_text(task.tower, settings.templates)
    head, alpha = fit_gda(
        every_view(task), text.features, task.tower.logit_scale, task.validation, settings
    )
    return Fit(
        head,
        Reason.CLOSED_FORM,
        text.forwards,
        image_passes=image_passes(task),
        notes={"alpha": alpha},
    )


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
        views=own_views,
    )
)
