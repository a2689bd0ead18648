"""SharpZO with exact slopes: the published search, its differences taken by forward mode.

A tangent of the tower gives the derivative of the loss along a direction exactly, without a step
mu. Stage 1's eps* (arXiv 2506.20990 eq. 2) comes from the gradient's part in the span of a few
directions, of which one is the last estimate, instead of from 2d losses; stage 2's two-sided
differences (eq. 4) become slopes; the mask's scores (eq. 5) come from an estimate as in stage 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from sharpzo.optim.cma import CmaSettings
from sharpzo.optim.estimate import frame, read_slopes
from sharpzo.optim.mask import Score
from sharpzo.optim.sharp import Recorded, SharpCma, SharpnessSettings
from sharpzo.optim.sharpzo import SharpZo, SharpZoSettings, SwitchSettings
from sharpzo.optim.zo import SparseZo, ZoSettings
from sharpzo.rng import generator
from sharpzo.settings import Count, Fraction, NotNegative, Positive, Settings, Share
from sharpzo.types import Array, Linearise, Reason, State

# The last estimate is one of them.
Two = Annotated[int, Meta(ge=2, description="an integer of at least 2")]


@dataclass(frozen=True)
class FastSharpnessSettings(Settings):
    """How stage 1 looks for flat minima.

    ``rho`` radius of the shift eps* = rho g / ||g||, ``directions`` p >= 2 of an estimate of g (at
    p >= d it is exact), ``refresh_every`` generations between two of them, ``recorded`` as in
    `SharpnessSettings`.
    """

    rho: Positive = 0.1
    directions: Two = 16
    refresh_every: Count = 1
    recorded: Recorded = "samples"

    def published(self) -> SharpnessSettings:
        """The same as settings of the published stage."""
        return SharpnessSettings(
            rho=self.rho,
            directions=self.directions,
            refresh_every=self.refresh_every,
            recorded=self.recorded,
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
    directions: Two = 32
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


class SlopeCma(SharpCma):
    """Stage 1, its gradient from slopes: `Linearise` where `SharpCma` asks for probes."""

    def _probes(self) -> Linearise:
        count = min(self.settings.directions, self.dim)
        random = generator(self._seed, "sharpness", step=self.step)
        return Linearise(self.point, frame([self._gradient], count, self.dim, random))

    def _estimate(self, losses: Array) -> Array:
        asked = self._probes()
        loss, slopes = read_slopes(losses, asked.directions)
        self._cma.record(asked.point[None], np.array([loss]))
        return slopes @ asked.directions


class SlopeZo(SparseZo):
    """Stage 2 from slopes: `Linearise` along masked directions, or for the mask's scores.

    ``gradient`` (d,) is what an earlier stage knew of it.
    """

    def __init__(
        self,
        dim: int,
        settings: FastZoSettings,
        seed: int = 0,
        start: Array | None = None,
        *,
        gradient: Array | None = None,
        best: tuple[Array, float] | None = None,
    ) -> None:
        super().__init__(dim, settings.published(), seed, start, best=best)
        self._count = min(settings.directions, dim)
        self._gradient = np.zeros(dim) if gradient is None else gradient

    def ask(self) -> Linearise:
        """Return the frame of a mask refresh if one is due, else the q directions of a step."""
        if self._refresh_due():
            random = generator(self._seed, "mask", step=self._step)
            rows = frame([self._gradient], self._count, self.dim, random)
            return Linearise(self.point, rows)
        return Linearise(self.point, self._directions()[:, 0])

    def tell(self, losses: Array) -> None:
        """Refresh the mask or move w by the loss and slopes (1 + p,) of the last ``ask``.

        DIVERGED if the loss is not finite or w would leave the numbers.
        """
        asked = self.ask()
        loss, slopes = read_slopes(losses, asked.directions)
        if not np.isfinite(loss):
            self._stopped = Reason.DIVERGED
            return
        self._best.update(asked.point[None], np.array([loss]))
        if self._refresh_due():
            self._gradient = slopes @ asked.directions
            self._renew_mask(self._gradient)
            return
        self._move(slopes)
        self._choose_mask_for_free()

    def state(self) -> State:
        """Return copies of everything the next steps depend on; flat."""
        return super().state() | {"gradient": self._gradient.copy()}

    @classmethod
    def from_state(cls, settings: Any, state: State) -> SlopeZo:
        """Rebuild a search that goes on bit for bit as the one ``state`` was taken from."""
        search = super().from_state(settings, state)
        assert isinstance(search, SlopeZo)
        search._gradient = np.array(state["gradient"], dtype=np.float64)
        return search


class SharpZoFast(SharpZo):
    """SharpZO as a ``Search`` that asks for slopes where the published one asks for differences.

    >>> settings = SharpZoFastSettings(
    ...     switch=SwitchSettings(generation=30), zo=FastZoSettings(learning_rate=0.05)
    ... )
    >>> search = SharpZoFast(8, settings, seed=1)
    >>> for _ in range(400):
    ...     asked = search.ask()
    ...     if isinstance(asked, Linearise):
    ...         error = asked.point - 1
    ...         search.tell(np.array([error @ error, *(2 * asked.directions @ error)]))
    ...     else:
    ...         search.tell(np.sum((asked - 1) ** 2, axis=1))
    >>> search.stage, bool(np.abs(search.point - 1).max() < 0.1)
    ('sparse-zo', True)
    """

    def __init__(
        self,
        dim: int,
        settings: SharpZoFastSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        self._fast = settings or SharpZoFastSettings()
        super().__init__(dim, self._fast.published(), seed, start)

    def _stage_1(self, start: Array) -> SlopeCma:
        how = self.settings
        return SlopeCma(len(start), how.cma, how.sharpness, self._seed, start)

    def _stage_2(self, start: Array, first: SharpCma | None) -> SlopeZo:
        if first is None:
            return SlopeZo(len(start), self._fast.zo, self._seed, start)
        gradient, best = first.gradient, first.best
        return SlopeZo(len(start), self._fast.zo, self._seed, start, gradient=gradient, best=best)

    def _restored(self, stage: str, state: State) -> SharpCma | SparseZo:
        if stage == SlopeCma.stage:
            return SlopeCma.from_state(self.settings.cma, self.settings.sharpness, state)
        return SlopeZo.from_state(self._fast.zo, state)

    @classmethod
    def from_state(cls, settings: Any, state: State) -> SharpZoFast:
        """Rebuild a search that goes on bit for bit as the one ``state`` was taken from."""
        search = super().from_state(settings, state)
        assert isinstance(search, SharpZoFast)
        return search
