"""What the published heads on cached features have in common: settings, checks, sums by class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sharpzo.errors import InputError
from sharpzo.types import Array

TEMPLATES = ("run", "ensemble", "both")


@dataclass(frozen=True)
class CachedSettings:
    """Which text and which photos a head reads.

    ``templates``: the run's template ("run"), ImageNet's seven ("ensemble") or all eight ("both").
    ``views``: augmented views of each training photo (crops of a share ``view_scale`` of it); with
    0 the head reads the photos as they are.
    """

    templates: str = "run"
    views: int = 0
    view_scale: tuple[float, float] = (0.5, 1.0)

    def __post_init__(self) -> None:
        require(self.templates in TEMPLATES, "templates", self.templates, " or ".join(TEMPLATES))
        require(self.views >= 0, "views", self.views, "0 or more")
        scale = self.view_scale
        ordered = len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1
        require(ordered, "view_scale", scale, "two shares, the lower first, above 0 and at most 1")


def require(right: bool, name: str, value: object, wanted: str) -> None:
    """Raise InputError unless a setting is right."""
    if not right:
        raise InputError(f"{name} is {value!r}; give {wanted}")


def require_numbers(name: str, values: tuple[float, ...], least: float = 0.0) -> None:
    """Raise InputError unless there are values, all finite and at least ``least``."""
    fine = bool(values) and all(math.isfinite(v) and v >= least for v in values)
    shown = values[0] if len(values) == 1 else values
    require(fine, name, shown, f"finite numbers of at least {least:g}")


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
