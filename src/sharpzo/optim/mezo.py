"""Zeroth-order gradient descent (MeZO, arXiv 2305.17333) and its kin from ZO-Bench (2402.11592).

Every variant starts from the same estimate, the mean over q random directions z ~ N(0, I) of p z
with p = [L(w + mu z) - L(w - mu z)] / (2 mu), and differs in the step it makes of it. Without mask
and momentum, ``SparseZo`` takes the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sharpzo.optim.checks import at_least, checked_losses, checked_vector
from sharpzo.optim.estimate import rge_candidates, slopes
from sharpzo.optim.record import Best, nest, part
from sharpzo.rng import generator
from sharpzo.settings import Count, Fraction, Positive, Settings
from sharpzo.types import Array, Reason, State

Variant = Literal["plain", "sign", "momentum", "conservative", "adam"]


@dataclass(frozen=True)
class MeZoSettings(Settings):
    """Settings of zeroth-order descent.

    ``variant``: ``plain`` w <- w - eta g (MeZO); ``sign`` takes sign(p) z for p z, as ZO-Bench's
    program does (not the sign of each coordinate); ``momentum`` V <- b V + g, w <- w - eta V;
    ``conservative`` tries w, w - eta g and w + eta g on the same photos and keeps the best (three
    more forwards); ``adam`` with bias correction, ``momentum`` and ``beta2`` its decays.
    ``learning_rate`` eta, ``mu`` the smoothing, ``queries`` q pairs per step.
    """

    variant: Variant = "plain"
    learning_rate: Positive = 1e-3
    mu: Positive = 1e-3
    queries: Count = 1
    momentum: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8


class MeZo:
    """Zeroth-order descent as a ``Search``.

    >>> search = MeZo(2, MeZoSettings(learning_rate=0.1), start=np.ones(2))
    >>> for _ in range(100):
    ...     search.tell(np.sum(search.ask() ** 2, axis=1))
    >>> bool(np.linalg.norm(search.point) < 0.1)
    True
    """

    stage = "zo-sgd"

    def __init__(
        self,
        dim: int,
        settings: MeZoSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        at_least("dim", dim, 1)
        self.settings = settings or MeZoSettings()
        self._seed = int(seed)
        self._point = np.zeros(dim) if start is None else checked_vector("start", start, dim)
        self._velocity = np.zeros(dim)  # V, or Adam's first moment
        self._squares = np.zeros(dim)  # Adam's second moment
        self._trial: Array | None = None  # conservative: the step that waits for its trial
        self._step = 0
        self._slope = 0.0
        self._stopped: Reason | None = None
        self._best = Best(dim)

    @property
    def dim(self) -> int:
        """Dimension d."""
        return len(self._point)

    @property
    def step(self) -> int:
        """Updates completed; estimate and trial of ``conservative`` are one."""
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
        """Mean absolute slope of the last estimate."""
        return {"slope": self._slope}

    def ask(self) -> Array:
        """Return the 2q mirrored candidates, or w and the two trials of ``conservative``."""
        if self._trial is not None:
            return self._point + np.stack([0 * self._trial, -self._trial, self._trial])
        return rge_candidates(self._point, self._directions(), self.settings.mu)

    def tell(self, losses: Array) -> None:
        """Take the losses of the last ``ask``; a pair with a non-finite loss moves nothing."""
        candidates = self.ask()
        losses = checked_losses(losses, len(candidates))
        if np.isinf(losses).all():
            self._stopped = Reason.DIVERGED
            return
        self._best.update(candidates, losses)
        if self._trial is not None:  # ties go to w itself
            self._point, self._trial = candidates[int(np.argmin(losses))], None
            self._step += 1
            return
        slope = slopes(losses, self.settings.mu)
        self._slope = float(np.abs(slope).mean())
        if self.settings.variant == "sign":
            slope = np.sign(slope)
        with np.errstate(over="ignore", invalid="ignore"):
            change = self._change(slope @ self._directions() / len(slope))
            moved = self._point - change
        if not np.isfinite(moved).all():
            self._stopped = Reason.DIVERGED
        elif self.settings.variant == "conservative":
            self._trial = change
        else:
            self._point = moved
            self._step += 1

    def observe(self, validation_accuracy: float) -> None:
        """Do nothing: the rate is constant."""

    def _change(self, gradient: Array) -> Array:
        """Return what the step subtracts from w, and remember what the variant remembers."""
        how = self.settings
        if how.variant == "momentum":
            self._velocity = how.momentum * self._velocity + gradient
            return how.learning_rate * self._velocity
        if how.variant == "adam":
            self._velocity = how.momentum * self._velocity + (1 - how.momentum) * gradient
            self._squares = how.beta2 * self._squares + (1 - how.beta2) * gradient**2
            first = self._velocity / (1 - how.momentum ** (self._step + 1))
            second = self._squares / (1 - how.beta2 ** (self._step + 1))
            return how.learning_rate * first / (np.sqrt(second) + how.epsilon)
        return how.learning_rate * gradient

    def _directions(self) -> Array:
        """Return z_j ~ N(0, I), (q, d), keyed by step and j."""
        draws = [
            generator(self._seed, "zo", step=self._step, direction=j)
            for j in range(self.settings.queries)
        ]
        return np.stack([draw.standard_normal(self.dim) for draw in draws])

    def state(self) -> State:
        """Return copies of everything the next steps depend on; flat."""
        state: State = {
            "seed": self._seed,
            "step": self._step,
            "slope": self._slope,
            "point": self._point.copy(),
            "velocity": self._velocity.copy(),
            "squares": self._squares.copy(),
            **nest("best", self._best.state()),
        }
        if self._trial is not None:
            state["trial"] = self._trial.copy()
        if self._stopped is not None:
            state["stopped"] = self._stopped.name
        return state

    @classmethod
    def from_state(cls, settings: MeZoSettings, state: State) -> MeZo:
        """Rebuild a search that goes on bit for bit as the one ``state`` was taken from."""
        search = cls(len(state["point"]), settings, int(state["seed"]), state["point"])
        search._step = int(state["step"])
        search._slope = float(state["slope"])
        search._velocity = np.array(state["velocity"], dtype=np.float64)
        search._squares = np.array(state["squares"], dtype=np.float64)
        search._trial = np.array(state["trial"]) if "trial" in state else None
        search._best.restore(part("best", state))
        search._stopped = Reason[state["stopped"]] if "stopped" in state else None
        return search
