"""Loss landscapes: a grid of losses around a solution, along two random directions.

Directions are filter-normalised (Li et al. 2018, section 4): a direction of normal draws gets, row
by row, the length of the solution's own row, so that 1 means the same for every solution. A row is
a token vector of a context, or a row of a projection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sharpzo.errors import InputError
from sharpzo.metrics import cross_entropy
from sharpzo.rng import generator
from sharpzo.tuning.contexts import ContextMap
from sharpzo.tuning.objective import BATCH, PromptObjective
from sharpzo.types import Array, Features, TextTower

SIDE = 21  # grid points per direction
RADIUS = 1.0  # of the grid, in lengths of the solution's own rows
Progress = Callable[[int, int], None]  # forwards done, forwards in all


@dataclass(frozen=True, eq=False)
class Landscape:
    """Losses float64 (S, S) around a solution; the solution itself is in the middle."""

    losses: Array
    forwards: int

    @property
    def centre(self) -> float:
        """Loss of the solution."""
        middle = len(self.losses) // 2
        return float(self.losses[middle, middle])

    @property
    def rise(self) -> float:
        """Mean loss within half the radius, less the loss of the solution: its sharpness."""
        axis = np.linspace(-1, 1, len(self.losses))
        near = np.hypot(axis[:, None], axis[None]) <= 0.5
        return float(self.losses[near].mean() - self.centre)


def directions(point: Array, seed: int) -> tuple[Array, Array]:
    """Two random directions (R, W), each row as long as that row of ``point`` (R, W)."""
    lengths = np.linalg.norm(point, axis=1, keepdims=True)

    def one(which: int) -> Array:
        draws = generator(seed, "landscape", direction=which).standard_normal(point.shape)
        return draws * lengths / np.linalg.norm(draws, axis=1, keepdims=True)

    return one(0), one(1)


class Plane(ContextMap):
    """Contexts point + a u + b v of coordinates (a, b): what a `PromptObjective` can walk on."""

    def __init__(self, point: Array, seed: int) -> None:
        self.start = point.astype(np.float32)
        self.dim = 2
        both = [one.ravel() for one in directions(point, seed)]
        self.matrix = np.stack(both, axis=1).astype(np.float32)


def grid(side: int, radius: float) -> Array:
    """Coordinates (side**2, 2) of a square grid, the first direction changing slowest.

    >>> grid(3, 1.0)[:4].tolist()
    [[-1.0, -1.0], [-1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]]
    """
    if side < 3 or side % 2 == 0:
        raise InputError(f"a landscape of {side} points per direction has no middle; give 3, 5, …")
    axis = np.linspace(-radius, radius, side)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def context_landscapes(
    tower: TextTower,
    train: Features,
    contexts: Mapping[str, Array],
    *,
    side: int = SIDE,
    radius: float = RADIUS,
    seed: int = 1,
    progress: Progress = lambda done, total: None,
) -> dict[str, Landscape]:
    """Mean cross-entropy of all training photos around contexts (n, m), by name.

    The same random numbers make the directions of every context; side**2 forwards each.
    """
    points = grid(side, radius)
    total = len(points) * len(contexts)
    found: dict[str, Landscape] = {}
    done = 0
    for name, context in contexts.items():
        objective = PromptObjective(tower, train, Plane(context, seed))
        losses = []
        for first in range(0, len(points), BATCH):
            losses.append(objective.losses(points[first : first + BATCH]))
            progress(done + objective.forwards, total)
        done += objective.forwards
        found[name] = Landscape(np.concatenate(losses).reshape(side, side), objective.forwards)
    return found


def projection_landscapes(
    tower: TextTower,
    train: Features,
    change: Array,
    *,
    side: int = SIDE,
    radius: float = RADIUS,
    seed: int = 1,
) -> dict[str, Landscape]:
    """The same around the text projection W0 (D, H) and the tuned W0 + ``change``.

    Text features are linear in the projection: one forward gives the states, the rest is algebra.
    Features are divided by their untuned length, as `methods.projection` does.
    """
    states = tower.states(tower.start[None])[0].astype(np.float64)
    lengths = np.linalg.norm(states @ tower.projection.T, axis=1, keepdims=True)
    points = grid(side, radius)
    found = {}
    for name, weights in (("before", tower.projection), ("after", tower.projection + change)):
        base, *along = (
            tower.logit_scale * train.vectors @ (states @ part.T / lengths).T
            for part in (weights, *directions(weights, seed))
        )
        losses = [
            float(cross_entropy(base + a * along[0] + b * along[1], train.labels))
            for a, b in points
        ]
        found[name] = Landscape(np.array(losses).reshape(side, side), 1)
    return found


def shared_range(surfaces: Sequence[Array]) -> tuple[float, float]:
    """Lowest and highest finite loss of several surfaces, so that they can be compared."""
    values = np.concatenate([np.ravel(one) for one in surfaces])
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
