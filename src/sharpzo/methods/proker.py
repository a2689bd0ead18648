"""``proker``: kernel ridge regression on top of the text classifier."""

from __future__ import annotations

import numpy as np

from sharpzo.heads.kernel import KernelHead
from sharpzo.heads.proker import ProKeRSettings, fit_proker
from sharpzo.methods.photos import every_view, image_passes
from sharpzo.methods.registry import Fit, Method, Task, own_views, register
from sharpzo.methods.text import read_text
from sharpzo.types import Reason


def fit(settings: ProKeRSettings, task: Task) -> Fit:
    """The class names once a template; one decomposition of the kernel matrix a beta."""
    text = read_text(task.tower, settings.templates)
    head, beta, penalty = fit_proker(every_view(task), text.features, task.validation, settings)
    return Fit(
        head,
        Reason.CLOSED_FORM,
        text.forwards,
        image_passes=image_passes(task),
        notes={"beta": beta, "penalty": penalty},
    )


def _published(
    betas: tuple[float, float], penalties: tuple[float, float], many: tuple[int, int] = (20, 10)
) -> ProKeRSettings:
    """Even grids from end to end; where no number of points is published, 20 and 10."""
    spread = [
        tuple(float(v) for v in np.linspace(*ends, points))
        for ends, points in zip((betas, penalties), many, strict=True)
    ]
    return ProKeRSettings(views=10, betas=spread[0], penalties=spread[1], divide=False)


register(
    Method(
        "proker",
        "kernel ridge regression of what the text leaves over; closed form",
        ProKeRSettings(),
        fit,
        {
            "published": _published((0.5, 3.0), (0.001, 1.0)),
            "published/dtd": _published((0.1, 10.0), (0.001, 10.0), (20, 100)),
            "published/eurosat": _published((0.5, 3.0), (0.001, 1.0)),
            "published/pets": _published((0.01, 5.0), (0.01, 0.3), (40, 20)),
            "published/sun397": _published((0.1, 10.0), (0.01, 10.0), (10, 10)),
        },
        load=KernelHead.from_arrays,
        views=own_views,
    )
)
