"""CMA-ES: full covariance, cumulative step-size adaptation, weighted recombination.

N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772; "eq." below means it. Tested
against pycma: from equal samples mean, C and sigma stay equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sharpzo.rng import generator
from sharpzo.search.box import into_box, out_of_box
from sharpzo.search.checks import at_least, checked_losses, checked_vector, positive
from sharpzo.search.constants import constants, default_population
from sharpzo.search.record import Best, nest, part
from sharpzo.types import Array, Reason, State

_SIGMA_LIMIT = 1e32  # beyond it float64 products overflow


@dataclass(frozen=True)
class CmaSettings:
    """Settings of CMA-ES.

    ``population_size`` None means 4 + floor(3 ln d); ``bound`` b keeps candidates inside
    [-b, b]^d (``box``); ``active`` gives bad candidates negative weights; ``laziness`` multiplies
    the generations between eigendecompositions, 1 for Hansen's 1 / (10 d (c_1 + c_mu)).
    The search has converged when losses vary by less than ``tol_fun`` over the recent
    generations, no coordinate's deviation exceeds ``tol_x`` sigma_0, or C's condition number
    exceeds ``max_condition``.
    """

    population_size: int | None = None
    sigma: float = 0.3
    bound: float | None = None
    active: bool = True
    laziness: float = 1.0
    tol_fun: float = 1e-11
    tol_x: float = 1e-12
    max_condition: float = 1e14

    def __post_init__(self) -> None:
        if self.population_size is not None:
            at_least("population_size", self.population_size, 2)
        positive("sigma", self.sigma)
        positive("max_condition", self.max_condition)
        positive("laziness", self.laziness)
        if self.bound is not None:
            positive("bound", self.bound)


class Cma:
    """CMA-ES over R^d as a ``Search``: ``ask() -> (P, d)``, ``tell(losses)``.

    Samples are theta + sigma N(0, C), drawn by a counter-based generator keyed by the generation,
    so that ``ask`` repeats itself until ``tell`` and the state holds no generator. ``shift_by``
    moves the next populations by a fixed vector (SharpZO eq. 3).

    >>> search = Cma(3, CmaSettings(sigma=0.5), seed=1, start=np.ones(3))
    >>> while search.stopped is None:
    ...     search.tell(np.sum(search.ask() ** 2, axis=1))
    >>> search.stopped.name, bool(search.best[1] < 1e-10)
    ('CONVERGED', True)
    """

    stage = "cma"

    def __init__(
        self,
        dim: int,
        settings: CmaSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        at_least("dim", dim, 1)
        self.settings = settings = settings or CmaSettings()
        self.population_size = settings.population_size or default_population(dim)
        self._constants = constants(dim, self.population_size, settings.active)
        self._seed = int(seed)
        start = np.zeros(dim) if start is None else checked_vector("start", start, dim)
        self._mean = out_of_box(start, settings.bound)
        self._sigma = float(settings.sigma)
        self._covariance = np.eye(dim)
        self._axes: Array | None = None  # B, eigenvectors in columns; None: the identity
        self._lengths = np.ones(dim)  # diagonal of D, roots of the eigenvalues
        self._path_sigma = np.zeros(dim)
        self._path_c = np.zeros(dim)
        self._generation = 0
        self._decomposed = 0  # generation of the last eigendecomposition
        self._shift: Array | None = None
        self._shift_recorded = False
        self._history = np.zeros(0)  # lowest loss of each recent generation
        self._stopped: Reason | None = None
        self._best = Best(dim)
        self._cache: tuple[Array, Array] | None = None

    # -- what everyone may read ---------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Dimension d."""
        return len(self._mean)

    @property
    def step(self) -> int:
        """Generations completed."""
        return self._generation

    @property
    def point(self) -> Array:
        """The mean theta (d,), mapped into the box where there is one."""
        return np.array(into_box(self._mean, self.settings.bound))

    @property
    def best(self) -> tuple[Array, float]:
        """Candidate (d,) with the lowest loss so far, and that loss."""
        return self._best.point.copy(), self._best.loss

    @property
    def stopped(self) -> Reason | None:
        """Why no further generation is worth asking for."""
        return self._stopped

    @property
    def sigma(self) -> float:
        """Global step size."""
        return self._sigma

    @property
    def notes(self) -> Mapping[str, float]:
        """Step size and the condition number of C at its last decomposition."""
        return {
            "sigma": self._sigma,
            "condition": float((self._lengths.max() / self._lengths.min()) ** 2),
        }

    # -- ask and tell -------------------------------------------------------------------------

    def shift_by(self, shift: Array | None, *, recorded: bool) -> None:
        """Move the coming populations by ``shift`` (d,); None ends it.

        The losses told are those of the shifted candidates in either case. ``recorded`` says
        which points the update takes them for: True, the shifted samples themselves, as SharpZO
        eq. 3 writes it (the mean then drifts along with the shift); False, the samples without
        their shift, as sharpness-aware minimisation and the authors' program do (the shift acts
        on the losses alone, and inside a box is added after the map into it).
        """
        self._shift = None if shift is None else checked_vector("shift", shift, self.dim)
        self._shift_recorded = recorded and shift is not None

    def ask(self) -> Array:
        """Return this generation's candidates (P, d); the same again until ``tell``."""
        _, steps = self._sample()
        points = into_box(self._mean + self._sigma * steps, self.settings.bound)
        if self._shift is not None and not self._shift_recorded:
            points = points + self._shift
        return np.array(points)

    def draws(self, direction: int) -> Array:
        """Return further samples (P, d), never told, without shift; ``direction`` >= 1 keys them.

        The authors' program takes the mean of 40 of them for its current point.
        """
        self._decompose_if_due()
        z = self._normal(direction)
        return np.array(
            into_box(self._mean + self._sigma * self._transform(z), self.settings.bound)
        )

    def record(self, candidates: Array, losses: Array) -> None:
        """Note probes (n, d) that are no samples, so that ``best`` knows them."""
        self._best.update(candidates, losses)

    def tell(self, losses: Array) -> None:
        """Update theta, sigma and C from the losses (P,) of the last ``ask``.

        A non-finite loss ranks last. If none is finite, nothing is updated and ``stopped`` is
        DIVERGED. InputError for another number of losses.
        """
        losses = checked_losses(losses, self.population_size)
        if np.isinf(losses).all():
            self._stopped = Reason.DIVERGED
            return
        self._best.update(self.ask(), losses)
        order = np.argsort(losses, kind="stable")
        z, steps = self._sample()
        self._update(z[order], steps[order])
        self._cache = None
        self._generation += 1
        self._check_convergence(losses)

    def observe(self, validation_accuracy: float) -> None:
        """Do nothing: CMA-ES has its own termination."""

    def _update(self, z: Array, y: Array) -> None:
        """Adapt the distribution to steps ``y`` = C^(1/2) ``z`` (P, d), best first."""
        c, dim = self._constants, self.dim
        parents = c.weights[: c.mu]
        y_w, z_w = parents @ y[: c.mu], parents @ z[: c.mu]
        self._mean = self._mean + self._sigma * y_w  # eqs. 41, 42 with c_m = 1

        # Eq. 43: C^(-1/2) y_w = B z_w, so no inverse is needed.
        whitened = z_w if self._axes is None else self._axes @ z_w
        self._path_sigma = (1 - c.c_sigma) * self._path_sigma + math.sqrt(
            c.c_sigma * (2 - c.c_sigma) * c.mu_eff
        ) * whitened
        squared = float(self._path_sigma @ self._path_sigma)
        settled = 1 - (1 - c.c_sigma) ** (2 * (self._generation + 1))
        h_sigma = squared / settled / dim < 2 + 4 / (dim + 1)  # stalls eq. 45 after a long jump
        self._path_c = (1 - c.c_c) * self._path_c
        if h_sigma:
            self._path_c += math.sqrt(c.c_c * (2 - c.c_c) * c.mu_eff) * y_w  # eq. 45

        # Eqs. 46, 47: rank-one and rank-mu as one product. Negative weights are scaled by
        # d / ||C^(-1/2) y||^2 = d / ||z||^2, which keeps C positive definite.
        weights = c.weights.copy()
        bad = weights < 0
        weights[bad] *= dim / (np.linalg.norm(z[bad], axis=1) + 1e-9) ** 2
        c_1 = c.c_1 if h_sigma else c.c_1 * (1 - c.c_c * (2 - c.c_c))
        vectors = np.concatenate([self._path_c[None], y])
        rates = np.concatenate([[c.c_1], c.c_mu * weights])
        self._covariance *= 1 - c_1 - c.c_mu * c.weights.sum()
        self._covariance += (vectors.T * rates) @ vectors

        change = c.c_sigma / c.d_sigma * (math.sqrt(squared) / c.chi - 1)  # eq. 44
        self._sigma = min(self._sigma * math.exp(min(1.0, change)), _SIGMA_LIMIT)

    # -- sampling -----------------------------------------------------------------------------

    def _normal(self, direction: int) -> Array:
        rng = generator(self._seed, "cma", step=self._generation, direction=direction)
        return rng.standard_normal((self.population_size, self.dim))

    def _transform(self, z: Array) -> Array:
        """Return C^(1/2) z = B D z for rows ``z`` (P, d) (eq. 39)."""
        return z if self._axes is None else (z * self._lengths) @ self._axes.T

    def _sample(self) -> tuple[Array, Array]:
        """Return z ~ N(0, I) and the steps y ~ N(0, C) as recorded, both (P, d)."""
        if self._cache is None:
            self._decompose_if_due()
            z = self._normal(0)
            y = self._transform(z)
            self._cache = z, y
        z, y = self._cache
        if self._shift is not None and self._shift_recorded:
            extra = self._shift / self._sigma
            whitened = extra if self._axes is None else (extra @ self._axes) / self._lengths
            return z + whitened, y + extra
        return z, y

    def _decompose_if_due(self) -> None:
        """Renew B and D if C has moved far enough since they were made (appendix B.2)."""
        gap = self.settings.laziness * self._constants.eigen_gap
        if self._generation == self._decomposed or self._generation < self._decomposed + gap:
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
        self._decomposed = self._generation

    # -- termination --------------------------------------------------------------------------

    def _check_convergence(self, losses: Array) -> None:
        """Set ``stopped`` when further generations would not move the mean (appendix B.3)."""
        settings = self.settings
        window = 10 + math.ceil(30 * self.dim / self.population_size)
        self._history = np.append(self._history, losses.min())[-window:]
        flat = (
            len(self._history) == window
            and np.ptp(self._history) < settings.tol_fun
            and losses.max() - losses.min() < settings.tol_fun
        )
        deviations = self._sigma * np.sqrt(np.maximum(np.diag(self._covariance), 0))
        tol_x = settings.tol_x * settings.sigma
        still = bool(
            (deviations < tol_x).all() and (self._sigma * np.abs(self._path_c) < tol_x).all()
        )
        # NoEffectCoord: a fifth of a deviation no longer changes some coordinate in float64.
        frozen = bool((self._mean == self._mean + 0.2 * deviations).any())
        ratio = self._lengths.max() / self._lengths.min()
        if flat or still or frozen or ratio**2 > settings.max_condition:
            self._stopped = Reason.CONVERGED

    # -- state --------------------------------------------------------------------------------

    def state(self) -> State:
        """Return copies of everything the next steps depend on; flat, see ``types.State``."""
        state: State = {
            "seed": self._seed,
            "generation": self._generation,
            "decomposed": self._decomposed,
            "sigma": self._sigma,
            "mean": self._mean.copy(),
            "covariance": self._covariance.copy(),
            "lengths": self._lengths.copy(),
            "path_sigma": self._path_sigma.copy(),
            "path_c": self._path_c.copy(),
            "history": self._history.copy(),
            "shift_recorded": self._shift_recorded,
            **nest("best", self._best.state()),
        }
        if self._axes is not None:
            state["axes"] = self._axes.copy()
        if self._shift is not None:
            state["shift"] = self._shift.copy()
        if self._stopped is not None:
            state["stopped"] = self._stopped.name
        return state

    @classmethod
    def from_state(cls, settings: CmaSettings, state: State) -> Cma:
        """Rebuild a search that goes on bit for bit as the one ``state`` was taken from."""
        search = cls(len(state["mean"]), settings, seed=int(state["seed"]))
        search._generation = int(state["generation"])
        search._decomposed = int(state["decomposed"])
        search._sigma = float(state["sigma"])
        for name in ("mean", "covariance", "lengths", "path_sigma", "path_c", "history"):
            setattr(search, f"_{name}", np.array(state[name], dtype=np.float64, order="C"))
        if "axes" in state:
            search._axes = np.array(state["axes"], dtype=np.float64, order="C")
        if "shift" in state:
            search._shift = np.array(state["shift"], dtype=np.float64)
        search._shift_recorded = bool(state["shift_recorded"])
        search._best.restore(part("best", state))
        search._stopped = Reason[state["stopped"]] if "stopped" in state else None
        return search
