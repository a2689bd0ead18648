"""LM-MA-ES: a low-rank transformation made of a few evolution paths.

I. Loshchilov, T. Glasmachers and H.-G. Beyer, Large Scale Black-box Optimization by
Limited-Memory Matrix Adaptation, arXiv 1705.06693 (Algorithm 1; "line" below means it). C is never
formed: M is a product of m rank-one changes of the identity, each made from a path of its own
memory.
"""

from __future__ import annotations

import math

import numpy as np

from sharpzo.optim.evolution import Evolution, EvolutionSettings, default_population
from sharpzo.types import Array


class LmMa(Evolution[EvolutionSettings]):
    """LM-MA-ES over R^d as a ``Search``.

    Below d = 2 P rates that the paper states beyond 1 are 1. The weights are those of `Cma`, equal
    to the paper's for an even population.

    >>> search = LmMa(20, EvolutionSettings(sigma=0.5), seed=1, start=np.ones(20))
    >>> while search.stopped is None:
    ...     search.tell(np.sum(search.ask().points ** 2, axis=1))
    >>> search.stopped.name, bool(search.best[1] < 1e-10)
    ('CONVERGED', True)
    """

    stage = "lm-ma"
    KEPT = ("_paths",)

    def _begin(self) -> None:
        dim = self.dim
        many = default_population(dim)  # m = 4 + floor(3 ln d)
        self._paths = np.zeros((many, dim))  # m_1, ..., m_m: rows
        i = np.arange(many)
        self._c_d = 1 / (1.5**i * dim)
        self._c_c = np.minimum(1, self.population_size / (4.0**i * dim))
        self._c_sigma = min(1.0, 2 * self.population_size / dim)
        self._spread = np.ones(dim)  # deviations of the last population

    def _transform(self, z: Array) -> Array:
        """Return M z, the factors in turn (line 8); so many as there have been generations."""
        y = z
        for rate, path in zip(self._c_d[: self.step], self._paths, strict=False):
            y = (1 - rate) * y + np.outer(rate * (y @ path), path)
        return y

    def _update(self, z: Array, y: Array) -> None:
        c, c_sigma = self._constants, self._c_sigma
        parents = c.weights[: c.mu]
        y_w, z_w = parents @ y[: c.mu], parents @ z[: c.mu]
        self._spread = np.sqrt(np.mean(y**2, axis=0))
        self._mean = self._mean + self._sigma * y_w  # line 10
        fresh = math.sqrt(c.mu_eff * c_sigma * (2 - c_sigma))
        self._path_sigma = (1 - c_sigma) * self._path_sigma + fresh * z_w  # line 11
        fresh = np.sqrt(c.mu_eff * self._c_c * (2 - self._c_c))
        self._paths = (1 - self._c_c)[:, None] * self._paths + np.outer(fresh, z_w)  # line 13
        squared = float(self._path_sigma @ self._path_sigma)
        self._adapt_sigma(c_sigma / 2 * (squared / self.dim - 1))  # line 14

    def _deviations(self) -> Array:
        return self._spread
