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

from sharpzo.optim.gradients import Differences, normal_directions
from sharpzo.optim.search import Search
from sharpzo.settings import Count, Fraction, Positive, Settings
from sharpzo.types import Array, LossesAt, LossObjective, Reason

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


class MeZo(Search[LossObjective]):
    """Zeroth-order descent as a ``Search``.

    >>> search = MeZo(2, MeZoSettings(learning_rate=0.1), start=np.ones(2))
    >>> for _ in range(100):
    ...     search.tell(np.sum(search.ask().points ** 2, axis=1))
    >>> bool(np.linalg.norm(search.point) < 0.1)
    True
    """

    stage = "zo-sgd"
    KEPT = ("_point", "_velocity", "_squares", "_trial", "_slope")

    def __init__(
        self,
        dim: int,
        settings: MeZoSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        super().__init__(dim, seed, start)
        self.settings = settings or MeZoSettings()
        self._velocity = np.zeros(dim)  # V, or Adam's first moment
        self._squares = np.zeros(dim)  # Adam's second moment
        self._trial: Array | None = None  # conservative: the step that waits for its trial
        self._slope = 0.0

    @property
    def notes(self) -> Mapping[str, float]:
        """Mean absolute slope of the last estimate."""
        return {"slope": self._slope}

    def ask(self) -> LossesAt:
        """Return the 2q mirrored candidates, or w and the two trials of ``conservative``."""
        if self._trial is not None:
            return LossesAt(self._trials(self._trial))
        return self._probe().request()

    def _trials(self, change: Array) -> Array:
        """Return w, w - change and w + change, (3, d)."""
        return self._point + np.stack([0 * change, -change, change])

    def learn(self, losses: Array, slopes: Array) -> None:
        """Take the step; a pair with a non-finite loss moves nothing."""
        if self._trial is not None:  # ties go to w itself
            self._point, self._trial = self._trials(self._trial)[int(np.argmin(losses))], None
            self.step += 1
            return
        probe = self._probe()
        slope = probe.slopes(losses)
        self._slope = float(np.abs(slope).mean())
        if self.settings.variant == "sign":
            slope = np.sign(slope)
        with np.errstate(over="ignore", invalid="ignore"):
            change = self._change(slope @ probe.directions / len(slope))
            moved = self._point - change
        if not np.isfinite(moved).all():
            self.stopped = Reason.DIVERGED
        elif self.settings.variant == "conservative":
            self._trial = change
        else:
            self._point = moved
            self.step += 1

    def _change(self, gradient: Array) -> Array:
        """Return what the step subtracts from w, and remember what the variant remembers."""
        how = self.settings
        if how.variant == "momentum":
            self._velocity = how.momentum * self._velocity + gradient
            return how.learning_rate * self._velocity
        if how.variant == "adam":
            self._velocity = how.momentum * self._velocity + (1 - how.momentum) * gradient
            self._squares = how.beta2 * self._squares + (1 - how.beta2) * gradient**2
            first = self._velocity / (1 - how.momentum ** (self.step + 1))
            second = self._squares / (1 - how.beta2 ** (self.step + 1))
            return how.learning_rate * first / (np.sqrt(second) + how.epsilon)
        return how.learning_rate * gradient

    def _probe(self) -> Differences:
        """The pairs of this step."""
        shape = self.settings.queries, self.dim
        return Differences(
            self._point, normal_directions(self.seed, "zo", self.step, shape), self.settings.mu
        )
