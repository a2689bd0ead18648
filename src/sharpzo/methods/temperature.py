"""The temperature that logits are divided by, with a prior for where few photos choose it.

How far apart logits lie depends on the data set, on the number of photos and on the expert, and
says little of how sure one may be. In units of their spread, one temperature fits all of these, but
for the errors that few photos per class make:

    centre = 0.4 (1 + 1.5 / photos per class) spread                                            (1)

The spread is the standard deviation of a photo's logits over the classes, averaged over photos that
training did not see. Both numbers, and the width of the prior, were chosen on three data sets with
1 to 16 photos per class, on held-out development photos.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sharpzo.metrics import cross_entropy
from sharpzo.types import Array

CALIBRATED, FEW = 0.4, 1.5  # of equation 1


def spread(logits: Array) -> float:
    """Mean over photos of the standard deviation over classes of logits (N, K)."""
    return float(logits.std(axis=1).mean())


def centre(spread: float, shots: float) -> float:
    """Equation 1, the temperature to expect with ``shots`` photos per class.

    >>> round(centre(10.0, 1), 3), round(centre(10.0, 15), 3)
    (10.0, 4.4)
    """
    return CALIBRATED * (1 + FEW / shots) * spread


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
