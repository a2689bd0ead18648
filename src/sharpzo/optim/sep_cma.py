"""Separable CMA-ES: a diagonal covariance, linear in time and memory.

R. Ros and N. Hansen, A Simple Modification in CMA-ES Achieving Linear Time and Space Complexity,
PPSN 2008. As `Cma` without negative weights, C's off-diagonal entries dropped and, there being d
instead of d (d + 1) / 2 numbers to learn, its learning rates (d + 2) / 3 times as large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sharpzo.optim.evolution import Constants, Evolution, EvolutionSettings
from sharpzo.types import Array


class SepCma(Evolution[EvolutionSettings]):
    """Separable CMA-ES over R^d as a ``Search``.

    >>> search = SepCma(3, EvolutionSettings(sigma=0.5), seed=1, start=np.ones(3))
    >>> while search.stopped is None:
    ...     search.tell(np.sum(search.ask().points ** 2, axis=1))
    >>> search.stopped.name, bool(search.best[1] < 1e-10)
    ('CONVERGED', True)
    """

    stage = "sep-cma"
    KEPT = ("_variances",)

    def _strategy(self) -> Constants:
        full, dim = super()._strategy(), self.dim
        c_1 = min(1.0, full.c_1 * (dim + 2) / 3)
        return replace(full, c_1=c_1, c_mu=min(1 - c_1, full.c_mu * (dim + 2) / 3))

    def _begin(self) -> None:
        self._variances = np.ones(self.dim)  # the diagonal of C

    @property
    def notes(self) -> Mapping[str, float]:
        ratio = float(self._variances.max() / self._variances.min())
        return {"sigma": self._sigma, "condition": ratio}

    def _transform(self, z: Array) -> Array:
        return z * np.sqrt(self._variances)

    def _whiten(self, y: Array) -> Array:
        return y / np.sqrt(self._variances)

    def _adapt(self, z: Array, y: Array, c_1: float) -> None:
        c = self._constants
        self._variances *= 1 - c_1 - c.c_mu  # the diagonal of eq. 47
        self._variances += c.c_1 * self._path_c**2 + c.c_mu * (c.weights[: c.mu] @ y[: c.mu] ** 2)

    def _deviations(self) -> Array:
        return np.sqrt(self._variances)
