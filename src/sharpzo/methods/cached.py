"""Shared by heads on cached features: settings, text features and photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from msgspec import Meta

from sharpzo.data.layouts import IMAGENET_TEMPLATES
from sharpzo.errors import InputError
from sharpzo.methods.registry import Fit, Task
from sharpzo.metrics import normalise
from sharpzo.settings import NotNegative, ViewSettings
from sharpzo.types import Array, Features, Head, Reason, TextTower

Templates = Literal["run", "ensemble", "both"]
TEMPLATES: tuple[Templates, ...] = get_args(Templates)
# A penalty that something is divided by, and grids to choose from.
Penalty = Annotated[float, Meta(ge=1e-9, description="a finite number of at least 1e-9")]
Grid = Annotated[
    tuple[NotNegative, ...],
    Meta(min_length=1, description="a list, not empty, of finite numbers of at least 0"),
]
PenaltyGrid = Annotated[
    tuple[Penalty, ...],
    Meta(min_length=1, description="a list, not empty, of finite numbers of at least 1e-9"),
]


@dataclass(frozen=True)
class CachedSettings(ViewSettings):
    """Which text and which photos a head reads.

    ``templates``: the run's template ("run"), ImageNet's seven ("ensemble") or all eight ("both").
    ``views``: augmented views of each training photo; with 0 the head reads the photos as they are.
    """

    templates: Templates = "run"


def logspace(low: float, high: float, many: int) -> tuple[float, ...]:
    """Return ``many`` numbers from 10**low to 10**high, evenly spaced in the exponent.

    Six digits of each, which are the same on every processor: powers differ in their last ones.

    >>> logspace(-1, 0, 3)
    (0.1, 0.316228, 1.0)
    """
    return tuple(float(f"{v:.6g}") for v in np.logspace(low, high, many))


def class_means(values: Array, labels: Array, n_classes: int) -> tuple[Array, Array]:
    """Return means (K, ...) of rows (N, ...) by class and counts (K,); no rows, mean zero.

    >>> import numpy as np
    >>> class_means(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 2]), 3)
    (array([2., 0., 5.]), array([2, 0, 1]))
    """
    counts = np.bincount(labels, minlength=n_classes)
    sums = np.zeros((n_classes, *values.shape[1:]))
    np.add.at(sums, labels, values)
    return sums / np.maximum(counts, 1).reshape(-1, *([1] * (values.ndim - 1))), counts


@dataclass(frozen=True, eq=False)
class Text:
    """Features (K, D) of the class names, and how many forwards they cost: one per template."""

    features: Array
    forwards: int


def read_text(tower: TextTower, templates: str = "run", *, raw: bool = False) -> Text:
    """Read the class names in the run's template ("run"), in `IMAGENET_TEMPLATES`, or in "both".

    The features of each template are normalised, averaged and normalised again; ``raw``: they are
    averaged as the tower gives them.
    """
    read = [] if templates == "ensemble" else [tower.untuned]
    for template in () if templates == "run" else IMAGENET_TEMPLATES:
        other = tower.variant(template=template)
        read.append(other.untuned)
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


def every_view(task: Task) -> Features:
    """All augmented views, each a sample of its own; without views the photos."""
    return task.train if task.views is None else task.views


def cached_fit(
    head: Head,
    task: Task,
    text: Text,
    notes: Mapping[str, float] | None = None,
    *,
    steps: int = 0,
    arrays: Mapping[str, Array] | None = None,
) -> Fit:
    """A fit, closed form or of so many steps, that cost what text and augmented views did."""
    return Fit(
        head,
        Reason.STEPS if steps else Reason.CLOSED_FORM,
        text.forwards,
        steps,
        image_passes=0 if task.views is None else len(task.views),
        arrays=arrays or {},
        notes=notes or {},
    )


def image_projection(task: Task) -> Array:
    """The matrix (D, S) that makes features of states, read from the checkpoint."""
    assert task.images is not None
    return task.images.open_tower().projection


def mean_views(task: Task, many: int = 0) -> Array:
    """Unit rows (N, D): the photos' features, or the mean of their first ``many`` views (0: all).

    Raw features are averaged, so that a view counts by the length of its feature.
    """
    if task.views is None:
        return task.train.vectors
    states = states_of(task.views)
    states = states.reshape(-1, len(task.train), states.shape[1])
    return normalise(states[: many or None].mean(axis=0) @ image_projection(task).T)


def states_of(photos: Features) -> Array:
    """The states (N, S) that the image projection reads; InputError where they were not kept."""
    if photos.states is None:
        raise InputError("the photos' features come without states; encode the photos again")
    return photos.states
