"""Gradient descent as the field does it: SGD with momentum, Adam, AdamW, cosine schedules.

The same arithmetic as ``torch.optim`` (tested against it), so that published settings mean here
what they meant there. An optimiser holds its moments; the caller holds parameters and rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from sharpzo.types import Array


def cosine(step: int, steps: int) -> float:
    """Share of the learning rate at ``step`` of ``steps``: 1 at first, 0 at the end.

    >>> cosine(0, 10), round(cosine(5, 10), 6), round(cosine(10, 10), 6)
    (1.0, 0.5, 0.0)
    """
    return 0.5 * (1 + math.cos(math.pi * step / steps))


@dataclass(eq=False)
class Sgd:
    """v <- momentum v + g; x <- x - rate v (Sutskever et al. 2013, without Nesterov's look-ahead).

    >>> Sgd(momentum=0.9).move(np.ones(2), np.array([1.0, 0.0]), rate=0.5).tolist()
    [0.5, 1.0]
    """

    momentum: float = 0.0
    _velocity: Array | None = field(default=None, init=False)

    def move(self, point: Array, gradient: Array, rate: float) -> Array:
        """Return the point after one step along ``-gradient`` (same shape)."""
        if self._velocity is None:
            self._velocity = gradient.copy()
        else:
            self._velocity = self.momentum * self._velocity + gradient
        return point - rate * self._velocity


@dataclass(eq=False)
class Adam:
    """Adam (Kingma & Ba 2015); with ``decay`` AdamW (Loshchilov & Hutter 2019, decoupled).

    >>> Adam().move(np.ones(2), np.array([1.0, -4.0]), rate=0.1).round(3).tolist()
    [0.9, 1.1]
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decay: float = 0.0
    _steps: int = field(default=0, init=False)
    _mean: Array | None = field(default=None, init=False)
    _square: Array | None = field(default=None, init=False)

    def move(self, point: Array, gradient: Array, rate: float) -> Array:
        """Return the point after one step (same shape and dtype)."""
        if self._mean is None or self._square is None:
            self._mean, self._square = np.zeros_like(gradient), np.zeros_like(gradient)
        first, second = self.betas
        self._steps += 1
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient**2
        root = np.sqrt(self._square) / math.sqrt(1 - second**self._steps) + self.eps
        shrunk = point * (1 - rate * self.decay)
        return shrunk - rate / (1 - first**self._steps) * self._mean / root
