"""Choose settings of a head on the validation photos: by accuracy, ties by cross-entropy.

The temperature that logits are divided by has a prior, for where few photos choose it. How far
apart logits lie depends on the data set, on the number of photos and on the expert, and hardly on
how often they are right. In units of their spread, one temperature fits all of these, but for the
errors that few photos per class make:

    centre = 0.4 (1 + 1.5 / photos per class) spread                                            (1)

The spread is the standard deviation of a photo's logits over the classes, averaged over photos that
training did not see. Both numbers, and the width of the prior, were chosen on three data sets with
1 to 16 photos per class, on held-out development photos.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sharpzo.descent import minimise
from sharpzo.methods.cached import Grid, logspace
from sharpzo.metrics import accuracy, cross_entropy
from sharpzo.settings import NotNegative, Settings
from sharpzo.types import Array, Features, Head

H = TypeVar("H", bound=Head)
P = TypeVar("P")
CALIBRATED, FEW = 0.4, 1.5  # of equation 1


def rank(logits: Array, labels: Array) -> tuple[float, float]:
    """Return what is to be small: error rate, then cross-entropy; infinite if not finite.

    >>> import numpy as np
    >>> right, unsure = np.array([[2.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> rank(right, np.array([0])) < rank(unsure, np.array([0])) < rank(right, np.array([1]))
    True
    """
    loss = float(cross_entropy(logits, labels))
    return (1 - accuracy(logits, labels), loss) if math.isfinite(loss) else (1.0, math.inf)


def choose(grid: Iterable[tuple[P, Array]], labels: Array, *, later: bool = False) -> P:
    """Return the point of lowest rank of pairs (point, validation logits (N, K)); first of equals.

    ``later``: of points of equal accuracy the last one, whatever their cross-entropy.

    >>> import numpy as np
    >>> choose([("bad", np.eye(2)), ("good", 9 * np.eye(2)[::-1])], np.array([1, 0]))
    'good'
    """

    def ranked() -> Iterator[tuple[tuple[float, float], P]]:
        for place, (point, logits) in enumerate(grid):
            error, loss = rank(logits, labels)
            yield (error, -place if later else loss), point

    return min(ranked(), key=lambda one: one[0])[1]


def choose_along(
    path: Iterable[P], head: Callable[[P], Head], validation: Features | None, later: bool = False
) -> P:
    """Return the point whose head is chosen; without validation photos the last one."""
    if validation is None:
        return deque(path, maxlen=1).pop()
    tried = ((point, head(point).scores(validation)) for point in path)
    return choose(tried, validation.labels, later=later)


@dataclass(frozen=True)
class PenaltySettings(Settings):
    """Penalties tried, strongest first; without validation photos ``penalty`` is used."""

    penalties: Grid = logspace(-1, -6, 11)
    penalty: NotNegative = 1e-4


def choose_penalty(
    loss: Callable[[Array, float], tuple[float, Array]],
    head: Callable[[Array], H],
    start: Array,
    settings: PenaltySettings,
    validation: Features | None,
    first_step: Callable[[float], float | None] = lambda penalty: None,
) -> tuple[Array, H, float]:
    """Return parameters, head and penalty of the lowest rank on the validation photos.

    ``loss``: parameters and penalty -> loss and gradient; ``first_step`` is that of `minimise` for
    a penalty. Penalties are tried from the strongest to
    the weakest, each from the solution before, which is also the order in which the problems get
    harder.
    """

    def path() -> Iterator[tuple[Array, H, float]]:
        parameters, tried = start, [settings.penalty]
        if validation is not None:
            tried = sorted(settings.penalties, reverse=True)
        for penalty in tried:
            parameters = minimise(
                lambda at, by=penalty: loss(at, by), parameters, first_step=first_step(penalty)
            )
            yield parameters, head(parameters), penalty

    return choose_along(path(), lambda found: found[1], validation)


def spread(logits: Array) -> float:
    """Mean over photos of the standard deviation over classes of logits (N, K)."""
    return float(logits.std(axis=1).mean())


def centre(spread: float, shots: float, calibrated: float = CALIBRATED) -> float:
    """Equation 1, the temperature to expect with ``shots`` photos per class.

    >>> round(centre(10.0, 1), 3), round(centre(10.0, 15), 3)
    (10.0, 4.4)
    """
    return calibrated * (1 + FEW / shots) * spread


def choose_temperature(
    temperatures: Sequence[float],
    centre: float,
    prior: float,
    held_out: tuple[Array, Array] | None,
) -> float:
    """The one of the highest posterior: logits (N, K) and labels (N,) of photos held out against
    a normal prior of its logarithm about log ``centre``, ``prior`` wide. Without such photos it is
    the centre, within the range of ``temperatures``.

    >>> choose_temperature((0.5, 1.0, 2.0), 1.3, 0.2, None)
    1.3
    >>> logits = np.array([[9.0, 0.0], [9.0, 0.0]])
    >>> photos = logits, np.array([0, 1])  # sure twice, right once
    >>> [choose_temperature((0.5, 1.0, 2.0), 1.0, prior, photos) for prior in (0.01, 1.0)]
    [1.0, 2.0]
    """
    if held_out is None:
        return float(np.clip(centre, min(temperatures), max(temperatures)))
    logits, labels = held_out
    middle = np.log(max(centre, 1e-12))  # one class has no spread

    def cost(temperature: float) -> float:
        distance = (np.log(temperature) - middle) / prior
        loss = float(cross_entropy(logits / temperature, labels))
        return len(labels) * loss + distance**2 / 2

    return min(temperatures, key=cost)
