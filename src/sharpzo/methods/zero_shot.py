"""``zero-shot``: the model as it is, in one template or in an ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sharpzo.linear import LinearHead
from sharpzo.methods.cached import (
    Templates,
    cached_fit,
    read_text,
    record_templates,
    recorded_templates,
)
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.settings import Settings
from sharpzo.types import Array, TextTower


@dataclass(frozen=True)
class ZeroShotSettings(Settings):
    """``templates``: the run's ("run"), ImageNet's seven ("ensemble") or all eight ("both")."""

    templates: Templates = "run"


def zero_shot_head(tower: TextTower, templates: str = "run") -> LinearHead:
    """The classifier of the untouched template; one forward per template."""
    return LinearHead.of_text(read_text(tower, templates).features, tower.logit_scale)


def fit_zero_shot(settings: ZeroShotSettings, task: Task) -> Fit:
    """One forward per template, no photo."""
    text = read_text(task.tower, settings.templates)
    head = LinearHead.of_text(text.features, task.tower.logit_scale)
    return cached_fit(head, task, text, arrays=record_templates(settings.templates))


def rename(arrays: Mapping[str, Array], tower: TextTower) -> LinearHead:
    """Other names in the same templates."""
    return zero_shot_head(tower, recorded_templates(arrays))


_DEFAULT = ZeroShotSettings()
register(
    Method(
        "zero-shot",
        "the model as it is",
        _DEFAULT,
        fit_zero_shot,
        {"ensemble": replace(_DEFAULT, templates="ensemble")},
        rename=rename,
        validation=lambda settings: False,
    )
)
