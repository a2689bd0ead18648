"""Text features for heads: one template, or the ensemble of the few-shot literature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sharpzo.data.layouts import IMAGENET_TEMPLATES
from sharpzo.methods.cached import TEMPLATES
from sharpzo.metrics import normalise
from sharpzo.types import Array, TextTower


@dataclass(frozen=True, eq=False)
class Text:
    """Features (K, D) of the class names, and how many forwards they cost: one a template."""

    features: Array
    forwards: int


def read_text(tower: TextTower, templates: str = "run", *, raw: bool = False) -> Text:
    """Read the class names in the run's template ("run"), in `IMAGENET_TEMPLATES`, or in "both".

    The features of each template are normalised, averaged and normalised again; ``raw``: they are
    averaged as the tower gives them.
    """
    read = [] if templates == "ensemble" else [tower.forward(tower.start[None])[0]]
    for template in () if templates == "run" else IMAGENET_TEMPLATES:
        other = tower.variant(template=template)
        read.append(other.forward(other.start[None])[0])
        other.close()
    if raw:
        return Text(np.mean(read, axis=0), len(read))
    unit = [normalise(features) for features in read]
    return Text(unit[0] if len(unit) == 1 else normalise(np.mean(unit, axis=0)), len(read))


def record_templates(templates: str) -> dict[str, Array]:
    """The choice as an array for the artefact, so that other names are read in the same way."""
    return {"templates": np.array([TEMPLATES.index(templates)], np.uint8)}


def recorded_templates(arrays: Mapping[str, Array]) -> str:
    """The choice that an artefact recorded; without a record the run's template."""
    return TEMPLATES[int(arrays["templates"][0])] if "templates" in arrays else TEMPLATES[0]
