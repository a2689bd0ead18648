"""``zero-shot``: the model as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sharpzo.heads.linear import LinearHead
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.metrics import normalise
from sharpzo.types import Array, Reason, TextTower


@dataclass(frozen=True)
class ZeroShotSettings:
    """Nothing to set."""


def zero_shot_head(tower: TextTower) -> LinearHead:
    """The classifier of the untouched template; one forward."""
    return LinearHead.of_text(normalise(tower.forward(tower.start[None])[0]), tower.logit_scale)


def fit_zero_shot(settings: ZeroShotSettings, task: Task) -> Fit:
    """One forward, no photo."""
    return Fit(zero_shot_head(task.tower), Reason.CLOSED_FORM, forwards=1)


def rename(arrays: Mapping[str, Array], tower: TextTower) -> LinearHead:
    """Other names in the same template."""
    return zero_shot_head(tower)


register(
    Method("zero-shot", "the model as it is", ZeroShotSettings(), fit_zero_shot, rename=rename)
)
