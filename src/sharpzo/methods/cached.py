"""What the published heads on cached features have in common: settings, checks, sums by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from msgspec import Meta

from sharpzo.errors import InputError
from sharpzo.settings import NotNegative, ViewSettings
from sharpzo.types import Array, Features

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


def states_of(photos: Features) -> Array:
    """The states (N, S) that the image projection reads; InputError where they were not kept."""
    if photos.states is None:
        raise InputError("the photos' features come without states; encode the photos again")
    return photos.states
