"""The base class of evolution strategies: sampling around a mean, paths, termination.

Samples are theta + sigma y with y = M z, z ~ N(0, I); a strategy defines M and how it
learns. Equations: N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772; "eq."
below means it. Where pycma differs from the tutorial by a detail (c_sigma, c_1, c_mu), pycma's
value stands here, because SharpZO's authors ran pycma and the tests compare against it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np

from sharpzo.errors import InputError
from sharpzo.optim.search import Search, checked_vector
from sharpzo.rng import generator
from sharpzo.settings import AtLeastTwo, NotNegative, Positive, Settings
from sharpzo.types import Array, LossesAt, LossObjective, Reason

SIGMA_LIMIT = 1e32  # beyond it float64 products overflow

Centre = Literal["mean", "population", "best"]


@dataclass(frozen=True)
class EvolutionSettings(Settings):
    """Settings of every evolution strategy.

    ``population_size`` None means 4 + floor(3 ln d); ``bound`` b keeps candidates inside
    [-b, b]^d (``box``). The search has converged when losses vary by less than ``tol_fun`` over
    the recent generations or no coordinate's deviation exceeds ``tol_x`` sigma_0.
    """

    population_size: AtLeastTwo | None = None
    sigma: Positive = 0.3
    bound: Positive | None = None
    tol_fun: NotNegative = 1e-11
    tol_x: NotNegative = 1e-12


S = TypeVar("S", bound=EvolutionSettings)


class Evolution(Search[LossObjective], Generic[S]):
    """An evolution strategy over R^d as a ``Search`` that asks for the losses of a population.

    ``point`` is theta, the mean of fresh draws or the best candidate, as ``centre`` says. Samples
    are drawn by a counter-based generator keyed by the generation, so that ``ask`` repeats itself
    until ``tell`` and the state holds no generator.
    """

    DEFAULTS: ClassVar[Any] = EvolutionSettings()
    KEPT = ("_mean", "_sigma", "_path_sigma", "_path_c", "_history", "_shift", "_shift_recorded")

    def __init__(
        self,
        dim: int,
        settings: S | None = None,
        seed: int = 0,
        start: Array | None = None,
        centre: Centre = "mean",
    ) -> None:
        super().__init__(dim, seed, start)
        self.settings: S = self.DEFAULTS if settings is None else settings
        self.centre = centre
        self.population_size = self.settings.population_size or default_population(dim)
        self._constants = self._strategy()
        self._mean = out_of_box(self._point, self.settings.bound)
        self._sigma = self.settings.sigma
        self._path_sigma = np.zeros(dim)
        self._path_c = np.zeros(dim)  # of those that have one
        self._history = np.zeros(0)  # lowest loss of each recent generation
        self._cache: tuple[Array, Array] | None = None
        self._shift: Array | None = None
        self._shift_recorded = False
        self._begin()

    @property
    def mean(self) -> Array:
        """Theta (d,), the mean of the sampling distribution, inside the box if there is one."""
        return np.array(into_box(self._mean, self.settings.bound))

    @property
    def point(self) -> Array:
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
        return self._sigma

    @property
    def notes(self) -> Mapping[str, float]:
        return {"sigma": self._sigma}

    def shift_by(self, shift: Array | None, *, recorded: bool) -> None:
        """Move the coming populations by ``shift`` (d,); None ends it.

        The losses are those of the shifted candidates in either case. ``recorded`` says
        which points the update takes them for: True, the shifted samples themselves, the literal
        reading of SharpZO eq. 3 (the mean then drifts along with the shift); False, the samples
        without their shift, as sharpness-aware minimisation and the authors' program do (the
        shift acts on the losses alone, and inside a box is added after the map into it).
        """
        self._shift = None if shift is None else checked_vector("shift", shift, self.dim)
        self._shift_recorded = recorded and shift is not None

    def ask(self) -> LossesAt:
        points = self._placed(self._sample()[1])
        if self._shift is not None and not self._shift_recorded:
            points = points + self._shift
        return LossesAt(points)

    def draws(self, direction: int) -> Array:
        """Return further samples (P, d) without shift, keyed by ``direction`` >= 1; no update
        sees them."""
        return self._placed(self._transform(self._normal(direction)))

    def learn(self, losses: Array, slopes: Array) -> None:
        order = np.argsort(losses, kind="stable")
        z, steps = self._sample()
        self._update(z[order], steps[order])
        self._cache = None
        self.step += 1
        if self._flat(losses) or self._still():
            self.stopped = Reason.CONVERGED

    # -- what a strategy defines --------------------------------------------------------------

    def _strategy(self) -> Constants:
        """Its parameters."""
        return constants(self.dim, self.population_size, active=False)

    @abstractmethod
    def _begin(self) -> None:
        """Set up what it adapts."""

    @abstractmethod
    def _transform(self, z: Array) -> Array:
        """Return M z for rows ``z`` (P, d)."""

    def _rotate(self, z: Array) -> Array:
        """Return C^(-1/2) M z for one step ``z`` (d,): z itself, but for rotations."""
        return z

    def _whiten(self, y: Array) -> Array:
        """Return C^(-1/2) y for one step (d,): the z that leads to it."""
        raise InputError(f"{self.stage} cannot learn from shifted points; give recorded=False")

    def _adapt(self, z: Array, y: Array, c_1: float) -> None:
        """Adapt M to steps ``y`` = M ``z`` (P, d), best first; C keeps 1 - ``c_1`` - c_mu."""

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

    def _placed(self, steps: Array) -> Array:
        """Return points (P, d) of the box for steps y (P, d)."""
        return np.array(into_box(self._mean + self._sigma * steps, self.settings.bound))

    # -- learning -----------------------------------------------------------------------------

    def _update(self, z: Array, y: Array) -> None:
        """Adapt the distribution to steps ``y`` = M ``z`` (P, d), best first."""
        c, dim = self._constants, self.dim
        parents = c.weights[: c.mu]
        y_w, z_w = parents @ y[: c.mu], parents @ z[: c.mu]
        self._mean = self._mean + self._sigma * y_w  # eqs. 41, 42 with c_m = 1
        fresh = math.sqrt(c.c_sigma * (2 - c.c_sigma) * c.mu_eff)
        self._path_sigma = (1 - c.c_sigma) * self._path_sigma + fresh * self._rotate(z_w)  # eq. 43
        squared = float(self._path_sigma @ self._path_sigma)
        settled = 1 - (1 - c.c_sigma) ** (2 * (self.step + 1))
        self._path_c = (1 - c.c_c) * self._path_c
        c_1 = c.c_1
        if squared / settled / dim < 2 + 4 / (dim + 1):  # h_sigma
            self._path_c += math.sqrt(c.c_c * (2 - c.c_c) * c.mu_eff) * y_w  # eq. 45
        else:  # a long jump: eq. 45 stalls
            c_1 *= 1 - c.c_c * (2 - c.c_c)
        self._adapt(z, y, c_1)
        self._adapt_sigma(c.c_sigma / c.d_sigma * (math.sqrt(squared) / c.chi - 1))  # eq. 44

    def _adapt_sigma(self, change: float) -> None:
        self._sigma = min(self._sigma * math.exp(min(1.0, change)), SIGMA_LIMIT)

    # -- termination --------------------------------------------------------------------------

    def _flat(self, losses: Array) -> bool:
        """Whether losses no longer vary over the recent generations (appendix B.3)."""
        window = 10 + math.ceil(30 * self.dim / self.population_size)
        self._history = np.append(self._history, losses.min())[-window:]
        tol_fun = self.settings.tol_fun
        return bool(
            len(self._history) == window
            and np.ptp(self._history) < tol_fun
            and losses.max() - losses.min() < tol_fun
        )

    def _still(self) -> bool:
        """Whether further generations would not move the mean (appendix B.3)."""
        deviations = self._sigma * self._deviations()
        tol_x = self.settings.tol_x * self.settings.sigma
        if (deviations < tol_x).all() and (self._sigma * np.abs(self._path_c) < tol_x).all():
            return True
        # NoEffectCoord: a fifth of a deviation no longer changes some coordinate in float64.
        return bool((self._mean == self._mean + 0.2 * deviations).any())


@dataclass(frozen=True, eq=False)
class Constants:
    """Strategy parameters: ``weights`` (P,) in the order of rank, learning rates and dampings."""

    weights: Array
    mu: int  # number of positive weights
    mu_eff: float  # variance-effective number of parents
    c_sigma: float  # 1 / memory of the path of sigma
    d_sigma: float  # damping of sigma
    c_c: float  # 1 / memory of the path of C
    c_1: float  # learning rate of the rank-one update
    c_mu: float  # learning rate of the rank-mu update
    chi: float  # E ||N(0, I)||
    eigen_gap: float  # generations between two eigendecompositions


def default_population(dim: int) -> int:
    """Return 4 + floor(3 ln d) (eq. 48).

    >>> default_population(512)
    22
    """
    return 4 + math.floor(3 * math.log(dim))


def constants(dim: int, population_size: int, active: bool) -> Constants:
    """Return the default parameters; ``active`` gives the worse half negative weights.

    >>> c = constants(512, 40, active=True)
    >>> c.mu, round(c.mu_eff, 2), f"{c.c_c:.2e} {c.c_1:.2e} {c.c_mu:.2e}"
    (20, 11.31, '7.79e-03 7.59e-06 7.30e-05')
    """
    raw = math.log((population_size + 1) / 2) - np.log(np.arange(1, population_size + 1))  # eq. 49
    positive = np.maximum(raw, 0)
    negative = np.minimum(raw, 0)
    mu_eff = float(positive.sum() ** 2 / (positive**2).sum())
    mu_eff_minus = float(negative.sum() ** 2 / (negative**2).sum())

    c_sigma = min(0.5, (mu_eff + 2) / (dim + mu_eff + 3))  # eq. 55; tutorial: + 5
    d_sigma = 1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (dim + 1)) - 1) + c_sigma  # eq. 55
    c_c = (4 + mu_eff / dim) / (dim + 4 + 2 * mu_eff / dim)  # eq. 56
    c_1 = min(1, population_size / 6) * 2 / ((dim + 1.3) ** 2 + mu_eff)  # eq. 57
    c_mu = min(1 - c_1, 2 * (0.25 + mu_eff - 2 + 1 / mu_eff) / ((dim + 2) ** 2 + mu_eff))  # eq. 58

    weights = positive / positive.sum()  # eq. 53
    if active:
        # Eqs. 50-53: no decay of C on average; not more than mu_eff-; C stays positive definite.
        total = min(
            1 + c_1 / c_mu,
            1 + 2 * mu_eff_minus / (mu_eff + 2),
            (1 - c_1 - c_mu) / (dim * c_mu),
        )
        weights = weights + total * negative / -negative.sum()
    return Constants(
        weights=weights,
        mu=int(np.count_nonzero(positive)),
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        d_sigma=d_sigma,
        c_c=c_c,
        c_1=c_1,
        c_mu=c_mu,
        chi=math.sqrt(2) * math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2)),
        eigen_gap=1 / (10 * dim * (c_1 + c_mu)),  # appendix B.2
    )


def margin(bound: float) -> float:
    """Return half the width of the quadratic zone: max(1, bound) / 20, at most ``bound``."""
    return min(bound, max(1.0, bound) / 20)


def into_box(points: Array, bound: float | None) -> Array:
    """Map ``points`` of any shape smoothly into [-bound, bound]; ``None``: no box, same array.

    As pycma's ``BoxConstraintsLinQuadTransformation``: the identity in the inner 95 %, a parabola
    with matching slope towards the wall, mirrored and periodic beyond. The strategy adapts in the
    unbounded space and hands out points of the box.

    >>> into_box(np.array([0.5, 4.75, 5.25, 9.0]), 5.0).tolist()
    [0.5, 4.75, 5.0, 1.5]
    """
    if bound is None:
        return points
    a = margin(bound)
    edge = bound + a
    # Mirror at +-edge: the saw-tooth of period 4 edge that is the identity in [-edge, edge].
    y = edge - np.abs(np.mod(points + edge, 4 * edge) - 2 * edge)
    # np.mod rounds; what needs no mirror must come through bit by bit.
    y = np.where(np.abs(points) <= edge, points, y)
    near = np.abs(y) > bound - a
    bent = np.sign(y) * (bound - (np.abs(y) - edge) ** 2 / (4 * a))
    return np.where(near, bent, y)


def out_of_box(points: Array, bound: float | None) -> Array:
    """Invert ``into_box`` for points inside the box; InputError for points outside it."""
    if bound is None:
        return points
    if np.abs(points).max(initial=0.0) > bound:
        raise InputError(
            f"the start reaches {np.abs(points).max():.6g}, outside the box of "
            f"+-{bound:g}; give a start inside it or a larger bound"
        )
    a = margin(bound)
    size = np.abs(points)
    bent = np.sign(points) * (bound + a - np.sqrt(4 * a * np.maximum(bound - size, 0.0)))
    return np.where(size > bound - a, bent, points)
