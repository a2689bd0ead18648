"""``prolip``: the image tower's last projection, tuned on the states before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sharpzo.heads.prolip import ProjectedHead, ProLipSettings, fit_prolip
from sharpzo.methods.photos import image_passes, image_projection
from sharpzo.methods.registry import Fit, Method, Task, own_views, register
from sharpzo.methods.text import read_text, record_templates, recorded_templates
from sharpzo.types import Array, Reason, TextTower


def fit(settings: ProLipSettings, task: Task) -> Fit:
    """The class names once a template; then descent on the image projection."""
    text = read_text(task.tower, settings.templates)
    head, rate, penalty = fit_prolip(
        task.train,
        task.views,
        image_projection(task),
        text.features,
        task.tower.logit_scale,
        task.validation,
        settings,
    )
    return Fit(
        head,
        Reason.STEPS,
        text.forwards,
        steps=settings.steps,
        image_passes=image_passes(task),
        arrays=record_templates(settings.templates),
        notes={"rate": rate, "penalty": penalty},
    )


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
        views=own_views,
        images=True,
        validation=lambda settings: max(len(settings.rates), len(settings.penalties)) > 1,
    )
)
