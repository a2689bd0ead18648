"""SharpZO with exact slopes: the published search, its differences taken by forward mode.

A tangent of the tower gives the derivative of the loss along a direction exactly, without a step
mu. Stage 1's eps* (arXiv 2506.20990 eq. 2) comes from the gradient's part in the span of a few
directions, of which one is the last estimate, instead of from 2d losses; stage 2's two-sided
differences (eq. 4) become slopes; the mask's scores (eq. 5) come from an estimate as in stage 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from sharpzo.optim.cma import CmaSettings
from sharpzo.optim.mask import Score
from sharpzo.optim.sharp import Recorded, SharpnessSettings
from sharpzo.optim.sharpzo import SharpZoSettings, SwitchSettings
from sharpzo.optim.zo import ZoSettings
from sharpzo.settings import AtLeastTwo, Count, Fraction, NotNegative, Positive, Settings, Share


@dataclass(frozen=True)
class FastSharpnessSettings(Settings):
    """How stage 1 looks for flat minima.

    ``rho`` radius of the shift eps* = rho g / ||g||, ``directions`` p >= 2 of an estimate of g (at
    p >= d it is exact), ``refresh_every`` generations between two of them, ``recorded`` as in
    `SharpnessSettings`.
    """

    rho: Positive = 0.1
    directions: AtLeastTwo = 16
    refresh_every: Count = 1
    recorded: Recorded = "samples"

    def published(self) -> SharpnessSettings:
        """The same as settings of the published stage."""
        return SharpnessSettings(
            rho=self.rho,
            directions=self.directions,
            refresh_every=self.refresh_every,
            recorded=self.recorded,
            estimator="jvp",
        )


@dataclass(frozen=True)
class FastZoSettings(Settings):
    """The descent of stage 2.

    ``learning_rate`` eta, ``queries`` q directions per step, ``keep`` the share of coordinates
    moved, chosen by ``score`` (``mask.scores``) every ``refresh`` steps, where it needs a gradient
    by one estimated along ``directions`` p >= 2. ``momentum`` b: V <- b V + g, w <- w - eta V.
    """

    learning_rate: Positive = 1e-3
    queries: Count = 1
    keep: Share = 0.5
    score: Score = "z"
    refresh: Count = 200
    directions: AtLeastTwo = 32
    momentum: Fraction = 0.0

    def check(self) -> None:
        """Raise InputError for a score of the published stage that has no place here."""
        self.published()

    def published(self) -> ZoSettings:
        """The same as settings of the published stage."""
        return ZoSettings(
            learning_rate=self.learning_rate,
            queries=self.queries,
            keep=self.keep,
            score=self.score,
            refresh=self.refresh,
            momentum=self.momentum,
            exact=True,
            directions=self.directions,
        )


@dataclass(frozen=True)
class SharpZoFastSettings(Settings):
    """Settings of SharpZO with exact slopes, nested by stage as those of `SharpZoSettings`."""

    cma: CmaSettings = CmaSettings(population_size=40, sigma=0.4, laziness=10.0)
    sharpness: FastSharpnessSettings = FastSharpnessSettings()
    switch: SwitchSettings = SwitchSettings()
    zo: FastZoSettings = FastZoSettings()
    start_std: NotNegative = 0.0

    def published(self) -> SharpZoSettings:
        """The same as settings of the published search."""
        return SharpZoSettings(
            self.cma,
            self.sharpness.published(),
            self.switch,
            self.zo.published(),
            start_std=self.start_std,
        )
