"""Strategies linear in the dimension, in time and in memory: separable CMA-ES and LM-MA-ES."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sharpzo.optim.evolution import Constants, Evolution, EvolutionSettings, default_population
from sharpzo.types import Array


class SepCma(Evolution[EvolutionSettings]):
    """Separable CMA-ES over R^d as a ``Search``: a diagonal covariance.

    R. Ros and N. Hansen, A Simple Modification in CMA-ES Achieving Linear Time and Space
    Complexity, PPSN 2008. As `Cma` without negative weights, C's off-diagonal entries dropped and,
    there being d instead of d (d + 1) / 2 numbers to learn, its learning rates (d + 2) / 3 times as
    large.

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


class LmMa(Evolution[EvolutionSettings]):
    """LM-MA-ES over R^d as a ``Search``: M is a product of rank-one changes of the identity.

    I. Loshchilov, T. Glasmachers and H.-G. Beyer, Large Scale Black-box Optimization by
    Limited-Memory Matrix Adaptation, arXiv 1705.06693 (Algorithm 1; "line" below means it). Each
    change is made from an evolution path of its own memory; C is never formed. Below d = 2 P rates
    that the paper states beyond 1 are 1. The weights are those of `Cma`, equal to the paper's for
    an even population.

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
