"""Checks of what is handed to a search; each failure one sentence with value and allowed range."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sharpzo.errors import InputError
from sharpzo.types import Array


def positive(name: str, value: float) -> None:
    """Raise InputError unless ``value`` is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} is {value}; give a finite number above 0")


def between(name: str, value: float, low: float, high: float) -> None:
    """Raise InputError unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; give a number from {low:g} to {high:g}")


def share(name: str, value: float) -> None:
    """Raise InputError unless ``0 < value <= 1``."""
    if not 0 < value <= 1:
        raise InputError(f"{name} is {value}; give a number above 0 and at most 1")


def at_least(name: str, value: int, least: int) -> None:
    """Raise InputError unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} is {value!r}; give a whole number of at least {least}")


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise InputError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; give one of {', '.join(map(repr, allowed))}")


def checked_vector(name: str, values: Array, dim: int) -> Array:
    """Return a float64 copy of ``values`` (dim,); InputError for another shape or a non-number."""
    vector = np.array(values, dtype=np.float64)
    if vector.shape != (dim,):
        raise InputError(f"{name} has the shape {vector.shape}; this search needs ({dim},)")
    if not np.isfinite(vector).all():
        raise InputError(
            f"{name} holds {np.count_nonzero(~np.isfinite(vector))} values that are "
            f"not finite; give {dim} finite numbers"
        )
    return vector


def checked_losses(losses: Array, expected: int) -> Array:
    """Return a float64 copy of ``losses`` (expected,) in which everything non-finite is +inf."""
    values = np.array(losses, dtype=np.float64)
    if values.shape != (expected,):
        raise InputError(
            f"told losses of the shape {values.shape}; the last ask needs ({expected},), one "
            "a candidate, or the loss and its slopes"
        )
    values[~np.isfinite(values)] = np.inf
    return values
