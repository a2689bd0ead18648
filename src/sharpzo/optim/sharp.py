"""Stage 1 of SharpZO: CMA-ES whose populations are moved to the worst point nearby.

SharpZO (arXiv 2506.20990) eqs. 1 to 3. The gradient behind the move is estimated from losses,
coordinate by coordinate as published (2d forwards), from a few random directions, from exact slopes
along a few directions of which one is the last estimate, or from the losses of the population
before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sharpzo.errors import InputError
from sharpzo.optim.cma import Cma, CmaSettings
from sharpzo.optim.evolution import Centre
from sharpzo.optim.gradients import (
    Derivatives,
    Differences,
    Probe,
    frame,
    normal_directions,
    sample_gradient,
)
from sharpzo.optim.large_scale import SepCma
from sharpzo.optim.search import Search
from sharpzo.rng import generator
from sharpzo.settings import Count, Length, Positive, Settings
from sharpzo.types import NOTHING, Array, Request, SlopeObjective

Estimator = Literal["cge", "rge", "jvp", "samples", "none"]
Average = Literal["mean", "population"]
Recorded = Literal["samples", "shifted"]


@dataclass(frozen=True)
class SharpnessSettings(Settings):
    """How stage 1 looks for flat minima.

    ``rho`` radius of the shift eps* = rho g / ||g|| (eq. 2); ``estimator`` of g: ``cge`` (2d
    forwards, eq. 1), ``rge`` (2 ``directions`` forwards, eq. 4), ``jvp`` (its part in the span of
    ``directions`` >= 2, from exact slopes), ``samples`` (read off the losses of the last
    population, no forwards) or ``none`` (plain CMA-ES); ``mu`` the step of differences;
    ``refresh_every`` generations between two estimates, the shift stands in between.
    ``recorded``: what CMA-ES learns from, the ``samples`` without their shift (the losses alone are
    those of shifted points) or the ``shifted`` points (eq. 3 to the letter; theta drifts along).
    ``normalise`` and ``centre`` ``population`` follow the authors' program: radius rho / sqrt(P);
    g, and what validation looks at, at the mean of P fresh draws instead of theta, which at
    generation 0 are uniform in [0, 1). ``centre`` ``best`` is the candidate of lowest loss.
    """

    rho: Length = 0.1
    estimator: Estimator = "rge"
    mu: Positive = 1e-3
    refresh_every: Count = 10
    directions: Count = 20
    normalise: Average = "mean"
    centre: Centre = "mean"
    recorded: Recorded = "samples"

    def check(self) -> None:
        # The direction of a single exact slope would be the last estimate.
        if self.estimator == "jvp" and self.directions < 2:
            raise InputError(f"directions is {self.directions}; estimator 'jvp' needs 2 or more")


class SharpCma(Search[SlopeObjective]):
    """Sharpness-aware CMA-ES as a ``Search``; with ``estimator="none"`` plain CMA-ES.

    A generation is one tell (population) or two (probes for the gradient, then population).

    >>> search = SharpCma(4, sharpness=SharpnessSettings(estimator="cge", refresh_every=2))
    >>> sizes = []
    >>> for _ in range(5):
    ...     candidates = search.ask().points
    ...     sizes.append(len(candidates))
    ...     search.tell(np.sum((candidates - 1) ** 2, axis=1))
    >>> sizes, search.step
    ([8, 8, 8, 8, 8], 3)
    """

    stage = "sharp-cma"
    KEPT = ("cma", "_gradient", "_estimated")

    def __init__(
        self,
        dim: int,
        cma: CmaSettings | None = None,
        sharpness: SharpnessSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        super().__init__(dim, seed, start)
        self.settings = sharpness or SharpnessSettings()
        cma = cma or CmaSettings()
        strategy = SepCma if cma.diagonal else Cma
        self.cma = strategy(dim, cma, seed, start, self.settings.centre)
        self._gradient = np.zeros(dim)
        self._estimated = -1  # generation of the last estimate

    @property
    def point(self) -> Array:
        return self.cma.point

    @property
    def best(self) -> tuple[Array, float]:
        return self.cma.best

    @property
    def gradient(self) -> Array:
        """The last gradient estimate (d,), zeros before any."""
        return self._gradient.copy()

    @property
    def notes(self) -> Mapping[str, float]:
        return {
            **self.cma.notes,
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
            radius /= math.sqrt(self.cma.population_size)
        return radius * (self._gradient / norm)

    def ask(self) -> Request[SlopeObjective]:
        return self._probe().request() if self._estimate_due() else self.cma.ask()

    def tell(self, values: Array, derivatives: Array = NOTHING) -> None:
        if self._estimate_due():
            super().tell(values, derivatives)
            return
        by_samples = self.settings.estimator == "samples"
        samples = self.cma.ask().points if by_samples else NOTHING
        self.cma.tell(values)
        self.step, self.stopped = self.cma.step, self.cma.stopped
        if by_samples and self.step % self.settings.refresh_every == 0:
            self._shift_by(sample_gradient(samples, np.asarray(values, dtype=np.float64)))

    def record(self, points: Array, losses: Array) -> None:
        self.cma.record(points, losses)

    def learn(self, losses: Array, slopes: Array) -> None:
        """Estimate the gradient from the probes, and shift the coming populations."""
        probe = self._probe()
        gradient = probe.slopes(losses, slopes)
        if self.settings.estimator == "rge":
            gradient = gradient @ probe.directions / len(probe.directions)
        elif self.settings.estimator == "jvp":
            gradient = gradient @ probe.directions
        self._estimated = self.step
        self._shift_by(gradient)

    def _shift_by(self, gradient: Array) -> None:
        self._gradient = gradient
        self.cma.shift_by(self.shift(), recorded=self.settings.recorded == "shifted")

    def _estimate_due(self) -> bool:
        return (
            self.settings.estimator in ("cge", "rge", "jvp")
            and self.step % self.settings.refresh_every == 0
            and self._estimated != self.step
        )

    def _probe(self) -> Probe:
        """The slopes that an estimate of the gradient needs."""
        how = self.settings
        if how.estimator == "cge":
            return Differences(self.point, np.eye(self.dim), how.mu)
        if how.estimator == "rge":
            shape = how.directions, self.dim
            directions = normal_directions(self.seed, "sharpness", self.step, shape)
            return Differences(self.point, directions, how.mu)
        random = generator(self.seed, "sharpness", step=self.step)
        count = min(how.directions, self.dim)
        return Derivatives(self.point, frame([self._gradient], count, self.dim, random))
