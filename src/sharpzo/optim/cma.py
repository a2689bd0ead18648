"""CMA-ES: full covariance, cumulative step-size adaptation, weighted recombination.

N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772; "eq." below means it. Tested
against pycma: from equal samples mean, C and sigma stay equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sharpzo.optim.evolution import Constants, Evolution, EvolutionSettings, constants
from sharpzo.settings import Positive
from sharpzo.types import Array


@dataclass(frozen=True)
class CmaSettings(EvolutionSettings):
    """Settings of CMA-ES, on top of those of every strategy.

    ``active`` gives bad candidates negative weights; ``laziness`` multiplies
    the generations between eigendecompositions, 1 for Hansen's 1 / (10 d (c_1 + c_mu)).
    ``diagonal``, in stage 1 of SharpZO, takes separable CMA-ES (`SepCma`) instead: d variances in
    place of d^2 covariances, no negative weights, no decomposition.
    The search has converged, too, when C's condition number exceeds ``max_condition``.
    """

    active: bool = True
    laziness: Positive = 1.0
    max_condition: Positive = 1e14
    diagonal: bool = False


class Cma(Evolution[CmaSettings]):
    """CMA-ES over R^d as a ``Search``; samples are theta + sigma N(0, C).

    >>> search = Cma(3, CmaSettings(sigma=0.5), seed=1, start=np.ones(3))
    >>> while search.stopped is None:
    ...     search.tell(np.sum(search.ask().points ** 2, axis=1))
    >>> search.stopped.name, bool(search.best[1] < 1e-10)
    ('CONVERGED', True)
    """

    stage = "cma"
    DEFAULTS = CmaSettings()
    KEPT = ("_covariance", "_axes", "_lengths", "_decomposed")

    def _strategy(self) -> Constants:
        return constants(self.dim, self.population_size, self.settings.active)

    def _begin(self) -> None:
        self._covariance = np.eye(self.dim)
        self._axes: Array | None = None  # B, eigenvectors in columns; None: the identity
        self._lengths = np.ones(self.dim)  # diagonal of D, roots of the eigenvalues
        self._decomposed = 0  # generation of the last eigendecomposition

    @property
    def notes(self) -> Mapping[str, float]:
        return {"sigma": self._sigma, "condition": self._condition()}

    def _adapt(self, z: Array, y: Array, c_1: float) -> None:
        # Eqs. 46, 47: rank-one and rank-mu as one product. Negative weights are scaled by
        # d / ||C^(-1/2) y||^2 = d / ||z||^2, which keeps C positive definite.
        c = self._constants
        weights = c.weights.copy()
        bad = weights < 0
        weights[bad] *= self.dim / (np.linalg.norm(z[bad], axis=1) + 1e-9) ** 2
        vectors = np.concatenate([self._path_c[None], y])
        rates = np.concatenate([[c.c_1], c.c_mu * weights])
        self._covariance *= 1 - c_1 - c.c_mu * c.weights.sum()
        self._covariance += (vectors.T * rates) @ vectors

    # -- sampling -----------------------------------------------------------------------------

    def _transform(self, z: Array) -> Array:
        """Return C^(1/2) z = B D z for rows ``z`` (P, d) (eq. 39)."""
        self._decompose_if_due()
        return z if self._axes is None else (z * self._lengths) @ self._axes.T

    def _rotate(self, z: Array) -> Array:
        return z if self._axes is None else self._axes @ z

    def _whiten(self, y: Array) -> Array:
        return y if self._axes is None else (y @ self._axes) / self._lengths

    def _decompose_if_due(self) -> None:
        """Renew B and D if C has moved far enough since they were made (appendix B.2)."""
        gap = self.settings.laziness * self._constants.eigen_gap
        if self.step == self._decomposed or self.step < self._decomposed + gap:
            return
        self._covariance = (self._covariance + self._covariance.T) / 2
        values, vectors = np.linalg.eigh(self._covariance)
        lowest = 1e-16 * max(float(values[-1]), np.finfo(float).tiny)
        if values[0] < lowest:  # rounding error: repair C to what is sampled
            values = np.maximum(values, lowest)
            self._covariance = (vectors * values) @ vectors.T
        # One memory layout, so that a restored search multiplies bit for bit the same.
        self._axes = np.ascontiguousarray(vectors)
        self._lengths = np.sqrt(values)
        self._decomposed = self.step

    # -- termination --------------------------------------------------------------------------

    def _deviations(self) -> Array:
        return np.sqrt(np.maximum(np.diag(self._covariance), 0))

    def _condition(self) -> float:
        return float((self._lengths.max() / self._lengths.min()) ** 2)

    def _still(self) -> bool:
        return super()._still() or self._condition() > self.settings.max_condition
