"""Objectives with known minima, and helpers to drive a search."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from safetensors.numpy import load, save

Objective = Callable[[np.ndarray], np.ndarray]


def sphere(x: np.ndarray) -> np.ndarray:
    return np.sum(x**2, axis=1)


def ellipsoid(x: np.ndarray) -> np.ndarray:
    d = x.shape[1]
    return x**2 @ 1e6 ** (np.arange(d) / max(d - 1, 1))


def rosenbrock(x: np.ndarray) -> np.ndarray:
    return np.sum(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (x[:, :-1] - 1) ** 2, axis=1)


def quadratic(x: np.ndarray) -> np.ndarray:
    """Minimum 0 at (1, ..., 1); its gradient at w is 2 (w - 1)."""
    return np.sum((x - 1) ** 2, axis=1)


def drive(search, objective: Objective, tells: int) -> None:
    for _ in range(tells):
        search.tell(objective(search.ask().points))


def assert_falls(before, after, by: float = 0.5) -> None:
    """Losses (seeds,) fall to the share ``by`` of what they were, two deviations to spare.

    The paths of one seed on two processors differ as two seeds do. Falls beyond the fourth power of
    ``by`` are taken for that: their spread says nothing.
    """
    logs = np.maximum(np.log(after) - np.log(before), 4 * np.log(by))
    assert logs.mean() + 2 * logs.std(ddof=1) < np.log(by), np.exp(logs)


def assert_lower(low, high) -> None:
    """Losses (seeds,) of one search are below another's: means three standard errors apart each."""
    ends = []
    for losses, side in ((low, 1), (high, -1)):
        ends.append(np.mean(losses) + side * 3 * np.std(losses, ddof=1) / np.sqrt(len(losses)))
    assert ends[0] < ends[1], (low, high)


def assert_as_fast(ours, theirs, within: float = 0.05) -> None:
    """Evaluations (seeds,) of two searches are the same up to ``within`` and their spread.

    Runs that a local minimum has caught (infinite) may be three in ten on either side.
    """
    logs = [np.log(np.asarray(many, float)) for many in (ours, theirs)]
    found = [one[np.isfinite(one)] for one in logs]
    assert min(len(some) / len(one) for some, one in zip(found, logs, strict=True)) > 0.7
    error = np.sqrt(sum(one.var(ddof=1) / len(one) for one in found))
    assert abs(found[0].mean() - found[1].mean()) < within + 3 * error, (ours, theirs)


def through_files(state: dict) -> dict:
    """Send a state through safetensors and strict JSON, as an artefact does."""
    arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
    plain = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
    text = json.dumps(plain, allow_nan=False)
    return {**load(save(arrays)), **json.loads(text)}


def assert_same(left: dict, right: dict) -> None:
    """States equal bit for bit."""
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == right[key].dtype, key
            assert value.tobytes() == right[key].tobytes(), key
        else:
            assert value == right[key], key
