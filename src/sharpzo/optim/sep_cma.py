"""Separable CMA-ES: a diagonal covariance, linear in time and memory.

R. Ros and N. Hansen, A Simple Modification in CMA-ES Achieving Linear Time and Space Complexity,
PPSN 2008. As `Cma` without negative weights, C's off-diagonal entries dropped and, there being d
instead of d (d + 1) / 2 numbers to learn, its learning rates (d + 2) / 3 times as large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from sharpzo.optim.evolution import Evolution, EvolutionSettings
from sharpzo.types import Array


class SepCma(Evolution):
    """Separable CMA-ES over R^d as a ``Search``.

    >>> search = SepCma(3, EvolutionSettings(sigma=0.5), seed=1, start=np.ones(3))
    >>> while search.stopped is None:
    ...     search.tell(np.sum(search.ask().points ** 2, axis=1))
    >>> search.stopped.name, bool(search.best[1] < 1e-10)
    ('CONVERGED', True)
    """

    stage = "sep-cma"
    KEPT = ("_variances",)

    def __init__(
        self,
        dim: int,
        settings: EvolutionSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        self.settings = settings = settings or EvolutionSettings()
        super().__init__(dim, settings, False, seed, start)
        self._variances = np.ones(dim)  # the diagonal of C
        self._c_1 = min(1.0, self._constants.c_1 * (dim + 2) / 3)
        self._c_mu = min(1 - self._c_1, self._constants.c_mu * (dim + 2) / 3)

    @property
    def notes(self) -> Mapping[str, float]:
        """Step size and the condition number of C."""
        ratio = float(self._variances.max() / self._variances.min())
        return {"sigma": self._sigma, "condition": ratio}

    def _transform(self, z: Array) -> Array:
        return z * np.sqrt(self._variances)

    def _whiten(self, y: Array) -> Array:
        return y / np.sqrt(self._variances)

    def _update(self, z: Array, y: Array) -> None:
        c = self._constants
        parents = c.weights[: c.mu]
        y_w, z_w = parents @ y[: c.mu], parents @ z[: c.mu]
        self._mean = self._mean + self._sigma * y_w
        squared = self._advance_path_sigma(z_w)
        h_sigma = not self._jumped(squared)
        self._path_c = (1 - c.c_c) * self._path_c
        if h_sigma:
            self._path_c += math.sqrt(c.c_c * (2 - c.c_c) * c.mu_eff) * y_w
        c_1 = self._c_1 if h_sigma else self._c_1 * (1 - c.c_c * (2 - c.c_c))
        self._variances *= 1 - c_1 - self._c_mu  # the diagonal of eq. 47
        self._variances += self._c_1 * self._path_c**2 + self._c_mu * (parents @ y[: c.mu] ** 2)
        self._adapt_sigma(squared)

    def _deviations(self) -> Array:
        return np.sqrt(self._variances)
