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

from sharpzo.optim.checks import at_least, checked_losses, checked_vector
from sharpzo.optim.estimate import rge_candidates, slopes
from sharpzo.optim.record import Best, nest, part
from sharpzo.rng import generator
from sharpzo.settings import Count, Fraction, NotNegative, Positive, Settings
from sharpzo.types import Array, Reason, State


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


class Spsa:
    """SPSA over R^d as a ``Search``: every ``ask`` is one step of 2 ``directions`` candidates.

    >>> search = Spsa(2, SpsaSettings(a=0.1), seed=1, start=np.ones(2))
    >>> for _ in range(100):
    ...     search.tell(np.sum(search.ask() ** 2, axis=1))
    >>> bool(np.linalg.norm(search.point) < 0.1)
    True
    """

    stage = "spsa"

    def __init__(
        self,
        dim: int,
        settings: SpsaSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        at_least("dim", dim, 1)
        self.settings = settings or SpsaSettings()
        self._seed = int(seed)
        self._point = np.zeros(dim) if start is None else checked_vector("start", start, dim)
        self._velocity = np.zeros(dim)
        self._step = 0
        self._norm = 0.0
        self._stopped: Reason | None = None
        self._best = Best(dim)

    @property
    def dim(self) -> int:
        """Dimension d."""
        return len(self._point)

    @property
    def step(self) -> int:
        """Updates completed."""
        return self._step

    @property
    def point(self) -> Array:
        """Current w (d,)."""
        return self._point.copy()

    @property
    def best(self) -> tuple[Array, float]:
        """Candidate (d,) with the lowest loss so far, and that loss."""
        return self._best.point.copy(), self._best.loss

    @property
    def stopped(self) -> Reason | None:
        """DIVERGED once no loss of a step is a number, or w would leave the numbers."""
        return self._stopped

    @property
    def notes(self) -> Mapping[str, float]:
        """Length of the last estimate before clipping, and this step's gain and perturbation."""
        return {"gradient_norm": self._norm, "gain": self.gain, "perturbation": self.perturbation}

    @property
    def gain(self) -> float:
        """a_k of the step that is next."""
        return self.settings.a / (self._step + 1 + self.settings.o) ** self.settings.alpha

    @property
    def perturbation(self) -> float:
        """c_k of the step that is next."""
        return self.settings.c / (self._step + 1) ** self.settings.gamma

    def ask(self) -> Array:
        """Return w + c_k D_j, then w - c_k D_j; the same again until ``tell``."""
        return rge_candidates(self._point, self._directions(), self.perturbation)

    def tell(self, losses: Array) -> None:
        """Move by the losses of the last ``ask``; a pair with a non-finite loss moves nothing.

        g = mean_j [L(w + c D_j) - L(w - c D_j)] / (2 c) / D_j, divided by each coordinate of D_j,
        clipped; then m <- b m + g and w <- w - a_k (g + b m).
        """
        candidates = self.ask()
        losses = checked_losses(losses, len(candidates))
        if np.isinf(losses).all():
            self._stopped = Reason.DIVERGED
            return
        self._best.update(candidates, losses)
        beta = self.settings.momentum
        with np.errstate(over="ignore", invalid="ignore"):
            gradient, norm = self._estimate(losses)
            velocity = beta * self._velocity + gradient
            moved = self._point - self.gain * (gradient + beta * velocity)
        if not np.isfinite(moved).all():
            self._stopped = Reason.DIVERGED
            return
        self._point, self._velocity, self._norm = moved, velocity, norm
        self._step += 1

    def observe(self, validation_accuracy: float) -> None:
        """Do nothing: the gains are planned."""

    def _estimate(self, losses: Array) -> tuple[Array, float]:
        """Return the clipped gradient (d,) and its length before clipping."""
        slope = slopes(losses, self.perturbation)
        gradient = (slope[:, None] / self._directions()).mean(axis=0)
        norm, longest = float(np.linalg.norm(gradient)), math.sqrt(self.dim)
        if self.settings.clip and norm >= longest:
            gradient = gradient * (longest / norm)
        return gradient, norm

    def _directions(self) -> Array:
        """Return D_j (directions, d), segmented-uniform: sizes U(0.5, 1), signs by a coin."""
        rows = []
        for j in range(self.settings.directions):
            draw = generator(self._seed, "spsa", step=self._step, direction=j)
            size = draw.uniform(0.5, 1.0, self.dim)
            rows.append(np.where(draw.random(self.dim) < 0.5, -size, size))
        return np.stack(rows)

    def state(self) -> State:
        """Return copies of everything the next steps depend on; flat."""
        state: State = {
            "seed": self._seed,
            "step": self._step,
            "norm": self._norm,
            "point": self._point.copy(),
            "velocity": self._velocity.copy(),
            **nest("best", self._best.state()),
        }
        if self._stopped is not None:
            state["stopped"] = self._stopped.name
        return state

    @classmethod
    def from_state(cls, settings: SpsaSettings, state: State) -> Spsa:
        """Rebuild a search that goes on bit for bit as the one ``state`` was taken from."""
        search = cls(len(state["point"]), settings, int(state["seed"]), state["point"])
        search._step = int(state["step"])
        search._norm = float(state["norm"])
        search._velocity = np.array(state["velocity"], dtype=np.float64)
        search._best.restore(part("best", state))
        search._stopped = Reason[state["stopped"]] if "stopped" in state else None
        return search
