"""``projection``: the text projection tuned in closed form, the top rung of the ladder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sharpzo.heads.linear import LinearHead
from sharpzo.heads.projection import ProjectionSettings, fit_projection
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.types import Array, Reason, TextTower


def fit(settings: ProjectionSettings, task: Task) -> Fit:
    """One forward gives the states; the rest is a convex problem."""
    tower = task.tower
    tuned = fit_projection(
        tower.states(tower.start[None])[0],
        tower.projection,
        tower.logit_scale,
        task.train,
        task.validation,
        settings,
    )
    return Fit(
        tuned.head,
        Reason.CLOSED_FORM,
        forwards=1,
        arrays={"projection_left": tuned.left, "projection_right": tuned.right},
        notes={"penalty": tuned.penalty},
    )


def rename(arrays: Mapping[str, Array], tower: TextTower) -> LinearHead:
    """A name never seen gets the feature (W0 + left @ right) h, divided by its untuned length."""
    states = tower.states(tower.start[None])[0]
    base = states @ tower.projection.T
    tuned = base + states @ arrays["projection_right"].T @ arrays["projection_left"].T
    return LinearHead.of_text(
        tuned / np.linalg.norm(base, axis=1, keepdims=True), tower.logit_scale
    )


register(
    Method(
        "projection",
        "text projection tuned in closed form; one forward, keeps unseen classes",
        ProjectionSettings(),
        fit,
        rename=rename,
    )
)
