"""What evolution strategies have in common: sampling around a mean, paths, termination.

Samples are theta + sigma y with y = M z, z ~ N(0, I); a strategy defines M and how it
learns. Equations: N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772; "eq."
below means it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sharpzo.errors import InputError
from sharpzo.optim.box import into_box, out_of_box
from sharpzo.optim.constants import constants, default_population
from sharpzo.optim.search import Search, checked_vector
from sharpzo.rng import generator
from sharpzo.settings import AtLeastTwo, NotNegative, Positive, Settings
from sharpzo.types import Array, LossesAt, LossObjective, Reason

SIGMA_LIMIT = 1e32  # beyond it float64 products overflow

Centre = Literal["mean", "population", "best"]


@dataclass(frozen=True)
class EvolutionSettings(Settings):
    """What every evolution strategy can be told.

    ``population_size`` None means 4 + floor(3 ln d); ``bound`` b keeps candidates inside
    [-b, b]^d (``box``). The search has converged when losses vary by less than ``tol_fun`` over
    the recent generations or no coordinate's deviation exceeds ``tol_x`` sigma_0.
    """

    population_size: AtLeastTwo | None = None
    sigma: Positive = 0.3
    bound: Positive | None = None
    tol_fun: NotNegative = 1e-11
    tol_x: NotNegative = 1e-12


class Evolution(Search[LossObjective]):
    """An evolution strategy over R^d as a ``Search`` that asks for the losses of a population.

    Samples are drawn by a counter-based generator keyed by the generation, so that ``ask`` repeats
    itself until ``tell`` and the state holds no generator.
    """

    centre: Centre = "mean"  # what ``point`` is
    KEPT = ("_mean", "_sigma", "_path_sigma", "_path_c", "_history", "_shift", "_shift_recorded")

    def __init__(
        self, dim: int, settings: EvolutionSettings, active: bool, seed: int, start: Array | None
    ) -> None:
        super().__init__(dim, seed, start)
        self._sampling = settings
        self.population_size = settings.population_size or default_population(dim)
        self._constants = constants(dim, self.population_size, active)
        self._mean = out_of_box(self._point, settings.bound)
        self._sigma = float(settings.sigma)
        self._path_sigma = np.zeros(dim)
        self._path_c = np.zeros(dim)  # of those that have one
        self._history = np.zeros(0)  # lowest loss of each recent generation
        self._cache: tuple[Array, Array] | None = None
        self._shift: Array | None = None
        self._shift_recorded = False

    @property
    def mean(self) -> Array:
        """Theta (d,), the mean of the sampling distribution, inside the box if there is one."""
        return np.array(into_box(self._mean, self._sampling.bound))

    @property
    def point(self) -> Array:
        """Theta (d,), the mean of fresh draws or the best candidate, as ``centre`` says."""
        if self.centre == "population":
            return self.population_mean()
        point, loss = self.best
        return point if self.centre == "best" and np.isfinite(loss) else self.mean

    def population_mean(self) -> Array:
        """Return the mean of P fresh draws (d,), the authors' current point.

        Of U[0, 1) before the first generation, where the program holds noise of that law.
        """
        if self.step == 0:
            rng = generator(self.seed, "first population")
            return rng.random((self.population_size, self.dim)).mean(axis=0)
        return self.draws(direction=1).mean(axis=0)

    @property
    def sigma(self) -> float:
        """Global step size."""
        return self._sigma

    @property
    def notes(self) -> Mapping[str, float]:
        """The step size."""
        return {"sigma": self._sigma}

    def shift_by(self, shift: Array | None, *, recorded: bool) -> None:
        """Move the coming populations by ``shift`` (d,); None ends it.

        The losses told are those of the shifted candidates in either case. ``recorded`` says
        which points the update takes them for: True, the shifted samples themselves, the literal
        reading of SharpZO eq. 3 (the mean then drifts along with the shift); False, the samples
        without their shift, as sharpness-aware minimisation and the authors' program do (the
        shift acts on the losses alone, and inside a box is added after the map into it).
        """
        self._shift = None if shift is None else checked_vector("shift", shift, self.dim)
        self._shift_recorded = recorded and shift is not None

    def ask(self) -> LossesAt:
        """Return this generation's candidates (P, d)."""
        _, steps = self._sample()
        points = np.array(into_box(self._mean + self._sigma * steps, self._sampling.bound))
        if self._shift is not None and not self._shift_recorded:
            points = points + self._shift
        return LossesAt(points)

    def draws(self, direction: int) -> Array:
        """Return further samples (P, d), never told, without shift; ``direction`` >= 1 keys them.

        The authors' program takes the mean of 40 of them for its current point.
        """
        steps = self._transform(self._normal(direction))
        return np.array(into_box(self._mean + self._sigma * steps, self._sampling.bound))

    def learn(self, losses: Array, slopes: Array) -> None:
        """Update the distribution; a non-finite loss ranks last."""
        order = np.argsort(losses, kind="stable")
        z, steps = self._sample()
        self._update(z[order], steps[order])
        self._cache = None
        self.step += 1
        if self._flat(losses) or self._still():
            self.stopped = Reason.CONVERGED

    # -- what a strategy defines --------------------------------------------------------------

    @abstractmethod
    def _transform(self, z: Array) -> Array:
        """Return M z for rows ``z`` (P, d)."""

    def _whiten(self, y: Array) -> Array:
        """Return C^(-1/2) y for one step (d,): the z that leads to it."""
        raise InputError(f"{self.stage} cannot be told shifted points; give recorded=False")

    @abstractmethod
    def _update(self, z: Array, y: Array) -> None:
        """Adapt the distribution to steps ``y`` = M ``z`` (P, d), best first."""

    @abstractmethod
    def _deviations(self) -> Array:
        """Return the deviation of each coordinate of y, (d,)."""

    # -- sampling -----------------------------------------------------------------------------

    def _normal(self, direction: int) -> Array:
        rng = generator(self.seed, self.stage, step=self.step, direction=direction)
        return rng.standard_normal((self.population_size, self.dim))

    def _sample(self) -> tuple[Array, Array]:
        """Return z ~ N(0, I) and the steps y = M z as recorded, both (P, d)."""
        if self._cache is None:
            z = self._normal(0)
            self._cache = z, self._transform(z)
        z, y = self._cache
        if self._shift is not None and self._shift_recorded:
            extra = self._shift / self._sigma
            return z + self._whiten(extra), y + extra
        return z, y

    # -- steps of an update -------------------------------------------------------------------

    def _advance_path_sigma(self, whitened: Array) -> float:
        """Take eq. 43 with ``whitened`` = C^(-1/2) y_w; return the path's squared length."""
        c = self._constants
        self._path_sigma = (1 - c.c_sigma) * self._path_sigma + math.sqrt(
            c.c_sigma * (2 - c.c_sigma) * c.mu_eff
        ) * whitened
        return float(self._path_sigma @ self._path_sigma)

    def _jumped(self, squared: float) -> bool:
        """Whether the path of sigma is so long that eq. 45 stalls (1 - h_sigma)."""
        c, dim = self._constants, self.dim
        settled = 1 - (1 - c.c_sigma) ** (2 * (self.step + 1))
        return not squared / settled / dim < 2 + 4 / (dim + 1)

    def _adapt_sigma(self, squared: float) -> None:
        """Take eq. 44."""
        c = self._constants
        change = c.c_sigma / c.d_sigma * (math.sqrt(squared) / c.chi - 1)
        self._sigma = min(self._sigma * math.exp(min(1.0, change)), SIGMA_LIMIT)

    # -- termination --------------------------------------------------------------------------

    def _flat(self, losses: Array) -> bool:
        """Whether losses no longer vary over the recent generations (appendix B.3)."""
        window = 10 + math.ceil(30 * self.dim / self.population_size)
        self._history = np.append(self._history, losses.min())[-window:]
        tol_fun = self._sampling.tol_fun
        return bool(
            len(self._history) == window
            and np.ptp(self._history) < tol_fun
            and losses.max() - losses.min() < tol_fun
        )

    def _still(self) -> bool:
        """Whether further generations would not move the mean (appendix B.3)."""
        deviations = self._sigma * self._deviations()
        tol_x = self._sampling.tol_x * self._sampling.sigma
        if (deviations < tol_x).all() and (self._sigma * np.abs(self._path_c) < tol_x).all():
            return True
        # NoEffectCoord: a fifth of a deviation no longer changes some coordinate in float64.
        return bool((self._mean == self._mean + 0.2 * deviations).any())
