"""Simultaneous perturbation (SPSA) as ZIP and BlackVIP use it: the searches of black-box prompts.

ZIP (ICLR 2025, arXiv 2504.06838) clips the estimate at the root of the dimension; BlackVIP (CVPR
2023, arXiv 2303.14773) corrects it with momentum that looks ahead (SPSA-GC). Equations in the
form of the authors' programs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sharpzo.optim.gradients import Differences
from sharpzo.optim.search import Search
from sharpzo.rng import generator
from sharpzo.settings import Count, Fraction, NotNegative, Positive, Settings
from sharpzo.types import Array, LossesAt, LossObjective, Reason


@dataclass(frozen=True)
class SpsaSettings(Settings):
    """Settings of SPSA; the defaults are ZIP's.

    In step k = 1, 2, ... the gain is a_k = ``a`` / (k + ``o``)**``alpha`` and the perturbation
    c_k = ``c`` / k**``gamma``. ``directions`` pairs per step; ``clip``: no estimate is longer than
    sqrt(d); ``momentum`` b of SPSA-GC, 0 for none.
    """

    directions: Count = 5
    a: Positive = 0.01
    alpha: Fraction = 0.4
    o: NotNegative = 1.0
    c: Positive = 0.01
    gamma: Fraction = 0.1
    clip: bool = True
    momentum: Fraction = 0.0


class Spsa(Search[LossObjective]):
    """SPSA over R^d as a ``Search``: every ``ask`` is one step of 2 ``directions`` candidates.

    >>> search = Spsa(2, SpsaSettings(a=0.1), seed=1, start=np.ones(2))
    >>> for _ in range(100):
    ...     search.tell(np.sum(search.ask().points ** 2, axis=1))
    >>> bool(np.linalg.norm(search.point) < 0.1)
    True
    """

    stage = "spsa"
    KEPT = ("_point", "_velocity", "_norm")

    def __init__(
        self,
        dim: int,
        settings: SpsaSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        super().__init__(dim, seed, start)
        self.settings = settings or SpsaSettings()
        self._velocity = np.zeros(dim)
        self._norm = 0.0

    @property
    def notes(self) -> Mapping[str, float]:
        return {"gradient_norm": self._norm, "gain": self.gain, "perturbation": self.perturbation}

    @property
    def gain(self) -> float:
        """a_k of the step that is next."""
        return self.settings.a / (self.step + 1 + self.settings.o) ** self.settings.alpha

    @property
    def perturbation(self) -> float:
        """c_k of the step that is next."""
        return self.settings.c / (self.step + 1) ** self.settings.gamma

    def ask(self) -> LossesAt:
        return self._probe().request()

    def learn(self, losses: Array, slopes: Array) -> None:
        """Move; a pair with a non-finite loss moves nothing.

        g = mean_j [L(w + c D_j) - L(w - c D_j)] / (2 c) / D_j, divided by each coordinate of D_j,
        clipped; then m <- b m + g and w <- w - a_k (g + b m).
        """
        beta = self.settings.momentum
        probe, longest = self._probe(), math.sqrt(self.dim)
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = (probe.slopes(losses)[:, None] / probe.directions).mean(axis=0)
            norm = float(np.linalg.norm(gradient))
            if self.settings.clip and norm >= longest:
                gradient = gradient * (longest / norm)
            velocity = beta * self._velocity + gradient
            moved = self._point - self.gain * (gradient + beta * velocity)
        if not np.isfinite(moved).all():
            self.stopped = Reason.DIVERGED
            return
        self._point, self._velocity, self._norm = moved, velocity, norm
        self.step += 1

    def _probe(self) -> Differences:
        """D_j (directions, d), segmented-uniform: sizes U(0.5, 1), signs by a coin."""
        rows = []
        for j in range(self.settings.directions):
            draw = generator(self.seed, "spsa", step=self.step, direction=j)
            size = draw.uniform(0.5, 1.0, self.dim)
            rows.append(np.where(draw.random(self.dim) < 0.5, -size, size))
        return Differences(self._point, np.stack(rows), self.perturbation)
