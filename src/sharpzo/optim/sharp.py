"""Stage 1 of SharpZO: CMA-ES whose populations are moved to the worst point nearby.

SharpZO (arXiv 2506.20990) eqs. 1 to 3. The gradient behind the move is estimated from losses,
coordinate by coordinate as published (2d forwards), from a few random directions, or from the
losses of the population before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sharpzo.optim.checks import checked_losses
from sharpzo.optim.cma import Cma, CmaSettings
from sharpzo.optim.estimate import (
    cge_candidates,
    cge_gradient,
    rge_candidates,
    rge_gradient,
    sample_gradient,
)
from sharpzo.optim.record import nest, part
from sharpzo.optim.sep_cma import SepCma
from sharpzo.rng import generator
from sharpzo.settings import Count, Positive, Settings
from sharpzo.types import Array, Reason, State

Estimator = Literal["cge", "rge", "samples", "none"]
Average = Literal["mean", "population"]
Centre = Literal["mean", "population", "best"]
Recorded = Literal["samples", "shifted"]


@dataclass(frozen=True)
class SharpnessSettings(Settings):
    """How stage 1 looks for flat minima.

    ``rho`` radius of the shift eps* = rho g / ||g|| (eq. 2); ``estimator`` of g: ``cge`` (2d
    forwards, eq. 1), ``rge`` (2 ``directions`` forwards, eq. 4), ``samples`` (read off the losses
    of the last population, no forwards) or ``none`` (plain CMA-ES); ``mu`` its step;
    ``refresh_every`` generations between two estimates, the shift stands in between.
    ``recorded``: what CMA-ES is told, the ``samples`` without their shift (the losses alone are
    those of shifted points) or the ``shifted`` points (eq. 3 to the letter; theta drifts along).
    ``normalise`` and ``centre`` ``population`` follow the authors' program: radius rho / sqrt(P);
    g, and what validation looks at, at the mean of P fresh draws instead of theta, which at
    generation 0 are uniform in [0, 1). ``centre`` ``best`` is the candidate of lowest loss.
    """

    rho: Positive = 0.1
    estimator: Estimator = "rge"
    mu: Positive = 1e-3
    refresh_every: Count = 10
    directions: Count = 20
    normalise: Average = "mean"
    centre: Centre = "mean"
    recorded: Recorded = "samples"


class SharpCma:
    """Sharpness-aware CMA-ES as a ``Search``; with ``estimator="none"`` plain CMA-ES.

    A generation is one tell (population) or two (probes for the gradient, then population).

    >>> search = SharpCma(4, sharpness=SharpnessSettings(estimator="cge", refresh_every=2))
    >>> sizes = []
    >>> for _ in range(5):
    ...     candidates = search.ask()
    ...     sizes.append(len(candidates))
    ...     search.tell(np.sum((candidates - 1) ** 2, axis=1))
    >>> sizes, search.step
    ([8, 8, 8, 8, 8], 3)
    """

    stage = "sharp-cma"

    def __init__(
        self,
        dim: int,
        cma: CmaSettings | None = None,
        sharpness: SharpnessSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        self.settings = sharpness or SharpnessSettings()
        cma = cma or CmaSettings()
        self._cma = (SepCma if cma.diagonal else Cma)(dim, cma, seed, start)
        self._seed = int(seed)
        self._gradient = np.zeros(dim)
        self._estimated = -1  # generation of the last estimate
        self._stopped: Reason | None = None

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self._cma.dim

    @property
    def step(self) -> int:
        """Generations completed."""
        return self._cma.step

    @property
    def point(self) -> Array:
        """Theta (d,), the mean of the fresh draws or the best candidate, as ``centre`` says."""
        if self.settings.centre == "population":
            return self.population_mean()
        point, loss = self.best
        return point if self.settings.centre == "best" and np.isfinite(loss) else self.mean

    @property
    def mean(self) -> Array:
        """Theta, the mean of the sampling distribution (d,)."""
        return self._cma.point

    @property
    def best(self) -> tuple[Array, float]:
        """Candidate (d,) with the lowest loss so far, probes included, and that loss."""
        return self._cma.best

    @property
    def gradient(self) -> Array:
        """The last gradient estimate (d,), zeros before any."""
        return self._gradient.copy()

    @property
    def stopped(self) -> Reason | None:
        """Why no further generation is worth asking for."""
        return self._stopped or self._cma.stopped

    @property
    def notes(self) -> Mapping[str, float]:
        """CMA-ES's numbers, the norm of the last gradient and the radius of the shift."""
        return {
            **self._cma.notes,
            "gradient_norm": float(np.linalg.norm(self._gradient)),
            "shift": float(np.linalg.norm(self.shift())),
        }

    def shift(self) -> Array:
        """Return eps* (d,) of eq. 2; zeros where the gradient is zero."""
        norm = float(np.linalg.norm(self._gradient))
        if norm == 0:
            return np.zeros(self.dim)
        radius = self.settings.rho
        if self.settings.normalise == "population":
            # The program divides P equal rows by their Frobenius norm, sqrt(P) ||g||.
            radius /= math.sqrt(self._cma.population_size)
        return radius * (self._gradient / norm)

    def population_mean(self) -> Array:
        """Return the mean of P fresh draws (d,), the authors' current point.

        Of U[0, 1) before the first generation, where the program holds noise of that law.
        """
        if self.step == 0:
            rng = generator(self._seed, "first population")
            return rng.random((self._cma.population_size, self.dim)).mean(axis=0)
        return self._cma.draws(direction=1).mean(axis=0)

    def ask(self) -> Any:
        """Return the probes (2d or 2 directions, d) if an estimate is due, else the population."""
        return self._probes() if self._estimate_due() else self._cma.ask()

    def tell(self, losses: Array) -> None:
        """Take the losses of the last ``ask``; DIVERGED if none is finite."""
        if not self._estimate_due():
            self._tell_population(losses)
            return
        gradient = self._estimate(losses)
        if gradient is None:
            self._stopped = Reason.DIVERGED
            return
        self._gradient = gradient
        self._estimated = self.step
        self._cma.shift_by(self.shift(), recorded=self.settings.recorded == "shifted")

    def _tell_population(self, losses: Array) -> None:
        """Update CMA-ES, and the shift of the next population where these losses suggest it."""
        asked = self._cma.ask() if self.settings.estimator == "samples" else None
        self._cma.tell(losses)
        if asked is not None and self.step % self.settings.refresh_every == 0:
            self._gradient = sample_gradient(asked, np.asarray(losses, dtype=np.float64))
            self._cma.shift_by(self.shift(), recorded=self.settings.recorded == "shifted")

    def observe(self, validation_accuracy: float) -> None:
        """Do nothing: the switch listens in ``SharpZo``."""

    def _estimate_due(self) -> bool:
        return (
            self.settings.estimator in ("cge", "rge")
            and self.step % self.settings.refresh_every == 0
            and self._estimated != self.step
        )

    def _probes(self) -> Any:
        """Return what must be known for an estimate of the gradient."""
        if self.settings.estimator == "cge":
            return cge_candidates(self.point, self.settings.mu)
        return rge_candidates(self.point, self._directions(), self.settings.mu)

    def _estimate(self, losses: Array) -> Array | None:
        """Return the gradient (d,) by the losses of the probes, None where none is finite."""
        candidates = self._probes()
        losses = checked_losses(losses, len(candidates))
        if np.isinf(losses).all():
            return None
        self._cma.record(candidates, losses)
        if self.settings.estimator == "cge":
            return cge_gradient(losses, self.settings.mu)
        return rge_gradient(losses, self._directions(), self.settings.mu)

    def _directions(self) -> Array:
        """Return u_j ~ N(0, I), (directions, d), keyed by generation and j."""
        draws = [
            generator(self._seed, "sharpness", step=self.step, direction=j)
            for j in range(self.settings.directions)
        ]
        return np.stack([draw.standard_normal(self.dim) for draw in draws])

    def state(self) -> State:
        """Return copies of everything the next steps depend on; flat."""
        state: State = {
            "seed": self._seed,
            "gradient": self._gradient.copy(),
            "estimated": self._estimated,
            **nest("cma", self._cma.state()),
        }
        if self._stopped is not None:
            state["stopped"] = self._stopped.name
        return state

    @classmethod
    def from_state(cls, cma: CmaSettings, sharpness: SharpnessSettings, state: State) -> SharpCma:
        """Rebuild a search that goes on bit for bit as the one ``state`` was taken from."""
        search = cls(len(state["gradient"]), cma, sharpness, seed=int(state["seed"]))
        search._cma = (SepCma if cma.diagonal else Cma).from_state(cma, part("cma", state))
        search._gradient = np.array(state["gradient"], dtype=np.float64)
        search._estimated = int(state["estimated"])
        search._stopped = Reason[state["stopped"]] if "stopped" in state else None
        return search
